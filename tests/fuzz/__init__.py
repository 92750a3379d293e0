"""What hostile bytes are thrown at, for test_hostile.py and its long form, `python -m tests.fuzz`.

A target damages a valid file (`make`) and reads it (`judge`). Reading gives what is right, or a ValueError of one line that
names the file; anything else is a `Fault`. Cases follow from a random generator alone, so a seed repeats them.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from . import lists, recipes, runs, scores, sources, stored, texts
from .cases import Case, Fault, Target, damage

TARGETS: dict[str, Target] = {
    **{f"{format}.jsonl": sources.source(format, "jsonl") for format in sources.ROWS},
    "redpajama.zst": sources.source("redpajama", "jsonl.zst"),
    "dolma.gz": sources.source("dolma", "jsonl.gz"),
    **{f"{format}.parquet": sources.source(format, "parquet") for format in sources.TABLES},
    **{f"{format}.arrow": sources.source(format, "arrow") for format in sources.TABLES},
    "bomb": Target(sources.make_bomb, sources.read_bomb),
    "url-list": Target(sources.make_urls, sources.list_urls),
    "scan": Target(texts.make_text, texts.scan),
    "encode": Target(texts.make_text, texts.encode),
    "recipe": Target(recipes.make_recipe, recipes.load),
    "overrides": Target(recipes.make_overrides, recipes.load_overrides),
    "phase-set": Target(stored.make_set, stored.read_set),
    "token-shard": Target(lambda rng: Case("00000.arrow", damage(stored.token_shard(), rng)), stored.read_tokens),
    "exclude-list": Target(lists.make_exclude, lists.read_exclude),
    "block-list": Target(lists.make_rules, lists.block),
    "benchmark": Target(lists.make_items, lists.read_items),
    "tokenizer": Target(lists.make_model, lists.use_model),
    "classifier": Target(scores.make_classifier, scores.classify),
    "scores": Target(scores.make_scores, scores.read_scores),
    "time": Target(texts.make_pattern, texts.take_time),
    "run": Target(runs.make_run, runs.look),
    "change": Target(runs.make_change, runs.go_on),
    "checkpoint": Target(stored.make_checkpoint, stored.read_checkpoint),
}


def run_case(name: str, case: Case, folder: Path) -> str:
    """Judge a case in a folder that is emptied afterwards. Raises `Fault` for all that is not allowed."""
    inside = folder / "case"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    try:
        return TARGETS[name].judge(case, inside)
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"{type(error).__name__} escapes: {str(error)[:300]}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(inside)

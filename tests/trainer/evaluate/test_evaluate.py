"""Scores: equal to those that lm-eval gets from the exported model in `transformers`, on items in the published formats."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fox1.commands.app import app
from fox1.storage.wording import printable
from fox1.trainer.checkpoints.checkpoint import TrainingProgress, write_whole
from fox1.trainer.checkpoints.export import FACTS, TOKENIZER, export
from fox1.trainer.evaluate import benchmark_data
from fox1.trainer.evaluate.evaluate import BENCHMARKS, choose, evaluate, measure_generation
from fox1.trainer.evaluate.generate import Cache, Sampling, next_logits, score
from fox1.trainer.evaluate.text_model import open_model
from fox1.trainer.model.model import Fox1
from fox1.trainer.settings import ModelSettings
from typer.testing import CliRunner

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

SHAPE = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=2048)
WORDS = "river stone lamp orange bridge copper garden violin harbour winter kettle meadow".split()


@pytest.fixture(scope="module")
def checkpoint(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the run's tokenizer."""
    import shutil
    from dataclasses import asdict

    from fox1.tokenize.model import load, specials

    out = tmp_path_factory.mktemp("model") / "ckpt"
    out.mkdir()
    model = Fox1(SHAPE, 1024)
    model.initialise(3)
    write_whole(out, model, TrainingProgress(), {"model": asdict(SHAPE)}, 1024)
    shutil.copyfile(run / "prepare" / "tokenizer.model", out / TOKENIZER)
    ids = specials(load(out / TOKENIZER))
    (out / FACTS).write_text(json.dumps({"pad": ids.pad, "eos": ids.eos, "bos": ids.bos, "chat": []}))
    return out


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items of all six benchmarks, as their authors publish them."""
    root = tmp_path_factory.mktemp("items")

    def arc(n: int) -> dict[str, Any]:
        choices = [
            {"text": f"the {WORDS[(n + k) % 12]} of {WORDS[(n + 3 * k) % 12]}", "label": "ABCD"[k]} for k in range(4)
        ]
        return {
            "id": str(n),
            "question": {"stem": f"Which {WORDS[n % 12]}?", "choices": choices},
            "answerKey": "ABCD"[n % 4],
        }

    lines(root / "arc" / "ARC-Challenge-Test.jsonl", [arc(n) for n in range(7)])
    lines(root / "arc" / "ARC-Challenge-Dev.jsonl", [arc(n) for n in range(20, 50)])
    lines(root / "gsm8k" / "test.jsonl",
          [{"question": f"{n} and {n + 1}?", "answer": f"They are {2 * n + 1}. #### {2 * n + 1}"} for n in range(8)])  # fmt: skip
    lines(root / "hellaswag" / "hellaswag_val.jsonl",
          [{"ctx": f"Title {n}: A {WORDS[n % 12]} stands. the {WORDS[n % 5]}", "label": n % 4,
            "endings": [f"falls [step] on {w}." for w in WORDS[n % 8 : n % 8 + 4]]} for n in range(14)])  # fmt: skip
    for subject in ("anatomy", "virology"):
        for split, count in (("dev", 5), ("test", 6)):
            rows: list[list[Any]] = [
                [f"Q {w}?", "one", "two", "three", "four", "ABCD"[k % 4]] for k, w in enumerate(WORDS[:count])
            ]
            table(root / "mmlu" / split / f"{subject}_{split}.csv", rows)
    table(root / "truthfulqa" / "TruthfulQA.csv",
          [["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"],
           *(["A", "B", f"What of {w}?", "It is.", f"It is.; The {w} is", f"It is not; No {w}", ""] for w in WORDS)])  # fmt: skip
    lines(root / "winogrande" / "dev.jsonl",
          [{"sentence": f"The {a} broke the {b} because _ was old.", "option1": a, "option2": b, "answer": "12"[n % 2]}
           for n, (a, b) in enumerate(pairwise(WORDS))])  # fmt: skip
    return root


def test_continuations_score_as_one_text_after_the_other(checkpoint: Path) -> None:
    """In one pass beside each other, and with what two contexts share kept: as each alone from the start."""
    model = open_model(checkpoint).model
    generator = torch.Generator().manual_seed(2)
    prefix, tails = torch.randint(0, 1024, (40,), generator=generator).tolist(), [[5, 6], [7, 8, 9]]
    cache, held = Cache(model, 200), 0
    for tail in tails:
        context = prefix + tail
        continuations = [torch.randint(0, 1024, (n,), generator=generator).tolist() for n in (1, 5, 2, 9)]
        cache.length = held
        found = score(model, torch.tensor(context[held:]), continuations, cache)
        held = len(prefix)
        for (value, greedy), continuation in zip(found, continuations, strict=True):
            alone, at = 0.0, Cache(model, 200)
            logits, likeliest = next_logits(model, torch.tensor(context), at), True
            for token in continuation:
                alone += float(logits.log_softmax(-1)[token])
                likeliest &= int(logits.argmax()) == token
                logits = next_logits(model, torch.tensor([token]), at)
            assert value == pytest.approx(alone, rel=1e-5) and greedy == likeliest


def test_scores_equal_those_of_transformers(checkpoint: Path, items: Path, tmp_path: Path) -> None:
    from fox1.trainer.evaluate.harness import HarnessModel
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    export(checkpoint, tmp_path / "hf", "fp32")
    theirs = HFLM(pretrained=str(tmp_path / "hf"), dtype="float32", device="cpu", batch_size=1, add_bos_token=True)
    ours = HarnessModel(open_model(checkpoint))
    pairs = [
        ("The river ran", " under the bridge"),
        ("The river ran", " home"),
        ("Question: why?\nAnswer: ", "C"),
        ("", "whole text"),
    ]
    pairs += [("long " * 3000, " enough")]
    asked = [Instance("loglikelihood", {}, pair, k) for k, pair in enumerate(pairs)]
    for (a, b), (c, d) in zip(ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True), strict=True):
        assert a == pytest.approx(c, rel=1e-4, abs=1e-3) and b == d
    options = {"until": ["\n\n", "?"], "max_gen_toks": 24, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, options), k) for k, text in enumerate(("The", "A lamp and 12"))]
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)
    # Their tokenizer puts bos before the text, whose first token they then predict as well.
    text = [Instance("loglikelihood_rolling", {}, ("river stone " * 800,), 0)]
    assert ours.loglikelihood_rolling(text)[0] == pytest.approx(
        theirs.loglikelihood_rolling(text, disable_tqdm=True)[0], rel=1e-3
    )


def test_a_context_keeps_as_many_tokens_as_lm_eval_keeps(checkpoint: Path, tmp_path: Path) -> None:
    """Just below, at and above the positions of the model, whose reading ends before the last token."""
    from fox1.trainer.evaluate.harness import HarnessModel, windows
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    export(checkpoint, tmp_path / "hf", "fp32")
    room = SHAPE.max_positions
    theirs = HFLM(pretrained=str(tmp_path / "hf"), dtype="float32", device="cpu", batch_size=1, max_length=room)
    ours = HarnessModel(open_model(checkpoint))
    words = torch.randint(5, 1024, (room + 40,), generator=torch.Generator().manual_seed(7)).tolist()
    for total, last in ((room - 1, 3), (room, 3), (room + 1, 3), (room + 2, 3), (room + 30, 1), (room + 5, room)):
        request = [(("a", "b"), words[: total - last], words[total - last : total])]
        expected = theirs._loglikelihood_tokens(request, disable_tqdm=True)
        (found,) = ours._loglikelihood_tokens(request)
        assert found[0] == pytest.approx(expected[0][0], rel=1e-4) and found[1] == bool(expected[0][1]), total
    rolling = map(make_disjoint_window, get_rolling_token_windows(words[:room] + words, 2, room, 1))
    assert list(windows([2], words[:room] + words, room)) == list(rolling)
    # A continuation that no reading holds is scored in parts, every token once; lm-eval's own model refuses it.
    long = words[:room] * 2 + words[:9]
    parts = list(windows([3, 4], long, room))
    assert [t for _, part in parts for t in part] == long
    assert all(len(context) >= 1 and len(context) + len(part) <= room + 1 for context, part in parts)
    ((value, greedy),) = ours._loglikelihood_tokens([(("", ""), [3, 4], long)])
    each = ours._loglikelihood_tokens([(("", ""), context, part) for context, part in parts])
    assert value == pytest.approx(sum(v for v, _ in each), rel=1e-6) and greedy == all(g for _, g in each)
    # More may be asked for than the model has positions.
    asked = [Instance("generate_until", {}, ("The river " * 40, {"until": ["zz"], "max_gen_toks": 10 * room}), 0)]
    assert isinstance(ours.generate_until(asked)[0], str)


def test_generate_shows_the_prompt_and_what_follows_it(checkpoint: Path) -> None:
    done = CliRunner().invoke(app, ["generate", str(checkpoint), "The river\x1b", "--tokens", "4"])
    model = open_model(checkpoint)
    follows = "".join(model.complete("The river\x1b", 4, Sampling()))
    assert done.exit_code == 0 and done.stdout == printable("The river\x1b" + follows, "\n\t") + "\n"


def test_many_long_continuations_of_one_context_find_room(checkpoint: Path) -> None:
    from fox1.trainer.evaluate.harness import HarnessModel

    ours = HarnessModel(open_model(checkpoint))
    many = [[5 + n, *range(6, 16)] for n in range(90)]
    together = ours._loglikelihood_tokens([(("", ""), [2, 3], more) for more in many])
    alone = ours._loglikelihood_tokens([(("", ""), [2, 3], many[70])])
    assert together[70][0] == pytest.approx(alone[0][0], rel=1e-4)


def test_all_six_run_from_local_files_with_the_published_shots(checkpoint: Path, items: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    # A process of its own: the command turns progress bars off before the harness is imported, which it is here.
    command = [sys.executable, "-m", "fox1", "eval", str(checkpoint), "--data", str(items), "--out", str(out)]
    # Nor in a repository: lm-eval would ask git for its state.
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "git" not in done.stderr + done.stdout
    values = json.loads(out.read_text())
    assert [(s["benchmark"], s["shots"], s["items"]) for s in values["scores"]] == [
        ("arc", 25, 7), ("hellaswag", 10, 14), ("truthfulqa", 0, 12), ("mmlu", 5, 12), ("winogrande", 5, 11), ("gsm8k", 5, 8)
    ]  # fmt: skip
    assert [s["published"] for s in values["scores"]] == [41.21, 62.82, 38.66, 43.05, 60.62, 36.39]
    assert all(0 <= s["per_cent"] <= 100 for s in values["scores"])
    generation = values["generation"]
    weights = sum(p.numel() for p in open_model(checkpoint).model.parameters()) * 4 / 2**20
    assert weights < generation["memory_mib"] < weights + 1 and generation["tokens_per_second"] > 1
    assert "3,703" in done.stdout and "it/s" not in done.stderr


def test_the_score_is_the_share_of_right_answers(
    checkpoint: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fox1.trainer.evaluate import harness

    def likes_the_first(
        model: Any, context: Any, continuations: list[list[int]], cache: Any
    ) -> list[tuple[float, bool]]:
        return [(-float(k), k == 0) for k in range(len(continuations))]

    # The first of a context's continuations always wins, which is right for one item in four, or two.
    monkeypatch.setattr(harness, "score", likes_the_first)
    model = open_model(checkpoint)
    (mmlu,) = evaluate(model, choose("mmlu"), items)
    assert mmlu.items == 12 and mmlu.per_cent == pytest.approx(100 * 4 / 12)
    (wino,) = evaluate(model, choose("winogrande"), items, limit=4)
    assert wino.items == 4


def test_contexts_joined_to_one_text_are_what_lm_eval_makes_of_the_published_ones(tmp_path: Path) -> None:
    """The published rows and their joined form lead to the same question."""
    from datasets import Dataset
    from lm_eval.tasks.hellaswag.utils import process_docs

    published = [
        {"activity_label": "Roof", "ctx_a": "A man sits on a roof.", "ctx_b": "he", "endings": ["a", "b"], "label": 1},
        {"activity_label": "Tea", "ctx_a": "Boil it. Pour [title] it.", "ctx_b": "", "endings": ["c", "d"], "label": 0},
    ]
    joined = [
        {"ctx": "Roof: A man sits on a roof. he", "endings": ["a", "b"], "label": 1},
        {"ctx": "Tea: Boil it. Pour [title] it.", "endings": ["c", "d"], "label": 0},
    ]
    found = []
    for name, rows in (("a", published), ("b", joined)):
        lines(tmp_path / name / "hellaswag_val.jsonl", rows)
        items = benchmark_data.hellaswag(tmp_path / name).rows
        made = process_docs(Dataset.from_list(items))
        found.append([(d["query"], d["choices"], d["gold"]) for d in made])
    assert found[0] == found[1] and found[0][0][0] == "Roof: A man sits on a roof. He"


def test_what_is_missing_or_wrong_is_named(checkpoint: Path, items: Path, tmp_path: Path) -> None:
    def asked(*options: str) -> str:
        return str(CliRunner().invoke(app, ["eval", str(checkpoint), *options]).exception)

    assert "--tasks: there is no benchmark foo; choose from arc" in asked("--tasks", "foo")
    assert "is not a folder" in asked("--data", str(tmp_path / "none"))
    assert "arc has no *Challenge-Test*.jsonl" in asked("--tasks", "arc", "--data", str(tmp_path))
    table(tmp_path / "mmlu" / "test" / "anatomy_test.csv", [["Q", "a", "b", "c", "d", "E"]])
    with pytest.raises(ValueError, match=r"anatomy_test.csv, row 1: expected a question"):
        benchmark_data.mmlu(tmp_path / "mmlu", "anatomy")
    lines(tmp_path / "gsm8k" / "test.jsonl", [])
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": 1}\n{broken\n')
    with pytest.raises(ValueError, match=r"test.jsonl, line 2: not JSON"):
        benchmark_data.gsm8k(tmp_path / "gsm8k")


def test_generation_counts_weights_and_cache() -> None:
    model = Fox1(SHAPE, 1024)
    model.initialise(1)
    wide, narrow = measure_generation(model), measure_generation(model.to(torch.bfloat16))
    assert narrow.dtype == "bfloat16" and wide.memory_mib == pytest.approx(2 * narrow.memory_mib)
    assert [b.shots for b in BENCHMARKS] == [25, 10, 0, 5, 5, 5]

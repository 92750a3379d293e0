"""What a changed key of a recipe runs again: every key of the schema, by the table of docs/recipes.md.

A run is curated once. Then each key is changed in turn, and the stages are planned over the finished run until one has
something to run. `prepare` is let run, since what it makes decides what comes after.
"""

from __future__ import annotations

import fnmatch
import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fox1.pipeline.curate import CurateSettings, curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Outcome, Progress, Waiting, attempt
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import STAGES
from fox1.recipes.json_schema import resolved
from fox1.recipes.load import PACKAGE, load_recipe
from fox1.recipes.schema import Recipe
from fox1.recipes.settings import curate_settings, training_json
from fox1.trainer.settings import ModelSettings

from tests.conftest import SMALL
from tests.pipeline.signals.fasttext_files import made_up
from tests.pipeline.test_golden import OVERRIDES, write_corpora

PLUGINS = """
def judge(text, row, least=1):
    return len(text) >= least

def judge_too(text, row, least=1):
    return len(text) > least

from datatrove.pipeline.formatters.base import BaseFormatter

class Tidy(BaseFormatter):
    def __init__(self, least=1):
        super().__init__()
        self.least = least

    def format(self, text):
        return text if len(text) < self.least else text.rstrip()

class TidyToo(Tidy):
    pass
"""
PHASES = (
    "total_tokens=12K",
    "phases.phase1={tokens: 50%, blocks: [{length: 256}], weights: ["
    "{domain: web, weight: 2, max_epochs: 9, within: [{corpus: dolma, weight: 1}, {weight: 1}]}, {weight: 1, max_epochs: 9}]}",
    "phases.phase2={tokens: 4K, weights: [{weight: 1, max_epochs: 9}], "
    "blocks: [{length: 512, domains: [code], min_tokens: 256}, {length: 256}]}",
    "phases.phase3={tokens: 3K, weights: [{domain: web, weight: 1, max_epochs: 9}], blocks: [{length: 256}]}",
    "training.sizes.sample.batch_tokens={phase1: 2Ki, phase2: 2Ki, phase3: 2Ki}",
)

CHANGES: dict[str, tuple[str, ...]] = {
    "name": ("name=other",),
    "seed": ("seed=7",),
    "id_salt": ("id_salt=1",),
    "scale": ("scale=0.9",),
    "total_tokens": ("total_tokens=11K",),
    "expected.*.files": ("expected.pile.files=2",),
    "expected.*.stored": ("expected.pile.stored=2G",),
    "expected.*.text": ("expected.pile.text=2G",),
    "expected.*.documents": ("expected.pile.documents=2K",),
    "expected.*.survivors": ("expected.pile.survivors={web: 2}",),
    "expected.*.source": ("expected.pile.source=other",),
    "max_bad_rows": ("max_bad_rows=50",),
    "sources.*.format": ("sources.ours.format=huggingface",),
    "sources.*.root": ("sources.pile.root=DATA/copy/pile",),
    "sources.*.files": ("sources.pile.files=['train/*']",),
    "sources.*.urls": ("sources.pile.urls=DATA/urls.txt",),
    "sources.*.columns": ("sources.ours.format=huggingface", "sources.ours.columns={id: prompt}"),
    "sources.*.domain": ("sources.ours.domain=talk",),
    "sources.*.follow_links": ("sources.pile.follow_links=true",),
    "sources.*.revision": ("sources.pile.revision=v2",),
    "sources.*.config": ("sources.pile.config=other",),
    "sources.*.split": ("sources.pile.split=test",),
    "sources.*.reader": ("sources.read.reader=datatrove.pipeline.readers.csv.CSVReader",),
    "sources.*.arguments": ("sources.read.arguments={id_key: text}",),
    "held_out.*.files": ("held_out.slimpajama.files=['validation/a*']",),
    "held_out.carve.documents": ("held_out.carve.documents=4",),
    "held_out.carve.tokens": ("held_out.carve={documents: 1, tokens: 400}",),
    "held_out.carve.unfiltered": ("held_out.carve={documents: 1, tokens: 400, unfiltered: 0}",),
    "held_out.items.per_benchmark": ("held_out.items.per_benchmark=3",),
    "held_out.*.root": ("held_out.slimpajama.root=DATA/copy/slimpajama",),
    "before_scan.*.target": ("before_scan.tidy.target=DATA/rules.py:TidyToo",),
    "before_scan.*.arguments": ("before_scan.tidy.arguments={least: 2}",),
    "before_scan.*.sources": ("before_scan.tidy.sources=[refinedweb, dolma]",),
    "licence.exclude.*.corpus": ("licence.exclude.0={corpus: dolma, subset: books}",),
    "licence.exclude.*.subset": ("licence.exclude.0.subset=FreeLaw",),
    "licence.exclude.*.why": ("licence.exclude.0.why=other",),
    "signals.minhash.unit": ("signals.minhash.unit=char",),
    "signals.minhash.ngram": ("signals.minhash.ngram=6",),
    "signals.minhash.bands": ("signals.minhash.bands=9",),
    "signals.minhash.rows": ("signals.minhash.rows=9",),
    "signals.minhash.sketch_size": ("signals.minhash.sketch_size=64",),
    "signals.minhash.seed": ("signals.minhash.seed=2",),
    "edits.pii": ("edits.pii.email=EMAIL",),
    "edits.lines": ("edits.lines.web=[policy]",),
    "quality.*.good": ("quality.web.good=[dolma/open-web-math]",),
    "quality.*.ordinary": ("quality.web.ordinary=[pile/Pile-CC]",),
    "quality.*.score": ("quality.dialogue.score=hq",),
    "scores.*.fasttext": ("scores.hq.fasttext=DATA/other.bin",),
    "scores.*.labels": ("scores.hq.labels=bad",),
    "scores.*.files": ("scores.edu.files=[DATA/other.csv]",),
    "scores.*.key": ("scores.edu.key=native_id", "scores.edu.columns={native_id: doc_id}"),
    "scores.*.columns": ("scores.edu.columns={score: doc_id}",),
    "scores.*.corpora": ("scores.edu.corpora=[pile]",),
    "scores.*.domains": ("scores.edu.domains=[code, dialogue]",),
    "scores.*.missing": ("scores.edu.missing=drop",),
    "scores.*.worst": ("scores.edu.worst=-1",),
    "scores.*.best": ("scores.edu.best=4",),
    "contamination.benchmarks.*.format": ("contamination.benchmarks.sample.format=gsm8k",),
    "contamination.benchmarks.*.files": ("contamination.benchmarks.sample.files=[DATA/other.jsonl]",),
    "contamination.benchmarks.*.config": ("contamination.benchmarks.sample.config=other",),
    "contamination.benchmarks.*.split": ("contamination.benchmarks.sample.split=other",),
    "contamination.benchmarks.*.revision": ("contamination.benchmarks.sample.revision=other",),
    "contamination.benchmarks.*.ngram": ("contamination.benchmarks.sample.ngram=12",),
    "contamination.benchmarks.*.overlap": ("contamination.benchmarks.sample.overlap=50%",),
    "contamination.ngram": ("contamination.ngram=12",),
    "contamination.overlap": ("contamination.overlap=50%",),
    "contamination.action": ("contamination.action=keep",),
    "url_lists": ("url_lists=[DATA/blocked.txt]",),
    "exclude.lists": ("exclude.lists=[DATA/excluded_too.txt]",),
    "exclude.copies": ("exclude.copies=false",),
    "plugins.*.target": ("plugins.long.target=DATA/rules.py:judge_too",),
    "plugins.*.arguments": ("plugins.long.arguments={least: 2}",),
    "plugins.*.domains": ("plugins.long.domains=[code]",),
    "plugins.*.drop": ("plugins.long.drop=false",),
    "dedupe.priority": ("dedupe.priority=[pile, dolma]",),
    "dedupe.jaccard": ("dedupe.jaccard=0.9",),
    "dedupe.held_out_jaccard": ("dedupe.held_out_jaccard=0.6",),
    "dedupe.containment": ("dedupe.containment=0.9",),
    "dedupe.fan_out": ("dedupe.fan_out=64",),
    "dedupe.scope": ("dedupe.scope=within",),
    "dedupe.exempt": ("dedupe.exempt=[dolma]",),
    "dedupe.url.corpora": ("dedupe.url.corpora=[refinedweb]",),
    "dedupe.url.rule": ("dedupe.url.rule=newest",),
    "dedupe.preset": ("dedupe.preset=zyda",),
    "dedupe.near_limits": ("dedupe.near_limits.all=0.99",),
    "dedupe.passages.cut": ("dedupe.passages.cut=[]",),
    "dedupe.passages.min_words": ("dedupe.passages.min_words=9",),
    "dedupe.passages.any_numbers": ("dedupe.passages.any_numbers=true",),
    "dedupe.passages.sentences": ("dedupe.passages.sentences=2",),
    "dedupe.passages.substring_words": ("dedupe.passages.substring_words=40",),
    "dedupe.passages.min_left": ("dedupe.passages.min_left=9",),
    "tokenizer.model": ("tokenizer.model=RUN/prepare/tokenizer.model",),
    "tokenizer.vocab_size": ("tokenizer.vocab_size=421",),
    "tokenizer.character_coverage": ("tokenizer.character_coverage=99%",),
    "tokenizer.sample_bytes": ("tokenizer.sample_bytes=64Ki",),
    "tokenizer.reserved": ("tokenizer.reserved=['<start_of_turn>']",),
    "tokenizer.bos": ("tokenizer.bos=false",),
    "tokenizer.eos": ("tokenizer.eos=false",),
    "tokenizer.specials": ("tokenizer.specials={pad: 0}",),
    "tokenizer.chat_template.*.before": ("tokenizer.chat_template.user.before=Q",),
    "tokenizer.chat_template.*.after": ("tokenizer.chat_template.user.after=Q",),
    "mix.claim_order": ("mix.claim_order=[phase2, phase3, phase1]",),
    "mix.packing": ("mix.packing=concatenate",),
    "mix.tokens_per_segment": ("mix.tokens_per_segment=16",),
    "mix.held_out_block_length": ("mix.held_out_block_length=512",),
    "phases.*.tokens": ("phases.phase2.tokens=3900",),
    "phases.*.prefer": ("phases.phase2.prefer=long",),
    "phases.*.weights.*.weight": ("phases.phase1.weights.1.weight=2",),
    "phases.*.weights.*.domain": ("phases.phase1.weights.1.domain=code",),
    "phases.*.weights.*.corpus": ("phases.phase1.weights.1.corpus=pile",),
    "phases.*.weights.*.subset": ("phases.phase1.weights.1={corpus: dolma, subset: books, weight: 1, max_epochs: 9}",),
    "phases.*.weights.*.if_present": ("phases.phase1.weights.1.if_present=true",),
    "phases.*.weights.*.max_epochs": ("phases.phase1.weights.1.max_epochs=8",),
    "phases.*.weights.*.top": ("phases.phase1.weights.1.top=50%",),
    "phases.*.weights.*.below": ("phases.phase1.weights.1.below=50%",),
    "phases.*.weights.*.min_quality": ("phases.phase1.weights.1.min_quality=0.1",),
    "phases.*.weights.*.repeat": ("phases.phase1.weights.1.repeat={'2': 2}",),
    "phases.*.weights.*.reuse": ("phases.phase1.weights.1.reuse=[phase2]",),
    "phases.*.weights.*.by": ("phases.phase1.weights.1.by=corpus",),
    "phases.*.weights.*.temperature": (
        "phases.phase1.weights.1={weight: 1, max_epochs: 9, by: corpus, temperature: 2}",
    ),
    "phases.*.weights.*.within": ("phases.phase1.weights.0.within.0.weight=2",),
    "phases.*.blocks.*.length": ("phases.phase2.blocks.0.length=1024",),
    "phases.*.blocks.*.min_tokens": ("phases.phase2.blocks.0.min_tokens=128",),
    "phases.*.blocks.*.domains": ("phases.phase2.blocks.0.domains=[web]",),
    "phases.*.blocks.*.corpora": ("phases.phase2.blocks.0.corpora=[pile]",),
    "phases.*.blocks.*.fill": ("phases.phase2.blocks.0.fill=10%",),
    "training.seed": ("training.seed=2",),
    "training.checkpoint_every": ("training.checkpoint_every=7",),
    "training.checkpoint_minutes": ("training.checkpoint_minutes=7",),
    "training.log_every": ("training.log_every=7",),
    "training.keep_last": ("training.keep_last=3",),
    "training.keep_every": ("training.keep_every=3",),
    "training.evaluate_every": ("training.evaluate_every=7",),
    "training.evaluate_blocks": ("training.evaluate_blocks=7",),
    "training.activation_checkpointing": ("training.activation_checkpointing=full",),
    "training.z_loss": ("training.z_loss=0.1",),
    "training.fp8_head": ("training.fp8_head=true",),
    "training.fp8_linears": ("training.fp8_linears=true",),
    "training.compile": ("training.compile=false",),
    "training.attention": ("training.attention=fa2",),
    "training.replicas": ("training.replicas=2",),
    "training.skip_sigma": ("training.skip_sigma=5",),
    "training.skip_window": ("training.skip_window=64",),
    "training.max_skipped": ("training.max_skipped=8",),
    "training.size": ("training.size=other",),
    **{
        f"training.sizes.*.model.{name}": (f"training.sizes.sample.model.{name}=8",)
        for name in (f.name for f in fields(ModelSettings))
    },
    "training.sizes.*.batch_tokens": ("training.sizes.sample.batch_tokens.phase1=4Ki",),
    "training.sizes.*.micro_batch_tokens": ("training.sizes.sample.micro_batch_tokens=1Ki",),
    "training.sizes.*.optimizer.learning_rate": ("training.sizes.sample.optimizer.learning_rate=1",),
    "training.sizes.*.optimizer.betas": ("training.sizes.sample.optimizer.betas=[0.8, 0.9]",),
    "training.sizes.*.optimizer.eps": ("training.sizes.sample.optimizer.eps=1",),
    "training.sizes.*.optimizer.weight_decay": ("training.sizes.sample.optimizer.weight_decay=0",),
    "training.sizes.*.optimizer.clip_norm": ("training.sizes.sample.optimizer.clip_norm=2",),
    "training.sizes.*.optimizer.name": ("training.sizes.sample.optimizer.name=muon",),
    "training.sizes.*.optimizer.momentum": ("training.sizes.sample.optimizer.momentum=0.9",),
    "training.sizes.*.schedule.warmup_steps": ("training.sizes.sample.schedule.warmup_steps=1",),
    "training.sizes.*.schedule.decay_share": ("training.sizes.sample.schedule.decay_share=50%",),
    "training.sizes.*.schedule.warmup_tokens": (
        "training.sizes.sample.schedule.warmup_steps=null",
        "training.sizes.sample.schedule.warmup_tokens=2Ki",
    ),
    "training.sizes.*.schedule.decay_tokens": (
        "training.sizes.sample.schedule.decay_share=null",
        "training.sizes.sample.schedule.decay_tokens=2Ki",
    ),
    "training.sizes.*.schedule.decay_from": (
        "training.sizes.sample.schedule.decay_share=null",
        "training.sizes.sample.schedule.decay_from=phase2",
    ),
    "training.sizes.*.schedule.decay_shape": ("training.sizes.sample.schedule.decay_shape=cosine",),
    "training.sizes.*.schedule.final_share": ("training.sizes.sample.schedule.final_share=10%",),
    "training.sizes.*.checkpoint_every": ("training.sizes.sample.checkpoint_every=9",),
    "training.sizes.*.evaluate_every": ("training.sizes.sample.evaluate_every=9",),
    "training.sizes.*.evaluate_blocks": ("training.sizes.sample.evaluate_blocks=9",),
    **{f"tune.proxy.model.{name}": (f"tune.proxy.model.{name}=8",) for name in vars(ModelSettings())},
    **{
        f"tune.{key}": (f"tune.{key}={value}",)
        for key, value in {
            "proxies": "48",
            "refine": "9",
            "proxy.kind": "model",
            "proxy.tokens": "2M",
            "proxy.block_length": "256",
            "proxy.batch_tokens": "2Ki",
            "proxy.warmup": "10%",
            "proxy.decay": "10%",
            "proxy.gpus": "0.5",
            "proxy.optimizer.learning_rate": "0.1",
            "proxy.optimizer.betas": "[0.8, 0.9]",
            "proxy.optimizer.eps": "0.1",
            "proxy.optimizer.weight_decay": "0",
            "proxy.optimizer.clip_norm": "2",
            "proxy.optimizer.name": "adamw",
            "proxy.optimizer.momentum": "0.9",
            "anchors.recipe": "3",
            "anchors.natural": "3",
            "anchors.uniform": "2",
            "anchors.drop_one": "1",
            "objective.domains": "natural",
            "objective.items": "[sample]",
            "objective.items_weight": "10%",
            "objective.never_worse": "{code: 0.01}",
            "constraints.floor": "1%",
            "constraints.max_epochs": "2",
            "constraints.kl": "0.1",
            "repetition": "ignore",
            "validation.times": "4",
            "validation.seeds": "3",
            "validation.documents": "30",
            "validation.tokens": "30K",
            "validation.margin": "0",
            "seed": "2",
            "tiers": "{web: [30%]}",
            "placement.trainings": "16",
            "placement.repeats": "2",
        }.items()
    },
}
"""Key of the schema -> a change of it. DATA and RUN are the folders of the corpora and of the run."""

NOT_TRIED = {
    "extends": "is resolved before a recipe is checked: its keys are those of the recipe that it names",
    "sources.*.dataset": "names files of a hub",
    "held_out.carve.by": "has one value",
    "sources.*.tokenizer": "belongs to token files, which the base recipe has none of",
    "contamination.benchmarks.*.dataset": "names files of a hub",
}


def base_recipe(data: Path) -> dict[str, Any]:
    """The sample recipe on the golden corpora, with something to act on for every key."""
    template = "{user: {before: 'Q: ', after: ' '}, assistant: {before: 'A: '}}"
    base = [
        *SMALL,
        *OVERRIDES,
        *PHASES,
        "scale=1.0",
        "expected={pile: {files: 1, stored: 1G, text: 1G, documents: 1K, source: a card}}",
        f"sources.ours={{format: chat, root: {data}/chat}}",
        f"sources.read={{format: datatrove, root: {data}/read, reader: datatrove.pipeline.readers.CSVReader}}",
        f"tokenizer.chat_template={template}",
        f"before_scan.tidy={{target: '{data}/rules.py:Tidy', sources: [refinedweb]}}",
        f"plugins.long={{target: '{data}/rules.py:judge', arguments: {{least: 1}}, domains: [web]}}",
        f"exclude.lists=[{data}/excluded.txt]",
        f"scores.edu={{files: [{data}/edu.csv], worst: 0, best: 5, missing: keep}}",
        f"scores.hq={{fasttext: {data}/hq.bin, labels: good}}",
        "quality.dialogue={score: edu}",
        "filters.all.min_score_edu=0.5",
        "dedupe.url={corpora: [dolma]}",
        "dedupe.passages={cut: [lines, substrings]}",
        "contamination.action=drop",
        "training.sizes.other={model: {layers: 1, hidden: 32, intermediate: 32, heads: 1, kv_heads: 1, head_dim: 32}, "
        "batch_tokens: {phase1: 2Ki, phase2: 2Ki, phase3: 2Ki}, micro_batch_tokens: 2Ki, "
        "optimizer: {learning_rate: 0.1}, schedule: {warmup_steps: 2}}",
    ]
    return load_recipe("sample", base, {"FOX1_DATA": str(data)})[1]


def write_data(data: Path) -> None:
    write_corpora(data)
    for folder in ("chat", "read", "copy"):
        (data / folder).mkdir()
    talks = [{"prompt": f"Is {i}?", "completion": f"{i} is after {i - 1}.", "text": "."} for i in range(20)]
    (data / "chat" / "a.jsonl").write_text("".join(json.dumps(t) + "\n" for t in talks))
    (data / "read" / "a.csv").write_text("id,text\n7," + "of the and to in a is that it " * 20 + "\n")
    row = {"text": "we all has there been if more when can time " * 20, "meta": {"redpajama_set_name": "RedPajamaC4"}}
    (data / "slimpajama" / "validation" / "b.jsonl").write_text(json.dumps(row) + "\n")
    row = {"text": "them other than then now only its over also after " * 20, "meta": {"pile_set_name": "FreeLaw"}}
    with gzip.open(data / "pile" / "train" / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n")
    for corpus in ("pile", "slimpajama"):
        # Equal bytes in another place are other files: their times say so.
        shutil.copytree(data / corpus, data / "copy" / corpus, copy_function=shutil.copy)
    item = {"question": "is that it for on with as be have by this from at or an are not but", "answer": "12"}
    (data / "other.jsonl").write_text(json.dumps(item) + "\n")
    (data / "excluded.txt").write_text("pile/train/a.jsonl#1\n")
    (data / "excluded_too.txt").write_text("pile/train/a.jsonl#2\n")
    (data / "blocked.txt").write_text("example.org\n")
    (data / "edu.csv").write_text("doc_id,score\n1,2\n")
    (data / "other.csv").write_text("doc_id,score\n1,3\n")
    for name, seed in (("hq", 5), ("other", 6)):
        (data / f"{name}.bin").write_bytes(made_up(seed).file())


class Stopped(Exception):
    """A stage has something to run."""


class StopsAtWork(InProcess):
    """Stops at the first stage that has anything to run; may run those of `through` on the way."""

    def __init__(self, through: Sequence[str] = ()) -> None:
        self.through = through
        self.stages: list[str] = []

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            now = {p.step.split(".")[0] for p in waiting.asked.values()}
            self.stages += [s for s in STAGES if s in now and s not in self.stages]
            if not now <= set(self.through):
                raise Stopped
            yield planned.index, attempt(planned, paths)


def plan(settings: CurateSettings, run: Path, through: Sequence[str] = ()) -> list[str]:
    planner = StopsAtWork(through)
    with suppress(Stopped):
        curate(settings, Engine(RunPaths(run), planner))
    return planner.stages


@dataclass(frozen=True)
class Finished:
    """A run that was curated once, and what it was made of."""

    data: Path
    run: Path
    settings: CurateSettings
    training: dict[str, Any]

    def changed(self, *changes: str) -> Recipe:
        named = [c.replace("DATA", str(self.data)).replace("RUN", str(self.run)) for c in changes]
        return load_recipe(str(self.data / "recipe.yaml"), named, {})[0]

    def reruns(self, *changes: str) -> str:
        """What runs again after a change."""
        settings = curate_settings(self.changed(*changes))
        if settings == self.settings:
            return "nothing"
        stages = plan(settings, self.run)
        if stages == ["prepare"]:
            # What it makes decides what comes after. Files are replaced, never written in place: links are copies enough.
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copytree(self.run, Path(folder) / "run", copy_function=os.link))
                stages = plan(settings, copy, ["prepare"])
        return ", then ".join(stages) or "nothing"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("reruns")
    write_data(root / "data")
    (root / "data" / "rules.py").write_text(PLUGINS)
    (root / "data" / "recipe.yaml").write_text(yaml.safe_dump(base_recipe(root / "data"), sort_keys=False))
    recipe, _ = load_recipe(str(root / "data" / "recipe.yaml"), [], {})
    settings = curate_settings(recipe)
    curate(settings, Engine(RunPaths(root / "run"), InProcess()))
    return Finished(root / "data", root / "run", settings, training_json(recipe))


def leaves(schema: Mapping[str, Any], part: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key that a recipe may have; `*` stands for a name that users choose, and for an entry of a list."""
    kinds = resolved(schema, part)
    below = [(name, p) for kind in kinds for name, p in kind.get("properties", {}).items()]
    for entry in ("additionalProperties", "items"):
        entries = [kind[entry] for kind in kinds if isinstance(kind.get(entry), Mapping)]
        below += [("*", e) for e in entries if any("properties" in k for k in resolved(schema, e))]
    # The pools within a pool have its keys.
    if not below or path[-1:] == ("within",):
        yield ".".join(path)
        return
    for name, p in below:
        yield from leaves(schema, p, (*path, name))


def recipe_keys() -> list[str]:
    schema = Recipe.model_json_schema()
    return list(leaves(schema, schema))


def documented() -> list[tuple[str, str]]:
    """(pattern of keys, what runs again) of docs/recipes.md, in order; the first that matches a key counts."""
    text = (PACKAGE.parent / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| (`.*) \| (.*?) \| .* \|$", text.split("## What a change runs again")[1], re.MULTILINE)
    return [(pattern, reruns) for patterns, reruns in rows for pattern in re.findall(r"`([^`]+)`", patterns)]


def expected(key: str) -> str:
    return next(reruns for pattern, reruns in documented() if fnmatch.fnmatchcase(key, pattern))


def test_every_key_of_the_schema_is_documented_and_tried() -> None:
    keys = recipe_keys()
    tried = {*CHANGES, *NOT_TRIED, *(k for k in keys if k.startswith("filters."))}
    assert set(keys) - tried == set() and tried - set(keys) == set()
    assert [k for k in keys if not any(fnmatch.fnmatchcase(k, p) for p, _ in documented())] == []
    assert [p for p, _ in documented() if not fnmatch.filter(keys, p)] == []


@pytest.mark.early
def test_a_changed_key_runs_again_what_the_document_says(finished: Finished) -> None:
    found = {key: finished.reruns(*changes) for key, changes in CHANGES.items()}
    assert found == {key: expected(key) for key in CHANGES}


def test_a_training_key_changes_what_the_trainer_is_given_and_nothing_else(finished: Finished) -> None:
    for key in (k for k in CHANGES if k.startswith("training.")):
        changed = finished.changed(*CHANGES[key])
        assert training_json(changed) != finished.training and curate_settings(changed) == finished.settings, key


def test_a_key_of_tune_changes_the_tuning_and_nothing_else(finished: Finished) -> None:
    before = finished.changed().tune
    for key in (k for k in CHANGES if k.startswith("tune.")):
        changed = finished.changed(*CHANGES[key])
        assert changed.tune != before and curate_settings(changed) == finished.settings, key
    # A part of a shape leaves the rest as small as it was.
    assert finished.changed("tune.proxy.model.layers=1").tune.proxy.model.hidden == before.proxy.model.hidden


def test_a_threshold_is_a_setting_of_filter_alone(finished: Finished) -> None:
    # A preset stands for sections, and is none of the thresholds.
    keys = [k.split(".")[2] for k in recipe_keys() if k.startswith("filters.") and k != "filters.*.preset"]
    thresholds = {key: ["de"] if key == "languages" else 0.5 for key in keys}
    changed = curate_settings(finished.changed(f"filters={json.dumps({'code': thresholds})}"))
    assert [key for key, _ in changed.filter.sections[0].thresholds] == keys
    assert replace(changed, filter=finished.settings.filter) == finished.settings
    assert finished.reruns("filters.code.min_words=3") == expected("filters.*.min_words") == "filter"


def test_cutting_what_is_contaminated_reads_the_text_again(finished: Finished) -> None:
    assert finished.reruns("contamination.action=cut") == "scan"


def test_the_order_of_a_mapping_runs_nothing_again(finished: Finished) -> None:
    pii = dict(reversed(finished.settings.scan.edits.pii))
    assert finished.reruns(f"edits.pii={json.dumps(pii)}") == "nothing"

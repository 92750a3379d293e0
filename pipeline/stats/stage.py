"""The stats stage: what every stage counted, as `stats/*.json`; the tables and the report are made from these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...tokenize.shards import read_set
from ..dedupe.stage import DedupeResult
from ..engine.tasks import Engine, Task, TaskResult, task_key
from ..run.artifacts import Artifact, RunPaths, content_key, merge_counts, write_json
from ..run.identity import Group, SourceFile
from .benchmark_items import report_contamination
from .examples import examples_json, gather_examples, pick_files
from .languages import count_languages, languages_json
from .ledger import CorpusFunnel, funnel_json

VERSION = 4


@dataclass(frozen=True)
class Reached:
    """What the stages before left."""

    files: Sequence[SourceFile]
    groups: Sequence[Group]
    scans: Mapping[str, TaskResult]
    """By file name."""
    decisions: Mapping[str, Artifact]
    """By file name and `.parquet`."""
    tokens: Mapping[str, TaskResult]
    """By group name."""
    prepared: Mapping[str, TaskResult]
    """By name of the preparation."""
    funnels: Sequence[CorpusFunnel]
    held_out_rows: dict[str, int]
    """By corpus."""
    rules: dict[str, dict[str, int]]
    dedupe: DedupeResult
    mixture: dict[str, Any]
    exclude: dict[str, Any]
    """What the exclude lists named; empty without any."""
    settings: str
    """Hash of what was asked for."""
    phases: Sequence[str]


def write_stats(engine: Engine, run: Reached) -> None:
    """Write all statistics of a run.

    Raises:
        ValueError: an account does not balance.
    """
    tokens, sizes, training = (_by_subset(run, kind) for kind in ("subsets", "bytes", "training"))
    totals: dict[str, int] = {}
    for result in run.tokens.values():
        merge_counts(totals, result.counts)
    values = {
        "funnel": {**funnel_json(run.funnels, training), "held_out_rows": run.held_out_rows},
        "filter": run.rules,
        "prepared": {name: {**r.counts, **r.data} for name, r in run.prepared.items()},
        "overlap": run.dedupe.overlap,
        "dedupe": run.dedupe.figures,
        "mixture": run.mixture,
        "tokens": {
            **totals,
            **run.prepared["tokenizer"].data,
            "subsets": {name: {"tokens": n, "bytes": sizes[name]} for name, n in sorted(tokens.items())},
        },
        "languages": _languages(engine, run),
        "examples": _examples(engine, run),
        "settings": _identities(engine.paths, run),
        **({"exclude": run.exclude} if run.exclude else {}),
    }
    tasks = [
        Task(name, task_key("stats", VERSION, None, [name, value]), write_value, (name, value, engine.paths))
        for name, value in values.items()
    ]
    if "contamination" in run.prepared:
        scans = [[f.name, run.scans[f.name].outputs[0].hash] for f in run.files]
        facts = [run.prepared["contamination"].outputs[-1].hash, scans]
        key = task_key("stats", VERSION, None, ["contamination", facts])
        tasks.append(Task("contamination", key, report_contamination, (run.files, engine.paths)))
    engine.run("stats", tasks)


def write_value(name: str, value: dict[str, Any], paths: RunPaths) -> TaskResult:
    return TaskResult((write_json(paths.stats(name), value),))


def _by_subset(run: Reached, kind: str) -> dict[str, int]:
    """`corpus/subset` -> tokens (`subsets`; `training`: held-out groups left out) or bytes of the edited text."""
    found: dict[str, int] = {}
    for g in run.groups:
        if kind == "training" and g.held_out:
            continue
        data = run.tokens[g.name].data["bytes" if kind == "bytes" else "subsets"]
        merge_counts(found, {f"{g.corpus}/{subset}": n for subset, n in data.items()})
    return found


def _languages(engine: Engine, run: Reached) -> dict[str, Any]:
    parts = engine.finished["mix.index"]
    files = [a.file for a in parts]
    tasks = []
    for g in run.groups:
        inputs = [[run.scans[f.name].outputs[0].hash, run.decisions[f"{f.name}.parquet"].hash] for f in g.files]
        key = task_key("stats.languages", VERSION, None, [inputs, [a.hash for a in parts]])
        tasks.append(Task(g.name, key, count_languages, (g, files, engine.paths)))
    return languages_json(engine.run("stats.languages", tasks), run.mixture["phases"])


def _examples(engine: Engine, run: Reached) -> dict[str, Any]:
    tasks = []
    for corpus in sorted({f.corpus for f in run.files}):
        for file in pick_files([f for f in run.files if f.corpus == corpus and not f.held_out]):
            facts = [run.scans[file.name].outputs[0].hash, run.decisions[f"{file.name}.parquet"].hash]
            key = task_key("stats.examples", VERSION, None, [file.identity(), facts])
            tasks.append(Task(file.name, key, gather_examples, (file, engine.paths)))
    return examples_json(engine.run("stats.examples", tasks), engine.paths)


def _identities(paths: RunPaths, run: Reached) -> dict[str, Any]:
    """What the run's bytes depend on and what they are, as hashes."""
    files = sorted(run.files, key=lambda f: f.name)
    stages = {
        "prepare": [r.outputs[0].hash for r in run.prepared.values()],
        "scan": [run.scans[f.name].outputs[0].hash for f in files],
        "dedupe": [a.hash for _, a in sorted(run.decisions.items())],
        "tokenize": [a.hash for g in run.groups for a in run.tokens[g.name].outputs],
    }
    return {
        "settings": run.settings,
        "files": len(run.files),
        "inputs": content_key([[f.name, f.size] for f in files]),
        "tokenizer": run.prepared["tokenizer"].outputs[0].hash,
        "stages": {name: content_key(hashes) for name, hashes in stages.items()},
        "phases": {name: read_set(paths.phase(name)).data_identity for name in run.phases},
    }

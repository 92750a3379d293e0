"""The plan: measured rates times the sizes of the inputs, as hours, bytes and files; and what a run really took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..curate import CurateSettings
from ..dedupe.order import CHUNK_DOCUMENTS, MIN_CHUNKS, MOST_CHUNKS
from ..engine.records import logged, task_times
from ..engine.tasks import MOST_EQUAL, MOST_TASKS
from ..filter.stage import TASK_TEXT
from ..mix.assign import PARTITION_TOKENS
from ..mix.budget import Cell
from ..mix.feasibility import PoolNeed, estimated_needs
from ..passages.layout import planned_tasks
from ..run.artifacts import read_json
from ..run.identity import GROUP_TEXT, MIN_GROUPS, SourceFile
from ..run.paths import RunPaths
from ..sources.pieces import MOST_TEXT, PLAIN, TABLE
from .rates import PARTS, PASSAGES, WORK, FolderRate, Rates, StageRate, part_of, written

GROWING_PREPARATIONS = ("tokenizer",)
"""Preparations whose time grows with the text they sample, up to what the recipe bounds."""
PASS_SECONDS = 0.1e-6
"""CPU seconds for each document of what dedupe does in one task while nothing runs beside it: the pass over all edges, as
`benchmarks/dedupe_scale.py` measures it."""
_GROUP = 4 * GROUP_TEXT
"""Text of a group of files, about; `GROUP_TEXT` at least, and of a compressed file more than its size lets expect."""
_STEPS_OF_MIX, _BY_GROUPS, _BY_PARTITIONS = 30, 4, 5
"""Of mix: steps of one task, those with a task for each group or some (documents, shuffle, two of the lookup), and those with one
for each partition or some (merge, pack, blocks, write, index)."""
_STEPS_OF_STATS = 20
EXAMPLE_BYTES = 32 << 20
"""Text of a corpus that the stats read again, at most."""


@dataclass(frozen=True)
class CorpusEstimate:
    """What is known of a corpus before it is read."""

    name: str
    files: int
    stored_bytes: float
    text_bytes: float
    documents: float
    kept_bytes: float
    kept_tokens: float
    kept_by_domain: Mapping[str, float]
    """Kept tokens by domain; empty if only a run can tell."""
    source: str
    """Where the figures come from."""
    longest_text: float = 0.0
    """Bytes of text of the largest file that one task reads whole: a compressed one is taken to have a single frame."""


@dataclass(frozen=True)
class StagePlan:
    """A stage at full size."""

    name: str
    tasks: float
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class PhasePlan:
    """The training of a phase."""

    name: str
    tokens: int
    flops: float
    gpu_hours: float
    days: float


@dataclass(frozen=True)
class CapacityPlan:
    """What a curation and the training on it will take."""

    corpora: tuple[CorpusEstimate, ...]
    stages: tuple[StagePlan, ...]
    start_seconds: float
    cores: int
    nodes: int
    memory_bytes: int
    largest_task_bytes: int
    """Peak memory of the largest task in the sample."""
    folders: dict[str, float]
    """Folder of the run -> bytes."""
    objects: float
    phases: tuple[PhasePlan, ...]
    gpus: int
    gpu: str
    utilisation: float
    needs: tuple[PoolNeed, ...]
    """Pools against what is expected to survive; empty if there is no expectation."""
    rates: Rates

    @property
    def cpu_seconds(self) -> float:
        return sum(s.cpu_seconds for s in self.stages)

    @property
    def wall_seconds(self) -> float:
        return self.start_seconds + sum(s.wall_seconds for s in self.stages)

    @property
    def shuffle_bytes(self) -> float:
        return sum(self.folders.get(f, 0.0) for f in ("dedupe", PASSAGES, "mix"))

    @property
    def disk_bytes(self) -> float:
        return sum(self.folders.values())


@dataclass(frozen=True)
class TrainingWorkload:
    """What must be known of the training to plan it."""

    phases: tuple[tuple[str, int, float], ...]
    """(phase, tokens, FLOPs of a token)."""
    gpus: int
    gpu: str
    peak_flops: float
    utilisation: float


def corpora_of(files: Sequence[SourceFile], rates: Rates) -> list[CorpusEstimate]:
    """Corpora at full size: the sizes of their files times what the sample's files held.

    Raises:
        ValueError: the rates do not cover a corpus.
    """
    found = []
    for name in sorted({f.corpus for f in files}):
        own_files = [f for f in files if f.corpus == name]
        stored = float(sum(f.size for f in own_files))
        measured = rates.corpora.get(name)
        if measured is None:
            raise ValueError(
                f"the rates do not cover the corpus {name}; plan without --rates, or measure a sample with it"
            )
        scale = stored / max(measured["stored"], 1.0)
        kept = {k: measured[k] * scale for k in ("kept_bytes", "kept_tokens")}
        found.append(
            CorpusEstimate(
                name,
                len(own_files),
                stored,
                measured["text"] * scale,
                measured["documents"] * scale,
                **kept,
                kept_by_domain={},
                source="sample",
                longest_text=_longest(own_files) * measured["text"] / max(measured["stored"], 1.0),
            )
        )
    return found


def _longest(files: Sequence[SourceFile]) -> int:
    """Stored bytes of the largest file that is not cut."""
    return max((f.size for f in files if f.reader or not f.path.endswith((*PLAIN, TABLE))), default=0)


def make_plan(
    settings: CurateSettings,
    corpora: Sequence[CorpusEstimate],
    rates: Rates,
    training: TrainingWorkload,
    nodes: int,
    cores: int,
    memory: int,
) -> CapacityPlan:
    """Rates times sizes.

    Args:
        cores: of each node.
    """
    documents = sum(c.documents for c in corpora)
    kept_bytes = sum(c.kept_bytes for c in corpora)
    trained = float(sum(p.tokens for p in settings.mix.phases))
    files = float(sum(c.files for c in corpora))
    units = {
        "bytes": sum(c.text_bytes for c in corpora),
        "documents": documents,
        "kept_bytes": kept_bytes,
        "trained_tokens": trained,
        "files": files,
    }
    there = _shape(units["bytes"], documents, trained, len(corpora))
    sample = rates.stages
    sampled = _shape(sample["scan"].units, sample["dedupe"].units, sample["mix"].units, len(corpora))
    workers = nodes * cores
    stages, beside_scan = list[StagePlan](), 0.0
    for name in (p for p in PARTS if p != PASSAGES or settings.passages.cut):
        if name not in rates.stages:
            raise ValueError(
                "the rates were measured without passages (`dedupe.passages`); plan without --rates, or measure again"
            )
        rate = rates.stages[name]
        if name == "prepare":
            # Its few tasks run side by side: the stage lasts as long as the slowest. Scan does not wait for the tokenizer.
            each = {t: _prepare_seconds(settings, t, s, units["bytes"], rates) for t, s in rates.prepare.items()}
            beside_scan = each.get("tokenizer", 0.0)
            first = [seconds for task, seconds in each.items() if task != "tokenizer"]
            slots = min(workers, len(first)) or 1
            wall = max(max(first, default=0.0), sum(first) / slots)
            stages.append(StagePlan(name, len(each), sum(each.values()), wall))
            continue
        if name == "scan":
            tasks = sum(max(c.files, c.text_bytes / MOST_TEXT) for c in corpora)
        elif name == PASSAGES:
            parts = math.ceil(there["tokenize"])
            tasks = float(planned_tasks(settings.passages, int(units["bytes"]), int(kept_bytes), parts))
        else:
            tasks = rate.tasks * there[name] / sampled[name]
        work = units[WORK[name]]
        cpu = rate.per_task * tasks + rate.per_unit * work
        if name == "stats":
            # Examples are read again from a bounded part of each corpus, about as fast as the scan reads.
            cpu = rate.per_unit * rate.units * there["tokenize"] / sampled["tokenize"] + rates.stages[
                "scan"
            ].per_unit * sum(min(EXAMPLE_BYTES, c.text_bytes * min(1.0, 2 / max(c.files, 1))) for c in corpora)
        alone = PASS_SECONDS * documents if name == "dedupe" else 0.0
        # What is long starts first: a stage lasts as long as its longest task, or until all others are done.
        spread = (max(0.0, cpu - alone) + rates.dispatch_seconds * tasks) / workers
        longest = max((_longest_work(c, name) for c in corpora), default=0.0) * rate.per_unit
        if name == "scan":
            spread, longest = spread + beside_scan / workers, max(longest, beside_scan)
        stages.append(StagePlan(name, tasks, cpu, max(spread, longest) + alone))
    folders = {name: f.per_unit * units[f.unit] + f.per_file * files for name, f in rates.folders.items()}
    phases = []
    for name, tokens, flops in training.phases:
        hours = tokens * flops / (training.peak_flops * training.utilisation) / 3600
        phases.append(PhasePlan(name, tokens, tokens * flops, hours, hours / training.gpus / 24))
    return CapacityPlan(
        tuple(corpora),
        tuple(stages),
        rates.start_seconds,
        cores,
        nodes,
        memory,
        max(r.peak_bytes for r in rates.stages.values()),
        folders,
        rates.objects_per["file"] * files + rates.objects_per["task"] * sum(s.tasks for s in stages),
        tuple(phases),
        training.gpus,
        training.gpu,
        training.utilisation,
        tuple(_needs(settings, corpora)),
        rates,
    )


def _shape(text: float, documents: float, trained: float, corpora: int) -> dict[str, float]:
    """By stage what its tasks are as many as: about how many it has, but for steps of one task each.

    As the stages plan them: tasks of so much text, chunks of so many documents, partitions of so many tokens, and of each no
    more than a driver sends in one step.
    """
    groups = max(MIN_GROUPS * corpora, text / _GROUP)
    few = min(MOST_EQUAL, groups)
    partitions = min(MOST_TASKS, trained / PARTITION_TOKENS)
    return {
        "filter": min(MOST_EQUAL, max(corpora, text / TASK_TEXT)),
        "dedupe": max(MIN_CHUNKS, min(MOST_CHUNKS, documents / CHUNK_DOCUMENTS)),
        "tokenize": groups,
        "mix": _STEPS_OF_MIX + _BY_GROUPS * few + _BY_PARTITIONS * partitions,
        "stats": _STEPS_OF_STATS + 2 * min(MOST_EQUAL, groups),
    }


def _longest_work(corpus: CorpusEstimate, stage: str) -> float:
    """What a stage does for the largest file of a corpus that is read whole, in units of its work."""
    if stage == "scan":
        return corpus.longest_text
    if stage in ("tokenize", PASSAGES):
        return corpus.longest_text * corpus.kept_bytes / max(corpus.text_bytes, 1.0)
    return 0.0


def _prepare_seconds(settings: CurateSettings, task: str, measured: float, text: float, rates: Rates) -> float:
    if task in GROWING_PREPARATIONS and not settings.tokenizer.model:
        sampled = sum(c["text"] for c in rates.corpora.values())
        limit = float(settings.tokenizer.sample_bytes)
        return measured * min(text, limit) / max(min(sampled, limit), 1.0)
    return measured


def _needs(settings: CurateSettings, corpora: Sequence[CorpusEstimate]) -> list[PoolNeed]:
    """The pools against what is expected to survive."""
    cells, tokens = [], []
    for corpus in corpora:
        for domain, n in corpus.kept_by_domain.items():
            cells.append(Cell(corpus.name, domain, domain))
            tokens.append(int(n))
    return estimated_needs(settings.mix, cells, tokens, 1.0) if cells else []


@dataclass(frozen=True)
class Actual:
    """What a finished run took."""

    stages: dict[str, tuple[int, float, float]]
    """Stage -> (tasks, CPU seconds, wall seconds)."""
    wall_seconds: float
    cores: int
    folders: dict[str, float]
    objects: int


def actual(paths: RunPaths) -> Actual:
    """The last run of a folder that reused nothing.

    Raises:
        ValueError: the folder has no such run.
    """
    whole = next((r for r in reversed(logged(paths.timings("runs.jsonl"))) if not r["reused"]), None)
    if whole is None:
        raise ValueError(
            f"{paths.root} was not made in one go; a plan can only be compared with a run that reused nothing"
        )
    stages: dict[str, tuple[int, float, float]] = {}
    times: list[float] = []
    for entry in task_times(paths):
        if whole["began"] <= entry["ended"] <= whole["began"] + whole["seconds"]:
            stage = part_of(entry["stage"])
            tasks, cpu, wall = stages.get(stage, (0, 0.0, whole["stages"].get(stage, 0.0)))
            stages[stage] = (tasks + 1, cpu + entry["seconds"], wall)
            if stage == PASSAGES:
                times += [entry["ended"] - entry["seconds"], entry["ended"]]
    if times:
        # They end the stage of dedupe, and the log has its time as a whole.
        wall = min(max(times) - min(times), stages["dedupe"][2])
        stages[PASSAGES] = (*stages[PASSAGES][:2], wall)
        stages["dedupe"] = (*stages["dedupe"][:2], stages["dedupe"][2] - wall)
    folders, counts = written(paths)
    return Actual(stages, whole["seconds"], whole["cores"], folders, sum(counts.values()))


def as_json(plan: CapacityPlan, then: Actual | None) -> dict[str, Any]:
    """A plan for programs."""
    value: dict[str, Any] = {
        "wall_seconds": plan.wall_seconds,
        "core_hours": plan.cpu_seconds / 3600,
        "stages": {
            s.name: {"tasks": s.tasks, "cpu_seconds": s.cpu_seconds, "wall_seconds": s.wall_seconds}
            for s in plan.stages
        },
        "disk_bytes": plan.disk_bytes,
        "shuffle_bytes": plan.shuffle_bytes,
        "folders": plan.folders,
        "objects": plan.objects,
        "training": {p.name: {"tokens": p.tokens, "gpu_hours": p.gpu_hours, "days": p.days} for p in plan.phases},
        "rates": plan.rates.to_json(),
    }
    if then:
        value["actual"] = {
            "wall_seconds": then.wall_seconds,
            "stages": {
                name: {"tasks": tasks, "cpu_seconds": cpu, "wall_seconds": wall}
                for name, (tasks, cpu, wall) in then.stages.items()
            },
            "core_hours": sum(s[1] for s in then.stages.values()) / 3600,
            "folders": then.folders,
            "objects": then.objects,
        }
    return value


def stored_rates(path: Path) -> Rates:
    """Rates as `Rates.to_json` gives them, from a file.

    Raises:
        ValueError: the file holds something else.
    """
    value = read_json(path)
    try:
        value["stages"] = {name: StageRate(**rate) for name, rate in value["stages"].items()}
        value["folders"] = {name: FolderRate(**rate) for name, rate in value["folders"].items()}
        return Rates(**value)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} holds no rates; `fox1 plan RECIPE --save FILE` writes them") from None

"""Rates: a sample is curated three times, and the time of its tasks is divided by their work.

First cold, in workers that have just started; then warm; then warm with only a few rows of each file. The line through the
last two separates the fixed cost of a task from that of its work; the first less the second is the cost of starting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..curate import CurateSettings, curate
from ..engine.engine import Engine
from ..engine.records import task_times
from ..engine.tasks import Executor, Silent
from ..mix.assign import MAX_COPIES
from ..mix.budget import MixSettings, Weight
from ..passages.layout import STEP as PASSAGE_STEP
from ..run.artifacts import read_json
from ..run.identity import SourceFile
from ..run.paths import RunPaths
from ..run.records import StepRecords
from ..run.schemas import STAGES
from ..sources.datatrove import without_choice
from ..sources.listing import SourceSettings, list_sources
from .small_copy import copy_beginnings

FEW_TOKENS = 200_000
"""Tokens of a phase when only the fixed cost of tasks is measured."""
DEDUPE_SECONDS = 65e-6
"""Least CPU seconds per document, as `benchmarks/dedupe_scale.py` measures on ten million: a small sample has few buckets."""
PASSAGES = "passages"
"""What dedupe does to cut passages, which has a line of its own in a plan: it reads text."""
PARTS = (*STAGES[: STAGES.index("dedupe") + 1], PASSAGES, *STAGES[STAGES.index("dedupe") + 1 :])
"""The lines of a plan, in order."""
REPEATS = 40
"""How often documents of the sample may be used, so that mix is measured on more tokens than the sample has."""


@dataclass(frozen=True)
class StageRate:
    """What a stage takes."""

    per_task: float
    """CPU seconds per task, whatever its work."""
    per_unit: float
    """CPU seconds per unit of its work (`WORK`)."""
    tasks: int
    """Tasks in the sample."""
    units: float
    """Units of work in the sample."""
    peak_bytes: int
    """Peak memory of its largest task in the sample."""


WORK = {
    "prepare": "bytes",
    "scan": "bytes",
    "filter": "documents",
    "dedupe": "documents",
    PASSAGES: "kept_bytes",
    "tokenize": "kept_bytes",
    "mix": "trained_tokens",
    "stats": "files",
}
"""Part of a run -> what its work grows with; those of prepare and stats are bounded."""


@dataclass(frozen=True)
class FolderRate:
    """What a folder of a run grows by."""

    unit: str
    """What its size grows with."""
    per_unit: float
    """Bytes."""
    per_file: float
    """Bytes for each input file, whatever it holds."""


@dataclass(frozen=True)
class Rates:
    """Everything that was measured."""

    stages: dict[str, StageRate]
    prepare: dict[str, float]
    """Preparation -> CPU seconds."""
    start_seconds: float
    """From the command to the first task, and what workers load once."""
    dispatch_seconds: float
    """Core seconds lost between tasks, per task."""
    corpora: dict[str, dict[str, float]]
    """Corpus -> documents, stored and text bytes, kept documents, bytes and tokens of the sample."""
    folders: dict[str, FolderRate]
    objects_per: dict[str, float]
    """Files that a run writes per input `file` and per `task`."""
    sample_share: float
    source: str
    """What was sampled."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Measured:
    seconds: float
    cpu: dict[str, float]
    tasks: dict[str, int]
    peak: dict[str, int]
    wall: dict[str, float]
    prepare: dict[str, float]
    paths: RunPaths
    scanned: dict[str, dict[str, Any]]


class _Clock(Silent):
    """Wall seconds by stage, as the engine reports them; of stages side by side those of the one that began first."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self._open: list[str] = []
        self._told = 0.0

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        if not self._open:
            self._told = time.monotonic()
        self._open.append(name)

    def stage_done(self, name: str, seconds: float) -> None:
        now, part = time.monotonic(), part_of(self._open[0])
        self.wall[part] = self.wall.get(part, 0.0) + now - self._told
        self._told = now
        self._open.remove(name)


def measure(
    settings: CurateSettings,
    files: Sequence[SourceFile],
    share: float,
    session: AbstractContextManager[Executor],
    cores: int,
    folder: Path,
    source: str,
    say: Callable[[str], None] = lambda _: None,
) -> Rates:
    """Curate a sample of `files` and measure.

    Args:
        share: of the stored bytes.
        session: where tasks run; entered here, so that its start is measured.
        cores: how many the session uses.
        folder: scratch space; the caller removes it.
        say: called with a line for every step.
    """
    say(f"taking a sample of {len(files):,} files")
    taken, there = copy_beginnings(files, share, folder / "sample")
    copy_beginnings(files, 0.0, folder / "rows")
    whole = _relaxed(settings, folder / "sample")
    few = _relaxed(settings, folder / "rows")
    began = time.monotonic()
    with session as executor:
        started = time.monotonic() - began
        say(f"curating {taken / 1e6:.1f} MB of stored bytes, three times, and a few rows of each file, twice")
        wanted = [p.tokens for p in settings.mix.phases]
        cold = _run(whole, executor, folder / "cold", wanted)
        warm = _best(_run(whole, executor, folder / f"warm{k}", wanted) for k in range(2))
        model = replace(few.tokenizer, model=str(warm.paths.tokenizer))
        few = replace(few, tokenizer=model)
        least = _best(_run(few, executor, folder / f"least{k}", [FEW_TOKENS] * len(wanted)) for k in range(2))
        over = time.monotonic()
    stopped = time.monotonic() - over
    sampled = list_sources(whole.sources, whole.id_salt)
    facts = _facts(warm, sampled)
    units = _units(warm, sampled, facts)
    few_files = list_sources(few.sources, few.id_salt)
    few_units = _units(least, few_files, _facts(least, few_files))
    stages = {}
    for stage in (p for p in PARTS if p != PASSAGES or p in warm.tasks):
        work, less = units[WORK[stage]], few_units[WORK[stage]]
        n, m = max(warm.tasks.get(stage, 0), 1), max(least.tasks.get(stage, 0), 1)
        cpu, floor = warm.cpu.get(stage, 0.0), least.cpu.get(stage, 0.0)
        # cpu = per_task n + per_unit work, floor = per_task m + per_unit less; a line needs points that lie apart.
        apart = work - less * n / m
        per_unit = max(0.0, cpu - floor * n / m) / apart if apart > work / 4 else cpu / max(work, 1.0)
        if stage == "dedupe":
            per_unit = max(per_unit, DEDUPE_SECONDS)
        per_task = max(0.0, (cpu - per_unit * work) / n)
        stages[stage] = StageRate(per_task, per_unit, n, work, warm.peak.get(stage, 0))
    tasks = sum(warm.tasks.values())
    idle = sum(warm.wall.values()) * cores - sum(warm.cpu.values()) - _waiting(warm, cores)
    folders, objects = _written(warm.paths, least.paths, units, few_units, len(sampled), tasks)
    return Rates(
        stages,
        warm.prepare,
        started + stopped + max(cold.seconds - warm.seconds, 0.0) + max(warm.seconds - sum(warm.wall.values()), 0.0),
        max(idle, 0.0) / max(tasks, 1),
        facts,
        folders,
        objects,
        taken / max(there, 1),
        source,
    )


def _best(runs: Iterable[_Measured]) -> _Measured:
    """The last of several equal runs, with each stage's least time of any: other load on the machine then counts little."""
    seen = list(runs)
    last = seen[-1]
    for name in ("cpu", "wall", "prepare"):
        values = [getattr(run, name) for run in seen]
        setattr(last, name, {key: min(v[key] for v in values) for key in values[0]})
    last.seconds = min(run.seconds for run in seen)
    return last


def _units(run: _Measured, files: Sequence[SourceFile], facts: dict[str, dict[str, float]]) -> dict[str, float]:
    total = {name: sum(c[name] for c in facts.values()) for name in next(iter(facts.values()))}
    mixture = read_json(run.paths.stats("mixture"))
    return {
        "bytes": total["text"],
        "documents": total["documents"],
        "kept_bytes": total["kept_bytes"],
        "trained_tokens": float(sum(p["tokens"] for p in mixture["phases"])),
        "files": float(len(files)),
    }


def _waiting(run: _Measured, cores: int) -> float:
    """Core seconds idle because prepare has fewer tasks than cores; not a cost of dispatching."""
    return max(0.0, run.wall.get("prepare", 0.0) * cores - run.cpu.get("prepare", 0.0))


def _relaxed(settings: CurateSettings, root: Path) -> CurateSettings:
    """The settings for a sample: pools may be empty, small and repeated, and no guard stops the run."""

    def source(s: SourceSettings) -> SourceSettings:
        return replace(s, root=str(root / s.corpus), urls="", arguments=without_choice(s.arguments))

    # Evenly over what is there: a sample's pools may be smaller than their weights.
    everything = (Weight(1.0, max_epochs=MAX_COPIES - 1, reuse=tuple(p.name for p in settings.mix.phases)),)
    phases = tuple(
        # Few documents, and yet some for every set.
        replace(p, weights=everything, tokens=1, prefer="any", blocks=tuple(replace(b, fill=0.5) for b in p.blocks))
        for p in settings.mix.phases
    )
    mix = replace(settings.mix, phases=phases)
    return replace(
        settings,
        sources=tuple(source(s) for s in settings.sources),
        mix=mix,
        scores=tuple(replace(s, missing="keep") for s in settings.scores),
        filter=replace(settings.filter, scores=tuple(replace(s, missing="keep") for s in settings.filter.scores)),
        limit=1.0,
        max_bad_rows=1.0 - 1e-9,
        near_limits=(),
        against="",
    )


def _run(settings: CurateSettings, executor: Executor, folder: Path, wanted: Sequence[int]) -> _Measured:
    """Curate a sample. `wanted` are the tokens of every phase, as far as the sample has them."""
    clock = _Clock()
    engine = Engine(RunPaths(folder), executor, clock)
    began = time.monotonic()
    curate(settings, engine, ("tokenize",))
    budget = _budgets(settings.mix, wanted, engine.paths)
    engine = Engine(RunPaths(folder), executor, clock)
    curate(replace(settings, mix=budget), engine, ("stats",))
    seconds = time.monotonic() - began
    cpu: dict[str, float] = {}
    tasks: dict[str, int] = {}
    peak: dict[str, int] = {}
    prepare: dict[str, float] = {}
    for entry in task_times(engine.paths):
        stage = part_of(entry["stage"])
        cpu[stage] = cpu.get(stage, 0.0) + entry["seconds"]
        tasks[stage] = tasks.get(stage, 0) + 1
        peak[stage] = max(peak.get(stage, 0), entry["peak_bytes"])
        if stage == "prepare":
            prepare[entry["task"]] = entry["seconds"]
    records = StepRecords(engine.paths, "scan").found
    scanned = {task: msgspec.json.decode(record.result) for task, record in records.items()}
    return _Measured(seconds, cpu, tasks, peak, clock.wall, prepare, engine.paths, scanned)


def _budgets(mix: MixSettings, wanted: Sequence[int], paths: RunPaths) -> MixSettings:
    """The phases with as many tokens as the recipe asks for, as far as repeating a sample can give them."""
    records = StepRecords(paths, "tokenize").found
    tasks = [msgspec.json.decode(record.result) for task, record in records.items() if "/held-out-" not in task]
    results = [group for task in tasks for group in task["groups"]]
    held = sum(result["encoded"]["tokens"] for result in results)
    share = min(1.0, held * REPEATS / max(wanted))
    phases = zip(mix.phases, wanted, strict=True)
    return replace(mix, phases=tuple(replace(p, tokens=max(int(n * share), 2_000)) for p, n in phases))


def _facts(run: _Measured, files: Sequence[SourceFile]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    names = ("documents", "stored", "text", "kept", "kept_bytes", "kept_tokens")
    for file in files:
        facts = found.setdefault(file.corpus, dict.fromkeys(names, 0.0))
        facts["stored"] += file.size
        facts["documents"] += run.scanned[file.name]["documents"]
        facts["text"] += run.scanned[file.name]["bytes"]
    for corpus in read_json(run.paths.stats("funnel"))["corpora"]:
        found[corpus["corpus"]]["kept"] += corpus["kept"]
    for name, subset in read_json(run.paths.stats("tokens"))["subsets"].items():
        facts = found[name.split("/")[0]]
        facts["kept_bytes"] += subset["bytes"]
        facts["kept_tokens"] += subset["tokens"]
    return found


def part_of(step: str) -> str:
    """The part of a run, as a plan names it, to which a step of the engine belongs."""
    return PASSAGES if step.startswith(PASSAGE_STEP) else step.split(".")[0]


GROWS = {
    "extracted": "bytes",
    "signals": "documents",
    "signatures": "documents",
    "filtered": "documents",
    "dedupe": "documents",
    PASSAGES: "kept_bytes",
    "cuts": "documents",
    "decisions": "documents",
    "tokens": "kept_bytes",
    "mix": "trained_tokens",
    "phases": "trained_tokens",
    "index": "documents",
}
"""Folder of a run -> what its size grows with; `passages` are those of their steps within `dedupe`."""
_SOME = ("extracted", PASSAGES, "cuts")
"""Folders that not every run has."""


def _written(
    warm: RunPaths, few: RunPaths, units: dict[str, float], few_units: dict[str, float], files: int, tasks: int
) -> tuple[dict[str, FolderRate], dict[str, float]]:
    """How the folders of a run grow, by the line through two runs; files written per input file and per task."""
    sizes, counts = written(warm)
    few_sizes, _ = written(few)
    rates = {}
    for folder, unit in GROWS.items():
        if folder in _SOME and folder not in sizes:
            continue
        size, less = sizes.get(folder, 0.0), few_sizes.get(folder, 0.0)
        per_unit = max(0.0, (size - less) / max(units[unit] - few_units[unit], 1.0))
        rates[folder] = FolderRate(unit, per_unit, max(0.0, size - per_unit * units[unit]) / max(files, 1))
    by_file = sum(counts.get(f, 0) for f in ("extracted", "signals", "signatures", "cuts", "decisions", "quarantine"))
    rest = sum(counts.values()) - by_file
    return rates, {"file": by_file / max(files, 1), "task": rest / max(tasks, 1)}


def written(paths: RunPaths) -> tuple[dict[str, float], dict[str, int]]:
    """Bytes and files by folder of a run."""
    sizes: dict[str, float] = {}
    counts: dict[str, int] = {}
    for path in paths.root.rglob("*"):
        if path.is_file():
            folder, *below = path.relative_to(paths.root).parts
            if folder == "dedupe" and below[0].startswith("passage"):
                folder = PASSAGES
            sizes[folder] = sizes.get(folder, 0.0) + path.stat().st_size
            counts[folder] = counts.get(folder, 0) + 1
    return sizes, counts

"""What a report shows of a run: its stored statistics, its recipe and its times; no table of documents is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ....pipeline.engine.records import task_times
from ....pipeline.inspect.overview import overview
from ....pipeline.run.artifacts import merge_counts
from ....pipeline.run.manifest import read_manifest
from ....pipeline.run.paths import RunPaths
from ....pipeline.run.schemas import STAGES
from ....pipeline.sources.domains import DOMAINS, domain_of
from ....pipeline.stats.outcomes import KEPT, NAMES
from ....pipeline.stats.stored import read_stats
from ....recipes.load import stored_mapping
from ....storage.reading import as_written, read_bounded
from ....storage.store import shown
from ....storage.wording import first_line, printable

RECIPE_BYTES = 16 << 20
RECIPE_SHOWN = 200_000
"""Characters of a recipe that a report holds."""

Counts = dict[str, int]
"""`kept`, `unreadable` or the reason of a decision -> documents."""


@dataclass(frozen=True)
class StageTime:
    """What a stage took, over all its tasks."""

    name: str
    tasks: int
    cpu_seconds: float
    wall_seconds: float
    """From the first task's begin to the last one's end."""
    peak_bytes: int
    bytes_per_second: float
    """Raw text over CPU seconds; 0 where that measures nothing."""
    retried: int


@dataclass
class RunFacts:
    """One run, ready to be shown."""

    paths: RunPaths
    name: str
    key: str
    """Begins the ids of what the page shows of the run."""
    stats: Mapping[str, Any]
    overview: Mapping[str, Any]
    recipe: str
    """YAML."""
    settings: Mapping[str, Any]
    """The recipe's keys; empty where it cannot be read."""
    stages: Sequence[StageTime]
    kinds: Mapping[str, tuple[str, str]]
    """Corpus -> (format of its files, the domain that the recipe gives it)."""

    @property
    def rows(self) -> int:
        return int(self.overview["rows"])

    @property
    def corpora(self) -> list[Mapping[str, Any]]:
        """Of `stats/funnel.json`."""
        found: list[Mapping[str, Any]] = self.stats["funnel"]["corpora"]
        return found

    @property
    def phases(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self.stats["mixture"]["phases"]
        return found

    @property
    def examples(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = self.stats["examples"]["reasons"]
        return found

    @cached_property
    def by_corpus(self) -> dict[str, Counts]:
        return {c["corpus"]: {**c["dropped"], KEPT: c["kept"]} for c in self.corpora}

    @cached_property
    def unreadable(self) -> Counts:
        """By corpus."""
        return {c["corpus"]: c["quarantined"] for c in self.corpora}

    @cached_property
    def by_subset(self) -> dict[str, Counts]:
        """By `corpus/subset`."""
        return {
            f"{c['corpus']}/{subset}": {**counts["dropped"], KEPT: counts["kept"]}
            for c in self.corpora
            for subset, counts in c["subsets"].items()
        }

    @cached_property
    def by_domain(self) -> dict[str, Counts]:
        found: dict[str, Counts] = {}
        for name, counts in self.by_subset.items():
            corpus, _, subset = name.partition("/")
            format, domain = self.kinds.get(corpus, ("", ""))
            merge_counts(found.setdefault(domain_of(format, subset, domain), {}), counts)
        return {d: found[d] for d in (*(d for d in DOMAINS if d in found), *sorted(found.keys() - {*DOMAINS}))}

    @cached_property
    def by_language(self) -> dict[str, Counts]:
        """With reasons only where the run has counted them, which those of earlier versions have not."""
        stored: dict[str, Counts] = self.stats.get("distributions", {}).get("languages", {})
        plain = {
            one["name"]: {KEPT: one["kept"], "dropped": one["rows"] - one["kept"]} for one in self.overview["languages"]
        }
        return {name: stored.get(name, counts) for name, counts in plain.items() if sum(counts.values())}

    @cached_property
    def dropped(self) -> Counts:
        """Reason -> documents of all corpora."""
        sums: Counts = {}
        for corpus in self.corpora:
            merge_counts(sums, corpus["dropped"])
        return sums

    @cached_property
    def reasons(self) -> list[str]:
        """Rules that any document fails, and other reasons of which any is dropped, those that drop most first."""
        failed = self.stats["filter"]["failed"]
        names = {*self.dropped, *(rule for rule, n in failed.items() if n and rule not in NAMES)}
        return sorted(names, key=lambda name: (-self.dropped.get(name, 0), -failed.get(name, 0), name))


def read_facts(run: Path, key: str = "") -> RunFacts:
    """Read a finished run.

    Raises:
        ValueError: it is not finished.
    """
    stats, paths = read_stats(run), RunPaths(run)
    said = overview(paths, stats)
    with as_written(f"{shown(run)}/stats", "curate the run again", ValueError):
        kinds = {f["corpus"]: (f["format"], f.get("domain", "")) for f in read_manifest(paths)["files"]}
        times = _stage_times(task_times(paths), said["bytes"])
        return RunFacts(
            paths, run.resolve().name, key, stats, said, _recipe(paths.recipe), _settings(paths), times, kinds
        )


def _recipe(path: Path) -> str:
    """The text of a run's recipe; empty where there is none."""
    try:
        return read_bounded(path, RECIPE_BYTES).decode()
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise ValueError(f"{shown(path)} is damaged ({printable(first_line(error))}); curate the run again") from None


def _settings(paths: RunPaths) -> Mapping[str, Any]:
    try:
        return stored_mapping(paths.recipe)
    except ValueError:
        return {}


def _stage_times(times: Sequence[Mapping[str, Any]], raw_bytes: int) -> list[StageTime]:
    """Sums over `timings/tasks.jsonl`; of a task that ran several times, its last run."""
    last = {(entry["stage"], entry["task"]): entry for entry in times}
    found = []
    for stage in STAGES:
        entries = [e for e in last.values() if e["part"] == stage and not e["error"]]
        if not entries:
            continue
        cpu = sum(e["seconds"] for e in entries)
        wall = max(e["ended"] for e in entries) - min(e["ended"] - e["seconds"] for e in entries)
        speed = raw_bytes / cpu if cpu and stage not in ("prepare", "stats") else 0.0
        peak = max(e["peak_bytes"] for e in entries)
        found.append(StageTime(stage, len(entries), cpu, wall, peak, speed, sum(e["attempt"] > 1 for e in entries)))
    return found

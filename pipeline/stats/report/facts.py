"""What a report shows of a run, from its stored statistics alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ....storage.fields import share
from ....storage.reading import as_written, read_bounded
from ....storage.store import shown
from ....storage.wording import first_line, printable
from ...dedupe.order import DUPLICATES, DedupeSettings
from ...engine.records import task_times
from ...run.artifacts import STAGES, RunPaths
from ...sources.domains import DOMAINS
from ..outcomes import KEPT, NAMES, KeptDocuments, kept_documents, outcomes
from ..stored import read_stats

RECIPE_BYTES = 16 << 20
MOST_VALUES = 100_000
"""Of a recipe, with its aliases written out."""


@dataclass(frozen=True)
class Link:
    """A flow of documents between two nodes of the funnel."""

    source: str
    target: str
    value: int


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

    name: str
    recipe: str
    """YAML."""
    stats: dict[str, Any]
    rows: int
    kept: int
    raw_bytes: int
    duplicates: int
    survivor_tokens: int
    trained_tokens: int
    links: list[Link]
    again: int
    """How often a phase uses a document that an earlier one uses as well: so much more leaves `kept` than is in it."""
    phases: list[dict[str, Any]]
    domains: list[str]
    """Those that occur, in the order of the table."""
    corpora: list[str]
    rules: list[tuple[str, int, int, int]]
    """(rule, documents that it drops, that fail it, that fail only it), the most frequent first."""
    languages: list[tuple[str, dict[str, int]]]
    stages: list[StageTime]
    overlaps: dict[str, list[list[int]]] = field(default_factory=dict)
    """Kind -> documents of the row's corpus shared with the column's."""

    @property
    def examples(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = self.stats["examples"]["reasons"]
        return found


def read_facts(run: Path) -> RunFacts:
    """Read a finished run.

    Raises:
        ValueError: it is not finished.
    """
    stats, paths = read_stats(run), RunPaths(run)
    recipe, times = _read_recipe(paths.recipe), task_times(paths)
    with as_written(f"{shown(run)}/stats", "curate the run again", ValueError):
        return _facts_of(run.resolve().name, stats, recipe, times)


def _facts_of(name: str, stats: dict[str, Any], recipe: str, times: Sequence[dict[str, Any]]) -> RunFacts:
    corpora = stats["funnel"]["corpora"]
    phases = stats["mixture"]["phases"]
    dropped: dict[str, int] = {}
    for corpus in corpora:
        for reason, n in corpus["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + n
    failed, alone = stats["filter"]["failed"], stats["filter"]["alone"]
    rules = [(r, n, failed.get(r, n), alone.get(r, 0)) for r, n in dropped.items() if r not in NAMES]
    domains = {c["domain"] for p in phases for c in p["cells"]} | {c["domain"] for c in stats["mixture"]["unused"]}
    raw_bytes = sum(c["bytes"] for c in corpora)
    found = kept_documents(corpora, stats["mixture"], stats["tokens"]["tokens"])
    return RunFacts(
        name=name,
        recipe=recipe,
        stats=stats,
        rows=sum(c["rows"] for c in corpora),
        kept=sum(c["kept"] for c in corpora),
        raw_bytes=raw_bytes,
        duplicates=sum(dropped.get(r, 0) for r in DUPLICATES),
        survivor_tokens=stats["tokens"]["tokens"],
        trained_tokens=sum(p["tokens"] for p in phases),
        links=_links(corpora, found),
        again=found.again,
        phases=phases,
        domains=[*(d for d in DOMAINS if d in domains), *sorted(domains - {*DOMAINS})],
        corpora=[c["corpus"] for c in corpora],
        rules=sorted(rules, key=lambda r: (-r[1], r[0])),
        languages=_languages(stats["languages"]["languages"]),
        stages=_stage_times(times, raw_bytes),
        overlaps={kind: _matrix(stats["overlap"], kind) for kind in ("all", "kept", "near")},
    )


def _links(corpora: Sequence[dict[str, Any]], found: KeptDocuments) -> list[Link]:
    """Corpora to outcomes, what is kept to phases. A document that several phases use counts for each: see `RunFacts.again`."""
    links = [Link(c["corpus"], name, n) for c in corpora for name, n in outcomes(c).items()]
    links += [Link(KEPT, phase, used) for phase, used in found.phases.items()]
    links += [Link(KEPT, "not needed", found.unused), Link(KEPT, "validation", found.held_out)]
    return [link for link in links if link.value]


def _languages(languages: dict[str, dict[str, int]]) -> list[tuple[str, dict[str, int]]]:
    return sorted(languages.items(), key=lambda item: (-item[1].get("rows", 0), item[0]))


def _matrix(overlap: dict[str, Any], kind: str) -> list[list[int]]:
    n = len(overlap["corpora"])
    rows = [[0] * n for _ in range(n)]
    for a, b, documents, _ in overlap[f"{kind}_corpora"]:
        rows[a][b] = documents
    return rows


def _stage_times(times: Sequence[dict[str, Any]], raw_bytes: int) -> list[StageTime]:
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


@dataclass(frozen=True)
class Differences:
    """Two runs compared."""

    figures: list[tuple[str, float, float]]
    mixture: list[tuple[str, str, float, float]]
    """(phase, domain, share of the phase's tokens in each run)."""
    settings: list[tuple[str, str, str]]
    """Keys of the recipe that differ."""
    warnings: list[str]
    """What keeps the runs from being compared, a sentence each."""


def differences(runs: Sequence[RunFacts]) -> Differences:
    """What differs between two runs."""
    a, b = runs
    names = {
        "rows": "documents in",
        "kept": "documents kept",
        "duplicates": "duplicates dropped",
        "survivor_tokens": "tokens of what is kept",
        "trained_tokens": "tokens trained on",
        "raw_bytes": "bytes of text",
    }
    shares = [shares_of(run) for run in runs]
    keys = sorted({*shares[0], *shares[1]})
    flat = [_flat_recipe(run) for run in runs]
    return Differences(
        [(label, getattr(a, name), getattr(b, name)) for name, label in names.items()],
        [(p, d, shares[0].get((p, d), 0.0), shares[1].get((p, d), 0.0)) for p, d in keys],
        [
            (key, flat[0].get(key, "-"), flat[1].get(key, "-"))
            for key in sorted({*flat[0], *flat[1]})
            if flat[0].get(key) != flat[1].get(key)
        ],
        _other_thresholds(runs, flat),
    )


def _other_thresholds(runs: Sequence[RunFacts], flat: Sequence[dict[str, str]]) -> list[str]:
    """A sentence for each threshold of near-dedupe that two runs do not share, whether their recipes write it or not."""
    found = []
    for run, recipe in zip(runs, flat, strict=True):
        try:
            jaccard, held_out = (
                share(json.loads(recipe[key])) if (key := f"dedupe.{name}") in recipe else getattr(DedupeSettings, name)
                for name in ("jaccard", "held_out_jaccard")
            )
        except ValueError as error:
            raise ValueError(
                f"the recipe.yaml of {run.name} cannot be compared (dedupe: {error}); curate the run again"
            ) from None
        found.append(DedupeSettings(jaccard=jaccard, held_out_jaccard=held_out))
    a, b = found
    warnings = []
    if a.jaccard != b.jaccard:
        warnings.append(
            f"Other near duplicates: from a similarity of {a.jaccard:g} in {runs[0].name}, of {b.jaccard:g} in "
            f"{runs[1].name} (dedupe.jaccard). What is kept differs by more than what else was changed."
        )
    if a.of_held_out != b.of_held_out:
        warnings.append(
            f"Other copies of held-out documents: from a similarity of {a.of_held_out:g} in {runs[0].name}, of "
            f"{b.of_held_out:g} in {runs[1].name} (the lower of dedupe.jaccard and dedupe.held_out_jaccard). Losses on "
            "held-out documents cannot be compared: one run trains on nearer copies of them."
        )
    return warnings


def shares_of(run: RunFacts, by: str = "domain") -> dict[tuple[str, str], float]:
    """(phase, domain or corpus) -> share of the phase's tokens."""
    found: dict[tuple[str, str], float] = {}
    for phase in run.phases:
        for cell in phase["cells"]:
            key = (phase["name"], cell[by])
            found[key] = found.get(key, 0.0) + cell["tokens"] / max(phase["tokens"], 1)
    return found


def _read_recipe(path: Path) -> str:
    """The text of a run's recipe; empty where there is none."""
    try:
        return read_bounded(path, RECIPE_BYTES).decode()
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise ValueError(f"{shown(path)} is damaged ({printable(first_line(error))}); curate the run again") from None


def _flat_recipe(run: RunFacts) -> dict[str, str]:
    """Key -> value of a run's recipe, as JSON; keys of keys with dots between."""
    import yaml

    try:
        value = yaml.safe_load(run.recipe) or {}
        # A few aliases may stand for a billion values, or for one that holds itself.
        if next(islice(_values(value), MOST_VALUES, None), None) is not None:
            raise ValueError("it stands for too many values")
        return _flat(value)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        said = printable(first_line(error))
        raise ValueError(f"the recipe.yaml of {run.name} cannot be compared ({said}); curate the run again") from None


def _values(value: Any) -> Iterator[int]:
    """A number for each value within a value, itself included."""
    yield 1
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(part)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}{name}.").items()}
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return {k: v for i, part in enumerate(value) for k, v in _flat(part, f"{prefix}{i}.").items()}
    return {prefix.rstrip("."): json.dumps(value, ensure_ascii=False)}

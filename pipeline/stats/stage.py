"""The stats stage: `stats/*.json`, from what the stages left. No text is read but that of a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...tokenize.shards import read_set
from ..dedupe.stage import Decided
from ..engine.engine import Engine
from ..engine.lines import Line
from ..engine.records import artifacts_in, figures_of
from ..engine.tasks import MOST_BESIDE, MOST_EQUAL, Task, portions
from ..extract.extract import steps_by_corpus
from ..extract.stage import Extracted
from ..filter.stage import Filtered
from ..mix.steps import Mixed
from ..prepare.contamination import PreparedContamination
from ..prepare.stage import Prepared
from ..run.artifacts import Artifact, content_key, merge_counts, write_json
from ..run.identity import Group
from ..run.paths import RunPaths
from ..text.survivors import DecidedFile
from ..tokens.shards import EncodedDocuments
from ..tokens.stage import Tokenized
from .benchmark_items import report_contamination
from .distributions import count_distributions
from .examples import FileExamples, examples_json, gather_examples, pick_files
from .languages import count_languages, languages_json
from .ledger import CorpusFunnel, funnel_json

VERSION = 6
OPENING = 8 << 20
"""Bytes of signals of which a task goes through a few columns in the time that another file of a store takes, of which it also asks
the index."""


@dataclass(frozen=True)
class Reported:
    """The statistics of a run."""

    values: Mapping[str, Any]
    """What `stats/<name>.json` holds, by name."""


@dataclass(frozen=True)
class Finished:
    """What the stages before left."""

    groups: Sequence[Group]
    files: Mapping[str, DecidedFile]
    """By `SourceFile.table`."""
    extracted: Extracted
    prepared: Prepared
    filtered: Filtered
    decided: Decided
    tokenized: Tokenized
    mixed: Mixed
    scan_funnels: Sequence[CorpusFunnel]
    """Training and held-out parts apart."""
    funnels: Sequence[CorpusFunnel]
    """By corpus, as decided."""
    given: Sequence[Group] = ()
    """Those of documents that came as token ids, of which only the tokens and the mixture know."""


@dataclass(frozen=True)
class Beside:
    """What is made of the decisions beside the stages that follow them."""

    counts: Sequence[Line[None]]
    examples: Line[list[FileExamples]]


def begin_beside(
    engine: Engine,
    groups: Sequence[Group],
    files: Mapping[str, DecidedFile],
    contamination: PreparedContamination | None,
) -> Beside:
    """Begin to count what is decided, and to gather examples of it, beside what follows: neither waits for the other.

    Args:
        files: by `SourceFile.table`.
    """
    together = _together(groups, files, MOST_BESIDE)
    lines = [engine.beside(lambda: count_distributions(engine, VERSION, together, files))]
    if contamination:
        items = contamination.items
        lines.append(engine.beside(lambda: report_contamination(engine, VERSION, together, files, items)))
    return Beside(lines, engine.beside(lambda: _gather_examples(engine, files, contamination)))


def report(engine: Engine, run: Finished, settings: str, phases: Sequence[str], beside: Beside) -> Reported:
    """Write all statistics of a run.

    Args:
        settings: a hash of what was asked for.
        phases: their names.
        beside: what `begin_beside` began.

    Raises:
        ValueError: an account does not balance.
    """
    single = (f.name for f in fields(run.prepared) if f.name != "classifiers")
    prepared = {name: made for name in single if (made := getattr(run.prepared, name))}
    scores = {c.name: {"source": c.source, "labels": list(c.labels)} for c in run.prepared.classifiers}
    scores |= run.filtered.scores.figures
    tokens = SubsetTotals.of(run)
    values = {
        "funnel": {
            **funnel_json(run.funnels, tokens.training),
            "held_out_rows": {f.corpus: f.rows for f in run.scan_funnels if f.held_out},
            **({"before_scan": steps_by_corpus(run.extracted.figures)} if run.extracted.figures else {}),
        },
        "filter": asdict(run.filtered.rules),
        "prepared": {
            **{name: figures_of(made) for name, made in prepared.items()},
            **({"scores": scores} if scores else {}),
        },
        "overlap": run.decided.overlap,
        "dedupe": run.decided.figures,
        "mixture": run.mixed.mixture,
        "tokens": {
            **_encoded(run.tokenized),
            **{name: getattr(run.prepared.tokenizer, name) for name in ("vocab_size", "pad", "eos", "bos")},
            "subsets": {name: {"tokens": n, "bytes": tokens.bytes[name]} for name, n in sorted(tokens.tokens.items())},
        },
        "languages": _languages(engine, run),
        "examples": examples_json(beside.examples.result(), engine.paths),
        "settings": _identities(engine.paths, run, settings, phases),
        **({"exclude": run.filtered.exclude} if run.filtered.exclude else {}),
    }
    engine.run(
        "stats",
        VERSION,
        [Task(name, write_value, (name, value, engine.paths.stats(name))) for name, value in values.items()],
    )
    for line in beside.counts:
        line.result()
    return Reported(values)


@dataclass(frozen=True)
class StatsFile:
    """`stats/<name>.json`."""

    file: Artifact


def write_value(name: str, value: dict[str, Any], path: Path) -> StatsFile:
    """Write one of the statistics."""
    return StatsFile(write_json(path, value))


@dataclass(frozen=True)
class SubsetTotals:
    """Survivors by `corpus/subset`."""

    tokens: dict[str, int]
    bytes: dict[str, int]
    """Of the edited text."""
    training: dict[str, int]
    """Tokens without those of held-out groups."""

    @classmethod
    def of(cls, run: Finished) -> SubsetTotals:
        totals = cls({}, {}, {})
        for group in (*run.groups, *run.given):
            for shard in run.tokenized.groups[group.name].shards:
                name = f"{group.corpus}/{shard.subset}"
                merge_counts(totals.tokens, {name: shard.tokens})
                merge_counts(totals.bytes, {name: shard.bytes})
                if not group.held_out:
                    merge_counts(totals.training, {name: shard.tokens})
        return totals


def _encoded(tokenized: Tokenized) -> dict[str, int]:
    totals = asdict(EncodedDocuments())
    for group in tokenized.groups.values():
        merge_counts(totals, asdict(group.encoded))
    return totals


def _together(groups: Sequence[Group], files: Mapping[str, DecidedFile], most: int) -> list[list[Group]]:
    """Groups whose stored signals a task reads together: of each it needs a little."""
    sizes = {g.name: sum(files[f.table].signals.bytes for f in g.files) for g in groups}

    def work(group: Group) -> int:
        return sizes[group.name] + OPENING * len(group.files)

    return portions(groups, lambda group: sizes[group.name], sum(sizes.values()), most, work=work)


def _languages(engine: Engine, run: Finished) -> dict[str, Any]:
    tasks = [
        Task(groups[0].name, count_languages, ([run.files[f.table] for g in groups for f in g.files], run.mixed.index))
        for groups in _together(run.groups, run.files, MOST_EQUAL)
    ]
    given = {group.corpus for group in run.given}
    return languages_json(engine.run("stats.languages", VERSION, tasks), run.mixed.mixture["phases"], given)


def _gather_examples(
    engine: Engine, files: Mapping[str, DecidedFile], index: PreparedContamination | None
) -> list[FileExamples]:
    tasks = []
    benchmarks = (index.index, index.passages, index.pairs) if index else ()
    training = [f.source for f in files.values() if not f.source.held_out]
    for corpus in sorted({f.corpus for f in training}):
        for file in pick_files([f for f in training if f.corpus == corpus]):
            tasks.append(Task(file.name, gather_examples, (files[file.table], benchmarks)))
    return engine.run("stats.examples", VERSION, tasks)


def _identities(paths: RunPaths, run: Finished, settings: str, phases: Sequence[str]) -> dict[str, Any]:
    """What the run's bytes depend on and what they are, as hashes."""
    files = [file for _, file in sorted(run.files.items())]
    inputs = {f.source.name: f.source.size for f in files} | {f.name: f.size for g in run.given for f in g.files}
    p = run.prepared
    stages = {
        "prepare": [
            next(artifacts_in(made)).hash
            for made in (p.tokenizer, p.quality, p.contamination, p.urls, p.exclude, *p.classifiers)
            if made
        ],
        "scan": [f.signals.hash for f in files],
        "dedupe": [a.hash for a in sorted((f.decisions for f in files), key=lambda a: a.path)],
        "tokenize": [s.shard.hash for g in (*run.groups, *run.given) for s in run.tokenized.groups[g.name].shards],
    }
    return {
        "settings": settings,
        "files": len(inputs),
        "inputs": content_key([[name, size] for name, size in inputs.items()]),
        "tokenizer": run.prepared.tokenizer.model.hash,
        "stages": {name: content_key(hashes) for name, hashes in stages.items()},
        "phases": {name: read_set(paths.phase(name)).data_identity for name in phases},
    }

"""Filter: thresholds over `signals/` -> kept, or the first rule that failed and all that did. No text is read.

Rules are thresholds by section: `all` documents, those of a domain, of a language, of a language in a domain, of a subset;
where several sections set the same threshold the narrowest counts, which is the last of these. A threshold's key
(`min_words`) is its reason, and the order of the recipe is the order of reasons. Before them come what is not a question of
quality: documents taken out on request, the licence policy, what a step of `before_scan` dropped, the block list of URLs,
benchmark items, and the verdicts of plug-ins.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..run.artifacts import Artifact, parquet_writer
from ..run.columns import each_open, open_columns
from ..run.identity import Group
from ..run.paths import RunPaths
from ..signals.ratios import SIGNAL_COUNTS, SIGNALS
from ..signals.scores import ScoreSettings, is_score, value_of
from ..sources.extracted import DROPPED_BY, DROPPED_WHY
from .exclude import EXCLUDED, load_excluded
from .rules import RuleCounts
from .scores import expected

ALL = "all"
LANGUAGES = "languages"

FILTERED_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.field("reason", pa.string(), nullable=False)), nullable=False),
    ]
)
"""One row per document of a group, in file and row order; `reason` is empty where it is kept."""

Threshold = float | tuple[str, ...] | None
"""A bound, or the languages that are kept; None lifts the threshold of a wider section."""


@dataclass(frozen=True)
class Section:
    """Thresholds of some documents."""

    where: str
    """`all`, a domain, or `corpus/subset`."""
    thresholds: tuple[tuple[str, Threshold], ...]
    """(`min_<signal>`, `max_<signal>` or `languages`, threshold), in order."""
    language: str = ""
    """Only documents in this language, by its code; empty: in any."""

    @property
    def width(self) -> int:
        """Sections that are narrower have more."""
        if "/" in self.where:
            return 4
        return (self.where != ALL) + 2 * (self.language != "")


def signal_of(key: str) -> str:
    """The signal that a threshold's key bounds; empty if it is none."""
    kind, _, signal = key.partition("_")
    return signal if kind in ("min", "max") and (signal in SIGNALS or is_score(signal)) else ""


@dataclass(frozen=True)
class Exclusion:
    """A subset that may not be used."""

    corpus: str
    """Its corpus."""
    subset: str
    """Its name, as its corpus writes it."""
    why: str = ""
    """Why it may not be used."""

    def identity(self) -> str:
        """What the filter acts on: not why."""
        return f"{self.corpus}/{self.subset}"


@dataclass(frozen=True)
class FilterSettings:
    """What drops documents, by the stored signals."""

    sections: tuple[Section, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    """The licence policy: these subsets are dropped with the reason `licence`."""
    drop_contaminated: bool = False
    """Drop documents that hold an item of a benchmark, with the reason `contaminated`."""
    plugins: tuple[str, ...] = ()
    """Plug-ins whose verdicts drop documents, each with its name as the reason."""
    scores: tuple[ScoreSettings, ...] = ()
    """Scores of others that rules bound."""
    steps: tuple[str, ...] = ()
    """Steps of `before_scan` that may have dropped documents, each with its name as the reason, in their order."""

    @property
    def columns(self) -> list[str]:
        """The columns of `signals/` that judging reads."""
        plugins = [f"plugin_{name}" for name in self.plugins]
        scores = [s.column for s in self.scores]
        said = [DROPPED_BY, DROPPED_WHY] if self.steps else []
        return ["doc_id", "row", "subset", "domain", "language", *SIGNAL_COUNTS, *plugins, *scores, *said]


@dataclass(frozen=True)
class Verdict:
    """How many documents of a subset have one verdict."""

    corpus: str
    subset: str
    reason: str
    """The first rule that they fail; empty: they are kept."""
    documents: int


class Verdicts(Counter[tuple[str, str, str]]):
    """Documents by (corpus, subset, reason)."""

    def listed(self) -> tuple[Verdict, ...]:
        """The same as a task returns it."""
        return tuple(Verdict(*key, documents) for key, documents in self.items())

    def include(self, verdicts: Iterable[Verdict]) -> None:
        for v in verdicts:
            self[v.corpus, v.subset, v.reason] += v.documents


@dataclass(frozen=True)
class FilteredGroup:
    """What the filter says of a group."""

    filtered: Artifact
    """`FILTERED_SCHEMA`."""
    verdicts: tuple[Verdict, ...]
    entries: tuple[int, ...]
    """Places of the exclude list's entries that name a document."""


@dataclass(frozen=True)
class FilteredGroups:
    """What the filter says of some groups."""

    groups: tuple[FilteredGroup, ...]
    rules: Artifact
    """`RuleCounts` of all of them as JSON."""


def filter_groups(
    groups: Sequence[Group],
    signals: Sequence[Sequence[Artifact]],
    scores: Sequence[Sequence[Artifact | None]],
    settings: FilterSettings,
    exclude: Artifact | None,
    paths: RunPaths,
) -> FilteredGroups:
    """Judge every document of some groups into ``filtered/``.

    Args:
        signals: by group, of each of its files.
        scores: what stands beside them; None: nothing does.
        exclude: the prepared exclude list.
    """
    rules = RuleCounts()
    columns = list(dict.fromkeys([*settings.columns, *load_excluded(exclude).columns]))
    files = [
        [[scanned.file, *([beside.file] if beside else [])]]
        for own, others in zip(signals, scores, strict=True)
        for scanned, beside in zip(own, others, strict=True)
    ]
    with closing(each_open(files, [columns])) as opened:
        batches = (file.batches(columns) for (file,) in opened)
        found = [
            _filter(g, itertools.islice(batches, len(own)), settings, exclude, rules, paths)
            for g, own in zip(groups, signals, strict=True)
        ]
    return FilteredGroups(tuple(found), rules.write(paths.counts(f"rules/{groups[0].name}.json")))


def _filter(
    group: Group,
    files: Iterable[Iterator[pa.RecordBatch]],
    settings: FilterSettings,
    exclude: Artifact | None,
    rules: RuleCounts,
    paths: RunPaths,
) -> FilteredGroup:
    """One group, of which each file gives its batches; its documents are added to the counts of the rules."""
    taken_out = load_excluded(exclude)
    entries: set[int] = set()
    verdicts = Verdicts()
    with parquet_writer(paths.filtered(group.name), FILTERED_SCHEMA) as out:
        for batch in itertools.chain.from_iterable(files):
            named, by = taken_out.match(batch)
            entries.update(by.tolist())
            failed = [
                *([(EXCLUDED, named)] if exclude else []),
                *judge(batch, group.corpus, settings, group.held_out),
            ]
            first, reasons = _reasons(failed)
            tally = pa.table({"subset": batch.column("subset"), "reason": first})
            for row in tally.group_by(["subset", "reason"]).aggregate([([], "count_all")]).to_pylist():
                verdicts[group.corpus, row["subset"], row["reason"]] += row["count_all"]
            rules.add(failed)
            out.write(pa.RecordBatch.from_arrays([batch.column("doc_id"), first, reasons], schema=FILTERED_SCHEMA))
    return FilteredGroup(out.artifact, verdicts.listed(), tuple(sorted(entries)))


def judge(
    batch: pa.RecordBatch, corpus: str, settings: FilterSettings, held_out: bool = False
) -> list[tuple[str, np.ndarray]]:
    """(reason, bool [n]: whether the document fails) for every rule of the recipe, in order."""
    subset = batch.column("subset").to_numpy(zero_copy_only=False)
    domain = batch.column("domain").to_numpy(zero_copy_only=False)
    language = batch.column("language").to_numpy(zero_copy_only=False)
    columns = {name: batch.column(name).to_numpy() for name in SIGNAL_COUNTS}
    columns |= {s.column: batch.column(s.column).to_numpy(zero_copy_only=False) for s in settings.scores}
    # Comparisons with NaN are false: without a score a document passes, unless the recipe says otherwise.
    lacking = {
        s.column: np.isnan(columns[s.column]) & expected(s, batch, corpus, held_out)
        for s in settings.scores
        if s.missing != "keep"
    }
    excluded = [e.subset for e in settings.excluded if e.corpus == corpus]
    failed = [("licence", np.isin(subset, excluded))]
    before = len(failed) + len(settings.steps)
    if settings.steps:
        dropped_by = batch.column(DROPPED_BY).to_numpy(zero_copy_only=False)
        failed += [(name, dropped_by == name) for name in settings.steps]
    failed.append(("url", columns["url_blocked"] > 0))
    if settings.drop_contaminated:
        failed.append(("contaminated", columns["contaminated"] > 0))
    for name in settings.plugins:
        failed.append((name, batch.column(f"plugin_{name}").to_numpy(zero_copy_only=False) != ""))
    # Sections from wide to narrow, each with the documents it is for, as far as there are any.
    sections = []
    for section in sorted(settings.sections, key=lambda s: s.width):
        members = _members(section, corpus, subset, domain, language)
        if members.any():
            sections.append((dict(section.thresholds), members))
    for key in dict.fromkeys(key for s in settings.sections for key, _ in s.thresholds):
        bad = np.zeros(batch.num_rows, np.bool_)
        named = [(thresholds[key], members) for thresholds, members in sections if key in thresholds]
        value = None if key == LANGUAGES or not named else value_of(signal_of(key), columns, SIGNALS)
        for threshold, members in named:
            if threshold is None:
                fails = np.zeros(batch.num_rows, np.bool_)
            elif value is None:
                assert isinstance(threshold, tuple)
                fails = np.isin(language, threshold, invert=True)
            else:
                fails = value < threshold if key.startswith("min_") else value > threshold
                if (lacks := lacking.get(signal_of(key))) is not None:
                    fails = fails | lacks
            bad = np.where(members, fails, bad)
        failed.append((key, bad))
    if settings.steps:
        # What a step dropped may be no text yet: no other rule says anything of it.
        failed[before:] = [(name, bad & (dropped_by == "")) for name, bad in failed[before:]]
    return failed


def threshold_of(settings: FilterSettings, corpus: str, subset: str, domain: str, language: str, key: str) -> Threshold:
    """The threshold of a document for a key: that of the narrowest section that sets it; None where there is none."""
    found: Threshold = None
    for section in sorted(settings.sections, key=lambda s: s.width):
        if section.where in (ALL, domain, f"{corpus}/{subset}") and section.language in ("", language):
            found = next((value for name, value in section.thresholds if name == key), found)
    return found


def _members(section: Section, corpus: str, subset: np.ndarray, domain: np.ndarray, language: np.ndarray) -> np.ndarray:
    if "/" in section.where:
        its_corpus, _, its_subset = section.where.partition("/")
        members = (subset == its_subset) & (corpus == its_corpus)
    elif section.where == ALL:
        members = np.ones(len(subset), np.bool_)
    else:
        members = domain == section.where
    return members & (language == section.language) if section.language else members


def _reasons(failed: list[tuple[str, np.ndarray]]) -> tuple[pa.StringArray, pa.ListArray]:
    """(first reason or empty, all reasons) of every document."""
    hits = np.stack([hit for _, hit in failed], axis=1)
    names = pa.array(["", *(name for name, _ in failed)], pa.string())
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    offsets = np.append(0, np.cumsum(hits.sum(axis=1))).astype(np.int32)
    every = names.take(pa.array(np.nonzero(hits)[1] + 1))
    type_ = FILTERED_SCHEMA.field("reasons").type
    return names.take(pa.array(first)), pa.ListArray.from_arrays(pa.array(offsets), every, type=type_)


def signal_batches(path: Path, columns: list[str], beside: Sequence[Path] = ()) -> Iterator[pa.RecordBatch]:
    """Row groups of a Parquet file of ours, with some of its columns; empty ones are left out.

    Args:
        beside: files with further columns of the same rows, see `run.columns.Beside`.
    """
    with open_columns(path, beside=beside) as file:
        yield from file.batches(columns)

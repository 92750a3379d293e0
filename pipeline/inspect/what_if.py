"""What would another filter change? Judges the stored signals twice, as the run does and with other thresholds or lists.

No stage is run and nothing is written; only the examples' texts are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..filter.exclude import EXCLUDED, Excluded, excluded_of
from ..filter.judge import FilterSettings, judge, signal_batches
from ..filter.reasons import value_behind
from ..run.artifacts import merge_counts
from ..run.identity import Group, SourceFile
from ..run.paths import RunPaths
from ..text.excerpts import beginning, edited_text
from .run import by_id


@dataclass(frozen=True)
class VerdictChange:
    """A document whose verdict would change."""

    name: str
    """corpus/file#row"""
    reason: str
    """The reason it would be dropped for, or that it would no longer be dropped for."""
    value: str
    """The signal behind the reason, where there is one."""
    text: str
    """The beginning of its edited text."""


Found = dict[bool, list[tuple[SourceFile, int, str, str]]]
"""By whether they would be dropped: documents as (file, row, reason, the value behind it)."""


@dataclass
class WhatIf:
    """What would change."""

    documents: int = 0
    kept: int = 0
    """Documents that the run's filter keeps."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> documents that would be dropped for it and are kept now."""
    restored: dict[str, int] = field(default_factory=dict)
    """Reason -> documents dropped for it now that would be kept."""
    by_subset: dict[str, tuple[int, int]] = field(default_factory=dict)
    """corpus/subset -> (dropped, restored)."""
    bytes: int = 0
    """Bytes of edited text: restored less dropped."""
    decided: bool = False
    """The final decisions were compared, after dedupe, and not the verdicts of the filters."""
    before_passages: bool = False
    """They are those on whole documents: passages are cut after them, which takes text (`dedupe.passages`)."""
    groups: int = 0
    changed_groups: int = 0
    """Groups of files with a document whose verdict changes: a real change would tokenize these again."""
    examples: list[VerdictChange] = field(default_factory=list)


def what_if(
    groups: Sequence[Group],
    paths: RunPaths,
    now: FilterSettings,
    then: FilterSettings,
    sources: Callable[[str], Sequence[SourceFile]],
    examples: int = 5,
    taken_out: Excluded | None = None,
) -> WhatIf:
    """Compare two filters on a run's signals.

    Args:
        taken_out: what other exclude lists would take out; None: those of the run stay.
        sources: lists the files of a corpus where they lie; called where an example's text is read.
        examples: how many dropped and how many restored documents to show, spread over the files.

    Raises:
        ValueError: a file has not been scanned.
    """
    result = WhatIf(groups=len(groups))
    found: Found = {True: [], False: []}
    listed_now = excluded_of(paths)
    lists = listed_now, listed_now if taken_out is None else taken_out
    columns = list(dict.fromkeys([*now.columns, *then.columns, *(c for excluded in lists for c in excluded.columns)]))
    for group in groups:
        changed = False
        for file in group.files:
            path = paths.signals(file.corpus, file.part)
            if not path.exists():
                raise ValueError(f"{path} is missing: scan has not read {file.name}; run `fox1 curate` first")
            taken = {True: 0, False: 0}
            scores = paths.scores(file.corpus, file.part)
            for batch in signal_batches(path, columns, [scores] if scores.exists() else ()):
                changed |= _compare(batch, file, now, then, lists, result, found, taken)
        result.changed_groups += changed
    add_examples(result, found, paths, sources, examples)
    return result


def add_examples(
    result: WhatIf, found: Found, paths: RunPaths, sources: Callable[[str], Sequence[SourceFile]], examples: int
) -> None:
    """Show some documents, from beginning to end, of those that would be dropped, and of those that would be kept."""
    listed = by_id(sources)
    for dropped in (True, False):
        chosen = found[dropped]
        step = max(1, len(chosen) // examples) if examples else 1
        for file, row, reason, value in chosen[::step][:examples]:
            source = listed(file.corpus).get(file.first_id)
            assert source
            text = beginning(edited_text(paths, source, row))
            result.examples.append(VerdictChange(f"{file.name}#{row}", reason, value, text))


def _compare(
    batch: pa.RecordBatch,
    file: SourceFile,
    now: FilterSettings,
    then: FilterSettings,
    lists: tuple[Excluded, Excluded],
    result: WhatIf,
    found: Found,
    taken: dict[bool, int],
) -> bool:
    """Add what changes in a batch to `result` and `found`; returns whether anything does."""
    before, after = (
        [(EXCLUDED, excluded.match(batch)[0]), *judge(batch, file.corpus, s, file.held_out)]
        for excluded, s in zip(lists, (now, then), strict=True)
    )
    first = [_first(verdicts, batch.num_rows) for verdicts in (before, after)]
    subset, row, size = (batch.column(c).to_pylist() for c in ("subset", "row", "n_bytes"))
    result.documents += batch.num_rows
    result.kept += sum(not reason for reason in first[0])
    changed = False
    for i, (old, new) in enumerate(zip(*first, strict=True)):
        if bool(old) == bool(new):
            continue
        changed, dropped = True, bool(new)
        merge_counts(result.dropped if dropped else result.restored, {new or old: 1})
        cell = f"{file.corpus}/{subset[i]}"
        lost, won = result.by_subset.get(cell, (0, 0))
        result.by_subset[cell] = (lost + dropped, won + (not dropped))
        result.bytes += -size[i] if dropped else size[i]
        if taken[dropped] < 2:
            taken[dropped] += 1
            found[dropped].append((file, row[i], new or old, value_behind(batch, i, new or old)))
    return changed


def _first(verdicts: list[tuple[str, np.ndarray]], n: int) -> list[str]:
    reasons = [""] * n
    for name, hit in reversed(verdicts):
        for i in hit.nonzero()[0].tolist():
            reasons[i] = name
    return reasons

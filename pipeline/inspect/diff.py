"""`fox1 diff`: what became of the same documents in two runs, from the decisions of both.

A document is the same in both if its corpus, file and row are. The decisions of a file are in row order, so both runs' are read
side by side, some rows at a time: memory does not grow with the runs, and nothing is sorted or joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...storage.store import shown
from ..run.columns import open_columns
from ..run.identity import SourceFile, files_of_table
from ..run.manifest import read_manifest
from ..run.parquet_rows import RowCursor
from ..run.paths import RunPaths

KEPT, ABSENT = "kept", "not in the run"
"""Outcomes beside the reasons."""
SLICE_ROWS = 1 << 18
"""Rows of a run that are in memory at a time."""
EXAMPLES_OF_A_SLICE = 3
HELD_EXAMPLES = 64
"""Documents of a change that are held, of which some are shown."""


@dataclass
class RunDiff:
    """What is different between two runs, A and B."""

    settings: list[tuple[str, str, str]] = field(default_factory=list)
    """(key of the recipe, its value in A, in B), a key that a recipe does not have as `-`."""
    outcomes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Corpus -> `kept` or reason -> documents in A, in B. Rows that could not be read are in no run."""
    changes: dict[tuple[str, str], int] = field(default_factory=dict)
    """(outcome in A, outcome in B) -> documents, where the two differ."""
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The same -> a few of these documents, as corpus/file#row."""
    unchanged: int = 0
    """Documents with the same outcome in both."""

    def to_json(self) -> dict[str, Any]:
        changes = [
            {"before": a, "after": b, "documents": n, "examples": self.examples[a, b]}
            for (a, b), n in self.changes.items()
        ]
        keys = [{"key": key, "before": a, "after": b} for key, a, b in self.settings]
        return {"settings": keys, "outcomes": self.outcomes, "changes": changes, "unchanged": self.unchanged}


def diff(a: RunPaths, b: RunPaths, recipes: tuple[Mapping[str, Any], Mapping[str, Any]], examples: int = 3) -> RunDiff:
    """Compare what two runs decided, document by document.

    Args:
        recipes: what A and B were curated with, as they store it.
        examples: documents to name for each change, spread over the files.

    Raises:
        ValueError: a run has not decided its documents, or lacks a table of them.
    """
    found = RunDiff(changed_keys(*recipes))
    before, after = _decided_files(a), _decided_files(b)
    codes = {ABSENT: 0}
    for name in sorted(before.keys() | after.keys()):
        files = (before.get(name, []), after.get(name, []))
        corpus = next(file.corpus for some in files for file in some)
        sides = (_Side(a, files[0], codes), _Side(b, files[1], codes))
        _compare(name, *sides, codes, found, found.outcomes.setdefault(corpus, {}))
    found.changes = dict(sorted(found.changes.items(), key=lambda item: (-item[1], item[0])))
    for pair, names in found.examples.items():
        found.examples[pair] = names[:: max(1, len(names) // max(examples, 1))][:examples]
    return found


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(dotted key, old value, new value) of what two mappings say differently."""
    flat = (dict(_flat(before)), dict(_flat(after)))
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [(key, old, new) for key in keys if (old := flat[0].get(key, "-")) != (new := flat[1].get(key, "-"))]


def _flat(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{where}.{i}")
    else:
        yield where, str(value)


def _decided_files(paths: RunPaths) -> dict[str, list[SourceFile]]:
    """The files of a run by name, those that were cut as their pieces in row order."""
    manifest = read_manifest(paths)
    if "decisions" not in manifest["artifacts"].folders:
        raise ValueError(f"{shown(paths.root)} has decided nothing yet; run `fox1 curate` on it again")
    found: dict[str, list[SourceFile]] = {}
    for file in sorted(files_of_table(manifest["files"]), key=lambda f: (f.name, f.first_id)):
        found.setdefault(file.name, []).append(file)
    return found


class _Side:
    """The outcomes of a file's documents in one run, from its first row on."""

    def __init__(self, paths: RunPaths, files: Sequence[SourceFile], codes: dict[str, int]) -> None:
        """
        Args:
            codes: of outcomes; those that are new get the next ones.
        """
        self._slices = _slices(paths, files, codes)
        self.rows = np.empty(0, np.int64)
        self._outcomes = np.empty(0, np.int64)

    def fill(self) -> None:
        """Hold some rows, unless there are no more."""
        if not len(self.rows):
            self.rows, self._outcomes = next(self._slices, (self.rows, self._outcomes))

    def until(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Take out the held (rows, outcomes) up to a row, which is included."""
        end = int(np.searchsorted(self.rows, row, "right"))
        taken = self.rows[:end], self._outcomes[:end]
        self.rows, self._outcomes = self.rows[end:], self._outcomes[end:]
        return taken


def _slices(
    paths: RunPaths, files: Sequence[SourceFile], codes: dict[str, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for file in files:
        path = paths.decisions(file.corpus, file.part)
        if not path.exists():
            raise ValueError(f"{shown(path)} is missing; copy the whole run, or run `fox1 curate` again to rebuild it")
        with open_columns(path) as table:
            cursor = RowCursor(table, ["row", "kept", "reason"])
            while (some := cursor.take(SLICE_ROWS)).num_rows:
                reasons = some.column("reason").combine_chunks().dictionary_encode()
                names = [name or KEPT for name in reasons.dictionary.to_pylist()]
                own = np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)
                yield some.column("row").to_numpy(), own[reasons.indices.to_numpy()]


def _compare(
    name: str,
    before: _Side,
    after: _Side,
    codes: dict[str, int],
    found: RunDiff,
    outcomes: dict[str, tuple[int, int]],
) -> None:
    """Add the documents of a file to what was found, and to the outcomes of its corpus."""
    while True:
        before.fill()
        after.fill()
        ends = [int(side.rows[-1]) for side in (before, after) if len(side.rows)]
        if not ends:
            return
        (rows_a, said_a), (rows_b, said_b) = before.until(min(ends)), after.until(min(ends))
        rows = np.union1d(rows_a, rows_b)
        old, new = (np.zeros(len(rows), np.int64) for _ in range(2))
        old[np.searchsorted(rows, rows_a)] = said_a
        new[np.searchsorted(rows, rows_b)] = said_b
        names, pairs = list(codes), old * len(codes) + new
        together, counts = np.unique(pairs, return_counts=True)
        for pair, documents in zip(together.tolist(), counts.tolist(), strict=True):
            a, b = names[pair // len(names)], names[pair % len(names)]
            for outcome, change in ((a, (documents, 0)), (b, (0, documents))):
                if outcome != ABSENT:
                    until_now = outcomes.get(outcome, (0, 0))
                    outcomes[outcome] = (until_now[0] + change[0], until_now[1] + change[1])
            if a == b:
                found.unchanged += documents
                continue
            found.changes[a, b] = found.changes.get((a, b), 0) + documents
            held = found.examples.setdefault((a, b), [])
            if len(held) < HELD_EXAMPLES:
                held += [f"{name}#{row}" for row in rows[pairs == pair][:EXAMPLES_OF_A_SLICE].tolist()]

"""What is selected of a run's documents: ranges of bins, categories, and a condition in SQL; as a page sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....storage.reading import typed
from .codes import NAMES, Codes
from .count import BINS
from .scales import scale_of

MOST_FILTERS = 100
MOST_LETTERS = 10_000
"""Of a condition."""


@dataclass(frozen=True)
class Filter:
    """What documents have to be like in one column."""

    column: str
    first: int = 0
    last: int = BINS - 1
    """First and last bin of a signal."""
    values: tuple[int, ...] | None = None
    """Numbers of categories, any of which a document may have; None: the bins count."""


@dataclass(frozen=True)
class Selection:
    """Documents that meet every one of these."""

    filters: tuple[Filter, ...] = ()
    kept: bool | None = None
    """Whether they are kept; None: either."""
    where: str = ""
    """A condition over the columns of a document, as `--where` takes it; empty: none."""

    @classmethod
    def from_json(cls, value: Any) -> Selection:
        """Raise ValueError for anything but a selection."""
        found = typed(cls, value, "selection")
        if len(found.filters) > MOST_FILTERS or len(found.where) > MOST_LETTERS:
            raise ValueError("selection: it has too many filters, or too long a condition")
        if len({f.column for f in found.filters}) < len(found.filters):
            raise ValueError("selection: a column has two filters")
        return found

    def tables(self, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [filters]: rows of `codes`, bool [filters, BINS]: what passes), of all filters but the one on names.

        Raises:
            ValueError: there is no such column.
        """
        own = [f for f in self.filters if f.column != NAMES]
        if unknown := next((f.column for f in own if f.column not in codes.columns), None):
            raise ValueError(f"selection: the run has no column {unknown[:100]!r}")
        allowed = np.zeros((len(own), BINS), np.bool_)
        for k, f in enumerate(own):
            if f.values is None:
                allowed[k, max(f.first, 0) : max(f.last + 1, 0)] = True
            else:
                allowed[k, [v for v in f.values if 0 <= v < BINS]] = True
        return np.array([codes.place(f.column) for f in own], np.int64), allowed

    def number(self, column: str) -> int:
        """The number of the filter on a column in the states of documents; 0: it has none. That on names is the last."""
        names = [f.column for f in sorted(self.filters, key=lambda f: f.column == NAMES)]
        return names.index(column) + 1 if column in names else 0

    def hosts(self) -> tuple[int, ...] | None:
        """The numbers of the names that are selected; None: there is no filter on names."""
        return next((f.values or () for f in self.filters if f.column == NAMES), None)

    def said(self, codes: Codes) -> str:
        """The same in SQL, over the columns of a document."""
        parts = [] if self.kept is None else ["kept" if self.kept else "not kept"]
        parts += [_said(f, codes) for f in self.filters]
        return " and ".join([*parts, *([f"({self.where})"] if self.where.strip() else [])])


def _said(f: Filter, codes: Codes) -> str:
    if f.values is None:
        lows = scale_of(f.column).lows
        ends = [f"{f.column} >= {lows[f.first - 1]:g}"] if 0 < f.first <= len(lows) else []
        ends += [f"{f.column} < {lows[f.last]:g}"] if f.last < len(lows) else []
        return " and ".join(ends) or "true"
    texts = codes.hosts.texts() if f.column == NAMES and codes.hosts is not None else codes.labels[f.column].texts()
    chosen = [texts[v] for v in f.values if 0 <= v < len(texts)]
    name = "corpus || '/' || subset" if f.column == "subset" else f.column
    quoted = ", ".join("'{}'".format(text.replace("'", "''")) for text in chosen)
    return f"{name} in ({quoted})" if chosen else "false"

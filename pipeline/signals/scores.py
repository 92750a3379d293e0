"""Scores of others: a number for every document by a fastText classifier, or from a column of files that somebody else made.

    fasttext    a classifier's file (.bin, .ftz); scan runs it over the edited text, and the score is a column of `signals/`
    files       Parquet, Arrow, CSV or JSON lines with a key and a score in each row; filter joins them with the documents
                (`filter/scores.py`), and the score is a column of `scores/`: other files repeat no scan

Both are the signal `score_NAME`: rules bound it (`min_score_NAME`), and the recipe may let it be the quality of a domain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from ...storage.fields import Derived, OneOf, Pairs, Written
from ..sources.domains import Domain

PREFIX = "score_"
"""Of the names of signals and columns."""
BEST = 65_535
"""The best quality."""
KEYS = {"doc_id": ("doc_id",), "native_id": ("native_id",), "row": ("corpus", "file", "row")}
"""What a row of a file of scores names its document by, and the columns that say so: as `fox1 dump` writes them."""
COLUMNS = ("score", *dict.fromkeys(name for names in KEYS.values() for name in names))


def is_score(signal: str) -> bool:
    """Whether a signal is a score of others."""
    return signal.startswith(PREFIX) and len(signal) > len(PREFIX)


def _labels(value: Any) -> Any:
    return {value: 1.0} if isinstance(value, str) else value


@dataclass(frozen=True)
class ScoreSettings:
    """A score of others: that of a fastText classifier, or a column of files."""

    name: Annotated[str, Derived()]
    fasttext: str = ""
    """A classifier's .bin or .ftz file, by path or URL (hf://...)."""
    labels: Annotated[tuple[tuple[str, float], ...], Pairs(), Written(_labels, ({"type": "string"},))] = ()
    """The label whose probability is the score; or labels with what each counts: their probabilities are weighed by it and
    added up, as in {__label__High: 2, __label__Mid: 1}."""
    files: tuple[str, ...] = ()
    """Paths, globs or URLs of Parquet, Arrow, CSV, TSV or JSON lines files with a score in each row."""
    key: Literal["doc_id", "native_id", "row"] = "doc_id"
    """What rows name their document by: fox1's id, the source's own id, or corpus, file and row."""
    columns: Annotated[tuple[tuple[Annotated[str, OneOf(COLUMNS)], str], ...], Pairs()] = ()
    """Columns of the files by what they hold, where they have other names: {score: edu_score, doc_id: id}."""
    corpora: tuple[str, ...] = ()
    """Only documents of these corpora have it; empty: of all."""
    domains: tuple[Domain, ...] = ()
    """Only documents of these domains have it; empty: of all."""
    missing: Literal["error", "keep", "drop"] = "error"
    """A document that should have a score and has none: an error that says how many there are; kept by rules on the score, or
    dropped by them. As a quality it counts as the worst."""
    worst: float | None = None
    """The score that counts as quality 0 where this score is one."""
    best: float | None = None
    """The score that counts as quality 1."""

    def __post_init__(self) -> None:
        if bool(self.fasttext) == bool(self.files):
            raise ValueError("give `fasttext` or `files`")
        of_files = {"key": self.key != "doc_id", "columns": bool(self.columns), "corpora": bool(self.corpora)}
        if self.fasttext and (wrong := [name for name, given in of_files.items() if given]):
            raise ValueError(
                f"`{wrong[0]}` says how `files` are read; a classifier scores every document of its `domains`"
            )
        if self.files and self.labels:
            raise ValueError("`labels` are those of a classifier (`fasttext`)")
        if not all(math.isfinite(value) for _, value in self.labels):
            raise ValueError("what a label counts must be a finite number")
        if self.worst is not None and self.worst == self.best:
            raise ValueError("`worst` and `best` are the same score")

    @property
    def column(self) -> str:
        """The signal."""
        return PREFIX + self.name

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The scores that count as quality 0 and 1; None: nobody says."""
        values = [value for _, value in self.labels]
        if self.fasttext and len(values) == 1:
            known: tuple[float | None, float | None] = (min(0.0, *values, 0.0), max(0.0, *values, 0.0))
        else:
            known = (min(values), max(values)) if self.fasttext and values else (None, None)
        worst = known[0] if self.worst is None else self.worst
        best = known[1] if self.best is None else self.best
        return None if worst is None or best is None or worst == best else (worst, best)

    def column_of(self, name: str) -> str:
        """The column of the files that holds a part of `COLUMNS`."""
        return dict(self.columns).get(name, name)

    def identity(self) -> object:
        """What it depends on besides the files: not where they lie."""
        read = [self.key, self.columns] if self.files else [self.labels]
        return [self.name, *read, self.corpora, self.domains, self.missing, self.bounds]


@dataclass(frozen=True)
class ClassifierSettings:
    """A classifier that scan runs."""

    name: str
    domains: tuple[str, ...] = ()
    """Only documents of these; empty: of all."""
    source: str = ""
    """Its file and hash, as the column of the scores says; filled when it is there."""

    @property
    def column(self) -> str:
        return PREFIX + self.name


def as_quality(scores: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """uint16 [n]: scores (float32, NaN where there is none) as a quality, in equal steps from the worst to the best one."""
    worst, best = bounds
    share = (scores.astype(np.float64) - worst) / (best - worst)
    return np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0) * BEST).astype(np.uint16)


def value_of(signal: str, columns: Mapping[str, np.ndarray], signals: Mapping[str, Any]) -> np.ndarray:
    """The values of a signal [n]; of a score that some documents do not have, with NaN for these.

    Args:
        columns: stored counts and scores by name.
        signals: the functions of the others, `ratios.SIGNALS`.
    """
    return columns[signal] if is_score(signal) else signals[signal](columns)

"""FineWeb's quality rules, as datatrove reads them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import fineweb_quality_filter as theirs

from ...kernels import lines
from ...kernels.batch import Texts, words_of
from ...kernels.characters import SIZE
from ...preload import share
from .base_filter import BATCH, THEIRS, BatchedFilter, first_broken


@functools.lru_cache(4)
def _stops(characters: tuple[str, ...]) -> np.ndarray | None:
    """bool [SIZE]; None if an ending is not one character of that table."""
    table = np.zeros(SIZE, np.bool_)
    if any(len(ending) != 1 or ord(ending) >= SIZE for ending in characters):
        return None
    table[[ord(ending) for ending in characters]] = True
    return table


class FineWebQualityFilter(BatchedFilter, theirs.FineWebQualityFilter):
    """datatrove's `FineWebQualityFilter` with its arguments, and `batch_size`: documents judged at once.

    With `stop_chars` of more than one character each, documents are judged one by one, by datatrove's filter.
    """

    reasons = ("empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio")

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size
        share("quality_filters")

    def verdicts(self, batch: list[Document], texts: Texts) -> np.ndarray:
        stops = _stops(tuple(self.stop_chars))
        if stops is None:
            return np.full(len(texts), THEIRS)
        c = lines.line_counts(texts, stops, self.short_line_length).T
        with np.errstate(divide="ignore", invalid="ignore"):
            punctuated, short = c[lines.PUNCTUATED] / c[lines.LINES], c[lines.SHORT] / c[lines.LINES]
            duplicate = c[lines.DUPLICATE_CHARS] / c[lines.CHARS]
        excused = (punctuated == 0) & bool(self.line_punct_exclude_zero)
        rules = [
            c[lines.LINES] == 0,
            (punctuated < self.line_punct_thr) & ~excused,
            short > self.short_line_threshold,
            duplicate > self.char_duplicates_ratio,
        ]
        open_ = first_broken(rules) == 0
        words = np.diff(words_of(texts, self.language, open_).offsets)
        with np.errstate(divide="ignore", invalid="ignore"):
            rules.append(c[lines.LINE_ENDS] / words > self.new_line_ratio)
        return np.where(open_ & (words == 0), THEIRS, first_broken(rules))

"""Gopher's repetition rules, as datatrove reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import gopher_repetition_filter as theirs

from ...kernels.batch import Texts, words_of
from ...kernels.repetition import NGramRules, line_verdicts, ngram_verdicts
from ...preload import share
from .base_filter import BATCH, BatchedFilter

_LINE_REASONS = ("dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac")


class GopherRepetitionFilter(BatchedFilter, theirs.GopherRepetitionFilter):
    """datatrove's `GopherRepetitionFilter` with its arguments, and `batch_size`: documents judged at once.

    Raises:
        ValueError: an n-gram of no words is asked for.
    """

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size
        share("quality_filters")
        self.rules = NGramRules(tuple(map(tuple, self.top_n_grams)), tuple(map(tuple, self.dup_n_grams)))
        if wrong := [n for n, _ in (*self.rules.top, *self.rules.duplicate) if n < 1]:
            raise ValueError(f"top_n_grams and dup_n_grams: an n-gram has at least one word, not {wrong[0]}")
        self.reasons = (
            "empty",
            *_LINE_REASONS,
            *(f"top_{n}_gram" for n, _ in self.rules.top),
            *(f"duplicated_{n}_n_grams" for n, _ in self.rules.duplicate),
        )

    def verdicts(self, batch: list[Document], texts: Texts) -> np.ndarray:
        most = (self.dup_para_frac, self.dup_para_char_frac, self.dup_line_frac, self.dup_line_char_frac)
        lines = line_verdicts(texts, tuple(share or np.inf for share in most)).astype(np.int64)
        found = np.where(np.diff(texts.offsets) == 0, 1, np.where(lines, 1 + lines, 0))
        open_ = found == 0
        ngrams = ngram_verdicts(texts, words_of(texts, self.language, open_), self.rules, open_)
        return np.where(ngrams, 1 + len(_LINE_REASONS) + ngrams, found)

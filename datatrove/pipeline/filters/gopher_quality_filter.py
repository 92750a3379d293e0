"""Gopher's quality rules, as datatrove reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import gopher_quality_filter as theirs

from ...kernels import quality
from ...kernels.batch import Texts, words_of
from ...preload import share
from .base_filter import BATCH, THEIRS, BatchedFilter, first_broken

STOP_WORDS = theirs.STOP_WORDS


class GopherQualityFilter(BatchedFilter, theirs.GopherQualityFilter):
    """datatrove's `GopherQualityFilter` with its arguments, and `batch_size`: documents judged at once."""

    reasons = (
        "gopher_short_doc",
        "gopher_long_doc",
        "gopher_below_avg_threshold",
        "gopher_above_avg_threshold",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipsis",
        "gopher_too_many_bullets",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    )

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size
        share("quality_filters")

    def verdicts(self, batch: list[Document], texts: Texts) -> np.ndarray:
        words = words_of(texts, self.language, np.ones(len(texts), np.bool_))
        c = quality.quality_counts(texts, words, self.stop_words).T
        plain, total, lines = c[quality.PLAIN_WORDS], c[quality.WORDS], c[quality.LINES]
        # Without words some of datatrove's ratios divide by nothing: `THEIRS` says what comes of it.
        with np.errstate(divide="ignore", invalid="ignore"):
            length = c[quality.PLAIN_CHARS] / plain
            hashes, ellipses = c[quality.HASHES] / total, c[quality.ELLIPSES] / total
            bullets, cut = c[quality.BULLETS] / lines, c[quality.ENDS_IN_ELLIPSIS] / lines
            alpha = c[quality.ALPHA_WORDS] / total
        found = first_broken(
            [
                plain < (self.min_doc_words or -np.inf),
                plain > (self.max_doc_words or np.inf),
                length < (self.min_avg_word_length or -np.inf),
                length > (self.max_avg_word_length or np.inf),
                hashes > (self.max_symbol_word_ratio or np.inf),
                ellipses > (self.max_symbol_word_ratio or np.inf),
                bullets > (self.max_bullet_lines_ratio or np.inf),
                cut > (self.max_ellipsis_lines_ratio or np.inf),
                alpha < (self.max_non_alpha_words_ratio or -np.inf),
                c[quality.STOP_WORDS] < (self.min_stop_words or -np.inf),
            ]
        )
        judged_by_count = (found == 1) | (found == 2)
        return np.where((total == 0) & ~judged_by_count, THEIRS, found)

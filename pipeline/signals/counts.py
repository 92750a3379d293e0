"""Every count of a document in one table: which kernel gives it, and in which order they are stored.

Stored facts are integers; ratios are formed from them by the filters, so no byte of the output depends on rounding.
"""

from __future__ import annotations

import numpy as np

from . import c4, code, fineweb, gopher, pii
from .characters import CHARACTER_COUNTS
from .segment import Segments

TEXT_COUNTS = (
    *CHARACTER_COUNTS,
    *gopher.QUALITY_COUNTS,
    *gopher.REPETITION_COUNTS,
    *c4.C4_COUNTS,
    *fineweb.FINEWEB_COUNTS,
    *code.CODE_COUNTS,
)
"""Counts of the edited text."""
PII_COUNTS = tuple(f"n_{kind}_spans" for kind in pii.KINDS)
"""Counts of the raw text, since edits may replace what they count."""
COUNTS = (*TEXT_COUNTS, *PII_COUNTS)
"""Names of the columns, in order; all int64."""


def text_counts(
    s: Segments, languages: np.ndarray, repetition: np.ndarray | None = None, lines: np.ndarray | None = None
) -> np.ndarray:
    """int64 [n, len(TEXT_COUNTS)]; counts of repetition and of C4's lines may be passed in if they are known.

    Args:
        languages: int64 [n]: columns of the language model, whose stop words are counted; -1 for none.
    """
    return np.hstack(
        [
            s.counts,
            gopher.quality_counts(s, languages),
            gopher.repetition_counts(s)[0] if repetition is None else repetition,
            c4.judge_lines(s).counts if lines is None else lines,
            fineweb.punctuation_counts(s),
            code.encoded_counts(s),
        ]
    )

"""FineWeb's line signals (Penedo et al. 2024, section 3.6): lines that end in punctuation, and short ones.

Its other two rules read counts of other files: characters in duplicate lines, and line ends by words.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .segment import Segments
from .unicode import STOP, TABLE_SIZE, decode, tables

FINEWEB_COUNTS = ("n_punctuated_lines", "n_short_lines")
"""n_punctuated_lines: end in terminal punctuation of any script; n_short_lines: of at most 30 characters."""
SHORT_LINE = 30


def punctuation_counts(s: Segments) -> np.ndarray:
    """int64 [n, len(FINEWEB_COUNTS)]."""
    return _count(s.text, s.line_offsets, s.line_end, s.line_chars, tables()[0])


@njit(cache=True, nogil=True)
def _count(
    text: np.ndarray, line_offsets: np.ndarray, line_end: np.ndarray, line_chars: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    n = len(line_offsets) - 1
    out = np.zeros((n, 2), np.int64)
    for d in range(n):
        for line in range(line_offsets[d], line_offsets[d + 1]):
            last = line_end[line] - 1
            while text[last] & 0xC0 == 0x80:
                last -= 1
            cp, _ = decode(text, last)
            out[d, 0] += cp < TABLE_SIZE and (classes[cp] & STOP) != 0
            out[d, 1] += line_chars[line] <= SHORT_LINE
    return out

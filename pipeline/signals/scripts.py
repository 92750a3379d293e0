"""The script of a document, and how many of its units make a word (segment.py defines both)."""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

SPACED, EAST_ASIAN, BURMESE_SCRIPT, KHMER_SCRIPT, THAI_SCRIPT = range(5)
"""The script of most units of a document: one that separates words by spaces, or not at all (Han and Kana; Myanmar; Khmer; Thai
and Lao). From BURMESE_SCRIPT on, they are of southeast Asia."""
UNITS_PER_WORD = np.array([10, 18, 22, 30, 37], np.int64)
"""Units of a word in tenths, by script, ascending: as segmenters of these languages cut running text (docs/signals.md)."""


@njit(cache=True, nogil=True, inline="always")
def units_of(words: int, units_per_word: int) -> int:
    """The units of so many words, to the nearest.

    Args:
        units_per_word: in tenths.
    """
    return (words * units_per_word + 5) // 10


@njit(cache=True, nogil=True, inline="always")
def words_of(east: int, thousandths: int) -> int:
    """The words that units of unspaced scripts make, the last one begun.

    Args:
        east: units of Han and Kana.
        thousandths: of a word, that the letters of southeast Asia make.
    """
    size = UNITS_PER_WORD[EAST_ASIAN]
    return (10 * east + size - 1) // size + (thousandths + 999) // 1000


@njit(cache=True, nogil=True, inline="always")
def script_of(units: int, unspaced: int, southeast: int, khmer: int, burmese: int) -> int:
    """The script of a document of so many units, by those of unspaced scripts, of southeast Asia, and of two scripts there."""
    if 2 * unspaced <= units:
        return SPACED
    if 2 * southeast <= unspaced:
        return EAST_ASIAN
    if 2 * khmer > southeast:
        return KHMER_SCRIPT
    return BURMESE_SCRIPT if 2 * burmese > southeast else THAI_SCRIPT

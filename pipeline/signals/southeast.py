"""How many words the letters of Thai, Lao, Khmer and Burmese make, which nothing separates.

A fixed number of letters to a word would be wrong by a third either way: chat has 3.1 letters a word in Thai, official news
4.4, since long words come from Pali, Sanskrit and English. Their spelling tells them: tone marks and vowels written before or
above a consonant are those of short Thai words, and a long word has consonants in a row. So every letter and mark adds its own
share of a word. The shares are least squares against the words that segmenters find (docs/signals.md).
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numba import njit

from .unicode import decode

FIRST, END = 0x0E00, 0xAA80
"""Code points of these scripts, with others between."""
EAST, EXTENSION = 0x3000, 0xA9E0
LAO, MYANMAR, KHMER = 0x0E80, 0x1000, 0x1780
"""Where blocks begin. Lao is encoded as Thai is, letter by letter, and its words are as long."""

LETTER, VOWEL_BEFORE, REPETITION, VOWEL_SIGN, TONE, SILENT = 75, 800, 1000, 260, 620, 390
"""Shares in thousandths of Thai: of consonants and vowels after them, of vowels before (U+0E40 to U+0E44), of the sign that
repeats a word (U+0E46), of vowels above and below, of tone marks, and of the mark of a silent consonant (U+0E4C)."""
KHMER_LETTER, KHMER_SIGN = 70, 520
BURMESE_LETTER, BURMESE_SIGN = 320, 150
_NONE = "\u17b4\u17b5\u17d2\u1039\u103a"
"""What is invisible, stacks the next letter, or ends a syllable, adds nothing."""


@functools.cache
def shares() -> np.ndarray:
    """uint16 [END - FIRST]: thousandths of a word that every code point adds."""
    table = np.zeros(END - FIRST, np.uint16)
    for cp in (*range(FIRST, 0x1100), *range(KHMER, 0x1800), *range(EXTENSION, END)):
        table[cp - FIRST] = _share(cp)
    return table


def _share(cp: int) -> int:
    kind = unicodedata.category(chr(cp))[0]
    if kind not in "LM" or chr(cp) in _NONE:
        return 0
    if cp >= MYANMAR:
        khmer = KHMER <= cp < EXTENSION
        return (KHMER_LETTER if khmer else BURMESE_LETTER) if kind == "L" else (KHMER_SIGN if khmer else BURMESE_SIGN)
    place = cp - (LAO if cp >= LAO else FIRST)
    if kind == "L":
        return VOWEL_BEFORE if 0x40 <= place <= 0x44 else REPETITION if place == 0x46 else LETTER
    return VOWEL_SIGN if place <= 0x47 else TONE if place <= 0x4B else SILENT if place == 0x4C else 0


@njit(cache=True, nogil=True, inline="always")
def is_southeast(cp: int) -> bool:
    """Whether a letter of an unspaced script is of these."""
    return cp < EAST or EXTENSION <= cp < END


@njit(cache=True, nogil=True, inline="always")
def is_khmer(cp: int) -> bool:
    """Whether a letter of these scripts is Khmer."""
    return KHMER <= cp < 0x1800


@njit(cache=True, nogil=True, inline="always")
def is_burmese(cp: int) -> bool:
    """Whether a letter of these scripts is of Myanmar."""
    return MYANMAR <= cp < KHMER or cp >= EXTENSION


@njit(cache=True, nogil=True, inline="always")
def thousandths(text: np.ndarray, start: int, end: int, table: np.ndarray) -> np.int64:
    """Thousandths of a word of a letter with its marks, which is one at most: marks without end make no words."""
    total = np.int64(0)
    while start < end:
        cp, start = decode(text, start)
        if FIRST <= cp < END:
            total += table[cp - FIRST]
    return min(total, np.int64(1000))

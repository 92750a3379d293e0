"""What a loop over a word asks of every character after its first: does the word continue with it, and what does it add?"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

from .unicode import ALONE, DIGIT, INVISIBLE, LETTER, MARK, TABLE_SIZE, TAGS, WORD, tables

SPELLED, NUMERAL, HIDDEN, INSIDE, ATTACHED = (1 << bit for bit in (24, 25, 26, 27, 28))
"""Bits of an entry, above the folded code point (`FOLDED`). SPELLED: a letter. NUMERAL: a digit. HIDDEN: invisible. INSIDE: it
continues a word that has begun. ATTACHED: also one letter of an unspaced script."""
FOLDED = SPELLED - 1


@functools.cache
def continuations() -> np.ndarray:
    """int32 [TABLE_SIZE]: of every character that may stand in a word, its bits and folded code point."""
    classes, folded = tables()
    table = folded.astype(np.int32)
    table[(classes & LETTER) != 0] |= SPELLED
    table[(classes & DIGIT) != 0] |= NUMERAL
    table[(classes & INVISIBLE) != 0] |= HIDDEN
    table[((classes & (WORD | MARK | INVISIBLE)) != 0) & ((classes & ALONE) == 0)] |= INSIDE
    table[(classes & (MARK | INVISIBLE)) != 0] |= ATTACHED
    return table


@njit(cache=True, nogil=True, inline="always")
def continuation(table: np.ndarray, cp: int) -> np.int64:
    """The entry of any code point."""
    if cp < TABLE_SIZE:
        return np.int64(table[cp])
    return np.int64(HIDDEN | INSIDE | ATTACHED) if TAGS[0] <= cp < TAGS[1] else np.int64(cp | INSIDE)

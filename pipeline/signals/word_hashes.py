"""The hash of a word: of its case-folded code points, one after another, so that no later step can begin before the last.

Words of ASCII are therefore hashed many abreast: their bytes are fetched eight at a time, and one vectorised loop takes all of
them a byte further.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .hashing import EACH, mix64, word_at
from .leaf import leaf

WORD_SEED = np.uint64(0x243F6A8885A308D3)
WORD_STEP = np.uint64(0x9E3779B97F4A7C15)

ABREAST = 64
"""Words that are hashed at once."""
_CASE = np.uint64(0x2020202020202020)


def word_hash(word: str) -> int:
    """The kernels' hash of a word that is case-folded already."""
    mask = (1 << 64) - 1
    h = int(WORD_SEED)
    for char in word:
        h = ((h ^ ord(char)) * int(WORD_STEP)) & mask
    h ^= h >> 33
    h = (h * 0xFF51AFD7ED558CCD) & mask
    h ^= h >> 33
    h = (h * 0xC4CEB9FE1A85EC53) & mask
    return h ^ (h >> 33)


class Abreast(NamedTuple):
    """What `hash_ascii_words` works in: of each word its number, bytes that are left, the next eight, and the hash so far."""

    word: np.ndarray
    left: np.ndarray
    eight: np.ndarray
    hash: np.ndarray


@njit(cache=True, nogil=True)
def room_abreast() -> Abreast:
    """Room for `hash_ascii_words`."""
    return Abreast(
        np.zeros(ABREAST, np.int64),
        np.zeros(ABREAST, np.uint64),
        np.zeros(ABREAST, np.uint64),
        np.zeros(ABREAST, np.uint64),
    )


@njit(cache=True, nogil=True, inline="always")
def _lower(bytes_: np.uint64) -> np.uint64:
    """Eight letters, digits and underscores, with capitals as small letters. Other bytes may only follow them."""
    capitals = (bytes_ >> np.uint64(1)) & ~bytes_ & ~(bytes_ + EACH) & _CASE
    return bytes_ | capitals


@njit(cache=True, nogil=True, inline="always")
def _step(h: np.uint64, eight: np.uint64, left: np.uint64, k: int) -> np.uint64:
    return (h ^ ((eight >> np.uint64(8 * k)) & np.uint64(255))) * WORD_STEP if left > np.uint64(k) else h


@leaf
def _fold_eight(h: np.ndarray, eight: np.ndarray, left: np.ndarray, n: int) -> None:
    """Take n words eight bytes further, or as many as they have. Without a branch: a loop the compiler vectorises."""
    for j in range(n):
        v, x, m = h[j], eight[j], left[j]
        v = _step(v, x, m, 0)
        v = _step(v, x, m, 1)
        v = _step(v, x, m, 2)
        v = _step(v, x, m, 3)
        v = _step(v, x, m, 4)
        v = _step(v, x, m, 5)
        v = _step(v, x, m, 6)
        h[j] = _step(v, x, m, 7)


@leaf
def hash_ascii_words(
    text: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_hash: np.ndarray,
    first: int,
    last: int,
    room: Abreast,
) -> None:
    """Hash words that are ASCII letters, digits and underscores alone.

    Args:
        word_hash: uint64, receives the hashes of the words from `first` up to `last`.
    """
    word, left, eight, h = room
    safe = len(text) - 8
    for begin in range(first, last, ABREAST):
        n = min(ABREAST, last - begin)
        for j in range(n):
            start = word_start[begin + j]
            word[j] = begin + j
            left[j] = np.uint64(word_end[begin + j] - start)
            eight[j] = word_at(text, start, 8) if start <= safe else word_at(text, start, len(text) - start)
            h[j] = WORD_SEED
        done = 0
        while n:
            for j in range(n):
                eight[j] = _lower(eight[j])
            # Whole vectors: what is beyond the words is no word's.
            _fold_eight(h, eight, left, (n + 7) & ~7)
            done += 8
            longer = 0
            for j in range(n):
                w, more = word[j], left[j]
                word_hash[w] = h[j]
                h[longer], word[longer], left[longer] = h[j], w, more - np.uint64(8)
                longer += more > 8
            n = longer
            for j in range(n):
                at = word_start[word[j]] + done
                eight[j] = word_at(text, at, 8) if at <= safe else word_at(text, at, len(text) - at)
    own = word_hash[first:last]
    for j in range(len(own)):
        own[j] = mix64(own[j])

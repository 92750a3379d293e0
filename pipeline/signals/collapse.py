"""The form of a text whose hash is its content hash: every run of white space as one space, none at its ends."""

from __future__ import annotations

import numpy as np
from numba import njit

from .blake3 import hash_texts
from .hashing import word_at
from .unicode import SPACE, TABLE_SIZE, decode, tables


def content_hashes(text: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [n, 2]: the content hashes of NFC documents ``text[offsets[d]:offsets[d + 1]]``."""
    return hash_texts(*_collapse_all(text, offsets, tables()[0]))


_SPACE_BYTES = np.zeros(256, np.uint8)
_SPACE_BYTES[[*range(9, 14), *range(28, 33)]] = 1
_SPACE_BYTES[[0xC2, 0xE1, 0xE2, 0xE3]] = 2
"""1: white space; 2: first byte of characters among which is white space."""
_ONES, _TOPS, _BLANKS = (np.uint64(b * 0x0101010101010101) for b in (1, 128, ord(" ")))


@njit(cache=True, nogil=True)
def _collapse_all(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint8, int64 [n + 1]): the documents back to back with white space collapsed, and where they begin and end."""
    n = len(offsets) - 1
    out = np.empty(offsets[n] - offsets[0], np.uint8)
    bounds = np.zeros(n + 1, np.int64)
    for d in range(n):
        bounds[d + 1] = bounds[d] + _collapse(text, offsets[d], offsets[d + 1], classes, out[bounds[d] :])
    return out, bounds


@njit(cache=True, nogil=True)
def _collapse(text: np.ndarray, begin: int, end: int, classes: np.ndarray, out: np.ndarray) -> int:
    """Copy a document with white space runs as one space, stripped; returns the bytes written."""
    size = 0
    after_space = np.int64(1)
    i = begin
    while i < end:
        if i + 8 <= end:
            # Eight bytes of ASCII without control characters or two spaces in a row are copied as they are. A byte after a
            # space may be taken for one if it is `!`: then they are looked at one by one, like any others.
            word = word_at(text, i, 8)
            blank = word ^ _BLANKS
            blank = (blank - _ONES) & ~blank & _TOPS
            before = blank << np.uint64(8) | np.uint64(after_space) << np.uint64(7)
            if not (((word - _BLANKS) | word) & _TOPS or blank & before):
                for k in range(8):
                    out[np.uint64(size + k)] = np.uint8(word >> np.uint64(8 * k))
                size += 8
                i += 8
                after_space = np.int64(blank >> np.uint64(63))
                continue
        stop = min(i + 8, end)
        while i < stop:
            b = text[np.uint64(i)]
            kind = _SPACE_BYTES[b]
            if kind == 2:
                cp, after = decode(text, i)
                if cp < TABLE_SIZE and classes[cp] & SPACE:
                    b, kind, i = np.uint8(32), np.uint8(1), after - 1
                else:
                    kind = np.uint8(0)
            # Without a branch: a space after a space is written over by what follows.
            out[np.uint64(size)] = np.uint8(32) if kind else b
            size += 1 - (kind & after_space)
            after_space = np.int64(kind)
            i += 1
    return size - int(after_space if size else 0)

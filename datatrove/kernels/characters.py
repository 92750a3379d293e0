"""Classes of characters as Python's `str` and datatrove's constants have them, in one table."""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import functools
import re

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET
from numba import njit

from ...pipeline.signals import unicode
from ...pipeline.signals.hashing import EACH, word_at, zero_bytes

SPACE, LINE_END, LETTER, PUNCTUATION, DECIMAL = 1, 2, 4, 8, 16
"""`str.isspace`; a line end of `str.splitlines`; `str.isalpha`; datatrove's `PUNCTUATION_SET`; `str.isdecimal`."""
SIZE = 0x40000
"""No character beyond has any class."""
BLOCK = 256
SPACES, LINE_FEEDS = (np.uint64(ord(char) * 0x0101010101010101) for char in " \n")
FROM_SPACE, BEYOND_SPACE = (np.uint64((0x80 - b) * 0x0101010101010101) for b in (32, 33))
"""Added to eight ASCII bytes, they set the highest bit of each that is at least so large."""
_WORDLIKE = re.compile(r"\w")
"""Every letter, and more."""


@functools.cache
def classes() -> np.ndarray:
    """uint8 [SIZE]: the classes of every code point."""
    known = unicode.tables()[0]
    table = np.zeros(SIZE, np.uint8)
    for theirs, ours in (
        (unicode.SPACE, SPACE),
        (unicode.NEWLINE, LINE_END),
        (unicode.LETTER, LETTER),
        (unicode.DIGIT, DECIMAL),
    ):
        table[: len(known)][(known & theirs) != 0] |= ours
    # Fillers are letters to Python, and nothing to fox1.
    for cp in np.flatnonzero(known & unicode.INVISIBLE).tolist():
        if chr(cp).isalpha():
            table[cp] |= LETTER
    for begin in range(len(known), SIZE, BLOCK):
        block = "".join(map(chr, range(begin, min(begin + BLOCK, SIZE))))
        if block.isalpha():
            table[begin : begin + BLOCK] |= LETTER
        elif _WORDLIKE.search(block):
            table[begin : begin + BLOCK] |= np.array([LETTER * char.isalpha() for char in block], np.uint8)
    table[[ord(char) for char in PUNCTUATION_SET]] |= PUNCTUATION
    return table


@njit(cache=True, nogil=True, inline="always")
def is_inside(b: np.uint8) -> bool:
    """Whether a byte continues a character."""
    return (b & 0xC0) == 0x80


@njit(cache=True, nogil=True, inline="always")
def characters(text: np.ndarray, begin: int, end: int) -> int:
    """Code points of ``text[begin:end]``, which is UTF-8."""
    inside = 0
    i = begin
    while i + 8 <= end:
        eight = word_at(text, i, 8)
        # 1 in each byte that continues a character: its highest bits are 10.
        marks = (eight >> np.uint64(7)) & (~eight >> np.uint64(6)) & EACH
        inside += np.int64((marks * EACH) >> np.uint64(56))
        i += 8
    while i < end:
        inside += (text[np.uint64(i)] & 0xC0) == 0x80
        i += 1
    return end - begin - inside


@njit(cache=True, nogil=True, inline="always")
def line_feed(text: np.ndarray, begin: int, end: int) -> int:
    """The first line feed of ``text[begin:end]``, or the end."""
    i = begin
    while i + 8 <= end and not zero_bytes(word_at(text, i, 8) ^ LINE_FEEDS):
        i += 8
    while i < end and text[np.uint64(i)] != 10:
        i += 1
    return i


@njit(cache=True, nogil=True, inline="always")
def same(text: np.ndarray, a: int, b: int, size: int) -> bool:
    """Whether `size` bytes at two places are equal."""
    k = 0
    while k < size and text[a + k] == text[b + k]:
        k += 1
    return k == size


@njit(cache=True, nogil=True, inline="always")
def same_bytes(text: np.ndarray, at: int, other: np.ndarray, begin: int, size: int) -> bool:
    """Whether `size` bytes of two texts are equal."""
    k = 0
    while k < size and text[at + k] == other[begin + k]:
        k += 1
    return k == size


@njit(cache=True, nogil=True, inline="always")
def holds(text: np.ndarray, at: int, end: int, sought: np.ndarray) -> bool:
    """Whether ``text[at:end]`` begins with some bytes."""
    size = len(sought)
    k = 0
    while k < size and at + k < end and text[at + k] == sought[k]:
        k += 1
    return k == size

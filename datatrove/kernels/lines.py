"""Counts that datatrove's FineWeb quality filter bounds: of lines between `\\n` that are not blank, as they stand."""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

from ...pipeline.signals.hashing import TOPS, word_at
from ...pipeline.signals.unicode import decode
from .batch import Texts
from .characters import BEYOND_SPACE, FROM_SPACE, SIZE, SPACE, classes
from .repetition import duplicates, table_bits

LINES, PUNCTUATED, SHORT, DUPLICATE_CHARS, CHARS, LINE_ENDS = range(6)
"""Columns. CHARS: of the text without its line ends; DUPLICATE_CHARS: of lines that equal an earlier one."""


def line_counts(texts: Texts, stops: np.ndarray, short: int) -> np.ndarray:
    """int64 [n, 6].

    Args:
        stops: bool [SIZE]: characters that end a punctuated line.
        short: most characters of a short line.
    """
    return _count(texts.data, texts.offsets, classes(), stops, short)


@njit(cache=True, nogil=True)
def _count(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray, stops: np.ndarray, short: int) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros((n, 6), np.int64)
    room = 1
    for d in range(n):
        lines = 1
        for i in range(offsets[d], offsets[d + 1]):
            lines += text[i] == 10
        room = max(room, lines)
    start, end, hashes = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    slots = np.empty(1 << table_bits(room), np.int32)
    for d in range(n):
        begin, stop = offsets[d], offsets[d + 1]
        row = out[d]
        count = 0
        i = begin
        while i <= stop:
            line, chars, last = i, 0, np.int64(0)
            shown = 0  # positive if there is anything but white space
            while i < stop and text[i] != 10:
                if i + 8 <= stop:
                    eight = word_at(text, i, 8)
                    if not (eight | ~(eight + FROM_SPACE)) & TOPS:
                        shown += ((eight + BEYOND_SPACE) & TOPS) != 0
                        last = np.int64(eight >> np.uint64(56))
                        chars += 8
                        i += 8
                        continue
                b = text[i]
                if b < 0x80:
                    last = np.int64(b)
                    i += 1
                else:
                    last, i = decode(text, i)
                shown += last >= SIZE or (classes[last] & SPACE) == 0
                chars += 1
            row[CHARS] += chars
            row[LINE_ENDS] += i < stop
            if shown:
                row[PUNCTUATED] += last < SIZE and stops[last]
                row[SHORT] += chars <= short
                start[count], end[count] = line, i
                count += 1
            i += 1
        row[LINES] = count
        row[DUPLICATE_CHARS] = duplicates(text, start, end, count, slots, hashes)[1]
    return out

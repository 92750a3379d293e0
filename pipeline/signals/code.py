"""Encoded data in source code and pages, in the style of StarCoder (Lozhkov et al. 2024, section 3.1).

The other code signals (line lengths, letters, digits) are counts of segment.py. Encoded are, by the sum of their lengths:
  base64   runs of at least 64 of A-Z a-z 0-9 + / =
  bytes    at least 8 of `\\xHH` or `0xHH`, parted by nothing, white space or commas
  escapes  at least 8 of `\\uHHHH` in a row
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .segment import Segments

CODE_COUNTS = ("encoded_chars",)
BASE64_RUN = 64
BYTE_RUN = 8

_BASE64 = np.zeros(256, np.bool_)
_BASE64[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="]] = True
_HEX = np.zeros(256, np.bool_)
_HEX[[*b"0123456789abcdefABCDEF"]] = True


def encoded_counts(s: Segments) -> np.ndarray:
    """int64 [n, len(CODE_COUNTS)]."""
    return _encoded(s.text, s.offsets, _BASE64, _HEX)


@njit(cache=True, nogil=True, inline="always")
def _unit(text: np.ndarray, i: int, end: int, kind: int, hex_: np.ndarray) -> int:
    """Byte after the `\\xHH` or `0xHH` (kind 0) or `\\uHHHH` (kind 1) at i, or -1."""
    digits = 2 if kind == 0 else 4
    if i + 2 + digits > end:
        return -1
    a, b = text[i], text[i + 1]
    if kind == 0:
        if not (b == 120 and (a == 92 or a == 48)):
            return -1
    elif not (b == 117 and a == 92):
        return -1
    for k in range(digits):
        if not hex_[text[i + 2 + k]]:
            return -1
    return i + 2 + digits


@njit(cache=True, nogil=True)
def _units(text: np.ndarray, i: int, end: int, kind: int, hex_: np.ndarray) -> tuple[int, int]:
    """(units in a run that begins at i, byte after the last)."""
    count = 0
    last = at = i
    while True:
        after = _unit(text, at, end, kind, hex_)
        if after < 0:
            return count, last
        count += 1
        last = at = after
        while kind == 0 and at < end and (text[at] == 32 or text[at] == 44 or 9 <= text[at] <= 13):
            at += 1


@njit(cache=True, nogil=True)
def _encoded(text: np.ndarray, offsets: np.ndarray, base64: np.ndarray, hex_: np.ndarray) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros((n, 1), np.int64)
    for d in range(n):
        end = offsets[d + 1]
        total = 0
        # A run of 64 has every 64th byte of the text in it: only where that is of base64 are its neighbours looked at.
        at = offsets[d] + BASE64_RUN - 1
        while at < end:
            if not base64[text[at]]:
                at += BASE64_RUN
                continue
            first = at
            while first > offsets[d] and at - first < BASE64_RUN and base64[text[first - 1]]:
                first -= 1
            last = at + 1
            while last < end and base64[text[last]]:
                last += 1
            if last - first >= BASE64_RUN:
                total += last - first
            at = last + BASE64_RUN
        free_bytes = free_escapes = offsets[d]
        for block in range(offsets[d], end, 64):
            stop = min(end, block + 64)
            marked = np.uint8(0)
            part = text[block:stop]  # indices from zero need no check, and the loop is vectorised
            for k in range(len(part)):
                marked |= np.uint8((part[k] == 92) | (part[k] == 120))
            if not marked:
                continue
            for i in range(max(block - 1, offsets[d]), stop):
                b = text[i]
                if (b == 92 or b == 48) and i + 1 < end:
                    c = text[i + 1]
                    if c == 120 and i >= free_bytes:
                        count, after = _units(text, i, end, 0, hex_)
                        if count >= BYTE_RUN:
                            total += after - i
                        if count:
                            free_bytes = after
                    elif c == 117 and b == 92 and i >= free_escapes:
                        count, after = _units(text, i, end, 1, hex_)
                        if count >= BYTE_RUN:
                            total += after - i
                        if count:
                            free_escapes = after
        out[d, 0] = total
    return out

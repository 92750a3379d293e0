"""Encoded data in source code and pages, in the style of StarCoder (Lozhkov et al. 2024, section 3.1).

The other code signals (line lengths, letters, digits) are counts of segment.py. Encoded are, by the sum of their lengths:
  base64   runs of at least 64 of A-Z a-z 0-9 + / =
  bytes    at least 8 of `\\xHH` or `0xHH`, parted by nothing, white space or commas
  escapes  at least 8 of `\\uHHHH` in a row
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ...tokenize.vectors import LANES, byte_class, leading_zeros, trailing_zeros
from .segment import Segments

CODE_COUNTS = ("encoded_chars",)
BASE64_RUN = 64
BYTE_RUN = 8

base64_bytes = byte_class((43, 43), (47, 57), (61, 61), (65, 90), (97, 122))
slash_bytes, zero_bytes, x_bytes, u_bytes = (byte_class((b, b)) for b in b"\\0xu")
_HEX = np.zeros(256, np.bool_)
_HEX[[*b"0123456789abcdefABCDEF"]] = True


def encoded_counts(s: Segments) -> np.ndarray:
    """int64 [n, len(CODE_COUNTS)]."""
    return _encoded(s.text, s.offsets, _HEX)


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


@njit(cache=True, nogil=True, inline="always")
def _base64_and_openings(text: np.ndarray, i: int, before: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Of `LANES` bytes from i on: which are of base64; which are the second byte of `\\x`, `0x` or `\\u`; and `before` for
    the bytes after them.

    Args:
        before: bit 0: a backslash is the byte before, bit 1: a zero is.
    """
    slash, zero = slash_bytes(text, i), zero_bytes(text, i)
    after_slash = slash << np.uint64(1) | (before & np.uint64(1))
    after_zero = zero << np.uint64(1) | (before >> np.uint64(1))
    openings = (x_bytes(text, i) & (after_slash | after_zero)) | (u_bytes(text, i) & after_slash)
    top = np.uint64(LANES - 1)
    return base64_bytes(text, i), openings, slash >> top | (zero >> top) << np.uint64(1)


@njit(cache=True, nogil=True)
def _encoded(text: np.ndarray, offsets: np.ndarray, hex_: np.ndarray) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros((n, 1), np.int64)
    tail = np.empty(LANES, np.uint8)
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        total = run = 0  # bytes of base64 up to this block
        free_bytes = free_escapes = begin
        before = np.uint64(0)
        for block in range(begin, end, LANES):
            if block + LANES <= end:
                base64, openings, before = _base64_and_openings(text, block, before)
            else:
                tail[:] = np.uint8(0)
                tail[: end - block] = text[block:end]
                base64, openings, before = _base64_and_openings(tail, 0, before)
            more = trailing_zeros(~base64)
            run += more
            if more < LANES:
                if run >= BASE64_RUN:
                    total += run
                # Another run of `BASE64_RUN` bytes, no fewer than a block, can only begin where it reaches the block's end.
                run = leading_zeros(~base64)
            while openings:
                at = block + trailing_zeros(openings)
                openings &= openings - np.uint64(1)
                if text[at] == 120 and at - 1 >= free_bytes:
                    count, after = _units(text, at - 1, end, 0, hex_)
                    if count >= BYTE_RUN:
                        total += after - (at - 1)
                    if count:
                        free_bytes = after
                elif text[at] == 117 and at - 1 >= free_escapes:
                    count, after = _units(text, at - 1, end, 1, hex_)
                    if count >= BYTE_RUN:
                        total += after - (at - 1)
                    if count:
                        free_escapes = after
        out[d, 0] = total + (run if run >= BASE64_RUN else 0)
    return out

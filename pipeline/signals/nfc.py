"""Normalisation form C (Unicode Standard Annex 15) in time proportional to the text, by the interpreter's tables.

Libraries order combining marks by exchanging neighbours, which takes minutes for a document of nothing else. Here a run of
marks is sorted by counting. A text is cut into clusters: a character that normalisation leaves alone and the characters
after it that it may not; only a cluster of several is looked at.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from ...tokenize.spans import mask_of, text_buffers
from .unicode import NOT_NFC, TABLE_SIZE, decode, flag_not_nfc, tables
from .unpacked import Arrays, unpacked

_LONGEST = 4
"""Code points of the longest canonical decomposition."""


@functools.cache
def _rules() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(combining class uint8 [TABLE_SIZE], decompositions int32 [TABLE_SIZE, _LONGEST] ended by 0 and empty where a
    character is its own, composable pairs uint64 ascending, what each becomes int32). Hangul is left to arithmetic."""
    made = unpacked(f"nfc-{unicodedata.unidata_version}", _tables, __file__)
    return made["combining"], made["decompositions"], made["pairs"], made["composed"]


def _tables() -> Arrays:
    classes = np.zeros(TABLE_SIZE, np.uint8)
    parts = np.zeros((TABLE_SIZE, _LONGEST), np.int32)
    pairs: dict[int, int] = {}
    for cp in range(TABLE_SIZE):
        char = chr(cp)
        classes[cp] = unicodedata.combining(char)
        decomposition = unicodedata.decomposition(char)
        if decomposition and decomposition[0] != "<":
            whole = unicodedata.normalize("NFD", char)
            parts[cp, : len(whole)] = list(map(ord, whole))
            if len(decomposition.split()) == 2 and unicodedata.is_normalized("NFC", char):
                first, second = (int(part, 16) for part in decomposition.split())
                pairs[first << 32 | second] = cp
    keys = sorted(pairs)
    return {
        "combining": classes,
        "decompositions": parts,
        "pairs": np.array(keys, np.uint64),
        "composed": np.array([pairs[key] for key in keys], np.int32),
    }


def to_nfc(text: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts in form C."""
    flags = flag_not_nfc(*text_buffers(text), tables()[0])
    if not flags.any():
        return text
    mask = mask_of(flags)
    out, offsets = _normalise(*text_buffers(text.filter(mask)), tables()[0], *_rules())
    changed = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(out))
    return pc.replace_with_mask(text, mask, changed)


@njit(cache=True, nogil=True)
def _compose(first: int, second: int, pairs: np.ndarray, composed: np.ndarray) -> int:
    """The character that two compose to, or 0."""
    if 0x1100 <= first < 0x1113 and 0x1161 <= second < 0x1176:
        return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
    if 0xAC00 <= first < 0xD7A4 and (first - 0xAC00) % 28 == 0 and 0x11A8 <= second < 0x11C3:
        return first + second - 0x11A7
    key = np.uint64(first) << np.uint64(32) | np.uint64(second)
    at = np.searchsorted(pairs, key)
    return int(composed[at]) if at < len(pairs) and pairs[at] == key else 0


@njit(cache=True, nogil=True)
def _order(cluster: np.ndarray, size: int, combining: np.ndarray, spare: np.ndarray) -> None:
    """Sort every run of marks by combining class, equal ones in their order."""
    i = 0
    while i < size:
        first = i
        while i < size and cluster[i] < TABLE_SIZE and combining[cluster[i]]:
            i += 1
        if i - first < 16:
            for k in range(first + 1, i):
                mark = cluster[k]
                at = k
                while at > first and combining[cluster[at - 1]] > combining[mark]:
                    cluster[at] = cluster[at - 1]
                    at -= 1
                cluster[at] = mark
        else:
            begins = np.zeros(257, np.int64)
            for k in range(first, i):
                begins[np.int64(combining[cluster[k]]) + 1] += 1
            begins = np.cumsum(begins)
            for k in range(first, i):
                mark = cluster[k]
                spare[begins[combining[mark]]] = mark
                begins[combining[mark]] += 1
            cluster[first:i] = spare[: i - first]
        i = max(i, first + 1)


@njit(cache=True, nogil=True, inline="always")
def _plain(text: np.ndarray, i: int, end: int) -> int:
    """The byte after the characters from byte i on that are below U+0300, and followed by one that is."""
    after = i
    while after < end and text[after] < 0xCC:
        after += 1
    if i < after < end:
        after -= 1
        while text[after] & 0xC0 == 0x80:
            after -= 1
    return after


@njit(cache=True, nogil=True)
def _normalise(
    text: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    combining: np.ndarray,
    parts: np.ndarray,
    pairs: np.ndarray,
    composed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    bounds = np.zeros(n + 1, np.int64)
    out = np.empty(offsets[n] - offsets[0] + 64, np.uint8)
    cluster, spare = np.empty(64, np.int32), np.empty(64, np.int32)
    total = 0
    for d in range(n):
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            first = i
            several = False
            after = _plain(text, i, end)
            if after == first:
                cp, after = decode(text, first)
                several = cp < TABLE_SIZE and (classes[cp] & NOT_NFC) != 0
                characters = 1
                while after < end and text[after] >= 0xCC:
                    cp, following = decode(text, after)
                    if cp >= TABLE_SIZE or not classes[cp] & NOT_NFC:
                        break
                    several = True
                    characters += 1
                    after = following
            size = 0
            if several:
                # As code points, in canonical order, composed.
                room = max(_LONGEST * characters, 64)
                if room > len(cluster):
                    cluster, spare = np.empty(room, np.int32), np.empty(room, np.int32)
                at = first
                while at < after:
                    cp, at = decode(text, at)
                    if 0xAC00 <= cp < 0xD7A4 or cp >= TABLE_SIZE or parts[cp, 0] == 0:
                        cluster[size] = cp
                        size += 1
                        continue
                    for k in range(_LONGEST):
                        if parts[cp, k]:
                            cluster[size] = parts[cp, k]
                            size += 1
                _order(cluster, size, combining, spare)
                size = _compose_all(cluster, size, combining, pairs, composed)
            i = after
            if total + 4 * size + after - first > len(out):
                more = np.empty(2 * (total + 4 * size + after - first), np.uint8)
                more[:total] = out[:total]
                out = more
            if several:
                for k in range(size):
                    total = _encode(cluster[k], out, total)
            else:
                for k in range(first, after):
                    out[total] = text[k]
                    total += 1
        bounds[d + 1] = total
    return out[:total].copy(), bounds


@njit(cache=True, nogil=True)
def _compose_all(cluster: np.ndarray, size: int, combining: np.ndarray, pairs: np.ndarray, composed: np.ndarray) -> int:
    """Compose what is in canonical order, in place; how many code points are left."""
    n = 0
    starter = -1
    last = 0  # combining class of the character before, where it is not the starter
    for k in range(size):
        cp = np.int64(cluster[k])
        own = np.int64(combining[cp]) if cp < TABLE_SIZE else 0
        if starter >= 0 and (starter == n - 1 or last < own):
            whole = _compose(cluster[starter], cp, pairs, composed)
            if whole:
                cluster[starter] = whole
                continue
        if own == 0:
            starter = n
        last = own
        cluster[n] = cp
        n += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def _encode(cp: int, out: np.ndarray, at: int) -> int:
    """Write a code point as UTF-8; the place after it."""
    if cp < 0x80:
        out[at] = cp
        return at + 1
    if cp < 0x800:
        out[at], out[at + 1] = 0xC0 | cp >> 6, 0x80 | cp & 0x3F
        return at + 2
    if cp < 0x10000:
        out[at], out[at + 1], out[at + 2] = 0xE0 | cp >> 12, 0x80 | cp >> 6 & 0x3F, 0x80 | cp & 0x3F
        return at + 3
    out[at], out[at + 1] = 0xF0 | cp >> 18, 0x80 | cp >> 12 & 0x3F
    out[at + 2], out[at + 3] = 0x80 | cp >> 6 & 0x3F, 0x80 | cp & 0x3F
    return at + 4

"""Content hash, MinHash band signature and verification sketch of every document, in one pass.

Text is NFC. The content hash is MurmurHash3-128 of the bytes with white space runs collapsed to one space and stripped.
Shingles are n-grams of case-folded words (signals/counts.py says what a word is); a document shorter than the n-gram has
one shingle of all its words, one without words has its content hash for a shingle. Over the set of distinct shingles:

  signature  bands x rows minima of (a_i * x + b_i) mod 2^32; stored are the 64-bit hashes of the bands
  sketch     the k smallest of the 32-bit shingle hashes (bottom-k, Cohen 1997): up to k shingles it is the whole set,
             so Jaccard is exact for short documents; beyond, the standard error at J = 0.7 is 0.04 for k = 128
  n_shingles the number of distinct shingles; containment follows from Jaccard and two such counts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from .counts import word_start, word_step
from .hashing import mix64, murmur3_128
from .unicode import ALONE, SPACE, TABLE_SIZE, WORD, decode, tables

SKETCH_ENCODING = "bottom-k of uint32, little endian, ascending"
SET_SLOTS = 1 << 22
"""Distinct shingles held at once; a longer document is walked again for each further range of hashes."""


@dataclass(frozen=True)
class MinHashSettings:
    """Shape of the signature. The preset of FineWeb: word 5-grams, 14 bands of 8 rows (threshold 0.72)."""

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    sketch_size: int = 128
    """k of the bottom-k sketch."""
    seed: int = 1


@dataclass(frozen=True)
class Signatures:
    """Columns of a batch."""

    content: np.ndarray
    """uint64 [n, 2]: the 128-bit content hash."""
    bands: np.ndarray
    """uint64 [n, bands]."""
    n_shingles: np.ndarray
    """uint32 [n]."""
    sketch: np.ndarray
    """uint32 [total], the sketches back to back."""
    sketch_offsets: np.ndarray
    """int64 [n + 1]."""


def sign_batch(text: np.ndarray, offsets: np.ndarray, settings: MinHashSettings) -> Signatures:
    """Signatures of the NFC documents ``text[offsets[i]:offsets[i + 1]]`` (uint8)."""
    classes, folded = tables()
    generator = np.random.Generator(np.random.PCG64(settings.seed))
    size = settings.bands * settings.rows
    a = generator.integers(0, 1 << 32, size, np.uint32) | np.uint32(1)
    b = generator.integers(0, 1 << 32, size, np.uint32)
    n = len(offsets) - 1
    longest = int(np.max(np.diff(offsets))) if n else 0
    # Twice as many slots as words can be (a word and its separator take two bytes), or several passes.
    slots = 1 << max(10, min(longest, SET_SLOTS).bit_length())
    scratch = np.empty(longest + 1, np.uint8)
    content, bands, count, sketch, sketch_offsets = _sign(
        text, offsets, classes, folded, settings.ngram, settings.bands, a, b, settings.sketch_size, slots, scratch
    )
    return Signatures(content, bands, count, sketch, sketch_offsets)


@njit(cache=True, nogil=True)
def _collapse(text: np.ndarray, begin: int, end: int, classes: np.ndarray, out: np.ndarray) -> int:
    """Copy a document with white space runs as one space, stripped; the number of bytes written."""
    size = 0
    gap = False
    i = begin
    while i < end:
        start = i
        cp, i = decode(text, i)
        if cp < TABLE_SIZE and classes[cp] & SPACE:
            gap = size > 0
            continue
        if gap:
            out[size] = 32
            size += 1
            gap = False
        for k in range(start, i):
            out[size] = text[k]
            size += 1
    return size


@njit(cache=True, nogil=True)
def _words(text: np.ndarray, begin: int, end: int, classes: np.ndarray, folded: np.ndarray, out: np.ndarray) -> int:
    """Hashes of the words of a document into `out`; how many."""
    count = 0
    inside = False
    h = np.uint64(0)
    i = begin
    while i < end:
        cp, i = decode(text, i)
        flags = classes[cp] if cp < TABLE_SIZE else np.uint8(WORD)
        if flags & WORD:
            if inside and flags & ALONE:
                out[count] = h
                count += 1
                inside = False
            if not inside:
                inside = True
                h = word_start()
            h = word_step(h, np.uint64(folded[cp]) if cp < TABLE_SIZE else np.uint64(cp))
        elif inside:
            out[count] = h
            count += 1
            inside = False
    if inside:
        out[count] = h
        count += 1
    return count


@njit(cache=True, nogil=True)
def _count_words(text: np.ndarray, begin: int, end: int, classes: np.ndarray) -> int:
    """How many words `_words` finds."""
    count = 0
    inside = False
    i = begin
    while i < end:
        cp, i = decode(text, i)
        flags = classes[cp] if cp < TABLE_SIZE else np.uint8(WORD)
        if flags & WORD and (not inside or flags & ALONE):
            count += 1
        inside = (flags & WORD) != 0
    return count


@njit(cache=True, nogil=True)
def _sift_down(heap: np.ndarray, size: int) -> None:
    """Restore the max-heap after its root changed."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[at] >= heap[child]:
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@njit(cache=True, nogil=True)
def _sign(
    text: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    folded: np.ndarray,
    ngram: int,
    n_bands: int,
    a: np.ndarray,
    b: np.ndarray,
    k: int,
    slots: int,
    scratch: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    rows = len(a) // n_bands
    content = np.empty((n, 2), np.uint64)
    bands = np.empty((n, n_bands), np.uint64)
    counts = np.empty(n, np.uint32)
    sketch = np.empty(n * k, np.uint32)
    sketch_offsets = np.zeros(n + 1, np.int64)
    minima = np.empty(len(a), np.uint32)
    table = np.empty(slots, np.uint64)
    heap = np.empty(k, np.uint32)
    # A word and its separator take two bytes; only for huge documents is it worth counting before allocating.
    most = len(scratch) // 2 + 2
    if most > 1 << 20:
        most = 1
        for d in range(n):
            most = max(most, _count_words(text, offsets[d], offsets[d + 1], classes) + 1)
    words = np.empty(most, np.uint64)
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        size = _collapse(text, begin, end, classes, scratch)
        content[d, 0], content[d, 1] = murmur3_128(scratch, 0, size)
        n_words = _words(text, begin, end, classes, folded, words)
        n_grams = max(1, n_words - ngram + 1)
        width = min(ngram, n_words)
        # The set is sized to the document, at most half full; where it would not fit, ranges of hashes one by one.
        passes, room = 1, 64
        while room < slots and room < 2 * n_grams:
            room *= 2
        while n_grams // passes > slots // 4 and 2 * n_grams > slots:
            passes *= 2
        mask = np.uint64(room - 1)
        minima[:] = np.uint32(0xFFFFFFFF)
        distinct = 0
        held = 0
        for p in range(passes):
            table[:room] = np.uint64(0)
            for g in range(n_grams):
                h = np.uint64(0)
                for w in range(g, g + width):
                    h = mix64(h ^ words[w]) if ngram > 16 else (h ^ words[w]) * np.uint64(0xD6E8FEB86659FD93)
                    h ^= h >> np.uint64(32)
                if n_words == 0:
                    h = content[d, 0]
                h = mix64(h) | np.uint64(1)
                if passes > 1 and np.int64((h >> np.uint64(40)) & np.uint64(passes - 1)) != p:
                    continue
                slot = (h >> np.uint64(8)) & mask
                while table[slot] != 0 and table[slot] != h:
                    slot = (slot + np.uint64(1)) & mask
                if table[slot] == h:
                    continue
                table[slot] = h
                distinct += 1
                x = np.uint32(h >> np.uint64(32))
                for j in range(len(a)):
                    # Numba widens unsigned arithmetic to 64 bits: the cast is the reduction modulo 2^32.
                    v = np.uint32(a[j] * x + b[j])
                    minima[j] = min(minima[j], v)
                if held < k:
                    # Sift up into the max-heap.
                    at = held
                    held += 1
                    heap[at] = x
                    while at > 0 and heap[(at - 1) // 2] < heap[at]:
                        up = (at - 1) // 2
                        heap[up], heap[at] = heap[at], heap[up]
                        at = up
                elif x < heap[0]:
                    heap[0] = x
                    _sift_down(heap, k)
        for band in range(n_bands):
            h = mix64(np.uint64(band) + np.uint64(0x9E3779B97F4A7C15))
            for j in range(band * rows, (band + 1) * rows):
                h = mix64(h ^ np.uint64(minima[j]))
            bands[d, band] = h
        counts[d] = distinct
        at = sketch_offsets[d]
        sketch[at : at + held] = np.sort(heap[:held])
        sketch_offsets[d + 1] = at + held
    return content, bands, counts, sketch[: sketch_offsets[n]].copy(), sketch_offsets


@njit(cache=True, nogil=True)
def common(a: np.ndarray, b: np.ndarray, limit: int) -> tuple[int, int]:
    """(shared, examined) of two ascending sketches: among the `limit` smallest of their union, how many are in both.

    shared / examined estimates Jaccard; it is exact where both sketches are whole sets and `limit` covers the union.
    """
    i = j = shared = examined = 0
    while examined < limit and (i < len(a) or j < len(b)):
        if j >= len(b) or (i < len(a) and a[i] < b[j]):
            i += 1
        elif i >= len(a) or b[j] < a[i]:
            j += 1
        else:
            shared += 1
            i += 1
            j += 1
        examined += 1
    return shared, examined

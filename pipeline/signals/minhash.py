"""Content hash, MinHash band signature and verification sketch of every document.

Text is NFC. The content hash is BLAKE3, cut to 128 bits, of the bytes with white space runs collapsed to one space and
stripped.

Shingles are n-grams of case-folded words, each with the signs before it (segment.py says what words and signs are: in
prose nothing is a sign; in unspaced scripts, as many units as n words have), or of the characters of words, with a space
for whatever stands between two. A document shorter
than the n-gram has one shingle of all it has; one without words its content hash. Over the set of distinct shingles:

  signature  bands x rows minima of (a_i * x + b_i) mod 2^32; stored are the 64-bit hashes of the bands
  sketch     the k smallest of the 32-bit shingle hashes (bottom-k, Cohen 1997): up to k shingles it is the whole set,
             so Jaccard is exact for short documents; beyond, the standard error at J = 0.7 is 0.04 for k = 128
  n_shingles the number of distinct shingles; containment follows from Jaccard and two such counts
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numba import njit

from ...storage.fields import Bounds
from .collapse import text_hashes
from .gopher import REPEAT, repetition_counts
from .hashing import mix64
from .leaf import leaf
from .scripts import UNITS_PER_WORD, units_of
from .segment import Segments
from .unicode import ALONE, INVISIBLE, MARK, TABLE_SIZE, WORD, class_of, decode, tables
from .word_hashes import WORD_SEED, WORD_STEP

SKETCH_ENCODING = "bottom-k of uint32, little endian, ascending"
JACCARD = 0.8
"""Least similarity of near-duplicates, unless a recipe or a step names another."""
MAX_NGRAM = 32
MAX_UNITS = int(units_of.py_func(MAX_NGRAM, int(UNITS_PER_WORD.max())))
"""Units of the longest shingle that settings allow."""
CHUNK = 1024
"""Shingles whose hashes are handled at once: what the nearest cache holds."""
SPREAD = 512
"""Places over which the values of a sketch are spread to sort them."""
SET_SLOTS = 1 << 24
"""Slots of the set of distinct shingles, 8 bytes each. A document with more than half as many is walked again for each
further range of hashes."""


@dataclass(frozen=True)
class MinHashSettings:
    """Shape of the signature; by default FineWeb's: word 5-grams, 14 bands of 8 rows (threshold 0.72)."""

    unit: Literal["word", "char"] = "word"
    """What an n-gram counts."""
    ngram: Annotated[int, Bounds(ge=1, le=MAX_NGRAM)] = 5
    """Words or characters of a shingle. FineWeb: word, 5, 14 x 8; SlimPajama: char, 13, 9 x 13."""
    bands: Annotated[int, Bounds(ge=1, le=64)] = 14
    """Bands: documents that are equal in one are compared."""
    rows: Annotated[int, Bounds(ge=1, le=512)] = 8
    """Minima of a band."""
    sketch_size: Annotated[int, Bounds(ge=16, le=4096)] = 128
    """k of the bottom-k sketch that candidates are verified with."""
    seed: int = 1
    """Chooses the hash functions."""

    def found(self, similarity: float) -> float:
        """The share of pairs with a Jaccard similarity that are equal in a band, and so are compared."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


PRESETS = {
    "fineweb": MinHashSettings("word", 5, 14, 8),
    "slimpajama": MinHashSettings("char", 13, 9, 13),
}
"""Published shapes: Penedo et al. 2024; Soboleva et al. 2023."""


@dataclass(frozen=True)
class Signatures:
    """Columns of a batch."""

    content: np.ndarray
    """uint64 [n, 2]: the 128-bit content hash."""
    text: np.ndarray
    """uint64 [n, 2]: the 128-bit hash of the very bytes."""
    bands: np.ndarray
    """uint64 [n, bands]."""
    n_shingles: np.ndarray
    """uint32 [n]."""
    sketch: np.ndarray
    """uint32 [total], the sketches back to back."""
    sketch_offsets: np.ndarray
    """int64 [n + 1]."""


@functools.cache
def coefficients(settings: MinHashSettings) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) of the hash functions, uint32 [bands * rows]; a is odd."""
    generator = np.random.Generator(np.random.PCG64(settings.seed))
    size = settings.bands * settings.rows
    a = generator.integers(0, 1 << 32, size, np.uint32) | np.uint32(1)
    return a, generator.integers(0, 1 << 32, size, np.uint32)


@functools.cache
def _factors() -> np.ndarray:
    """uint64 [MAX_UNITS], odd: what the hash of a shingle multiplies the hash of each of its units by."""
    factors = np.random.Generator(np.random.PCG64(0x5817)).integers(0, 1 << 63, MAX_UNITS, np.uint64) << np.uint64(1)
    return factors | np.uint64(1)


def shingles_repeat(settings: MinHashSettings) -> int:
    """The n for which `sign` takes the repeats of `gopher.repetition_counts`; 0 if it finds them itself."""
    return settings.ngram if settings.unit == "word" and 2 <= settings.ngram <= 10 else 0


def sign(s: Segments, settings: MinHashSettings, repeats: np.ndarray | None = None) -> Signatures:
    """Signatures of NFC documents.

    Args:
        repeats: uint8 [words] from `gopher.repetition_counts(s, shingles_repeat(settings))`; None to compute them here.
    """
    known = shingles_repeat(settings)
    if known and repeats is None:
        repeats = repetition_counts(s, known)[1]
    # Characters are read from the text, as is a document with more words than the segments hold, whose signs are ignored.
    by_text = np.diff(s.word_offsets) < s.n_units
    if settings.unit == "char":
        by_text[:] = True
    widest = int(np.max(np.diff(s.offsets)[by_text], initial=0))
    slots = 1 << max(10, min(widest, SET_SLOTS).bit_length())
    classes, folded = tables()
    a, b = coefficients(settings)
    content, text = text_hashes(s.text, s.offsets)
    columns = _sign(
        s.text,
        s.offsets,
        content,
        s.word_offsets,
        s.word_hash,
        s.word_signs,
        np.empty(0, np.uint8) if repeats is None else repeats,
        by_text,
        classes,
        folded,
        settings.unit == "char",
        settings.ngram,
        s.units_per_word,
        _factors(),
        settings.bands,
        a,
        b,
        settings.sketch_size,
        np.empty(slots if by_text.any() else 0, np.uint64),
    )
    return Signatures(content, text, *columns)


@leaf
def _update_minima(minima: np.ndarray, a: np.ndarray, b: np.ndarray, x: np.ndarray, n: int) -> None:
    """Fold the hashes of x[:n] into the minima. By function, then by shingle: a loop the compiler vectorises."""
    for j in range(len(a)):
        aj, bj, least = a[j], b[j], minima[j]
        for g in range(n):
            # Numba widens unsigned arithmetic to 64 bits: the cast is the reduction modulo 2^32.
            least = min(least, np.uint32(aj * x[g] + bj))
        minima[j] = least


@leaf
def _update_heap(heap: np.ndarray, held: int, x: np.ndarray, n: int) -> int:
    """Keep the smallest of x[:n] in a max-heap of fixed size; returns how many it holds."""
    k = len(heap)
    for g in range(n):
        v = x[g]
        if held < k:
            at = held
            held += 1
            heap[at] = v
            while at > 0 and heap[(at - 1) // 2] < heap[at]:
                up = (at - 1) // 2
                heap[up], heap[at] = heap[at], heap[up]
                at = up
        elif v < heap[0]:
            heap[0] = v
            at = 0
            while True:
                child = 2 * at + 1
                if child >= k:
                    break
                if child + 1 < k and heap[child + 1] > heap[child]:
                    child += 1
                if heap[at] >= heap[child]:
                    break
                heap[at], heap[child] = heap[child], heap[at]
                at = child
    return held


@leaf
def _hash_shingles(units: np.ndarray, n: int, factors: np.ndarray, wide: np.ndarray, out: np.ndarray) -> None:
    """Hashes of the n shingles of so many units as there are factors, from the first unit on. By factor, then by shingle:
    loops the compiler vectorises.

    Args:
        wide: uint64 [at least n], to work in.
        out: uint32, receives them.
    """
    wide[:n] = np.uint64(0)
    for w in range(len(factors)):
        factor, own = factors[w], units[w : w + n]
        for g in range(n):
            wide[g] += own[g] * factor
    for g in range(n):
        out[g] = np.uint32(mix64(wide[g]) >> np.uint64(32))


@leaf
def _leave_out(x: np.ndarray, again: np.ndarray) -> int:
    """Move hashes to where repeats were; how many are left."""
    left = 0
    for g in range(len(again)):
        x[left] = x[g]
        left += again[g] != REPEAT
    return left


@leaf
def _keep_low(x: np.ndarray, n: int, bound: np.uint32, low: np.ndarray, held: int) -> int:
    """Append to `low`, which has room for a chunk more than it keeps, what of x[:n] is not above a bound; how many it
    holds. Without a branch."""
    for g in range(n):
        low[held] = x[g]
        held += x[g] <= bound
    return min(held, len(low) - CHUNK)


@leaf
def _sort_spread(x: np.ndarray, bound: np.uint32, starts: np.ndarray, out: np.ndarray) -> None:
    """Sort a few hundred values that are spread evenly up to a bound: each goes near its place, by its upper bits, and
    then over a few neighbours. Comparing all of them would cost as much as all else that a document of a page takes.

    Args:
        starts: int64 [SPREAD + 1], to work in.
        out: uint32 [at least as x], receives them.
    """
    shift = np.uint32(0)
    while bound >> shift >= SPREAD:
        shift += np.uint32(1)
    starts[:] = 0
    for value in x:
        starts[(value >> shift) + 1] += 1
    for k in range(SPREAD):
        starts[k + 1] += starts[k]
    for value in x:
        at = starts[value >> shift]
        starts[value >> shift] = at + 1
        out[at] = value
    for k in range(1, len(x)):
        value = out[k]
        at = k
        while at > 0 and out[at - 1] > value:
            out[at] = out[at - 1]
            at -= 1
        out[at] = value


@njit(cache=True, nogil=True, inline="always")
def _sketch_bound(distinct: int, k: int) -> np.uint32:
    """A value that the k smallest of `distinct` uniform 32-bit hashes hardly ever exceed: k + 5 sqrt(k) are below it."""
    expected = np.float64(k) + 5.0 * np.sqrt(np.float64(k))
    if expected >= distinct:
        return np.uint32(0xFFFFFFFF)
    return np.uint32(4294967296.0 * (expected / distinct))


@leaf
def _next_unit(
    text: np.ndarray, i: int, end: int, classes: np.ndarray, folded: np.ndarray, by_char: bool, inside: bool
) -> tuple[np.uint64, int, bool]:
    """(hash of the next word or character of the normalised text, byte after it, inside a word); byte -1 at the end.

    Characters are those of the words, with 0x20 before each word but the first of the document.
    """
    h = WORD_SEED
    started = unspaced = False
    while i < end:
        cp, after = decode(text, i)
        flags = class_of(classes, cp)
        if not flags & WORD and not ((started or inside) and flags & (MARK | INVISIBLE)):
            if started:
                return mix64(h), i, False
            inside = False
            i = after
            continue
        if flags & INVISIBLE:
            i = after
            continue
        f = np.uint64(folded[cp]) if cp < TABLE_SIZE else np.uint64(cp)
        if by_char:
            if not inside and not started:
                # The space before a word; its first character comes with the next call.
                return np.uint64(32), i, True
            return f, after, True
        if started and flags & WORD and (unspaced or flags & ALONE):
            return mix64(h), i, False
        unspaced |= (flags & ALONE) != 0
        started = True
        h = (h ^ f) * WORD_STEP
        i = after
    if started:
        return mix64(h), i, False
    return np.uint64(0), -1, False


@njit(cache=True, nogil=True, inline="always")
def _add(table: np.ndarray, h: np.uint64) -> bool:
    """Put a hash, which is not 0, into an open table of a power of two; whether it is new."""
    mask = np.uint64(len(table) - 1)
    slot = (h >> np.uint64(9)) & mask
    while table[slot] != 0 and table[slot] != h:
        slot = (slot + np.uint64(1)) & mask
    if table[slot] == h:
        return False
    table[slot] = h
    return True


@njit(cache=True, nogil=True)
def _narrow(table: np.ndarray, first_hash: np.uint64, span: np.uint64) -> int:
    """Leave in a table only the hashes whose upper 63 bits lie in a range; how many these are."""
    held = table[table != 0]
    table[:] = np.uint64(0)
    used = 0
    for h in held:
        if (h >> np.uint64(1)) - first_hash < span and _add(table, h):
            used += 1
    return used


@njit(cache=True, nogil=True, inline="always")
def _any(values: np.ndarray) -> bool:
    """Whether a value is not 0: without a branch, a loop the compiler vectorises."""
    together = np.uint64(0)
    for k in range(len(values)):
        together |= values[k]
    return together != 0


@njit(cache=True, nogil=True)
def _repeats(units: np.ndarray, marks: np.ndarray, ngram: int, factors: np.ndarray) -> np.ndarray:
    """uint8 [units]: `REPEAT` where the n-gram that begins at a unit equals an earlier one.

    Args:
        marks: of the n-grams of words alone: where there is none, units do not repeat either. Empty: they are unknown.
    """
    out = np.zeros(len(units), np.uint8)
    some = np.count_nonzero(marks) if len(marks) else len(units)
    room = 64
    while room < 2 * some:
        room *= 2
    table = np.zeros(room, np.uint64)
    for g in range(len(units) - ngram + 1 if some else 0):
        if len(marks) and marks[g] == 0:
            continue
        h = np.uint64(0)
        for w in range(ngram):
            h += units[g + w] * factors[w]
        if not _add(table, mix64(h) | np.uint64(1)):
            out[g] = REPEAT
    return out


@njit(cache=True, nogil=True)
def _sign(
    text: np.ndarray,
    offsets: np.ndarray,
    content: np.ndarray,
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    word_signs: np.ndarray,
    repeats: np.ndarray,
    by_text: np.ndarray,
    classes: np.ndarray,
    folded: np.ndarray,
    by_char: bool,
    ngram_words: int,
    units_per_word: np.ndarray,
    factors: np.ndarray,
    n_bands: int,
    a: np.ndarray,
    b: np.ndarray,
    k: int,
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    rows = len(a) // n_bands
    bands = np.empty((n, n_bands), np.uint64)
    counts = np.empty(n, np.uint32)
    sketch = np.empty(n * k, np.uint32)
    sketch_offsets = np.zeros(n + 1, np.int64)
    minima = np.empty(len(a), np.uint32)
    heap = np.empty(k, np.uint32)
    chunk = np.empty(CHUNK, np.uint32)
    wide = np.empty(CHUNK, np.uint64)
    low = np.empty(4 * k + 64 + CHUNK, np.uint32)
    starts, ordered = np.empty(SPREAD + 1, np.int64), np.empty(len(low), np.uint32)
    window = np.zeros(MAX_UNITS, np.uint64)
    for d in range(n):
        ngram = ngram_words if by_char else units_of(ngram_words, units_per_word[d])
        minima[:] = np.uint32(0xFFFFFFFF)
        held = filled = 0
        below = np.int64(0)
        ascending = False  # the heap is sorted
        distinct = 0
        if not by_text[d]:
            first, m = word_offsets[d], word_offsets[d + 1] - word_offsets[d]
            width = min(ngram, m)
            grams = max(m - ngram + 1, 1)
            units, again = word_hash[first : first + m], repeats[first : first + m]
            if len(again) < m or _any(word_signs[first : first + m]):
                units = units + word_signs[first : first + m]
                again = _repeats(units, again, ngram, factors)
            repeated = 0
            for g in range(min(grams, m)):
                repeated += again[g] == REPEAT
            bound = _sketch_bound(grams - repeated, k)
            for g in range(0, grams, CHUNK):
                filled = min(CHUNK, grams - g)
                if m == 0:
                    chunk[0] = np.uint32(mix64(content[d, 0]) >> np.uint64(32))
                else:
                    _hash_shingles(units[g:], filled, factors[:width], wide, chunk)
                    if repeated:
                        filled = _leave_out(chunk, again[g : g + filled])
                distinct += filled
                below = _keep_low(chunk, filled, bound, low, below)
                _update_minima(minima, a, b, chunk, filled)
            filled = 0
            if min(k, distinct) <= below < len(low) - CHUNK:
                held = min(k, below)
                _sort_spread(low[:below], bound, starts, ordered)
                heap[:held] = ordered[:held]
                ascending = True
            else:
                # The bound was too low (or far too high): a heap over all of them, once in many thousand documents.
                for g in range(0, grams, CHUNK):
                    _hash_shingles(units[g:], min(CHUNK, grams - g), factors[:width], wide, chunk)
                    held = _update_heap(heap, held, chunk, _leave_out(chunk, again[g : min(g + CHUNK, grams)]))
        else:
            # The distinct shingles of one range of hashes after another, each as wide as the set can hold.
            room = np.int64(64)
            most = offsets[d + 1] - offsets[d] + 1 if by_char else (offsets[d + 1] - offsets[d]) // 2 + 1
            while room < len(table) and room < 2 * most:
                room *= 2
            first_hash, span = np.uint64(0), np.uint64(1 << 63)
            while first_hash < np.uint64(1 << 63):
                table[:room] = np.uint64(0)
                used = 0
                i, end = offsets[d], offsets[d + 1]
                inside = False
                read = 0
                while True:
                    unit, after, inside = _next_unit(text, i, end, classes, folded, by_char, inside)
                    if after < 0 and read >= ngram:
                        break
                    if after >= 0:
                        i = after
                        if by_char and read == 0 and unit == 32:
                            continue  # no space before the first word
                        window[read % ngram] = unit
                        read += 1
                        if read < ngram:
                            continue
                    h = np.uint64(0)
                    width = min(read, ngram)
                    for w in range(width):
                        h += window[(read - width + w) % ngram] * factors[w]
                    if read == 0:
                        h = content[d, 0]
                    h = mix64(h) | np.uint64(1)
                    if (h >> np.uint64(1)) - first_hash < span and _add(table[:room], h):
                        used += 1
                        while used > room // 2:
                            span >>= np.uint64(1)
                            used = _narrow(table[:room], first_hash, span)
                    if after < 0:
                        break
                for slot in range(int(room)):
                    if table[slot] != 0:
                        chunk[filled] = np.uint32(table[slot] >> np.uint64(32))
                        filled += 1
                        if filled == CHUNK:
                            _update_minima(minima, a, b, chunk, filled)
                            held = _update_heap(heap, held, chunk, filled)
                            filled = 0
                distinct += used
                first_hash += span
        _update_minima(minima, a, b, chunk, filled)
        held = _update_heap(heap, held, chunk, filled)
        for band in range(n_bands):
            h = mix64(np.uint64(band) + np.uint64(0x9E3779B97F4A7C15))
            for j in range(band * rows, (band + 1) * rows):
                h = mix64(h ^ np.uint64(minima[j]))
            bands[d, band] = h
        counts[d] = distinct
        at = sketch_offsets[d]
        sketch[at : at + held] = heap[:held] if ascending else np.sort(heap[:held])
        sketch_offsets[d + 1] = at + held
    return bands, counts, sketch[: sketch_offsets[n]].copy(), sketch_offsets


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

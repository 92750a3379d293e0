"""Words as pairs of 60-bit numbers, and the hash of any run of words, from sums that are made once for a batch.

A run of words w_i .. w_j-1 is the polynomial w_i * B^(j-i-1) + ... + w_j-1 modulo the prime 2^61 - 1, for two bases B. Of
prefix sums P, it is P_j - P_i * B^(j-i), whatever i and j. Two different runs of at most m words have one hash with a
probability of (m / 2^61)^2 at most, if their words differ in both numbers, which they fail to do with 2^-120; for 50 words
that is 5e-34, and among 10^12 passages (5e23 pairs) one in 4e9 that a single one is cut for another. Anybody can forge them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ..signals.hashing import mix64
from ..signals.segment import Segments
from ..signals.unicode import DIGIT, INVISIBLE, SPACE, TABLE_SIZE, class_of, decode, tables

PRIME = np.uint64((1 << 61) - 1)
BASES = (np.uint64(0x1A3F5C96E0B7D285), np.uint64(0x0C94E2B17F36A8DB))
"""Two numbers below the prime, as random as any."""
_SEEDS = (np.uint64(0x9AE16A3B2F90404F), np.uint64(0xC949D7C7509E6557))
_STEPS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_LOW31, _LOW30 = np.uint64((1 << 31) - 1), np.uint64((1 << 30) - 1)
_ONE, _FOUR, _30, _31, _61 = (np.uint64(n) for n in (1, 4, 30, 31, 61))
_STEP_BITS = 12
_POWERS = 1 << _STEP_BITS


@njit(cache=True, nogil=True, inline="always")
def reduced(x: np.uint64) -> np.uint64:
    """A number modulo the prime."""
    x = (x & PRIME) + (x >> _61)
    return x - PRIME if x >= PRIME else x


@njit(cache=True, nogil=True, inline="always")
def product(a: np.uint64, b: np.uint64) -> np.uint64:
    """The product of two residues modulo the prime: 2^61 is 1, so what stands above goes below."""
    a_high, a_low, b_high, b_low = a >> _31, a & _LOW31, b >> _31, b & _LOW31
    middle = a_low * b_high + a_high * b_low
    return reduced(((a_high * b_high) << _ONE) + (middle >> _30) + ((middle & _LOW30) << _31) + a_low * b_low)


class Runs(NamedTuple):
    """What the hash of a run of words is made of."""

    sums: np.ndarray
    """uint64 [2, words + 1]: of the words before each."""
    low: np.ndarray
    """uint64 [2, 4096]: powers of the bases, and `high` those of their 4096th powers."""
    high: np.ndarray


def runs_of(words: np.ndarray, longest: int) -> Runs:
    """Prepare hashes of runs.

    Args:
        words: uint64 [2, words], below 2^60 and not 0.
        longest: words of a run at most.
    """
    return Runs(_sums(words), *_powers(longest))


@njit(cache=True, nogil=True)
def _sums(words: np.ndarray) -> np.ndarray:
    n = words.shape[1]
    sums = np.zeros((2, n + 1), np.uint64)
    for lane in range(2):
        total, base = np.uint64(0), BASES[lane]
        for i in range(n):
            total = reduced(product(total, base) + words[lane, i])
            sums[lane, i + 1] = total
    return sums


@njit(cache=True, nogil=True)
def _powers(longest: int) -> tuple[np.ndarray, np.ndarray]:
    low = np.ones((2, _POWERS), np.uint64)
    high = np.ones((2, (longest >> _STEP_BITS) + 1), np.uint64)
    for lane in range(2):
        for i in range(1, _POWERS):
            low[lane, i] = product(low[lane, i - 1], BASES[lane])
        step = product(low[lane, _POWERS - 1], BASES[lane])
        for i in range(1, high.shape[1]):
            high[lane, i] = product(high[lane, i - 1], step)
    return low, high


@njit(cache=True, nogil=True)
def run_hashes(runs: Runs, first: np.ndarray, end: np.ndarray, kind: int) -> np.ndarray:
    """uint64 [2, n]: hashes of 122 bits of the runs of words ``first[i] .. end[i] - 1``; those of two kinds differ."""
    sums, low, high = runs
    out = np.empty((2, len(first)), np.uint64)
    of_kind = np.uint64(kind) << _61
    for lane in range(2):
        for i in range(len(first)):
            length = end[i] - first[i]
            power = product(low[lane, length & (_POWERS - 1)], high[lane, length >> _STEP_BITS])
            value = reduced(sums[lane, end[i]] + PRIME - product(sums[lane, first[i]], power))
            # A bijection: what follows takes partitions from the highest bits.
            out[lane, i] = mix64(value ^ of_kind)
    return out


def compared_words(s: Segments, any_numbers: bool) -> np.ndarray:
    """uint64 [2, words]: words as lines are compared: case-folded, without what stands between them, but with the signs of
    code and formulas, as shingles are."""
    return _folded_words(s.text, s.word_start, s.word_end, s.word_signs, *tables(), any_numbers)


def exact_words(s: Segments) -> np.ndarray:
    """uint64 [2, words]: words with all that follows up to the next one; only white space and what is invisible do not count."""
    return _exact_words(s.text, s.offsets, s.word_offsets, s.word_start, tables()[0])


@njit(cache=True, nogil=True, inline="always")
def _residue(h: np.uint64) -> np.uint64:
    return (mix64(h) >> _FOUR) + _ONE


@njit(cache=True, nogil=True)
def _folded_words(
    text: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    signs: np.ndarray,
    classes: np.ndarray,
    folded: np.ndarray,
    any_numbers: bool,
) -> np.ndarray:
    out = np.empty((2, len(start)), np.uint64)
    for w in range(len(start)):
        h0, h1 = _SEEDS[0] ^ signs[w], _SEEDS[1] + signs[w] * _STEPS[1]
        i = start[w]
        while i < end[w]:
            cp, i = decode(text, i)
            flags = class_of(classes, cp)
            if flags & INVISIBLE:
                continue
            char = np.uint64(folded[cp] if cp < TABLE_SIZE and folded[cp] else cp)
            if any_numbers and flags & DIGIT:
                char = np.uint64(48)
            h0 = (h0 ^ char) * _STEPS[0]
            h1 = (h1 + char) * _STEPS[1]
            h1 ^= h1 >> _31
        out[0, w], out[1, w] = _residue(h0), _residue(h1)
    return out


@njit(cache=True, nogil=True)
def _exact_words(
    text: np.ndarray, offsets: np.ndarray, word_offsets: np.ndarray, start: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    out = np.empty((2, len(start)), np.uint64)
    for d in range(len(offsets) - 1):
        for w in range(word_offsets[d], word_offsets[d + 1]):
            end = start[w + 1] if w + 1 < word_offsets[d + 1] else offsets[d + 1]
            h0, h1 = _SEEDS[0], _SEEDS[1]
            i = start[w]
            while i < end:
                cp, i = decode(text, i)
                if class_of(classes, cp) & (SPACE | INVISIBLE):
                    continue
                h0 = (h0 ^ np.uint64(cp)) * _STEPS[0]
                h1 = (h1 + np.uint64(cp)) * _STEPS[1]
                h1 ^= h1 >> _31
            out[0, w], out[1, w] = _residue(h0), _residue(h1)
    return out

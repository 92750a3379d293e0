"""N-grams of the benchmarks' items: their words, with numbers as one, and the hashes of every n in a row.

An n-gram of numbers and a few words that repeat says nothing, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from ...tokenize.spans import text_buffers
from .hashing import mix64
from .numerals import NumeralTables, next_word, numeral_tables
from .segment import MAX_WORDS, segment

PAIR_BITS = 1 << 22
MAX_NGRAM = 32
STEP = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Words:
    """The words of some texts, with numbers as one."""

    offsets: np.ndarray
    """int64 [texts + 1]."""
    hashes: np.ndarray
    """uint64 [words]."""
    numbers: np.ndarray
    """int64 [words + 1]: numbers before each."""

    @property
    def counts(self) -> np.ndarray:
        """int64 [texts]: words of each."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Grams:
    """The n-grams of some texts."""

    hashes: np.ndarray
    """uint64 [grams]."""
    text: np.ndarray
    """int64 [grams]: index into `texts` of each."""


def words_of(texts: Sequence[str]) -> Words:
    """The words of texts."""
    s = segment(*text_buffers(pa.array(texts, pa.large_string())))
    return Words(*_words(s.text, s.word_offsets, s.word_hash, s.word_start, s.word_end, numeral_tables()))


def text_grams(
    words: Words,
    texts: np.ndarray,
    ngram: int,
    pairs: np.ndarray,
    first: np.ndarray | int = 0,
    end: np.ndarray | int = MAX_WORDS,
) -> Grams:
    """N-grams of some texts, but for those of numbers and hardly a word.

    Args:
        texts: int64 [texts]: indices into those of `words`.
        pairs: the bitmap of a `ContaminationIndex`; the pairs of these n-grams are added to it.
        first, end: int64 [texts]: the n-grams of a text that are wanted, by the index of their first word in it.
    """
    starts, sizes = words.offsets[texts], words.counts[texts]
    last = np.minimum(end, sizes - ngram + 1)
    return Grams(*_grams(words.hashes, words.numbers, ngram, starts + np.maximum(first, 0), starts + last, pairs))


def no_pairs() -> np.ndarray:
    """An empty bitmap of pairs."""
    return np.zeros(PAIR_BITS // 64, np.uint64)


@njit(cache=True, nogil=True, inline="always")
def pair_bit(a: np.uint64, b: np.uint64) -> np.uint64:
    return (a * np.uint64(0x9E3779B97F4A7C15) + b * STEP) >> np.uint64(42)


@njit(cache=True, nogil=True, inline="always")
def least_words(n: int) -> int:
    """Different words, numbers apart, of an n-gram that says something: formulas and tables repeat a few between numbers."""
    return n // 3


@njit(cache=True, nogil=True)
def _says_something(hashes: np.ndarray, numbers: np.ndarray, w: int, n: int) -> bool:
    found = 0
    for k in range(w, w + n):
        new = numbers[k + 1] == numbers[k]
        for j in range(w, k):
            new &= hashes[j] != hashes[k]
        found += new
    return found >= least_words(n)


@njit(cache=True, nogil=True)
def _words(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    numerals: NumeralTables,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    offsets = np.zeros(len(word_offsets), np.int64)
    hashes = np.empty(len(word_hash), np.uint64)
    numbers = np.zeros(len(word_hash) + 1, np.int64)
    k = 0
    for d in range(len(word_offsets) - 1):
        w, last = word_offsets[d], word_offsets[d + 1]
        while w < last:
            hashes[k], number, w = next_word(text, word_hash, word_start, word_end, numerals, w, last)
            numbers[k + 1] = numbers[k] + number
            k += 1
        offsets[d + 1] = k
    return offsets, hashes[:k].copy(), numbers[: k + 1].copy()


@njit(cache=True, nogil=True)
def _grams(
    hashes: np.ndarray, numbers: np.ndarray, n: int, first: np.ndarray, end: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    most = 0
    for t in range(len(first)):
        most += max(0, end[t] - first[t])
    grams = np.empty(most, np.uint64)
    owner = np.empty(most, np.int64)
    total = 0
    for t in range(len(first)):
        for w in range(first[t], end[t]):
            if not _says_something(hashes, numbers, w, n):
                continue
            h = np.uint64(n)
            for k in range(w, w + n):
                h = h * STEP + hashes[k]
                if k > w:
                    bit = pair_bit(hashes[k - 1], hashes[k])
                    pairs[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
            grams[total] = mix64(h)
            owner[total] = t
            total += 1
    return grams[:total].copy(), owner[:total].copy()

"""Stop words by language: how many of its language's, and how many different ones, a document holds.

Lists are those of FineWeb-2 (fineweb2.py); languages without one, English and what has no language are counted by
Gopher's eight English words (gopher.py). A stop word of an unspaced script is a sequence of units, and is found wherever
they follow each other: no segmenter says whether they are a word there, and for the few words of these lists they mostly are.

All lists are one table. Its keys are hashes of sequences of units, begun with the number of their language; a document is
looked up with the number of its own, so that languages do not meet.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numba import njit

from .fineweb2 import language_rules
from .hashing import mix64
from .language import load_model
from .segment import Segments, segment
from .word_hashes import WORD_STEP

NOT_OUR_WORDS = ("ko",)
"""Languages whose list is of parts of words: Korean particles and endings, which a morphological analyser parts from the words
that they are written together with."""


@dataclass(frozen=True)
class StopWords:
    """The lists of all languages."""

    listed: np.ndarray
    """int64 [columns of the language model]: the number of a language, from 1; 0 without a list."""
    longest: np.ndarray
    """int64 [numbers]: units of the longest stop word of each."""
    keys: np.ndarray
    """uint64 [slots]; 0 where empty."""
    values: np.ndarray
    """uint8 [slots]: place of a stop word in its list, below 64."""


def languages_with_stop_words() -> tuple[str, ...]:
    """Codes of the languages that have a list of their own."""
    return tuple(code for code, rules in language_rules().items() if rules.stopwords and code not in NOT_OUR_WORDS)


@functools.cache
def load_stop_words() -> StopWords:
    """The lists that come with the package."""
    codes = languages_with_stop_words()
    columns = load_model().languages
    listed = np.array([codes.index(c) + 1 if c in codes else 0 for c in columns], np.int64)
    longest = np.ones(len(codes) + 1, np.int64)
    entries: dict[int, int] = {}
    for number, code in enumerate(codes, 1):
        words = [word.encode() for word in language_rules()[code].stopwords[:64]]
        offsets = np.append(0, np.cumsum([len(w) for w in words]))
        s = segment(np.frombuffer(b"".join(words), np.uint8), offsets)
        for place in range(len(words)):
            units = s.word_hash[s.word_offsets[place] : s.word_offsets[place + 1]]
            if len(units):
                entries.setdefault(int(_key(np.uint64(number), units)), place)
                longest[number] = max(longest[number], len(units))
    slots = 1 << (4 * len(entries)).bit_length()
    keys, values = np.zeros(slots, np.uint64), np.zeros(slots, np.uint8)
    for key, place in entries.items():
        slot = (key >> 9) % slots
        while keys[slot]:
            slot = (slot + 1) % slots
        keys[slot], values[slot] = key, place
    return StopWords(listed, longest, keys, values)


def stop_word_counts(s: Segments, languages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(documents whose language has a list of its own, int64 [those, 2]: stop words, and different ones).

    Args:
        languages: int64 [n]: columns of the language model, -1 for none.
    """
    lists = load_stop_words()
    numbers = np.where(languages < 0, 0, lists.listed[languages])
    documents = np.flatnonzero(numbers)
    if not len(documents):
        return documents, np.empty((0, 2), np.int64)
    return documents, _count(
        s.word_offsets, s.word_hash, documents, numbers[documents], lists.longest, lists.keys, lists.values
    )


@njit(cache=True, nogil=True, inline="always")
def _extended(key: np.uint64, unit: np.uint64) -> np.uint64:
    """The key of a sequence with one more unit."""
    return mix64((key ^ unit) * WORD_STEP) | np.uint64(1)


@njit(cache=True, nogil=True)
def _key(number: np.uint64, units: np.ndarray) -> np.uint64:
    key = number
    for unit in units:
        key = _extended(key, unit)
    return key


@njit(cache=True, nogil=True)
def _count(
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    documents: np.ndarray,
    numbers: np.ndarray,
    longest: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    out = np.zeros((len(documents), 2), np.int64)
    mask = np.uint64(len(keys) - 1)
    for i in range(len(documents)):
        first, last = word_offsets[documents[i]], word_offsets[documents[i] + 1]
        most = longest[numbers[i]]
        seen = np.uint64(0)
        total = 0
        for w in range(first, last):
            key = np.uint64(numbers[i])
            for k in range(w, min(w + most, last)):
                key = _extended(key, word_hash[k])
                slot = (key >> np.uint64(9)) & mask
                while keys[slot] != 0 and keys[slot] != key:
                    slot = (slot + np.uint64(1)) & mask
                if keys[slot] == key:
                    total += 1
                    seen |= np.uint64(1) << np.uint64(values[slot])
        distinct = 0
        while seen:
            seen &= seen - np.uint64(1)
            distinct += 1
        out[i, 0], out[i, 1] = total, distinct
    return out

"""Words with numbers as one: what n-grams of benchmarks are made of, so that an item with other numbers is the same item.

A number is a word that begins with a digit, with its decimals and groups (1,250.5 is one), or an English number word
(`twenty-five` is one, too). All numbers are the same word; what follows the digits of one still counts (10am is no 10kg).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import njit

from .hashing import mix64
from .leaf import leaf
from .unicode import DIGIT, INVISIBLE, TABLE_SIZE, class_of, decode, tables
from .word_hashes import WORD_SEED, WORD_STEP, word_hash

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion"
).split()

_DIGITS = np.uint64(ord("#"))
"""Stands for a run of digits; no word holds it."""
NUMERAL = np.uint64(word_hash("#"))
"""The hash of every number without a unit."""
_SLOTS = 256
_COMMA, _HYPHEN, _POINT = ord(","), ord("-"), ord(".")


class NumeralTables(NamedTuple):
    """What kernels ask of characters and words to tell numbers."""

    classes: np.ndarray
    folded: np.ndarray
    """Classes and folded characters, as in unicode.py."""
    leads: np.ndarray
    """bool [256]: bytes that a digit may begin with."""
    words: np.ndarray
    """uint64 [256]: the hash of every number word in a slot of its own, 0 elsewhere."""
    shift: int
    """Which bits of a hash name its slot."""


@functools.cache
def numeral_tables() -> NumeralTables:
    """The tables, made once."""
    classes, folded = tables()
    leads = np.zeros(256, np.bool_)
    leads[[chr(cp).encode()[0] for cp in np.flatnonzero(classes & DIGIT).tolist()]] = True
    keys = np.array([word_hash(word) for word in NUMBER_WORDS], np.uint64)
    slots_by = ((shift, (keys >> np.uint64(shift)) % np.uint64(_SLOTS)) for shift in range(57))
    shift, slots = next((shift, slots) for shift, slots in slots_by if len(set(slots.tolist())) == len(keys))
    words = np.zeros(_SLOTS, np.uint64)
    words[slots] = keys
    return NumeralTables(classes, folded, leads, words, shift)


@njit(cache=True, nogil=True, inline="always")
def is_number_word(tables: NumeralTables, key: np.uint64) -> bool:
    """Whether a hash is that of a number word."""
    return tables.words[(key >> np.uint64(tables.shift)) & np.uint64(_SLOTS - 1)] == key


@njit(cache=True, nogil=True, inline="always")
def _begins_with_digit(text: np.ndarray, start: int, tables: NumeralTables) -> bool:
    return tables.leads[text[start]] and (class_of(tables.classes, decode(text, start)[0]) & DIGIT) != 0


@leaf
def _without_digits(text: np.ndarray, start: int, end: int, tables: NumeralTables) -> np.uint64:
    """The hash of a word that begins with a digit: runs of digits count as one sign, whatever they say."""
    h = (WORD_SEED ^ _DIGITS) * WORD_STEP
    digits = True
    i = start
    while i < end:
        cp, i = decode(text, i)
        kind = class_of(tables.classes, cp)
        if kind & INVISIBLE:
            continue
        if kind & DIGIT:
            if not digits:
                h = (h ^ _DIGITS) * WORD_STEP
            digits = True
            continue
        digits = False
        h = (h ^ np.uint64(tables.folded[cp] if cp < TABLE_SIZE else cp)) * WORD_STEP
    return mix64(h)


@leaf
def next_word(
    text: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    tables: NumeralTables,
    w: int,
    last: int,
) -> tuple[np.uint64, bool, int]:
    """(hash, whether it is a number, index of the word after it) of the word at index w, of those of a document that ends
    before index `last`.
    """
    key = word_hash[w]
    if _begins_with_digit(text, word_start[w], tables):
        while True:
            key = _without_digits(text, word_start[w], word_end[w], tables)
            after = word_end[w]
            w += 1
            if not (
                key == NUMERAL
                and w < last
                and word_start[w] == after + 1
                and (text[after] == _POINT or text[after] == _COMMA)
                and _begins_with_digit(text, word_start[w], tables)
            ):
                return key, True, w
    if is_number_word(tables, key):
        w += 1
        while (
            w < last
            and word_start[w] == word_end[w - 1] + 1
            and text[word_end[w - 1]] == _HYPHEN
            and is_number_word(tables, word_hash[w])
        ):
            w += 1
        return NUMERAL, True, w
    return key, False, w + 1

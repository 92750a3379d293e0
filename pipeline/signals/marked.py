"""Words that signals look for, found by their hash: one table lookup per word of the text.

A `Marked` list gives each of its words a number from 1; `numbers` returns the number of every word of a batch, 0 for all
others. Phrases are sequences of numbers, matched by the kernels that know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from .word_hashes import word_hash

_SLOTS = 1024


@dataclass(frozen=True)
class Marked:
    """An open-addressing table of at most a few hundred word hashes."""

    keys: np.ndarray
    """uint64 [_SLOTS]; 0 where empty."""
    values: np.ndarray
    """uint8 [_SLOTS]."""

    @classmethod
    def of(cls, words: Sequence[str]) -> Marked:
        assert len(words) < 255
        keys, values = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.uint8)
        for number, word in enumerate(words, 1):
            key = word_hash(word.casefold())
            slot = key % _SLOTS
            while keys[slot]:
                slot = (slot + 1) % _SLOTS
            keys[slot], values[slot] = key, number
        return cls(keys, values)

    def numbers(self, hashes: np.ndarray) -> np.ndarray:
        """uint8 [words]: the number of every word, 0 if it is not marked."""
        return _numbers(hashes, self.keys, self.values)


@njit(cache=True, nogil=True)
def _numbers(hashes: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros(len(hashes), np.uint8)
    mask = np.uint64(len(keys) - 1)
    for i in range(len(hashes)):
        h = hashes[i]
        slot = h & mask
        while keys[slot] != 0:
            if keys[slot] == h:
                out[i] = values[slot]
                break
            slot = (slot + np.uint64(1)) & mask
    return out

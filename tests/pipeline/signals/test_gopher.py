"""The pairs of words that Gopher's repetition begins with, against plain Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from fox1.pipeline.signals.gopher import _repeated_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.sampled_from("a b c d e f".split()), max_size=60))
def test_pairs_that_occur_twice_are_among_those_that_may(words: list[str]) -> None:
    hashes = np.array([hash_of(word) for word in words], np.uint64)
    pending, place = np.empty(64, np.uint64), np.empty(64, np.int32)
    count = repeated_pairs(hashes, np.empty(512, np.uint8), pending, place)
    pairs = list(pairwise(words))
    twice = [k for k, pair in enumerate(pairs) if pairs.count(pair) > 1]
    assert set(twice) <= set(place[:count].tolist())
    assert place[:count].tolist() == sorted(set(place[:count].tolist()))
    keys = dict(zip(place[:count].tolist(), pending[:count].tolist(), strict=True))
    assert all((keys[j] == keys[k]) == (pairs[j] == pairs[k]) for j in twice for k in twice)


def hash_of(word: str) -> int:
    return (ord(word) * 0x9E3779B97F4A7C15) % 2**64


@njit
def repeated_pairs(words: np.ndarray, seen: np.ndarray, pending: np.ndarray, place: np.ndarray) -> int:
    return _repeated_pairs(words, seen, pending, place)

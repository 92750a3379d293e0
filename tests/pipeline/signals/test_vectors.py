"""Masks of 64 bytes, bits of numbers, and the sort of a sketch, against plain Python."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fox1.pipeline.signals.gopher import _repeated_pairs
from fox1.pipeline.signals.minhash import SPREAD, _sort_spread
from fox1.pipeline.signals.vectors import LANES, byte_class, leading_zeros, prefetch, trailing_zeros
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

RANGES = ((48, 57), (65, 90), (95, 95), (128, 255))
_mask = byte_class(*RANGES)
_lowest = byte_class((0, 0), (255, 255))


@njit
def masks(text: np.ndarray, at: int) -> tuple[Any, Any]:
    return _mask(text, at), _lowest(text, at)


@njit
def zeros(value: Any) -> tuple[int, int]:
    return trailing_zeros(value), leading_zeros(value)


@njit
def read_ahead(values: np.ndarray, at: int) -> int:
    prefetch(values, at)
    return values[at]


@settings(deadline=None)  # the first example compiles
@given(st.binary(min_size=LANES, max_size=2 * LANES), st.data())
def test_a_mask_has_a_bit_for_every_byte_of_its_class(data: bytes, draw: st.DataObject) -> None:
    text = np.frombuffer(data, np.uint8)
    at = draw.draw(st.integers(0, len(text) - LANES))
    own = text[at : at + LANES].tolist()
    found = masks(text, at)
    assert found[0] == sum(1 << k for k, b in enumerate(own) if any(first <= b <= last for first, last in RANGES))
    assert found[1] == sum(1 << k for k, b in enumerate(own) if b in (0, 255))


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 2**64 - 1))
@example(0)
@example(1)
@example(2**64 - 1)
def test_zeros_are_counted_at_both_ends(value: int) -> None:
    lowest = (value & -value).bit_length() - 1 if value else 64
    assert zeros(np.uint64(value)) == (lowest, 64 - value.bit_length())


@pytest.mark.parametrize("type_", [np.int16, np.int32])
def test_reading_ahead_changes_nothing(type_: type) -> None:
    values = np.arange(100, dtype=type_)
    assert [read_ahead(values, k) for k in range(100)] == list(range(100))


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 2**32 - 1), st.data())
def test_a_sketch_is_sorted_wherever_its_values_lie(bound: int, draw: st.DataObject) -> None:
    values = draw.draw(st.lists(st.integers(0, bound), max_size=300))
    out = np.zeros(len(values), np.uint32)
    _sort_spread(np.array(values, np.uint32), np.uint32(bound), np.empty(SPREAD + 1, np.int64), out)
    assert out.tolist() == sorted(values)


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

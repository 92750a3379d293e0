"""Masks of 64 bytes, bits of numbers and the least of many, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fox1.tokenize.vectors import (
    LANES,
    NUMBERS,
    byte_class,
    leading_zeros,
    least_of,
    load_eight,
    prefetch,
    trailing_zeros,
)
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


@njit
def least(numbers: np.ndarray, at: int) -> int:
    return least_of(numbers, at)


@njit
def eight(data: np.ndarray, at: int) -> Any:
    return load_eight(data, at)


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=NUMBERS, max_size=2 * NUMBERS), st.data())
def test_the_least_of_many_numbers(numbers: list[int], draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(numbers) - NUMBERS))
    assert least(np.array(numbers, np.int32), at) == min(numbers[at : at + NUMBERS])


@settings(deadline=None)  # the first example compiles
@given(st.binary(min_size=8, max_size=32), st.data())
def test_eight_bytes_are_one_number_wherever_they_begin(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 8))
    assert eight(np.frombuffer(data, np.uint8), at) == int.from_bytes(data[at : at + 8], "little")

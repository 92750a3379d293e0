"""Human units."""

from __future__ import annotations

import pytest
from fox1.recipes.units import quantity, rows_or_share, share
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.05T", 1_050_000_000_000),
        ("62B", 62_000_000_000),
        ("2M", 2_000_000),
        ("60k", 60_000),
        ("2Mi", 2_097_152),
        (7, 7),
        ("1e3", 1000),
    ],
)
def test_units_are_exact(text: str, value: int) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["1.5", "x", "3Q", "", "-1", True, None, "1.00000001K"])
def test_what_is_no_whole_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"quantity|unit|whole"):
        quantity(text)


@given(st.integers(0, 10**15))
def test_plain_numbers_come_back(n: int) -> None:
    assert quantity(str(n)) == n


def test_shares() -> None:
    assert share("20%") == 0.2
    assert share(0.5) == 0.5
    assert rows_or_share("0.1%") == 0.001
    assert rows_or_share(50) == 50
    assert rows_or_share("100%") < 1
    assert share("0.2") == rows_or_share("0.2") == 0.2
    assert rows_or_share("1e3") == rows_or_share("1000") == 1000
    for wrong in ("120%", "1.5", "x", "nan", ""):
        with pytest.raises(ValueError, match=r"share|percentage"):
            share(wrong)

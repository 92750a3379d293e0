"""Human units in recipes: `1.05T` tokens, `2Mi` tokens a batch, `0.5%`."""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z]*?)\s*")


def quantity(value: Any) -> int:
    """A whole number with an optional unit: K, M, B (or G), T are powers of 1000; Ki, Mi, Gi, Ti of 1024.

    Raises:
        ValueError: no number, an unknown unit, or not whole.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a quantity; write for example 62B, 2Mi or 4096")
    match = _QUANTITY.fullmatch(str(value))
    if not match:
        raise ValueError(f"{value!r} is not a quantity; write for example 62B, 2Mi or 4096")
    number, unit = match.groups()
    units = {**_DECIMAL, **_BINARY}
    if unit not in units:
        raise ValueError(f"unknown unit {unit!r} in {value!r}; choose K, M, B, T or Ki, Mi, Gi, Ti")
    exact = Fraction(number) * units[unit]
    if exact.denominator != 1:
        raise ValueError(f"{value!r} is not a whole number")
    return int(exact)


def share(value: Any) -> float:
    """A share between 0 and 1, or a percentage such as `0.1%`."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            value = float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"{value!r} is not a percentage; write for example 20%") from None
    elif isinstance(value, str):
        # From a command line.
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a share; write for example 0.2 or 20%")
    if not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not a share between 0 and 1")
    return float(value)


def rows_or_share(value: Any) -> float:
    """A number of rows, or a share such as `0.1%`."""
    if isinstance(value, str) and "%" in value:
        # A share stays below 1, which is a number of rows.
        return min(share(value), 0.999999999)
    if (isinstance(value, float) and value < 1) or (isinstance(value, str) and value.strip().startswith((".", "0."))):
        return share(value)
    return float(quantity(value))


Quantity = Annotated[int, BeforeValidator(quantity)]
Share = Annotated[float, BeforeValidator(share)]
RowsOrShare = Annotated[float, BeforeValidator(rows_or_share)]

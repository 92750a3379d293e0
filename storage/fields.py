"""What a recipe may write in a field of settings, beyond its Python type: units, bounds, choices, mappings by name.

Settings are plain frozen dataclasses beside the code that reads them. A recipe is checked against them as they stand, by
pydantic, which asks the marks below for their part:

    jaccard: Share = 0.8                                          # 80% or 0.8
    bands: Annotated[int, Bounds(ge=1, le=64)] = 14
    pii: Annotated[tuple[tuple[str, str], ...], Pairs()] = ()     # a mapping

Nothing here imports pydantic: workers and the trainer, which are given settings and never read a recipe, do without it.
What is made in Python is taken as it is, unless `check_bounds` is asked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

_DECIMAL = {"": 1, "K": 10**3, "k": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z]*?)\s*")


def quantity(value: Any) -> int:
    """A whole number with an optional unit: K (or k), M, B (or G), T are powers of 1000; Ki, Mi, Gi, Ti of 1024.

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


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest value of a number, or the fewest entries of a list."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None

    def admits(self, value: Any) -> bool:
        """Whether a number, or a list, lies within; NaN and the infinite do not."""
        if isinstance(value, tuple | list | str):
            return len(value) >= (self.min_length or 0)
        return (
            math.isfinite(value)
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        """The range in words, e.g. `above 0 and at most 1`."""
        words = {
            "ge": "at least",
            "gt": "above",
            "le": "at most",
            "lt": "below",
            "min_length": "of a length of at least",
        }
        return " and ".join(
            f"{said} {vars(self)[name]:g}" for name, said in words.items() if vars(self)[name] is not None
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = inner = handler(source)
        while inner["type"].startswith("function-"):
            inner = inner["schema"]
        inner.update({name: bound for name, bound in vars(self).items() if bound is not None})
        return schema


@dataclass(frozen=True, eq=False)
class Written:
    """A value that a recipe may write in another form, which `parse` turns into the field's.

    Compared by identity, since a union (`Share | None`) hashes its parts.
    """

    parse: Callable[[Any], Any]
    forms: tuple[Mapping[str, Any], ...] = ()
    """JSON Schemas of the other forms."""
    only: bool = False
    """The field's own form is not one that a recipe can write."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        own = () if self.only else (handler(schema),)
        every = [*own, *map(dict, self.forms)]
        return every[0] if len(every) == 1 else {"anyOf": every}


@dataclass(frozen=True)
class OneOf:
    """One of a few texts, from a table of the code that acts on them."""

    choices: Sequence[str] | Callable[[], Sequence[str]]
    """A function where the table is slow to import."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.choices() if callable(self.choices) else self.choices))


@dataclass(frozen=True)
class Pairs:
    """A tuple of (key, value) that a recipe writes as a mapping: sorted, so that a new order re-runs nothing."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        mapping: Any = dict
        return core_schema.no_info_after_validator_function(
            lambda found: tuple(sorted(found.items())),
            handler.generate_schema(mapping[get_args(get_args(source)[0])]),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


class _Name(str):
    """The key of a mapping on its way into the settings it stands for."""


@dataclass(frozen=True)
class Derived:
    """A field that no recipe writes: it follows from another part of it, or from where the settings stand."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def derived(value: Any) -> str:
            if isinstance(value, _Name):
                return str(value)
            raise PydanticCustomError("extra_forbidden", "unknown key")

        return core_schema.no_info_before_validator_function(derived, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        from pydantic_core import PydanticOmit

        raise PydanticOmit


@dataclass(frozen=True)
class Keyed:
    """Settings that a recipe writes as a mapping by name; `field`, which is `Derived`, takes the name.

    The Python type is a mapping; or a tuple of the settings, which is sorted by name (its order says nothing) and from which
    null takes one out that another recipe put in.
    """

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def named(value: Any) -> Any:
            if not isinstance(value, Mapping):
                return value
            return {k: {self.field: _Name(k), **v} if isinstance(v, Mapping) else v for k, v in value.items()}

        if get_origin(source) is dict:
            return core_schema.no_info_before_validator_function(named, handler(source))
        mapping: Any = dict
        by_name = handler.generate_schema(mapping[str, get_args(source)[0] | None])
        return core_schema.no_info_after_validator_function(
            lambda found: tuple(v for _, v in sorted(found.items()) if v is not None),
            core_schema.no_info_before_validator_function(named, by_name),
            serialization=core_schema.plain_serializer_function_ser_schema(list),
        )


def _object(value: Any) -> str:
    if not isinstance(value, Mapping):
        raise ValueError("write a mapping of arguments, such as {name: value}")
    return json.dumps(value, sort_keys=True)


def _subset(value: Any) -> tuple[str, str]:
    corpus, slash, subset = str(value).partition("/")
    if not slash:
        raise ValueError(f"write corpus/subset, not {value!r}")
    return corpus, subset


def check_bounds(settings: Any, where: str = "") -> None:
    """Check the numbers of settings that did not come from a recipe.

    Args:
        settings: a dataclass; dataclasses and tuples of them within are checked as well.
        where: what it is called in messages.

    Raises:
        ValueError: a number is out of its bounds, or not finite.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        _check(hints[field.name], getattr(settings, field.name), f"{where}.{field.name}" if where else field.name)


def _check(hint: Any, value: Any, where: str) -> None:
    if value is None:
        return
    if is_dataclass(value):
        check_bounds(value, where)
        return
    if isinstance(value, tuple):
        kinds = get_args(hint)
        each = kinds[:1] * len(value) if kinds[1:] == (...,) else kinds
        for i, (kind, part) in enumerate(zip(each, value, strict=True)):
            _check(kind, part, f"{where}[{i}]")
        return
    if get_origin(hint) in (Union, UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Bounds) and not mark.admits(value):
            raise ValueError(f"{where} is {value}; it must be {mark}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; it must be a finite number")


WITH_UNIT = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?\s*([KkMBGT]|[KMGT]i)?\s*$"}
PERCENTAGE = {"type": "string", "pattern": r"^\s*[0-9.eE+-]+\s*%?\s*$"}

Quantity = Annotated[int, Written(quantity, (WITH_UNIT,))]
"""A whole number, also with a unit: 62B, 2Mi, 4096."""
Share = Annotated[float, Bounds(ge=0, le=1), Written(share, (PERCENTAGE,))]
"""0 to 1, also as a percentage: 0.2, 20%."""
QuantityOrShare = Annotated[
    int, Written(quantity, (WITH_UNIT, PERCENTAGE, {"type": "number", "minimum": 0, "maximum": 1}))
]
"""A quantity; the recipe has turned a share of another one into it."""
Arguments = Annotated[str, Written(_object, ({"type": "object"},), only=True)]
"""A JSON object as text, so that settings compare and hash; a mapping in a recipe."""
Subset = Annotated[tuple[str, str], Written(_subset, ({"type": "string", "pattern": "^[^/]+/.+"},), only=True)]
"""(corpus, subset); `corpus/subset` in a recipe."""

"""What an adapter is: how one corpus writes its rows. Each format has a file of its own."""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

META_BYTES = 1 << 16
"""Longer metadata is treated as absent: a line of a hundred megabytes of `[],` would become gigabytes of objects."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME_BYTES = 255
"""Longest name of a file or folder."""
NOT_UNDERSTOOD = -1
"""A row's time is there, but says nothing that can be read."""
_DATE = re.compile(r"((?:19|20)\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?)?)?", re.ASCII)
"""Digits of a date: year, month, day, hour, minute, second; from the right any number may be absent."""
_FIRST = (0, 1, 1, 0, 0, 0)
"""What stands for an absent part of a date."""
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)
_LATEST = 95_617_584_000
"""Seconds to the year 5000: what is more counts in smaller units."""
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Of a second, in which programs count time since 1970."""
_TIME_CHARS = 64


class Facts(NamedTuple):
    """What an adapter reads from a row besides its text."""

    subset: str
    native_id: str
    url: str
    timestamp: int = 0
    """Seconds since 1970 when the document was made or crawled, by its source; 0 if the source does not say, and
    `NOT_UNDERSTOOD`."""


@dataclass(frozen=True)
class Adapter:
    """How one corpus writes its rows."""

    row: type[msgspec.Struct]
    """A row's fields, `text` or `content` among them; unknown fields are skipped by the decoder."""
    text: str
    """Name of the text field."""
    facts: Callable[[Any, str], Facts]
    """(row, path of the file in the corpus) -> facts."""
    composed: bool = False
    """The text is made of several fields by the row itself; no column of a table holds it."""
    max_line: int = 1 << 40
    """Longer lines go to quarantine, where a row is decoded into many objects."""


def names_a_folder(subset: str) -> bool:
    """Whether a subset's name, which comes from the rows, can name a folder of a run and a line of a table."""
    return len(subset) <= _NAME_BYTES and _fits_a_name(subset)


@functools.lru_cache(maxsize=4096)
def _fits_a_name(subset: str) -> bool:
    return len(quote(subset, safe="").replace(".", "%2E")) <= _NAME_BYTES if is_plain(subset) else False


def first_folder(path: str) -> str:
    """The subset of a file by its place in the corpus; files that lie in no folder are one subset."""
    return path.split("/")[0] if "/" in path else "default"


def is_plain(name: str) -> bool:
    """Whether a name has no control characters, which could steer a terminal, and can be written as UTF-8."""
    return not _CONTROL.search(name)


def _decoded(value: object) -> object:
    """A metadata value, decoded if its row still holds it as JSON."""
    if not isinstance(value, msgspec.Raw):
        return value
    data = memoryview(value)
    return msgspec.json.decode(data) if 0 < len(data) <= META_BYTES else None


def as_text(value: object) -> str:
    """A metadata value as a string; absent values are empty."""
    value = _decoded(value)
    try:
        return value if isinstance(value, str) else "" if value is None else str(value)
    except ValueError:  # a number of thousands of digits
        return ""


def as_timestamp(value: object) -> int:
    """A time as seconds since 1970; 0 where there is none (or it is before), `NOT_UNDERSTOOD` for what is none.

    Times are ISO 8601 or as mail and HTTP write them; digits of a date (2023, 20230101, 20230101000000); or seconds since 1970 or
    thousandths, millionths or billionths of them, as numbers or as text. A number is a date where it can be one: as seconds it
    would be in the year 1970.
    """
    value = _decoded(value)
    if value is None or value == "":
        return 0
    try:
        if isinstance(value, str):
            value = value.strip()[:_TIME_CHARS]
            if not _NUMBER.fullmatch(value):
                return _seconds(_moment(value))
        elif not isinstance(value, int | float) or isinstance(value, bool):
            return NOT_UNDERSTOOD
        whole = int(float(value)) if "." in str(value) else int(value)
        if date := _DATE.fullmatch(str(whole)):
            parts = (int(part or least) for part, least in zip(date.groups(), _FIRST, strict=True))
            year, month, day, hour, minute, second = parts
            with suppress(ValueError):
                return _seconds(datetime(year, month, day, hour, minute, second))
        return next((max(0, whole // unit) for unit in _UNITS if whole // unit <= _LATEST), NOT_UNDERSTOOD)
    except (ValueError, OverflowError, TypeError):
        return NOT_UNDERSTOOD


def _moment(text: str) -> datetime:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    with suppress(ValueError):
        bare = re.sub(r"\s*(UTC|GMT)$", "", text).replace("/", "-")
        return datetime.fromisoformat(f"{bare}-01" if len(bare) == len("2023-01") else bare)
    return parsedate_to_datetime(text)


def _seconds(moment: datetime) -> int:
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


_Meta = TypeVar("_Meta", bound=msgspec.Struct)


def as_meta(value: _Meta | str | None, type_: type[_Meta]) -> _Meta:
    """The metadata of a row: an object, or the JSON or Python's repr of one. What is none of these has no key."""
    if isinstance(value, type_):
        return value
    if not isinstance(value, str) or len(value) > META_BYTES:
        return type_()
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(value, type=type_)
    # Some shards hold the repr of a Python dictionary.
    with (
        suppress(msgspec.MsgspecError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError),
        warnings.catch_warnings(),
    ):
        # What Python has to say of somebody else's escapes is no news to who runs fox1.
        warnings.simplefilter("ignore")
        return msgspec.json.decode(msgspec.json.encode(ast.literal_eval(value)), type=type_)
    return type_()

"""What an adapter is: how one corpus writes its rows. Each format has a file of its own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

META_BYTES = 1 << 16
"""Longer metadata is treated as absent: a line of a hundred megabytes of `[],` would become gigabytes of objects."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME_BYTES = 255
"""Longest name of a file or folder."""


class Facts(NamedTuple):
    """What an adapter reads from a row besides its text."""

    subset: str
    native_id: str
    url: str
    timestamp: int = 0
    """Seconds since 1970 when the document was made or crawled, by its source; 0 if the source does not say."""


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


@functools.lru_cache(maxsize=4096)
def names_a_folder(subset: str) -> bool:
    """Whether a subset's name, which comes from the rows, can name a folder of a run and a line of a table."""
    return len(quote(subset, safe="").replace(".", "%2E")) <= _NAME_BYTES if is_plain(subset) else False


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
    """A date, an ISO 8601 string or a number of seconds as seconds since 1970; 0 for anything else."""
    value = _decoded(value)
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return max(0, int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()))
        return max(0, int(value)) if isinstance(value, int | float) and value < 1 << 40 else 0
    except (ValueError, OverflowError):
        return 0

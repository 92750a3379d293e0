"""What an adapter is: how one corpus writes its rows. The five adapters and the generic one are files of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec


class Facts(NamedTuple):
    """What an adapter says of one row besides its text."""

    subset: str
    native_id: str
    url: str
    timestamp: int = 0
    """Seconds since 1970 at which the source says it was made or crawled; 0 where it says nothing."""


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


def as_text(value: object) -> str:
    """A metadata value as a string; absent values are empty."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def as_timestamp(value: object) -> int:
    """A date, an ISO 8601 string or a number of seconds as seconds since 1970; 0 for anything else."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return max(0, int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()))
        return max(0, int(value)) if isinstance(value, int | float) and value < 1 << 40 else 0
    except (ValueError, OverflowError):
        return 0

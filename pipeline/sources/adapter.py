"""What an adapter is: how one corpus writes its rows. The five adapters and the generic one are files of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec


class Facts(NamedTuple):
    """What an adapter says of one row besides its text."""

    subset: str
    native_id: str
    url: str


@dataclass(frozen=True)
class Adapter:
    """How one corpus writes its rows."""

    row: type[msgspec.Struct]
    """A row's fields, `text` or `content` among them; unknown fields are skipped by the decoder."""
    text: str
    """Name of the text field."""
    facts: Callable[[Any, str], Facts]
    """(row, path of the file in the corpus) -> facts."""


def as_text(value: object) -> str:
    """A metadata value as a string; absent values are empty."""
    return value if isinstance(value, str) else "" if value is None else str(value)

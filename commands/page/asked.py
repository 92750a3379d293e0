"""What a page asks for, checked, and answers as JSON that cannot show something else than it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...storage.wording import printable

LARGEST = 1 << 53
"""Integers from here on are sent as text: JavaScript would round them."""


@dataclass(frozen=True)
class Download:
    """A file that is made while it is sent."""

    name: str
    media: str
    parts: Iterator[bytes]


class Asked:
    """The values of a request: of its address, or of the JSON that came with it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Raise ValueError where it is missing and has no default, or is no text."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise ValueError(f"the page asked for nothing that can be answered ({name} is missing); reload it")
        return value

    def number(self, name: str, default: int = 0, most: int = LARGEST) -> int:
        """An integer from 0 to `most`; ValueError for anything else."""
        value = self._values.get(name, default)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise ValueError(f"the page asked for nothing that can be answered ({name}); reload it")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; ValueError for anything else."""
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"the page asked for nothing that can be answered ({name} is no list); reload it")
        return value

    def value(self, name: str) -> Any:
        """Whatever it is; an empty object where it is missing."""
        return self._values.get(name, {})


def as_json(value: Any) -> bytes:
    """An answer. Texts are as a terminal shows them: what steers, turns or hides text is U+FFFD."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        errors="replace"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, "\n\r\t")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value) if abs(int(value)) < LARGEST else str(int(value))
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pa.Table):
        return {"columns": value.column_names, "rows": [[*map(_plain, row.values())] for row in value.to_pylist()]}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    return printable(str(value))

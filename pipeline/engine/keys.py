"""What a task's key is made of: the identity of each of its arguments.

A task is a pure function of its arguments, so its key follows from them and nobody lists its inputs a second time:

    Artifact, FileSet         what the file holds, by its hash; never where it lies
    settings (dataclasses)    every field
    anything with `identity`  what that says: a source file its name, size and version; a group its files
    arrays, numbers, texts    their value
    Path, RunPaths            nothing: they say where a task writes, not what

So what a task reads it is given as an `Artifact` or a `FileSet`, and a bare path is a place to write to. Settings that a
task does not act on are not handed to it, and a change of them then repeats nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..run.artifacts import Artifact, as_json, hash_of
from ..run.paths import RunPaths


def identity_of(value: object) -> object:
    """What a value adds to a key, as JSON.

    Raises:
        TypeError: it is of a kind that has no identity, such as an open file.
    """
    kind: Any = type(value)
    # By exact type first: a driver asks for a million values, most of which are these.
    if kind in _PLAIN:
        return value
    if kind is Artifact:
        return value.hash  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return [identity_of(item) for item in value]  # type: ignore[attr-defined]
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path | RunPaths):
        return None
    if hasattr(value, "identity"):
        return identity_of(value.identity())
    if isinstance(value, np.ndarray):
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
        return [value.dtype.str, list(value.shape), digest]
    if isinstance(value, np.integer):
        return int(value)
    if (names := _names(kind)) is not None:
        return {name: identity_of(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): identity_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity_of(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be an argument of a task: it has no identity")


_PLAIN = frozenset({type(None), bool, int, float, str})


@cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for another type."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None


class TaskKeys:
    """The keys of a step's tasks: a key changes exactly when the task's output may. Most arguments of a task are those of the
    one before it, and what they say is not asked again.
    """

    def __init__(self, step: str, version: int) -> None:
        """
        Args:
            version: of the stage, raised when the same arguments give other bytes.
        """
        self._begin = f"[{as_json(step)},{as_json(version)},["
        self._last: list[tuple[object, str]] = []
        """The arguments of the last task, with their identities as JSON."""

    def of(self, arguments: tuple[object, ...]) -> str:
        """The key of a task."""
        found = []
        for place, argument in enumerate(arguments):
            known = self._last[place] if place < len(self._last) else (None, "null")
            found.append(known if known[0] is argument else (argument, _identity_as_json(argument)))
        self._last = found
        return hash_of(f"{self._begin}{','.join(text for _, text in found)}]]")


def _identity_as_json(argument: object) -> str:
    """The same for a task's argument; a shortcut for those that there are most of."""
    if type(argument) is int:
        return str(argument)
    return "null" if isinstance(argument, Path) else as_json(identity_of(argument))

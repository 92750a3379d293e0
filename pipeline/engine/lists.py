"""Sets of many files, listed in a file for the tasks of a step that read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..run.artifacts import Artifact, remove
from ..run.file_sets import FileList, FileSet
from ..run.paths import RunPaths

MOST_FILES = 64
"""Paths that travel in the arguments of a task; where a set has more, they are listed in a file."""


class FileLists:
    """Lists the files of the sets that many tasks of a step read, once each, so that no argument holds thousands of paths."""

    def __init__(self, paths: RunPaths, held: Counter[Path]) -> None:
        """
        Args:
            held: lists of all steps under way; equal ones are one.
        """
        self._paths, self._held = paths, held
        self._seen: dict[int, tuple[Any, Any]] = {}
        """By the identity of a value, which most tasks of a step share: itself, and what is handed on for it."""

    def without_long_sets(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a task with long sets of files listed, also those within them."""
        return tuple(self._listed(argument) for argument in args)

    def _listed(self, value: Any) -> Any:
        if isinstance(value, FileSet):
            if len(value.files) <= MOST_FILES:
                return value
        elif not _may_hold_sets(value.__class__):
            return value
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, self._changed(value))
        return self._seen[id(value)][1]

    def _changed(self, value: Any) -> Any:
        if isinstance(value, FileSet):
            listed = FileList.write(value.files, self._paths)
            self._held[listed.path] += 1
            return FileSet(digest=value.digest, listed=listed)
        if (names := _fields_of(value.__class__)) is not None:
            held = {name: getattr(value, name) for name in names}
            found = {name: self._listed(item) for name, item in held.items()}
            same = all(found[name] is held[name] for name in held)
            return value if same else replace(value, **found)
        items = [self._listed(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)

    def remove(self) -> None:
        """Delete the lists that no other step reads."""
        for _, listed in self._seen.values():
            if isinstance(listed, FileSet) and listed.listed:
                self._held[listed.listed.path] -= 1
                if not self._held[listed.listed.path]:
                    del self._held[listed.listed.path]
                    remove(listed.listed.path)


@cache
def _may_hold_sets(kind: type) -> bool:
    return not issubclass(kind, Artifact | RunPaths) and (is_dataclass(kind) or kind in (tuple, list))


@cache
def _fields_of(kind: type) -> tuple[str, ...] | None:
    """Those that a data class is made with; None of a tuple or a list."""
    return tuple(f.name for f in fields(kind) if f.init) if is_dataclass(kind) else None

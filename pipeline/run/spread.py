"""How work over the files of a run is spread: one call after the other, or as tasks of an engine, which the run's own folder
does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Spread(Protocol):
    """Calls a function with each of some arguments; the results come as they are ready, in any order."""

    def __call__(self, function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Result]: ...


def in_turn(function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
    """In this process, one after the other."""
    return (function(*each) for each in arguments)

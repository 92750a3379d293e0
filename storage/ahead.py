"""Reading ahead: of many small pieces, one after the other, a store's answers take longer than the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")

READ_AHEAD = 8
"""Pieces that are read at once."""


def ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Generator[Read]:
    """What is read for each of some items, in their order; the next ones are read meanwhile."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        waiting: deque[Future[Read]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

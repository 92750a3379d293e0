"""Linear algebra on one thread: with more, sums are taken in another order on another machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """For as long as the block, libraries of linear algebra use one thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield

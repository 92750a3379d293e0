"""Requests to object stores: by fsspec, with growing pauses where they fail, and when an object was written."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from .wording import first_line

T = TypeVar("T")

TRIES = 7
"""Attempts at one request; the pauses between them sum to about half a minute."""
FIRST_PAUSE = 0.5


def store_of(url: str) -> tuple[Any, str]:
    """(filesystem of fsspec, key) of a URL."""
    import fsspec

    # A cached listing would not show what other nodes wrote.
    store, key = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return store, str(key)


def retried(call: Callable[[], T], url: str) -> T:
    """Call until it succeeds, finds that the object does not exist, or is refused.

    Raises:
        OSError: the store keeps failing; one line.
    """
    for attempt in range(TRIES):
        try:
            return call()
        except (FileNotFoundError, FileExistsError, ImportError, TypeError):
            raise
        except Exception as error:
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise PermissionError(
                    f"{url}: the store refused access ({first_line(error)}); check the credentials"
                ) from error
            if attempt == TRIES - 1:
                raise OSError(
                    f"{url}: the store failed {TRIES} times in a row ({type(error).__name__}: {first_line(error)}); "
                    "run the same command again when it responds"
                ) from error
        time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0))
    raise AssertionError


def written(facts: dict[str, Any]) -> int:
    """When an object was written, in nanoseconds of its store's clock, by what the store says of it; 0: it does not say."""
    for name in ("LastModified", "last_modified", "updated", "mtime"):
        if isinstance(value := facts.get(name), datetime | float):
            return int((value.timestamp() if isinstance(value, datetime) else value) * 1e9)
    return 0

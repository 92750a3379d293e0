"""Whether datatrove is installed: these steps stand on it, and the rest of fox1 does without."""

from __future__ import annotations

import functools
import importlib.util
from importlib import metadata
from typing import Any

if importlib.util.find_spec("datatrove") is None or importlib.util.find_spec("datatrove.data") is None:
    raise ImportError("fox1.datatrove needs datatrove; install it with: pip install 'fox1[datatrove]'")


def _look_up_by_name() -> None:
    """Have datatrove ask for a package by its name.

    Each of its steps asks whether the packages that it needs are installed, and datatrove then reads what all installed packages
    say of themselves, for each package in turn: a tenth of a second with 250 of them.
    """
    from datatrove.utils import _import_utils as theirs

    reading: Any = getattr(theirs, "_is_distribution_available", None)
    if reading is None:
        return

    @functools.lru_cache
    def is_available(name: str) -> Any:
        named = metadata.Distribution.discover(name=name)
        return any((found.metadata["Name"] or "").lower() == name for found in named) or reading(name)

    theirs._is_distribution_available = is_available


_look_up_by_name()

"""Kernels that were compiled before, loaded before anybody calls them."""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress
from typing import Any

from numba.core.dispatcher import Dispatcher


def load_compiled(package: str) -> None:
    """Load what is compiled of the kernels of a package, for all types that they were ever called with; nothing is compiled."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        for kernel in vars(importlib.import_module(found.name)).values():
            if not isinstance(kernel, Dispatcher) or kernel.py_func.__module__ != found.name:
                continue
            # Numba lists what is in a cache nowhere that is public: without it, whoever calls a kernel loads it.
            with suppress(AttributeError):
                cache: Any = getattr(kernel, "_cache")  # noqa: B009
                codegen = kernel.targetctx.codegen()
                for key in cache._cache_file._load_index():
                    if key == cache._index_key(key[0], codegen):
                        kernel.compile(key[0])

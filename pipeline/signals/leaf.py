"""Kernels that make no array, for which Numba need not count who uses those they are given.

Counting is two atomic additions for each array at each call, which costs more than many of these functions do: a walk over text
that calls one for each line, or each stretch of it, takes a third less without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def leaf(function: Callable[..., Any]) -> Any:
    """Compile a kernel that makes no array and hands none back; its callers hold all that it is given."""
    return njit(cache=True, nogil=True, _nrt=False)(function)

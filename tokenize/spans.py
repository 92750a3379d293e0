"""Parts of arrays, brought together."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def gather(values: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans of an array, one after the other; (values, offsets int64 [n + 1]).

    Args:
        begins, lengths: int64 [n]: of the spans.
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    for i in range(len(lengths)):
        offsets[i + 1] = offsets[i] + lengths[i]
    out = np.empty(offsets[-1], values.dtype)
    for i in range(len(lengths)):
        out[offsets[i] : offsets[i + 1]] = values[begins[i] : begins[i] + lengths[i]]
    return out, offsets

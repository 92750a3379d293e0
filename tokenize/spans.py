"""Arrays of several values back to back, with where each begins: the buffers of Arrow, and parts brought together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numba import njit


def text_buffers(text: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """(UTF-8 bytes uint8, offsets int64 [n + 1]) of an Arrow array, without a copy."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds


def text_array(strings: Iterable[str], errors: str = "strict") -> pa.LargeStringArray:
    """Strings as an Arrow array. `pa.array` does the same, but imports pandas first, which takes a new process some 0.3 s.

    Args:
        errors: what `str.encode` does with half a surrogate pair, which UTF-8 cannot write.

    Raises:
        UnicodeEncodeError: there is one, and errors are strict.
    """
    encoded = [string.encode(errors=errors) for string in strings]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(string) for string in encoded], out=offsets[1:])
    data = pa.py_buffer(bytearray().join(encoded))
    return pa.LargeStringArray.from_buffers(len(encoded), pa.py_buffer(offsets), data)


def taken(strings: pa.Array, places: np.ndarray) -> pa.Array:
    """Some of the strings, by their places; `pa.array(places)` would import pandas first."""
    rows = pa.py_buffer(np.ascontiguousarray(places, np.int64))
    return strings.take(pa.Array.from_buffers(pa.int64(), len(places), [None, rows]))


def mask_of(found: np.ndarray) -> pa.BooleanArray:
    """bool [n] as an Arrow array; `pa.array` would import pandas first."""
    bits = pa.py_buffer(np.packbits(found, bitorder="little"))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(found), [None, bits])


def flags(found: pa.BooleanArray) -> np.ndarray:
    """bool [n]: an Arrow array without nulls, which numpy itself would read through pandas."""
    return np.frombuffer(found.cast(pa.uint8()).buffers()[1], np.uint8)[: len(found)].view(np.bool_)


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

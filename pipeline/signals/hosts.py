"""Hosts of URLs, in one form: what documents of a site are excluded by, and which hosts lie below which."""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

from ...tokenize.spans import text_buffers
from .hashing import hash_bytes
from .unicode import tables
from .url_parts import clean, find_host, write_host


def hosts(urls: pa.StringArray) -> pa.StringArray:
    """The host of every URL, in lower case, unescaped, without dots at its end; empty where there is none."""
    text, offsets = text_buffers(urls.cast(pa.large_string()))
    longest = int(np.max(np.diff(offsets), initial=0))
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = _hosts(text, offsets, out, np.empty(longest, np.uint8), tables()[0])
    found = pa.Array.from_buffers(pa.string(), len(urls), [None, pa.py_buffer(ends), pa.py_buffer(out)])
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:  # an escape may stand for any byte
        found = pa.array([h.decode(errors="replace") for h in found.view(pa.binary()).to_pylist()], pa.string())
    return found


@njit(cache=True, nogil=True)
def _hosts(text: np.ndarray, offsets: np.ndarray, out: np.ndarray, url: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Write hosts back to back; returns where each ends, int32 [n + 1]."""
    ends = np.zeros(len(offsets), np.int32)
    n = 0
    for d in range(len(offsets) - 1):
        first, stop, _ = find_host(url, clean(text, offsets[d], offsets[d + 1], url, classes))
        n += write_host(url, first, stop, out[n:])
        ends[d + 1] = n
    return ends


def host_key(host: str) -> int:
    """The key of a host in its one form."""
    data = np.frombuffer(host.encode(), np.uint8)
    return int(hash_bytes(data, 0, len(data)))


def entries_above(of: pa.StringArray, keys: np.ndarray) -> np.ndarray:
    """int64 [n]: the place in `keys` (uint64, ascending) of the host itself or of the nearest one above it, -1 if it has none:
    www.example.org lies below example.org.
    """
    return _entries_above(*text_buffers(of.cast(pa.large_string())), keys)


@njit(cache=True, nogil=True)
def _entries_above(text: np.ndarray, offsets: np.ndarray, keys: np.ndarray) -> np.ndarray:
    out = np.full(len(offsets) - 1, -1, np.int64)
    for d in range(len(out)):
        begin, end = offsets[d], offsets[d + 1]
        # Of an IPv6 address, in its brackets, no part is a host.
        at = begin
        while at < end and out[d] < 0:
            key = hash_bytes(text, at, end)
            place = np.searchsorted(keys, key)
            if place < len(keys) and keys[place] == key:
                out[d] = place
            at += 1
            while at < end and text[at - 1] != 46 and text[begin] != 91:
                at += 1
            if text[begin] == 91:
                break
    return out

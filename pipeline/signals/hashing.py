"""Fast hashes of the kernels, for words, n-grams and samples. Anybody can forge them: identity of content is by blake3.py.

And what kernels do with eight bytes at a time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

from .leaf import leaf


@njit(cache=True, nogil=True, inline="always")
def mix64(h: np.uint64) -> np.uint64:
    """MurmurHash3's 64-bit finaliser: a bijection whose every output bit depends on every input bit."""
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return h


@njit(cache=True, nogil=True, inline="always")
def word_at(data: np.ndarray, at: int, count: int) -> np.uint64:
    """`count` bytes of ``data[at:]`` (uint8), at most eight, as a little-endian number."""
    value = np.uint64(0)
    for k in range(count):
        value |= np.uint64(data[np.uint64(at + k)]) << np.uint64(8 * k)
    return value


EACH, TOPS = (np.uint64(b * 0x0101010101010101) for b in (1, 128))
"""1 in each of eight bytes; the highest bit of each."""


@njit(cache=True, nogil=True, inline="always")
def zero_bytes(x: np.uint64) -> np.uint64:
    """The highest bit of every byte that is 0, and perhaps of a 1 after such a byte."""
    return (x - EACH) & ~x & TOPS


@njit(cache=True, nogil=True, inline="always")
def bytes_before(marks: np.uint64) -> np.int64:
    """How many bytes are below the first whose highest bit is set; one has."""
    return np.int64((((marks & (~marks + np.uint64(1))) - np.uint64(1) & EACH) * EACH) >> np.uint64(56)) - 1


def fixed_binary(hashes: np.ndarray) -> pa.FixedSizeBinaryArray:
    """uint64 [n, m] as fixed-size binary of 8 * m bytes."""
    data = np.ascontiguousarray(hashes.astype("<u8"))
    return pa.Array.from_buffers(pa.binary(8 * hashes.shape[1]), len(hashes), [None, pa.py_buffer(data)])


def halves(hashes: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """uint64 [n] twice: the first and the second eight bytes of a column of 16-byte hashes."""
    values = np.frombuffer(hashes.buffers()[1], "<u8")[2 * hashes.offset :][: 2 * len(hashes)]
    return values[0::2], values[1::2]


@njit(cache=True, nogil=True)
def mix_array(values: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n]: every value mixed with a seed."""
    out = np.empty(len(values), np.uint64)
    start = mix64(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
    for i in range(len(values)):
        out[i] = mix64(np.uint64(values[i]) ^ start)
    return out


@leaf
def hash_bytes(data: np.ndarray, begin: int, end: int) -> np.uint64:
    """A 64-bit hash of ``data[begin:end]`` (uint8), eight bytes at a step."""
    h = np.uint64(end - begin) * np.uint64(0x9E3779B97F4A7C15)
    at = begin
    while at + 8 <= end:
        h = (h ^ word_at(data, at, 8)) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        at += 8
    return mix64(h ^ word_at(data, at, end - at))


@njit(cache=True, nogil=True)
def hash_each(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [n]: `hash_bytes` of the strings between n + 1 offsets."""
    out = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(out)):
        out[i] = hash_bytes(data, offsets[i], offsets[i + 1])
    return out

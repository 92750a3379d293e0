"""Hashes of the kernels: mixing of 64-bit words and MurmurHash3 x64 128 over bytes (Appleby, public domain)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)


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
def _rotate(x: np.uint64, r: int) -> np.uint64:
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@njit(cache=True, nogil=True, inline="always")
def _word(data: np.ndarray, at: int, count: int) -> np.uint64:
    value = np.uint64(0)
    for k in range(count):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@njit(cache=True, nogil=True)
def murmur3_128(data: np.ndarray, begin: int, end: int) -> tuple[np.uint64, np.uint64]:
    """MurmurHash3_x64_128 with seed 0 of ``data[begin:end]`` (uint8)."""
    h1, h2 = np.uint64(0), np.uint64(0)
    length = end - begin
    at = begin
    for _ in range(length // 16):
        k1, k2 = _word(data, at, 8), _word(data, at + 8, 8)
        at += 16
        h1 ^= _rotate(k1 * _C1, 31) * _C2
        h1 = (_rotate(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 ^= _rotate(k2 * _C2, 33) * _C1
        h2 = (_rotate(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
    tail = end - at
    if tail > 8:
        h2 ^= _rotate(_word(data, at + 8, tail - 8) * _C2, 33) * _C1
    if tail > 0:
        h1 ^= _rotate(_word(data, at, min(tail, 8)) * _C1, 31) * _C2
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1, h2 = mix64(h1), mix64(h2)
    h1 += h2
    h2 += h1
    return h1, h2


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


@njit(cache=True, nogil=True)
def hash_bytes(data: np.ndarray, begin: int, end: int) -> np.uint64:
    """A 64-bit hash of ``data[begin:end]`` (uint8), eight bytes at a step."""
    h = np.uint64(end - begin) * np.uint64(0x9E3779B97F4A7C15)
    at = begin
    while at + 8 <= end:
        h = (h ^ _word(data, at, 8)) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        at += 8
    return mix64(h ^ _word(data, at, end - at))

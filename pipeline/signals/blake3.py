"""BLAKE3 of many texts at once, cut to 128 bits (O'Connor, Aumasson, Neves and Wilcox-O'Hearn 2020, sections 2 and 5.1).

A text is cut into chunks of 1,024 bytes, each a chain of compressed blocks, and a binary tree of parents joins their
chaining values. Chains depend on nothing but their own bytes: `LANES` of them, of whichever texts, are compressed side by
side, which the compiler turns into vector instructions, and a lane that ends takes the next chain.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

LANES = 32
"""Chains compressed side by side: with fewer, starting the loops over them costs more than what they do."""
CHUNK, BLOCK = 1024, 64

_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)


def _schedule() -> np.ndarray:
    """int64 [7, 16]: where the lanes of each message word of a round begin."""
    permutation = np.array([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8])
    rounds = [np.arange(16)]
    for _ in range(6):
        rounds.append(rounds[-1][permutation])
    return np.stack(rounds) * LANES


_SCHEDULE = _schedule()


def hash_texts(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [n, 2]: the first 128 bits, little endian, of the BLAKE3 hash of each text.

    Args:
        data: uint8, the texts back to back.
        offsets: int64 [n + 1], where they begin and end in it.
    """
    return _hash_texts(data, offsets).view(np.uint64)


@njit(cache=True, nogil=True)
def _rotate(x: np.uint32, r: int) -> np.uint32:
    return np.uint32((x >> np.uint32(r)) | np.uint32(x << np.uint32(32 - r)))


@njit(cache=True, nogil=True)
def _mix(v: np.ndarray, m: np.ndarray, i: int, a: int, b: int, c: int, d: int, x: int, y: int) -> None:
    """The function G on one lane of the state; `x` and `y` are the first lanes of two message words."""
    # Numba widens unsigned arithmetic to 64 bits: the casts are the reduction modulo 2^32.
    a, b, c, d = np.uint64(a * LANES + i), np.uint64(b * LANES + i), np.uint64(c * LANES + i), np.uint64(d * LANES + i)
    va, vb, vc, vd = v[a], v[b], v[c], v[d]
    va = np.uint32(va + vb + m[np.uint64(x + i)])
    vd = _rotate(vd ^ va, 16)
    vc = np.uint32(vc + vd)
    vb = _rotate(vb ^ vc, 12)
    va = np.uint32(va + vb + m[np.uint64(y + i)])
    vd = _rotate(vd ^ va, 8)
    vc = np.uint32(vc + vd)
    vb = _rotate(vb ^ vc, 7)
    v[a], v[b], v[c], v[d] = va, vb, vc, vd


@njit(cache=True, nogil=True)
def _mix_columns(v: np.ndarray, m: np.ndarray, s: np.ndarray) -> None:
    s0, s1, s2, s3, s4, s5, s6, s7 = s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    for i in range(LANES):
        _mix(v, m, i, 0, 4, 8, 12, s0, s1)
        _mix(v, m, i, 1, 5, 9, 13, s2, s3)
        _mix(v, m, i, 2, 6, 10, 14, s4, s5)
        _mix(v, m, i, 3, 7, 11, 15, s6, s7)


@njit(cache=True, nogil=True)
def _mix_diagonals(v: np.ndarray, m: np.ndarray, s: np.ndarray) -> None:
    s0, s1, s2, s3, s4, s5, s6, s7 = s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]
    for i in range(LANES):
        _mix(v, m, i, 0, 5, 10, 15, s0, s1)
        _mix(v, m, i, 1, 6, 11, 12, s2, s3)
        _mix(v, m, i, 2, 7, 8, 13, s4, s5)
        _mix(v, m, i, 3, 4, 9, 14, s6, s7)


@njit(cache=True, nogil=True, inline="always")
def _word(data: np.ndarray, at: int) -> np.uint32:
    value = np.uint32(0)
    for k in range(4):
        value |= np.uint32(data[np.uint64(at + k)]) << np.uint32(8 * k)
    return value


@njit(cache=True, nogil=True)
def _load(data: np.ndarray, at: int, size: int, m: np.ndarray, i: int) -> None:
    """Put a block of at most 64 bytes, padded with zeros, into the message words of a lane."""
    if size == BLOCK:
        for k in range(16):
            m[np.uint64(k * LANES + i)] = _word(data, at + 4 * k)
        return
    whole = size // 4
    for k in range(whole):
        m[k * LANES + i] = _word(data, at + 4 * k)
    for k in range(whole, 16):
        m[k * LANES + i] = np.uint32(0)
    for k in range(4 * whole, size):
        m[whole * LANES + i] |= np.uint32(data[at + k]) << np.uint32(8 * (k % 4))


@njit(cache=True, nogil=True)
def _compress_chains(
    data: np.ndarray,
    begin: np.ndarray,
    size: np.ndarray,
    counter: np.ndarray,
    kind: np.ndarray,
    node: np.ndarray,
    nodes: np.ndarray,
) -> None:
    """Write the chaining value of each chain of ``data[begin:begin + size]`` to its node.

    Args:
        counter: of a chunk, its number in the text; 0 for a parent.
        kind: flags of a chain's blocks; CHUNK_START is for the first alone, CHUNK_END and ROOT for the last.
    """
    state, message, chain = (
        np.zeros(16 * LANES, np.uint32),
        np.zeros(16 * LANES, np.uint32),
        np.zeros(8 * LANES, np.uint32),
    )
    job = np.full(LANES, -1, np.int64)
    done = np.zeros(LANES, np.int64)
    taken = busy = 0
    while True:
        for i in range(LANES):
            if job[i] < 0 and taken < len(begin):
                job[i], done[i] = taken, 0
                taken += 1
                busy += 1
                for k in range(8):
                    chain[k * LANES + i] = _IV[k]
            j = job[i]
            if j < 0:
                continue
            left = size[j] - done[i]
            here = min(left, BLOCK)
            _load(data, begin[j] + done[i], here, message, i)
            flags = kind[j]
            if done[i]:
                flags &= ~_CHUNK_START
            if left > BLOCK:
                flags &= ~(_CHUNK_END | _ROOT)
            state[12 * LANES + i] = np.uint32(counter[j])
            state[13 * LANES + i] = np.uint32(counter[j] >> 32)
            state[14 * LANES + i] = np.uint32(here)
            state[15 * LANES + i] = np.uint32(flags)
            done[i] += BLOCK
        if not busy:
            return
        for k in range(8 * LANES):
            state[k] = chain[k]
        for k in range(4):
            for i in range(LANES):
                state[(8 + k) * LANES + i] = _IV[k]
        for r in range(7):
            _mix_columns(state, message, _SCHEDULE[r])
            _mix_diagonals(state, message, _SCHEDULE[r])
        for k in range(8 * LANES):
            chain[k] = state[k] ^ state[8 * LANES + k]
        for i in range(LANES):
            j = job[i]
            if j >= 0 and done[i] >= size[j]:
                for k in range(8):
                    nodes[node[j], k] = chain[k * LANES + i]
                job[i] = -1
                busy -= 1


@njit(cache=True, nogil=True)
def _hash_texts(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    n = len(offsets) - 1
    width = np.empty(n, np.int64)
    first = np.zeros(n + 1, np.int64)
    for d in range(n):
        width[d] = max(1, (offsets[d + 1] - offsets[d] + CHUNK - 1) // CHUNK)
        first[d + 1] = first[d] + width[d]
    chunks = first[n]
    begin, size, counter = np.empty(chunks, np.int64), np.empty(chunks, np.int64), np.zeros(chunks, np.int64)
    kind, node = np.empty(chunks, np.int64), np.empty(chunks, np.int64)
    for d in range(n):
        for c in range(width[d]):
            j = first[d] + c
            begin[j] = offsets[d] + CHUNK * c
            size[j] = min(CHUNK, offsets[d + 1] - begin[j])
            counter[j], node[j] = c, j
            kind[j] = _CHUNK_START | _CHUNK_END | (_ROOT if width[d] == 1 else 0)
    nodes = np.empty((chunks, 8), np.uint32)
    _compress_chains(data, begin, size, counter, kind, node, nodes)
    # Level after level of the trees: neighbours have a parent, and a last one without a neighbour moves up.
    counter[:] = 0
    children = nodes.view(np.uint8).reshape(-1)
    while True:
        parents = 0
        for d in range(n):
            for c in range(width[d] // 2):
                # A parent takes the place of a child, or of one further left, that has been read by then.
                begin[parents], node[parents] = 32 * (first[d] + 2 * c), first[d] + c
                size[parents], kind[parents] = BLOCK, _PARENT | (_ROOT if width[d] == 2 else 0)
                parents += 1
        if not parents:
            break
        _compress_chains(children, begin[:parents], size[:parents], counter, kind, node, nodes)
        for d in range(n):
            if width[d] > 1 and width[d] % 2:
                nodes[first[d] + width[d] // 2] = nodes[first[d] + width[d] - 1]
            width[d] = (width[d] + 1) // 2
    out = np.empty((n, 4), np.uint32)
    for d in range(n):
        out[d] = nodes[first[d], :4]
    return out

"""A pseudo-random permutation of 0..n-1, computed for any index alone: a Feistel network with cycle walking."""

from __future__ import annotations

import numpy as np

ROUNDS = 6


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def permute(index: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Images (int64) of `index` (int64 [k], each in 0..n-1) under the permutation of 0..n-1 that `seed` selects."""
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < n):
        raise ValueError(f"an index is not in 0..{n - 1}")
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    out = index.astype(np.uint64)
    # Images outside 0..n-1 go through the network again until they are inside.
    walking = np.arange(len(out))
    while len(walking):
        left, right = out[walking] >> half, out[walking] & low
        for r in range(ROUNDS):
            key = np.uint64((seed * ROUNDS + r + 1) & ((1 << 64) - 1))
            left, right = right, left ^ (_mix(right + key) & low)
        out[walking] = left << half | right
        walking = walking[out[walking] >= np.uint64(n)]
    return out.astype(np.int64)

"""A pseudo-random permutation of 0..n-1 that answers for one index at a time: a Feistel network with cycle walking."""

from __future__ import annotations

_MASK = (1 << 64) - 1
ROUNDS = 6


def _mix(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


def permute(index: int, n: int, seed: int) -> int:
    """Image of `index` under the permutation of 0..n-1 that `seed` names."""
    if not 0 <= index < n:
        raise ValueError(f"index {index} is not in 0..{n - 1}")
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for r in range(ROUNDS):
            left, right = right, left ^ (_mix(right + seed * ROUNDS + r + 1) & low)
        index = left << half | right
        if index < n:
            return index

"""Which documents hold one of some literals."""

# mypy: disable-error-code="return-value"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numba import njit

from .spans import text_buffers


class Literals:
    """Finds the documents that hold one of some literals, each of which has a mark."""

    def __init__(self, literals: Sequence[tuple[bytes, int]]) -> None:
        found = [(text, mark) for text, mark in literals if text]
        self.bytes = np.frombuffer(b"".join(t for t, _ in found), np.uint8)
        """uint8: the literals, one after the other."""
        self.offsets = np.r_[0, np.cumsum([len(t) for t, _ in found])].astype(np.int64)
        """int64 [literals + 1]."""
        self.marks = np.array([m for _, m in found], np.uint8)
        chains = dict[int, list[int]]()
        for number, (text, _) in enumerate(found):
            for pair in [text[0] | (text[1] << 8)] if len(text) > 1 else range(text[0], 1 << 16, 256):
                chains.setdefault(pair, []).append(number)
        pairs = np.array(sorted(chains), np.int64)
        self.begins = np.zeros(1 << 16, np.bool_)
        """bool [65,536]: whether a literal begins with two bytes, the second in the upper half."""
        self.begins[pairs] = True
        self.starts = np.zeros((1 << 16) + 1, np.int32)
        """int32 [65,537]: where in `numbers` those of two bytes begin."""
        self.starts[pairs + 1] = [len(chains[pair]) for pair in pairs.tolist()]
        np.cumsum(self.starts, out=self.starts)
        self.numbers = np.array([n for pair in pairs.tolist() for n in chains[pair]], np.int32)
        """int32: literals by number, in their order."""

    def find(self, texts: pa.LargeStringArray) -> np.ndarray:
        """uint8 [n]: the marks of the literals that each document holds, or-ed."""
        text, bounds = text_buffers(texts)
        return _find_literals(
            text, bounds, self.begins, self.starts, self.numbers, self.bytes, self.offsets, self.marks
        )


@njit(cache=True, nogil=True, inline="always")
def literal_at(text: np.ndarray, at: int, end: int, literals: np.ndarray, offsets: np.ndarray, k: int) -> bool:
    """Whether ``text[at:end]`` begins with a literal, by its number."""
    size = offsets[k + 1] - offsets[k]
    if at + size > end:
        return False
    same = True
    for j in range(size):
        same = same and text[at + j] == literals[offsets[k] + j]
    return same


@njit(cache=True, nogil=True, inline="always")
def pair_at(text: np.ndarray, at: int, end: int) -> int:
    """The two bytes at a place, by which `Literals` are found."""
    following = np.int64(text[at + 1]) if at + 1 < end else 0
    return np.int64(text[at]) | following << 8


@njit(cache=True, nogil=True)
def _find_literals(
    text: np.ndarray,
    bounds: np.ndarray,
    begins: np.ndarray,
    starts: np.ndarray,
    numbers: np.ndarray,
    literals: np.ndarray,
    offsets: np.ndarray,
    marks: np.ndarray,
) -> np.ndarray:
    found = np.zeros(len(bounds) - 1, np.uint8)
    for d in range(len(found)):
        end = bounds[d + 1]
        for i in range(bounds[d], end):
            pair = pair_at(text, i, end)
            if not begins[pair]:
                continue
            for n in range(starts[pair], starts[pair + 1]):
                k = numbers[n]
                if literal_at(text, i, end, literals, offsets, k):
                    found[d] |= marks[k]
    return found

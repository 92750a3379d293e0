"""A 4-gram model that counts: millions of tokens a second on one core, and no initial weights.

    p_n(t | context) = (max(count(context t) - d, 0) + d * distinct(context) * p_{n-1}(t)) / follows(context)

is absolute discounting, interpolated down to single tokens (Ney, Essen and Kneser 1994). A context never leaves its document.
Grams are known by 32 bits of a hash: of 15 million, one in 300 shares its counts with another.

Tables are arrays of uint32 [slots, columns] with linear probing. Order by order a chunk of tokens is looked up, so that the
misses of many tokens are under way at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ..pipeline.signals.hashing import mix64
from ..trainer.data.mixture import MixtureData
from ..trainer.data.order import UnitStream

ORDER = 4
DISCOUNT = 0.75
BASE = 0.5
"""Added to the count of every single token."""
CHUNK_TOKENS = 1 << 17
FULL = 0.7
"""Share of a table's slots that may be taken."""
TAG, COUNT, FOLLOWS, DISTINCT = 0, 1, 2, 3
"""Columns: the gram, how often it is there, how many tokens follow it, and how many different ones. The longest grams are no
contexts and have the first two."""
STEP = np.uint64(0x9E3779B97F4A7C15)
SPREAD = np.uint64(0x9E3779B1)
LOW = np.uint64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def _depths(ends: np.ndarray, padding: np.ndarray, most: int, out: np.ndarray) -> None:
    """Tokens before each in its segment, at most so many; 0 in padding."""
    begin = 0
    for s in range(len(ends)):
        for i in range(begin, ends[s]):
            out[i] = 0 if padding[s] else min(i - begin, most)
        begin = ends[s]


@njit(cache=True, nogil=True, inline="always")
def _tag(h: np.uint64) -> np.uint64:
    tag = h >> np.uint64(32)
    return tag if tag else np.uint64(1)


@njit(cache=True, nogil=True, inline="always")
def _slot(tag: np.uint64, shift: np.uint64) -> np.int64:
    return np.int64(((tag * SPREAD) & LOW) >> shift)


@njit(cache=True, nogil=True)
def _shift(slots: int) -> np.uint64:
    """What `_slot` takes for a table of so many slots, a power of two."""
    shift = np.uint64(32)
    while slots > 1:
        slots >>= 1
        shift -= np.uint64(1)
    return shift


@njit(cache=True, nogil=True, inline="always")
def _find(table: np.ndarray, tag: np.uint64, shift: np.uint64) -> np.int64:
    """The slot of a gram, or the free one that it would take."""
    at = _slot(tag, shift)
    while table[at, 0] != 0 and table[at, 0] != tag:
        at = (at + 1) & (len(table) - 1)
    return at


@njit(cache=True, nogil=True)
def _add(
    order: int,
    tokens: np.ndarray,
    depth: np.ndarray,
    learned: np.ndarray,
    hashes: np.ndarray,
    longer: np.ndarray,
    places: np.ndarray,
    own: np.ndarray,
    table: np.ndarray,
    contexts: np.ndarray,
) -> int:
    """Count the grams of one order of a chunk; how many are new.

    Args:
        learned: bool [T]: tokens that count as targets; empty: all.
        hashes: uint64 [T]: of the grams one token shorter; `longer`: of these, written.
        places: int64 [T]: slots of the shorter grams in `contexts`; `own`: of these in `table`, written.
    """
    shift = _shift(len(table))
    new = 0
    for i in range(len(tokens)):
        if depth[i] < order - 1:
            continue
        h = mix64(hashes[i - 1] * STEP + np.uint64(tokens[i] + 1))
        longer[i] = h
        tag = _tag(h)
        at = _find(table, tag, shift)
        if table[at, 0] == 0:
            table[at, 0] = tag
            new += 1
        own[i] = at
        if len(learned) and not learned[i]:
            continue
        context = places[i - 1]
        if table[at, 1] == 0:
            contexts[context, 3] += np.uint32(1)
        table[at, 1] += np.uint32(1)
        contexts[context, 2] += np.uint32(1)
    return new


@njit(cache=True, nogil=True)
def _mix_in(
    order: int,
    tokens: np.ndarray,
    depth: np.ndarray,
    hashes: np.ndarray,
    longer: np.ndarray,
    places: np.ndarray,
    own: np.ndarray,
    table: np.ndarray,
    contexts: np.ndarray,
    discount: float,
    p: np.ndarray,
) -> None:
    """Replace the probabilities of shorter grams (float64 [T]) by those of one order; places of what is not there are -1."""
    shift = _shift(len(table))
    for i in range(len(tokens)):
        if depth[i] < order - 1:
            continue
        h = mix64(hashes[i - 1] * STEP + np.uint64(tokens[i] + 1))
        longer[i] = h
        at = _find(table, _tag(h), shift)
        if table[at, 0] == 0:
            at = -1
        own[i] = at
        context = places[i - 1]
        if context < 0 or contexts[context, 2] == 0:
            continue
        follows = float(contexts[context, 2])
        # A gram that shares its counts with another one may have more than its context, which may then know of no new token.
        count = min(float(table[at, 1]), follows) if at >= 0 else 0.0
        spared = discount * max(float(contexts[context, 3]), 1.0)
        p[i] = (max(count - discount, 0.0) + spared * p[i]) / follows


@njit(cache=True, nogil=True)
def _moved(old: np.ndarray, new: np.ndarray) -> None:
    """Copy the entries of a table into a larger one."""
    mask, shift = len(new) - 1, np.uint64(32)
    slots = len(new)
    while slots > 1:
        slots >>= 1
        shift -= np.uint64(1)
    for k in range(len(old)):
        if old[k, 0] == 0:
            continue
        at = _slot(np.uint64(old[k, 0]), shift)
        while new[at, 0] != 0:
            at = (at + 1) & mask
        for c in range(old.shape[1]):
            new[at, c] = old[k, c]


@dataclass
class _Chunk:
    """Some segments, and arrays that the orders hand on."""

    tokens: np.ndarray
    depth: np.ndarray
    hashes: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, stream: UnitStream) -> _Chunk:
        tokens = np.ascontiguousarray(stream.tokens)
        depth = np.empty(len(tokens), np.int8)
        _depths(stream.ends, stream.padding, ORDER - 1, depth)
        return cls(tokens, depth, tokens.astype(np.uint64) + np.uint64(1), tokens.astype(np.int64))


class NgramModel:
    """Counts of all grams up to four tokens.

    Args:
        vocab_size: pieces of the tokenizer.
        expected: tokens that it will be trained on, about; only the time depends on it.
    """

    def __init__(self, vocab_size: int, expected: int = 0) -> None:
        self.single = np.zeros((vocab_size, 4), np.uint32)
        """Of single tokens, by their id; their counts are those of targets."""
        self.tables = [_empty(expected // 8, 4), _empty(expected // 2, 4), _empty(expected, 2)]
        """Of two, three and four tokens."""
        self.taken = [0, 0, 0]
        """Slots of each table that are in use."""

    def train(self, stream: UnitStream) -> None:
        """Count what some units hold."""
        chunk = _Chunk.of(stream)
        learned = np.empty(0, np.bool_) if stream.learned is None else stream.learned
        targets = chunk.depth > 0
        if len(learned):
            targets &= learned
        self.single[:, COUNT] += np.bincount(chunk.tokens[targets], minlength=len(self.single)).astype(np.uint32)
        contexts = self.single
        for k, order in enumerate(range(2, ORDER + 1)):
            self._make_room(k, len(chunk.tokens))
            longer, own = np.empty_like(chunk.hashes), np.empty_like(chunk.places)
            table = self.tables[k]
            self.taken[k] += _add(
                order, chunk.tokens, chunk.depth, learned, chunk.hashes, longer, chunk.places, own, table, contexts
            )
            chunk.hashes, chunk.places, contexts = longer, own, table

    def _make_room(self, k: int, more: int) -> None:
        old = self.tables[k]
        if self.taken[k] + more > FULL * len(old):
            self.tables[k] = _empty(2 * (self.taken[k] + more), old.shape[1])
            _moved(old, self.tables[k])

    def train_on(self, data: MixtureData) -> None:
        """Count all units of a mixture."""
        step = max(1, CHUNK_TOKENS // data.unit_tokens)
        for first in range(0, data.units, step):
            self.train(data.stream(first, min(step, data.units - first)))

    def bits(self, stream: UnitStream) -> np.ndarray:
        """Bits of every token, float64 [T]; 0 for the first one of a segment and in padding."""
        chunk = _Chunk.of(stream)
        counts = self.single[:, COUNT].astype(np.float64) + BASE
        p = (counts / counts.sum())[chunk.tokens]
        contexts = self.single
        for k, order in enumerate(range(2, ORDER + 1)):
            longer, own = np.empty_like(chunk.hashes), np.empty_like(chunk.places)
            args = (chunk.tokens, chunk.depth, chunk.hashes, longer, chunk.places, own, self.tables[k], contexts)
            _mix_in(order, *args, DISCOUNT, p)
            chunk.hashes, chunk.places, contexts = longer, own, self.tables[k]
        return np.where(chunk.depth > 0, -np.log2(p), 0.0)


def _empty(entries: int, columns: int) -> np.ndarray:
    """A table with room for so many entries, and for a chunk."""
    slots = 1 << max(16, int(np.ceil(np.log2(max(1.0, (entries + CHUNK_TOKENS) / FULL)))))
    return np.zeros((slots, columns), np.uint32)


def warm() -> None:
    """Compile, or load, the kernels."""
    model = NgramModel(8)
    for learned in (None, np.ones(8, np.bool_)):
        model.train(
            UnitStream(
                np.arange(8, dtype=np.int32), np.array([5, 8]), np.zeros(2, np.int64), np.zeros(2, np.bool_), learned
            )
        )
    _moved(model.tables[0], model.tables[0].copy() * 0)
    model.bits(UnitStream(np.arange(8, dtype=np.int32), np.array([5, 8]), np.zeros(2, np.int64), np.zeros(2, np.bool_)))

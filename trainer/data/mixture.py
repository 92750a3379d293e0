"""A mixture of several sets as one sequence of units, in given shares, that is written nowhere.

1. Each pool gives a quota of units; quotas sum to the mixture's length, and pools take turns in integer proportion
   (`order.interleave`).
2. A pool may be cut: only a number of its units is used, and those are repeated. The order of a set on disk is a global
   shuffle, so the first units are a uniform subsample; another `draw` takes others. So a small training can repeat a pool as
   often as a large one would, by one integer a pool.
3. Quotas may be given phase by phase: each is interleaved by itself, and a pool goes on where the phase before left it. So the
   same units, in sum, may come in another order.
4. The n-th unit that is taken of a pool is a function of n alone: further epochs are permutations that (seed, epoch) names, as
   in `PhaseData`. "Units consumed" is the whole state, whatever the number of ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...tokenize.shards import SetInfo, Split
from .order import MicroBatch, PhaseData, UnitStream, interleave, to_micro_batch
from .permutation import permute

DRAW = 0x5EED0001
"""Keeps the permutations of draws apart from those of epochs."""


@dataclass(frozen=True)
class Part:
    """What a mixture takes of one pool."""

    data: PhaseData
    quota: int | tuple[int, ...]
    """Units, in the mixture's length; several: in that of each phase."""
    cap: int = 0
    """Units of the pool that are used, and repeated; 0: all."""

    @property
    def phases(self) -> tuple[int, ...]:
        """Units of each phase."""
        return self.quota if isinstance(self.quota, tuple) else (self.quota,)

    @property
    def units(self) -> int:
        """Distinct units."""
        return min(self.cap or self.data.units, self.data.units)


class MixtureData:
    """Pools mixed in given quotas, with the interface of `PhaseData`."""

    def __init__(self, parts: Sequence[Part], seed: int, draw: int = 0) -> None:
        """
        Args:
            seed: of the order of repeated epochs.
            draw: which units a cut pool keeps; 0: the first ones.

        Raises:
            ValueError: pools differ in the length of a unit, the vocabulary or their phases, or one that is needed is empty.
        """
        self._parts, self._seed, self._draw = tuple(parts), seed, draw
        if len({len(p.phases) for p in parts}) > 1:
            raise ValueError("all pools of a mixture need quotas for the same phases")
        # [phases, pools]
        self._quotas = np.array([p.phases for p in parts], np.int64).T
        if not self._quotas.sum():
            raise ValueError("a mixture needs a unit at least")
        self._ends = self._quotas.sum(axis=1).cumsum()
        self._taken_before = self._quotas.cumsum(axis=0) - self._quotas
        infos = [p.data.info for p in parts]
        for part, info in zip(parts, infos, strict=True):
            if part.data.unit_tokens != parts[0].data.unit_tokens:
                raise ValueError(
                    f"{info.name} has units of {part.data.unit_tokens} tokens, and {infos[0].name} of "
                    f"{parts[0].data.unit_tokens}: they cannot be mixed"
                )
            facts = [(i.vocab_size, i.pad, i.eos, i.bos) for i in (info, infos[0])]
            if facts[0] != facts[1]:
                raise ValueError(
                    f"{info.name} and {infos[0].name} have tokens of different tokenizers: they cannot be mixed"
                )
            if sum(part.phases) and not part.units:
                raise ValueError(f"{info.name} holds no unit, and the mixture takes {sum(part.phases)} of it")
        self.unit_tokens = parts[0].data.unit_tokens
        table = list(dict.fromkeys(source for info in infos for source in info.sources))
        self._codes = [np.array([table.index(s) for s in info.sources] or [0], np.int64) for info in infos]
        self.info = self._described(infos, tuple(table))

    def _described(self, infos: Sequence[SetInfo], table: tuple[tuple[str, str, str], ...]) -> SetInfo:
        """The mixture as one set. Its identity pins pools, quotas and cuts."""
        facts = [(i.data_identity, p.quota, p.units) for i, p in zip(infos, self._parts, strict=True)]
        identity = hashlib.blake2b(repr([facts, self._draw]).encode(), digest_size=16).hexdigest()
        length = str(self.unit_tokens)
        splits = (Split(self.unit_tokens, self.units, self.units * self.unit_tokens, (), identity),)
        most = max(max(i.max_docs_per_block.values()) * self.unit_tokens for i in infos)
        return replace(
            infos[0],
            name="mixture",
            splits=splits,
            sources=table,
            max_docs_per_block={length: most},
            data_identity=identity,
            masked=any(i.masked for i in infos),
        )

    @property
    def units(self) -> int:
        """Units of the mixture, repeated ones included."""
        return int(self._ends[-1])

    def check(self) -> None:
        """Raise ValueError if a pool on disk is no longer the one that was opened."""
        for part in self._parts:
            part.data.check()

    def _places(self, part: Part, number: np.ndarray) -> np.ndarray:
        """int64 [n]: places in a pool's set of the units that are taken of it as number `number` (int64 [n], from 0)."""
        epoch, place = np.divmod(number, part.units)
        for e in np.unique(epoch[epoch > 0]).tolist():
            own = epoch == e
            place[own] = permute(place[own], part.units, self._seed * 1_000_003 + e)
        return permute(place, part.data.units, DRAW + self._draw) if self._draw else place

    def _turn(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(pool, how many of its units come before) of the units at some places (int64 [n]), below `units`."""
        pool, number = np.empty_like(at), np.empty_like(at)
        phase = np.searchsorted(self._ends, at, "right")
        for p in np.unique(phase).tolist():
            own = phase == p
            begin = int(self._ends[p] - self._quotas[p].sum())
            pool[own], number[own] = interleave(at[own] - begin, tuple(self._quotas[p].tolist()))
            number[own] += self._taken_before[p][pool[own]]
        return pool, number

    def stream(self, first: int, count: int) -> UnitStream:
        """Units ``first .. first + count - 1``; past the end, those of further rounds through the quotas."""
        return self.stream_of(np.arange(first, first + count))

    def stream_of(self, units: np.ndarray) -> UnitStream:
        """Some units, int64 [n], in this order."""
        lap, at = np.divmod(units, self.units)
        pool, number = self._turn(at)
        number += lap * self._quotas.sum(axis=0)[pool]
        streams, wheres = [], []
        for k, part in enumerate(self._parts):
            where = np.flatnonzero(pool == k)
            if len(where):
                stream = part.data.stream_of(self._places(part, number[where]))
                streams.append(replace(stream, sources=self._codes[k][stream.sources]))
                wheres.append(where)
        return _together(streams, wheres, self.unit_tokens)

    def micro_batch(self, first: int, count: int, device: torch.device) -> MicroBatch:
        """Units ``first .. first + count - 1`` on a device."""
        return to_micro_batch(self.stream(first, count), device)


def _together(streams: Sequence[UnitStream], wheres: Sequence[np.ndarray], unit: int) -> UnitStream:
    """Streams of units as one.

    Args:
        wheres: for every stream, int64 [n]: the place of each of its units in the whole, ascending.
    """
    if len(streams) == 1:
        return streams[0]
    count = sum(map(len, wheres))
    tokens = np.empty((count, unit), np.int32)
    masked = any(s.learned is not None for s in streams)
    learned = np.ones((count, unit), np.bool_) if masked else None
    ends = []
    for stream, where in zip(streams, wheres, strict=True):
        tokens[where] = stream.tokens.reshape(len(where), unit)
        if learned is not None and stream.learned is not None:
            learned[where] = stream.learned.reshape(len(where), unit)
        # Segments, padding among them, end within their unit.
        own = (stream.ends - 1) // unit
        ends.append(stream.ends + (where[own] - own) * unit)
    joined = np.concatenate(ends)
    order = np.argsort(joined)
    return UnitStream(
        tokens.reshape(-1),
        joined[order],
        np.concatenate([s.sources for s in streams])[order],
        np.concatenate([s.padding for s in streams])[order],
        None if learned is None else learned.reshape(-1),
    )

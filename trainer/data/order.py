"""The data order, a pure function of (phase, unit index), and the loader that follows it.

1. A phase set has a split per block length. A **unit** is one block of the longest length or the equal number of blocks
   of a shorter one, so every unit has the same number of tokens.
2. A phase is one sequence of units: splits are interleaved by integer proportion, each in on-disk order. After the last
   unit the sequence begins again, reordered by a permutation that (seed, epoch) names.
3. A step takes the next batch of units; a rank takes every world-size-th micro-batch of them. So what a step trains on
   never depends on the world size, and "units consumed" is the whole state.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from ...storage.inside import named, refuse_links
from ...tokenize.shards import SetInfo, current_identity, read_set
from ..model.attention import Documents
from ..model.loss import IGNORE
from .block_reader import Blocks, SplitReader, has_changed
from .permutation import permute

WINDOW = 4096
"""Number of units whose order is computed at once."""
LONGEST_STEP = 128
"""Tokens that the bound of the segments' lengths is a multiple of: what a block of threads of FlashAttention takes."""


@dataclass(frozen=True)
class UnitStream:
    """Consecutive units as T tokens. The padding of a block is a segment of its own."""

    tokens: np.ndarray
    """int32 [T]."""
    ends: np.ndarray
    """int64 [segments], ascending: exclusive ends."""
    sources: np.ndarray
    """int64 [segments]: source code; for padding, that of the segment before it."""
    padding: np.ndarray
    """bool [segments]."""
    learned: np.ndarray | None = None
    """bool [T]: tokens that are trained on, as targets; None: all."""


def interleave(index: np.ndarray, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(split, number within the split) of the units at `index` (int64 [n]) of the interleaved sequence.

    Two splits take turns in integer proportion (Bresenham); more are nested: the first against the rest.
    """
    split, number = np.zeros(len(index), np.int64), index.astype(np.int64)
    total = sum(counts)
    rest = np.arange(len(index))
    for k, first in enumerate(counts[:-1]):
        # Units of the first split among the first n.
        before, after = ((number[rest] + n) * first + total // 2 for n in (0, 1))
        before, after = before // total, after // total
        taken = after > before
        split[rest[taken]], number[rest[taken]] = k, before[taken]
        number[rest[~taken]] -= before[~taken]
        rest = rest[~taken]
        total -= first
        if not len(rest):
            return split, number
    split[rest] = len(counts) - 1
    return split, number


class PhaseData:
    """One phase set as a sequence of units."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.info: SetInfo = read_set(folder)
        self.folder, self._seed = folder, seed
        self._splits = [SplitReader(folder / str(s.block_length), s, self.info) for s in self.info.splits]
        self.unit_tokens = max(s.block_length for s in self.info.splits)
        self._counts = tuple(s.blocks * s.block_length // self.unit_tokens for s in self.info.splits)
        self._window: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.empty(0, np.int64))

    @property
    def units(self) -> int:
        return sum(self._counts)

    def check(self) -> None:
        """Raise ValueError if the set on disk is no longer the one that was opened."""
        if current_identity(self.folder) != self.info.data_identity:
            raise ValueError(has_changed(self.folder))

    def places(self, first: int, count: int) -> np.ndarray:
        """int64 [count]: places in the set of units ``first .. first + count - 1``; past the end, those of further epochs."""
        if first + count <= self.units:
            return np.arange(first, first + count)
        parts = []
        while count:
            epoch, at = divmod(first, self.units)
            window, inside = divmod(at, WINDOW)
            here = min(count, WINDOW - inside, self.units - at)
            parts.append(self._permuted(epoch, window)[inside : inside + here])
            first, count = first + here, count - here
        return np.concatenate(parts)

    def _permuted(self, epoch: int, window: int) -> np.ndarray:
        """The places of one window of an epoch; the last window is remembered."""
        if self._window[0] != (epoch, window):
            places = np.arange(window * WINDOW, min((window + 1) * WINDOW, self.units))
            if epoch:
                places = permute(places, self.units, self._seed * 1_000_003 + epoch)
            self._window = ((epoch, window), places)
        return self._window[1]

    def stream(self, first: int, count: int) -> UnitStream:
        """Units ``first .. first + count - 1``."""
        return self.stream_of(self.places(first, count))

    def stream_of(self, places: np.ndarray) -> UnitStream:
        """The units at some places in the set (int64 [n]), in that order."""
        count = len(places)
        if len(self._splits) == 1:
            blocks = self._splits[0].read_many(places)
            begins = np.arange(0, count * self.unit_tokens, self.unit_tokens)
            learned = None if blocks.learned is None else blocks.learned.reshape(-1)
            return _joined(blocks.tokens.reshape(-1), [(begins, blocks)], learned)
        split, number = interleave(places, self._counts)
        tokens = np.empty((count, self.unit_tokens), np.int32)
        learned = np.empty((count, self.unit_tokens), np.bool_) if self.info.masked else None
        parts: list[tuple[np.ndarray, Blocks]] = []
        for k, reader in enumerate(self._splits):
            where = np.flatnonzero(split == k)
            if not len(where):
                continue
            inside = np.arange(self.unit_tokens // reader.block_length)
            blocks = reader.read_many((number[where, None] * len(inside) + inside).ravel())
            tokens[where] = blocks.tokens.reshape(len(where), self.unit_tokens)
            if learned is not None and blocks.learned is not None:
                learned[where] = blocks.learned.reshape(len(where), self.unit_tokens)
            parts.append(((where[:, None] * self.unit_tokens + inside * reader.block_length).ravel(), blocks))
        return _joined(tokens.reshape(-1), parts, None if learned is None else learned.reshape(-1))

    def micro_batch(self, first: int, count: int, device: torch.device) -> MicroBatch:
        """Units ``first .. first + count - 1`` on a device."""
        return to_micro_batch(self.stream(first, count), device)

    def micro_batch_of(self, places: np.ndarray, tokens: int, device: torch.device) -> MicroBatch:
        """The units at some places in the set (int64 [n]) on a device, filled up with padding to so many tokens."""
        return to_micro_batch(_filled(self.stream_of(places), tokens), device)


def _filled(stream: UnitStream, tokens: int) -> UnitStream:
    """A stream with a segment of padding at its end, if it is shorter than so many tokens."""
    missing = tokens - len(stream.tokens)
    if missing <= 0:
        return stream
    learned = stream.learned
    return UnitStream(
        np.concatenate([stream.tokens, np.zeros(missing, np.int32)]),
        np.append(stream.ends, tokens),
        np.append(stream.sources, stream.sources[-1:]),
        np.append(stream.padding, True),
        None if learned is None else np.concatenate([learned, np.zeros(missing, np.bool_)]),
    )


def _joined(tokens: np.ndarray, parts: list[tuple[np.ndarray, Blocks]], learned: np.ndarray | None) -> UnitStream:
    """The segments of blocks, in the order of the stream.

    Args:
        parts: (token at which each block begins, the blocks), by split.
    """
    if len(parts) == 1:
        begins, blocks = parts[0]
        length, counts = blocks.tokens.shape[1], blocks.counts
        lasts = np.cumsum(counts) - 1
        if (blocks.ends[lasts] == length).all():
            # In order and without padding: nothing has to move.
            ends = blocks.ends + np.repeat(begins, counts)
            return UnitStream(tokens, ends, blocks.sources.astype(np.int64), np.zeros(len(ends), np.bool_), learned)
    begins = np.concatenate([b for b, _ in parts])
    counts = np.concatenate([b.counts for _, b in parts])
    lengths = np.concatenate([np.full(len(b.counts), b.tokens.shape[1]) for _, b in parts])
    ends = np.concatenate([b.ends for _, b in parts]).astype(np.int64)
    sources = np.concatenate([b.sources for _, b in parts]).astype(np.int64)
    firsts = np.cumsum(counts) - counts
    padded = ends[firsts + counts - 1] < lengths
    # A block's segments, and one more where it is padded, go to their places by the order of the blocks.
    order = np.argsort(begins)
    sizes = counts + padded
    places = np.empty(len(order), np.int64)
    places[order] = np.cumsum(sizes[order]) - sizes[order]
    own = np.arange(len(ends)) + np.repeat(places - firsts, counts)
    extra = (places + counts)[padded]
    total = int(sizes.sum())
    out_ends, out_sources, padding = np.empty(total, np.int64), np.empty(total, np.int64), np.zeros(total, np.bool_)
    out_ends[own], out_sources[own] = ends + np.repeat(begins, counts), sources
    out_ends[extra], out_sources[extra] = (begins + lengths)[padded], out_sources[extra - 1]
    padding[extra] = True
    return UnitStream(tokens, out_ends, out_sources, padding, learned)


def open_set(run: Path, name: str, seed: int) -> PhaseData:
    """A set of a run by its folder's name, e.g. `phases/phase1`. A link may stand for a folder of the run (`phases`), since a
    user may train on the data of another run with settings of its own; nothing below it may be one.

    Raises:
        ValueError: there is no such set, it is damaged, or it holds a link.
    """
    folder = named(run, name, own=1)
    refuse_links(run, folder / "fox1.json", own=1)
    data = PhaseData(folder, seed)
    for split in data.info.splits:
        refuse_links(run, folder / str(split.block_length), own=1)
    return data


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes: a flat stream of a fixed number of tokens T."""

    tokens: torch.Tensor
    """int64 [T]."""
    targets: torch.Tensor
    """int64 [T]: the next token; -100 where it is in another segment, padding, or not trained on."""
    documents: Documents
    sources: torch.Tensor
    """int64 [T]: source code of every token (for padding, that of the segment before it)."""
    valid: int
    """Number of targets that count."""
    square_lengths: int
    """Sum of squared segment lengths, which the FLOPs of attention are proportional to."""

    def idle(self) -> MicroBatch:
        """The same shapes without any target: for a rank that has no micro-batch left in this step."""
        return replace(self, targets=torch.full_like(self.targets, IGNORE), valid=0, square_lengths=0)


def to_micro_batch(stream: UnitStream, device: torch.device) -> MicroBatch:
    """A micro-batch on a device: positions restart with every segment, and targets end with it.

    All of it is one buffer, so that one copy moves it; to a GPU from pinned memory, which the copy does not wait for.
    """
    size, segments, cuda = len(stream.tokens), len(stream.ends), device.type == "cuda"
    begins = np.r_[0, stream.ends[:-1]]
    sizes = stream.ends - begins
    # Four rows of int64, and 0 and the ends as int32.
    buffer = torch.empty(4 * size + segments // 2 + 1, dtype=torch.int64, pin_memory=cuda)
    tokens, targets, positions, sources = buffer[: 4 * size].view(4, size).numpy()
    tokens[:] = stream.tokens
    targets[:-1] = stream.tokens[1:]
    targets[stream.ends - 1] = IGNORE
    for begin, end in zip(begins[stream.padding].tolist(), stream.ends[stream.padding].tolist(), strict=True):
        targets[begin:end] = IGNORE
    real = sizes[~stream.padding]
    valid = int(real.sum()) - len(real)
    if stream.learned is not None:
        targets[:-1][~stream.learned[1:]] = IGNORE
        valid = int(np.count_nonzero(targets != IGNORE))
    positions[:] = np.arange(size) - np.repeat(begins, sizes)
    sources[:] = np.repeat(stream.sources, sizes)
    cumulative = buffer[4 * size :].view(torch.int32)[: segments + 1].numpy()
    cumulative[0], cumulative[1:] = 0, stream.ends
    moved = buffer.to(device, non_blocking=True)
    rows, ends = moved[: 4 * size].view(4, size), moved[4 * size :].view(torch.int32)[: segments + 1]
    documents = Documents(
        rows[2],
        () if cuda else tuple(stream.ends.tolist()),
        ends if cuda else None,
        -(-int(sizes.max()) // LONGEST_STEP) * LONGEST_STEP,
    )
    return MicroBatch(rows[0], rows[1], documents, rows[3], valid, int((real**2).sum()))


def units_of_step(units: int, batch_units: int, micro_units: int, rank: int, world: int) -> list[int | None]:
    """The first unit of every micro-batch that a rank takes in the step that follows `units` consumed ones.

    All ranks take equally many, since they gather parameters together; None where the batch has none left.
    """
    micro = batch_units // micro_units
    rounds = -(-micro // world)
    numbers = [r * world + rank for r in range(rounds)]
    return [units + m * micro_units if m < micro else None for m in numbers]


class Loader:
    """The micro-batches of a rank, step by step, prepared one step ahead in a thread. Its only state is the units consumed."""

    def __init__(
        self,
        data: PhaseData,
        units: int,
        batch_units: int,
        micro_units: int,
        rank: int,
        world: int,
        device: torch.device,
    ) -> None:
        self._data, self._units, self._batch_units, self._micro_units = data, units, batch_units, micro_units
        self._rank, self._world, self._device = rank, world, device
        self._thread = ThreadPoolExecutor(1, "loader")
        self._next: Future[tuple[list[MicroBatch], torch.cuda.Event | None]] | None = None
        # Copies to a GPU run beside its kernels.
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def _make(self, units: int) -> tuple[list[MicroBatch], torch.cuda.Event | None]:
        """The micro-batches of a step, and what is recorded on the GPU once they are there."""
        if self._copies is None:
            return self._micro_batches(units), None
        with torch.cuda.stream(self._copies):
            return self._micro_batches(units), self._copies.record_event()

    def _micro_batches(self, units: int) -> list[MicroBatch]:
        firsts = units_of_step(units, self._batch_units, self._micro_units, self._rank, self._world)
        return [
            self._data.micro_batch(units, self._micro_units, self._device).idle()
            if first is None
            else self._data.micro_batch(first, self._micro_units, self._device)
            for first in firsts
        ]

    def next_step(self) -> list[MicroBatch]:
        """The micro-batches that this rank trains on in the next step."""
        ready = self._next or self._thread.submit(self._make, self._units)
        self._units += self._batch_units
        self._next = self._thread.submit(self._make, self._units)
        batches, copied = ready.result()
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            for batch in batches:
                # Their memory is not used again before the steps that read it; idle targets are not part of the buffer.
                for tensor in (batch.tokens, batch.targets):
                    tensor.record_stream(current)
        return batches

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

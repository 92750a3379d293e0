"""The data order, a pure function of (phase, unit index), and the loader that reads it.

1. A phase set has a split per block length. A **unit** is one block of the longest length or the equal number of blocks
   of a shorter one, so every unit has the same number of tokens.
2. A phase is one sequence of units: splits are interleaved by integer proportion, each in on-disk order. After the last
   unit the sequence begins again, reordered by a permutation that (seed, epoch) names.
3. A step takes the next batch of units; a rank takes every world-size-th micro-batch of them. So what a step trains on
   never depends on the world size, and "units consumed" is the whole state.

Files are memory-mapped Arrow streams; a unit is copied out of the map, nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ..tokenize.shards import SetInfo, read_set
from .attention import Documents
from .loss import IGNORE
from .permutation import permute


@dataclass(frozen=True)
class Blocks:
    """Blocks of one unit."""

    tokens: np.ndarray
    """int32 [n, L]."""
    ends: list[np.ndarray]
    """Per block, the exclusive ends of its segments; what follows the last is padding."""
    sources: list[np.ndarray]
    """Per block, the source code of each segment."""


class SplitReader:
    """Random access to the blocks of one split."""

    def __init__(self, folder: Path, files: tuple[str, ...], block_length: int) -> None:
        self.block_length = block_length
        self._batches: list[pa.RecordBatch] = []
        for name in files:
            path = folder / name
            try:
                source = pa.memory_map(str(path))
                self._batches += list(pa.ipc.open_stream(source))
            except (OSError, pa.ArrowInvalid) as error:
                raise ValueError(f"{path} cannot be read ({error}); run `fox1 curate` again to rebuild it") from None
        self._begins = np.r_[0, np.cumsum([b.num_rows for b in self._batches])]

    def __len__(self) -> int:
        return int(self._begins[-1])

    def read(self, first: int, count: int) -> Blocks:
        """Blocks ``first .. first + count - 1``."""
        tokens, ends, sources = [], [], []
        for block in range(first, first + count):
            at = int(np.searchsorted(self._begins, block, "right")) - 1
            batch, row = self._batches[at], block - int(self._begins[at])
            ids = batch.column("input_ids")
            flat = ids.values.to_numpy()
            begin = (ids.offset + row) * self.block_length
            tokens.append(flat[begin : begin + self.block_length])
            ends.append(batch.column("doc_ends")[row].values.to_numpy())
            sources.append(batch.column("doc_sources")[row].values.to_numpy())
        return Blocks(np.stack(tokens), ends, sources)


def interleave(index: int, counts: tuple[int, ...]) -> tuple[int, int]:
    """(split, number in the split) of the unit at `index` of the interleaved sequence.

    Two splits take turns in integer proportion (Bresenham); more are nested: the first against the rest.
    """
    total = sum(counts)
    assert 0 <= index < total
    first = counts[0]
    if len(counts) == 1:
        return 0, index

    def firsts(n: int) -> int:
        """Units of the first split among the first n."""
        return (n * first + total // 2) // total

    before = firsts(index)
    if firsts(index + 1) > before:
        return 0, before
    split, number = interleave(index - before, counts[1:])
    return split + 1, number


class PhaseData:
    """One phase set as a sequence of units."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.info: SetInfo = read_set(folder)
        self._seed = seed
        self._splits = [SplitReader(folder / str(s.block_length), s.files, s.block_length) for s in self.info.splits]
        self.unit_tokens = max(s.block_length for s in self.info.splits)
        self._counts = tuple(s.blocks * s.block_length // self.unit_tokens for s in self.info.splits)
        for split, reader in zip(self.info.splits, self._splits, strict=True):
            if len(reader) != split.blocks:
                raise ValueError(
                    f"{folder}/{split.block_length} has {len(reader)} blocks, fox1.json says {split.blocks}; "
                    "run `fox1 curate` again"
                )

    @property
    def units(self) -> int:
        return sum(self._counts)

    def max_segments(self, block_length: int) -> int:
        return self.info.max_docs_per_block[str(block_length)]

    def unit(self, index: int) -> Blocks:
        """The blocks of the unit at any index; indices past the end begin a further epoch."""
        epoch, place = divmod(index, self.units)
        if epoch:
            place = permute(place, self.units, self._seed * 1_000_003 + epoch)
        split, number = interleave(place, self._counts)
        reader = self._splits[split]
        per_unit = self.unit_tokens // reader.block_length
        return reader.read(number * per_unit, per_unit)

    def micro_batch(self, first: int, count: int, device: torch.device) -> MicroBatch:
        """Units ``first .. first + count - 1`` as one flat stream."""
        return flatten([self.unit(i) for i in range(first, first + count)], self, device)


@dataclass(frozen=True)
class MicroBatch:
    """A flat stream of a fixed number of tokens T."""

    tokens: torch.Tensor
    """int64 [T]."""
    targets: torch.Tensor
    """int64 [T]; -100 for the last token of a segment and for padding."""
    documents: Documents
    sources: torch.Tensor
    """int64 [T]: source code of every token (of padding, that of the last segment)."""
    valid: int
    """Targets that count."""
    square_lengths: int
    """Sum of squared segment lengths: what attention really costs."""


def flatten(units: list[Blocks], data: PhaseData, device: torch.device) -> MicroBatch:
    """Concatenate blocks into one stream with restarting positions."""
    tokens, positions, targets, sources, ends = [], [], [], [], []
    at = valid = squares = slots = 0
    longest = 0
    for blocks in units:
        length = blocks.tokens.shape[1]
        longest = max(longest, length)
        slots += len(blocks.tokens) * (data.max_segments(length) + 1)
        for row, segment_ends, codes in zip(blocks.tokens, blocks.ends, blocks.sources, strict=True):
            bounds = segment_ends.astype(np.int64)
            whole = bounds if bounds[-1] == length else np.r_[bounds, length]
            begins = np.r_[0, whole[:-1]]
            sizes = whole - begins
            target = np.empty(length, np.int64)
            target[:-1] = row[1:]
            target[whole - 1] = IGNORE
            target[bounds[-1] :] = IGNORE
            tokens.append(row)
            targets.append(target)
            positions.append(np.arange(length) - np.repeat(begins, sizes))
            code = np.empty(len(whole), np.int64)
            code[: len(codes)] = codes
            code[len(codes) :] = codes[-1]
            sources.append(np.repeat(code, sizes))
            ends.append(whole + at)
            valid += int(bounds[-1]) - len(bounds)
            squares += int((sizes[: len(bounds)] ** 2).sum())
            at += length
    stops = np.concatenate(ends)
    cumulative = None
    if device.type == "cuda":
        padded = np.full(slots + 1, at, np.int32)
        padded[0] = 0
        padded[1 : len(stops) + 1] = stops
        cumulative = torch.from_numpy(padded).to(device, non_blocking=True)

    def put(values: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(values).astype(np.int64)).to(device, non_blocking=True)

    documents = Documents(put(positions), tuple(stops.tolist()) if cumulative is None else (), cumulative, longest)
    return MicroBatch(put(tokens), put(targets), documents, put(sources), valid, squares)

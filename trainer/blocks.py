"""Random access to the blocks of a phase set: memory-mapped files, opened when they are needed.

Files of a set hold a constant number of blocks, record batches of a file too, so a block's place follows from its number.
Needs numpy and pyarrow only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..tokenize.shards import Split, rows_per_batch, rows_per_file

OPEN_FILES = 64
"""Files of a split that are mapped at once."""


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks. Segments are flat: those of a block stand together, in its order."""

    tokens: np.ndarray
    """int32 [n, L]."""
    counts: np.ndarray
    """int64 [n]: segments of every block."""
    ends: np.ndarray
    """int32 [segments]: exclusive end in its block; what follows a block's last is padding."""
    sources: np.ndarray
    """uint16 [segments]: source code."""
    learned: np.ndarray | None = None
    """bool [n, L]: positions that are trained on, as targets; None: all."""


class _File:
    """A mapped file: views of its tokens by record batch; the small columns as arrays over all its blocks."""

    def __init__(self, batches: list[pa.RecordBatch], block_length: int, masked: bool) -> None:
        self.spans = [_lists(batch.column("loss_spans")) for batch in batches] if masked else []
        """By record batch: begins and exclusive ends of what is trained on, and where each block's begin."""
        self.tokens: list[np.ndarray] = []
        offsets, ends, sources = [np.zeros(1, np.int64)], [], []
        held = 0
        for batch in batches:
            ids, its_ends, its_sources = (batch.column(name) for name in ("input_ids", "doc_ends", "doc_sources"))
            begin = ids.offset * block_length
            flat = ids.values.to_numpy()[begin : begin + len(ids) * block_length]
            self.tokens.append(flat.reshape(len(ids), block_length))
            bounds = its_ends.offsets.to_numpy().astype(np.int64)
            ends.append(its_ends.values.to_numpy()[bounds[0] : bounds[-1]])
            sources.append(its_sources.values.to_numpy()[bounds[0] : bounds[-1]])
            offsets.append(bounds[1:] - bounds[0] + held)
            held += int(bounds[-1] - bounds[0])
        self.offsets = np.concatenate(offsets)
        """int64 [blocks + 1]: where the segments of each block begin in the arrays that follow."""
        self.ends = np.concatenate(ends)
        self.sources = np.concatenate(sources)
        self.bounds: list[int] = self.offsets.tolist()


def _lists(column: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    return column.values.to_numpy(), column.offsets.to_numpy()


class SplitReader:
    """The blocks of one split."""

    def __init__(self, folder: Path, split: Split, masked: bool = False) -> None:
        self.block_length, self.blocks, self._masked = split.block_length, split.blocks, masked
        self._paths = [folder / name for name in split.files]
        missing = next((p for p in self._paths if not p.exists()), None)
        if missing:
            raise ValueError(f"{missing} is missing; run `fox1 curate` again to rebuild it")
        self._per_file, self._per_batch = rows_per_file(split.block_length), rows_per_batch(split.block_length)
        self.open_files: dict[int, _File] = {}
        """By number; the one opened first leaves first."""

    def _open(self, number: int) -> _File:
        """Map a file that is not.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        path = self._paths[number]
        try:
            # The views keep the map alive; dropping them unmaps the file.
            batches = list(pa.ipc.open_stream(pa.memory_map(os.fspath(path))))
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{path} cannot be read ({error}); run `fox1 curate` again to rebuild it") from None
        rows, there = min(self._per_file, self.blocks - number * self._per_file), sum(b.num_rows for b in batches)
        if there != rows:
            raise ValueError(f"{path} has {there} blocks, fox1.json says {rows}; run `fox1 curate` again")
        if len(self.open_files) >= OPEN_FILES:
            del self.open_files[next(iter(self.open_files))]
        self.open_files[number] = _File(batches, self.block_length, self._masked)
        return self.open_files[number]

    def _learned(self, numbers: np.ndarray) -> np.ndarray | None:
        """bool [n, L]: what is trained on of some blocks; their files are open or opened again."""
        if not self._masked:
            return None
        learned = np.zeros((len(numbers), self.block_length), np.bool_)
        for k, block in enumerate(numbers.tolist()):
            number, row = divmod(block, self._per_file)
            which, place = divmod(row, self._per_batch)
            spans, bounds = (self.open_files.get(number) or self._open(number)).spans[which]
            for begin, end in spans[bounds[place] : bounds[place + 1]].reshape(-1, 2).tolist():
                learned[k, begin:end] = True
        return learned

    def read(self, first: int, count: int) -> Blocks:
        """Blocks ``first .. first + count - 1``, copied out of the maps."""
        tokens = np.empty((count, self.block_length), np.int32)
        counts, ends, sources = [], [], []
        done = 0
        while done < count:
            number, row = divmod(first + done, self._per_file)
            file = self.open_files.get(number) or self._open(number)
            here = min(count - done, len(file.offsets) - 1 - row)
            begin, end = file.bounds[row], file.bounds[row + here]
            counts.append(np.diff(file.offsets[row : row + here + 1]))
            ends.append(file.ends[begin:end])
            sources.append(file.sources[begin:end])
            while here:
                which, place = divmod(row, self._per_batch)
                n = min(here, self._per_batch - place)
                tokens[done : done + n] = file.tokens[which][place : place + n]
                done, row, here = done + n, row + n, here - n
        learned = self._learned(np.arange(first, first + count))
        if len(counts) == 1:
            return Blocks(tokens, counts[0], ends[0], sources[0], learned)
        return Blocks(tokens, np.concatenate(counts), np.concatenate(ends), np.concatenate(sources), learned)

    def read_many(self, numbers: np.ndarray) -> Blocks:
        """Blocks by their numbers (int64 [n]), in that order."""
        n = len(numbers)
        if n and int(numbers[-1]) - int(numbers[0]) == n - 1 and bool((np.diff(numbers) == 1).all()):
            return self.read(int(numbers[0]), n)
        tokens = np.empty((n, self.block_length), np.int32)
        counts, ends, sources = [], [], []
        per_file, per_batch, opened = self._per_file, self._per_batch, self.open_files
        for k, block in enumerate(numbers.tolist()):
            number, row = divmod(block, per_file)
            which, place = divmod(row, per_batch)
            file = opened.get(number) or self._open(number)
            tokens[k] = file.tokens[which][place]
            begin, end = file.bounds[row], file.bounds[row + 1]
            counts.append(end - begin)
            ends.append(file.ends[begin:end])
            sources.append(file.sources[begin:end])
        learned = self._learned(numbers)
        return Blocks(tokens, np.array(counts, np.int64), np.concatenate(ends), np.concatenate(sources), learned)

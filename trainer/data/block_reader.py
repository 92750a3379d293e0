"""Random access to the blocks of a phase set, in memory-mapped files that are opened when they are needed.

All files of a set but the last hold the same number of blocks, and so do the record batches of a file: a block's place
follows from its number.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...storage.store import Mirrored, files_below
from ...tokenize.shards import SetInfo, Split, block_batches, current_identity, rows_per_batch, rows_per_file

OPEN_FILES = 64
"""Files of a split that are mapped at once."""


@dataclass(frozen=True)
class Blocks:
    """Some blocks. Segments are flat arrays: those of a block stand together, in its order."""

    tokens: np.ndarray
    """int32 [n, L]."""
    counts: np.ndarray
    """int64 [n]: number of segments in every block."""
    ends: np.ndarray
    """int32 [segments]: exclusive end of a segment in its block; after a block's last segment comes padding."""
    sources: np.ndarray
    """uint16 [segments]: source code."""
    learned: np.ndarray | None = None
    """bool [n, L]: positions that are trained on, as targets; None: all."""


class _File:
    """A mapped file: views of its tokens by record batch, and the small columns as arrays over all its blocks."""

    def __init__(self, batches: list[pa.RecordBatch], block_length: int, masked: bool) -> None:
        self.spans = [_lists(batch.column("loss_spans")) for batch in batches] if masked else []
        """By record batch: begins and exclusive ends of what is trained on, and the offset of each block's in them."""
        self.tokens: list[np.ndarray] = []
        offsets, ends, sources = [np.zeros(1, np.int64)], [], []
        held = 0
        for batch in batches:
            ids, end_lists, source_lists = (batch.column(name) for name in ("input_ids", "doc_ends", "doc_sources"))
            begin = ids.offset * block_length
            flat = ids.values.to_numpy()[begin : begin + len(ids) * block_length]
            self.tokens.append(flat.reshape(len(ids), block_length))
            bounds = end_lists.offsets.to_numpy().astype(np.int64)
            ends.append(end_lists.values.to_numpy()[bounds[0] : bounds[-1]])
            sources.append(source_lists.values.to_numpy()[bounds[0] : bounds[-1]])
            offsets.append(bounds[1:] - bounds[0] + held)
            held += int(bounds[-1] - bounds[0])
        self.offsets = np.concatenate(offsets)
        """int64 [blocks + 1]: where the segments of each block begin in the arrays that follow."""
        self.ends = np.concatenate(ends)
        self.sources = np.concatenate(sources)
        self.bounds: list[int] = self.offsets.tolist()


def _lists(column: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    return column.values.to_numpy(), column.offsets.to_numpy()


Facts = tuple[int, ...]
"""What tells a file from another one of its name: size, time and inode; in a store, the size."""


def _facts(path: Path) -> Facts:
    """The facts of a file that is about to be read.

    Raises:
        ValueError: it is missing, or no regular file.
    """
    try:
        if isinstance(path, Mirrored):
            return (path.stat().st_size,)
        return _regular(path, os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None


def _listed_facts(folder: Path, names: Sequence[str]) -> list[Facts]:
    """The facts of files of a folder, from one listing: a phase of the full recipe has some ten thousand of them.

    Raises:
        ValueError: one is missing, or no regular file.
    """
    found: dict[str, Facts] = {}
    if isinstance(folder, Mirrored):
        found = {path.name: (size,) for path, size in files_below(folder)}
    else:
        wanted = set(names)
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in wanted:
                    found[entry.name] = _regular(folder / entry.name, entry.stat(follow_symlinks=False))
    if missing := next((name for name in names if name not in found), None):
        raise _missing(folder / missing)
    return [found[name] for name in names]


def _regular(path: Path, facts: os.stat_result) -> Facts:
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(f"{path} is not a regular file; run `fox1 curate` again to rebuild it")
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _missing(path: Path) -> ValueError:
    return ValueError(f"{path} is missing; run `fox1 curate` again to rebuild it")


def has_changed(path: Path) -> str:
    """The message for data that is no longer what a training began with."""
    return (
        f"{path} has changed since this training opened it, and is not read on; put the data back to continue, or train in "
        "another --out"
    )


class SplitReader:
    """The blocks of one split of a set.

    Everything that it returns is safe to train on: segments in order, ids of the vocabulary, sources of the table. Ids are
    checked when they are read, all else when a file is opened. `fox1 verify` checks that files are as they were written.
    A set that changes after it was opened is not read on.
    """

    def __init__(self, folder: Path, split: Split, info: SetInfo) -> None:
        self._set, self._identity = folder.parent, info.data_identity
        self.block_length, self.blocks, self._masked = split.block_length, split.blocks, info.masked
        self._vocab_size, self._sources = info.vocab_size, len(info.sources)
        self._max_segments = info.max_docs_per_block[str(split.block_length)]
        self._paths = [folder / name for name in split.files]
        self._facts = _listed_facts(folder, split.files)
        self._per_file, self._per_batch = rows_per_file(split.block_length), rows_per_batch(split.block_length)
        self.open_files: dict[int, _File] = {}
        """Open files by number; the one opened first is closed first."""

    def _open(self, number: int) -> _File:
        """Map a file that is not open.

        Raises:
            ValueError: the file is damaged, or the set has changed; the message names it.
        """
        path = self._paths[number]
        # The views keep the map alive; dropping them unmaps the file.
        batches = list(block_batches(path, self.block_length, self._masked))
        # A set loses its description before its files are replaced: with it, what was mapped is of the set that was opened.
        if _facts(path) != self._facts[number] or current_identity(self._set) != self._identity:
            raise ValueError(has_changed(path))
        rows, there = min(self._per_file, self.blocks - number * self._per_file), sum(b.num_rows for b in batches)
        if there != rows or any(b.num_rows != self._per_batch for b in batches[:-1]):
            raise ValueError(
                f"{path} has {there} blocks, not {rows} as fox1.json says; run `fox1 curate` again to rebuild it"
            )
        file = _File(batches, self.block_length, self._masked)
        if not self._sound(file):
            raise ValueError(
                f"{path} is damaged (segments that do not fit their blocks); run `fox1 curate` again to rebuild it"
            )
        if len(self.open_files) >= OPEN_FILES:
            del self.open_files[next(iter(self.open_files))]
        self.open_files[number] = file
        return file

    def _sound(self, file: _File) -> bool:
        """Whether segments are in order and within their blocks, not too many, and of sources in the table."""
        counts = np.diff(file.offsets)
        if len(file.sources) != len(file.ends) or not ((counts > 0) & (counts <= self._max_segments)).all():
            return False
        before = np.r_[0, file.ends[:-1]].astype(np.int64)
        before[file.offsets[:-1]] = 0
        inside = (file.ends > before).all() and (file.ends <= self.block_length).all()
        spans = [span for values, bounds in file.spans for span in (values[bounds[0] : bounds[-1]],)]
        whole = all((np.diff(bounds) % 2 == 0).all() for _, bounds in file.spans)
        within = all(((span >= 0) & (span <= self.block_length)).all() for span in spans)
        return bool(inside and whole and within and (file.sources < self._sources).all())

    def _checked(self, tokens: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Tokens [n, L] of blocks.

        Raises:
            ValueError: an id is not in the vocabulary; the message names the file.
        """
        # As unsigned numbers, negative ids are the largest: one pass finds both kinds.
        if tokens.size and int(tokens.view(np.uint32).max()) >= self._vocab_size:
            wrong = numbers[((tokens < 0) | (tokens >= self._vocab_size)).any(axis=1)][0]
            path = self._paths[int(wrong) // self._per_file]
            raise ValueError(
                f"{path} is damaged (block {wrong} has ids outside the vocabulary); run `fox1 curate` again to rebuild it"
            )
        return tokens

    def _learned(self, numbers: np.ndarray) -> np.ndarray | None:
        """bool [n, L]: positions of some blocks that are trained on; None: all."""
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
        numbers = np.arange(first, first + count)
        tokens, learned = self._checked(tokens, numbers), self._learned(numbers)
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
        tokens, learned = self._checked(tokens, numbers), self._learned(numbers)
        return Blocks(tokens, np.array(counts, np.int64), np.concatenate(ends), np.concatenate(sources), learned)

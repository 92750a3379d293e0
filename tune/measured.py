"""What a training is measured on: token sequences of documents and items, each of a target, as one file.

A document is measured in windows, segments of the blocks that it was packed into; an item is its question and the right option,
of which only the option is scored. Both are rows of `SCHEMA`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..pipeline.run.artifacts import Artifact, publish
from ..pipeline.signals.hashing import mix_array
from ..storage.reading import read_bounded
from ..storage.wording import first_line
from ..tokenize.shards import block_batches, read_set
from ..trainer.data.order import UnitStream

SCHEMA = pa.schema(
    [
        pa.field("target", pa.string(), nullable=False),
        pa.field("document", pa.uint64(), nullable=False),
        pa.field("skip", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)
"""`document`: what the bootstrap draws, an id within the target; `skip`: tokens at the beginning that are not scored; `bytes`:
of the text that the scored ones stand for."""
BATCH_TOKENS = 1 << 16
"""Tokens that are scored at once."""
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class PackedSet:
    """A packed set that a task reads: its key has what it holds, not where it lies."""

    folder: Path
    data_identity: str

    @classmethod
    def of(cls, folder: Path) -> PackedSet:
        return cls(folder, read_set(folder).data_identity)


@dataclass(frozen=True)
class MeasuredFile:
    """A file of `SCHEMA`."""

    file: Artifact
    documents: int
    tokens: int


@dataclass(frozen=True)
class Sequences:
    """Such files in memory. n sequences, D documents and items."""

    tokens: np.ndarray
    """int32 [T]."""
    ends: np.ndarray
    """int64 [n]: exclusive ends."""
    skip: np.ndarray
    """int64 [n]."""
    document: np.ndarray
    """int64 [n]: index below D."""
    size: np.ndarray
    """int64 [D]: bytes."""
    target: np.ndarray
    """int64 [D]: index into `targets`."""
    targets: tuple[str, ...]

    def streams(self) -> Iterator[tuple[slice, UnitStream]]:
        """Some sequences at a time, as what a model takes."""
        first = 0
        while first < len(self.ends):
            begin = int(self.ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(self.ends, begin + BATCH_TOKENS, "right")))
            n, ends = last - first, self.ends[first:last] - begin
            tokens = self.tokens[begin : begin + int(ends[-1])]
            yield slice(first, last), UnitStream(tokens, ends, np.zeros(n, np.int64), np.zeros(n, np.bool_))
            first = last

    def bits(self, score: Callable[[UnitStream], np.ndarray]) -> np.ndarray:
        """Bits of every document, float64 [D].

        Args:
            score: bits of every token of some sequences, float64 [T]; what it says of a sequence's first token is not used.
        """
        found = np.zeros(len(self.size))
        for rows, stream in self.streams():
            each = score(stream)
            begins = np.r_[0, stream.ends[:-1]]
            place = np.arange(len(each)) - np.repeat(begins, stream.ends - begins)
            each = np.where(place >= np.repeat(np.maximum(self.skip[rows], 1), stream.ends - begins), each, 0.0)
            found += np.bincount(self.document[rows], np.add.reduceat(each, begins), len(found))
        return found

    def by_target(self, bits: np.ndarray) -> np.ndarray:
        """Bits per byte of every target, float64 [T], from those of documents [D]."""
        count = len(self.targets)
        return np.bincount(self.target, bits, count) / np.bincount(self.target, self.size, count)


@dataclass(frozen=True)
class Measures:
    """What trainings are measured on, in one of the two parts: for the fit, or for the validation."""

    files: tuple[Artifact, ...]
    sequences: Sequences
    importance: np.ndarray
    """float64 [T]: of each target in the objective."""


def write_sequences(rows: Sequence[tuple[str, int, int, int, np.ndarray]], out: Path) -> MeasuredFile:
    """Publish rows of `SCHEMA`."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    ids = pa.array([r.tolist() for r in columns[4]], SCHEMA.field("input_ids").type)
    arrays = [*(pa.array(list(c), f.type) for c, f in zip(columns[:4], SCHEMA, strict=False)), ids]
    with publish(out, rows=len(rows)) as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
    documents = len({(row[0], row[1]) for row in rows})
    return MeasuredFile(file.artifact, documents, sum(len(row[4]) for row in rows))


def read_sequences(files: Sequence[Path]) -> Sequences:
    """What some files hold, in their order; targets by when they first come.

    Raises:
        ValueError: a file is damaged; the message names it.
    """
    tables = []
    for path in files:
        try:
            table = pa.ipc.open_stream(read_bounded(path, MOST_BYTES)).read_all()
            table.validate(full=True)
            tables.append(table.cast(SCHEMA))
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path} is damaged ({first_line(error)}); delete it and run `fox1 tune` again") from None
    table = pa.concat_tables(tables).combine_chunks()
    named = list(zip(table.column("target").to_pylist(), table.column("document").to_pylist(), strict=True))
    documents = {name: i for i, name in enumerate(dict.fromkeys(named))}
    targets = tuple(dict.fromkeys(target for target, _ in documents))
    ids = table.column("input_ids").combine_chunks()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    document = np.array([documents[name] for name in named], np.int64)
    size = np.bincount(document, table.column("bytes").to_numpy(), len(documents)).astype(np.int64)
    return Sequences(
        ids.flatten().to_numpy(),
        np.cumsum(np.diff(ids.offsets.to_numpy())).astype(np.int64),
        table.column("skip").to_numpy().astype(np.int64),
        document,
        size,
        np.array([targets.index(target) for target, _ in documents], np.int64),
        targets,
    )


def measure_documents(
    set_: PackedSet, target: str, piece_bytes: Artifact, documents: int, tokens: int, out: Path
) -> MeasuredFile:
    """Task: documents of a packed set as sequences, until there are so many documents and tokens, or no more.

    Of a long document, windows that lie evenly over it; a document is measured on no more than its part of the tokens.
    """
    info = read_set(set_.folder)
    sizes = np.load(piece_bytes.file, allow_pickle=False).astype(np.int64)
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for split in info.splits:
        for name in split.files:
            path = set_.folder / str(split.block_length) / name
            for batch in block_batches(path, split.block_length, info.masked):
                _segments(batch, split.block_length, found)
    order = np.array(sorted(found), np.uint64)
    order = order[np.argsort(mix_array(order, 11), kind="stable")]
    rows: list[tuple[str, int, int, int, np.ndarray]] = []
    held = 0
    for number, document in enumerate(order.tolist()):
        if number >= documents and held >= tokens:
            break
        for window in _windows(sorted(found[document], key=lambda part: part[0]), max(1, tokens // documents)):
            rows.append((target, document, 1, int(sizes[window[1:]].sum()), window))
            held += len(window)
    return write_sequences(rows, out)


def _segments(batch: pa.RecordBatch, length: int, found: dict[int, list[tuple[int, np.ndarray]]]) -> None:
    """Add the segments of blocks, (offset in the document, tokens), to those of their documents."""
    ids = np.array(batch.column("input_ids").flatten().to_numpy()).reshape(-1, length)
    columns = (batch.column(name).to_pylist() for name in ("doc_ids", "doc_starts", "doc_ends"))
    for block, (documents, starts, ends) in enumerate(zip(*columns, strict=True)):
        begin = 0
        for document, start, end in zip(documents, starts, ends, strict=True):
            if end - begin > 1:
                found.setdefault(document, []).append((start, ids[block, begin:end]))
            begin = end


def _windows(segments: Sequence[tuple[int, np.ndarray]], tokens: int) -> list[np.ndarray]:
    """Some segments of a document, evenly over it, of about so many tokens; one at least."""
    whole = sum(len(ids) for _, ids in segments)
    count = max(1, min(len(segments), round(len(segments) * tokens / whole)))
    return [segments[i * len(segments) // count][1] for i in range(count)]

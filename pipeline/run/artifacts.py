"""The one way to publish a file of a run.

Publishing writes beside and renames, so a reader sees a whole file or none. Two attempts at one task write equal
bytes, so either may win. Readers follow completion records and the manifest, never a directory listing. Whoever publishes or
deletes asks the lease of the run first: what lost it writes nothing more, and no link below the run is followed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ...storage import reading, store
from ...storage.disk import writing
from ...storage.inside import partial, refuse_links
from ...storage.lease import allow_write
from ...storage.scratch import make_room
from .columns import Columns, open_columns
from .schemas import ROW_GROUP_ROWS


@dataclass(frozen=True)
class Artifact:
    """A published file: what the manifest says of it."""

    path: str
    """Absolute in a task's result; relative to the run in records and the manifest."""
    bytes: int
    rows: int
    hash: str
    modified: int = 0
    """When the file was written, in its file system's nanoseconds; 0 in a store, where files cannot be changed in place."""

    @property
    def file(self) -> Path:
        """Where it lies, on whichever node this is."""
        return store.as_path(self.path)

    def to_json(self) -> dict[str, object]:
        # `asdict` takes ten times as long, and a run has a million artifacts.
        return dict(vars(self))


class Publication:
    """An open file that hashes what is written and becomes visible under its name when closed without an error."""

    def __init__(self, path: Path, rows: int, at_once: bool = False) -> None:
        self.path, self.rows, self._at_once = path, rows, at_once
        self.temporary = partial(path.parent)
        allow_write(path)
        with writing(path):
            self._file = self._open()
        self._hash = xxhash.xxh3_128()
        self._bytes = 0
        self.artifact: Artifact

    def _open(self) -> IO[bytes]:
        try:
            return open(self.temporary, "xb")
        except FileNotFoundError:
            # Most files go where others already are.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return open(self.temporary, "xb")

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if isinstance(self.path, store.Mirrored):
            make_room(view.nbytes)
        try:
            self._file.write(view)
        except OSError:
            # Parquet is written in hundreds of pieces: only what fails asks for words.
            with writing(self.path):
                raise
        self._hash.update(view)
        self._bytes += view.nbytes
        return view.nbytes

    # pyarrow writes through the Python file protocol.
    closed = False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Called by pyarrow; publishing happens in `commit`."""

    def commit(self) -> None:
        with writing(self.path):
            self._file.flush()
            lease = allow_write(self.path)
            if self._at_once or not (lease and lease.flushes(self._file.fileno())):
                os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self.temporary, str(self.path))
        if not store.create(self.path):
            # Of a paused process, the request that was under way ends here: it cannot replace what came meanwhile.
            allow_write(self.path, afresh=True)
            store.upload(self.path)
        modified = store.modified(self.path)
        self.artifact = Artifact(str(self.path), self._bytes, self.rows, self._hash.hexdigest(), modified)

    def discard(self) -> None:
        # A disk that is full or read-only refuses this as well; what it leaves goes when the next run begins.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.temporary.unlink()


@contextmanager
def publish(path: Path, rows: int = 0, at_once: bool = False) -> Iterator[Publication]:
    """Write `path` atomically; afterwards ``.artifact`` holds size, rows and hash. Set ``.rows`` inside if unknown.

    Args:
        at_once: it is on the disk when the block ends, also where files are flushed together: what it replaces is deleted.
    """
    publication = Publication(path, rows, at_once)
    try:
        yield publication
        publication.commit()
    except BaseException:
        publication.discard()
        raise


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema, group_rows: int = ROW_GROUP_ROWS) -> Iterator[ParquetOut]:
    """A Parquet file of constant row groups, published when the block ends."""
    with publish(path) as out:
        writer = ParquetOut(out, schema, group_rows)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.finish()
    writer.artifact = out.artifact


class ParquetOut:
    """Buffers batches into row groups of a constant size, so that bytes are a function of the rows alone."""

    artifact: Artifact

    def __init__(self, out: Publication, schema: pa.Schema, group_rows: int) -> None:
        self._out = out
        self._schema = schema
        self._group_rows = group_rows
        self._writer = pq.ParquetWriter(out, schema, compression="zstd", store_schema=True)
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._out.rows += batch.num_rows
        if self._held_rows >= self._group_rows:
            table = pa.Table.from_batches(self._held, self._schema).combine_chunks()
            whole = table.num_rows - table.num_rows % self._group_rows
            self._writer.write_table(table.slice(0, whole), row_group_size=self._group_rows)
            self._held = table.slice(whole).to_batches()
            self._held_rows = table.num_rows - whole

    def end_group(self) -> None:
        """Let the next row begin a row group: whoever calls this decides by the rows alone."""
        if self._held_rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema).combine_chunks())
            self._held, self._held_rows = [], 0

    def finish(self) -> None:
        if self._held_rows or not self._out.rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema).combine_chunks())
        self._writer.close()

    def abandon(self) -> None:
        """Close what will not be published: later, pyarrow would write to the closed file and complain on the terminal."""
        with suppress(Exception):
            self._writer.close()


def write_json(path: Path, value: object, dense: bool = False) -> Artifact:
    """Publish `value` as JSON with sorted keys: equal values give equal bytes.

    Args:
        dense: on one line, for what only fox1 reads.
    """
    data = as_json(value).encode()
    with publish(path) as out:
        # The standard library itself indents ten times as slowly.
        out.write((data if dense else msgspec.json.format(data, indent=1)) + b"\n")
    return out.artifact


def content_key(*parts: object) -> str:
    """A hash over the JSON of `parts`: the key of a task or the name of a plan."""
    return hash_of(as_json(parts))


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""Made once: a run has a million keys."""


def as_json(value: object) -> str:
    """The one text of a value that is hashed."""
    return _encode(value)


def hash_of(text: str) -> str:
    """The hash of such a text."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def row_groups(path: Path, key: str, first: int, last: int) -> Iterator[tuple[Columns, int]]:
    """(open file, number) of the row groups of a Parquet file of ours whose `key` may lie in ``first .. last``, by their
    statistics: what lets a lookup read a few thousand rows, however many there are."""
    with open_columns(path) as file:
        shape = file.metadata
        place = next((i for i in range(shape.num_columns) if shape.schema.column(i).path == key), None)
        if place is None:
            raise ValueError(
                f"{store.shown(path)} is damaged (it has no column {key}); run `fox1 curate` again to rebuild it"
            )
        for group in range(file.num_row_groups):
            facts = shape.row_group(group).column(place).statistics
            if facts and facts.min <= last and facts.max >= first:
                yield file, group


def remove(path: Path) -> None:
    """Delete a file of ours, if it is there: itself, never what a link leads to."""
    allow_write(path)
    path.unlink(missing_ok=True)


def read_json(path: Path, parse: Callable[[bytes], Any] = reading.parse_json) -> dict[str, Any]:
    """Parse a JSON object of ours.

    Args:
        parse: raises `Misshapen` for what is no JSON.

    Raises:
        ValueError: it is missing, a symbolic link, damaged, or no file that fox1 writes; the message names it.
    """
    refuse_links(path.parent, path)
    try:
        value = parse(reading.read_bounded(path, reading.JSON_BYTES))
        if not isinstance(value, dict):
            raise reading.Misshapen("it is not an object")
        return value
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{store.shown(path)} is missing; is this a finished run? `fox1 curate` makes it") from None
    except reading.Misshapen as error:
        raise ValueError(f"{store.shown(path)} is damaged ({error}); delete it and run the stage again") from None


def merge_counts(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts to others, key by key, in place."""
    for key, value in more.items():
        into[key] = into.get(key, 0) + value

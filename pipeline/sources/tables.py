"""Parquet and Arrow files to record batches of the columns that are wanted, in bounded memory.

    Parquet -> strings as dictionaries, since a page may hold one string of a megabyte for a million rows -> written out by slices
    Arrow   -> messages whose declared sizes are checked before anything is decompressed (arrow_messages.py)

Both report damage as `Damaged`, after the batches before it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...storage.wording import first_line, printable
from ..run.identity import Piece
from . import formats
from .arrow_messages import batches_of, present, schema_of
from .formats import CHUNK, MAX_LINE, Damaged

MAX_EXPANSION = 200
"""A row group or a record batch may expand to this many times the bytes of its file, or to `MAX_LINE` if that is more."""
PARQUET_END = b"PAR1"
DELTA_BYTES = 256 << 20
"""Most bytes of a batch with strings that are not read as dictionaries. A value of a delta encoding can be as long as its
column, for it shares its beginning with the one before."""
ELEMENT_BYTES = 64
"""What a list's element takes as an object of Python's, besides its text."""


class _Watched(io.RawIOBase):
    """A file that remembers the store's own errors (Arrow, too, reports corrupt pages as OSError), and how much of it has
    been read into batches.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.error: OSError | None = None
        self.intact = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _watch(self, call: Callable[..., Any], *arguments: int) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            self.error = error
            raise

    def read(self, size: int = -1) -> bytes:
        return self._watch(self._raw.read, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._watch(self._raw.seek, offset, whence)

    def tell(self) -> int:
        return self._raw.tell()


def arrow_tables(
    url: str, columns: list[str], batch_rows: int = 1024, piece: Piece | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield record batches of a Parquet file or an Arrow file or stream, with those of `columns` it has.

    Only top-level dictionaries and views are written out. A row that would take more than `MAX_LINE` alone comes as it is
    stored, as a batch of its own (`is_huge`).

    Args:
        piece: of a Parquet file, whose row groups alone are read.

    Raises:
        Damaged: the file is truncated or corrupt.
        TwoColumns: it has one of the columns twice.
        OSError: the store cannot be read.
    """
    with formats.open_source(url) as raw:
        store = _Watched(raw)
        try:
            parquet = url.endswith(".parquet")
            batches = (
                _parquet_batches(store, columns, batch_rows, piece)
                if parquet
                else _arrow_batches(store, columns, batch_rows)
            )
            for batch in batches:
                _check(batch)
                yield from _written_out(batch)
        except EOFError as error:
            raise Damaged(str(error), store.intact, cut=True) from None
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            # A damaged size can ask for more memory than any machine has.
            if store.error:
                raise store.error from None
            first = printable(first_line(error))
            raise Damaged(f"{type(error).__name__}: {first}", store.intact) from None


def columns_of(url: str) -> list[str]:
    """The columns of a Parquet file or an Arrow file or stream, but for names that several have.

    Raises:
        Damaged: the file is truncated or corrupt.
        OSError: the store cannot be read.
    """
    with formats.open_source(url) as raw:
        store = _Watched(raw)
        try:
            if url.endswith(".parquet"):
                names = _open_parquet(store)[0].schema_arrow.names
            else:
                names = schema_of(store).names
        except (EOFError, pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            if store.error:
                raise store.error from None
            raise Damaged(printable(first_line(error))) from None
    return [name for name in names if names.count(name) == 1]


def row_groups(url: str) -> list[tuple[int, int]]:
    """(rows, bytes that it expands to) of every row group of a Parquet file, as its footer says; none where it is damaged.

    Raises:
        OSError: the store cannot be read.
    """
    with formats.open_source(url) as raw:
        store = _Watched(raw)
        try:
            metadata = _open_parquet(store)[0].metadata
        except (EOFError, pa.ArrowException, OSError, MemoryError, UnicodeDecodeError):
            if store.error:
                raise store.error from None
            return []
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return [(group.num_rows, group.total_byte_size) for group in groups]


def _open_parquet(raw: _Watched) -> tuple[pq.ParquetFile, int]:
    """A Parquet file, and how many bytes it stores.

    Raises:
        EOFError: the file was cut.
    """
    stored = raw.seek(0, io.SEEK_END)
    if not stored:
        raise EOFError("the file is empty")
    raw.seek(max(0, stored - len(PARQUET_END)))
    if raw.read(len(PARQUET_END)) != PARQUET_END:
        raise EOFError("the file does not end as Parquet does: it was cut")
    return pq.ParquetFile(raw), stored


def _parquet_batches(
    raw: _Watched, columns: list[str], batch_rows: int, piece: Piece | None
) -> Iterator[pa.RecordBatch]:
    parquet, stored = _open_parquet(raw)
    metadata, leaves = parquet.metadata, _leaves(parquet.schema_arrow, columns)
    # Of a row group only what is asked below: to ask damaged metadata for a column would end the process.
    parts = [parquet.schema.column(i) for i in leaves]
    strings = [part.path for part in parts if part.physical_type == "BYTE_ARRAY"]
    coded = pq.ParquetFile(raw, metadata=metadata, read_dictionary=strings)
    read = piece.row if piece else 0
    begin = piece.begin if piece else 0
    end = begin + piece.length if piece and piece.length >= 0 else metadata.num_row_groups
    raw.intact = stored * read // max(metadata.num_rows, read, 1)
    for group in range(begin, end):
        size, rows = metadata.row_group(group).total_byte_size, metadata.row_group(group).num_rows
        if size > max(MAX_LINE, MAX_EXPANSION * stored):
            raise pa.ArrowInvalid(f"row group {group} expands to {size:,} bytes from less than {stored:,}")
        done = 0
        try:
            # By number, since a name also selects whatever begins with it and a dot.
            for batch in coded.reader.iter_batches(batch_rows, [group], leaves):
                yield batch
                done += batch.num_rows
        except OSError as error:
            if "DictAccumulator" not in str(error):
                raise
            # A delta encoding, for which Arrow makes no dictionaries.
            few = max(1, min(batch_rows, DELTA_BYTES // max(size, 1)))
            yield from _gathered(_after(done, parquet.reader.iter_batches(few, [group], leaves)), batch_rows)
        read += rows
        raw.intact = stored * read // max(metadata.num_rows, read, 1)


def _after(rows: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches without their first rows."""
    for batch in batches:
        if rows < batch.num_rows:
            yield batch.slice(rows)
        rows = max(0, rows - batch.num_rows)


def _leaves(schema: pa.Schema, columns: list[str]) -> list[int]:
    """The numbers of the Parquet columns that hold some top-level fields."""
    wanted, numbers, at = present(columns, schema), list[int](), 0
    for field in schema:
        size = _leaf_count(field.type)
        if field.name in wanted:
            numbers += range(at, at + size)
        at += size
    return numbers


def _leaf_count(type_: pa.DataType) -> int:
    if isinstance(type_, pa.BaseExtensionType):
        return _leaf_count(type_.storage_type)
    if pa.types.is_nested(type_):
        return sum(_leaf_count(type_.field(i).type) for i in range(type_.num_fields))
    return 1


def _gathered(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Small batches put together, up to `rows` or about `CHUNK` bytes."""
    held, size, bytes_ = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        held.append(batch)
        size, bytes_ = size + batch.num_rows, bytes_ + batch.nbytes
        if size >= rows or bytes_ >= CHUNK:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held, size, bytes_ = [], 0, 0
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _arrow_batches(raw: _Watched, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches_of(raw, columns, lambda stored: max(MAX_LINE, MAX_EXPANSION * stored)):
        for start in range(0, batch.num_rows, batch_rows):
            yield batch.slice(start, batch_rows)
        raw.intact = raw.tell()


def _check(batch: pa.RecordBatch) -> None:
    """Refuse lengths and offsets that point outside their buffers, since Arrow trusts them. UTF-8 is checked by row, later."""
    batch.validate()
    for column in batch.columns:
        _check_array(column)


def _check_array(array: pa.Array) -> None:
    type_ = array.type
    if isinstance(type_, pa.BaseExtensionType):
        _check_array(array.storage)
    elif pa.types.is_dictionary(type_):
        _check_array(array.dictionary)
        _check_array(array.indices)
        bounds = pc.min_max(array.indices)
        if bounds["max"].is_valid and not 0 <= bounds["min"].as_py() <= bounds["max"].as_py() < len(array.dictionary):
            raise pa.ArrowInvalid("a dictionary has no such value")
    elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
        # The offsets alone, and then what they point at: a whole check would stop at the first string that is not UTF-8.
        bare = (pa.list_ if pa.types.is_list(type_) else pa.large_list)(pa.null())
        children = [pa.nulls(len(array.values))]
        pa.Array.from_buffers(bare, len(array), array.buffers()[:2], array.null_count, array.offset, children).validate(
            full=True
        )
        _check_array(array.values)
    elif pa.types.is_struct(type_):
        for i in range(type_.num_fields):
            _check_array(array.field(i))
    else:
        array.view(_of_bytes(type_)).validate(full=True)


def _of_bytes(type_: pa.DataType) -> pa.DataType:
    """The type with bytes in place of strings."""
    if pa.types.is_string(type_):
        return pa.binary()
    if pa.types.is_large_string(type_):
        return pa.large_binary()
    if pa.types.is_string_view(type_):
        return pa.binary_view()
    return type_


def row_bytes(array: pa.Array) -> np.ndarray:
    """int64 [n]: about how many bytes every row takes when it is written out, or becomes objects of Python's."""
    type_, n = array.type, len(array)
    if isinstance(type_, pa.BaseExtensionType):
        return row_bytes(array.storage)
    if pa.types.is_dictionary(type_):
        sizes = np.append(row_bytes(array.dictionary), 0)
        return sizes[pc.fill_null(array.indices.cast(pa.int64()), len(sizes) - 1).to_numpy(zero_copy_only=False)]
    if _is_view(type_):
        # Lengths are the first four of a view's sixteen bytes; `binary_length` knows no views.
        views = np.frombuffer(array.buffers()[1] or b"", np.int32)[4 * array.offset :][: 4 * n : 4].astype(np.int64)
        return np.where(array.is_valid().to_numpy(zero_copy_only=False), views, 0)
    if _is_bytes(type_):
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_struct(type_):
        return np.sum([row_bytes(child) for child in array.flatten()], axis=0, dtype=np.int64) + np.zeros(n, np.int64)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_map(type_):
        parts = [array.keys, array.items] if pa.types.is_map(type_) else [array.values]
        ends = np.append(0, np.cumsum(np.sum([row_bytes(part) for part in parts], axis=0) + ELEMENT_BYTES))
        return np.diff(ends[array.offsets.to_numpy()].astype(np.int64))
    # What is left has a fixed width, or is so rare that no row is taken for smaller than all.
    return np.full(n, array.nbytes if pa.types.is_nested(type_) else 16, np.int64)


def _is_view(type_: pa.DataType) -> bool:
    return pa.types.is_string_view(type_) or pa.types.is_binary_view(type_)


def _is_bytes(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(kind(type_) for kind in kinds)


def is_huge(batch: pa.RecordBatch) -> bool:
    """Whether a batch is one row of more than `MAX_LINE` bytes."""
    return batch.num_rows == 1 and sum(int(row_bytes(c)[0]) for c in batch.columns) > MAX_LINE


def _written_out(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch with its dictionaries and views expanded, in slices of about `CHUNK` bytes."""
    if all(_is_bytes(c.type) or not pa.types.is_nested(c.type) for c in batch.columns) and not any(
        pa.types.is_dictionary(c.type) or _is_view(c.type) for c in batch.columns
    ):
        yield batch
        return
    sizes: np.ndarray = np.array([row_bytes(c) for c in batch.columns]).sum(axis=0)
    ends: np.ndarray = np.cumsum(sizes)
    first = 0
    while first < batch.num_rows:
        most = ends[first] - sizes[first] + CHUNK
        last = max(first + 1, int(np.searchsorted(ends, most, "right")))
        part = batch.slice(first, last - first)
        if not is_huge(part):
            part = pa.RecordBatch.from_arrays([_expanded(c) for c in part.columns], part.schema.names)
        yield part
        first = last


def _expanded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        return column.view(pa.binary_view()).cast(pa.large_binary()).view(pa.large_string())
    return column.cast(pa.large_binary()) if pa.types.is_binary_view(column.type) else column

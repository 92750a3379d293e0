"""Bytes on disk to rows: compressed JSON lines and Arrow tables, from any store fsspec can open.

`json_lines` yields physical lines with their row number and byte offset; `arrow_tables` yields record batches. Both
report damage (a truncated or corrupt file) as `Damaged`, after every whole row before it has been yielded.
"""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from ...storage.wording import first_line, printable
from .folder import local_path
from .web import http_options, naming_private_hosts

CHUNK = 4 << 20
ZST_SLICE = 2 << 10
MAX_LINE = 128 << 20
"""Longer lines go to quarantine: no document of these corpora comes near this length, but a decompression bomb does. While
a line is decoded, one character outside of ASCII can make every letter take four bytes, and a task has 1 GiB."""
MAX_WINDOW = 256 << 20
"""How far back, in bytes, a zstd frame may refer: the decompressor holds as much in memory."""
MAX_EXPANSION = 200
"""A row group may expand to this many times the bytes of its Parquet file, or to `MAX_LINE` if that is more."""
JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
ARROW_SUFFIXES = (".parquet", ".arrow")


class Damaged(ValueError):
    """A file that cannot be read to its end."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason, self.offset = reason, offset


@contextmanager
def open_source(url: str) -> Iterator[IO[bytes]]:
    """Open a local file or any fsspec URL for reading.

    Raises:
        ValueError: it is a FIFO or a device, or HTTP leads to an address that is out of the URL's reach.
        OSError: it cannot be opened.
    """
    if (path := local_path(url)) is not None:
        with open(path, "rb", opener=_open_regular) as file:
            yield file
    else:
        with naming_private_hosts(url), fsspec.open(url, "rb", **http_options(url)) as file:
            yield file


def _open_regular(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    opened = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ValueError(f"{path} is not a regular file; name one")
    return opened


def is_json_lines(path: str) -> bool:
    return path.endswith(JSON_SUFFIXES)


def is_arrow(path: str) -> bool:
    return path.endswith(ARROW_SUFFIXES)


def json_lines(url: str) -> Iterator[tuple[int, int, memoryview | None]]:
    """Yield (row, offset, line without its newline) for every physical line; None for a line over `MAX_LINE`.

    Raises:
        Damaged: the compressed stream is truncated or corrupt; what follows the last whole line is lost.
    """
    row = offset = 0
    rest, too_long = b"", False
    try:
        for chunk in _chunks(url):
            data = rest + chunk if rest else chunk
            end = data.rfind(b"\n") + 1
            if not end:
                too_long = too_long or len(data) > MAX_LINE
                offset += len(data) if too_long else 0
                rest = b"" if too_long else data
                continue
            view = memoryview(data)
            start = 0
            while start < end:
                stop = data.index(b"\n", start)
                yield row, offset + start, None if too_long else view[start:stop]
                row, start, too_long = row + 1, stop + 1, False
            offset += end
            rest = data[end:]
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        # An OSError is the store's fault, not the file's: it is raised, and the task is retried.
        raise Damaged(f"{type(error).__name__}: {error}", offset) from None
    if rest or too_long:
        yield row, offset, None if too_long else memoryview(rest)


def _chunks(url: str) -> Iterator[bytes]:
    with open_source(url) as raw:
        if url.endswith(".zst"):
            yield from _zst_chunks(raw)
        elif url.endswith(".gz"):
            yield from _gzip_chunks(raw)
        else:
            while chunk := raw.read(CHUNK):
                yield chunk


def _gzip_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    """Decompress member by member in bounded pieces; all that comes before damage is yielded (GzipFile drops it)."""
    member, started = zlib.decompressobj(wbits=31), False
    while data := raw.read(1 << 18):
        while data:
            if member.eof:
                # Zero bytes may pad the end of a file.
                data = data.lstrip(b"\0") if not data.strip(b"\0") else data
                if not data:
                    break
                member = zlib.decompressobj(wbits=31)
            started = True
            if out := member.decompress(data, CHUNK):
                yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof and (out := member.decompress(b"", CHUNK)):
        yield out
    if started and not member.eof:
        raise EOFError("the last gzip member is incomplete")


def _zst_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    """Decompress frame by frame; a frame that does not end is an error (the stream reader takes it for an end).

    The compressed bytes go in by slices: four bytes can stand for 128 KiB, so a slice bounds what comes out at once.
    Concatenated frames are one file: several writers of these corpora append frame by frame.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame, started, held, size = decompressor.decompressobj(), False, list[bytes](), 0
    while data := raw.read(1 << 20):
        for start in range(0, len(data), ZST_SLICE):
            piece = data[start : start + ZST_SLICE]
            while piece:
                if frame.eof:
                    frame = decompressor.decompressobj()
                started = True
                out = frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                held.append(out)
                size += len(out)
            if size >= CHUNK:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)
    if started and not frame.eof:
        raise EOFError("the last zstd frame is incomplete")


class _Watched(io.RawIOBase):
    """A file that remembers the store's own errors: Arrow, too, reports corrupt pages as OSError."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.error: OSError | None = None

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


def arrow_tables(url: str, columns: list[str], batch_rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """Yield record batches of a Parquet file or an Arrow file or stream, with those of `columns` it has.

    Raises:
        Damaged: the file is truncated or corrupt.
        OSError: the store cannot be read.
    """
    with open_source(url) as raw:
        store = _Watched(raw)
        try:
            batches = _parquet_batches if url.endswith(".parquet") else _arrow_batches
            for batch in batches(store, columns, batch_rows):
                yield from _written_out(batch)
        except (pa.ArrowException, OSError, EOFError, MemoryError, UnicodeDecodeError) as error:
            # A damaged size can ask for more memory than any machine has.
            if store.error:
                raise store.error from None
            first = printable(first_line(error))
            raise Damaged(f"{type(error).__name__}: {first}", -1) from None


def _parquet_batches(raw: _Watched, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    stored = raw.seek(0, io.SEEK_END)
    parquet = pq.ParquetFile(raw)
    present = _present(columns, parquet.schema_arrow)
    # As dictionaries, since a file may hold one string of a megabyte for a million rows.
    strings = [c for c in present if pa.types.is_string(parquet.schema_arrow.field(c).type)]
    parquet = pq.ParquetFile(raw, metadata=parquet.metadata, read_dictionary=strings)
    for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).total_byte_size
        if size > max(MAX_LINE, MAX_EXPANSION * stored):
            raise pa.ArrowInvalid(f"row group {group} expands to {size:,} bytes from less than {stored:,}")
        for batch in parquet.iter_batches(batch_rows, row_groups=[group], columns=present):
            _check(batch)
            yield batch


def _arrow_batches(raw: _Watched, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    for whole in _ipc_batches(raw):
        batch = whole.select(_present(columns, whole.schema))
        _check(batch)
        for start in range(0, batch.num_rows, batch_rows):
            yield batch.slice(start, batch_rows)


def _present(columns: list[str], schema: pa.Schema) -> list[str]:
    if twice := next((c for c in columns if schema.names.count(c) > 1), None):
        raise pa.ArrowInvalid(f"two columns {twice!r}")
    return [c for c in columns if c in schema.names]


def _check(batch: pa.RecordBatch) -> None:
    """Refuse lengths and offsets that point outside their buffers, since Arrow trusts them. UTF-8 is checked by row, later."""
    batch.validate()
    for column in batch.columns:
        _check_array(column)


def _check_array(array: pa.Array) -> None:
    if pa.types.is_dictionary(array.type):
        _check_array(array.dictionary)
        _check_array(array.indices)
        bounds = pc.min_max(array.indices)
        if bounds["max"].is_valid and not 0 <= bounds["min"].as_py() <= bounds["max"].as_py() < len(array.dictionary):
            raise pa.ArrowInvalid("a dictionary has no such value")
    else:
        array.view(_of_bytes(array.type)).validate(full=True)


def _of_bytes(type_: pa.DataType) -> pa.DataType:
    """The type with bytes in place of strings."""
    if pa.types.is_string(type_):
        return pa.binary()
    if pa.types.is_large_string(type_):
        return pa.large_binary()
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_of_bytes(type_.value_type)))
    if pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_of_bytes(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_of_bytes(field.type)) for field in type_])
    return type_


def _written_out(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch with its dictionaries expanded, in slices of about `CHUNK` bytes."""
    coded = [c for c in batch.columns if pa.types.is_dictionary(c.type)]
    if not coded:
        yield batch
        return
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in coded:
        if pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type):
            lengths = pc.fill_null(pc.binary_length(column.dictionary), 0)
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
    ends, first = np.cumsum(sizes), 0
    while first < batch.num_rows:
        most = ends[first] - sizes[first] + CHUNK
        last = max(first + 1, int(np.searchsorted(ends, most, "right")))
        part = batch.slice(first, last - first)
        whole = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in part.columns]
        yield pa.RecordBatch.from_arrays(whole, part.schema.names)
        first = last


def _ipc_batches(raw: _Watched) -> Iterator[pa.RecordBatch]:
    magic = raw.read(6)
    raw.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(raw)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from pa.ipc.open_stream(raw)

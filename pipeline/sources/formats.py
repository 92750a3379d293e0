"""Bytes on disk to rows: compressed JSON lines and Arrow tables, from any store fsspec can open.

`json_lines` yields physical lines with their row number and byte offset; `arrow_tables` yields record batches. Both
report damage (a truncated or corrupt file) as `Damaged`, after every whole row before it has been yielded.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

CHUNK = 4 << 20
ZST_SLICE = 2 << 10
MAX_LINE = 256 << 20
"""Longer lines go to quarantine: no document of these corpora comes near, a decompression bomb does."""
JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
ARROW_SUFFIXES = (".parquet", ".arrow")


class Damaged(ValueError):
    """A file that cannot be read to its end."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason, self.offset = reason, offset


@contextmanager
def open_source(url: str) -> Iterator[IO[bytes]]:
    """Open a local path or any fsspec URL for reading."""
    if "://" in url:
        with fsspec.open(url, "rb") as file:
            yield file
    else:
        with open(url, "rb") as file:
            yield file


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
        # An OSError is the store's trouble, not the file's: it goes up, and the task is tried again.
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
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
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
            if url.endswith(".parquet"):
                parquet = pq.ParquetFile(store)
                present = [c for c in columns if c in parquet.schema_arrow.names]
                for group in range(parquet.num_row_groups):
                    yield from parquet.iter_batches(batch_rows, row_groups=[group], columns=present)
            else:
                for batch in _arrow_batches(store):
                    present = [c for c in columns if c in batch.schema.names]
                    for start in range(0, batch.num_rows, batch_rows):
                        yield batch.select(present).slice(start, batch_rows)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError) as error:
            if store.error:
                raise store.error from None
            raise Damaged(f"{type(error).__name__}: {str(error).splitlines()[0]}", -1) from None


def _arrow_batches(raw: _Watched) -> Iterator[pa.RecordBatch]:
    magic = raw.read(6)
    raw.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(raw)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from pa.ipc.open_stream(raw)

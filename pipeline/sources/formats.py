"""Bytes on disk to lines: JSON lines and CSV, compressed or not, from any store fsspec can open; tables are read in tables.py.

`json_lines` yields physical lines of a file, or of a piece of it, with their row number and byte offset in the file. Damage (a
truncated or corrupt file) is reported as `Damaged`, after every whole row before it has been yielded.
"""

from __future__ import annotations

import bz2
import codecs
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec
import zstandard
from isal import isal_zlib

from ...storage.reading import Misshapen, open_regular
from ...storage.web import http_options, naming_private_hosts
from ..run.identity import Piece
from .folder import local_path

CHUNK = 4 << 20
ZST_SLICE = 2 << 10
FRAME_STEP = 64 << 10
"""Bytes of text between frames that are noted: there may be one for every byte."""
MAX_LINE = 128 << 20
"""Longer lines go to quarantine: no document of these corpora comes near this length, but a decompression bomb does. While
a line is decoded, one character outside of ASCII can make every letter take four bytes, and a task has 1 GiB."""
MAX_WINDOW = 256 << 20
"""How far back, in bytes, a zstd frame may refer: the decompressor holds as much in memory."""
COMPRESSED = ("", ".gz", ".zst", ".bz2")
JSON_SUFFIXES = tuple(lines + packed for packed in COMPRESSED for lines in (".jsonl", ".json", ".ndjson"))
SEPARATED_SUFFIXES = tuple(values + packed for packed in COMPRESSED for values in (".csv", ".tsv"))
ARROW_SUFFIXES = (".parquet", ".arrow", ".feather")


class _Decompressor(Protocol):
    """Of one frame or stream."""

    def decompress(self, data: bytes, /) -> bytes: ...


class Damaged(ValueError):
    """A file that cannot be read to its end."""

    def __init__(self, reason: str, intact: int = 0, cut: bool = False, offset: int = -1) -> None:
        """
        Args:
            reason: what is wrong.
            intact: stored bytes before the damage.
            cut: whether the file ends too early.
            offset: of the first byte that could not be had, in the decompressed file; -1 in columnar files.
        """
        super().__init__(reason)
        self.reason, self.intact, self.cut, self.offset = reason, intact, cut, offset


@contextmanager
def open_source(url: str) -> Iterator[IO[bytes]]:
    """Open a local file or any fsspec URL for reading.

    Raises:
        ValueError: it is a FIFO or a device, or HTTP leads to an address that is out of the URL's reach.
        OSError: it cannot be opened.
    """
    if (path := local_path(url)) is not None:
        try:
            opened = open_regular(Path(path))
        except Misshapen:
            raise ValueError(f"{path} is not a regular file; name one") from None
        with opened as file:
            yield file
    else:
        with naming_private_hosts(url), fsspec.open(url, "rb", **http_options(url)) as file:
            yield file


def can_be_cut(url: str) -> bool:
    """Whether a file can be read from anywhere: some web servers give whole files only."""
    with open_source(url) as raw:
        return _seeks(raw, 1)


def _seeks(raw: IO[bytes], to: int) -> bool:
    try:
        raw.seek(to)
        return True
    except ValueError:
        return False


def is_json_lines(path: str) -> bool:
    return path.endswith(JSON_SUFFIXES)


def is_separated(path: str) -> bool:
    return path.endswith(SEPARATED_SUFFIXES)


def json_lines(url: str, piece: Piece | None = None) -> Iterator[tuple[int, int, memoryview, bool]]:
    """Yield (row, offset, line without its newline, whether it had one) for every physical line; of a line over `MAX_LINE`
    only a beginning that is longer than that.

    Args:
        piece: of the file, whose lines alone are read.

    Raises:
        Damaged: the compressed stream is truncated or corrupt. What came before has been yielded, a last line without its
            end too.
    """
    row, offset = (piece.row, piece.offset) if piece else (0, 0)
    rest, too_long = b"", False
    damage: Damaged | None = None
    try:
        for chunk in _of_piece(url, piece) if piece else chunks(url):
            data = rest + chunk if rest else chunk
            end = data.rfind(b"\n") + 1
            if not end:
                if not too_long and len(data) > MAX_LINE:
                    yield row, offset, memoryview(data), False
                    too_long = True
                offset += len(data) if too_long else 0
                rest = b"" if too_long else data
                continue
            view = memoryview(data)
            start = 0
            if too_long:
                row, start, too_long = row + 1, data.index(b"\n") + 1, False
            while start < end:
                stop = data.index(b"\n", start)
                yield row, offset + start, view[start:stop], True
                row, start = row + 1, stop + 1
            offset += end
            rest = data[end:]
    except Damaged as found:
        # An OSError is the store's fault, not the file's: it is raised, and the task is retried.
        damage = found
    if rest:
        yield row, offset, memoryview(rest), False
    if damage:
        damage.offset = offset + len(rest)
        raise damage


_NO_NUMBER = re.compile(rb"-?Infinity|NaN")


def strict_json(line: memoryview) -> bytes:
    """A line as JSON proper: without a byte order mark, and with null for NaN and Infinity, which Python's json writes."""
    data = bytes(line).removeprefix(codecs.BOM_UTF8)
    # A hundred times as fast as the pattern.
    if b"NaN" not in data and b"Infinity" not in data:
        return data
    out, at, inside = bytearray(), 0, 0
    for found in _NO_NUMBER.finditer(data):
        # Without pairs of backslashes, a quote after a backslash is one within a string.
        between = data[at : found.start()].replace(b"\\\\", b"")
        inside ^= (between.count(b'"') - between.count(b'\\"')) & 1
        out += data[at : found.start()]
        out += found[0] if inside else b"null"
        at = found.end()
    return bytes(out) + data[at:]


def chunks(url: str, begin: int = 0, frames: list[tuple[int, int]] | None = None) -> Iterator[bytes]:
    """The text of a file from a stored byte on, where compressed text has a frame.

    Args:
        frames: takes where zstd frames end, as (stored byte, byte of the text): of those in a chunk the first one, and others
            that are `FRAME_STEP` apart. They are there when the chunk is yielded.

    Raises:
        Damaged: the compressed stream is truncated or corrupt.
        ValueError: it cannot be read from `begin`.
    """
    with open_source(url) as raw:
        if begin:
            raw.seek(begin)
        if url.endswith(".zst"):
            yield from _zst_chunks(raw, url, begin, frames)
        elif url.endswith(".gz"):
            yield from _gzip_chunks(raw, url)
        elif url.endswith(".bz2"):
            yield from _bz2_chunks(raw, url)
        else:
            while chunk := raw.read(CHUNK):
                yield chunk


def _of_piece(url: str, piece: Piece) -> Iterator[bytes]:
    """The text of a piece.

    Raises:
        Damaged: its compressed stream is truncated or corrupt.
        OSError: it ends before the next piece begins.
    """
    at, end = -piece.skip, piece.length if piece.length >= 0 else 1 << 63
    for chunk in chunks(url, piece.begin):
        yield chunk[max(0, -at) : max(0, end - at)]
        at += len(chunk)
        if at >= end:
            return
    if piece.length >= 0:
        # The file was replaced by a shorter one, or it is a failure of the store: the task is retried.
        raise OSError(f"{url} ended {end - at:,} bytes before the end of its piece {piece.number}")


@dataclass
class _Member:
    """How far reading has come in a gzip member."""

    began: int = 0
    """The stored byte that it begins at."""
    given: int = 0
    """Bytes of its text that were yielded."""
    read: int = 0
    """Stored bytes of the file that were read."""
    ended: bool = False
    """The file ends where it does."""


def _gzip_chunks(raw: IO[bytes], url: str) -> Iterator[bytes]:
    """Decompress by ISA-L, two to three times as fast as zlib. A member that it refuses, or finds no end of, is read once more by
    zlib, and so is what follows: zlib's word counts, of what can be read before the damage too.

    Raises:
        Damaged: the file is empty, cut or corrupt.
    """
    member = _Member()
    with suppress(isal_zlib.error):  # type: ignore[arg-type]  # its stub has an instance
        yield from _gzip_members(raw, isal_zlib.decompressobj, member)
    if member.ended:
        return
    given = member.given
    with open_source(url) as again:
        if not _seeks(again, member.began):
            for _ in _slices(again, member.began):
                pass
        for out in _gzip_members(again, zlib.decompressobj, member):
            if len(out) > given:
                yield out[given:]
            given = max(0, given - len(out))
    if not member.read:
        raise Damaged("the file is empty, without a gzip member", cut=True)
    if not member.ended:
        raise Damaged("the last gzip member is incomplete: the file was cut", member.read, cut=True)


def _gzip_members(raw: IO[bytes], fresh: Callable[..., Any], place: _Member) -> Iterator[bytes]:
    """Decompress member by member in bounded pieces; all that comes before damage is yielded (GzipFile drops it).

    Args:
        raw: stands where a member begins.
        fresh: what decompresses one member.
        place: where that is; changed on the way.

    Raises:
        isal_zlib.error: ISA-L refuses a member.
        Damaged: zlib does.
    """
    member, place.read, place.given = fresh(wbits=31), place.began, 0
    while data := raw.read(1 << 18):
        place.read += len(data)
        while data:
            if member.eof:
                # Zero bytes may pad a member to the end of a block.
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, place.began, place.given = fresh(wbits=31), place.read - len(data), 0
            before: Any = member.copy() if fresh is zlib.decompressobj else None
            try:
                out = member.decompress(data, CHUNK)
            except zlib.error as error:
                # A call that fails returns nothing of what it decompressed.
                at = place.read - len(data)
                for byte in data:
                    try:
                        out = before.decompress(bytes((byte,)))
                    except zlib.error:
                        break
                    at += 1
                    if out:
                        yield out
                if "header" in str(error):
                    raise Damaged(f"no gzip member begins at byte {place.began:,} ({error})", place.began) from None
                raise Damaged(f"the gzip member is corrupt at byte {at:,} ({error})", at) from None
            place.given += len(out)
            if out:
                yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof and (out := member.decompress(b"", CHUNK)):
        place.given += len(out)
        yield out
    place.ended = member.eof


def _bz2_chunks(raw: IO[bytes], url: str) -> Iterator[bytes]:
    """Decompress stream by stream; all that comes before damage is yielded.

    A slice gives at most some forty megabytes: forty-five bytes can stand for a block of 900 kB.

    Raises:
        Damaged: the file is empty, cut or corrupt.
    """
    stream, began, done = bz2.BZ2Decompressor(), 0, 0
    while piece := raw.read(ZST_SLICE):
        while piece:
            if stream.eof:
                stream, began = bz2.BZ2Decompressor(), done
            try:
                out = stream.decompress(piece)
            except OSError as error:
                yield from _before_damage(url, bz2.BZ2Decompressor(), OSError, began, done)
                raise Damaged(f"the bzip2 stream that begins at byte {began:,} is corrupt ({error})", done) from None
            done += len(piece) - len(stream.unused_data)
            piece = stream.unused_data
            if out:
                yield out
    if not done:
        raise Damaged("the file is empty, without a bzip2 stream", cut=True)
    if not stream.eof:
        raise Damaged("the last bzip2 stream is incomplete: the file was cut", done, cut=True)


def _zst_chunks(raw: IO[bytes], url: str, begin: int, frames: list[tuple[int, int]] | None) -> Iterator[bytes]:
    """Decompress frame by frame; a frame that does not end is an error (the stream reader takes it for an end).

    The compressed bytes go in by slices: four bytes can stand for 128 KiB, so a slice bounds what comes out at once.
    Concatenated frames are one file: several writers of these corpora append frame by frame.

    Args:
        begin: the stored byte at which `raw` stands and a frame begins.
        frames: see `chunks`.

    Raises:
        Damaged: the file is empty, cut or corrupt, or a frame has too large a window.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame, held, size = decompressor.decompressobj(), list[bytes](), 0
    began = done = begin  # stored bytes before the frame, and before what is still to be decompressed
    text = 0
    while data := raw.read(1 << 20):
        start = 0
        while start < len(data):
            # Slices begin at the same bytes of the file wherever reading began, since damage is weighed by them.
            piece = data[start : start + ZST_SLICE - done % ZST_SLICE]
            start += len(piece)
            while piece:
                if frame.eof:
                    frame, began = decompressor.decompressobj(), done
                try:
                    out = frame.decompress(piece)
                except zstandard.ZstdError as error:
                    yield b"".join(held)
                    yield from _before_damage(url, decompressor.decompressobj(), zstandard.ZstdError, began, done)
                    raise Damaged(_zst_reason(error, began), done) from None
                left = frame.unused_data if frame.eof else b""
                done += len(piece) - len(left)
                piece = left
                held.append(out)
                size += len(out)
                text += len(out)
                if frames is not None and frame.eof and (not frames or text - frames[-1][1] >= FRAME_STEP):
                    frames.append((done, text))
            if size >= CHUNK:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)
    if done == begin:
        raise Damaged("the file is empty, without a zstd frame", cut=True)
    if not frame.eof:
        raise Damaged("the last zstd frame is incomplete: the file was cut", done, cut=True)


def _before_damage(url: str, fresh: _Decompressor, error: type[Exception], began: int, at: int) -> Iterator[bytes]:
    """What a damaged frame or stream that begins at `began` still gives of the slice at `at`: all of it once more, then byte by
    byte, because a call that fails returns nothing of what it decompressed.

    Args:
        fresh: has decompressed nothing yet.
        error: what it raises at damage.
    """
    with open_source(url) as raw:
        if not _seeks(raw, began):
            for _ in _slices(raw, began):
                pass
        for piece in _slices(raw, at - began):
            fresh.decompress(piece)
        for byte in raw.read(ZST_SLICE):
            try:
                yield fresh.decompress(bytes((byte,)))
            except error:
                return


def _slices(raw: IO[bytes], size: int) -> Iterator[bytes]:
    """The next `size` bytes of a file, in slices."""
    while size and (piece := raw.read(min(size, ZST_SLICE))):
        size -= len(piece)
        yield piece


def _zst_reason(error: zstandard.ZstdError, began: int) -> str:
    said = str(error).removeprefix("zstd decompressor error: ")
    if "too much memory" in said:
        return (
            f"the zstd frame at byte {began:,} takes too much memory, for its window is over {MAX_WINDOW >> 20} MiB; compress "
            "the file again with `--long=28` or less"
        )
    what = "no zstd frame begins" if "Unknown frame" in said else "the zstd frame is corrupt that begins"
    return f"{what} at byte {began:,} ({said})"

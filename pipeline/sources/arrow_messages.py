"""Record batches of an Arrow file or stream, of which nothing is decompressed before its declared size is known.

A file is a stream between two magic words, with a footer that says how many batches it has. It is read as a stream, so that
the batches before a cut are kept. A message's metadata is a flatbuffer (Message.fbs of Apache Arrow's format); of it are read
the places of buffers, whose first eight bytes say how long each is when it is decompressed.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator

import pyarrow as pa

MAGIC = b"ARROW1"
FIRST_FEATHER = b"FEA1"
"""How Feather files of version 1 begin, which is another format."""
MAX_METADATA = 64 << 20
_DICTIONARY, _BATCH = 2, 3
"""Kinds of messages, by the union `MessageHeader`."""


class TwoColumns(ValueError):
    """A file has two columns of one name that is wanted."""


def present(columns: list[str], schema: pa.Schema) -> list[str]:
    """Those of some columns that a schema has.

    Raises:
        TwoColumns: it has one of them twice.
    """
    if twice := next((c for c in columns if schema.names.count(c) > 1), None):
        raise TwoColumns(twice)
    return [c for c in columns if c in schema.names]


def schema_of(raw: io.RawIOBase) -> pa.Schema:
    """The schema of an Arrow file or stream.

    Raises:
        pa.ArrowInvalid: it has none.
    """
    raw.seek(0)
    raw.seek(8 if raw.read(len(MAGIC)) == MAGIC else 0)
    return pa.ipc.open_stream(raw).schema


def batches_of(raw: io.RawIOBase, columns: list[str], most: Callable[[int], int]) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file or stream, with those of `columns` it has.

    Args:
        most: from the file's size, the bytes that a message may decompress to.

    Raises:
        pa.ArrowInvalid: the file is corrupt, or a batch would take too much memory.
        EOFError: the file ends too early.
        TwoColumns: it has one of them twice.
    """
    stored = raw.seek(0, io.SEEK_END)
    if not stored:
        raise EOFError("the file is empty")
    raw.seek(0)
    begin, promised, footer = 0, -1, ""
    magic = raw.read(len(MAGIC))
    if magic.startswith(FIRST_FEATHER):
        raise pa.ArrowInvalid("it is a Feather file of version 1; write it again as version 2")
    if magic == MAGIC:
        begin = 8
        raw.seek(0)
        try:
            promised = pa.ipc.open_file(raw).num_record_batches
        except (pa.ArrowException, OSError) as error:
            footer = str(error)
    raw.seek(begin)
    schema = pa.ipc.open_stream(raw).schema
    wanted = present(columns, schema)
    walk = _Walk(raw, schema, set(wanted), stored, most(stored))
    raw.seek(begin)
    # Without a column that is wanted, the first one keeps the number of rows.
    included = [schema.get_field_index(name) for name in wanted] or [0]
    reader = pa.ipc.open_stream(raw, options=pa.ipc.IpcReadOptions(included_fields=included))
    done = 0
    while done != promised:
        here = raw.tell()
        if not walk.to_batch():
            break
        raw.seek(here)
        yield reader.read_next_batch().select(wanted)
        done += 1
    if footer:
        raise EOFError(f"the Arrow file has no whole footer: it was cut ({footer})")


class _Walk:
    """Goes ahead of the reader from message to message."""

    def __init__(self, raw: io.RawIOBase, schema: pa.Schema, wanted: set[str], stored: int, most: int) -> None:
        self._raw, self._schema, self._wanted, self._stored, self._most = raw, schema, wanted, stored, most
        self._dictionaries: dict[int, int] = {}

    def to_batch(self) -> bool:
        """Go to the end of the next record batch; False at the end mark.

        Raises:
            pa.ArrowInvalid: a message is corrupt, or would take too much memory.
            EOFError: the file ends before the end mark.
        """
        while (metadata := self._metadata()) is not None:
            body = self._raw.tell()
            try:
                kind, length, decompressed = self._read(metadata, body)
            except (struct.error, IndexError):
                raise pa.ArrowInvalid("the metadata of a message is corrupt") from None
            if length < 0 or body + length > self._stored:
                raise EOFError("the Arrow stream ends within a message: it was cut")
            if decompressed > self._most:
                raise pa.ArrowInvalid(f"a batch expands to {decompressed:,} bytes from less than {self._stored:,}")
            self._raw.seek(body + length)
            if kind == _BATCH:
                return True
        return False

    def _metadata(self) -> bytes | None:
        """The next message's flatbuffer; None at the end mark."""
        prefix = self._raw.read(4)
        if not prefix:
            raise EOFError("the Arrow stream ends without its end mark: it was cut")
        if prefix == b"\xff\xff\xff\xff":  # which streams before Arrow 0.15 lack
            prefix = self._raw.read(4)
        size = int.from_bytes(prefix, "little", signed=True)
        if len(prefix) == 4 and size == 0:
            return None
        if not 0 <= size <= MAX_METADATA:
            raise pa.ArrowInvalid("a message has no proper length")
        metadata = self._raw.read(size)
        if len(prefix) < 4 or len(metadata) < size:
            raise EOFError("the Arrow stream ends within a message: it was cut")
        return metadata

    def _read(self, metadata: bytes, body: int) -> tuple[int, int, int]:
        """(kind, bytes of the body, bytes that it decompresses to as far as it is read)."""
        message = _Table(metadata, *struct.unpack_from("<I", metadata))
        kind, length = message.number(1, "<B"), message.number(3, "<q")
        if kind == _BATCH:
            return kind, length, sum(self._sizes(message.table(2), body))
        if kind == _DICTIONARY:
            dictionary = message.table(2)
            id_, more = dictionary.number(0, "<q"), dictionary.number(2, "<B")
            before = self._dictionaries.get(id_, 0) if more else 0
            self._dictionaries[id_] = before + sum(self._sizes(dictionary.table(1), body, whole=True))
        return kind, length, sum(self._dictionaries.values())

    def _sizes(self, batch: _Table, body: int, whole: bool = False) -> Iterator[int]:
        """What each buffer of a batch that is read decompresses to."""
        buffers = batch.vector(2, "<qq")
        chosen = [True] * len(buffers) if whole else self._chosen(len(buffers), [n for (n,) in batch.vector(4, "<q")])
        compressed = batch.has(3)
        for (offset, length), wanted in zip(buffers, chosen, strict=True):
            if not wanted or offset < 0 or length < 0 or body + offset + length > self._stored:
                continue
            size = -1
            if compressed and length >= 8:
                self._raw.seek(body + offset)
                size = int.from_bytes(self._raw.read(8), "little", signed=True)
            # -1 says that this buffer is not compressed.
            yield size if size >= 0 else length

    def _chosen(self, buffers: int, of_views: list[int]) -> list[bool]:
        """Which buffers are those of columns that are wanted; all, if the batch has other ones than its schema says."""
        counts, chosen = iter(of_views), list[bool]()
        for field in self._schema:
            own = sum(n + (next(counts, 0) if view else 0) for n, view in _layout(field.type))
            chosen += [field.name in self._wanted] * min(own, buffers)
        return chosen if len(chosen) == buffers else [True] * buffers


class _Table:
    """A table of a flatbuffer: fields by number, absent ones 0 or empty."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - self._unpack("<i", at)

    def _unpack(self, format: str, at: int) -> int:
        if at < 0:
            raise struct.error("a place before the flatbuffer")
        return int(struct.unpack_from(format, self._data, at)[0])

    def _place(self, field: int) -> int:
        where = 4 + 2 * field
        if where >= self._unpack("<H", self._fields):
            return 0
        offset = self._unpack("<H", self._fields + where)
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        return self._place(field) > 0

    def number(self, field: int, format: str) -> int:
        place = self._place(field)
        return self._unpack(format, place) if place else 0

    def table(self, field: int) -> _Table:
        place = self._place(field)
        return _Table(self._data, place + self._unpack("<I", place))

    def vector(self, field: int, format: str) -> list[tuple[int, ...]]:
        place = self._place(field)
        if not place:
            return []
        place += self._unpack("<I", place)
        size, count = struct.calcsize(format), self._unpack("<I", place)
        return list(struct.iter_unpack(format, self._data[place + 4 : place + 4 + size * count]))


def _layout(type_: pa.DataType) -> Iterator[tuple[int, bool]]:
    """(buffers, whether a number of others follows) of a column and its children, in the order of a message."""
    if isinstance(type_, pa.BaseExtensionType):
        yield from _layout(type_.storage_type)
        return
    kinds = pa.types
    if kinds.is_dictionary(type_):
        yield 2, False
        return
    if kinds.is_null(type_) or kinds.is_run_end_encoded(type_):
        yield 0, False
    elif (
        kinds.is_struct(type_) or kinds.is_fixed_size_list(type_) or (kinds.is_union(type_) and type_.mode == "sparse")
    ):
        yield 1, False
    elif kinds.is_string_view(type_) or kinds.is_binary_view(type_):
        yield 2, True
    elif any(
        kind(type_)
        for kind in (
            kinds.is_string,
            kinds.is_binary,
            kinds.is_large_string,
            kinds.is_large_binary,
            kinds.is_list_view,
            kinds.is_large_list_view,
        )
    ):
        yield 3, False
    else:
        yield 2, False
    if kinds.is_nested(type_):
        for i in range(type_.num_fields):
            yield from _layout(type_.field(i).type)

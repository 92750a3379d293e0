"""Rows of one source file as Arrow batches: the one way every stage reads text.

    SourceFile -> adapter of row_facts format -> RecordBatch of TEXT_SCHEMA, in row order, bounded in bytes

An adapter (redpajama.py, slimpajama.py, ...) says what a row's text, subset, native id and url are; this file does the
rest: decoding, validation, quarantine and batching.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ..run.identity import MAX_ROWS, SourceFile
from . import chat, datatrove, dolma, huggingface, pile, redpajama, refinedweb, slimpajama
from .adapter import Adapter, Facts, names_a_folder
from .formats import MAX_LINE, Damaged, arrow_tables, is_json_lines, json_lines
from .quarantine import Quarantine

BATCH_BYTES = 8 << 20
BATCH_ROWS = 4096

TEXT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("native_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
    ]
)
"""What a source yields. Corpus, file and domain follow from the file and the subset."""

NO_SUBSET = "control characters in the subset's name, or too long a name"

ADAPTERS = {
    "redpajama": redpajama.ADAPTER,
    "slimpajama": slimpajama.ADAPTER,
    "dolma": dolma.ADAPTER,
    "pile": pile.ADAPTER,
    "refinedweb": refinedweb.ADAPTER,
    "huggingface": huggingface.ADAPTER,
    "datatrove": datatrove.ADAPTER,
    "chat": chat.ADAPTER,
}


def adapter_of(format: str) -> Adapter:
    """The adapter of a source format.

    Raises:
        ValueError: the format is unknown; the message lists the known ones.
    """
    if format not in ADAPTERS:
        raise ValueError(f"unknown source format {format!r}; choose one of {', '.join(sorted(ADAPTERS))}")
    return ADAPTERS[format]


class _Batcher:
    """Gathers rows into batches of bounded bytes."""

    def __init__(self) -> None:
        self._columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
        self._bytes = 0

    def add(self, row: int, text: str, facts: Facts) -> pa.RecordBatch | None:
        for column, value in zip(self._columns, (row, text, *facts), strict=True):
            column.append(value)
        self._bytes += len(text)
        if self._bytes >= BATCH_BYTES or len(self._columns[0]) >= BATCH_ROWS:
            return self.flush()
        return None

    def flush(self) -> pa.RecordBatch | None:
        if not self._columns[0]:
            return None
        arrays = [pa.array(c, f.type) for c, f in zip(self._columns, TEXT_SCHEMA, strict=True)]
        self._columns, self._bytes = ([], [], [], [], [], []), 0
        return pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)


def read_rows(file: SourceFile, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    """Yield every readable row of `file`; the others are noted in `quarantine`.

    Raises:
        ValueError: the file has more rows than an id can hold.
        OSError: the file cannot be opened.
    """
    try:
        if file.reader:
            yield from _tabular(file, file.reader.tables(file.path), quarantine)
        elif is_json_lines(file.path):
            yield from _json(file, quarantine)
        else:
            adapter = adapter_of(file.format)
            names = [f.encode_name for f in msgspec.structs.fields(adapter.row)]
            tables = arrow_tables(file.url, names)
            yield from _tabular(file, _composed(tables, adapter) if adapter.composed else tables, quarantine)
    except Damaged as damage:
        quarantine.damaged(-1, damage.offset, damage.reason)


def _check_row(file: SourceFile, row: int) -> None:
    if row >= MAX_ROWS:
        raise ValueError(f"{file.name} has more than {MAX_ROWS:,} rows; split the file")


def _json(file: SourceFile, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    adapter = adapter_of(file.format)
    decode = msgspec.json.Decoder(adapter.row).decode
    batcher = _Batcher()
    damage: Damaged | None = None
    try:
        for row, offset, line in json_lines(file.url):
            _check_row(file, row)
            if line is None or len(line) > adapter.max_line:
                quarantine.row(row, offset, "line too long")
                continue
            try:
                value = decode(line)
                facts = adapter.facts(value, file.path)
            except UnicodeDecodeError as error:
                quarantine.row(row, offset, f"invalid UTF-8: {error.reason}", line)
                continue
            except (msgspec.MsgspecError, RecursionError) as error:
                quarantine.row(row, offset, f"{'empty line' if not line else error}", line)
                continue
            text = getattr(value, adapter.text)
            if "\0" in text:
                quarantine.row(row, offset, "NUL character in text", line)
                continue
            if not _encodable(facts):
                quarantine.row(row, offset, "lone surrogate in metadata", line)
                continue
            if not names_a_folder(facts.subset):
                quarantine.row(row, offset, NO_SUBSET, line)
                continue
            batch = batcher.add(row, text, facts)
            # The consumer may work on the batch for long: nothing but the batch keeps a huge line in memory.
            del value, text, line
            if batch:
                yield batch
    except Damaged as found:
        damage = found
    # Rows before the damage are good.
    if last := batcher.flush():
        yield last
    if damage:
        raise damage


def _tabular(file: SourceFile, tables: Iterator[pa.RecordBatch], quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    """Rows of Arrow batches: the text column stays in Arrow, only bad rows are examined one by one."""
    adapter = adapter_of(file.format)
    name = next(f.encode_name for f in msgspec.structs.fields(adapter.row) if f.name == adapter.text)
    first = 0
    for table in tables:
        others = [c for c in table.schema.names if c != name]
        _check_row(file, first + table.num_rows)
        if name not in table.schema.names:
            raise ValueError(f"{file.name} has no column {name!r}; is its format really {file.format!r}?")
        column = table.column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise ValueError(
                f"{file.name}: column {name!r} holds {column.type}, not text; is its format {file.format!r}?"
            )
        text = column.cast(pa.large_string())
        rows = pa.array(range(first, first + table.num_rows), pa.int64())
        good = text.is_valid()
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            good = pa.array([_valid_utf8(v) for v in text.cast(pa.large_binary())], pa.bool_())
        good = pc.and_(good, pc.invert(pc.fill_null(pc.match_substring(text, "\0"), False)))
        good = pc.and_(good, pc.less_equal(pc.fill_null(pc.binary_length(text), 0), MAX_LINE))
        for i in pc.indices_nonzero(pc.invert(good)).to_pylist():
            reason = "NUL character or invalid UTF-8 in text"
            if not text[i].is_valid:
                reason = "no conversation" if adapter.composed else "text is null"
            elif text[i].as_buffer().size > MAX_LINE:
                reason = "text too long"
            quarantine.row(first + i, -1, reason)
        facts, kept = [], []
        values = {c: _in_seconds(table.column(c)) for c in others}
        for i in pc.indices_nonzero(good).to_pylist():
            try:
                row_facts = adapter.facts(_TableRow({c: _plain(column[i]) for c, column in values.items()}), file.path)
            except UnicodeDecodeError:
                quarantine.row(first + i, -1, "invalid UTF-8 in metadata")
                continue
            if not names_a_folder(row_facts.subset):
                quarantine.row(first + i, -1, NO_SUBSET)
                continue
            facts.append(row_facts)
            kept.append(i)
        columns = [rows.take(pa.array(kept, pa.int64())), text.take(pa.array(kept, pa.int64()))]
        columns += [pa.array([f[k] for f in facts], TEXT_SCHEMA.field(2 + k).type) for k in range(4)]
        batch = pa.RecordBatch.from_arrays(columns, schema=TEXT_SCHEMA)
        yield from _bounded(batch)
        first += table.num_rows


def _composed(tables: Iterator[pa.RecordBatch], adapter: Adapter) -> Iterator[pa.RecordBatch]:
    """Tables with the text that each row composes; null where a row has none."""
    for table in tables:
        texts = []
        for i in range(table.num_rows):
            try:
                row = {c: _plain(table.column(c)[i]) for c in table.schema.names}
                texts.append(getattr(msgspec.convert(row, adapter.row), adapter.text))
            except (msgspec.ValidationError, UnicodeDecodeError):
                texts.append(None)
        others = [c for c in table.schema.names if c != adapter.text]
        arrays = [table.column(c) for c in others]
        yield pa.RecordBatch.from_arrays([*arrays, pa.array(texts, pa.large_string())], [*others, adapter.text])


class _TableRow:
    """A row of a table with the attributes of a decoded JSON row; absent columns are None."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return self._values.get(name)


def _in_seconds(column: pa.Array) -> pa.Array:
    """Times in whole seconds: those of Python have no nanoseconds."""
    type_ = column.type
    return column.cast(pa.timestamp("s", type_.tz), safe=False) if pa.types.is_timestamp(type_) else column


def _plain(value: pa.Scalar) -> Any:
    """A table's value as a Python object; None for a time outside of Python's calendar.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    try:
        return value.as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        return None


def _encodable(facts: Facts) -> bool:
    try:
        "".join(facts[:3]).encode()
        return True
    except UnicodeEncodeError:
        return False


def _valid_utf8(value: pa.Scalar) -> bool:
    try:
        (value.as_py() or b"").decode()
        return True
    except UnicodeDecodeError:
        return False


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Split a batch so that row_facts text stays near `BATCH_BYTES`."""
    if batch.num_rows > 1 and batch.column("text").nbytes > 2 * BATCH_BYTES:
        half = batch.num_rows // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif batch.num_rows:
        yield batch

"""Rows of one source file as Arrow batches: the one way every stage reads text.

    SourceFile -> adapter of row_facts format -> RecordBatch of TEXT_SCHEMA, in row order, bounded in bytes

An adapter (redpajama.py, slimpajama.py, ...) says what a row's text, subset, native id and url are; this file does the
rest: decoding, validation, quarantine and batching.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..run.identity import MAX_ROWS, SourceFile
from . import chat, datatrove, dolma, huggingface, pile, redpajama, refinedweb, slimpajama
from .adapter import NOT_UNDERSTOOD, Adapter, Facts, names_a_folder
from .arrow_messages import TwoColumns
from .extracted import extracted_rows
from .formats import MAX_LINE, Damaged, is_json_lines, is_separated, json_lines, strict_json
from .quarantine import Quarantine
from .separated import no_column, records
from .some_rows import PutBack, Wanted, between, row_range
from .tables import arrow_tables, is_huge, row_bytes
from .text_schema import TEXT_SCHEMA
from .values import Values, plain, plain_table

BATCH_BYTES = 8 << 20
BATCH_ROWS = 4096

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


def adapter_of(file: SourceFile) -> Adapter:
    """The adapter of a file's rows.

    Raises:
        ValueError: its format is unknown; the message lists the known ones.
    """
    if file.format not in ADAPTERS:
        raise ValueError(f"unknown source format {file.format!r}; choose one of {', '.join(sorted(ADAPTERS))}")
    return huggingface.adapter_for(file.columns) if file.columns else ADAPTERS[file.format]


def _text_name(adapter: Adapter) -> str:
    """What the column of the text is called."""
    return next(f.encode_name for f in msgspec.structs.fields(adapter.row) if f.name == adapter.text)


class _Batcher:
    """Gathers rows into batches of bounded bytes."""

    def __init__(self, batch_bytes: int = 0) -> None:
        self._columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
        self._bytes, self._most = 0, batch_bytes or BATCH_BYTES

    def add(self, row: int, text: str, facts: Facts) -> pa.RecordBatch | None:
        for column, value in zip(self._columns, (row, text, *facts), strict=True):
            column.append(value)
        self._bytes += len(text)
        if self._bytes >= self._most or len(self._columns[0]) >= BATCH_ROWS:
            return self.flush()
        return None

    def flush(self) -> pa.RecordBatch | None:
        if not self._columns[0]:
            return None
        arrays = [pa.array(c, f.type) for c, f in zip(self._columns, TEXT_SCHEMA, strict=True)]
        self._columns, self._bytes = ([], [], [], [], [], []), 0
        return pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)


def read_rows(
    file: SourceFile, quarantine: Quarantine, batch_bytes: int = 0, wanted: Wanted | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield every readable row of `file`, which may be a piece; the others are noted in `quarantine`.

    Of a piece that was cut by rows, bad rows of other pieces may be noted too. A file whose texts the run has stored is not read:
    its rows are those of the table (`extracted.py`), with two columns more.

    Args:
        batch_bytes: of JSON lines, about how much a batch holds; less where only the first few may be wanted. 0: `BATCH_BYTES`.
        wanted: the rows to read; None: all.

    Raises:
        ValueError: the file has more rows than an id can hold, or its text is in no column, or in two.
        OSError: the file cannot be opened.
    """
    if file.extracted:
        batches = extracted_rows(file.extracted)
        yield from wanted.of(batches) if wanted else batches
        return
    try:
        if file.read_whole and not is_json_lines(file.path):
            yield from between(read_rows(replace(file, piece=None), quarantine, batch_bytes, wanted), *row_range(file))
        elif is_json_lines(file.path) and not file.reader:
            yield from _json(file, quarantine, batch_bytes, wanted)
        else:
            batches = _tables(file, quarantine)
            yield from wanted.of(batches) if wanted else batches
    except TwoColumns as name:
        raise ValueError(f"{file.name} has two columns {str(name)!r}; leave one of them, or exclude the file") from None
    except Damaged as damage:
        quarantine.damaged(damage)


def _tables(file: SourceFile, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    """The rows of a file of tables."""
    if file.reader:
        return _tabular(file, file.reader.tables(file.path), quarantine)
    adapter = adapter_of(file)
    if is_separated(file.path):
        return _one_by_one(file, _separated(file, adapter), adapter, quarantine)
    names = [f.encode_name for f in msgspec.structs.fields(adapter.row)]
    tables = arrow_tables(file.url, names, piece=file.piece)
    if adapter.composed:
        return _one_by_one(file, _composed(file, tables, adapter), adapter, quarantine)
    return _tabular(file, tables, quarantine)


def read_each(
    files: Sequence[SourceFile], wanted: Sequence[Iterator[np.ndarray]] = ()
) -> Iterator[tuple[SourceFile, Iterator[pa.RecordBatch]]]:
    """Every file or piece with its readable rows, to be taken before the next one is. Consecutive pieces of a file that is only
    read from its start are read in one pass.

    Args:
        wanted: of each file the numbers of the rows to read, as `Wanted` takes them; none: all.

    Raises:
        As `read_rows`.
    """
    at = 0
    for _, same in itertools.groupby(files, key=_pass_of):
        together = list(same)
        numbers = itertools.chain.from_iterable(wanted[at : at + len(together)])
        at += len(together)
        if len(together) == 1:
            whole = together[0]
        else:
            first = together[0]
            assert first.piece
            whole = replace(first, piece=replace(first.piece, rows=-1))
        batches = read_rows(whole, Quarantine(whole), wanted=Wanted(numbers) if wanted else None)
        if len(together) == 1:
            yield whole, batches
            continue
        rest = PutBack(batches)
        for file in together:
            yield file, between(rest, *row_range(file))


def _pass_of(file: SourceFile) -> tuple[bool, str]:
    """What pieces have in common that are read in one pass."""
    in_one_pass = file.read_whole and not file.extracted
    return in_one_pass, file.name if in_one_pass else file.table


def _check_row(file: SourceFile, row: int) -> None:
    if row >= MAX_ROWS:
        raise ValueError(f"{file.name} has more than {MAX_ROWS:,} rows; split the file")


def _json(
    file: SourceFile, quarantine: Quarantine, batch_bytes: int, wanted: Wanted | None
) -> Iterator[pa.RecordBatch]:
    adapter = adapter_of(file)
    decode = msgspec.json.Decoder(adapter.row).decode
    batcher = _Batcher(batch_bytes)
    damage: Damaged | None = None
    cut, reason = False, ""
    # Of a piece nobody knows what the others hold.
    objects = file.piece is not None
    first, end = row_range(file)
    following = wanted.each() if wanted else itertools.count(first)
    due = next(following, end)
    try:
        for row, offset, line, ended in json_lines(file.url, None if file.read_whole else file.piece):
            if due >= end:
                break
            if row < due:
                continue
            due = next(following, end)
            _check_row(file, row)
            if len(line) > min(adapter.max_line, MAX_LINE):
                reason = "line too long"
                objects = objects or _is_object(line, begun=True)
                quarantine.row(row, offset, reason)
                continue
            try:
                try:
                    value = decode(line)
                except msgspec.DecodeError as error:
                    if isinstance(error, msgspec.ValidationError):
                        raise
                    value = decode(strict_json(line))
                facts = adapter.facts(value, file.path)
            except UnicodeDecodeError as error:
                reason = f"invalid UTF-8: {error.reason}"
                objects = objects or line[:1] == b"{"
                quarantine.row(row, offset, reason, line)
                continue
            except (msgspec.MsgspecError, RecursionError) as error:
                reason = f"{'empty line' if not line else error}"
                cut = bool(line) and not ended and str(error) == _TRUNCATED
                objects = objects or _is_object(line)
                quarantine.row(row, offset, reason, line)
                continue
            objects = True
            text = getattr(value, adapter.text)
            if reason := _refusal(text, facts):
                quarantine.row(row, offset, reason, line)
                continue
            batch = batcher.add(row, text, _timed(facts, quarantine))
            # The consumer may work on the batch for long: nothing but the batch keeps a huge line in memory.
            del value, text, line
            if batch:
                yield batch
        # Lines that are no rows say nothing of how many rows the file has or had.
        if cut and objects:
            damage = Damaged("the last line is incomplete: the file was cut", file.size, cut=True)
        elif reason and not objects:
            damage = Damaged(f"none of its lines is a JSON object in UTF-8 (the last one: {reason})")
    except Damaged as found:
        damage = found
    # Rows before the damage are good.
    if last := batcher.flush():
        yield last
    if damage:
        raise damage


_TRUNCATED = "Input data was truncated"
"""What msgspec says of JSON that ends too early."""


class _AnyObject(msgspec.Struct):
    """A JSON object whose values are only skipped."""


def _is_object(line: memoryview, begun: bool = False) -> bool:
    """Whether a line that is no row of its format is a JSON object.

    Args:
        begun: the line may be the beginning of one.
    """
    try:
        msgspec.json.decode(strict_json(line), type=_AnyObject)
    except (msgspec.MsgspecError, RecursionError) as error:
        return begun and str(error) == _TRUNCATED and not bytes(line).isspace()
    return True


def _refusal(text: str, facts: Facts) -> str:
    """Why a row that could be decoded cannot be used; empty if it can."""
    if "\0" in text:
        return "NUL character in text"
    if not _encodable(facts):
        return "lone surrogate in metadata"
    return "" if names_a_folder(facts.subset) else NO_SUBSET


def _timed(facts: Facts, quarantine: Quarantine) -> Facts:
    """The facts with a time: a document without one it can be compared by is the oldest, and is counted."""
    if facts.timestamp != NOT_UNDERSTOOD:
        return facts
    quarantine.times += 1
    return facts._replace(timestamp=0)


Found = tuple[int, int, dict[str, Any] | str]
"""(row, offset, its values by column, or why it has none)."""


def _composed(file: SourceFile, tables: Iterator[pa.RecordBatch], adapter: Adapter) -> Iterator[Found]:
    """The rows of tables whose text each row composes."""
    first = file.piece.row if file.piece else 0
    for table in tables:
        table = plain_table(table)
        sizes = np.sum([row_bytes(c) for c in table.columns], axis=0, dtype=np.int64) + np.zeros(
            table.num_rows, np.int64
        )
        for i in range(table.num_rows):
            if sizes[i] > min(adapter.max_line, MAX_LINE):
                yield first + i, -1, "row too long"
                continue
            try:
                yield first + i, -1, {c: plain(table.column(c)[i]) for c in table.schema.names}
            except UnicodeDecodeError as error:
                yield first + i, -1, _why(error)
        first += table.num_rows


def _separated(file: SourceFile, adapter: Adapter) -> Iterator[Found]:
    """The rows of a CSV or TSV file."""
    names = [f.encode_name for f in msgspec.structs.fields(adapter.row)]
    text = _text_name(adapter)
    for row, offset, values, bad in records(file, names, [] if adapter.composed else [text]):
        yield row, offset, bad or values


def _one_by_one(
    file: SourceFile, found: Iterator[Found], adapter: Adapter, quarantine: Quarantine
) -> Iterator[pa.RecordBatch]:
    """Batches of rows that come one by one, like those of JSON lines."""
    as_row = _RowDecoder(adapter)
    batcher = _Batcher()
    damage: Damaged | None = None
    try:
        for row, offset, values in found:
            _check_row(file, row)
            if isinstance(values, str):
                quarantine.row(row, offset, values)
                continue
            try:
                value = as_row(values)
                facts = adapter.facts(value, file.path)
            except _BAD_ROW as error:
                quarantine.row(row, offset, _why(error))
                continue
            text = getattr(value, adapter.text)
            if reason := _refusal(text, facts):
                quarantine.row(row, offset, reason)
                continue
            if batch := batcher.add(row, text, _timed(facts, quarantine)):
                yield batch
    except Damaged as error:
        damage = error
    # Rows before the damage are good.
    if last := batcher.flush():
        yield last
    if damage:
        raise damage


def _tabular(file: SourceFile, tables: Iterator[pa.RecordBatch], quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    """Rows of Arrow batches: the text column stays in Arrow, only bad rows are examined one by one."""
    adapter = adapter_of(file)
    as_row = _RowDecoder(adapter)
    name = _text_name(adapter)
    first = file.piece.row if file.piece else file.reader.first_row if file.reader else 0
    for table in tables:
        _check_row(file, first + table.num_rows)
        if name not in table.schema.names:
            raise ValueError(no_column(file, name))
        if is_huge(table):
            quarantine.row(first, -1, "row too long")
            first += 1
            continue
        text = _text_column(table.column(name), file, name)
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
                reason = "text is null"
            elif text[i].as_buffer().size > MAX_LINE:
                reason = "text too long"
            quarantine.row(first + i, -1, reason)
        facts, kept = [], []
        others = plain_table(table.drop_columns([name]) if table.num_columns > 1 else table.select([]))
        columns = {c: Values(others.column(c)) for c in others.schema.names}
        for i in pc.indices_nonzero(good).to_pylist():
            try:
                value = as_row({c: column[i] for c, column in columns.items()})
                row_facts = adapter.facts(value, file.path)
            except _BAD_ROW as error:
                quarantine.row(first + i, -1, _why(error))
                continue
            if reason := _refusal("", row_facts):
                quarantine.row(first + i, -1, reason)
                continue
            facts.append(_timed(row_facts, quarantine))
            kept.append(i)
        arrays = [rows.take(pa.array(kept, pa.int64())), text.take(pa.array(kept, pa.int64()))]
        arrays += [pa.array([f[k] for f in facts], TEXT_SCHEMA.field(2 + k).type) for k in range(4)]
        yield from _bounded(pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA))
        first += table.num_rows


_BAD_ROW = (UnicodeDecodeError, msgspec.MsgspecError, RecursionError, TypeError)
"""What a row of a table raises that a row of JSON lines could not be written as."""


def _why(error: Exception) -> str:
    return "invalid UTF-8 in metadata" if isinstance(error, UnicodeDecodeError) else str(error)


class _RowDecoder:
    """Makes an adapter's row of a table's values, by way of JSON: a struct gives what its object in JSON lines gives."""

    def __init__(self, adapter: Adapter) -> None:
        self._decode = msgspec.json.Decoder(adapter.row).decode
        self._encode = msgspec.json.Encoder().encode
        # Where the text is a column of its own, it needs no copy.
        self._text: dict[str, Any] = (
            {}
            if adapter.composed
            else {f.encode_name: "" for f in msgspec.structs.fields(adapter.row) if f.name == adapter.text}
        )

    def __call__(self, values: dict[str, Any]) -> Any:
        return self._decode(self._encode({**self._text, **values}))


def _text_column(column: pa.Array, file: SourceFile, name: str) -> pa.LargeStringArray:
    """A column of text as the type of `TEXT_SCHEMA`; its UTF-8 is not checked yet.

    Raises:
        ValueError: it holds no text.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    type_ = column.type
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return column.cast(pa.large_binary()).view(pa.large_string())
    if not (pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_)):
        raise ValueError(f"{file.name}: column {name!r} holds {type_}, not text; is its format {file.format!r}?")
    return column.cast(pa.large_string())


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

"""Files of scores, row by row: what names a document, and its score. They are of others, and what is wrong in a row is an error
that names it: a score that is silently missing would silently drop a document, or keep it.

A row without a score, or with NaN, says nothing of its document.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import xxhash

from ...storage.wording import first_line, printable
from ..run.identity import FILE_BITS, MAX_ROWS, ROW_BITS, file_hash
from ..signals.scores import KEYS, ScoreSettings
from ..sources.arrow_messages import TwoColumns
from ..sources.formats import ARROW_SUFFIXES, Damaged, chunks, is_json_lines, is_separated, json_lines, strict_json
from ..sources.separated import delimiter_of
from ..sources.tables import arrow_tables

BATCH_ROWS = 1 << 16
MAX_ROW = 1 << 20
"""Bytes of a row of JSON or of separated values."""


@dataclass(frozen=True)
class Scored:
    """Some rows of a file."""

    keys: np.ndarray
    """uint64 [n]: document ids, or hashes of native ids."""
    scores: np.ndarray
    """float32 [n]: finite."""
    rows: int
    """With those that have no score."""


def read_scores(url: str, settings: ScoreSettings, salt: int) -> Iterator[Scored]:
    """The scores of a file, some rows at a time.

    Args:
        salt: the run's `id_salt`, of which document ids are made.

    Raises:
        ValueError: it cannot be read to its end, has no such columns, or a row has no key or something else than a number; names
            score, file and row.
    """
    names = {part: settings.column_of(part) for part in (*KEYS[settings.key], "score")}
    first = 0
    try:
        for columns in _batches(url, list(names.values())):
            if absent := next((name for name in names.values() if name not in columns), None):
                raise ValueError(f"it has no column {absent!r}; name the columns that it has in `columns`")
            held = {part: columns[name] for part, name in names.items()}
            rows = len(held["score"])
            scores = _numbers(held.pop("score"), first)
            there = ~np.isnan(scores)
            keys = _keys({part: column.filter(pa.array(there)) for part, column in held.items()}, settings.key, salt)
            yield Scored(keys, scores[there], rows)
            first += rows
    except Damaged as error:
        raise ValueError(f"scores.{settings.name}: {url} cannot be read to its end: {error.reason}") from None
    except TwoColumns as error:
        raise ValueError(f"scores.{settings.name}: {url} has the column {error} twice") from None
    except ValueError as error:
        raise ValueError(f"scores.{settings.name}: {url}: {first_line(error)}") from None


def _batches(url: str, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    """The columns of these names that a file has, some rows at a time."""
    if url.endswith(ARROW_SUFFIXES):
        for batch in arrow_tables(url, list(names), BATCH_ROWS):
            yield dict(zip(batch.schema.names, batch.columns, strict=True))
    elif is_separated(url):
        yield from _separated(url, names)
    elif is_json_lines(url):
        yield from _objects(url, names)
    else:
        raise ValueError(
            "its name says no format; end it with .parquet, .arrow, .csv, .tsv or .jsonl (.gz, .zst, .bz2)"
        )


class _Text(io.RawIOBase):
    """The text of a file, as pyarrow reads files."""

    def __init__(self, url: str) -> None:
        self._chunks = chunks(url)
        self._held = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self._held) < size or size < 0:
            more = next(self._chunks, None)
            if more is None:
                break
            self._held = self._held + more if self._held else bytes(more)
        end = len(self._held) if size < 0 else size
        data, self._held = self._held[:end], self._held[end:]
        return data

    def header(self, delimiter: str) -> list[str]:
        """The values of the first line, which stays.

        Raises:
            ValueError: there is none.
        """
        begin = self.read(MAX_ROW)
        self._held = begin + self._held
        line = begin.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0]
        try:
            return next(csv.reader([line.decode().rstrip("\r")], delimiter=delimiter, strict=True), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"its header cannot be read ({first_line(error)})") from None


def _separated(url: str, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    """Values as text. A row with more or fewer of them than the header is an error of pyarrow's, which names it."""
    delimiter, text = delimiter_of(url), _Text(url)
    header = text.header(delimiter)
    if twice := next((name for name in names if header.count(name) > 1), None):
        raise TwoColumns(twice)
    there = [name for name in names if name in header]
    if len(there) < len(names):
        yield {name: pa.array([], pa.string()) for name in there}
        return
    try:
        reader = pacsv.open_csv(
            pa.PythonFile(text, "r"),
            pacsv.ReadOptions(use_threads=False, block_size=MAX_ROW),
            pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(there, pa.string()), strings_can_be_null=False, include_columns=there
            ),
        )
        for batch in reader:
            yield dict(zip(batch.schema.names, batch.columns, strict=True))
    except pa.ArrowInvalid as error:
        raise ValueError(printable(first_line(error)[:200])) from None


def _objects(url: str, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    fields = [(f"field{i}", Any, msgspec.UNSET) for i in range(len(names))]
    kind = msgspec.defstruct("Row", fields, rename=dict(zip((f[0] for f in fields), names, strict=True)))
    decode, values_of = msgspec.json.Decoder(kind).decode, attrgetter(*(f[0] for f in fields))
    held: list[tuple[Any, ...]] = []
    for row, _, line, _ in json_lines(url):
        if len(line) > MAX_ROW:
            raise ValueError(f"row {row} is longer than {MAX_ROW >> 20} MiB")
        try:
            held.append(values_of(decode(line)))
        except (msgspec.DecodeError, RecursionError):
            # An empty line is no row; NaN and a byte order mark are read as everywhere.
            if not bytes(line).strip():
                continue
            try:
                held.append(values_of(decode(strict_json(line))))
            except (msgspec.DecodeError, RecursionError) as error:
                raise ValueError(f"row {row} is no JSON object ({printable(first_line(error))})") from None
        if len(held) == BATCH_ROWS:
            yield _columns(held, names)
            held = []
    if held:
        yield _columns(held, names)


def _columns(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> dict[str, pa.Array]:
    """The columns of some rows; without those that no row has."""
    found = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        there = [None if v is msgspec.UNSET else v for v in values]
        if any(v is not msgspec.UNSET for v in values):
            try:
                found[name] = pa.array(there)
            except (pa.ArrowException, OverflowError, ValueError, TypeError):
                # Of several types; what is no text and no number is refused for what it is.
                found[name] = pa.array([None if v is None else str(v) for v in there], pa.string())
    return found


def _numbers(column: pa.Array, first: int) -> np.ndarray:
    """float32 [n], NaN where there is none.

    Args:
        first: the row of the first one, for messages.
    """
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan, np.float32)
    if _is_text(column.type):
        # An empty value of a table of separated values is none.
        column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    if not (_is_text(column.type) or _is_number(column.type)):
        raise ValueError(f"its scores are of the type {column.type}, not numbers")
    try:
        values = column.cast(pa.float64())
    except (pa.ArrowException, UnicodeDecodeError):
        at = next(i for i, value in enumerate(column.to_pylist()) if not _is_float(value))
        raise ValueError(f"row {first + at}: {printable(str(column[at].as_py())[:80])!r} is no number") from None
    found = values.to_numpy(zero_copy_only=False).astype(np.float32)
    if len(wrong := np.flatnonzero(np.isinf(found))):
        raise ValueError(f"row {first + wrong[0]}: the score is infinite, or too large")
    return found


def _is_float(value: Any) -> bool:
    try:
        return value is None or float(value) is not None
    except ValueError:
        return False


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_decimal(type_)


def _keys(columns: dict[str, pa.Array], key: str, salt: int) -> np.ndarray:
    """uint64 [n]."""
    for part, column in columns.items():
        if column.null_count:
            raise ValueError(f"a row with a score has no {part}")
    if key == "native_id":
        ids = columns["native_id"]
        if not (_is_text(ids.type) or pa.types.is_integer(ids.type)):
            raise ValueError(f"its ids are of the type {ids.type}, not text")
        digest = xxhash.xxh3_64_intdigest
        return np.fromiter((digest(str(i).encode()) for i in ids.to_pylist()), np.uint64, len(ids))
    if key == "doc_id":
        return _whole(columns["doc_id"], "document ids", 1 << (FILE_BITS + ROW_BITS))
    files = pa.StructArray.from_arrays([columns[n].cast(pa.string()) for n in ("corpus", "file")], ["corpus", "file"])
    known: dict[tuple[str, str], int] = {}
    found = np.empty(len(files), np.uint64)
    pairs = zip(files.field(0).to_pylist(), files.field(1).to_pylist(), strict=True)
    for i, pair in enumerate(pairs):
        if pair not in known:
            known[pair] = file_hash(*pair, salt)
        found[i] = known[pair]
    return found << np.uint64(ROW_BITS) | _whole(columns["row"], "rows", MAX_ROWS)


def _whole(column: pa.Array, what: str, below: int) -> np.ndarray:
    """uint64 [n] of whole numbers, or of text that writes some."""
    try:
        values = column.cast(pa.uint64())
    except (pa.ArrowException, UnicodeDecodeError):
        raise ValueError(f"its {what} are no whole numbers from 0 on") from None
    found = values.to_numpy(zero_copy_only=False)
    if len(found) and int(found.max()) >= below:
        raise ValueError(f"its {what} go up to {int(found.max())}, beyond the last one that there can be")
    return found

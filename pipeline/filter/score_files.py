"""Files of scores, row by row: what names a document, and its score. They are of others, and what is wrong in a row is an error
that names it: a score that is silently missing would silently drop a document, or keep it.

A row without a score, or with NaN, says nothing of its document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...storage.wording import first_line, printable
from ..run.identity import FILE_BITS, MAX_ROWS, ROW_BITS, SourceFile, file_hash
from ..signals.scores import KEYS, ScoreSettings
from ..sources.arrow_messages import TwoColumns
from ..sources.formats import ARROW_SUFFIXES, Damaged, is_json_lines, is_separated, json_lines, strict_json
from ..sources.separated import records
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
    if url.endswith(ARROW_SUFFIXES):
        for batch in arrow_tables(url, list(names), BATCH_ROWS):
            yield dict(zip(batch.schema.names, batch.columns, strict=True))
    elif is_separated(url):
        # Of a source file, what is read here is where it lies and what it is called.
        file = SourceFile("scores", url, url, 0, "", "huggingface", False, 0)
        yield from _gathered((r.row, r.values, r.bad) for r in records(file, names, ()))
    elif is_json_lines(url):
        yield from _gathered(_objects(url, names))
    else:
        raise ValueError(
            "its name says no format; end it with .parquet, .arrow, .csv, .tsv or .jsonl (.gz, .zst, .bz2)"
        )


def _objects(url: str, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(row, values, what is wrong) of the lines of a file."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    for row, _, line, _ in json_lines(url):
        if len(line) > MAX_ROW:
            yield row, {}, f"is longer than {MAX_ROW >> 20} MiB"
        if not bytes(line).strip():
            continue
        try:
            value = decoder.decode(strict_json(line))
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            yield row, {}, f"is no JSON object ({printable(first_line(error))})"
        yield row, {name: value[name] for name in names if name in value}, ""


def _gathered(rows: Iterator[tuple[int, dict[str, Any], str]]) -> Iterator[dict[str, pa.Array]]:
    """Rows as columns, `BATCH_ROWS` at a time. A name that no row of a batch has is no column of it."""
    held: list[dict[str, Any]] = []

    def columns() -> dict[str, pa.Array]:
        names = dict.fromkeys(name for row in held for name in row)
        found = {}
        for name in names:
            values = [row.get(name) for row in held]
            try:
                found[name] = pa.array(values)
            except (pa.ArrowException, OverflowError, ValueError, TypeError):
                found[name] = pa.array([None if v is None else str(v)[:MAX_ROW] for v in values], pa.string())
        return found

    for row, values, bad in rows:
        if bad:
            raise ValueError(f"row {row} {bad}")
        held.append(values)
        if len(held) == BATCH_ROWS:
            yield columns()
            held = []
    if held:
        yield columns()


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

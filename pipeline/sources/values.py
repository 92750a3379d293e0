"""The metadata of a table as Python objects, as JSON lines would give them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from .adapter import META_BYTES
from .tables import row_bytes


def plain_table(table: pa.RecordBatch) -> pa.RecordBatch:
    """A table whose values Python can have: bytes as text, times in whole seconds (those of Python have no nanoseconds)."""
    columns = []
    for column in table.columns:
        type_ = _plain_type(column.type)
        columns.append(column if type_ == column.type else column.cast(type_, safe=False))
    return pa.RecordBatch.from_arrays(columns, table.schema.names) if columns else table


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if isinstance(type_, pa.BaseExtensionType):
        return _plain_type(type_.storage_type)
    if pa.types.is_timestamp(type_):
        return pa.timestamp("s", "UTC" if type_.tz else None)
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return pa.large_string()
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_plain_type(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in type_])
    return type_


class Values:
    """Metadata of a column as Python objects; what is longer than `META_BYTES` is absent, as in JSON lines."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column
        self._short = row_bytes(column) <= META_BYTES
        self._fields: dict[str, Values] | None = None
        if pa.types.is_struct(column.type):
            names = [field.name for field in column.type]
            self._fields = {name: Values(part) for name, part in zip(names, column.flatten(), strict=True)}

    def __getitem__(self, i: int) -> Any:
        if self._fields is not None:
            return {name: part[i] for name, part in self._fields.items()} if self._column[i].is_valid else None
        return plain(self._column[i]) if self._short[i] else None


def plain(value: pa.Scalar) -> Any:
    """A table's value as a Python object; a time outside of Python's calendar as a text that is none.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    try:
        return value.as_py(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        return "outside of the calendar"

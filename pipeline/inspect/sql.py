"""Conditions and queries over the documents of a run, by DuckDB, which can reach nothing but these documents.

Who asks may have the question from somebody else. So a connection has no files, no network, no extensions and no variables of
Python, and its configuration is locked before any text of a user is run. It takes one thread and bounded memory; what a query
holds beyond that goes to a folder of its own, which is removed with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ...storage.wording import first_line, one_line
from .documents import Columns, DocumentTable

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""What a query may hold in memory."""
_LOCKED = {
    "threads": 1,
    "memory_limit": MEMORY,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "enable_external_access": False,
    "lock_configuration": True,
}
"""In this order: the last ones forbid all others to change."""
_BATCH, _AT = "fox1_batch", "fox1_at"


def _connect(spill: str = "") -> duckdb.DuckDBPyConnection:
    """A connection that is locked.

    Args:
        spill: folder for what does not fit into memory; empty: nothing may go to a disk.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    quoted = spill.replace("'", "''")
    for name, value in {"temp_directory": quoted, **_LOCKED}.items():
        connection.execute(f"set {name} = '{value}'")
    return connection


_one = cache(_connect)
"""The connection for conditions: a process judges many batches, and to open one takes longer than a batch."""
_in_use = Lock()


@contextmanager
def _shared() -> Iterator[duckdb.DuckDBPyConnection]:
    with _in_use:
        yield _one()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """An error of DuckDB as one line that says which text it is about."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise ValueError(f"{what}: needs more than {MEMORY} of memory; ask for fewer rows or groups") from None
    except duckdb.Error as error:
        said = first_line(error) if "LINE " in str(error) else one_line(str(error))
        if isinstance(error, duckdb.BinderException) and "not found" in said:
            said = f"{said.rstrip('!')}; docs/artifacts.md lists the columns of a document"
        raise ValueError(f"{what}: {said}") from None


@dataclass(frozen=True)
class Condition:
    """What a document has to be like, as the WHERE of a query."""

    sql: str

    def columns(self, table: Columns) -> list[str]:
        """The columns that it looks at.

        Raises:
            ValueError: it is no condition over the columns of a document, or needs more than one document to tell.
        """
        names = table.named_in(self.sql)
        self.places(pa.schema([table.schema.field(name) for name in names]).empty_table())
        return names

    def places(self, documents: pa.Table) -> np.ndarray:
        """Where the documents stand that meet it, int64, in their order.

        Args:
            documents: some of them, with the columns that it looks at.
        """
        query = f"select {_AT} from {_BATCH} where (\n{self.sql}\n)"
        numbered = documents.append_column(_AT, pa.array(np.arange(documents.num_rows)))
        with _explained(f"condition {self.sql!r}"), _shared() as connection:
            statements = connection.extract_statements(query)
            if len(statements) != 1:
                raise ValueError(f"condition {self.sql!r}: write one condition, without a semicolon")
            connection.register(_BATCH, numbered)
            try:
                found = connection.execute(statements[0]).to_arrow_table()
            finally:
                connection.unregister(_BATCH)
        places = np.sort(found.column(0).to_numpy()) if found.schema.field(0).type == pa.int64() else np.zeros(2)
        # Brackets may close the condition and go on to something else.
        if len(places) and (places[0] < 0 or places[-1] >= len(documents) or (np.diff(places) < 1).any()):
            raise ValueError(f"condition {self.sql!r}: write one condition, and nothing after it")
        return places


class _Stream:
    """Documents as DuckDB reads them: from the first one again for every scan of a query."""

    def __init__(self, documents: DocumentTable, names: list[str]) -> None:
        self._documents, self._names = documents, names
        self._schema = pa.schema([documents.columns.schema.field(name) for name in names])

    def __arrow_c_schema__(self) -> Any:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        batches = (b for table in self._documents.batches(self._names) for b in table.to_batches())
        return pa.RecordBatchReader.from_batches(self._schema, batches).__arrow_c_stream__(requested)


def query(documents: DocumentTable, sql: str) -> pa.Table:
    """The answer to a query over the table `documents`.

    Raises:
        ValueError: it is not one SELECT, names what is not there, or would reach for anything else.
    """
    names = documents.columns.named_in(sql) or ["row"]
    with tempfile.TemporaryDirectory(prefix="fox1-sql-") as spill, _explained("query"), _connect(spill) as connection:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise ValueError("query: write one SELECT over the table `documents`")
        connection.register("documents", _Stream(documents, names))
        return connection.execute(statements[0]).to_arrow_table()


def matching(documents: DocumentTable, condition: Condition, columns: list[str], most: int = 0) -> pa.Table:
    """Some columns of the documents that meet a condition, by file and row.

    Args:
        most: rows at most; 0: all.
    """
    table = documents.columns
    looked_at = condition.columns(table) if condition.sql else []
    names = list(dict.fromkeys([*columns, *looked_at])) or ["row"]
    parts, left = [pa.schema([table.schema.field(name) for name in columns]).empty_table()], most or 1 << 62
    for batch in documents.batches(names):
        places = condition.places(batch) if condition.sql else np.arange(batch.num_rows)
        parts.append(batch.select(columns).take(pa.array(places[:left])))
        left -= len(places)
        if left <= 0:
            break
    return pa.concat_tables(parts)

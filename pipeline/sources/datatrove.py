"""Any datatrove reader as a source: its files are listed like those of every source, its documents become rows.

A reader makes one Python object per document, so it is far slower than the adapters; it is for formats that fox1 does not
read itself (WARC, CSV, WebDataset). A document that a reader would discard because it has no text becomes a row with an
empty text, so that rows are counted and numbered as they stand in the file.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from ...storage.wording import first_line
from .adapter import Adapter, Facts, as_text, as_timestamp
from .installed import import_installed

READ_ROWS = 512


class DatatroveRow(msgspec.Struct, gc=False):
    text: str
    id: Any = None
    url: Any = None
    subset: Any = None
    date: Any = None


def _facts(row: DatatroveRow, path: str) -> Facts:
    subset = as_text(row.subset) or (path.split("/")[0] if "/" in path else "default")
    return Facts(subset, as_text(row.id), as_text(row.url), as_timestamp(row.date))


ADAPTER = Adapter(DatatroveRow, "text", _facts)


@dataclass(frozen=True)
class DatatroveReader:
    """A reader over the folder of a corpus, as the recipe names it."""

    target: str
    """Its dotted path."""
    arguments: str
    """JSON of its arguments besides the folder."""
    root: str

    def identity(self) -> str:
        return f"{self.target} {self.arguments}"

    def make(self) -> Any:
        """The reader.

        Raises:
            ValueError: it cannot be imported or constructed; the message names it.
        """
        try:
            found: Any = import_installed(self.target)
            reads_files = inspect.isclass(found) and hasattr(found, "read_file")
            if not reads_files:
                raise ValueError("it does not read files; name a datatrove reader that does")
            return found(self.root, **json.loads(self.arguments))
        except Exception as error:
            first = first_line(error)
            raise ValueError(
                f"reader {self.target} cannot be used ({first}); correct `reader` or `arguments`"
            ) from None

    def tables(self, path: str) -> Iterator[pa.RecordBatch]:
        """Record batches of one file, with the columns `text`, `id`, `url`, `subset` and `date`."""
        reader = self.make()
        from datatrove.data import Document

        make = reader.get_document_from_dict

        def keep(data: dict[str, Any], path: str, number: int | str) -> Any:
            return make(data, path, number) or Document(text="", id=f"{path}/{number}")

        reader.get_document_from_dict = keep
        columns: tuple[list[Any], ...] = ([], [], [], [], [])
        for document in reader.read_file(path):
            facts = (document.text, document.id, *(document.metadata.get(name) for name in ("url", "subset", "date")))
            for column, value in zip(columns, facts, strict=True):
                column.append(None if value is None else str(value))
            if len(columns[0]) == READ_ROWS:
                yield _batch(columns)
                columns = ([], [], [], [], [])
        if columns[0]:
            yield _batch(columns)


def _batch(columns: tuple[list[Any], ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(c, pa.string()) for c in columns], ["text", "id", "url", "subset", "date"]
    )

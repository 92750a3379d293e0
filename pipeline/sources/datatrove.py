"""Any datatrove reader as a source: its files are listed like those of every source, its documents become rows.

A reader makes one Python object per document, so it is far slower than the adapters; it is for formats that fox1 does not
read itself (WARC, CSV, WebDataset). A document that a reader would discard because it has no text becomes a row with an
empty text, so that rows are counted and numbered as they stand in the file.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import pyarrow as pa

from ...storage.wording import first_line
from .adapter import Adapter, Facts, as_text, as_timestamp

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


def reader_url(reader: str, arguments: str, root: str, path: str) -> str:
    """The `url` of a source file: everything that is needed to read it."""
    parts = {"reader": reader, "arguments": arguments, "root": root, "path": path}
    return "datatrove://read?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in parts.items())


def make_reader(reader: str, arguments: str, root: str) -> Any:
    """A reader over the folder `root`.

    Raises:
        ValueError: the reader cannot be imported or constructed; the message names it.
    """
    module, _, name = reader.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(root, **json.loads(arguments))
    except Exception as error:
        first = first_line(error)
        raise ValueError(f"reader {reader} cannot be used ({first}); correct `reader` or `arguments`") from None
    if not hasattr(made, "read_file"):
        raise ValueError(f"reader {reader} does not read files; name a datatrove reader that does")
    return made


def read_documents(url: str) -> Iterator[pa.RecordBatch]:
    """Record batches of one file, with the columns `text`, `id`, `url`, `subset` and `date`."""
    query = {k: v[0] for k, v in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}
    reader = make_reader(query["reader"], query["arguments"], query["root"])
    from datatrove.data import Document

    make = reader.get_document_from_dict

    def keep(data: dict[str, Any], path: str, number: int | str) -> Any:
        return make(data, path, number) or Document(text="", id=f"{path}/{number}")

    reader.get_document_from_dict = keep
    columns: tuple[list[Any], ...] = ([], [], [], [], [])
    for document in reader.read_file(query["path"]):
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

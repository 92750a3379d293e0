"""Any datatrove reader as a source: its files are listed like those of every source, its documents become rows.

A reader makes one Python object per document, so it is far slower than the adapters; it is for formats that fox1 does not read
itself, such as WARC, whose pages become text by trafilatura, each by itself: datatrove's own step may time out, and cuts what
earlier pages said, so that its text depends on the machine and on the order. A document that a reader would discard because it
has no text becomes a row with an empty text, so that rows are counted and numbered as they stand in the file; `skip` moves no
id.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import inspect
import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pyarrow as pa

from ...storage.wording import counted, first_line
from .adapter import Adapter, Facts, as_text, as_timestamp, first_folder
from .installed import import_installed

READ_ROWS = 512


class DatatroveRow(msgspec.Struct, gc=False):
    text: str
    id: Any = None
    url: Any = None
    subset: Any = None
    date: Any = None


def _facts(row: DatatroveRow, path: str) -> Facts:
    return Facts(as_text(row.subset) or first_folder(path), as_text(row.id), as_text(row.url), as_timestamp(row.date))


ADAPTER = Adapter(DatatroveRow, "text", _facts)


CHOOSING = ("paths_file", "glob_pattern", "recursive", "skip", "limit")
"""Arguments that say which files and documents are read; they are acted on when files are listed."""
EXTRACT = "extract"
"""Argument of ours for readers of WARC: false leaves pages as they are, in HTML."""
REFUSED = {
    "data_folder": "the folder is the `root` of the source",
    "shuffle_files": "the order of files changes nothing here",
    "file_progress": "fox1 shows its own progress",
    "doc_progress": "fox1 shows its own progress",
}
"""Arguments that would do nothing, and why."""


def without_choice(arguments: str) -> str:
    """JSON of a reader's arguments without those that choose files and documents."""
    return json.dumps({k: v for k, v in json.loads(arguments).items() if k not in CHOOSING}, sort_keys=True)


@dataclass(frozen=True)
class DatatroveReader:
    """A reader over the folder of a corpus, as the recipe names it, or the part of it that reads one file."""

    target: str
    """Its dotted path."""
    arguments: str
    """JSON of its arguments besides the folder; `adapter` is a dotted path."""
    root: str
    first_row: int = 0
    """Of a file."""
    end_row: int = -1
    """The row of a file before which reading ends; -1: its end."""

    def identity(self) -> str:
        """What the rows of a file depend on: how it is read, not how it was chosen."""
        extractor = f" trafilatura {_installed('trafilatura')}" if self.extracts_pages() else ""
        part = "" if (self.first_row, self.end_row) == (0, -1) else f" {self.first_row}:{self.end_row}"
        return f"{self.target} {without_choice(self.arguments)}{extractor}{part}"

    def extracts_pages(self) -> bool:
        """Whether its documents are web pages that become text here."""
        return _reads_warc(self.target) and json.loads(self.arguments).get(EXTRACT, True) is not False

    def make(self) -> Any:
        """The reader.

        Raises:
            ValueError: it cannot be imported or constructed, or takes no such argument; the message names it.
        """
        try:
            found: Any = import_installed(self.target)
            reads_files = inspect.isclass(found) and hasattr(found, "read_file")
            if not reads_files:
                raise ValueError("it does not read files; name a datatrove reader that does")
            arguments = json.loads(self.arguments)
            if _reads_warc(self.target):
                if not isinstance(arguments.pop(EXTRACT, True), bool):
                    raise ValueError(f"`{EXTRACT}` is neither true nor false")
                _check_warc()
            _check_arguments(found, arguments)
            if adapter := arguments.get("adapter"):
                arguments["adapter"] = _adapter(adapter)
            return found(self.root, **arguments)
        except Exception as error:
            first = first_line(error)
            raise ValueError(
                f"reader {self.target} cannot be used ({first}); correct `reader` or `arguments`"
            ) from None

    def choose(self, paths: Sequence[str]) -> Iterator[tuple[str, DatatroveReader]]:
        """The files of the corpus that the arguments choose, in their order, each with what reads its part of it.

        `skip` and `limit` count documents with text over all the files, as one task of datatrove does, so these are read as
        far as it takes.

        Raises:
            ValueError: the arguments are wrong, or name a file that is not there, or choose none.
        """
        reader = self.make()
        chosen = self._chosen(reader, paths)
        skip, limit = getattr(reader, "skip", 0), getattr(reader, "limit", -1)
        if not skip and limit == -1:
            yield from ((path, self) for path in chosen)
            return
        took_any = False
        for path in chosen:
            if not limit:
                break
            first = end = -1
            for row, document in enumerate(self._documents(path)):
                if first < 0 and not skip:
                    first = row
                    if limit < 0:
                        break
                if document.text and skip:
                    skip -= 1
                elif document.text:
                    limit, end = limit - 1, row + 1
                if not limit:
                    break
            if first >= 0:
                took_any = True
                yield path, replace(self, first_row=first, end_row=end if not limit else -1)
        if not took_any:
            raise ValueError(
                f"`skip` and `limit` leave no document of the {counted(len(chosen), 'file')} below {self.root}; correct "
                "`arguments`"
            )

    def _chosen(self, reader: Any, paths: Sequence[str]) -> list[str]:
        """The paths that `paths_file`, `glob_pattern` and `recursive` choose, in datatrove's order."""
        if listed := getattr(reader, "paths_file", None):
            from datatrove.io import get_shard_from_paths_file

            try:
                named = [path for path in get_shard_from_paths_file(listed, 0, 1) if path]
            except OSError as error:
                raise ValueError(f"paths_file {listed} cannot be read ({error}); correct `arguments`") from None
            absent = sorted(set(named) - set(paths))
            twice = [path for path, n in Counter(named).items() if n > 1]
            if absent:
                raise ValueError(
                    f"paths_file {listed} names {absent[0]}, which is not below the root, or not in `files`"
                )
            if twice:
                raise ValueError(f"paths_file {listed} names {twice[0]} twice; leave one of them")
            return named
        pattern, recursive = getattr(reader, "glob_pattern", None), getattr(reader, "recursive", True)
        if not pattern and recursive:
            return sorted(paths)
        here = set(reader.data_folder.list_files(recursive=recursive, glob_pattern=pattern))
        chosen = [path for path in sorted(paths) if path in here]
        if not chosen:
            what = f"glob_pattern {pattern!r}" if pattern else "recursive: false"
            raise ValueError(f"{what} leaves no file below {self.root}; correct `arguments`")
        return chosen

    def _documents(self, path: str) -> Iterator[Any]:
        """The documents of one file, with one for each that the reader would discard because it has no text."""
        reader = self.make()
        from datatrove.data import Document

        make = reader.get_document_from_dict

        extracts = self.extracts_pages()

        def keep(data: dict[str, Any], path: str, number: int | str) -> Any:
            if extracts:
                data["text"] = _page_text(data["text"])
            return make(data, path, number) or Document(text="", id=f"{path}/{number}")

        reader.get_document_from_dict = keep
        return iter(reader.read_file(path))

    def tables(self, path: str) -> Iterator[pa.RecordBatch]:
        """Record batches of one file, with the columns `text`, `id`, `url`, `subset` and `date`, from `first_row` on."""
        columns: tuple[list[Any], ...] = ([], [], [], [], [])
        last = None if self.end_row < 0 else self.end_row
        for document in itertools.islice(self._documents(path), self.first_row, last):
            facts = (document.text, document.id, *(document.metadata.get(name) for name in ("url", "subset", "date")))
            for column, value in zip(columns, facts, strict=True):
                column.append(None if value is None else str(value))
            if len(columns[0]) == READ_ROWS:
                yield _batch(columns)
                columns = ([], [], [], [], [])
        if columns[0]:
            yield _batch(columns)


def _reads_warc(target: str) -> bool:
    return target.startswith("datatrove.") and target.endswith(".WarcReader")


def _check_warc() -> None:
    """Refuse to read WARC files without the packages that this takes.

    Raises:
        ValueError: naming those that are missing.
    """
    packages = {
        "warcio": "warcio",
        "cchardet": "faust-cchardet",
        "magic": "python-magic",
        "trafilatura": "trafilatura",
        # Without it trafilatura cannot be imported; its own metadata does not always bring it.
        "lxml_html_clean": "lxml-html-clean",
    }
    if missing := [package for module, package in packages.items() if importlib.util.find_spec(module) is None]:
        raise ValueError(f"WARC files need {', '.join(missing)}; install fox1 with the extra `warc`")


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


_HTML = re.compile(r"<(?:!doctype|html|head|body|div|p)\b", re.IGNORECASE)


def _page_text(page: str) -> str:
    """The main text of a web page, empty where there is none; what is no HTML, such as a record of a WET file, as it is."""
    if not _HTML.search(page):
        return page
    from trafilatura import extract

    # A page without text is a row without text, which is counted.
    logging.getLogger("trafilatura").setLevel(logging.ERROR)
    return extract(page, favor_precision=True, include_comments=False, deduplicate=False) or ""


def _check_arguments(reader: type, arguments: Mapping[str, Any]) -> None:
    """Refuse what a reader would not act on.

    Raises:
        ValueError: naming the argument.
    """
    parameters = inspect.signature(reader).parameters
    known = [name for name in parameters if name not in REFUSED]
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name, value in arguments.items():
        if name in REFUSED:
            raise ValueError(f"leave out the argument `{name}`: {REFUSED[name]}")
        if name not in known and not open_ended:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean `{close[0]}`?" if close else f"it takes {', '.join(known)}"
            raise ValueError(f"it has no argument `{name}`; {meant}")
        least = {"skip": 0, "limit": -1}.get(name)
        if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"`{name}` is {value!r}, not a number of documents")


def _adapter(target: Any) -> Any:
    """The function that an `adapter` names, `(self, data, path, id_in_file) -> dict`.

    Raises:
        ValueError: it is no dotted path of one.
    """
    if not isinstance(target, str) or "." not in target:
        raise ValueError(f"`adapter` is {target!r}; write the dotted path of a function of an installed package")
    if not callable(found := import_installed(target)):
        raise ValueError(f"`adapter` {target} is no function")
    return found


def _batch(columns: tuple[list[Any], ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(c, pa.string()) for c in columns], ["text", "id", "url", "subset", "date"]
    )

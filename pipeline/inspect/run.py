"""A finished run, opened by its manifest: from names to documents, their facts, token ids and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...storage.store import open_root, shown
from ..run.artifacts import read_json
from ..run.documents import RunDocuments
from ..run.identity import MAX_ROWS, TOKENS, FilesById, SourceFile
from ..run.parquet_rows import row_of
from ..run.paths import RunPaths
from ..sources.extracted import with_extracted
from ..sources.source_row import SourceRow, source_row
from ..sources.token_files import subset_of
from ..text.excerpts import RawRow, check_raw_row, raw_row, scanned_row


def by_id(sources: Callable[[str], Sequence[SourceFile]]) -> Callable[[str], FilesById]:
    """The files of a corpus by the ids of their documents; each corpus is listed when it is first asked for."""
    return cache(lambda corpus: FilesById(sources(corpus)))


class FinishedRun(RunDocuments):
    """A finished run, by its manifest: its documents, and their text from the sources."""

    def __init__(self, paths: RunPaths, sources: Callable[[str], Sequence[SourceFile]] = lambda _: ()) -> None:
        """`sources` lists the files of a corpus; it is called when a text of it is first asked for."""
        super().__init__(paths)
        self._listed = by_id(sources)

    def copied(self, path: Path) -> Path:
        """The path of one of the run's tables.

        Raises:
            ValueError: the manifest has it, but it is missing, as in a copy of a part of the run.
        """
        if path.relative_to(self.paths.root).as_posix() in self.manifest["artifacts"] and not path.exists():
            raise ValueError(f"{shown(path)} is missing; copy the whole run, or run `fox1 curate` again to rebuild it")
        return path

    def cut_row(self, doc_id: int) -> pa.RecordBatch | None:
        """`CUT_SCHEMA` of a document: all its edits, and the passages among them; None where the run cuts none."""
        file = self.file(doc_id)
        if "cuts" not in self.manifest["artifacts"].folders:
            return None
        return row_of(self.copied(self.paths.cuts(file.corpus, file.part)), doc_id)

    def text(self, doc_id: int) -> pa.LargeStringArray:
        """The raw text of a document, read from its source; of one that steps of `before_scan` were given, what they made of it,
        which the run has stored.

        Raises:
            ValueError: the source is gone, has no such row, or holds another text than was scanned.
        """
        text: pa.LargeStringArray = self.row(doc_id).column("text")
        return text

    def row(self, doc_id: int) -> pa.RecordBatch:
        """A document's row as its source gives it, of `TEXT_SCHEMA`; errors are those of `text`."""
        named = self.file(doc_id)
        if named.format == TOKENS:
            raise ValueError(f"{self.name(doc_id)} came as token ids; it has no other text than what they stand for")
        file: SourceFile | None = self._with_extracted(doc_id)
        if file is None or not file.extracted:
            file = self._listed(named.corpus).get(doc_id)
        found = scanned_row(self.paths, file, doc_id % MAX_ROWS) if file else None
        if found is None:
            raise self._gone(doc_id)
        return found

    def given_ids(self, doc_id: int) -> list[int] | None:
        """The token ids of a document that came as such, without BOS and EOS; None if none of its file was taken by this id."""
        return self.ids(doc_id, subset_of(self.file(doc_id)))

    def _with_extracted(self, doc_id: int) -> SourceFile:
        return with_extracted(self.file(doc_id), self.paths, self.manifest["artifacts"])

    def raw_row(self, doc_id: int) -> RawRow | None:
        """What steps of `before_scan` were given as the text of a document; None where there are none."""
        return raw_row(self._with_extracted(doc_id), doc_id % MAX_ROWS)

    def check_raw_row(self, doc_id: int, stored: RawRow) -> None:
        """Read the row of such a document from its source, and compare.

        Raises:
            ValueError: the source is gone, or holds another text.
        """
        file = self._listed(self.file(doc_id).corpus).get(doc_id)
        if file is None:
            raise self._gone(doc_id)
        check_raw_row(file, doc_id % MAX_ROWS, stored)

    def source_row(self, doc_id: int) -> SourceRow:
        """The row of a document as it stands in its source file.

        Raises:
            ValueError: the source is gone, or has no such row.
            OSError: it cannot be opened.
        """
        file = self._listed(self.file(doc_id).corpus).get(doc_id)
        if file is None:
            raise self._gone(doc_id)
        return source_row(file, doc_id % MAX_ROWS)

    def _gone(self, doc_id: int) -> ValueError:
        return ValueError(
            f"{self.name(doc_id)} can no longer be read from its source; put the file back where the recipe's `root` has it"
        )


def phase_names(paths: RunPaths) -> list[str]:
    """The phases of a finished run, in order."""
    return [phase["name"] for phase in read_json(paths.stats("mixture"))["phases"]]


def phase_named(names: Sequence[str], asked: str | int) -> str:
    """The name of a phase, from its name or its number from 1.

    Raises:
        ValueError: there is none.
    """
    asked = str(asked)
    if asked in names:
        return asked
    if asked.isdigit() and 1 <= int(asked) <= len(names):
        return names[int(asked) - 1]
    raise ValueError(f"the run has no phase {asked}; it has {', '.join(names)}, by number from 1 or by name")


def shard_set(paths: RunPaths, asked: str | int) -> Path:
    """The folder of a phase by name or number, or of `held_out`.

    Raises:
        ValueError: the run has no such phase.
    """
    return paths.held_out if asked == "held_out" else paths.phase(phase_named(phase_names(paths), asked))


def stored_run(name: str) -> Path | None:
    """The folder of a run by its path or URL; None where that is something else, such as a recipe's name."""
    root = open_root(name)
    return root if RunPaths(root).recipe.exists() else None


def index_parts(paths: RunPaths, manifest: dict[str, Any], kind: str = "blocks") -> list[Path]:
    """The parts of an index of a run, in order."""
    return [paths.named(n) for n in manifest["artifacts"].below(f"index/{kind}-")]

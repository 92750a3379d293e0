"""The documents of a finished run by their ids: name, source file, and the token ids that the run stored."""

from __future__ import annotations

from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import token_batches
from .identity import MAX_ROWS, ROW_BITS, FilesById, SourceFile, files_of_table, group_files
from .manifest import read_manifest
from .parquet_rows import place_of
from .paths import RunPaths


class RunDocuments:
    """The documents of a finished run, from its manifest and its token shards. No source is read."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.manifest = read_manifest(paths)
        self.files = FilesById(files_of_table(self.manifest["files"]))
        """Those whose documents were scanned and decided."""
        self.given = FilesById(files_of_table(self.manifest["files"], given=True))
        """Those that hold token ids."""
        self._groups: dict[int, str] = {}
        """Id of a file's first row -> name of the file's group within its corpus."""

    @property
    def tokenizer(self) -> TokenizerSettings:
        """How the run's text became tokens."""
        return TokenizerSettings.from_json(self.manifest["tokenizer"])

    def doc_id(self, name: str) -> int:
        """The id of `corpus/file#row`, or of an id given as a number.

        Raises:
            ValueError: the run has no such file; the message shows one it has.
        """
        if name.isdigit():
            return int(name)
        path, _, row = name.rpartition("#")
        found = next((f for files in (self.files, self.given) for f in files if f.name == path), None)
        if found is None or not row.isdigit():
            example = next(f for files in (self.files, self.given) for f in files).name
            raise ValueError(
                f"{name}: write corpus/file#row with a file of the run, such as {example}#0, or a document id"
            )
        return found.file_hash << ROW_BITS | int(row)

    def file(self, doc_id: int) -> SourceFile:
        """The source file that holds a document.

        Raises:
            ValueError: no file of the run holds it.
        """
        found = self._file(doc_id)
        if found is None:
            raise ValueError(f"document {doc_id} is in no file of {self.paths.root}; is it the id of another run?")
        return found

    def name(self, doc_id: int) -> str:
        """`corpus/file#row`; for a document of another run, its id."""
        found = self._file(doc_id)
        return f"{found.name}#{doc_id % MAX_ROWS}" if found else f"document {doc_id} of the run in `against`"

    def _file(self, doc_id: int) -> SourceFile | None:
        return self.files.get(doc_id) or self.given.get(doc_id)

    def ids(self, doc_id: int, subset: str) -> list[int] | None:
        """The token ids of a kept document, without BOS and EOS, from its token shard; None if the shard lacks it."""
        if not self._groups:
            for group in group_files([*self.files, *self.given]):
                self._groups |= {f.first_id: group.name.split("/")[1] for f in group.files}
        file = self.file(doc_id)
        shard = self.paths.tokens(file.corpus, subset, self._groups[file.first_id])
        if not shard.exists():
            return None
        for batch in token_batches(shard):
            at = place_of(batch.column("doc_id"), doc_id)
            if at >= 0:
                found: list[int] = batch.column("input_ids")[at].as_py()
                return found
        return None

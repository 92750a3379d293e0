"""What a run leaves on disk: names, schemas, and the one way to publish a file.

Publishing writes beside and renames, so a reader sees a whole file or none. Two attempts at one task write equal
bytes, so either may win. Readers follow completion records and the manifest, never a directory listing. Whoever publishes or
deletes asks the lease of the run first: what lost it writes nothing more, and no link below the run is followed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ...storage import reading, store
from ...storage.disk import writing
from ...storage.inside import is_partial, named, partial, refuse_links
from ...storage.lease import Lease, allow_write
from ...storage.names import stays_below
from ...storage.scratch import make_room
from .columns import Columns, open_columns

STAGES = ("prepare", "scan", "filter", "dedupe", "tokenize", "mix", "stats")
"""In their order; a step of a stage is named `<stage>.<step>`."""

ROW_GROUP_ROWS = 8192
"""Rows of a Parquet row group: a constant of the format, so that bytes do not depend on how rows arrived."""
SIGNAL_GROUP_ROWS = 65_536
"""The same of `signals/` and `signatures/`, of which a few columns are read at a time: fewer rows of one would not be worth
a request to a store."""

FINAL = (
    *("extracted", "prepare", "signals", "signatures", "scores", "decisions", "cuts"),
    *("tokens", "phases", "held_out", "index", "stats"),
)
"""Folders of a run whose files are equal byte for byte, whatever the workers, the order of files, retries or kills."""

EDIT_TYPE = pa.list_(
    pa.field(
        "edit",
        pa.struct(
            [
                pa.field("start", pa.int64(), nullable=False),
                pa.field("end", pa.int64(), nullable=False),
                pa.field("kind", pa.uint8(), nullable=False),
                pa.field("replacement", pa.string(), nullable=False),
            ]
        ),
        nullable=False,
    )
)
"""Sorted byte spans in the raw UTF-8, each with a kind and a replacement."""


def _field(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


DECISION_SCHEMA = pa.schema(
    [
        _field("corpus", pa.string()),
        _field("file", pa.string()),
        _field("row", pa.int64()),
        _field("doc_id", pa.uint64()),
        _field("kept", pa.bool_()),
        _field("reason", pa.string()),
        _field("reasons", pa.list_(pa.field("reason", pa.string(), nullable=False))),
        _field("duplicate_of", pa.uint64()),
        _field("similarity", pa.float32()),
        _field("kind", pa.string()),
        _field("cluster_size", pa.uint32()),
    ]
)
"""One row per document of a source file, in row order. `duplicate_of` is 0 and `kind` empty where there is none."""

CUT_SCHEMA = pa.schema(
    [
        _field("doc_id", pa.uint64()),
        _field("edits", EDIT_TYPE),
        _field(
            "passages",
            pa.list_(
                pa.field(
                    "passage",
                    pa.struct(
                        [
                            pa.field("start", pa.int64(), nullable=False),
                            pa.field("end", pa.int64(), nullable=False),
                            pa.field("kind", pa.uint8(), nullable=False),
                            pa.field("kept_in", pa.uint64(), nullable=False),
                        ]
                    ),
                    nullable=False,
                )
            ),
        ),
    ]
)
"""One row per document of a source file, in row order: all its edits, and the passages that were cut, as spans of the raw UTF-8
with the document that keeps each. Those of several kinds may overlap."""


@dataclass(frozen=True)
class Artifact:
    """A published file: what the manifest says of it."""

    path: str
    """Absolute in a task's result; relative to the run in records and the manifest."""
    bytes: int
    rows: int
    hash: str
    modified: int = 0
    """When the file was written, in its file system's nanoseconds; 0 in a store, where files cannot be changed in place."""

    @property
    def file(self) -> Path:
        """Where it lies, on whichever node this is."""
        return store.as_path(self.path)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class FileSet:
    """Files that a task reads together, with one digest for what they hold: thousands of hashes in the key of each of
    thousands of tasks would cost the driver more than the tasks. So would thousands of paths in the arguments of each: the
    engine hands on where they are listed.
    """

    files: tuple[str, ...] = ()
    """Paths of the files themselves; none where they are listed. Text, as the driver makes thousands that it never opens."""
    digest: str = ""
    listed: FileList | None = None

    @classmethod
    def of(cls, artifacts: Iterable[Artifact]) -> FileSet:
        """These files, in this order."""
        chosen = list(artifacts)
        return cls(tuple(a.path for a in chosen), content_key([a.hash for a in chosen])) if chosen else cls()

    @classmethod
    def filled(cls, artifacts: Iterable[Artifact]) -> FileSet:
        """Those of some files that have rows."""
        return cls.of(a for a in artifacts if a.rows)

    def __add__(self, more: FileSet) -> FileSet:
        assert not (self.listed or more.listed), "only the driver adds files, and lists them afterwards"
        if not (self.files and more.files):
            return self if self.files else more
        return FileSet(self.files + more.files, content_key([self.digest, more.digest]))

    def __iter__(self) -> Iterator[Path]:
        return self.listed.read() if self.listed else map(store.as_path, self.files)

    def __len__(self) -> int:
        return self.listed.count if self.listed else len(self.files)

    def identity(self) -> str:
        """What it adds to the key of a task."""
        return self.digest


@dataclass(frozen=True)
class FileList:
    """A published list of files. It lives as long as the step whose tasks read it."""

    path: Path
    root: Path
    """The folder that all the files lie below."""
    count: int

    @classmethod
    def write(cls, files: Sequence[str], paths: RunPaths) -> FileList:
        """List files, under a name that follows from theirs."""
        root = store.as_path(os.path.commonpath([os.path.dirname(file) for file in files]))
        names = [file[len(str(root)) + 1 :] for file in files]
        path = paths.lists(content_key(str(root), names))
        write_json(path, names, dense=True)
        return cls(path, root, len(names))

    def read(self) -> Iterator[Path]:
        """The files.

        Raises:
            ValueError: the list is damaged, or names a file outside its folder.
        """
        names = reading.read_json(self.path)
        if not isinstance(names, list) or len(names) != self.count or not all(map(stays_below, names)):
            raise ValueError(f"{store.shown(self.path)} is damaged; run the same command again")
        return (self.root / name for name in names)


class Publication:
    """An open file that hashes what is written and becomes visible under its name when closed without an error."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows = path, rows
        self.temporary = partial(path.parent)
        allow_write(path)
        with writing(path):
            self._file = self._open()
        self._hash = xxhash.xxh3_128()
        self._bytes = 0
        self.artifact: Artifact

    def _open(self) -> IO[bytes]:
        try:
            return open(self.temporary, "xb")
        except FileNotFoundError:
            # Most files go where others already are.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return open(self.temporary, "xb")

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if isinstance(self.path, store.Mirrored):
            make_room(view.nbytes)
        with writing(self.path):
            self._file.write(view)
        self._hash.update(view)
        self._bytes += view.nbytes
        return view.nbytes

    # pyarrow writes through the Python file protocol.
    closed = False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Called by pyarrow; publishing happens in `commit`."""

    def commit(self) -> None:
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            allow_write(self.path)
            os.replace(self.temporary, str(self.path))
        if not store.create(self.path):
            # Of a paused process, the request that was under way ends here: it cannot replace what came meanwhile.
            allow_write(self.path, afresh=True)
            store.upload(self.path)
        modified = store.modified(self.path)
        self.artifact = Artifact(str(self.path), self._bytes, self.rows, self._hash.hexdigest(), modified)

    def discard(self) -> None:
        # A disk that is full or read-only refuses this as well; what it leaves goes when the next run begins.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.temporary.unlink()


@contextmanager
def publish(path: Path, rows: int = 0) -> Iterator[Publication]:
    """Write `path` atomically; afterwards ``.artifact`` holds size, rows and hash. Set ``.rows`` inside if unknown."""
    publication = Publication(path, rows)
    try:
        yield publication
        publication.commit()
    except BaseException:
        publication.discard()
        raise


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema, group_rows: int = ROW_GROUP_ROWS) -> Iterator[ParquetOut]:
    """A Parquet file of constant row groups, published when the block ends."""
    with publish(path) as out:
        writer = ParquetOut(out, schema, group_rows)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.finish()
    writer.artifact = out.artifact


class ParquetOut:
    """Buffers batches into row groups of a constant size, so that bytes are a function of the rows alone."""

    artifact: Artifact

    def __init__(self, out: Publication, schema: pa.Schema, group_rows: int) -> None:
        self._out = out
        self._schema = schema
        self._group_rows = group_rows
        self._writer = pq.ParquetWriter(out, schema, compression="zstd", store_schema=True)
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._out.rows += batch.num_rows
        if self._held_rows >= self._group_rows:
            table = pa.Table.from_batches(self._held, self._schema).combine_chunks()
            whole = table.num_rows - table.num_rows % self._group_rows
            self._writer.write_table(table.slice(0, whole), row_group_size=self._group_rows)
            self._held = table.slice(whole).to_batches()
            self._held_rows = table.num_rows - whole

    def end_group(self) -> None:
        """Let the next row begin a row group: whoever calls this decides by the rows alone."""
        if self._held_rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema).combine_chunks())
            self._held, self._held_rows = [], 0

    def finish(self) -> None:
        if self._held_rows or not self._out.rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema).combine_chunks())
        self._writer.close()

    def abandon(self) -> None:
        """Close what will not be published: later, pyarrow would write to the closed file and complain on the terminal."""
        with suppress(Exception):
            self._writer.close()


def write_json(path: Path, value: object, dense: bool = False) -> Artifact:
    """Publish `value` as JSON with sorted keys: equal values give equal bytes.

    Args:
        dense: on one line, for what only fox1 reads: the standard library writes it ten times as fast.
    """
    text = as_json(value) if dense else json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    with publish(path) as out:
        out.write(text.encode() + b"\n")
    return out.artifact


def content_key(*parts: object) -> str:
    """A hash over the JSON of `parts`: the key of a task or the name of a plan."""
    return hash_of(as_json(parts))


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""Made once: a run has a million keys."""


def as_json(value: object) -> str:
    """The one text of a value that is hashed."""
    return _encode(value)


def hash_of(text: str) -> str:
    """The hash of such a text."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def row_groups(path: Path, key: str, first: int, last: int) -> Iterator[tuple[Columns, int]]:
    """(open file, number) of the row groups of a Parquet file of ours whose `key` may lie in ``first .. last``, by their
    statistics: what lets a lookup read a few thousand rows, however many there are."""
    with open_columns(path) as file:
        shape = file.metadata
        place = next((i for i in range(shape.num_columns) if shape.schema.column(i).path == key), None)
        if place is None:
            raise ValueError(
                f"{store.shown(path)} is damaged (it has no column {key}); run `fox1 curate` again to rebuild it"
            )
        for group in range(file.num_row_groups):
            facts = shape.row_group(group).column(place).statistics
            if facts and facts.min <= last and facts.max >= first:
                yield file, group


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one run lies. Names that come from files of the run never lead out of it."""

    root: Path
    state: str = ""
    """Folder below the root of records and timings; empty: the root."""
    lease: Lease | None = field(default=None, compare=False, repr=False)
    """What its files are written under; None: they are only read."""

    def named(self, name: str) -> Path:
        """A file of the run by its name in a record or the manifest.

        Raises:
            ValueError: the name leads out of the run, or through a symbolic link.
        """
        return named(self.root, name)

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def training(self) -> Path:
        return self.root / "training.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def tokenizer(self) -> Path:
        return self.named("prepare/tokenizer.model")

    def prepare(self, name: str) -> Path:
        return self.named(f"prepare/{name}")

    def extracted(self, corpus: str, path: str) -> Path:
        return self.named(f"extracted/{corpus}/{path}.parquet")

    def signals(self, corpus: str, path: str) -> Path:
        return self.named(f"signals/{corpus}/{path}.parquet")

    def signatures(self, corpus: str, path: str) -> Path:
        return self.named(f"signatures/{corpus}/{path}.parquet")

    def scores(self, corpus: str, path: str) -> Path:
        return self.named(f"scores/{corpus}/{path}.parquet")

    def quarantine(self, corpus: str, path: str) -> Path:
        return self.named(f"quarantine/{corpus}/{path}.jsonl")

    def filtered(self, group: str) -> Path:
        return self.named(f"filtered/{group}.parquet")

    def dedupe(self, name: str) -> Path:
        return self.named(f"dedupe/{name}")

    def decisions(self, corpus: str, path: str) -> Path:
        return self.named(f"decisions/{corpus}/{path}.parquet")

    def first_decisions(self, corpus: str, path: str) -> Path:
        """The decisions on documents, where passages are cut after them."""
        return self.named(f"dedupe/decided/{corpus}/{path}.parquet")

    def cuts(self, corpus: str, path: str) -> Path:
        return self.named(f"cuts/{corpus}/{path}.parquet")

    def tokens(self, corpus: str, subset: str, index: str) -> Path:
        # Subsets are read from rows: no name of theirs may leave the folder. Dots are quoted too, for `..`.
        place = Path("tokens", corpus, quote(subset, safe="").replace(".", "%2E"), f"{index}.arrow")
        return self.named(place.as_posix())

    def mix(self, name: str) -> Path:
        return self.named(f"mix/{name}")

    def counts(self, name: str) -> Path:
        """What tasks counted, for others that add it together."""
        return self.named(f"counts/{name}")

    def phase(self, name: str) -> Path:
        return self.named(f"phases/{name}")

    @property
    def held_out(self) -> Path:
        return self.named("held_out")

    def index(self, name: str) -> Path:
        return self.named(f"index/{name}")

    def stats(self, name: str) -> Path:
        return self.named(f"stats/{name}.json")

    def record(self, stage: str, task: str) -> Path:
        return self.records / stage / self.record_name(task)

    @staticmethod
    def record_name(task: str) -> str:
        """Of the file in the folder of its step."""
        name = quote(task, safe="")
        if len(name) > 200:  # file systems end names at 255 bytes
            name = f"{name[:150]}-{xxhash.xxh3_64_hexdigest(task.encode())}"
        return f"{name}.json"

    @property
    def records(self) -> Path:
        return self.root / self.state / "records"

    @property
    def parts(self) -> Path:
        return self.root / self.state / "parts"

    def lists(self, name: str) -> Path:
        return self.root / self.state / "lists" / f"{name}.json"

    def timings(self, name: str) -> Path:
        return self.root / self.state / "timings" / name

    def relative(self, artifact: Artifact) -> Artifact:
        """An artifact with its name in the run."""
        return replace(artifact, path=self.name_of(artifact))

    def name_of(self, artifact: Artifact) -> str:
        """The name in the run of a file of it."""
        root = f"{self.root}/"
        assert artifact.path.startswith(root), f"{artifact.path} is no file of {self.root}"
        return artifact.path[len(root) :]


def remove(path: Path) -> None:
    """Delete a file of ours, if it is there: itself, never what a link leads to."""
    allow_write(path)
    path.unlink(missing_ok=True)


def remove_partial(run: Path) -> None:
    """Delete what killed attempts and drivers left behind. Only the holder of the lease may call this."""
    for path in (run / "lists").glob("*.json"):
        remove(path)
    for directory, _, names in os.walk(str(run)):
        for name in filter(is_partial, names):
            remove(Path(directory, name))


def read_json(path: Path, parse: Callable[[bytes], Any] = reading.parse_json) -> dict[str, Any]:
    """Parse a JSON object of ours.

    Args:
        parse: raises `Misshapen` for what is no JSON.

    Raises:
        ValueError: it is missing, a symbolic link, damaged, or no file that fox1 writes; the message names it.
    """
    refuse_links(path.parent, path)
    try:
        value = parse(reading.read_bounded(path, reading.JSON_BYTES))
        if not isinstance(value, dict):
            raise reading.Misshapen("it is not an object")
        return value
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{store.shown(path)} is missing; is this a finished run? `fox1 curate` makes it") from None
    except reading.Misshapen as error:
        raise ValueError(f"{store.shown(path)} is damaged ({error}); delete it and run the stage again") from None


def merge_counts(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts to others, key by key, in place."""
    for key, value in more.items():
        into[key] = into.get(key, 0) + value

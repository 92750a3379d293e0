"""The manifest of a run: its file table, and every artifact with its size, rows and hash. It is what readers follow.

    manifest.json                    the source files, the tokenizer, and for each folder of the run the file that lists it
    manifest/<folder>-<hash>.arrow   the files of a folder by their names: `published.LISTED`

A run of the full recipe has a million artifacts. A reader opens the lists of the folders that it needs, and finds a name by
bisection. A list is named by what it holds, so that `manifest.json` always finds the one that it was written with.
"""

from __future__ import annotations

import bisect
import itertools
import json
import mmap
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
import yaml

from ...storage.names import stays_below
from ...storage.reading import Misshapen, open_regular
from ...storage.store import files_below, shown
from ...storage.wording import first_line, printable
from ...tokenize.model import TokenizerSettings
from .artifacts import Artifact, publish, read_json, remove
from .identity import FILE_BITS, MAX_ROWS, Piece, SourceFile, file_table
from .paths import RunPaths
from .published import LISTED, sorted_by_path, table_of

VERSION = 2
FOLDER = "manifest"
AT_ROOT = "run"
"""Stands for a folder where files lie in the run's folder itself."""
_LIST = re.compile(rf"{FOLDER}/([a-z_]{{1,32}})-[0-9a-f]{{32}}\.arrow")
LIST_BATCH = 1 << 16
"""Rows of a record batch of a list."""


@dataclass(frozen=True)
class ListOfFiles:
    """The list of a folder's files, in the manifest."""

    folder: str
    file: str
    """Its name in the run."""
    bytes: int
    rows: int
    hash: str


class _File(msgspec.Struct, frozen=True, gc=False):
    """A source file in the manifest."""

    corpus: str
    path: str
    file_hash: int
    size: int
    held_out: bool
    format: str
    pieces: tuple[Piece, ...] = ()
    domain: str = ""


@dataclass(frozen=True)
class _Manifest:
    """The shape of `manifest.json`."""

    version: int
    files: tuple[_File, ...]
    tokenizer: dict[str, Any]
    artifacts: tuple[ListOfFiles, ...]
    against: str = ""


@dataclass(frozen=True)
class _Listed:
    """An artifact in a manifest of version 1, beside its path."""

    bytes: int
    rows: int
    hash: str


@dataclass(frozen=True)
class _FirstManifest:
    """The shape of a `manifest.json` of version 1, which lists the artifacts itself."""

    version: int
    files: tuple[_File, ...]
    tokenizer: dict[str, Any]
    artifacts: dict[str, _Listed]
    against: str = ""


class Artifacts(Mapping[str, dict[str, Any]]):
    """The artifacts of a run: name -> bytes, rows and hash, in the order of the names within a folder.

    A list is opened, and checked, when it is first asked for; what is wrong with it is a ValueError that names it.
    """

    def __init__(self, paths: RunPaths, lists: Sequence[ListOfFiles] = (), tables: Sequence[pa.Table] = ()) -> None:
        """
        Args:
            lists: of the manifest, by folder.
            tables: of artifacts that no list holds.
        """
        self._paths = paths
        self._lists = {each.folder: each for each in lists}
        self._tables = dict(_by_folder(tables)) if tables else {}

    @property
    def lists(self) -> list[ListOfFiles]:
        """What the manifest says of its lists; none for a manifest of version 1."""
        return list(self._lists.values())

    @property
    def folders(self) -> list[str]:
        """The folders that have files; `AT_ROOT` for the run's own."""
        return sorted(self._lists.keys() | self._tables.keys())

    def table(self, folder: str) -> pa.Table:
        """The files of a folder by their names, with the columns of `LISTED`."""
        if folder not in self._tables:
            listed = self._lists.get(folder)
            self._tables[folder] = _open_list(self._paths, listed) if listed else LISTED.empty_table()
        return self._tables[folder]

    def below(self, prefix: str) -> Iterator[str]:
        """Names that begin so; the prefix ends after the first slash."""
        table = self.table(prefix.partition("/")[0])
        paths = table.column("path").combine_chunks()
        for at in range(_first_from(paths, prefix), len(paths)):
            if not (name := paths[at].as_py()).startswith(prefix):
                return
            yield name

    def __getitem__(self, name: str) -> dict[str, Any]:
        folder = _folder_of(name)
        if folder not in self._lists and folder not in self._tables:
            # An empty table would import pandas.
            raise KeyError(name)
        table = self.table(folder)
        paths = table.column("path").combine_chunks()
        at = _first_from(paths, name)
        if at == len(paths) or paths[at].as_py() != name:
            raise KeyError(name)
        return {column: table.column(column)[at].as_py() for column in LISTED.names[1:]}

    def __iter__(self) -> Iterator[str]:
        for folder in self.folders:
            for chunk in self.table(folder).column("path").chunks:
                yield from chunk.to_pylist()

    def __len__(self) -> int:
        apart = sum(table.num_rows for folder, table in self._tables.items() if folder not in self._lists)
        return sum(each.rows for each in self._lists.values()) + apart


def _folder_of(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else AT_ROOT


def _by_folder(tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """All files of some tables, folder by folder."""
    table = sorted_by_path(tables)
    if not table.num_rows:
        return
    paths = table.column("path")
    nested = pc.match_substring(paths, "/")
    folders = pc.if_else(nested, pc.replace_substring_regex(paths, "/.*", ""), AT_ROOT)
    for folder in sorted(pc.unique(folders).to_pylist()):
        yield folder, table.filter(pc.equal(folders, folder)).combine_chunks()


def _first_from(paths: pa.StringArray, name: str) -> int:
    """Where the first of some sorted names stands that is not before a name."""
    return bisect.bisect_left(range(len(paths)), name, key=lambda at: paths[at].as_py())


def _open_list(paths: RunPaths, listed: ListOfFiles) -> pa.Table:
    """The table of a list, memory-mapped.

    Raises:
        ValueError: it is missing, damaged, or has a name that leads out of the run; the message names it.
    """
    path = paths.named(listed.file)
    try:
        with open_regular(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(data) != listed.bytes:
            raise Misshapen(f"it has {len(data):,} bytes, not {listed.bytes:,}")
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        if not table.schema.equals(LISTED):
            raise Misshapen("it has other columns")
        # Arrow trusts lengths and offsets; following damaged ones could crash the process.
        table.validate(full=True)
        _check_names(table, listed.folder)
        if table.num_rows != listed.rows:
            raise Misshapen(f"it has {table.num_rows:,} rows, not {listed.rows:,}")
        return table.combine_chunks()
    except FileNotFoundError:
        raise ValueError(
            f"{shown(path)} is missing; if the run is being written, wait until that ends, else run `fox1 curate` again"
        ) from None
    except (ValueError, pa.ArrowException, OSError) as error:
        said = printable(first_line(error))
        raise ValueError(f"{shown(path)} is damaged ({said}); run `fox1 curate` again to rewrite it") from None


def _check_names(table: pa.Table, folder: str = "") -> None:
    """Raise ValueError unless names stay in the run and in their folder, are in order, and have sizes.

    Args:
        folder: empty: any.
    """
    paths = table.column("path")
    if any(column.null_count for column in table.columns):
        raise ValueError("a column contains nulls")
    outside = pc.match_substring_regex(paths, r"(^|/)(\.\.?)?(/|$)|\x00")
    if folder:
        inside = pc.match_substring(paths, "/") if folder == AT_ROOT else pc.invert(pc.starts_with(paths, f"{folder}/"))
        outside = pc.or_(outside, inside)
    if pc.any(outside).as_py():
        raise ValueError(f"the name {paths.filter(outside)[0].as_py()[:100]!r} leads out of the run")
    if len(paths) > 1 and not pc.all(pc.less(paths.slice(0, len(paths) - 1), paths.slice(1))).as_py():
        raise ValueError("its names are not in order")
    least = pc.min_element_wise(table.column("bytes"), table.column("rows"))
    # Not `pc.less` with a number: that imports pandas, which takes longer than a look at a run.
    if (pc.min(least).as_py() or 0) < 0:
        raise ValueError(f"{paths.filter(pc.less(least, 0))[0].as_py()[:100]!r} has a negative size")


def is_finished(manifest: Mapping[str, Any]) -> bool:
    """Whether the last `curate` of a run came to its end, by what `read_manifest` gives."""
    return "stats" in manifest["artifacts"].folders


def run_files(paths: RunPaths, recipe: dict[str, Any], training: dict[str, Any]) -> dict[Path, bytes]:
    """What a run says of its own making: the resolved recipe, and the settings the trainer reads (without YAML)."""
    return {
        paths.recipe: yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).encode(),
        paths.training: json.dumps(training, indent=1).encode() + b"\n",
    }


def write_manifest(
    paths: RunPaths,
    files: Sequence[SourceFile],
    published: Iterable[pa.Table],
    tokenizer: TokenizerSettings,
    against: str = "",
    further: Mapping[Path, bytes] | None = None,
) -> None:
    """Publish the manifest of the stages that were run so far.

    Args:
        files: those that were cut as their pieces.
        published: tables of artifacts with their names in the run, see `published.py`; later ones replace earlier ones.
        against: the finished run that this one's documents were compared with.
        further: what was published of `run_files`, so that `fox1 verify` covers it.
    """
    own = [
        (path.relative_to(paths.root).as_posix(), Artifact(str(path), len(data), 0, xxhash.xxh3_128_hexdigest(data)))
        for path, data in (further or {}).items()
    ]
    manifest = {
        "version": VERSION,
        "files": file_table(files),
        "tokenizer": asdict(tokenizer),
    }
    if against:
        manifest["against"] = against
    _publish(paths, manifest, Artifacts(paths, tables=[*published, table_of(own)]))


def without_folders(paths: RunPaths, manifest: Mapping[str, Any], folders: Collection[str]) -> None:
    """Publish the manifest of a run without the files of some folders.

    Args:
        manifest: as `read_manifest` gives it.
    """
    artifacts: Artifacts = manifest["artifacts"]
    kept = [artifacts.table(folder) for folder in artifacts.folders if folder not in folders]
    _publish(paths, {**manifest, "version": VERSION}, Artifacts(paths, tables=kept))


def _publish(paths: RunPaths, manifest: Mapping[str, Any], artifacts: Artifacts) -> None:
    """Publish a manifest and its lists, and remove the lists that it no longer names."""
    lists = [_write_list(paths, folder, artifacts.table(folder)) for folder in artifacts.folders]
    value = {**manifest, "artifacts": [asdict(each) for each in lists]}
    with publish(paths.manifest) as out:
        # Of some ten thousand files: many times as fast as the standard library.
        data = msgspec.json.encode(value, order="sorted", enc_hook=_text)
        out.write(msgspec.json.format(data, indent=1) + b"\n")
    names = {each.file for each in lists}
    folder = paths.named(FOLDER)
    there = (path.relative_to(paths.root).as_posix() for path, _ in files_below(folder))
    for name in sorted(name for name in there if _LIST.fullmatch(name) and name not in names):
        remove(paths.named(name))


def _text(value: object) -> str:
    """An address, or another text with a class of its own, as JSON has it."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot stand in a manifest")


def _write_list(paths: RunPaths, folder: str, table: pa.Table) -> ListOfFiles:
    """Publish the list of a folder, unless it is there."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, LISTED) as writer:
        writer.write_table(table, max_chunksize=LIST_BATCH)
    data = sink.getvalue().to_pybytes()
    digest = xxhash.xxh3_128_hexdigest(data)
    name = f"{FOLDER}/{folder}-{digest}.arrow"
    path = paths.named(name)
    if not _holds(path, data):
        with publish(path, table.num_rows) as out:
            out.write(data)
    return ListOfFiles(folder, name, len(data), table.num_rows, digest)


def _holds(path: Path, data: bytes) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(data) + 1) == data
    except (OSError, Misshapen):
        return False


def read_manifest(paths: RunPaths) -> dict[str, Any]:
    """The manifest of a run, of the shape that `write_manifest` gives it; its names stay in the run's folder. `artifacts` are
    `Artifacts`.

    Raises:
        ValueError: it is missing, damaged, or of a later version of fox1; the message names it.
    """
    manifest, where = read_json(paths.manifest, _parsed), shown(paths.manifest)
    if (version := manifest.get("version")) not in (1, VERSION):
        raise ValueError(
            f"{where} is of version {printable(repr(version)[:20])}, and this fox1 reads versions up to {VERSION}; read the "
            "run with the version of fox1 that wrote it, or curate it again"
        )
    try:
        if version == 1:
            first = msgspec.convert(manifest, _FirstManifest)
            files, tokenizer, artifacts = first.files, first.tokenizer, _of_first(paths, first.artifacts)
        else:
            read = msgspec.convert(manifest, _Manifest)
            files, tokenizer, artifacts = read.files, read.tokenizer, Artifacts(paths, read.artifacts)
            _check_lists(read.artifacts)
        TokenizerSettings.from_json(tokenizer)
        for name in (*{f.corpus for f in files}, *(f.path for f in files)):
            if not stays_below(name) or "\0" in name:
                raise ValueError(f"the name {name[:100]!r} leads out of the run")
        if wrong := next((f for f in files if not 0 < f.file_hash < 1 << FILE_BITS), None):
            raise ValueError(f"{wrong.path[:100]!r} has no id that a file can have")
        if wrong := next((f for f in files if not _are_pieces(f.pieces)), None):
            raise ValueError(f"{wrong.path[:100]!r} has pieces that do not follow each other")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        said = printable(first_line(error))
        raise ValueError(f"{where} is damaged ({said}); run `fox1 curate` again to rewrite it") from None
    return {**manifest, "artifacts": artifacts}


def _parsed(data: bytes) -> Any:
    """JSON of some ten thousand files, in half the time that the standard library takes."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise Misshapen("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misshapen(printable(first_line(error))) from None


def _of_first(paths: RunPaths, listed: Mapping[str, _Listed]) -> Artifacts:
    """The artifacts of a manifest of version 1.

    Raises:
        ValueError: a name leads out of the run, or a size is negative.
    """
    table = table_of((name, Artifact(name, f.bytes, f.rows, f.hash)) for name, f in sorted(listed.items()))
    _check_names(table)
    return Artifacts(paths, tables=[table])


def _check_lists(lists: Sequence[ListOfFiles]) -> None:
    """Raise ValueError for lists that no manifest has: their files are checked when they are opened."""
    for each in lists:
        found = _LIST.fullmatch(each.file)
        if not found or found[1] != each.folder:
            raise ValueError(f"{each.file[:100]!r} is not the name of a list of files")
        if min(each.bytes, each.rows) < 0:
            raise ValueError(f"{each.file!r} has a negative size")
    if len({each.folder for each in lists}) < len(lists):
        raise ValueError("a folder has two lists of files")


def _are_pieces(pieces: Sequence[Piece]) -> bool:
    """Whether pieces cover a file: by number, from the first row on, each with a row at least."""
    rows = [p.row for p in pieces]
    return not pieces or (
        [p.number for p in pieces] == list(range(len(pieces)))
        and rows == sorted({0, *rows})
        and rows[-1] < MAX_ROWS
        and all(min(p.begin, p.skip, p.text) >= 0 for p in pieces)
        and all(p.rows == after.row - p.row if p.rows else p.length > 0 for p, after in itertools.pairwise(pieces))
        and pieces[-1].rows in (0, -1)
    )

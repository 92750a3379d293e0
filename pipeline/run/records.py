"""Completion records as files: one for each task while its step runs, and parts of some thousand once they are many.

    records/<step>/<task>.json             what a worker publishes after a task's outputs
    records/<step>/part-NNNNN.jsonl.zst    what the driver makes of thousands of these, which are then removed

So a run of some hundred thousand tasks resumes with a few reads. What a record says is the same in both: the task and its key,
the generation of the lease that it was written under and when, what the task published, and its result. A part ends with a
hash of what stands before: one that is damaged or cut vouches for nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import xxhash
import zstandard

from ...storage import store
from ...storage.inside import refuse_links
from ...storage.lease import allow_write
from ...storage.names import stays_below
from ...storage.reading import Misshapen, open_regular
from .artifacts import content_key, publish, read_json, remove
from .paths import RunPaths

LOOSE, LOOSE_IN_STORE = 64, 4
"""Records that a finished step may leave as files of their own; in a store each costs a request when the run goes on."""
PART_RECORDS = 4096
PART_BYTES = 1 << 30
"""That of some thousand records is smaller by far; what is larger is no file of ours."""
_PART = re.compile(r"part-([0-9]{5,9})\.jsonl\.zst")


class Record(msgspec.Struct, frozen=True):
    """What a completion record says."""

    task: str
    key: str
    generation: int
    written: int
    """When, in nanoseconds by the clock of the disk or store; 0: under the lease of the driver that had asked for the task."""
    outputs: tuple[str, ...]
    """Names of the files that the task published."""
    result: msgspec.Raw
    """As JSON: what the task returned, its artifacts with their names in the run."""


class _Head(msgspec.Struct):
    """The first line of a part."""

    stage: str
    generation: int
    """Of the lease that the part was written under."""


class _Foot(msgspec.Struct):
    """The last line of a part."""

    hash: str


_to_json = msgspec.json.Encoder().encode
_to_record = msgspec.json.Decoder(Record).decode


def write_part(path: Path, step: str, generation: int, records: Sequence[Record]) -> None:
    """Publish records as one file.

    Args:
        generation: of the lease that it is written under.
    """
    lines = [_to_json(_Head(step, generation)), *map(_to_json, records), b""]
    data = b"\n".join(lines)
    data += _to_json(_Foot(xxhash.xxh3_128_hexdigest(data)))
    # The records of their own that it replaces are deleted then.
    with publish(path, at_once=True) as out:
        out.write(zstandard.ZstdCompressor(3).compress(data))


def read_part(path: Path) -> tuple[int, list[Record]]:
    """(generation of the lease that it was written under, records) of a part.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    try:
        with open_regular(path) as file:
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(file)
            data = io.BufferedReader(reader, 1 << 20).read(PART_BYTES + 1)
        if len(data) > PART_BYTES:
            raise Misshapen("it is larger than any part")
        body, _, foot = data.rpartition(b"\n")
        if msgspec.json.decode(foot, type=_Foot).hash != xxhash.xxh3_128_hexdigest(body + b"\n"):
            raise Misshapen("it does not match its hash")
        head, *lines = body.split(b"\n")
        return msgspec.json.decode(head, type=_Head).generation, list(map(_to_record, lines))
    except (msgspec.DecodeError, zstandard.ZstdError, Misshapen, UnicodeDecodeError) as error:
        raise ValueError(f"{store.shown(path)} is damaged ({error}); delete it and run the stage again") from None


def stored_files(paths: RunPaths) -> Iterator[Path]:
    """The files of all records of a run, in order.

    Raises:
        ValueError: one of them is a symbolic link.
    """
    refuse_links(paths.root, paths.records)
    yield from sorted(path for path, _ in store.files_below(paths.records) if is_record(path))


def is_record(path: Path) -> bool:
    """Whether a file holds records, by its name."""
    return path.suffix == ".json" or bool(_PART.fullmatch(path.name))


def is_part(path: Path) -> bool:
    """Whether a file holds the records of many tasks."""
    return path.suffix != ".json"


def outputs_in(path: Path) -> list[list[str]]:
    """What the tasks published whose records a file holds, by their names in the run, task by task.

    Raises:
        ValueError: it is damaged.
    """
    if is_part(path):
        return [list(record.outputs) for record in read_part(path)[1]]
    return [[output["path"] for output in read_json(path)["outputs"]]]


class StepRecords:
    """The records of a step, as they were found, and what becomes of them. Only the holder of the lease changes any."""

    def __init__(self, paths: RunPaths, step: str) -> None:
        self._paths, self.step = paths, step
        self._root, self._folder = str(paths.root), paths.records / step
        self._folders: set[str] = set()
        """Folders of the run in which records name files, and that are no links."""
        self._generation = paths.lease.generation if paths.lease else 0
        refuse_links(paths.root, self._folder)
        listed = store.listed_at_start(self._folder)
        self._next = 1 + max((int(found[1]) for name in listed if (found := _PART.fullmatch(name))), default=-1)
        self.found: dict[str, Record] = {}
        """By task. Of two, the one in a file of its own is later."""
        self.outlived: set[str] = set()
        """Tasks whose record a holder of the run wrote after another one had taken over."""
        self._parts: dict[str, list[Record]] = {}
        self._damaged: list[str] = []
        for name in sorted(filter(_PART.fullmatch, listed)):
            self._read_part(name, listed[name][1])
        self._loose = {name for name in listed if name.endswith(".json")}
        for record in self._read_loose(listed):
            self.found[record.task] = record
            self.outlived.discard(record.task)
            if self._is_outlived(record.generation, record.written):
                self.outlived.add(record.task)

    def place(self, name: str) -> str:
        """Where a file of the run lies that a record names; whether it is a link itself is not looked at.

        Raises:
            ValueError: the name leads out of the run, or a folder that it lies in is a symbolic link.
        """
        folder = name.rpartition("/")[0]
        # A million files lie in far fewer folders.
        if folder not in self._folders:
            refuse_links(self._paths.root, self._paths.root / folder)
            self._folders.add(folder)
        if not stays_below(name) or "\0" in name:
            raise ValueError(f"{name!r} leads out of the run")
        return f"{self._root}/{name}"

    def is_doubtful(self, record: Record, newest: int) -> bool:
        """Whether only their hashes tell if the outputs of a record are what it says: its writer had lost the run, or its machine
        may have stopped before they were on the disk.

        Args:
            newest: when the last of the outputs was written, in nanoseconds by the clock of the disk.
        """
        lease, last = self._paths.lease, max(record.written, newest)
        return record.task in self.outlived or (lease is not None and lease.unflushed(record.generation, last))

    def _is_outlived(self, generation: int, written: int) -> bool:
        lease = self._paths.lease
        return lease is not None and lease.outlived(generation, written)

    def _read_part(self, name: str, written: int) -> None:
        try:
            generation, records = read_part(self._folder / name)
        except (ValueError, FileNotFoundError):
            self._damaged.append(name)
            return
        if self._is_outlived(generation, written):
            # Each of its records is as late as the part, also when the others are written again without it.
            records = [msgspec.structs.replace(r, generation=generation, written=written) for r in records]
        self._parts[name] = records
        for record in records:
            self.found[record.task] = record
            if self._is_outlived(record.generation, record.written):
                self.outlived.add(record.task)

    def _read_loose(self, listed: dict[str, store.Facts]) -> Iterator[Record]:
        """The records that are files of their own and whole."""
        names = sorted(self._loose)
        if isinstance(self._folder, store.Mirrored) and len(names) > 1:
            with ThreadPoolExecutor(store.REQUESTS, "records") as pool:
                read = list(pool.map(self._read_one, names))
        else:
            read = [self._read_one(name) for name in names]
        for name, record in zip(names, read, strict=True):
            if record:
                yield msgspec.structs.replace(record, written=listed[name][1])

    def _read_one(self, name: str) -> Record | None:
        try:
            said = read_json(self._folder / name)
            if said.pop("hash") != content_key(said):
                return None
            outputs = [output["path"] for output in said["outputs"]]
            facts = {name: said[name] for name in ("task", "key", "result")}
            record = {**facts, "generation": said.get("generation", 0), "written": 0, "outputs": outputs}
            return _to_record(_to_json(record))
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            return None

    def is_loose(self, task: str) -> bool:
        """Whether there is a file of the task's own, damaged or not."""
        return bool(self._loose) and self._paths.record_name(task) in self._loose

    def forget(self, tasks: Iterable[str]) -> None:
        """Remove the records of some tasks altogether."""
        gone = list(tasks)
        self.drop(gone)
        for task in filter(self.is_loose, gone):
            remove(self._paths.record(self.step, task))

    def drop(self, tasks: Iterable[str]) -> None:
        """Take the records of some tasks out of the parts: no record may vouch for outputs that are about to be replaced."""
        gone = set(tasks)
        for task in gone:
            self.found.pop(task, None)
        for name in self._damaged:
            remove(self._folder / name)
        self._damaged = []
        for name, records in list(self._parts.items()):
            left = [r for r in records if r.task not in gone]
            if len(left) < len(records):
                _rewrite(self._folder / name, self._generation, left)
                self._parts[name] = left

    def forget_since(self, since: int) -> None:
        """Take nothing that was recorded since a time for finished; see the function of this name."""
        self.found = {task: record for task, record in self.found.items() if record.written < since}
        self._parts = {name: [r for r in records if r.written < since] for name, records in self._parts.items()}

    def settle(self, records: Sequence[Record]) -> None:
        """Write records as a part; the files of their own that they had are removed."""
        name = f"part-{self._next:05d}.jsonl.zst"
        self._next += 1
        write_part(self._folder / name, self.step, self._generation, records)
        loose = [self._paths.record(self.step, r.task) for r in records]
        allow_write(loose[0])
        store.remove_files(loose)
        self._loose.difference_update(path.name for path in loose)


def rewrite_without(path: Path, numbers: Collection[int]) -> None:
    """Take records out of a part by their places in it; a part without any is removed."""
    generation, records = read_part(path)
    _rewrite(path, generation, [r for number, r in enumerate(records) if number not in numbers])


def _rewrite(path: Path, generation: int, records: Sequence[Record]) -> None:
    if records:
        write_part(path, path.parent.name, generation, records)
    else:
        remove(path)


def forget_since(paths: RunPaths, since: int) -> None:
    """Remove the records of a run on a disk that were written since a time, in nanoseconds by its clock."""
    for path in stored_files(paths):
        if not is_part(path):
            if store.modified(path) >= since:
                remove(path)
            continue
        try:
            generation, records = read_part(path)
        except ValueError:
            remove(path)
            continue
        left = [r for r in records if r.written < since]
        if len(left) < len(records):
            _rewrite(path, generation, left)

"""Files that are flushed together: what a machine that stopped may have lost is found by its hash, and nothing else is read."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fox1.pipeline.engine import engine as engines
from fox1.pipeline.engine import finished
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Task
from fox1.pipeline.run.artifacts import Artifact, write_json
from fox1.pipeline.run.checksums import hash_file
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import StepRecords
from fox1.storage import disk, lease

COUNT = 6
MADE: list[str] = []
READ: list[str] = []

pytestmark = pytest.mark.skipif(not disk.can_flush(), reason="this system flushes no file system by itself")


@dataclass(frozen=True)
class Written:
    """What a task of these tests returns."""

    file: Artifact


class Stops(Exception):
    """The machine stops: nothing is flushed at the end."""


def work(path: Path, value: int) -> Written:
    MADE.append(path.stem)
    return Written(write_json(path, {"value": value}))


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made, and what was read to compare it with its hash."""
    MADE.clear()
    READ.clear()

    def noted(path: Path) -> str:
        READ.append(path.stem)
        return hash_file(path)

    monkeypatch.setattr(finished, "hash_file", noted)


def curate(
    root: Path, stops: bool = False, within: Callable[[lease.Lease], None] = lambda _: None
) -> tuple[list[str], list[str]]:
    """Run tasks under a lease; what was made, and what was compared with its hash.

    Args:
        within: called with the lease when half of the tasks have ended.
    """
    MADE.clear()
    READ.clear()
    tasks = [Task(f"t{i}", work, (root / "mix" / f"{i}.json", i)) for i in range(COUNT)]
    with suppress(Stops), lease.held(root, lease.RUN, together=True) as held:
        engine = Engine(RunPaths(root, lease=held), InProcess())
        engine.run("first", 1, tasks[: COUNT // 2])
        within(held)
        engine.run("second", 1, tasks[COUNT // 2 :])
        if stops:
            raise Stops
    return sorted(MADE), sorted(READ)


ALL = [str(i) for i in range(COUNT)]


def tear(path: Path) -> None:
    """Zeros where the bytes of a file were never written: of its size, and of its time."""
    facts = path.stat()
    path.write_bytes(bytes(facts.st_size))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_after_an_end_nothing_is_read_to_go_on(tmp_path: Path) -> None:
    assert curate(tmp_path) == (ALL, [])
    assert curate(tmp_path) == ([], [])


def test_after_a_stop_all_that_was_not_flushed_is_compared_once(tmp_path: Path) -> None:
    assert curate(tmp_path, stops=True) == (ALL, [])
    assert curate(tmp_path, stops=True) == ([], ALL)
    # What was compared was no more on the disk than before.
    assert curate(tmp_path) == ([], ALL)
    assert curate(tmp_path) == ([], [])


@pytest.mark.parametrize("torn", [["0"], ["2", "4"], ALL])
def test_torn_files_are_found_and_made_again(torn: list[str], tmp_path: Path) -> None:
    curate(tmp_path / "whole")
    root = tmp_path / "run"
    curate(root, stops=True)
    for name in torn:
        tear(root / "mix" / f"{name}.json")
    made, _ = curate(root)
    # As well as what may have been made from the first of them.
    assert set(torn) <= set(made)
    for name in ALL:
        assert (root / "mix" / f"{name}.json").read_bytes() == (tmp_path / "whole/mix" / f"{name}.json").read_bytes()
    assert curate(root) == ([], [])


@pytest.mark.parametrize("damage", [lambda path: tear(path), lambda path: path.write_bytes(b""), Path.unlink])
def test_a_torn_record_vouches_for_nothing(damage: Callable[[Path], object], tmp_path: Path) -> None:
    curate(tmp_path, stops=True)
    damage(tmp_path / "records/first/t1.json")
    made, _ = curate(tmp_path)
    assert "1" in made and curate(tmp_path) == ([], [])


def test_the_part_that_replaces_records_is_on_the_disk_before_these_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOOSE", 1)
    there: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: there.append(len(list((tmp_path / "records").rglob("t*.json")))))
    with lease.held(tmp_path, lease.RUN, together=True) as held:
        tasks = [Task(f"t{i}", work, (tmp_path / "mix" / f"{i}.json", i)) for i in range(COUNT)]
        there.clear()
        Engine(RunPaths(tmp_path, lease=held), InProcess()).run("s", 1, tasks)
        assert there == [COUNT] and not list((tmp_path / "records").rglob("t*.json"))


def flushed(root: Path) -> int:
    """Until when what the last generation wrote is noted to be on the disk."""
    return int(json.loads((root / lease.MARK).read_text())["flushed"][-1])


def test_what_was_written_before_a_flush_is_trusted_and_what_came_after_is_compared(tmp_path: Path) -> None:
    def flush(held: lease.Lease) -> None:
        # The clock of a disk stands still for a few milliseconds at a time.
        time.sleep(0.05)
        lease._flush(held, lease.RUN)

    curate(tmp_path, stops=True, within=flush)
    assert flushed(tmp_path) and curate(tmp_path) == ([], ALL[COUNT // 2 :])


def test_a_folder_is_flushed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "FLUSH", 0.01)
    with lease.held(tmp_path, lease.RUN, together=True):
        ends = time.monotonic() + 60
        while not flushed(tmp_path) and time.monotonic() < ends:
            time.sleep(0.01)
        assert flushed(tmp_path)


def test_a_copy_that_is_younger_than_its_record_is_compared(tmp_path: Path) -> None:
    with lease.held(tmp_path, lease.RUN, together=True) as held:
        paths = RunPaths(tmp_path, lease=held)
        Engine(paths, InProcess()).run("s", 1, [Task("t", work, (tmp_path / "mix" / "0.json", 0))])
    records = StepRecords(RunPaths(tmp_path, lease=lease.past(tmp_path)), "s")
    record, until = records.found["t"], lease.past(tmp_path).flushed[0]
    assert until and not records.is_doubtful(record, until - 1) and records.is_doubtful(record, until)


def test_each_file_is_flushed_by_itself_where_writers_are_on_several_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    for together, expected in ((False, 3), (True, 0)):
        with lease.held(tmp_path / str(together), lease.RUN, together=together) as held:
            calls.clear()
            for number in range(3):
                write_json(tmp_path / str(together) / f"{number}.json", number)
            assert len(calls) == expected
            # Whatever it was made under, a generation says what it waited for.
            assert held.flushed == (0 if together else None,)
    calls.clear()
    write_json(tmp_path / "beside.json", 1)
    assert len(calls) == 1


def test_a_file_on_another_device_than_its_run_is_flushed_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with lease.held(tmp_path, lease.RUN, together=True) as held:
        calls.clear()
        with lease.under(replace(held, device=held.device + 1 if held.device else 1)):
            write_json(tmp_path / "mounted.json", 1)
    assert len(calls) == 2  # the file, and the mark at the end


def test_a_fox1_that_noted_no_flush_waited_for_each_file(tmp_path: Path) -> None:
    curate(tmp_path, stops=True)
    mark = json.loads((tmp_path / lease.MARK).read_text())
    del mark["flushed"]
    (tmp_path / lease.MARK).write_text(json.dumps(mark))
    assert curate(tmp_path) == ([], [])


def test_a_disk_that_refuses_what_is_flushed_ends_the_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as failing:
        failing.setattr(disk, "flush", refuse)
        with pytest.raises(
            OSError, match=r"cannot be written \(No space left on device\); make room, and run the same"
        ):
            curate(tmp_path)
    assert curate(tmp_path) == ([], ALL)


def test_who_has_lost_the_folder_notes_no_flush(tmp_path: Path) -> None:
    with pytest.raises(lease.LeaseLost), lease.held(tmp_path, lease.RUN, together=True):
        (tmp_path / lease.LEASE).write_text('{"host": "other", "process": 7, "own": "another"}')
        (tmp_path / lease.MARK).write_text("the other's")
    assert (tmp_path / lease.MARK).read_text() == "the other's"


def test_a_flush_of_what_is_no_file_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.flush(1 << 20)

"""Completion records of many tasks: they become parts, from which a run resumes with a few reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fox1.pipeline.engine import engine as engines
from fox1.pipeline.engine import records
from fox1.pipeline.engine.engine import Engine, StageFailed
from fox1.pipeline.engine.tasks import InProcess, Task
from fox1.pipeline.run.artifacts import Artifact, write_json
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import StepRecords, read_part
from fox1.storage import lease, store

CALLS: list[str] = []


@dataclass(frozen=True)
class Written:
    """What a task of these tests returns."""

    file: Artifact
    n: int


def work(path: Path, value: int, setting: str) -> Written:
    CALLS.append(path.stem)
    return Written(write_json(path, value), value)


def fail_at_the_end(path: Path, value: int, setting: str) -> Written:
    if value == 19:
        raise ValueError("the last one fails")
    return work(path, value, setting)


def many(root: Path, setting: str = "s", run: Callable[..., Written] = work, count: int = 20) -> list[Task[Written]]:
    return [Task(f"t{i:02d}", run, (root / "mix" / f"{i:02d}.json", i, setting)) for i in range(count)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of eight records, of steps that have more than three."""
    CALLS.clear()
    monkeypatch.setattr(engines, "PART_RECORDS", 8)
    monkeypatch.setattr(engines, "LOOSE", 3)


def names(root: Path, step: str = "s") -> list[str]:
    return sorted(path.name for path in (root / "records" / step).iterdir())


def run(root: Path, todo: Sequence[Task[Written]]) -> Engine:
    engine = Engine(RunPaths(root), InProcess())
    assert [result.n for result in engine.run("s", 1, todo)] == list(range(len(todo)))
    return engine


def test_the_records_of_many_tasks_become_parts_and_those_of_few_stay(tmp_path: Path) -> None:
    run(tmp_path / "many", many(tmp_path / "many"))
    assert names(tmp_path / "many") == [f"part-0000{n}.jsonl.zst" for n in range(3)]
    found = StepRecords(RunPaths(tmp_path / "many"), "s").found
    assert sorted(found) == [f"t{i:02d}" for i in range(20)] and found["t07"].outputs == ("mix/07.json",)
    run(tmp_path / "few", many(tmp_path / "few", count=3))
    assert names(tmp_path / "few") == ["t00.json", "t01.json", "t02.json"]


def test_what_parts_hold_is_not_run_again_and_what_changed_leaves_them(tmp_path: Path) -> None:
    run(tmp_path, many(tmp_path))
    before = [read_part(tmp_path / "records" / "s" / name) for name in names(tmp_path)]
    assert run(tmp_path, many(tmp_path)).reused["s"] == (20, 20)
    assert [read_part(tmp_path / "records" / "s" / name) for name in names(tmp_path)] == before
    (tmp_path / "mix" / "09.json").unlink()
    assert run(tmp_path, many(tmp_path)).reused["s"] == (19, 20) and CALLS[20:] == ["09"]
    assert names(tmp_path)[-1] == "t09.json" and "t09" not in {
        r.task for r in read_part(tmp_path / "records" / "s" / "part-00001.jsonl.zst")[1]
    }
    assert run(tmp_path, many(tmp_path)).reused["s"] == (20, 20)
    run(tmp_path, many(tmp_path, "other"))
    assert len(CALLS) == 41 and len(StepRecords(RunPaths(tmp_path), "s").found) == 20
    assert names(tmp_path) == [f"part-0000{n}.jsonl.zst" for n in range(3, 6)]


def test_no_part_vouches_for_outputs_that_are_being_replaced(tmp_path: Path) -> None:
    run(tmp_path, many(tmp_path))
    with pytest.raises(StageFailed, match="the last one fails"):
        run(tmp_path, many(tmp_path, "other", fail_at_the_end))
    found = StepRecords(RunPaths(tmp_path), "s").found
    assert sorted(found) == [f"t{i:02d}" for i in range(19)]
    assert run(tmp_path, many(tmp_path)).reused["s"] == (0, 20)


def test_a_run_that_was_killed_within_a_step_resumes_from_parts_and_single_records(tmp_path: Path) -> None:
    with pytest.raises(StageFailed):
        run(tmp_path, many(tmp_path, "s", fail_at_the_end))
    assert names(tmp_path) == ["part-00000.jsonl.zst", "part-00001.jsonl.zst", "t16.json", "t17.json", "t18.json"]
    # The key is that of the arguments, so another function gives the same.
    assert run(tmp_path, many(tmp_path)).reused["s"] == (19, 20)
    assert names(tmp_path) == [f"part-0000{n}.jsonl.zst" for n in range(3)]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:9] + b"x" + data[10:]])
def test_a_damaged_part_vouches_for_nothing_and_is_removed(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    run(tmp_path, many(tmp_path))
    part = tmp_path / "records" / "s" / "part-00001.jsonl.zst"
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(ValueError, match=r"part-00001.jsonl.zst is damaged"):
        read_part(part)
    assert run(tmp_path, many(tmp_path)).reused["s"] == (12, 20) and not part.exists()
    assert run(tmp_path, many(tmp_path)).reused["s"] == (20, 20)


def test_what_parts_hold_of_a_time_after_a_change_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, many(tmp_path))
    written = StepRecords(RunPaths(tmp_path), "s").found["t10"].written
    path = tmp_path / "mix" / "02.json"
    path.write_text("7\n")
    os.utime(path, ns=(written, written))
    # As if the eleventh had read what was changed meanwhile.
    assert run(tmp_path, many(tmp_path)).reused["s"] == (9, 20)
    assert path.read_text() == "2\n" and run(tmp_path, many(tmp_path)).reused["s"] == (20, 20)


def test_outputs_that_were_touched_are_recorded_together(tmp_path: Path) -> None:
    run(tmp_path, many(tmp_path))
    for path in (tmp_path / "mix").iterdir():
        os.utime(path, (0, 0))
    assert run(tmp_path, many(tmp_path)).reused["s"] == (20, 20)
    assert names(tmp_path) == ["part-00003.jsonl.zst"]
    assert run(tmp_path, many(tmp_path)).reused["s"] == (20, 20) and len(CALLS) == 20


def test_a_part_of_a_paused_writer_vouches_only_for_bytes_with_their_hash(tmp_path: Path) -> None:
    def curate() -> tuple[int, int]:
        with lease.held(tmp_path, lease.RUN) as held:
            engine = Engine(RunPaths(tmp_path, lease=held), InProcess())
            engine.run("s", 1, many(tmp_path))
            return engine.reused["s"]

    assert curate() == (0, 20)
    with lease.held(tmp_path, lease.RUN) as second:
        pass
    late, part = second.began[1] + 1, tmp_path / "records" / "s" / "part-00000.jsonl.zst"
    os.utime(part, ns=(late, late))
    # Another one's, of the same size and time.
    path = tmp_path / "mix" / "03.json"
    before = path.stat().st_mtime_ns
    path.write_text("9\n")
    os.utime(path, ns=(before, before))
    reused, _ = curate()
    assert reused < 20 and path.read_text() == "3\n"


# -- requests ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, int]]:
    """Requests to a store in memory, by kind."""
    from fsspec.implementations.memory import MemoryFileSystem

    counts: dict[str, int] = {}
    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(store, "_known", {})

    def counted(kind: str, name: str) -> None:
        call = getattr(MemoryFileSystem, name)

        def count(*arguments: Any, **named: Any) -> Any:
            counts[kind] = counts.get(kind, 0) + 1
            return call(*arguments, **named)

        monkeypatch.setattr(MemoryFileSystem, name, count)

    for kind, name in (("put", "put_file"), ("get", "get_file"), ("range", "cat_file"), ("head", "info")):
        counted(kind, name)
    yield counts


def test_a_run_in_a_store_resumes_with_lists_and_a_few_reads(requests: dict[str, int]) -> None:
    root = store.open_root("memory://bucket/run")
    run(root, many(root, count=60))
    requests.clear()
    resumed = run(root, many(root, count=60))
    assert resumed.reused["s"] == (60, 60) and len(CALLS) == 60
    assert requests == {}  # the parts lie in the mirror of this node
    for path in sorted(root.local.rglob("*.zst")):
        path.unlink()
    assert run(root, many(root, count=60)).reused["s"] == (60, 60)
    assert requests["get"] == 7 and "put" not in requests and "range" not in requests


def test_the_log_of_a_run_in_a_store_is_uploaded_in_parts(
    requests: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PART_LINES", 10)
    root = store.open_root("memory://bucket/run")
    run(root, many(root, count=25))
    folder = root / "timings" / "tasks"
    assert [len(path.read_bytes().splitlines()) for path in sorted(folder.glob("*.jsonl"))] == [10, 10, 5]
    assert [entry["task"] for entry in records.task_times(RunPaths(root))] == [f"t{i:02d}" for i in range(25)]

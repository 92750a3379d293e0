"""The engine: skips what is finished, retries what was lost, stops at what failed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fox1.pipeline.engine.engine import ATTEMPTS, Engine, StageFailed
from fox1.pipeline.engine.on_ray import ray_session
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.engine.stragglers import Stragglers
from fox1.pipeline.engine.tasks import (
    InProcess,
    Outcome,
    Planned,
    Progress,
    Silent,
    Step,
    Task,
    Waiting,
    attempt,
    attempt_each,
)
from fox1.pipeline.run.artifacts import Artifact, write_json
from fox1.pipeline.run.paths import RunPaths

CALLS: list[str] = []


@dataclass(frozen=True)
class Written:
    """What a task of these tests returns."""

    file: Artifact
    n: int


def work(path: Path, value: int, setting: str) -> Written:
    CALLS.append(path.name)
    return Written(write_json(path, value), value)


def fail(path: Path, value: int, setting: str) -> Written:
    raise ValueError(f"{path} row 7 is bad")


def vanish(path: Path, value: int, setting: str) -> Written:
    raise OSError("disk went away")


def tasks(root: Path, function: Callable[..., Written] = work, setting: str = "s") -> list[Task[Written]]:
    return [Task(f"t{i}", function, (root / f"{i}.json", i, setting)) for i in range(3)]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    CALLS.clear()
    return Engine(RunPaths(tmp_path), InProcess())


def test_results_come_in_the_order_of_the_tasks(engine: Engine, tmp_path: Path) -> None:
    assert [r.n for r in engine.run("s", 1, tasks(tmp_path))] == [0, 1, 2]


def test_a_finished_key_is_not_run_again_and_a_changed_one_is(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    again = engine.run("s", 1, tasks(tmp_path))
    assert CALLS == ["0.json", "1.json", "2.json"]
    assert [r.n for r in again] == [0, 1, 2] and engine.reused["s"] == (3, 3)
    engine.run("s", 1, tasks(tmp_path, setting="other"))
    assert len(CALLS) == 6


class Order(Silent):
    """What the engine says of steps."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        self.said.append(f"{name} begins with {tasks}")

    def stage_done(self, name: str, seconds: float) -> None:
        self.said.append(f"{name} ends")


def test_steps_run_beside_each_other_and_each_has_its_own_records(engine: Engine, tmp_path: Path) -> None:
    engine.progress = order = Order()
    light, heavy = tmp_path / "light", tmp_path / "heavy"
    alone = replace(tasks(heavy)[2], unweighed=True)
    steps = [Step("s", 1, tasks(light)), Step("s.other", 1, [alone]), Step("s.none", 1, [])]
    many, one, none = engine.run_beside(steps)
    assert [r.n for r in many] == [0, 1, 2] and [r.n for r in one] == [2] and none == []
    # The long one goes first, and a step ends with the last of its own tasks.
    assert CALLS == ["2.json", "0.json", "1.json", "2.json"]
    ends = ["s.none ends", "s.other ends", "s ends"]
    assert order.said == ["s begins with 3", "s.other begins with 1", "s.none begins with 0", *ends]
    (light / "1.json").unlink()
    again = Engine(engine.paths, InProcess())
    assert [[r.n for r in results] for results in again.run_beside(steps)] == [[0, 1, 2], [2], []]
    assert CALLS[4:] == ["1.json"] and again.reused == {"s": (2, 3), "s.other": (1, 1), "s.none": (0, 0)}
    assert {line["stage"] for line in task_times(engine.paths)} == {"s", "s.other"}
    assert len(again.finished["s"]) == 3 and len(again.finished["s.other"]) == 1


def test_a_failure_names_the_step_that_it_is_of(engine: Engine, tmp_path: Path) -> None:
    beside = Step("s.other", 1, [Task("bad", fail, (tmp_path / "x.json", 1, "s"))])
    with pytest.raises(StageFailed, match=r"s\.other failed on bad: .*row 7 is bad"):
        engine.run_beside([Step("s", 1, tasks(tmp_path)), beside])
    engine.run_beside([Step("s", 1, tasks(tmp_path))])
    # What had ended before the failure is not run again.
    assert CALLS == ["0.json", "1.json", "2.json"]


def test_a_missing_or_cut_output_is_made_again(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    (tmp_path / "1.json").unlink()
    (tmp_path / "2.json").write_text("")
    engine.run("s", 1, tasks(tmp_path))
    assert CALLS[3:] == ["1.json", "2.json"]


def test_a_record_never_vouches_for_bytes_that_were_replaced(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))

    def overwrite_and_die(path: Path, value: int, setting: str) -> Written:
        write_json(path, value + 1)  # as many bytes
        raise ValueError("killed before its record")

    with pytest.raises(StageFailed):
        engine.run("s", 1, tasks(tmp_path, overwrite_and_die, setting="other"))
    engine.run("s", 1, tasks(tmp_path))
    assert (tmp_path / "0.json").read_text() == "0\n"


def spoil(path: Path) -> None:
    """Other bytes, as many as before, some moments later."""
    before = path.stat().st_mtime_ns
    path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))
    os.utime(path, ns=(before + 10**9,) * 2)


def test_an_output_with_other_bytes_is_made_again(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    spoil(tmp_path / "1.json")
    Engine(engine.paths, InProcess()).run("s", 1, tasks(tmp_path))
    assert CALLS[3:] == ["1.json"]
    assert (tmp_path / "1.json").read_text() == "1\n"


def test_what_was_made_after_an_output_was_changed_is_made_again(engine: Engine, tmp_path: Path) -> None:
    def of_stage(stage: str) -> list[Task[Written]]:
        return [Task("t", work, (tmp_path / f"{stage}.json", 1, stage))]

    for stage in ("first", "second", "third"):
        engine.run(stage, 1, of_stage(stage))
    spoil(tmp_path / "first.json")
    changed = (tmp_path / "first.json").stat().st_mtime_ns
    for stage, seconds in (("second", -1), ("third", 1)):
        os.utime(engine.paths.record(stage, "t"), ns=(changed + seconds * 10**9,) * 2)
    again = Engine(engine.paths, InProcess())
    for stage in ("first", "second", "third"):
        again.run(stage, 1, of_stage(stage))
    assert CALLS[3:] == ["first.json", "third.json"]


def test_an_output_that_was_only_touched_is_used(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    for path in tmp_path.glob("*.json"):
        os.utime(path, (0, 0))
    for _ in range(2):
        again = Engine(engine.paths, InProcess())
        again.run("s", 1, tasks(tmp_path))
        assert again.reused["s"] == (3, 3)


def test_an_output_that_changes_while_the_run_goes_on_stops_it(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    spoil(tmp_path / "1.json")
    with pytest.raises(
        StageFailed, match=r"1.json was modified after it was written, and s2 may have read the modified file. Run the"
    ):
        engine.run("s2", 1, [Task("t", work, (tmp_path / "other.json", 1, ""))])
        engine.look()


def test_nothing_is_looked_at_where_nothing_ran(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    engine.look()
    spoil(tmp_path / "1.json")
    engine.run("s2", 1, [])
    engine.look()


@pytest.mark.parametrize("old", ["{", '"n":1', '"key":"', '"bytes":2'])
def test_a_damaged_record_vouches_for_nothing(engine: Engine, tmp_path: Path, old: str) -> None:
    engine.run("s", 1, tasks(tmp_path))
    record = engine.paths.record("s", "t1")
    text = record.read_text()
    assert old in text
    record.write_text(text.replace(old, old[:-1] + chr(ord(old[-1]) ^ 1), 1))
    assert [r.n for r in Engine(engine.paths, InProcess()).run("s", 1, tasks(tmp_path))] == [0, 1, 2]
    assert CALLS[3:] == ["1.json"]


def test_a_full_disk_is_told_with_the_file_and_what_helps(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    monkeypatch.setattr("os.fsync", refuse)
    expected = (
        r"OSError: .*/0.json cannot be written \(No space left on device\); make room, and run the same command again"
    )
    with pytest.raises(StageFailed, match=expected):
        engine.run("s", 1, tasks(tmp_path))
    assert not list(tmp_path.rglob("*.tmp"))


def test_half_a_line_of_the_log_hides_no_other(engine: Engine, tmp_path: Path) -> None:
    engine.run("s", 1, tasks(tmp_path))
    log = engine.paths.timings("tasks.jsonl")
    log.write_text(log.read_text() + '{"stage": "s", "ta\n')
    assert [entry["task"] for entry in task_times(engine.paths)] == ["t0", "t1", "t2"]


def test_an_error_of_the_data_fails_the_stage_with_task_cause_and_log(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"s failed on t0: .*row 7 is bad \(log: .*failed-s-t0.log\)"):
        engine.run("s", 1, tasks(tmp_path, fail))
    assert "Traceback" in (tmp_path / "timings" / "failed-s-t0.log").read_text()


@dataclass(frozen=True)
class Unrecordable:
    """What no record can hold."""

    n: object


def unrecordable(path: Path, value: int, setting: str) -> Unrecordable:
    return Unrecordable(object())


def test_a_task_whose_record_cannot_be_written_is_not_finished(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="s failed on t0: TypeError"):
        engine.run("s", 1, tasks(tmp_path, unrecordable))


def test_an_io_error_is_tried_again_but_not_for_ever(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    with pytest.raises(StageFailed, match=f"after {ATTEMPTS} attempts: OSError: disk went away"):
        engine.run("s", 1, tasks(tmp_path, vanish))


LOST = Outcome(None, "WorkerCrashedError", "", True, "", 0.0, 0)


class LosesWorkers:
    """An executor whose first attempts die without a word, as killed workers do."""

    on_this_machine, cores, room = True, 1, 3 << 30

    def __init__(self, error: str = "WorkerCrashedError") -> None:
        self.lost, self.error = 0, error
        self.asked: list[int] = []

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            self.asked.append(planned.task.memory)
            if self.lost < 2:
                self.lost += 1
                yield planned.index, Outcome(None, self.error, "", True, "", 0.0, 0)
            else:
                yield planned.index, attempt(planned, paths)


def test_lost_workers_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    results = Engine(RunPaths(tmp_path), LosesWorkers()).run("s", 1, tasks(tmp_path))
    assert [r.n for r in results] == [0, 1, 2]


def test_a_task_without_memory_asks_for_more_but_not_more_than_a_node_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    executor = LosesWorkers("OutOfMemoryError: killed")
    executor.lost = -1
    Engine(RunPaths(tmp_path), executor).run("s", 1, tasks(tmp_path)[:1])
    assert executor.asked == [1 << 30, 2 << 30, 3 << 30, 3 << 30]


class Together(LosesWorkers):
    """Runs tasks in bundles; the first one, with all that is in it, is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[str]] = []

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        while waiting:
            bundle = waiting.take_bundle(1)
            self.sent.append([p.task.name for p in bundle])
            lost = [LOST] * len(bundle)
            outcomes = lost if len(self.sent) == 1 else attempt_each(bundle, paths)
            yield from zip((p.index for p in bundle), outcomes, strict=True)


def test_the_heaviest_task_starts_first_and_light_ones_are_sent_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    weights = {"a": 2, "b": 1000, "c": 3, "d": 2, "e": 1, "f": 100}
    planned = [
        Task(name, work, (tmp_path / f"{name}.json", n, "s"), n, unweighed=name == "e", shares=name != "d")
        for name, n in weights.items()
    ]
    executor = Together()
    results = Engine(RunPaths(tmp_path), executor).run("s", 1, planned)
    assert [r.n for r in results] == list(weights.values())
    # What was lost is sent again alone, before the others.
    assert executor.sent == [["e"], ["e"], ["b"], ["f", "c", "a"], ["d"]]


def test_a_lost_task_goes_before_those_that_wait_and_one_that_a_disk_failed_after_them(tmp_path: Path) -> None:
    planned = [Planned(i, task, "", "s") for i, task in enumerate(tasks(tmp_path))]
    waiting = Waiting(planned)
    lost, failed = waiting.take(), waiting.take()
    waiting.again(failed, 0, last=True)
    waiting.again(lost, 0, last=False)
    assert [p.index for p in waiting] == [0, 2, 1]
    waiting.again(lost, 0.2, last=False)
    assert waiting and waiting.next() is None and 0 < waiting.seconds() <= 0.2
    assert [p.index for p in waiting] == [0]
    assert not waiting and waiting.seconds() == 0


class Forgets(LosesWorkers):
    """Says in which order tasks were run; the first is lost twice."""

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            self.asked.append(planned.index)
            lost = self.asked.count(0) < 3 and planned.index == 0
            yield planned.index, LOST if lost else attempt(planned, paths)


def test_a_lost_task_does_not_wait_for_the_end_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    executor = Forgets()
    assert [r.n for r in Engine(RunPaths(tmp_path), executor).run("s", 1, tasks(tmp_path))] == [0, 1, 2]
    assert executor.asked == [0, 0, 0, 1, 2]


def sizes_of(planned: Sequence[Planned], cores: int) -> list[int]:
    waiting, sizes = Waiting(planned), list[int]()
    while waiting:
        sizes.append(len(waiting.take_bundle(cores)))
    return sizes


def test_what_shares_a_bundle_is_bounded(tmp_path: Path) -> None:
    light = [
        Planned(i, Task(f"t{i}", work, (tmp_path / str(i), i, "s"), 30 << 20, shares=True), "", "s")
        for i in range(1000)
    ]
    sizes = sizes_of(light, 2)
    assert sum(sizes) == 1000 and max(sizes) == 8
    assert len(sizes_of(light, 200)) == 1000
    crumbs = [replace(p, task=replace(p.task, weight=1)) for p in light]
    assert max(sizes_of(crumbs, 1)) <= 128


def test_a_straggler_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told: list[tuple[str, str, float]] = []

    class Told(Silent):
        def slow(self, name: str, task: str, seconds: float) -> None:
            told.append((name, task, seconds))

    planned = [Planned(i, Task(name, work, ()), "", "scan") for i, name in enumerate("abcdefgh")]
    stragglers = Stragglers(Told())
    for each in planned:
        stragglers.began(each)
    for index in range(6):
        now[0] += 10
        stragglers.ended(index)
        stragglers.look()
    assert told == []
    for _ in range(30):
        now[0] += 6
        stragglers.look()
    assert [(stage, task) for stage, task, _ in told] == [("scan", "g"), ("scan", "h")]
    assert all(140 < seconds < 160 for *_, seconds in told)


def test_a_cluster_that_does_not_answer_is_one_line_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            with (
                pytest.raises(ValueError, match=rf"no Ray cluster answers at {given} .*is it up"),
                ray_session(given, None),
            ):
                pass

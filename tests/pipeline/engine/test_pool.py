"""The pool: forks of one server, replaced when they die, ended when they take too much, and gone with whoever started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fox1.pipeline.engine.engine import Engine, StageFailed
from fox1.pipeline.engine.pool import Pool, pool_session
from fox1.pipeline.engine.tasks import Task
from fox1.pipeline.run.paths import RunPaths

from tests.conftest import ROOT
from tests.faults.processes import descendants

HERE = __name__


@dataclass(frozen=True)
class Said:
    """What a task says of itself."""

    number: int
    pid: int
    parent: int
    threads: str


def load_nothing() -> None:
    """For servers that need nothing loaded."""


def leave_thread() -> None:
    """What no server may load."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def fail_to_load() -> None:
    """As a package that is not there."""
    raise ImportError("no module named kernels")


def say(number: int) -> Said:
    return Said(number, os.getpid(), os.getppid(), os.environ["OMP_NUM_THREADS"])


def die_at_first(number: int, folder: Path) -> Said:
    """Be killed once, then finish."""
    try:
        (folder / str(number)).mkdir()
    except FileExistsError:
        return say(number)
    os.kill(os.getpid(), signal.SIGKILL)
    return say(-1)


def take(size: int) -> Said:
    """Hold so many bytes for a while."""
    held = b"x" * size
    time.sleep(2)
    return say(len(held))


def wait_for_ever(folder: Path) -> Said:
    (folder / str(os.getpid())).touch()
    time.sleep(600)
    return say(0)


def fail(number: int) -> Said:
    raise ValueError(f"row {number} is broken")


def eventually(true: Callable[[], bool], seconds: float) -> bool:
    """Whether something becomes true before long."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with pool_session(2, f"{HERE}:load_nothing") as pool:
        yield pool


def test_two_workers_share_the_tasks_and_results_come_in_order(pool: Pool, tmp_path: Path) -> None:
    tasks = [Task(str(i), say, (i,)) for i in range(40)]
    said = Engine(RunPaths(tmp_path), pool).run("s", 1, tasks)
    assert [s.number for s in said] == list(range(40))
    assert 1 <= len({s.pid for s in said}) <= 2 and os.getpid() not in {s.pid for s in said}
    assert {s.parent for s in said} == {pool._server.process.pid} and {s.threads for s in said} == {"1"}


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    (tmp_path / "died").mkdir()
    tasks = [Task(str(i), die_at_first, (i, tmp_path / "died")) for i in range(3)]
    said = Engine(RunPaths(tmp_path), pool).run("s", 1, tasks)
    assert [s.number for s in said] == [0, 1, 2]
    log = [json.loads(line) for line in (tmp_path / "timings" / "tasks.jsonl").read_text().splitlines()]
    assert sum("WorkerDied: a worker process ended by SIGKILL" in entry["error"] for entry in log) == 3


def test_a_task_that_takes_more_than_it_declares_is_ended_and_gets_more(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fox1.pipeline.engine.engine.RETRY_SECONDS", 0)
    (said,) = Engine(RunPaths(tmp_path), pool).run("s", 1, [Task("big", take, (300 << 20,), memory=200 << 20)])
    assert said.number == 300 << 20
    first, second = [json.loads(line) for line in (tmp_path / "timings" / "tasks.jsonl").read_text().splitlines()]
    assert "took more than the 200 MiB" in first["error"] and not second["error"]


LOADED: list[int] = []


@dataclass(frozen=True)
class HasLoaded:
    """What a worker has of what was to be loaded."""

    numbers: tuple[int, ...]
    pid: int


def what_is_loaded(seconds: float) -> HasLoaded:
    time.sleep(seconds)
    return HasLoaded(tuple(LOADED), os.getpid())


def load_number(number: int) -> None:
    if number < 0:
        raise OSError("it cannot be read")
    LOADED.append(number)


def test_workers_begin_with_what_the_server_was_told_to_load(pool: Pool, tmp_path: Path) -> None:
    def look(step: str) -> list[HasLoaded]:
        tasks = [Task(str(i), what_is_loaded, (0.05,)) for i in range(4)]
        return Engine(RunPaths(tmp_path), pool).run(step, 1, tasks)

    before = look("before")
    pool.preload(load_number, 7)
    # Those that there are go on, and are replaced when it has loaded.
    assert eventually(lambda: {one.numbers for one in look(f"meanwhile-{time.monotonic_ns()}")} == {(7,)}, 20)
    pool.preload(load_number, -1)
    pool.preload(load_number, 8)
    assert eventually(lambda: {one.numbers for one in look(f"after-{time.monotonic_ns()}")} == {(7, 8)}, 20)
    assert not {one.pid for one in before} & {one.pid for one in look("last")}


def test_a_server_that_loads_a_thread_forks_no_more(tmp_path: Path) -> None:
    with pool_session(1, f"{HERE}:load_nothing") as pool:
        pool.preload(leave_thread)
        with pytest.raises(ValueError, match=r"left 1 threads running.*run with --in-process"):
            Engine(RunPaths(tmp_path), pool).run("s", 1, [Task("0", say, (0,))])


def test_an_error_of_the_data_is_told_as_in_one_process(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"s failed on 1: row 7 is broken \(log: "):
        Engine(RunPaths(tmp_path), pool).run("s", 1, [Task("0", say, (0,)), Task("1", fail, (7,))])
    # And the pool goes on.
    assert Engine(RunPaths(tmp_path), pool).run("t", 1, [Task("0", say, (3,))])[0].number == 3


@pytest.mark.parametrize(
    ("preload", "why"),
    [("leave_thread", "2 threads running"), ("fail_to_load", "ImportError: no module named kernels")],
)
def test_a_server_that_cannot_serve_says_why(tmp_path: Path, preload: str, why: str) -> None:
    with (
        pytest.raises(ValueError, match=rf"does not start \(.*{why}.*\); run with --in-process"),
        pool_session(1, f"{HERE}:{preload}") as pool,
    ):
        Engine(RunPaths(tmp_path), pool).run("s", 1, [Task("0", say, (0,))])


def test_a_lost_server_is_one_line(tmp_path: Path) -> None:
    with pool_session(1, f"{HERE}:load_nothing") as pool:
        engine = Engine(RunPaths(tmp_path), pool)
        engine.run("s", 1, [Task("0", say, (0,))])
        pool._server.process.kill()
        pool._server.process.wait()
        with pytest.raises(ValueError, match="the pool of workers is lost"):
            engine.run("t", 1, [Task("0", say, (0,))])


def test_nothing_outlives_whoever_started_the_pool(tmp_path: Path) -> None:
    code = (
        f"from {HERE} import *\n"
        f"with pool_session(2, {HERE + ':load_nothing'!r}) as pool:\n"
        f"    tasks = [Task(str(i), wait_for_ever, (Path({str(tmp_path)!r}),)) for i in range(2)]\n"
        f"    Engine(RunPaths(Path({str(tmp_path / 'run')!r})), pool).run('s', 1, tasks)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        assert eventually(lambda: len([p for p in tmp_path.iterdir() if p.name.isdigit()]) == 2, 60)
        below = descendants(owner.pid)
        assert len(below) == 3
    finally:
        owner.kill()
        owner.wait()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 20)

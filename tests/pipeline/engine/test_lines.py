"""Lines: steps that run beside those of the driver, one turn at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fox1.pipeline.engine.engine import Engine, StageFailed
from fox1.pipeline.engine.tasks import InProcess, Outcome, Progress, Task, Waiting
from fox1.pipeline.run.paths import RunPaths

from tests.pipeline.engine.test_engine import Written, fail, work


def task(folder: Path, name: str, n: int = 0) -> Task[Written]:
    return Task(name, work, (folder / name, n, "s"))


class Noting(InProcess):
    """Notes which task ran when."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for index, outcome in super().run(waiting, paths, progress):
            self.ran.append(waiting.asked[index].task.name)
            yield index, outcome


def test_steps_of_lines_run_between_those_of_the_driver(tmp_path: Path) -> None:
    executor = Noting()
    engine = Engine(RunPaths(tmp_path), executor)

    def line(name: str, steps: int, on: Engine = engine) -> str:
        for number in range(steps):
            on.run(f"{name}{number}", 1, [task(tmp_path, f"{name}{number}")])
        return name

    lines = [engine.beside(lambda: line("b", 2)), engine.beside(lambda: line("c", 1))]
    engine.run("a", 1, [task(tmp_path, "a0"), task(tmp_path, "a1")])
    # The driver's tasks go first; what it does not wait for, nobody has run yet.
    assert executor.ran == ["a0", "a1"]
    engine.run("d", 1, [task(tmp_path, "d0")])
    assert executor.ran == ["a0", "a1", "d0"]
    assert [each.result() for each in lines] == ["b", "c"]
    assert sorted(executor.ran[3:]) == ["b0", "b1", "c0"]
    again = Engine(RunPaths(tmp_path), executor)
    again.beside(lambda: line("b", 2, again))
    again.finish()
    assert again.reused == {"b0": (1, 1), "b1": (1, 1)}


def test_a_line_whose_tasks_are_long_goes_before_the_driver(tmp_path: Path) -> None:
    executor = Noting()
    engine = Engine(RunPaths(tmp_path), executor)
    engine.beside(lambda: engine.run("last", 1, [task(tmp_path, "last")]))
    engine.beside(lambda: engine.run("first", 1, [task(tmp_path, "first")]), first=True)
    engine.run("driver", 1, [task(tmp_path, "driver")])
    assert executor.ran == ["first", "driver"]
    engine.finish()
    assert executor.ran == ["first", "driver", "last"]


def test_a_line_may_start_lines_and_wait_for_them(tmp_path: Path) -> None:
    engine = Engine(RunPaths(tmp_path), InProcess())

    def inner(name: str) -> int:
        return engine.run(name, 1, [task(tmp_path, name, 3)])[0].n

    def outer() -> int:
        lines = [engine.beside(lambda name=name: inner(name)) for name in ("x", "y")]  # type: ignore[misc]
        return inner("z") + sum(each.result() for each in lines)

    assert engine.beside(outer).result() == 9
    engine.finish()


def test_what_a_line_raises_the_driver_raises_at_its_next_step(tmp_path: Path) -> None:
    engine = Engine(RunPaths(tmp_path), InProcess())

    def line() -> None:
        engine.run("b", 1, [task(tmp_path, "b")])
        raise ValueError("no such pool")

    engine.beside(line)
    with pytest.raises(ValueError, match="no such pool"):
        engine.finish()


def test_a_failed_task_gives_up_the_lines_and_the_engine_can_go_on(tmp_path: Path) -> None:
    engine = Engine(RunPaths(tmp_path), InProcess())
    reached = list[str]()

    def line() -> None:
        try:
            engine.run("b", 1, [task(tmp_path, "b")])
            reached.append("after")
        finally:
            reached.append("left")

    def fails() -> None:
        engine.beside(line)
        engine.run("a", 1, [Task("a", fail, (tmp_path, 0, "s"))])

    with pytest.raises(StageFailed, match="row 7 is bad"):
        fails()
    engine.give_up()
    assert reached == ["left"]
    assert engine.run("c", 1, [task(tmp_path, "c", 5)])[0].n == 5

"""What a person sees while stages run: a bar per stage with its rate and the time left, or lines in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ...storage.wording import counted, printable
from .terminal import TextConsole

LOG_SECONDS = 30.0
"""Between two lines about a stage where no bar can be drawn, as in the log of a job."""


@dataclass
class _Step:
    """A step under way."""

    tasks: int
    weight: int
    bar: TaskID | None
    began: float
    done: int = 0
    """Of the weight."""
    tasks_done: int = 0

    def __post_init__(self) -> None:
        self.last_line = self.began


@dataclass
class _Stage:
    """A stage whose steps are under way, or the last of which has ended."""

    began: float
    steps: dict[str, _Step] = field(default_factory=dict)
    ended: float = 0.0
    ran: int = 0
    reused: int = 0


class StageBars:
    """Shows stages as bars on a terminal, as lines elsewhere. A `pipeline.engine.Progress`."""

    def __init__(self) -> None:
        self._console = TextConsole(stderr=True)
        columns = (
            TextColumn("{task.description:28}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rate]:>12}", markup=False),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> StageBars:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close()
        if self._bars:
            self._bars.stop()

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        part = name.split(".")[0]
        stage = self._stages.setdefault(part, _Stage(time.monotonic()))
        stage.ran += tasks
        stage.reused += reused
        bar = self._bars.add_task(printable(name), total=max(weight, 1), rate="") if self._bars else None
        stage.steps[name] = _Step(tasks, max(weight, 1), bar, time.monotonic())

    def task_done(self, name: str, weight: int) -> None:
        self._close()
        step = self._stages[name.split(".")[0]].steps[name]
        step.done += weight
        step.tasks_done += 1
        now = time.monotonic()
        seconds = max(now - step.began, 1e-3)
        rate = f"{step.done / seconds / 1e6:.1f} MB/s" if step.done > 1 << 16 else ""
        if self._bars and step.bar is not None:
            self._bars.update(step.bar, advance=weight, rate=rate)
        elif not self._bars and now - step.last_line > LOG_SECONDS and step.tasks_done < step.tasks:
            step.last_line = now
            left = seconds * (step.weight - step.done) / max(step.done, 1)
            parts = [f"{step.tasks_done:,} of {step.tasks:,} tasks", rate, f"{timedelta(seconds=int(left))} left"]
            self._console.print(f"{name}: {', '.join(part for part in parts if part)}")

    def stage_done(self, name: str, seconds: float) -> None:
        self._close()
        stage = self._stages[name.split(".")[0]]
        step = stage.steps.pop(name)
        stage.ended = time.monotonic()
        if self._bars and step.bar is not None:
            self._bars.remove_task(step.bar)

    def slow(self, name: str, task: str, seconds: float) -> None:
        self._console.print(
            f"{name}: {task} has been running for {seconds:.0f} s, far longer than the other tasks",
        )

    def _close(self) -> None:
        """Say what the stages took none of whose steps is under way."""
        for part, stage in [(p, s) for p, s in self._stages.items() if not s.steps]:
            reused = f", {stage.reused} reused" if stage.reused else ""
            seconds = stage.ended - stage.began
            self._console.print(f"{part:10} {seconds:7.1f} s  {counted(stage.ran, 'task')}{reused}", highlight=False)
            del self._stages[part]

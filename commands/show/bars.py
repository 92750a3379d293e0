"""What a person sees while stages run: a bar per stage with its rate and the time left, or lines in a log."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ...storage.wording import counted, printable
from .terminal import TextConsole

LOG_SECONDS = 30.0
"""Between two lines about a stage where no bar can be drawn, as in the log of a job."""


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
        self._bar: TaskID | None = None
        self._part = ""
        self._part_began = self._began = time.monotonic()
        self._done = self._whole = self._tasks_done = self._tasks = 0
        self._last_line = self._began
        self._reused = self._ran = 0

    def __enter__(self) -> StageBars:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close_part()
        if self._bars:
            self._bars.stop()

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        part = name.split(".")[0]
        if part != self._part:
            self._close_part()
            self._part, self._part_began = part, time.monotonic()
            self._reused = self._ran = 0
        self._reused += reused
        self._ran += tasks
        self._began = self._last_line = time.monotonic()
        self._done, self._whole, self._tasks_done, self._tasks = 0, max(weight, 1), 0, tasks
        if self._bars:
            self._bar = self._bars.add_task(printable(name), total=max(weight, 1), rate="")

    def task_done(self, name: str, weight: int) -> None:
        self._done += weight
        self._tasks_done += 1
        now = time.monotonic()
        seconds = max(now - self._began, 1e-3)
        rate = f"{self._done / seconds / 1e6:.1f} MB/s" if self._done > 1 << 16 else ""
        if self._bars and self._bar is not None:
            self._bars.update(self._bar, advance=weight, rate=rate)
        elif not self._bars and now - self._last_line > LOG_SECONDS and self._tasks_done < self._tasks:
            self._last_line = now
            left = seconds * (self._whole - self._done) / max(self._done, 1)
            parts = [f"{self._tasks_done:,} of {self._tasks:,} tasks", rate, f"{timedelta(seconds=int(left))} left"]
            self._console.print(f"{name}: {', '.join(part for part in parts if part)}")

    def stage_done(self, name: str, seconds: float) -> None:
        if self._bars and self._bar is not None:
            self._bars.remove_task(self._bar)
            self._bar = None

    def slow(self, name: str, task: str, seconds: float) -> None:
        self._console.print(
            f"{name}: {task} has been running for {seconds:.0f} s, far longer than the other tasks",
        )

    def _close_part(self) -> None:
        if self._part:
            seconds = time.monotonic() - self._part_began
            reused = f", {self._reused} reused" if self._reused else ""
            self._console.print(
                f"{self._part:10} {seconds:7.1f} s  {counted(self._ran, 'task')}{reused}", highlight=False
            )

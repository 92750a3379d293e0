"""What a person sees while stages run: a bar for the whole run and one per step, with the time left, or lines in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from ...pipeline.run.schemas import STAGES
from ...storage.wording import counted, printable
from .terminal import TextConsole

LOG_SECONDS = 30.0
"""Between two lines about a stage where no bar can be drawn, as in the log of a job."""


SHARES = dict(zip(STAGES, (0.16, 0.46, 0.02, 0.08, 0.17, 0.05, 0.06), strict=True))
"""Of a run's time, by stage: those that `timings/runs.jsonl` of a run of `mini` has, on two cores."""
CORE_BYTES = 4_800_000
"""Bytes of text that a core takes through all stages in a second, in the same run."""
BEGIN_SECONDS = 5.0
"""What a run takes besides, however small it is."""
WHOLE = "whole run"


class _Left(ProgressColumn):
    """The time until a bar's expected end, which counts down between two tasks."""

    def render(self, task: Task) -> Text:
        ends = task.fields.get("ends")
        return Text("" if ends is None else f"{_clock(ends - time.monotonic())} left", style="cyan")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=max(0, int(seconds))))


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
            TextColumn("{task.fields[count]:>16}", markup=False),
            TextColumn("{task.fields[rate]:>12}", markup=False),
            _Left(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._stages: dict[str, _Stage] = {}
        self._whole: TaskID | None = None
        self._began = time.monotonic()
        self._expected = 0.0
        """Seconds that the run was expected to take when it began; 0: nothing is known."""
        self._weights: dict[str, list[int]] = {}
        """Stage -> (weight that is done, weight of its steps so far)."""
        self._share = 0.0
        """Of the run that is done, which never falls."""

    def __enter__(self) -> StageBars:
        if self._bars:
            self._bars.start()
            self._whole = self._bars.add_task("starting", total=None, rate="", count="")
        return self

    def run_begins(self, text: int, cores: int) -> None:
        self._expected = BEGIN_SECONDS + text / (CORE_BYTES * max(cores, 1))
        if self._bars and self._whole is not None:
            self._bars.update(self._whole, description=WHOLE, total=1.0)
            self._show_whole()
        elif not self._bars and self._expected > LOG_SECONDS:
            about = f"{text / 1e6:,.0f} MB of text on {counted(cores, 'core')}"
            self._console.print(f"{about}: about {_clock(self._expected)} for the whole run", highlight=False)

    def _left(self) -> float:
        """Seconds until the run ends: at first by its size, then more and more by what it has taken so far."""
        took = time.monotonic() - self._began
        total = self._expected * (1 - self._share) + (took / self._share if self._share else 0.0) * self._share
        return total * (1 - self._share)

    def _show_whole(self) -> None:
        if self._bars and self._whole is not None and self._expected:
            self._bars.update(self._whole, completed=self._share, ends=time.monotonic() + self._left())

    def _weigh(self, part: str, done: int, weight: int) -> None:
        """Note that so much more of a stage is done, and known to be there."""
        own = self._weights.setdefault(part, [0, 0])
        own[0] += done
        own[1] += weight
        if part in SHARES:
            before = sum(share for stage, share in SHARES.items() if STAGES.index(stage) < STAGES.index(part))
            self._share = max(self._share, min(0.999, before + SHARES[part] * own[0] / max(own[1], 1)))
        self._show_whole()

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
        if self._bars and self._whole is not None and not self._expected:
            # Steps of a command that is no run: each has a bar, and there is no other.
            self._bars.remove_task(self._whole)
            self._whole = None
        count = f"0 of {tasks:,}"
        bar = (
            self._bars.add_task(printable(name), total=max(weight, 1), rate="", count=count, visible=tasks > 0)
            if self._bars
            else None
        )
        self._weigh(part, 0, max(weight, 1) if tasks else 0)
        stage.steps[name] = _Step(tasks, max(weight, 1), bar, time.monotonic())

    def task_done(self, name: str, weight: int) -> None:
        self._close()
        step = self._stages[name.split(".")[0]].steps[name]
        step.done += weight
        step.tasks_done += 1
        now = time.monotonic()
        seconds = max(now - step.began, 1e-3)
        rate = f"{step.done / seconds / 1e6:.1f} MB/s" if step.done > 1 << 16 else ""
        self._weigh(name.split(".")[0], weight, 0)
        left = seconds * (step.weight - step.done) / max(step.done, 1)
        if self._bars and step.bar is not None:
            count = f"{step.tasks_done:,} of {step.tasks:,}"
            self._bars.update(step.bar, advance=weight, rate=rate, count=count, ends=now + left)
        elif not self._bars and now - step.last_line > LOG_SECONDS and step.tasks_done < step.tasks:
            step.last_line = now
            parts = [f"{step.tasks_done:,} of {step.tasks:,} tasks", rate, f"{_clock(left)} left"]
            if self._expected:
                parts.append(f"about {_clock(self._left())} for the whole run")
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

"""Tasks of a step, attempts at them, and where these run: in this process, in a pool (`pool.py`), or on Ray (`on_ray.py`).

A task is a pure function of its arguments that publishes files and returns, as a frozen dataclass, what it published and
counted. Its key, the hash of everything its output depends on, follows from its arguments (`keys.py`); after its outputs
it publishes a completion record (`records.py`).
"""

from __future__ import annotations

import heapq
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ...storage import lease
from ...storage.disk import writing
from ..run.artifacts import remove
from ..run.paths import RunPaths
from .memory import peak_bytes
from .parts import attempting
from .records import write_record

Result = TypeVar("Result")
Item = TypeVar("Item")

TASK_MEMORY = 1 << 30
"""Bytes a task declares to Ray unless it says otherwise: above what any task was measured to take on documents of usual size
(dedupe 752 MiB); a document of 100 MB takes one and a half."""
MOST_TASKS = 8_000
"""So many tasks a step has at most whose tasks could be as many as its files, see `portions`: two for each of the 4,096 cores that
a run is planned for. A few more would have all wait for a third one."""
MOST_EQUAL = 4_000
"""The same of a step whose tasks take about as long as each other, or are short: one for each of those cores."""
MOST_BESIDE = 2_000
"""The same of a step that runs beside longer ones: it only has to fill what these leave."""
BUNDLE_BYTES = 256 << 20
"""Most that tasks weigh that are sent to a worker together, and below how many they are."""
BUNDLE_TASKS = 128
BUNDLES_PER_CORE = 8


@dataclass(frozen=True)
class Task(Generic[Result]):
    """One unit of work of a step."""

    name: str
    """Unique within the step; names the completion record."""
    run: Callable[..., Result]
    """A function of a module, annotated with the frozen dataclass that it returns: what it published, and its figures."""
    args: tuple[Any, ...]
    """What its key is made of, see `keys.py`."""
    weight: int = 1
    """Bytes of input, for progress. The heaviest task of a step starts first."""
    unweighed: bool = False
    """Nobody knows its weight: it starts before all that are weighed."""
    shares: bool = False
    """It may be one of a file of a few bytes, of which there can be millions: light ones are sent to a worker together."""
    memory: int = TASK_MEMORY
    gpus: float = 0.0
    """Of a Ray node; several tasks share one below 1. A pool of this machine does not count them."""


@dataclass(frozen=True)
class Step:
    """Tasks that the engine runs together, under one name."""

    name: str
    version: int
    """Of the stage, a part of every key."""
    tasks: Sequence[Task[Any]]
    """Their names are unique among them."""
    before: Callable[[Sequence[Task[Any]]], None] | None = None
    """Called with the tasks that have to run, before any does."""


class Progress(Protocol):
    """What a front end is told; the pipeline itself prints nothing."""

    def run_begins(self, text: int, cores: int) -> None:
        """The sources are listed: about so many bytes of text, for tasks of which so many run at once."""

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None: ...

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None: ...

    def slow(self, name: str, task: str, seconds: float) -> None:
        """A task has been under way for much longer than others of its stage took."""


class Silent:
    """A `Progress` that says nothing."""

    def run_begins(self, text: int, cores: int) -> None: ...

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None: ...

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None: ...

    def slow(self, name: str, task: str, seconds: float) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended on a worker."""

    result: Any
    """What the task returned; None where it failed."""
    error: str
    """One line; empty on success."""
    trace: str
    transient: bool
    """The same call may succeed later (an I/O error), unlike an error in the data."""
    host: str
    seconds: float
    peak_bytes: int
    recorded: int = 0
    """When its record was published, in nanoseconds by the clock of the disk; 0 in a store."""


def attempt(planned: Planned, paths: RunPaths) -> Outcome:
    """Run a task and publish its completion record. Runs on a worker; never raises for the task's own failures."""
    task, step = planned.task, planned.step
    began = time.monotonic()
    result, error, trace, transient, recorded = None, "", "", False, 0
    try:
        with lease.under(paths.lease), attempting(paths, step, task.name, planned.key):
            if planned.replaces:
                # Outputs are about to be replaced: no record may vouch for them until they are whole again.
                record = paths.record(step, task.name)
                with writing(record):
                    remove(record)
            done = task.run(*task.args)
            if planned.key:
                recorded = write_record(paths, step, task.name, planned.key, done)
        # Without a record, nothing is finished.
        result = done
    except Exception as cause:
        message = str(cause).strip() or type(cause).__name__
        error = message.splitlines()[0] if isinstance(cause, ValueError) else f"{type(cause).__name__}: {message}"
        trace = traceback.format_exc()
        transient = isinstance(cause, OSError | MemoryError) and not isinstance(cause, FileNotFoundError)
    took = time.monotonic() - began
    return Outcome(result, error, trace, transient, socket.gethostname(), took, peak_bytes(), recorded)


def attempt_each(bundle: Sequence[Planned], paths: RunPaths) -> list[Outcome]:
    """Run tasks one after the other, as a worker does with those that it was sent together."""
    return [attempt(planned, paths) for planned in bundle]


@dataclass(frozen=True)
class Planned:
    """A task with its key."""

    index: int
    """Its place among the tasks that run together."""
    task: Task[Any]
    key: str
    """Empty: it only looks, or only deletes, and no record is left of it."""
    step: str
    """The one that it is of; tasks of several may run together."""
    replaces: bool = True
    """There may be a record of it, from another key or an attempt that was lost. A store is asked only for what it has."""


@dataclass
class _Queue:
    """What of a line was never sent, in order."""

    tasks: deque[Planned]
    weight: int
    """Of all that there were."""


class Waiting:
    """Tasks that have yet to be sent: line by line, those of each in their order. Those whose worker was lost come back to the
    front, and go before all others once their time has come; those that a disk failed, to the end."""

    def __init__(self, tasks: Sequence[Planned] = ()) -> None:
        self.asked: dict[int, Planned] = {}
        """All that were added and have not ended, by index, as they were asked for last; whoever hears of the end takes it out."""
        self._lines: dict[int, _Queue] = {}
        """By number of the line, ascending."""
        self._last = list[tuple[float, int, Planned]]()
        self._soon = list[tuple[float, int, Planned]]()
        self.add(tasks)

    def add(self, tasks: Sequence[Planned], line: int = 0) -> None:
        """Add tasks that may run together.

        Args:
            line: those of lower ones go first.
        """
        if not tasks:
            return
        self.asked.update((p.index, p) for p in tasks)
        self._lines[line] = _Queue(deque(tasks), sum(p.task.weight for p in tasks))
        self._lines = dict(sorted(self._lines.items()))

    def __bool__(self) -> bool:
        """Whether anything is left, now or later."""
        return bool(self._lines or self._soon or self._last)

    def __iter__(self) -> Iterator[Planned]:
        """Take out one after the other, as their time comes."""
        while self:
            if self.next():
                yield self.take()
            else:
                time.sleep(self.seconds())

    def again(self, planned: Planned, seconds: float, last: bool) -> None:
        """Take a task back.

        Args:
            seconds: it waits for so long.
            last: it comes after all that were never sent.
        """
        self.asked[planned.index] = planned
        heapq.heappush(self._last if last else self._soon, (time.monotonic() + seconds, planned.index, planned))

    def seconds(self) -> float:
        """How long it is until the next one may go; 0: it may now, or there is none."""
        if self._lines or not self:
            return 0.0
        return max(0.0, min(held[0][0] for held in (self._soon, self._last) if held) - time.monotonic())

    def next(self) -> Planned | None:
        """The next one that may go now, which stays; None: there is none yet."""
        held = self._returned()
        first = next(iter(self._lines.values()), None)
        return held[0][2] if held else first.tasks[0] if first else None

    def take(self) -> Planned:
        """Take out what `next` says."""
        held = self._returned()
        return heapq.heappop(held)[2] if held else self._take_first()

    def _take_first(self) -> Planned:
        line, queue = next(iter(self._lines.items()))
        taken = queue.tasks.popleft()
        if not queue.tasks:
            del self._lines[line]
        return taken

    def take_bundle(self, cores: int) -> list[Planned]:
        """Take out what is sent to a worker at once: the next one, or some that share. Each keeps its own key and record, so
        nothing but the time depends on it.

        Args:
            cores: tasks that run at once; there are several bundles for each.
        """
        line, queue = next(iter(self._lines.items()), (0, _Queue(deque(), 0)))
        held = [self.take()]
        if not held[0].task.shares:
            return held
        most = min(BUNDLE_BYTES, queue.weight // (BUNDLES_PER_CORE * max(cores, 1)))
        weight = held[0].task.weight
        while next(iter(self._lines), None) == line and len(held) < BUNDLE_TASKS:
            task = queue.tasks[0].task
            if not task.shares or weight + task.weight > most:
                break
            held.append(self._take_first())
            weight += task.weight
        return held

    def _returned(self) -> list[tuple[float, int, Planned]]:
        """The heap of those that came back from which the next one is; empty: it is none of them."""
        now = time.monotonic()
        if self._soon and self._soon[0][0] <= now:
            return self._soon
        return self._last if self._last and not self._lines and self._last[0][0] <= now else []


class Executor(Protocol):
    """Where attempts run. Yields (index, outcome) as they end; an outcome with no host means the worker was lost. Whoever takes
    it may put the task back before it asks for the next one."""

    on_this_machine: bool
    """All attempts are: what they write is lost when this machine stops, and else never."""

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]: ...

    def preload(self, function: Callable[..., object], *arguments: object) -> None:
        """Have workers begin with what a function loads and keeps, where they share it; else each of them calls it when it needs
        it. It starts no thread, and takes what any worker may read."""
        ...

    @property
    def cores(self) -> int:
        """Tasks that run at once."""
        ...

    @property
    def room(self) -> int:
        """Bytes that the largest node has for a task."""
        ...


class InProcess:
    """Runs tasks one after the other in this process: no Ray, the same bytes."""

    on_this_machine = True
    cores = 1
    room = 1 << 62

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            yield planned.index, attempt(planned, paths)


def portions(
    items: Sequence[Item],
    size: Callable[[Item], int],
    total: int,
    most: int = 0,
    least: int = 0,
    work: Callable[[Item], int] | None = None,
) -> list[list[Item]]:
    """Consecutive items together, so that there are at most so many portions of what has `total` in all, about as large as each
    other.

    Where that is little, each item of `least` is a portion of its own.

    Args:
        most: 0: `MOST_TASKS`.
        work: what an item takes, if that is not as its size; portions take about as long as each other. `total` is of all `items`.
    """
    count = most or MOST_TASKS
    if least:
        count = max(1, min(count, total // least))
    each = [work(item) for item in items] if work else [size(item) for item in items]
    whole = max(1, sum(each) if work else total)
    found: list[list[Item]] = []
    seen, last = 0, -1
    for item, n in zip(items, each, strict=True):
        if (place := seen * count // whole) > last:
            found.append([])
            last = place
        found[-1].append(item)
        seen += n
    return found

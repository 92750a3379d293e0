"""What the simulation puts in the place of a cluster and a store: a clock, an executor and listings.

`Simulated` is an executor whose tasks return what `made_up.py` makes up; it asks two clocks when each would have ended, on 512
and 4,096 slots say. `Objects` is a store that keeps what the driver writes, lists what tasks would have published as well, and
counts requests.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import cloudpickle
import pyarrow as pa
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.lines import Line
from fox1.pipeline.engine.records import write_record
from fox1.pipeline.engine.tasks import TASK_MEMORY, Outcome, Planned, Progress, Result, Step, Waiting
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.published import sorted_by_path
from fox1.pipeline.run.records import LOOSE_IN_STORE
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from .made_up import MadeUp

REQUEST_SECONDS = 0.02
BANDWIDTH = 200e6
"""Bytes per second between a task and the store."""
DISPATCH_SECONDS = 0.0005
"""The driver takes so long for each bundle, one after the other."""
NODE_SLOTS = 64
LOST_EVERY = 1200.0
"""Seconds after which another node is lost, with what it was doing; one is put in its place."""
NOTICED_SECONDS = 30.0
"""After which the driver hears of it."""
TOGETHER = 256
"""Results that are made up at once."""
SAMPLED = 200
"""Tasks of a step that are pickled to see how large their arguments are."""


class Bundle(NamedTuple):
    """What a worker is sent at once: tasks that share, or one."""

    seconds: float
    parts: int = 1
    """Of equal time, which the task publishes on its way; another attempt makes only those that are missing."""
    reading: float = 0.0
    """Share of the time in which the task reads: what parts that are there cost another attempt."""

    def after(self, seconds: float) -> Bundle:
        """What is left to do of a task that was lost after so long."""
        there = int(seconds / self.seconds * self.parts) / self.parts
        return self._replace(seconds=self.seconds * (1 - there * (1 - self.reading)))


@dataclass
class Batch:
    """Steps that began together, as the driver sent them."""

    steps: tuple[str, ...]
    after: frozenset[str]
    """Steps that had ended before the driver, or the line, could plan them."""
    line: int
    """Tasks of lower ones go first."""
    work: float = 0.0
    serial: float = 0.0
    """Its longest task that cannot be split."""
    longest: float = 0.0
    tasks: int = 0

    @property
    def name(self) -> str:
        """Where a single long task runs beside the many of a step, they give the name."""
        return self.steps[0]


class Lasted(NamedTuple):
    """When the tasks of some steps could begin, and when the last one had ended."""

    began: float
    ended: float


@dataclass
class Clock:
    """List scheduling on some slots, nodes of which are lost from time to time: a batch begins when those before it have ended."""

    slots: int
    now: float = 0.0
    work: float = 0.0
    """Seconds of all tasks, each once."""
    redone: float = 0.0
    """Seconds of what lost nodes had done of their tasks."""
    batches: list[tuple[Batch, list[Bundle]]] = field(default_factory=list)
    lasted: dict[str, Lasted] = field(default_factory=dict)
    """By name of the batch."""

    def add(self, batch: Batch, bundled: Iterable[Bundle]) -> None:
        """Add a batch whose bundles take so long, in the order in which they are sent."""
        self.batches.append((batch, list(bundled)))

    def run(self) -> None:
        """Let all of them pass."""
        left = [len(bundled) for _, bundled in self.batches]
        holds = [len(batch.after) for batch, _ in self.batches]
        waits: dict[str, list[int]] = {}
        for number, (batch, _) in enumerate(self.batches):
            for step in batch.after:
                waits.setdefault(step, []).append(number)
        began = [0.0] * len(left)
        # (line, number of the batch, place), and (due, bundle, number) of what was lost.
        ready, again = list[tuple[int, int, int]](), list[tuple[float, Bundle, int]]()
        events = list[tuple[float, int, int]]()
        free, sent, at = self.slots, 0.0, 0.0

        def unlock(number: int) -> None:
            began[number] = at
            heapq.heappush(ready, (self.batches[number][0].line, number, 0))

        for number, held in enumerate(holds):
            if not held:
                unlock(number)
        while ready or again or events:
            start = max(at, sent + DISPATCH_SECONDS)
            due = bool(again) and again[0][0] <= start
            if free and (ready or due) and not (events and events[0][0] < start):
                # What was lost goes out again before the others.
                if due:
                    _, bundle, number = heapq.heappop(again)
                else:
                    line, number, place = heapq.heappop(ready)
                    bundle = self.batches[number][1][place]
                    self.work += bundle.seconds
                    if place + 1 < len(self.batches[number][1]):
                        heapq.heappush(ready, (line, number, place + 1))
                free, sent, ends = free - 1, start, start + bundle.seconds
                if lost := self._lost(start, ends):
                    rest = bundle.after(lost - start)
                    self.redone += lost - start - (bundle.seconds - rest.seconds)
                    heapq.heappush(again, (lost + NOTICED_SECONDS, rest, number))
                    heapq.heappush(events, (lost, -1, number))
                    heapq.heappush(events, (lost + NOTICED_SECONDS, -2, number))
                else:
                    heapq.heappush(events, (ends, 0, number))
                continue
            at, what, number = heapq.heappop(events)
            if what == -2:
                # Only that there is something to be sent again.
                continue
            free += 1
            if what == -1:
                continue
            left[number] -= 1
            if not left[number]:
                batch = self.batches[number][0]
                self.lasted[batch.name] = Lasted(began[number], at)
                for other in itertools.chain.from_iterable(waits.get(step, ()) for step in batch.steps):
                    holds[other] -= 1
                    if not holds[other]:
                        unlock(other)
        self.now = at

    def chain(self) -> float:
        """Seconds of the longest chain of tasks that cannot be split, each of which waits for those before it."""
        ends: dict[str, float] = {}
        for batch, _ in self.batches:
            end = max((ends[step] for step in batch.after), default=0.0) + batch.serial
            ends |= dict.fromkeys(batch.steps, end)
        return max(ends.values(), default=0.0)

    def _lost(self, start: float, ends: float) -> float:
        """When the node of a task is lost; 0: it is not. Which slots a node has is left to chance: it hits one in so many."""
        at = (start // LOST_EVERY + 1) * LOST_EVERY
        nodes = self.slots // NODE_SLOTS
        while at < ends:
            if hash((at, start, ends)) % nodes == 0:
                return at
            at += LOST_EVERY
        return 0.0


class Objects(MemoryFileSystem):
    """A store of what the driver writes; what tasks have published it only lists."""

    protocol = "simulated"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    requests: ClassVar[Counter[str]] = Counter()
    root: ClassVar[str] = ""
    finished: ClassVar[dict[str, pa.Table]] = {}
    """What tasks have published, by step: the engine's own."""
    own_seconds: ClassVar[float] = 0.0
    """CPU seconds that listings took here; a store has its own."""
    _listed: ClassVar[tuple[tuple[int, int], list[str], pa.Table]] = ((-1, -1), [], sorted_by_path([]))

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        path = str(path).removeprefix("simulated://").strip("/")
        return f"/{path}" if path else ""

    @classmethod
    def _below(cls, folder: str) -> Iterator[tuple[str, int]]:
        """(name, bytes) of all objects below a folder, in no order."""
        count = len(cls.store), len(cls.finished)
        if cls._listed[0] != count:
            # At once: several threads ask.
            cls._listed = count, sorted(cls.store), sorted_by_path(cls.finished.values()).combine_chunks()
        _, own, made_up = cls._listed
        first, end = (bisect.bisect_left(own, f"{folder}{c}") for c in "/0")
        yield from ((name, cls.store[name].size) for name in own[first:end] if name in cls.store)
        if not f"{folder}/".startswith(f"{cls.root}/"):
            return
        names = made_up.column("path").combine_chunks()
        inside = f"{folder}/".removeprefix(f"{cls.root}/").removesuffix("/")
        first, end = 0, len(names)
        if inside:
            first, end = (
                bisect.bisect_left(range(len(names)), f"{inside}{c}", key=lambda i: names[i].as_py()) for c in "/0"
            )
        table = made_up.slice(first, end - first)
        for batch in table.select(["path", "bytes"]).to_batches(1 << 16):
            for name, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield f"{cls.root}/{name}", size

    def ls(self, path: Any, detail: bool = True, **_: Any) -> list[Any]:
        self.requests["LIST"] += 1
        folder = self._strip_protocol(path)
        found: dict[str, Any] = {}
        for name, size in self._below(folder):
            child, slash, _rest = name[len(folder) + 1 :].partition("/")
            kind = "directory" if slash else "file"
            place = f"{folder}/{child}"
            found.setdefault(place, {"name": place, "size": 0 if slash else size, "type": kind})
        if not found:
            raise FileNotFoundError(folder)
        return list(found.values()) if detail else sorted(found)

    def find(self, path: Any, maxdepth: Any = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
        began = time.thread_time()
        below = self._below(self._strip_protocol(path))
        found = {name: {"name": name, "size": size, "type": "file"} for name, size in below}
        self.requests["LIST"] += 1 + len(found) // 1000
        Objects.own_seconds += time.thread_time() - began
        return found if detail else sorted(found)

    def get_file(self, rpath: Any, lpath: Any, **_: Any) -> None:
        self.requests["FETCH"] += 1
        path = self._strip_protocol(rpath)
        if path not in self.store:
            raise FileNotFoundError(path)
        with open(lpath, "wb") as file:
            file.write(self.store[path].getvalue())

    def put_file(self, lpath: Any, rpath: Any, callback: Any = None, mode: str = "overwrite", **_: Any) -> None:
        with open(lpath, "rb") as file:
            self.pipe_file(rpath, file.read(), mode)

    def pipe_file(self, path: Any, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.requests["PUT"] += 1
        place = self._strip_protocol(path)
        if mode == "create" and place in self.store:
            raise FileExistsError(place)
        self.store[place] = MemoryFile(self, place, bytes(value))

    def info(self, path: Any, **_: Any) -> dict[str, Any]:
        self.requests["HEAD"] += 1
        place = self._strip_protocol(path)
        if place not in self.store:
            raise FileNotFoundError(place)
        return {"name": place, "size": self.store[place].size, "type": "file"}

    def cat_file(self, path: Any, start: Any = None, end: Any = None, **_: Any) -> bytes:
        self.requests["GET"] += 1
        return bytes(super().cat_file(path, start, end))

    def rm(self, path: Any, recursive: bool = False, maxdepth: Any = None) -> None:
        self.requests["DELETE"] += 1
        for name in [path] if isinstance(path, str) else path:
            self.store.pop(self._strip_protocol(name), None)


register_implementation("simulated", Objects)


@dataclass
class StepFacts:
    """What a step took."""

    tasks: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    longest_split: float = 0.0
    """Of the tasks that do not read a file of a single frame."""
    slowest: str = ""
    """The name of that task."""
    serial: float = 0.0
    """Longest of the tasks that cannot be split."""
    requests: int = 0
    moved: float = 0.0
    written: float = 0.0
    arguments: int = 0
    """Largest, in bytes, of the tasks that were looked at."""
    pickled: float = 0.0
    """Bytes of the arguments of all tasks."""


class SimulatedEngine(Engine):
    """An engine that tells its executor which steps each one follows."""

    executor: Simulated

    def __post_init__(self) -> None:
        super().__post_init__()
        # Of another simulation in this process.
        _ended.set(frozenset())

    def run_beside(self, steps: Sequence[Step]) -> list[list[Any]]:
        names = frozenset(step.name for step in steps)
        current = self._lines.current
        for name in names:
            self.executor.after[name], self.executor.together[name] = _ended.get(), names
            self.executor.line_of[name] = current.number if current else 0
        ran = self.executor.ran
        results = super().run_beside(steps)
        if any(step.tasks for step in steps) and self.executor.ran > ran:
            _ended.set(names)
        return results

    def beside(self, work: Callable[[], Result], first: bool = False) -> Line[Result]:
        def noting() -> tuple[Result, frozenset[str]]:
            return work(), _ended.get()

        line: Any = _SimulatedLine(super().beside(noting, first))
        return line


class _SimulatedLine:
    """A line after whose end follows what also follows what its steps followed."""

    def __init__(self, line: Line[Any]) -> None:
        self._line = line

    def result(self) -> Any:
        made, ended = self._line.result()
        _ended.set(_ended.get() | ended)
        return made


_ended: ContextVar[frozenset[str]] = ContextVar("ended", default=frozenset())


class Simulated:
    """An executor that makes results up."""

    room = 1 << 40

    on_this_machine = False

    def __init__(self, made_up: MadeUp, clocks: Sequence[Clock]) -> None:
        self._made_up, self.clocks = made_up, clocks
        self.steps: dict[str, StepFacts] = {}
        self.own_seconds = 0.0
        """CPU seconds that go to the simulation, not to the driver."""
        self.ran = 0
        self.after: dict[str, frozenset[str]] = {}
        """Step -> those that had ended before it was planned."""
        self.together: dict[str, frozenset[str]] = {}
        """Step -> those that began with it, itself included."""
        self.line_of: dict[str, int] = {}

    @property
    def cores(self) -> int:
        return self.clocks[0].slots

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        while waiting:
            # All that a line waits for; others come while it is handed back.
            first = waiting.take()
            tasks = [first]
            while (more := waiting.next()) and more.step in self.together[first.step]:
                tasks.append(waiting.take())
            yield from self._batch(tasks, paths)

    def _batch(self, tasks: Sequence[Planned], paths: RunPaths) -> Iterator[tuple[int, Outcome]]:
        self.ran += len(tasks)
        took: dict[int, Bundle] = {}
        steps: dict[str, list[Planned]] = {}
        for planned in tasks:
            steps.setdefault(planned.step, []).append(planned)
        # All are made up before any is handed back: whoever waits for the first step may begin others.
        outcomes = list(itertools.chain.from_iterable(self._make_up(n, of, paths, took) for n, of in steps.items()))
        names = sorted(steps, key=lambda name: -len(steps[name]))
        facts = [self.steps[name] for name in names]
        batch = Batch(
            tuple(names),
            self.after[names[0]],
            self.line_of[names[0]],
            sum(f.seconds for f in facts),
            max(f.serial for f in facts),
            max(f.longest for f in facts),
            len(tasks),
        )
        began = time.process_time()
        for clock in self.clocks:
            clock.add(batch, _bundled(tasks, took, clock.slots))
        self.own_seconds += time.process_time() - began
        yield from outcomes

    def _make_up(
        self, step: str, tasks: Sequence[Planned], paths: RunPaths, took: dict[int, Bundle]
    ) -> Iterator[tuple[int, Outcome]]:
        """The results of a step's tasks; what each takes is added to `took`."""
        facts = self.steps.setdefault(step, StepFacts())
        facts.tasks += len(tasks)
        self._pickle(facts, tasks)
        self._made_up.begin(step, len(tasks))
        for first in range(0, len(tasks), TOGETHER):
            some = tasks[first : first + TOGETHER]
            began = time.process_time()
            results = [self._result(facts, replace(p, index=n), p, took) for n, p in enumerate(some, first)]
            for place, (planned, result) in enumerate(zip(some, results, strict=True), first):
                if planned.key and place >= len(tasks) - LOOSE_IN_STORE:
                    # The driver gathers the records of all others before it could look at one.
                    write_record(paths, step, planned.task.name, planned.key, result)
            self.own_seconds += time.process_time() - began
            for planned, result in zip(some, results, strict=True):
                yield (
                    planned.index,
                    Outcome(result, "", "", False, "node", took[planned.index].seconds, TASK_MEMORY // 2, 0),
                )

    def _result(self, facts: StepFacts, planned: Planned, sent: Planned, took: dict[int, Bundle]) -> Any:
        """What a task returns; what it takes is added to what its step does.

        Args:
            planned: with its place in the step.
        """
        result, work = self._made_up.result(planned)
        waits = work.waits * REQUEST_SECONDS + (work.moved - work.ahead_moved) / BANDWIDTH
        own = max(work.seconds, work.ahead_waits * REQUEST_SECONDS + work.ahead_moved / BANDWIDTH)
        seconds = max(own, waits) if work.meanwhile else own + waits
        took[sent.index] = Bundle(seconds, work.parts, min(1.0, work.reading / seconds) if seconds else 0.0)
        facts.seconds += seconds
        facts.requests += work.requests
        facts.moved += work.moved
        facts.written += work.written
        facts.longest = max(facts.longest, seconds)
        if not work.one_frame and seconds > facts.longest_split:
            facts.longest_split, facts.slowest = seconds, planned.task.name
        if work.one_frame or work.serial:
            facts.serial = max(facts.serial, seconds)
        return result

    def _pickle(self, facts: StepFacts, tasks: Sequence[Planned]) -> None:
        """What the driver does for each task that it sends; of many, a sample stands for all. The first are the heaviest."""
        each = max(1, len(tasks) // SAMPLED)
        began = time.process_time()
        sizes = [len(cloudpickle.dumps([planned])) for planned in tasks[::each]]
        took = time.process_time() - began
        facts.arguments = max([facts.arguments, *sizes])
        facts.pickled += sum(sizes) * len(tasks) / max(1, len(sizes))
        # The rest counts as the driver's as well.
        self.own_seconds -= took * (len(tasks) / max(1, len(sizes)) - 1)


def _bundled(tasks: Sequence[Planned], took: dict[int, Bundle], slots: int) -> Iterable[Bundle]:
    waiting = Waiting(tasks)
    while waiting:
        first, *others = [took[p.index] for p in waiting.take_bundle(slots)]
        yield Bundle(sum(each.seconds for each in (first, *others))) if others else first

"""What the simulation puts in the place of a cluster and a store: a clock, an executor and listings.

`Simulated` is an executor whose tasks return what `made_up.py` makes up; it asks two clocks when each would have ended, on 512
and 4,096 slots say. `Objects` is a store that keeps what the driver writes, lists what tasks would have published as well, and
counts requests.
"""

from __future__ import annotations

import bisect
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import cloudpickle
import pyarrow as pa
from fox1.pipeline.engine.records import write_record
from fox1.pipeline.engine.tasks import TASK_MEMORY, Outcome, Planned, Progress, Waiting
from fox1.pipeline.run.artifacts import RunPaths
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
class Clock:
    """List scheduling on some slots, nodes of which are lost from time to time."""

    slots: int
    now: float = 0.0
    work: float = 0.0
    """Seconds of all tasks, each once."""
    redone: float = 0.0
    """Seconds of what lost nodes had done of their tasks."""
    steps: dict[str, float] = field(default_factory=dict)
    """Step -> seconds it lasted."""

    def step(self, name: str, bundled: Sequence[Bundle]) -> None:
        """Let a step pass whose bundles take so long, in the order in which they are sent."""
        began = self.now
        free = [began] * min(self.slots, len(bundled))
        sent = end = began
        todo, again = deque(bundled), list[tuple[float, Bundle]]()
        self.work += sum(bundle.seconds for bundle in bundled)
        while todo or again:
            start = max(heapq.heappop(free), sent + DISPATCH_SECONDS)
            if again and (again[0][0] <= start or not todo):
                # What was lost goes out again before the others.
                noticed, bundle = heapq.heappop(again)
                start = max(start, noticed)
            else:
                bundle = todo.popleft()
            sent += DISPATCH_SECONDS
            ends = start + bundle.seconds
            if lost := self._lost(start, ends):
                left = bundle.after(lost - start)
                self.redone += lost - start - (bundle.seconds - left.seconds)
                heapq.heappush(again, (lost + NOTICED_SECONDS, left))
                ends = lost
            heapq.heappush(free, ends)
            end = max(end, ends)
        self.now = end
        self.steps[name] = self.steps.get(name, 0.0) + end - began

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


class Simulated:
    """An executor that makes results up."""

    room = 1 << 40

    def __init__(self, made_up: MadeUp, clocks: Sequence[Clock]) -> None:
        self._made_up, self.clocks = made_up, clocks
        self.steps: dict[str, StepFacts] = {}
        self.own_seconds = 0.0
        """CPU seconds that go to the simulation, not to the driver."""
        self.ran = 0

    @property
    def cores(self) -> int:
        return self.clocks[0].slots

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        self.ran += len(waiting.tasks)
        took: dict[int, Bundle] = {}
        steps: dict[str, list[Planned]] = {}
        for planned in waiting.tasks:
            steps.setdefault(planned.step, []).append(planned)
        for name, tasks in steps.items():
            yield from self._make_up(name, tasks, paths, took)
        began = time.process_time()
        for clock in self.clocks:
            # Where a single long task runs beside the many of a step, they give the name.
            clock.step(
                max(steps, key=lambda name: len(steps[name]), default=""),
                list(_bundled(waiting.tasks, took, clock.slots)),
            )
        self.own_seconds += time.process_time() - began

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
            results = [self._result(facts, planned, took) for planned in some]
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

    def _result(self, facts: StepFacts, planned: Planned, took: dict[int, Bundle]) -> Any:
        """What a task returns; what it takes is added to what its step does."""
        result, work = self._made_up.result(planned)
        waits = work.waits * REQUEST_SECONDS + work.moved / BANDWIDTH
        seconds = max(work.seconds, waits) if work.meanwhile else work.seconds + waits
        took[planned.index] = Bundle(seconds, work.parts, min(1.0, work.reading / seconds) if seconds else 0.0)
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

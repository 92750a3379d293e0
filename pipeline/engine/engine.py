"""Runs a stage's tasks (`tasks.py`) and skips those that are finished.

A task whose record has the same key and whose outputs are in place is not run again: that is all there is to resuming
(`finished.py`). An output that was changed is made again, as is all that was finished after that.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...storage import lease, store
from ..run.artifacts import Artifact
from ..run.checksums import hash_file
from ..run.garbage import remove_outdated
from ..run.paths import RunPaths
from ..run.published import table_of, written_on_disk
from ..run.records import LOOSE, LOOSE_IN_STORE, PART_RECORDS, Record, StepRecords, forget_since
from .finished import Changed, finished_task
from .keys import TaskKeys
from .lines import Line, Lines
from .lists import FileLists
from .origin import Origin
from .records import artifacts_in, keep_log, log, record_of, with_artifacts
from .tasks import TASK_MEMORY, Executor, Outcome, Planned, Progress, Result, Silent, Step, Task, Waiting

ATTEMPTS = 4
"""Tries at one task when workers die, nodes are lost or a file system fails; a task's own errors are not retried."""
RETRY_SECONDS = 1.0
"""How long a task waits for its second attempt; for each further one twice as long, and five seconds at most."""
LOOK_SHARE = 0.02
"""Of a run's time, for looks at what it has published; one is always taken at its end."""


class StageFailed(ValueError):
    """A task failed for good: one line naming stage, task, cause and the log."""


@dataclass(frozen=True)
class _Reused:
    """A task that is finished, by its record."""

    result: Any
    record: Record
    renewed: bool
    """The record is another one than was found, and has yet to be written."""


@dataclass
class _Running:
    """A step under way."""

    name: str
    first: int
    """Index of its first task."""
    records: StepRecords
    todo: list[Planned]
    results: list[Any]
    """By task; None: there is none yet."""
    unsettled: list[Record]
    """What has a record of its own and is no part yet."""
    outdated: list[str]
    """Files that its tasks have published before, under other keys."""
    left: int
    """Tasks that have not ended."""
    began: float = field(default_factory=time.monotonic)


@dataclass
class _UnderWay:
    """All steps under way, of the driver and of its lines, and their tasks."""

    events: Iterator[tuple[Planned, Outcome, int]]
    waiting: Waiting
    paths: RunPaths


@dataclass
class Engine:
    """Runs stages of one run: skips finished tasks, retries lost ones, stops at the first that fails for good."""

    paths: RunPaths
    executor: Executor
    progress: Progress = field(default_factory=Silent)
    memory: int = TASK_MEMORY
    """Bytes that a task may take where it can choose; no result depends on it."""
    origin: Origin | None = None
    """Another run, which finished tasks are taken from."""
    reused: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stage -> (tasks whose finished output was reused, tasks)."""
    finished: dict[str, pa.Table] = field(default_factory=dict)
    """Stage -> what its tasks published, for the manifest: see `run/published.py`."""
    _records: dict[str, StepRecords] = field(default_factory=dict)
    """Of the steps that are looked at now."""
    _looks_again: float = 0.0
    _unseen: str = ""
    """The last step that ran anything since the last look."""
    _trusted_until: int = 1 << 63
    _steps: dict[str, _Running] = field(default_factory=dict)
    """Those under way, by name."""
    _under_way: _UnderWay | None = None
    _planned: int = 0
    """Tasks that any step had until now."""
    _listed: Counter[Path] = field(default_factory=Counter)
    """Lists of files -> steps under way whose tasks read them."""

    def __post_init__(self) -> None:
        store.remember(self.paths.root)
        self._at_start = store.AtStart(self.paths.root)
        self._lines = Lines(self._advance)

    def run(self, step: str, version: int, tasks: Sequence[Task[Result]]) -> list[Result]:
        """Run what is not finished; results in the order of `tasks`.

        Args:
            version: of the stage, a part of every key.

        Raises:
            StageFailed: a task failed; nothing of the step is taken for finished that is not.
        """
        return self.run_beside([Step(step, version, tasks)])[0]

    def run_beside(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run steps that do not wait for each other, one beside the other; the results of each in the order of its tasks.

        Raises:
            StageFailed: as `run`.
        """
        running = list[_Running]()
        for step in steps:
            running.append(self._begin(step, self._planned))
            self._planned += len(step.tasks)
        for r in running:
            if not r.left:
                self.progress.stage_done(r.name, time.monotonic() - r.began)
        lists = FileLists(self.paths, self._listed)
        todo = [p for r in running for p in r.todo]
        # The last to start should be a short one.
        todo.sort(key=lambda p: (not p.task.unweighed, -p.task.weight))
        try:
            given = [replace(p, task=replace(p.task, args=lists.without_long_sets(p.task.args))) for p in todo]
            self._run(running, given)
        finally:
            lists.remove()
            for r in running:
                self._records.pop(r.name, None)
        for r in running:
            if len(r.unsettled) > (LOOSE_IN_STORE if isinstance(self.paths.root, store.Mirrored) else LOOSE):
                r.records.settle(r.unsettled)
            self.finished[r.name] = table_of((self.paths.name_of(a), a) for a in artifacts_in(r.results))
        keep_log(self.paths.timings("tasks.jsonl"))
        for r in running:
            remove_outdated(self.paths, r.outdated, self.finished)
        if todo:
            self._unseen = running[-1].name
        if time.monotonic() >= self._looks_again:
            self.look()
        return [r.results for r in running]

    def beside(self, work: Callable[[], Result], first: bool = False) -> Line[Result]:
        """Run the steps of a function beside those that follow here. Its tasks start where no others wait for a core; what it
        returns, or raises, its `result` says.

        Args:
            first: its tasks, few and long, start before all others.

        Whoever starts lines calls `finish` or `give_up` before the engine is left.
        """
        return self._lines.start(work, first)

    def side_by_side(self, first: Callable[[], Result], *others: Callable[[], Result]) -> list[Result]:
        """Run the steps of several functions at the same time; what they return. Tasks of earlier ones go first."""
        lines = [self.beside(work) for work in others]
        return [first(), *(line.result() for line in lines)]

    def finish(self) -> None:
        """Wait for all that runs beside."""
        self._lines.finish()

    def give_up(self) -> None:
        """Begin no further step of what runs beside."""
        self._lines.give_up()
        self._under_way = None
        self._steps.clear()

    def _begin(self, step: Step, first: int) -> _Running:
        """What of a step has yet to be run.

        Args:
            first: index of its first task.
        """
        names = [t.name for t in step.tasks]
        assert len(set(names)) == len(names), f"task names of {step.name} are not unique"
        keys = TaskKeys(step.name, step.version)
        planned = [Planned(first + i, task, keys.of(task.args), step.name) for i, task in enumerate(step.tasks)]
        records = self._records_of(step.name)
        results, unsettled = self._reuse(records, planned)
        outdated = self._outdated(records, planned, results)
        self._take(records, planned, results, first)
        todo = [p for p, result in zip(planned, results, strict=True) if result is None]
        self.reused[step.name] = (len(names) - len(todo), len(names))
        self.progress.stage(step.name, len(todo), sum(p.task.weight for p in todo), len(names) - len(todo))
        if step.before:
            step.before([p.task for p in todo])
        records.drop(p.task.name for p in todo)
        todo = [replace(p, replaces=records.is_loose(p.task.name)) for p in todo]
        return _Running(step.name, first, records, todo, results, unsettled, outdated, len(todo))

    @staticmethod
    def _outdated(records: StepRecords, planned: Sequence[Planned], results: Sequence[Any]) -> list[str]:
        """Files that the tasks without a result have published before."""
        redone = (p.task.name for p, result in zip(planned, results, strict=True) if result is None)
        return [name for task in redone if (was := records.found.get(task)) for name in was.outputs]

    def _records_of(self, step: str) -> StepRecords:
        if step not in self._records:
            self._records[step] = StepRecords(self.paths, step)
        return self._records[step]

    def _run(self, running: Sequence[_Running], todo: Sequence[Planned]) -> None:
        """Run tasks, those that a worker or a disk lost again, until all have put what they return into the results of their
        step.
        """
        if not todo:
            return
        self._steps |= {r.name: r for r in running}
        line = self._lines.current.number if self._lines.current else 0
        if self._under_way is None:
            self._under_way = self._begin_under_way(Waiting())
        self._under_way.waiting.add(todo, line)
        try:
            self._lines.wait(lambda: not any(r.left for r in running))
        except BaseException:
            self._under_way = None
            raise
        finally:
            for r in running:
                self._steps.pop(r.name, None)

    def _begin_under_way(self, waiting: Waiting) -> _UnderWay:
        held = self.paths.lease
        # No task asks when they began.
        paths = replace(self.paths, lease=replace(held, began=(), flushed=())) if held else self.paths
        return _UnderWay(self._attempts(waiting, paths, self._time), waiting, paths)

    def _advance(self) -> None:
        """Wait until a task of any step has ended."""
        assert self._under_way, "a line waits for what nobody makes"
        found = next(self._under_way.events, None)
        if found is None:
            # The executor had all that there was, and was asked no more when others were added.
            self._under_way = self._begin_under_way(self._under_way.waiting) if self._under_way.waiting else None
            return
        planned, outcome, attempts = found
        step = self._steps[planned.step]
        if outcome.result is None:
            keep_log(self.paths.timings("tasks.jsonl"))
            self._unseen = step.name
            self.look()
            raise StageFailed(self._describe(step.name, planned.task, outcome, attempts))
        step.results[planned.index - step.first] = outcome.result
        self.progress.task_done(step.name, planned.task.weight)
        recorded = record_of(self._under_way.paths, planned.task.name, planned.key, outcome.recorded, outcome.result)
        step.unsettled.append(recorded)
        if len(step.unsettled) >= PART_RECORDS:
            step.records.settle(step.unsettled)
            step.unsettled.clear()
        step.left -= 1
        if not step.left:
            self.progress.stage_done(step.name, time.monotonic() - step.began)

    def _attempts(
        self, waiting: Waiting, paths: RunPaths, told: Callable[[Planned, int, Outcome], None]
    ) -> Iterator[tuple[Planned, Outcome, int]]:
        """Run tasks, those that a worker or a disk lost again: each with its last outcome, and how many attempts it took.

        Args:
            waiting: others may be added until the last one has ended.
            told: of every attempt.
        """
        attempts = Counter[int]()
        for index, outcome in self.executor.run(waiting, paths, self.progress):
            attempts[index] += 1
            planned = waiting.asked[index]
            told(planned, attempts[index], outcome)
            if outcome.result is None and outcome.transient and attempts[index] < ATTEMPTS:
                # Alone, so that it is known which one of a bundle ends its worker. What has no key leaves no record.
                task = replace(planned.task, shares=False)
                if outcome.error.startswith("OutOfMemoryError"):
                    # Fewer beside it: tasks are placed by what is declared.
                    task = replace(task, memory=min(2 * task.memory, self.executor.room))
                asked = replace(planned, task=task, replaces=bool(planned.key))
                # A lost worker is replaced; what a disk failed may fail for a while.
                waiting.again(asked, min(5.0, RETRY_SECONDS * 2 ** (attempts[index] - 1)), last=bool(outcome.host))
            else:
                del waiting.asked[index]
                yield planned, outcome, attempts.pop(index)

    def disown(self, step: str, artifacts: Iterable[Artifact]) -> None:
        """Take artifacts out of what a step has published for the manifest: nothing reads them."""
        gone = pa.array([self.paths.name_of(a) for a in artifacts], pa.string())
        published = self.finished[step]
        self.finished[step] = published.filter(pc.invert(pc.is_in(published.column("path"), gone)))

    def spread(
        self,
        step: str,
        function: Callable[..., Result],
        arguments: Sequence[tuple[Any, ...]],
        weights: Sequence[int] = (),
    ) -> Iterator[Result]:
        """Call a function with each of some arguments, as tasks that leave no record; see `Spread`.

        Args:
            weights: bytes that each call reads, for progress.

        Raises:
            StageFailed: a call failed.
        """
        began = time.monotonic()
        sizes = weights or [1] * len(arguments)
        tasks = [Task(f"{i:05d}", function, each, w) for i, (each, w) in enumerate(zip(arguments, sizes, strict=True))]
        self.progress.stage(step, len(tasks), sum(sizes), 0)
        todo = [Planned(i, task, "", step, replaces=False) for i, task in enumerate(tasks)]
        for planned, outcome, _ in self._attempts(Waiting(todo), self.paths, lambda *_: None):
            if outcome.result is None:
                raise StageFailed(f"{step} failed: {outcome.error}")
            self.progress.task_done(step, planned.task.weight)
            yield outcome.result
        self.progress.stage_done(step, time.monotonic() - began)

    def _reuse(self, records: StepRecords, planned: Sequence[Planned]) -> tuple[list[Any], list[Record]]:
        """(the results of tasks that are finished, with None for the others; those of their records that no part holds)."""
        results: list[Any] = []
        unsettled: list[Record] = []
        renewed: list[Record] = []
        for p in planned:
            reused = self._finished(records, p)
            results.append(reused.result if reused else None)
            if reused and reused.renewed:
                renewed.append(reused.record)
            elif reused and records.is_loose(p.task.name):
                unsettled.append(reused.record)
        # A file that was changed is found after tasks that may have read it.
        renewed, unsettled = ([r for r in some if r.written < self._trusted_until] for some in (renewed, unsettled))
        if renewed:
            # Touched, copied or of a paused writer: the bytes are the same, and are not read again for it.
            records.settle(renewed)
            records.drop(r.task for r in renewed)
        return results, unsettled

    def _finished(self, records: StepRecords, planned: Planned) -> _Reused | None:
        """What is there of a task that is finished and whose outputs are in place, else None."""
        try:
            there = finished_task(records, self._at_start, str(self.paths.root), planned)
        except Changed as changed:
            self._distrust(changed.modified)
            return None
        if there is None:
            return None
        result, record = there.result, there.record
        renewed = there.compared or there.times != tuple(a.modified for a in there.outputs)
        if renewed:
            following = iter(there.times)
            result = with_artifacts(result, lambda a: replace(a, modified=next(following)))
            record = record_of(self.paths, record.task, record.key, record.written, result)
        return _Reused(result, record, renewed)

    def _take(self, records: StepRecords, planned: Sequence[Planned], results: list[Any], first: int) -> None:
        """Take from another run what it has finished of the tasks that have no result yet, and put in their results."""
        if not self.origin:
            return
        missing = [p for p in planned if results[p.index - first] is None]
        # No record may vouch for outputs that are about to be replaced.
        records.forget(p.task.name for p in missing)
        for taken in self.origin.take(records.step, missing, self.paths):
            for p, result, _ in taken:
                results[p.index - first] = result
            if taken:
                records.settle([record for _, _, record in taken])

    def _distrust(self, since: int) -> None:
        """Forget what was finished after a file was changed: it may have been made from that, under the key of what was.

        Before the file itself is made again: a run that is killed here finds the same the next time.
        """
        if not since or since >= self._trusted_until:
            return
        self._trusted_until = since
        forget_since(self.paths, since)
        for records in self._records.values():
            records.forget_since(since)

    def look(self) -> None:
        """Is what earlier steps published still what they wrote? Otherwise the next run makes it again.

        Raises:
            StageFailed: it is not.
        """
        step, self._unseen = self._unseen, ""
        if not step or isinstance(self.paths.root, store.Mirrored):
            # Nothing has read it since; and in a store, objects change as a whole.
            return
        began = time.monotonic()
        root = f"{self.paths.root}/"
        for table in self.finished.values():
            for name, hash_, modified in written_on_disk(table):
                if store.modified(root + name) not in (0, modified) and hash_file(Path(root + name)) != hash_:
                    raise StageFailed(
                        f"{root}{name} was modified after it was written, and {step} may have read the modified "
                        "file. Run the same command again to rebuild both."
                    )
        now = time.monotonic()
        self._looks_again = now + (now - began) / LOOK_SHARE

    def _time(self, planned: Planned, attempt: int, outcome: Outcome) -> None:
        path = self.paths.timings("tasks.jsonl")
        line = {
            "stage": planned.step,
            "task": planned.task.name,
            "attempt": attempt,
            "ended": time.time(),
            "host": outcome.host,
            "seconds": round(outcome.seconds, 4),
            "peak_bytes": outcome.peak_bytes,
            "error": outcome.error,
        }
        log(path, line)

    def _describe(self, step: str, task: Task[Any], outcome: Outcome, attempts: int) -> str:
        trace = self.paths.timings(f"failed-{step}-{task.name.replace('/', '_')[-100:]}.log")
        with contextlib.suppress(OSError):
            lease.allow_write(trace)
            trace.write_text(outcome.trace)
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        return f"{step} failed on {task.name}{tries}: {outcome.error} (log: {trace})"

"""Runs a stage's tasks and skips those that are finished: in this process, or on Ray (`on_ray.py`).

A task is a pure function of its arguments that publishes files and returns what it published. It has a key, the hash
of everything its output depends on; after its outputs it publishes a completion record. A task whose record has the
same key and whose outputs are in place is not run again: that is all there is to resuming. An output is in place if it
has its size, and its time or else its hash. One that was changed is made again, as is all that was finished after that.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ...storage import store
from ...storage.disk import writing
from ..run.artifacts import Artifact, RunPaths, content_key, read_json, write_json
from ..run.checksums import hash_file
from .memory import peak_bytes

ATTEMPTS = 4
"""Tries at one task when workers die, nodes are lost or a file system fails; a task's own errors are not retried."""
TASK_MEMORY = 1 << 30
"""Bytes a task declares to Ray unless it says otherwise: above what any task was measured to take on documents of usual size
(dedupe 752 MiB); a document of 100 MB takes one and a half."""
LOOK_SECONDS, LOOK_SHARE = 0.1, 0.01
"""A look at what a run has published is always taken where it is short, else in so much of the run's time."""


@dataclass(frozen=True)
class TaskResult:
    """What a task published and counted."""

    outputs: tuple[Artifact, ...]
    counts: dict[str, int] = field(default_factory=dict)
    """Integer counts that sum over tasks (documents, bytes, tokens)."""
    data: dict[str, Any] = field(default_factory=dict)
    """Small JSON facts the next stage plans with."""
    reused: bool = False


@dataclass(frozen=True)
class Task:
    """One unit of work of a stage."""

    name: str
    """Unique within the stage; names the completion record."""
    key: str
    """Hash of the stage's version, its settings and the identities of its inputs."""
    run: Callable[..., TaskResult]
    """A module-level function."""
    args: tuple[Any, ...]
    weight: int = 1
    """Bytes of input, for progress."""
    memory: int = TASK_MEMORY


def task_key(stage: str, version: int, settings: object, inputs: Sequence[object]) -> str:
    """The key of a task: it changes exactly when the task's output may."""
    return content_key(stage, version, settings, inputs)


class Progress(Protocol):
    """What a front end is told; the pipeline itself prints nothing."""

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None: ...

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None: ...

    def slow(self, name: str, task: str, seconds: float) -> None:
        """A task has been under way for much longer than others of its stage took."""


class Silent:
    """A `Progress` that says nothing."""

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None: ...

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None: ...

    def slow(self, name: str, task: str, seconds: float) -> None: ...


class StageFailed(ValueError):
    """A task failed for good: one line naming stage, task, cause and the log."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended on a worker."""

    result: TaskResult | None
    error: str
    """One line; empty on success."""
    trace: str
    transient: bool
    """The same call may succeed later (an I/O error), unlike an error in the data."""
    host: str
    seconds: float
    peak_bytes: int


def attempt(task: Task, paths: RunPaths, stage: str) -> Outcome:
    """Run a task and publish its completion record. Runs on a worker; never raises for the task's own failures."""
    began = time.monotonic()
    result, error, trace, transient = None, "", "", False
    try:
        # Outputs are about to be replaced: no record may vouch for them until they are whole again.
        record = paths.record(stage, task.name)
        with writing(record):
            record.unlink(missing_ok=True)
        done = task.run(*task.args)
        _write_record(
            record,
            {
                "stage": stage,
                "task": task.name,
                "key": task.key,
                "outputs": [paths.relative(a).to_json() for a in done.outputs],
                "counts": done.counts,
                "data": done.data,
            },
        )
        # Without a record, nothing is finished.
        result = done
    except Exception as cause:
        message = str(cause).strip() or type(cause).__name__
        error = message.splitlines()[0] if isinstance(cause, ValueError) else f"{type(cause).__name__}: {message}"
        trace = traceback.format_exc()
        transient = isinstance(cause, OSError | MemoryError) and not isinstance(cause, FileNotFoundError)
    return Outcome(result, error, trace, transient, socket.gethostname(), time.monotonic() - began, peak_bytes())


def _write_record(path: Path, record: dict[str, Any]) -> None:
    """Publish a completion record with a hash of what it says: the next stages plan with its numbers."""
    write_json(path, {**record, "hash": content_key(record)})


def _read_record(path: Path) -> dict[str, Any] | None:
    """A completion record; None where there is none, or a damaged one."""
    if store.size_at_start(path) is None:
        return None
    try:
        record = read_json(path)
        return record if record.pop("hash") == content_key(record) else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


class Executor(Protocol):
    """Where attempts run. Yields (index, outcome) as they end; an outcome with no host means the worker was lost."""

    def run(
        self, tasks: Sequence[tuple[int, Task]], paths: RunPaths, stage: str, progress: Progress
    ) -> Iterator[tuple[int, Outcome]]: ...

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

    cores = 1
    room = 1 << 62

    def run(
        self, tasks: Sequence[tuple[int, Task]], paths: RunPaths, stage: str, progress: Progress
    ) -> Iterator[tuple[int, Outcome]]:
        for index, task in tasks:
            yield index, attempt(task, paths, stage)


@dataclass
class Engine:
    """Runs stages of one run: skips finished tasks, retries lost ones, stops at the first that fails for good."""

    paths: RunPaths
    executor: Executor
    progress: Progress = field(default_factory=Silent)
    memory: int = TASK_MEMORY
    """Bytes that a task may take where it can choose; no result depends on it."""
    reused: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stage -> (tasks whose finished output was reused, tasks)."""
    finished: dict[str, list[Artifact]] = field(default_factory=dict)
    """Stage -> what its tasks published, for the manifest."""
    _looks_again: float = 0.0
    _trusted_until: int = 1 << 63

    def __post_init__(self) -> None:
        store.remember(self.paths.root)

    def run(self, stage: str, tasks: Sequence[Task]) -> list[TaskResult]:
        """Run what is not finished; results in the order of `tasks`.

        Raises:
            StageFailed: a task failed; nothing of the stage is taken for finished that is not.
        """
        began = time.monotonic()
        names = [t.name for t in tasks]
        assert len(set(names)) == len(names), f"task names of {stage} are not unique"
        results: list[TaskResult | None] = [self._finished(stage, task) for task in tasks]
        todo = [(i, task) for i, task in enumerate(tasks) if results[i] is None]
        self.reused[stage] = (len(tasks) - len(todo), len(tasks))
        self.progress.stage(stage, len(todo), sum(t.weight for _, t in todo), len(tasks) - len(todo))
        attempts, asked = [0] * len(tasks), list(tasks)
        while todo:
            again: list[tuple[int, Task]] = []
            for index, outcome in self.executor.run(todo, self.paths, stage, self.progress):
                attempts[index] += 1
                task = asked[index]
                self._time(stage, task, attempts[index], outcome)
                if outcome.result is not None:
                    results[index] = outcome.result
                    self.progress.task_done(stage, task.weight)
                elif outcome.transient and attempts[index] < ATTEMPTS:
                    if outcome.error.startswith("OutOfMemoryError"):
                        # Fewer beside it: Ray places by what is declared.
                        asked[index] = replace(task, memory=min(2 * task.memory, self.executor.room))
                    again.append((index, asked[index]))
                else:
                    self._look(stage)
                    raise StageFailed(self._describe(stage, task, outcome, attempts[index]))
            todo = again
            if todo:
                time.sleep(min(5.0, 0.5 * 2 ** max(attempts)))
        self.progress.stage_done(stage, time.monotonic() - began)
        _keep_log(self.paths.timings("tasks.jsonl"))
        done = [r for r in results if r is not None]
        self.finished[stage] = [a for r in done for a in r.outputs]
        if time.monotonic() >= self._looks_again:
            self._look(stage)
        return done

    def is_finished(self, stage: str, task: Task) -> bool:
        """Whether running the task would only reuse what is there."""
        return self._finished(stage, task) is not None

    def _finished(self, stage: str, task: Task) -> TaskResult | None:
        path = self.paths.record(stage, task.name)
        record = _read_record(path)
        if record is None or record["key"] != task.key:
            return None
        outputs = [Artifact(**{**o, "path": str(self.paths.root / o["path"])}) for o in record["outputs"]]
        if any(store.size_at_start(a.file) is None for a in outputs):
            return None
        now = [replace(a, modified=store.modified(a.file)) for a in outputs]
        for was, is_ in zip(outputs, now, strict=True):
            whole = store.size_at_start(was.file) == was.bytes
            if not (whole and (was.modified == is_.modified or hash_file(was.file) == was.hash)):
                self._distrust(is_.modified)
                return None
        if now != outputs:
            # Touched or copied: the bytes are the same, and are not read again for it.
            _write_record(path, {**record, "outputs": [self.paths.relative(a).to_json() for a in now]})
        return TaskResult(tuple(now), record["counts"], record["data"], reused=True)

    def _distrust(self, since: int) -> None:
        """Forget what was finished after a file was changed: it may have been made from that, under the key of what was.

        Before the file itself is made again: a run that is killed here finds the same the next time.
        """
        if not since or since >= self._trusted_until:
            return
        self._trusted_until = since
        for record in self.paths.records.rglob("*.json"):
            if store.modified(record) >= since:
                record.unlink(missing_ok=True)

    def _look(self, stage: str) -> None:
        """Is what earlier stages published still what they wrote? Otherwise the next run makes it again.

        Raises:
            StageFailed: it is not.
        """
        began = time.monotonic()
        for artifact in (a for outputs in self.finished.values() for a in outputs if a.modified):
            modified = store.modified(artifact.file)
            if modified not in (0, artifact.modified) and hash_file(artifact.file) != artifact.hash:
                raise StageFailed(
                    f"{artifact.path} was changed after it was written, and {stage} may have read it; run the same command "
                    "again: both are made anew"
                )
        now = time.monotonic()
        if now - began > LOOK_SECONDS:
            self._looks_again = now + (now - began) / LOOK_SHARE

    def _time(self, stage: str, task: Task, attempt: int, outcome: Outcome) -> None:
        path = self.paths.timings("tasks.jsonl")
        line = {
            "stage": stage,
            "task": task.name,
            "attempt": attempt,
            "ended": time.time(),
            "host": outcome.host,
            "seconds": round(outcome.seconds, 4),
            "peak_bytes": outcome.peak_bytes,
            "error": outcome.error,
        }
        _log(path, line)

    def _describe(self, stage: str, task: Task, outcome: Outcome, attempts: int) -> str:
        log = self.paths.timings(f"failed-{stage}-{task.name.replace('/', '_')[-100:]}.log")
        with contextlib.suppress(OSError):
            log.write_text(outcome.trace)
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        return f"{stage} failed on {task.name}{tries}: {outcome.error} (log: {log})"


def _log(path: Path, line: dict[str, Any]) -> None:
    """Append to a log, if the disk lets us: a run is worth more than what is said of it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def _keep_log(path: Path) -> None:
    """Upload a log that grew: it is appended to in the mirror."""
    if isinstance(path, store.Mirrored) and path.local.exists():
        store.upload(path)


def task_times(paths: RunPaths) -> list[dict[str, Any]]:
    """What `timings/tasks.jsonl` holds, with the stage of a step as `part`; nothing where there is no log."""
    log, entries = paths.timings("tasks.jsonl"), []
    for line in log.read_bytes().splitlines() if log.exists() else []:
        # A full disk takes half a line.
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [{**entry, "part": entry["stage"].split(".")[0]} for entry in entries]


def record_run(
    paths: RunPaths, began: float, cores: int, stages: dict[str, float], reused: int, complete: bool
) -> None:
    """Note in `timings/runs.jsonl` that a command ran all stages of a run (wall seconds by stage), for `fox1 plan`."""
    line = {
        "began": began,
        "seconds": time.time() - began,
        "cores": cores,
        "stages": stages,
        "reused": reused if complete else -1,
    }
    _log(paths.timings("runs.jsonl"), line)
    _keep_log(paths.timings("runs.jsonl"))

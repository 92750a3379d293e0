"""Runs a stage's tasks: in this process, or as Ray tasks over files. The only file of the pipeline that imports Ray.

A task is a pure function of its arguments that publishes files and returns what it published. It has a key, the hash
of everything its output depends on; after its outputs it publishes a completion record. A task whose record has the
same key and whose outputs are in place is not run again: that is all there is to resuming.

Ray sees plain tasks with declared CPU and memory in a bounded window. Retries are counted here, not by Ray (which
retries out-of-memory tasks without end). Files are the only medium between tasks; results are small.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .. import storage
from .artifacts import Artifact, RunPaths, content_key, read_json, write_json
from .memory import peak_bytes

ATTEMPTS = 4
"""Tries at one task when workers die, nodes are lost or a file system fails; a task's own errors are not retried."""
TASK_MEMORY = 1 << 30
"""Bytes a task declares to Ray unless it says otherwise: above the largest that any was measured to take (752 MiB)."""
ASK_SECONDS = 5.0
"""How often the driver looks at the cluster and at what is slow."""
SLOW_SECONDS, SLOW_TIMES = 30.0, 4
"""A task is slow that takes longer than the one, and than the other times the median."""


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
        paths.record(stage, task.name).unlink(missing_ok=True)
        done = task.run(*task.args)
        write_json(
            paths.record(stage, task.name),
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


class OnRay:
    """Runs tasks on a Ray cluster with a bounded window in flight."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        # Ray's own retries are off: a task that always exceeds its memory would otherwise loop for ever.
        self._attempt = ray.remote(max_retries=0, num_cpus=1)(attempt)

        self._cores, self._asked = 1, 0.0

    @property
    def cores(self) -> int:
        # Nodes come and go, but to ask for each of a hundred thousand tasks would cost as much as the small ones do.
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._cores, self._asked = int(self._ray.cluster_resources().get("CPU", 1)), time.monotonic()
        return self._cores

    @property
    def room(self) -> int:
        return max((int(n["Resources"].get("memory", 0)) for n in self._ray.nodes() if n["Alive"]), default=TASK_MEMORY)

    def run(
        self, tasks: Sequence[tuple[int, Task]], paths: RunPaths, stage: str, progress: Progress
    ) -> Iterator[tuple[int, Outcome]]:
        waiting = list(reversed(tasks))
        in_flight: dict[Any, int] = {}
        stragglers = _Stragglers(stage, {index: task.name for index, task in tasks}, progress)
        while waiting or in_flight:
            window = max(2, 2 * self.cores)
            while waiting and len(in_flight) < window:
                index, task = waiting.pop()
                reference = self._attempt.options(memory=task.memory, name=f"{stage}:{task.name}").remote(
                    task, paths, stage
                )
                in_flight[reference] = index
                stragglers.began(index)
            done, _ = self._ray.wait(list(in_flight), num_returns=1, timeout=10)
            for reference in done:
                index = in_flight.pop(reference)
                stragglers.ended(index)
                try:
                    yield index, self._ray.get(reference)
                except self._ray.exceptions.RayError as cause:
                    first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
                    yield index, Outcome(None, f"{type(cause).__name__}: {first}", str(cause), True, "", 0.0, 0)
            stragglers.look()


class _Stragglers:
    """Tells, once each, of tasks that are under way for much longer than others of their stage took."""

    def __init__(self, stage: str, names: dict[int, str], progress: Progress) -> None:
        self._stage, self._names, self._progress = stage, names, progress
        self._began: dict[int, float] = {}
        self._took: deque[float] = deque(maxlen=1000)
        self._told: set[int] = set()
        self._looked = time.monotonic()

    def began(self, index: int) -> None:
        self._began[index] = time.monotonic()

    def ended(self, index: int) -> None:
        self._took.append(time.monotonic() - self._began.pop(index))

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked < ASK_SECONDS or len(self._took) < 5:
            return
        self._looked = now
        limit = max(SLOW_SECONDS, SLOW_TIMES * statistics.median(self._took))
        for index, began in list(self._began.items()):
            if index not in self._told and now - began > limit:
                self._progress.slow(self._stage, self._names[index], now - began)
                self._told.add(index)


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

    def __post_init__(self) -> None:
        storage.remember(self.paths.root)

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
                    raise StageFailed(self._describe(stage, task, outcome, attempts[index]))
            todo = again
            if todo:
                time.sleep(min(5.0, 0.5 * 2 ** max(attempts)))
        self.progress.stage_done(stage, time.monotonic() - began)
        _keep_log(self.paths.timings("tasks.jsonl"))
        done = [r for r in results if r is not None]
        self.finished[stage] = [a for r in done for a in r.outputs]
        return done

    def is_finished(self, stage: str, task: Task) -> bool:
        """Whether running the task would only reuse what is there."""
        return self._finished(stage, task) is not None

    def _finished(self, stage: str, task: Task) -> TaskResult | None:
        path = self.paths.record(stage, task.name)
        if storage.size_at_start(path) is None:
            return None
        record = read_json(path)
        if record["key"] != task.key:
            return None
        outputs = []
        for output in record["outputs"]:
            file = self.paths.root / output["path"]
            if storage.size_at_start(file) != output["bytes"]:
                return None
            outputs.append(Artifact(str(file), output["bytes"], output["rows"], output["hash"]))
        return TaskResult(tuple(outputs), record["counts"], record["data"], reused=True)

    def _time(self, stage: str, task: Task, attempt: int, outcome: Outcome) -> None:
        path = self.paths.timings("tasks.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
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
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def _describe(self, stage: str, task: Task, outcome: Outcome, attempts: int) -> str:
        log = self.paths.timings(f"failed-{stage}-{task.name.replace('/', '_')[-100:]}.log")
        with contextlib.suppress(OSError):
            log.write_text(outcome.trace)
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        return f"{stage} failed on {task.name}{tries}: {outcome.error} (log: {log})"


def _keep_log(path: Path) -> None:
    """Upload a log that grew: it is appended to in the mirror."""
    if isinstance(path, storage.Mirrored) and path.local.exists():
        storage.upload(path)


def task_times(paths: RunPaths) -> list[dict[str, Any]]:
    """What `timings/tasks.jsonl` holds, with the stage of a step as `part`; nothing where there is no log."""
    log = paths.timings("tasks.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
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
    with open(paths.timings("runs.jsonl"), "a") as file:
        file.write(json.dumps(line) + "\n")
    _keep_log(paths.timings("runs.jsonl"))


@contextlib.contextmanager
def ray_session(address: str | None, cpus: int | None) -> Iterator[OnRay]:
    """A Ray session: the cluster at `address` (or the job's own), else one of this machine for as long as the block.

    A local session binds to loopback, has no dashboard and ends with the driver.
    """
    import logging

    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    target = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    already = ray.is_initialized()
    if not already:
        if target:
            ray.init(address=target, **quiet)
        else:
            ray.init(
                num_cpus=cpus or os.cpu_count(),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                object_store_memory=128 << 20,
                **quiet,
            )
    try:
        yield OnRay()
    finally:
        if not already:
            ray.shutdown()

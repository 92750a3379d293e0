"""Tasks on a pool of processes of this machine: forks of a server that has imported and loaded everything once.

As on a cluster, a worker that dies is replaced and its task tried again, tasks declare the memory that they take, and files
are the only medium between them. A worker that takes more than its task declared is ended before it takes the machine with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from ..run.artifacts import RunPaths
from .fork_server import ANSWER, ENDED, FORK, READY, REQUEST
from .memory import machine_memory, own_bytes
from .stragglers import Stragglers
from .tasks import Outcome, Planned, Progress, Waiting

STAGES = "fox1.commands.compile_kernels:preload"
"""What the workers of a curation share."""
LOOK_SECONDS = 0.25
"""How often the workers' memory is looked at."""
CLOSE_SECONDS = 5.0
"""How long the server may take to end."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables that keep libraries from starting threads when they are imported: a process that is forked may have none, and
the cores are the workers' already."""
_AGAIN = "run the same command again to go on"


@dataclass(eq=False)
class _Worker:
    """A process of the pool."""

    pid: int
    connection: Connection
    planned: Planned | None = None
    """What it runs."""
    began: float = 0.0
    killed: str = ""
    """Why it was ended; empty while it was not."""


class Pool:
    """Runs tasks on forked workers, one each at a time."""

    def __init__(self, workers: int, preload: str) -> None:
        """Start the server; it loads while this process plans.

        Args:
            workers: processes at most.
            preload: `module:function` that the server calls before it forks.
        """
        self.cores = workers
        self.room = machine_memory()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._control, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {json.dumps(sys.path)}; from fox1.pipeline.engine.fork_server import serve; "
            f"serve({theirs.fileno()}, {preload!r})"
        )
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **ONE_THREAD},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # What is typed at the terminal is for this process, which ends the others.
                start_new_session=True,
            )
        self._ready = False

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        self._abandon()
        stragglers = Stragglers(waiting.tasks, progress)
        while waiting or self._busy:
            while (planned := waiting.next()) and self._has_room(planned):
                worker = self._idle.pop() if self._idle else self._fork()
                worker.planned, worker.began = waiting.take(), time.monotonic()
                self._busy.append(worker)
                with contextlib.suppress(OSError):  # a dead one shows as ended
                    worker.connection.send((worker.planned, paths))
                stragglers.began(worker.planned.index)
            if not self._busy:
                time.sleep(waiting.seconds())
                continue
            ready = wait([w.connection for w in self._busy], LOOK_SECONDS)
            for worker in [w for w in self._busy if w.connection in ready]:
                assert worker.planned
                index = worker.planned.index
                outcome = self._outcome(worker)
                stragglers.ended(index)
                yield index, outcome
            self._end_large()
            stragglers.look()

    def _abandon(self) -> None:
        """End what an earlier call left under way when a task of it failed for good."""
        while self._busy:
            self._kill(self._busy[-1])
            self._lost(self._busy.pop())

    def _has_room(self, planned: Planned) -> bool:
        """Whether a task can begin now: a core is free, and memory for what it declares."""
        if not self._busy:
            return True
        held = sum(w.planned.task.memory for w in self._busy if w.planned)
        return len(self._busy) < self.cores and held + planned.task.memory <= self.room

    def _outcome(self, worker: _Worker) -> Outcome:
        """How the attempt of a worker ended."""
        self._busy.remove(worker)
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        worker.planned = None
        self._idle.append(worker)
        return outcome

    def _lost(self, worker: _Worker) -> Outcome:
        worker.connection.close()
        status = self._ask(ENDED, worker.pid)
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        error = worker.killed or f"WorkerDied: a worker process ended {how}"
        return Outcome(None, error, error, True, "", time.monotonic() - worker.began, 0)

    def _end_large(self) -> None:
        """End workers that take more than their task declared; the engine tries again with more."""
        for worker in self._busy:
            assert worker.planned
            declared = worker.planned.task.memory
            if not worker.killed and own_bytes(worker.pid) > declared:
                worker.killed = f"OutOfMemoryError: the task took more than the {declared >> 20:,} MiB that it may"
                self._kill(worker)

    def _kill(self, worker: _Worker) -> None:
        # Until the server is asked how it ended, its number is no other process's.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def _fork(self) -> _Worker:
        """A further worker.

        Raises:
            ValueError: the server is lost, or could not load.
        """
        if not self._ready:
            self._await_ready()
        ours, theirs = socket.socketpair()
        with theirs:
            pid = self._ask(FORK, 0, theirs.fileno())
        return _Worker(pid, Connection(ours.detach()))

    def _await_ready(self) -> None:
        said = self._control.recv(1 << 16)
        if not said:
            raise ValueError(f"the pool of workers is lost (its server ended while it started); {_AGAIN}")
        if said != READY:
            why = said.removeprefix(READY).decode(errors="replace")
            raise ValueError(f"the pool of workers does not start ({why}); run with --in-process, which needs none")
        self._ready = True

    def _ask(self, kind: bytes, number: int, *descriptors: int) -> int:
        """Ask the server.

        Raises:
            ValueError: it is not there any more.
        """
        try:
            socket.send_fds(self._control, [REQUEST.pack(kind, number)], descriptors)
            answer = self._control.recv(ANSWER.size, socket.MSG_WAITALL)
        except ConnectionError:
            answer = b""
        if len(answer) < ANSWER.size:
            raise ValueError(f"the pool of workers is lost (its server has ended); {_AGAIN}")
        return int(ANSWER.unpack(answer)[0])

    def close(self) -> None:
        """End all processes of the pool."""
        for worker in self._idle + self._busy:
            worker.connection.close()
        # The server ends its workers, and itself.
        self._control.close()
        try:
            self._server.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            # It is still loading: it has no workers yet.
            self._server.kill()
            self._server.wait()


@contextlib.contextmanager
def pool_session(workers: int | None, preload: str = STAGES) -> Iterator[Pool]:
    """A pool for as long as the block.

    Args:
        workers: processes; None: one per core that this process may use.
        preload: `module:function` that the server calls before it forks.
    """
    pool = Pool(workers or usable_cores(), preload)
    try:
        yield pool
    finally:
        pool.close()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

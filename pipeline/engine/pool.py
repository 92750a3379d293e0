"""Tasks on a pool of processes of this machine: forks of a server that has imported and loaded everything once.

As on a cluster, a worker that dies is replaced and its task tried again, tasks declare the memory that they take, and files
are the only medium between them. A worker that takes more than its task declared is ended before it takes the machine with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from ..run.paths import RunPaths
from .fork_server import ANSWER, ENDED, FORK, LOAD, READY, REQUEST, STAGES, Server
from .memory import machine_memory, own_bytes
from .stragglers import Stragglers
from .tasks import Outcome, Planned, Progress, Waiting

LOOK_SECONDS = 0.25
"""How often the workers' memory is looked at."""
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
    loads: int = 0
    """How much of what was asked for the server had loaded when it was forked."""


class Pool:
    """Runs tasks on forked workers, one each at a time."""

    on_this_machine = True

    def __init__(self, workers: int, server: Server) -> None:
        """
        Args:
            workers: processes at most.
            server: what they are forked from; closed with the pool.
        """
        self.cores = workers
        self.room = machine_memory()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._server, self._control = server, server.control
        self._asked = self._loads = 0
        """Loads that were asked for, and that were answered."""

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        self._abandon()
        stragglers = Stragglers(progress)
        while waiting or self._busy:
            while (planned := waiting.next()) and self._has_room(planned):
                worker = self._next()
                worker.planned, worker.began = waiting.take(), time.monotonic()
                self._busy.append(worker)
                with contextlib.suppress(OSError):  # a dead one shows as ended
                    worker.connection.send((worker.planned, paths))
                stragglers.began(worker.planned)
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

    def preload(self, function: Callable[..., object], *arguments: object) -> None:
        data = pickle.dumps((function, arguments))
        self._send(REQUEST.pack(LOAD, len(data)) + data)
        self._asked += 1

    def _next(self) -> _Worker:
        """A worker that is free, with what the server has loaded by now."""
        while self._loads < self._asked and self._server.ready and wait([self._control], 0):
            self._await_load()
        while self._idle:
            worker = self._idle.pop()
            if worker.loads == self._loads:
                return worker
            worker.connection.close()
            self._ask(ENDED, worker.pid)
        return self._fork()

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
        if not self._server.ready:
            self._await_ready()
        ours, theirs = socket.socketpair()
        with theirs:
            pid = self._ask(FORK, 0, theirs.fileno())
        return _Worker(pid, Connection(ours.detach()), loads=self._loads)

    def _await_ready(self) -> None:
        said = self._control.recv(READY.size, socket.MSG_WAITALL)
        if len(said) < READY.size:
            raise ValueError(f"the pool of workers is lost (its server ended while it started); {_AGAIN}")
        (size,) = READY.unpack(said)
        if size:
            why = self._control.recv(size, socket.MSG_WAITALL).decode(errors="replace")
            raise ValueError(f"the pool of workers does not start ({why}); run with --in-process, which needs none")
        self._server.ready = True

    def _ask(self, kind: bytes, number: int, *descriptors: int) -> int:
        """Ask the server.

        Raises:
            ValueError: it is not there any more.
        """
        self._send(REQUEST.pack(kind, number), *descriptors)
        # It answers in the order in which it is asked.
        while self._loads < self._asked:
            self._await_load()
        return self._answer()

    def _await_load(self) -> None:
        if threads := self._answer():
            raise ValueError(
                f"the pool of workers cannot go on (what its server loaded left {threads} threads running); run with --in-process"
            )
        self._loads += 1

    def _send(self, data: bytes, *descriptors: int) -> None:
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            self._control.sendall(data[sent:])
        except ConnectionError:
            raise ValueError(f"the pool of workers is lost (its server has ended); {_AGAIN}") from None

    def _answer(self) -> int:
        try:
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
        # It ends its workers, and itself.
        self._server.close()


@contextlib.contextmanager
def pool_session(workers: int | None, preload: str = STAGES, server: Server | None = None) -> Iterator[Pool]:
    """A pool for as long as the block.

    Args:
        workers: processes; None: one per core that this process may use.
        preload: `module:function` that the server calls before it forks.
        server: one that was started for it; None: it starts its own.
    """
    pool = Pool(workers or usable_cores(), server or Server(preload))
    try:
        yield pool
    finally:
        pool.close()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

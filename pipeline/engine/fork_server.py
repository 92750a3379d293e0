"""The server that a pool's workers are forked from: a process that has imported and loaded once what each of them needs.

`Server` starts it with a socket. It loads, and then answers requests until the other end of the socket is closed, whatever
became of the process that held it; with it go its workers. A fork of a process with threads has their locks and not the
threads, so it makes sure that it has one alone. What a run makes for all its workers, such as models, it loads when asked to:
workers that are forked afterwards have it.

Importing this module costs next to nothing, so that a command can start the server before all else.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

STAGES = "fox1.commands.compile_kernels:preload"
"""What the workers of a curation share."""
CLOSE_SECONDS = 5.0
"""How long the server may take to end."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables that keep libraries from starting threads when they are imported: a process that is forked may have none, and
the cores are the workers' already."""

REQUEST = struct.Struct("!cq")
"""What is asked for, and of which process, or with how many bytes."""
FORK, ENDED, LOAD = b"f", b"e", b"l"
"""A worker, whose socket comes along: the answer is its process number. How a worker ended: the answer is its exit status. To
call the function that follows, pickled with its arguments: the answer is how many threads it left running."""
ANSWER = struct.Struct("!q")
READY = struct.Struct("!q")
"""What the server says first, when it has loaded: how many bytes of a reason follow why it cannot serve."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def runs_here(address: str | None, in_process: bool, ray: bool) -> bool:
    """Whether tasks run on forks of a server: neither on Ray nor in the process that plans them."""
    return not (address or in_process or ray or os.environ.get("RAY_ADDRESS"))


class Server:
    """The end that asks."""

    def __init__(self, preload: str = STAGES) -> None:
        """Start the process; it loads while this one goes on.

        Args:
            preload: `module:function` that it calls before it forks.
        """
        self.preload = preload
        self.ready = False
        """Whether it has said that it is."""
        self.control, theirs = socket.socketpair()
        code = (
            f"import os, sys; sys.path[:] = {json.dumps(sys.path)}; from {__name__} import serve; "
            # What is loaded is not taken down piece by piece.
            f"serve({theirs.fileno()}, {preload!r}); os._exit(0)"
        )
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **ONE_THREAD},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # What is typed at the terminal is for this process, which ends the others.
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, and its workers with it."""
        self.control.close()
        try:
            if self.ready:
                self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if self.process.poll() is None:
            # It is still loading: it has no workers yet.
            self.process.kill()
            self.process.wait()


def serve(descriptor: int, preload: str) -> None:
    """Load, and fork workers on request.

    Args:
        descriptor: of a connected stream socket.
        preload: `module:function` to call before the first fork; it leaves no thread behind.
    """
    control = socket.socket(fileno=descriptor)
    workers: set[int] = set()
    try:
        problem = _load(preload)
        reason = problem.encode(errors="replace")
        control.sendall(READY.pack(len(reason)) + reason)
        if problem:
            return
        while True:
            request, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if len(request) < REQUEST.size:
                return
            kind, number = REQUEST.unpack(request)
            if kind == FORK:
                number = _fork(control, descriptors[0])
                workers.add(number)
            elif kind == LOAD:
                number = _call(control, number)
            else:
                _, status = os.waitpid(number, 0)
                workers.discard(number)
                number = os.waitstatus_to_exitcode(status)
            control.sendall(ANSWER.pack(number))
    finally:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _load(preload: str) -> str:
    """Why the server cannot serve; empty if it can."""
    module, _, function = preload.partition(":")
    try:
        getattr(importlib.import_module(module), function)()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    running = _threads()
    return f"{preload} left {running} threads running" if running > 1 else ""


def _call(control: socket.socket, size: int) -> int:
    """Call a function of which a request brings `size` bytes; how many threads it left running."""
    data = control.recv(size, socket.MSG_WAITALL)
    # Whoever needs what it loads would load it again, and say what is wrong with it.
    with suppress(Exception):
        function, arguments = pickle.loads(data)
        function(*arguments)
    return _threads() - 1


def _threads() -> int:
    """Threads of this process, those of libraries included where the system says so."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return threading.active_count()


def _fork(control: socket.socket, descriptor: int) -> int:
    """A worker that serves the socket; its process number."""
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        control.close()
        with suppress(OSError, AttributeError):  # only Linux has it: nothing of a server that was killed goes on
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _work(Connection(descriptor))
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _work(connection: Connection) -> None:
    """Run the attempts that are asked for, until nobody is there to ask."""
    from .tasks import attempt

    with suppress(EOFError, ConnectionError):
        while True:
            connection.send(attempt(*connection.recv()))

"""The server that a pool's workers are forked from: a process that has imported and loaded once what each of them needs.

It is started by `pool.py` with a socket, loads, and then answers requests until the other end of the socket is closed,
whatever became of the process that held it; with it go its workers. A fork of a process with threads has their locks and not
the threads, so it makes sure that it has one alone.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

REQUEST = struct.Struct("!cq")
"""What is asked for, and of which process."""
FORK, ENDED = b"f", b"e"
"""A worker, whose socket comes along: the answer is its process number. How a worker ended: the answer is its exit status."""
ANSWER = struct.Struct("!q")
READY = b"ready"
"""What the server says when it has loaded, and after it the reason if it cannot serve."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
        control.sendall(READY + problem.encode())
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

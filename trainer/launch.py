"""Starts a training on this machine: in this process, or as several ranks."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ..storage.wording import say
from .settings import STOPPED, Options, stopping_signals
from .stopping import AGAIN

FAILURE_SECONDS = 10
"""Seconds that the other ranks have to exit by themselves once one has failed."""
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
_ON_THIS_MACHINE = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
"""Of all ranks: they would listen on the interface of the machine's name, and one alone as well."""
_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux's prctl(2)."""


def launch(run: Path, out: Path, phase: str, nproc: int, options: Options) -> int:
    """Train; the exit status: 0 for done, 75 for stopped by a signal with the state saved, another for failed.

    Raises:
        ValueError: the run has no such phase.
        KeyboardInterrupt: a signal came before there was anything to save.
    """
    from .train import phase_numbers, read_settings, train

    numbers = phase_numbers(read_settings(run), phase)
    if nproc == 1:
        os.environ.update(_ON_THIS_MACHINE)
        return train(run, out, numbers, options)
    arguments = [str(run), str(out), "--phases", phase, *options.arguments()]
    return run_processes([sys.executable, "-m", "fox1.trainer.train", *arguments], nproc)


def run_processes(command: list[str], count: int) -> int:
    """Run `command` as the ranks of one process group on this machine, as torchrun would; the worst exit status.

    A signal is passed on as SIGTERM, so that the ranks can agree, save and exit; if it ends them before they train, it is
    raised here. A second Ctrl-C ends them at once. If a rank fails, the others are stopped. If this process is killed, they
    receive SIGTERM (on Linux).
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {s: signal.signal(s, note) for s in stopping_signals()}
    failed_at, first, told = 0.0, 0, False
    try:
        store, port = _open_store(count)
        ranks = _start_ranks(command, count, port)
        while any(rank.poll() is None for rank in ranks):
            time.sleep(0.1)
            if not first and (failures := [s for s in (rank.poll() for rank in ranks) if s not in (None, 0, STOPPED)]):
                # One that was killed comes first: others lose it, and end at once.
                failed_at, first = time.monotonic(), min(failures)
            if (first or received) and not told:
                told = True
                _send(ranks, signal.SIGTERM)
                if signal.SIGINT in received:
                    say(AGAIN, sys.stderr)
            if received.count(signal.SIGINT) > 1:
                _send(ranks, signal.SIGKILL)
            # One that had not begun to train ends of it: the others wait for it in vain, with nothing to save.
            early = bool(received) and first == -signal.SIGTERM
            if first and (early or time.monotonic() - failed_at > FAILURE_SECONDS):
                _send(ranks, signal.SIGKILL)
        del store
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received.count(signal.SIGINT) > 1 and min(rank.returncode for rank in ranks) == -signal.SIGKILL:
        signal.raise_signal(signal.SIGINT)
    if received and first == -signal.SIGTERM:
        signal.raise_signal(received[0])
    # The first to fail has printed what went wrong, unless it was killed; the others ended because of it.
    if first < 0:
        say(
            f"error: one of the {count} training processes was killed ({signal.Signals(-first).name}); run the same command "
            "again to resume from the last checkpoint",
            sys.stderr,
        )
    statuses = [rank.returncode for rank in ranks]
    return abs(first) or next((abs(s) for s in statuses if s not in (0, STOPPED)), max(statuses))


def _send(ranks: list[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _open_store(count: int) -> tuple[Any, int]:
    """The store in which the ranks find each other, and its port.

    It lives in this process: given an address, torch would listen on every interface; a socket it takes as it is.
    """
    from torch.distributed import TCPStore

    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    port = listener.getsockname()[1]
    store = TCPStore(
        "127.0.0.1", port, count, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return store, port


def _start_ranks(command: list[str], count: int, port: int) -> list[subprocess.Popen[bytes]]:
    """Start the ranks, with the environment that torchrun would give them."""
    common = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        **_ON_THIS_MACHINE,
    }
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def exit_with_parent() -> None:
        if prctl:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(r), "LOCAL_RANK": str(r)},
            # A session each: a terminal's signals reach them once, from the launcher.
            start_new_session=True,
            preexec_fn=exit_with_parent,
        )
        for r in range(count)
    ]

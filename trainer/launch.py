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

from ..storage.wording import say
from .settings import STOPPED, Options

FAILURE_SECONDS = 10
"""Seconds that the other ranks have to exit by themselves once one has failed."""
_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux's prctl(2)."""


def launch(run: Path, out: Path, phase: str, nproc: int, options: Options) -> int:
    """Train; the exit status: 0 for done, 75 for stopped by a signal with the state saved, another for failed.

    Raises:
        ValueError: the run has no such phase.
    """
    from .train import phase_numbers, read_settings, train

    numbers = phase_numbers(read_settings(run), phase)
    if nproc == 1:
        return train(run, out, numbers, options)
    arguments = [str(run), str(out), "--phases", phase, *options.arguments()]
    return run_processes([sys.executable, "-m", "fox1.trainer.train", *arguments], nproc)


def run_processes(command: list[str], count: int) -> int:
    """Run `command` as the ranks of one process group on this machine, as torchrun would; the worst exit status.

    Signals are passed on, so that the ranks can agree, save and exit; if a rank fails, the others are stopped. If this
    process is killed, they receive SIGTERM as well (on Linux).
    """
    ranks = _start_ranks(command, count)

    def forward(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {s: signal.signal(s, forward) for s in (signal.SIGTERM, signal.SIGINT)}
    failed_at, first = 0.0, 0
    try:
        while any(rank.poll() is None for rank in ranks):
            time.sleep(0.1)
            if not first and (failures := [s for s in (rank.poll() for rank in ranks) if s not in (None, 0, STOPPED)]):
                failed_at, first = time.monotonic(), failures[0]
                forward(signal.SIGTERM, None)
            if first and time.monotonic() - failed_at > FAILURE_SECONDS:
                forward(signal.SIGKILL, None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # The first to fail has printed what went wrong, unless it was killed; the others ended because of it.
    if first < 0:
        say(
            f"error: one of the {count} training processes was killed ({signal.Signals(-first).name}); run the same command "
            "again to resume from the last checkpoint",
            sys.stderr,
        )
    statuses = [rank.returncode for rank in ranks]
    return abs(first) or next((abs(s) for s in statuses if s not in (0, STOPPED)), max(statuses))


def _start_ranks(command: list[str], count: int) -> list[subprocess.Popen[bytes]]:
    """Start the ranks, with the environment that torchrun would give them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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
            # A session each: a terminal's Ctrl-C reaches them once, from the launcher.
            start_new_session=True,
            preexec_fn=exit_with_parent,
        )
        for r in range(count)
    ]

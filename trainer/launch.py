"""Starting a training from the command line: in this process, or as several on this machine."""

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

from .settings import STOPPED, Options

FAILURE_SECONDS = 10
"""How long the other ranks of a failed one have to leave by themselves."""
_SET_PARENT_DEATH_SIGNAL = 1
"""Of Linux's prctl(2)."""


def launch(run: Path, out: Path, phase: str, nproc: int, options: Options) -> int:
    """Train; the exit status: 0 done, 75 stopped by a signal with the state saved, others failed.

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

    Signals are passed on, so that the ranks can agree, save and leave; a rank that fails takes the others with it. If this
    process is killed, they are told to leave as well (on Linux).
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    parent = os.getpid()

    def leave_with_parent() -> None:
        if prctl:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    ranks = [
        # A session each: a terminal's Ctrl-C reaches them once, from here.
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(r), "LOCAL_RANK": str(r)},
            start_new_session=True,
            preexec_fn=leave_with_parent,
        )
        for r in range(count)
    ]

    def forward(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {s: signal.signal(s, forward) for s in (signal.SIGTERM, signal.SIGINT)}
    failed, first, killed = 0.0, 0, ""
    try:
        while any(rank.poll() is None for rank in ranks):
            time.sleep(0.1)
            if not failed and (wrong := [s for s in (rank.poll() for rank in ranks) if s not in (None, 0, STOPPED)]):
                # The others end because of it: what it says is what went wrong. Killed, it says nothing.
                failed, first = time.monotonic(), abs(wrong[0])
                if wrong[0] < 0:
                    killed = f"a process of the training was killed ({signal.Signals(first).name})"
                forward(signal.SIGTERM, None)
            if failed and time.monotonic() - failed > FAILURE_SECONDS:
                forward(signal.SIGKILL, None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if killed:
        print(f"error: {killed}; run the same command again to go on from the last checkpoint", file=sys.stderr)
    statuses = [rank.returncode for rank in ranks]
    return first or next((abs(s) for s in statuses if s not in (0, STOPPED)), max(statuses))

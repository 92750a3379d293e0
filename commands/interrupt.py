"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP unwind it alike, and each has an exit status of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ..storage.wording import say

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNDISTURBED_SECONDS = 3.0
"""How long after a signal further ones are ignored: a terminal that closes sends two, and what unwinds needs a moment."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let each of `ENDING` raise KeyboardInterrupt in the block, whose exit status then is 128 + the signal's number.

    A signal that is ignored, as by `nohup`, stays ignored. Whoever catches KeyboardInterrupt reports it; here, if nobody has.

    Raises:
        SystemExit: a signal ended the block.
    """
    received: list[int] = []
    last = float("-inf")

    def unwind(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last > UNDISTURBED_SECONDS:
            last = time.monotonic()
            received.append(number)
            raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    heeded = [s for s in ENDING if here and signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, unwind) for s in heeded}
    try:
        yield
    except BaseException as error:
        # What fails while the block unwinds, fails because of the signal.
        if not received:
            raise
        if isinstance(error, KeyboardInterrupt):
            report("interrupted")
    finally:
        for number, handler in before.items():
            # A process that is about to end is left to it.
            signal.signal(number, signal.SIG_IGN if received else handler)
    if received:
        _flush()
        sys.exit(128 + received[0])


def report(line: str) -> None:
    """Print a line about the end, where there is still somebody to read it."""
    with suppress(OSError):
        say(line, sys.stderr)


def _flush() -> None:
    """Write out what was printed, or drop it where the terminal is gone: Python would end with another status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""A training that is asked to stop: by a signal, or by a file beside its checkpoints where signals do not reach its workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..storage.background import beside
from ..storage.wording import say
from .settings import stopping_signals

ASKED = ".stop"
"""File in the folder of checkpoints, while a training on other machines is asked to stop."""
ASKED_SECONDS = 2.0
"""Seconds between looks at it."""
AGAIN = "stopping with a checkpoint; press Ctrl-C again to end at once, without one"


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[dict[int, Any]]:
    """Within the block, signals that ask a training to stop call a function: what each called before.

    In another thread than the main one, that is left to who owns the main thread.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {int(number): signal.signal(number, handle) for number in stopping_signals()} if here else {}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Stop:
    """Whether a signal asked the training to stop; ranks agree on it before they act."""

    asked: bool = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to signals within the block. A second Ctrl-C ends the process at once, whatever it waits for."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.asked = True
            if number == signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                # Not through Python's buffers, which this may have interrupted.
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{AGAIN}\n".encode())

        with _handled(handle):
            yield

    @contextmanager
    def watching(self, out: Path) -> Iterator[None]:
        """Look, within the block, whether whoever started the workers has asked them to stop."""

        def look(ended: threading.Event) -> None:
            while not (ended.is_set() or self.asked):
                self.asked = (out / ASKED).exists()
                ended.wait(ASKED_SECONDS)

        with beside(look):
            yield


@contextmanager
def passed_on(out: Path, begun: Callable[[], bool]) -> Iterator[None]:
    """Within the block, pass a signal on to workers that train on other machines, so that they save and exit.

    Args:
        begun: whether they have anything to save; if not, and at a second Ctrl-C, the signal is what it was before.
    """
    told: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not begun() or (told and number == signal.SIGINT):
            before = handlers[number]
            signal.signal(number, before)
            if callable(before):
                before(number, frame)
            else:
                signal.raise_signal(number)
        elif not told:
            (out / ASKED).write_text("")
            say(AGAIN if number == signal.SIGINT else "stopping with a checkpoint", sys.stderr)
        told.append(number)

    (out / ASKED).unlink(missing_ok=True)
    try:
        with _handled(handle) as handlers:
            yield
    finally:
        (out / ASKED).unlink(missing_ok=True)

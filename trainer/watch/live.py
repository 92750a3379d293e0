"""The state of a training as one line of a terminal, redrawn in place. Written with control codes alone, so that the
trainer needs no library for it."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from typing import TextIO

from ...storage.wording import printable

BAR = 24
"""Width of the bar in characters."""
_CLEAR = "\r\x1b[2K"


class LiveLine:
    """A line that is redrawn where it stands; what is printed meanwhile scrolls above it."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._line = ""
        self._phase, self._first_step, self._began = "", 0, 0.0

    def update(self, phase: str, step: int, total: int, values: str) -> None:
        """Show a step of a phase, with the time left as estimated from the steps so far."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._first_step, self._began = phase, step, now
        done = round(BAR * step / max(total, 1))
        left = ""
        if step > self._first_step:
            seconds = (now - self._began) / (step - self._first_step) * (total - step)
            left = f" {timedelta(seconds=round(seconds))} left"
        bar = "━" * done + "─" * (BAR - done)
        self._line = printable(f"{phase} step {step:,}/{total:,} {bar} {values}{left}")
        self._draw()

    def print(self, text: str) -> None:
        """Print a line above it."""
        self._terminal.write(f"{_CLEAR}{printable(text)}\n")
        self._draw()

    def close(self) -> None:
        """Remove the line."""

        self._terminal.write(_CLEAR)
        self._terminal.flush()

    def _draw(self) -> None:
        # One column short of the width: a terminal would wrap a full line, and then redraw the wrong one.
        width = shutil.get_terminal_size().columns - 1
        self._terminal.write(_CLEAR + self._line[:width])
        self._terminal.flush()

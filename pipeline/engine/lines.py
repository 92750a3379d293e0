"""Lines of steps that a driver runs beside its own: while it waits for one step, those of its lines go on.

A line is a plain function that runs steps one after the other. It has a thread, but of all threads only one runs at a time:
a line has its turn until it waits for a step, or ends, and gets the next one when that step is done. So nothing that lines
and driver share needs a lock, and what a line computes depends on nothing but what its steps return.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class _Given(BaseException):
    """A line is given up, since the driver failed; nobody catches it."""


class Line(Generic[Result]):
    """Steps beside others, and what comes of them."""

    def __init__(self, lines: Lines, work: Callable[[], Result], number: int) -> None:
        self.number = number
        """Tasks of lower ones go first, also of those below 0, which is the driver's."""
        self.ended = False
        self.error: BaseException | None = None
        self.goes_on: Callable[[], bool] = bool
        """Whether what it waits for is there."""
        self.given_up = False
        self._lines, self._work = lines, work
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._made: Any = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def result(self) -> Result:
        """Wait for its end; what its function returned.

        Raises:
            Exception: what it raised.
        """
        self._lines.wait(lambda: self.ended)
        if self.error:
            raise self.error
        made: Result = self._made
        return made

    def take_turn(self) -> None:
        """Let it run until it waits or ends."""
        before, self._lines.current = self._lines.current, self
        if not self._thread.ident:
            self._thread.start()
        self._turn.release()
        self._back.acquire()
        self._lines.current = before

    def pause(self, until: Callable[[], bool]) -> None:
        """In its own thread: let others run until something is there."""
        self.goes_on = until
        self._back.release()
        self._turn.acquire()
        if self.given_up:
            raise _Given

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._made = self._work()
        except _Given:
            pass
        except BaseException as error:
            # The driver raises it, wherever it is.
            self.error = error
        finally:
            self.ended = True
            self._back.release()


class Lines:
    """The lines of a driver that have not ended."""

    def __init__(self, advance: Callable[[], None]) -> None:
        """
        Args:
            advance: waits until a task of any step has ended.
        """
        self.current: Line[Any] | None = None
        """Whose turn it is; None: the driver's."""
        self._advance = advance
        self._open: list[Line[Any]] = []
        self._started = 0

    def start(self, work: Callable[[], Result], first: bool = False) -> Line[Result]:
        """Begin a line, which runs until it waits for its first step.

        Args:
            first: its tasks go before all others.
        """
        self._started += 1
        line = Line(self, work, -self._started if first else self._started)
        self._open.append(line)
        line.take_turn()
        return line

    def wait(self, there: Callable[[], bool]) -> None:
        """Return when something is there, and let lines run meanwhile.

        Raises:
            Exception: what a line raised.
        """
        if there():
            return
        if self.current:
            self.current.pause(there)
            return
        while not there():
            if line := next((line for line in self._open if line.ended or line.goes_on()), None):
                if not line.ended:
                    line.take_turn()
                if line.ended:
                    self._open.remove(line)
                    if line.error:
                        raise line.error
            else:
                self._advance()

    def finish(self) -> None:
        """Wait for all that are open."""
        while self._open:
            self._open[0].result()
            self._open = [line for line in self._open if not line.ended]

    def give_up(self) -> None:
        """End all that are open, wherever they are."""
        for line in self._open:
            line.given_up = True
            while not line.ended:
                line.take_turn()
        self._open.clear()

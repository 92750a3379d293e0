"""Tasks that are under way for much longer than others of their stage took."""

from __future__ import annotations

import statistics
import time
from collections import deque

from .tasks import Planned, Progress

ASK_SECONDS = 5.0
"""How often tasks are looked at."""
SLOW_SECONDS, SLOW_TIMES = 30.0, 4
"""A task is slow that takes longer than the one, and than the other times the median."""


class Stragglers:
    """Tells of each slow task, once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._names: dict[int, tuple[str, str]] = {}
        self._began: dict[int, float] = {}
        self._took: dict[str, deque[float]] = {}
        self._told: set[int] = set()
        self._looked = time.monotonic()

    def began(self, planned: Planned) -> None:
        """A task was handed to a worker."""
        self._names[planned.index] = (planned.step, planned.task.name)
        self._began[planned.index] = time.monotonic()

    def ended(self, index: int) -> None:
        """It ended, in whatever way."""
        step, _ = self._names.pop(index)
        self._took.setdefault(step, deque(maxlen=1000)).append(time.monotonic() - self._began.pop(index))

    def look(self) -> None:
        """Tell of those that are slow now."""
        now = time.monotonic()
        if now - self._looked < ASK_SECONDS:
            return
        self._looked = now
        known = {step: statistics.median(took) for step, took in self._took.items() if len(took) >= 5}
        for index, began in list(self._began.items()):
            step, name = self._names[index]
            if step in known and index not in self._told and now - began > max(SLOW_SECONDS, SLOW_TIMES * known[step]):
                self._progress.slow(step, name, now - began)
                self._told.add(index)

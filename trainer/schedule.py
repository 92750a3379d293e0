"""The learning rate: warm-up, stable, decay over all phases as one plan, a pure function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .settings import ScheduleSettings


@dataclass(frozen=True)
class LearningRateSchedule:
    """Steps of every phase; the state of the schedule is one integer, the global step."""

    steps: tuple[int, ...]
    schedule: ScheduleSettings

    @property
    def total(self) -> int:
        return sum(self.steps)

    def first_step(self, phase: int) -> int:
        """Global step with which a phase (from 0) begins."""
        return sum(self.steps[:phase])

    def factor(self, step: int) -> float:
        """Share of the peak rate in a step (from 0): up to 1 over the warm-up, down to 0 over the last part."""
        warmup = min(self.schedule.warmup_steps, self.total)
        decay = max(1, round(self.total * self.schedule.decay_share))
        rising = (step + 1) / warmup if step < warmup else 1.0
        falling = (self.total - step) / decay if step >= self.total - decay else 1.0
        return max(0.0, min(rising, falling))


def schedule_over(units: Sequence[int], batch_units: Sequence[int], schedule: ScheduleSettings) -> LearningRateSchedule:
    """Whole batches of every phase."""
    return LearningRateSchedule(tuple(u // b for u, b in zip(units, batch_units, strict=True)), schedule)

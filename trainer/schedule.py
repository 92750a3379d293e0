"""The learning rate as a pure function of the step: warm-up, stable, decay, over all phases as one schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .settings import ScheduleSettings


@dataclass(frozen=True)
class LearningRateSchedule:
    """The steps of every phase and the curve over them; its whole state is one integer, the global step."""

    steps: tuple[int, ...]
    schedule: ScheduleSettings

    @property
    def total(self) -> int:
        return sum(self.steps)

    def first_step(self, phase: int) -> int:
        """Global step at which a phase (counted from 0) begins."""
        return sum(self.steps[:phase])

    def factor(self, step: int) -> float:
        """Share of the peak rate in a step (counted from 0): up to 1 over the warm-up, down to 0 over the decay."""
        warmup = min(self.schedule.warmup_steps, self.total)
        decay = max(1, round(self.total * self.schedule.decay_share))
        rising = (step + 1) / warmup if step < warmup else 1.0
        falling = (self.total - step) / decay if step >= self.total - decay else 1.0
        return max(0.0, min(rising, falling))


def schedule_over(units: Sequence[int], batch_units: Sequence[int], schedule: ScheduleSettings) -> LearningRateSchedule:
    """The schedule of phases that each take as many steps as they have whole batches.

    Args:
        units: units of every phase.
        batch_units: units of a batch of every phase.
    """
    return LearningRateSchedule(tuple(u // b for u, b in zip(units, batch_units, strict=True)), schedule)

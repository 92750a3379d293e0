"""The learning rate as a pure function of the place in the data: warm-up, stable, decay, over all phases as one schedule.

It counts tokens, not steps, so a batch of another size moves neither the end of the warm-up nor the decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .settings import ScheduleSettings

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: (1.0 + math.cos(math.pi * x)) / 2,
    # 1 - sqrt, which ends lower than linear (Hägele et al. 2024, arXiv 2405.18392, section 4.1).
    "sqrt": lambda x: 1.0 - math.sqrt(x),
}
"""Name of a decay -> share of the fall that is left, by the share of the decay that has passed."""


@dataclass(frozen=True)
class PhaseSpan:
    """A phase on the way of the schedule."""

    name: str
    tokens: int
    """Of its whole batches."""
    batch_tokens: int

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens


@dataclass(frozen=True)
class LearningRateSchedule:
    """The phases and the curve over them. Its whole state is a phase and the tokens of it that were consumed."""

    phases: tuple[PhaseSpan, ...]
    warmup: int
    """Tokens, from the beginning, over which the rate rises from 0."""
    decay: int
    """Tokens, up to the end, over which the rate falls."""
    shape: str = "linear"
    final: float = 0.0
    """Share of the peak that the decay ends at."""

    @property
    def total(self) -> int:
        """Tokens of all phases."""
        return sum(p.tokens for p in self.phases)

    def factor(self, phase: int, consumed: int) -> float:
        """Share of the peak rate in a step.

        Args:
            phase: counted from 0.
            consumed: tokens of the phase that were consumed before the step.
        """
        at = sum(p.tokens for p in self.phases[:phase]) + consumed
        rising = min(1.0, (at + self.phases[phase].batch_tokens) / self.warmup) if self.warmup else 1.0
        left = max(0, self.total - at)
        if left > self.decay:
            return rising
        falling = SHAPES[self.shape](1.0 - left / self.decay if self.decay else 0.0)
        return min(rising, self.final + (1.0 - self.final) * falling)

    def describe(self) -> str:
        """Where warm-up and decay lie, in tokens, steps and phases."""
        parts = [f"warm-up over {self._span(0, self.warmup)}" if self.warmup else "no warm-up"]
        if self.decay:
            end = f"{self.final:.3g} of the peak" if self.final else "0"
            span = self._span(self.total - self.decay, self.total)
            parts.append(f"{self.shape} decay to {end} over the last {span}")
        else:
            parts.append("no decay")
        return "; ".join(parts)

    def _span(self, begin: int, end: int) -> str:
        steps, names, at = 0, [], 0
        for phase in self.phases:
            first, last = max(begin, at) - at, min(end, at + phase.tokens) - at
            if first < last:
                # The steps that begin within.
                steps += -(-last // phase.batch_tokens) - -(-first // phase.batch_tokens)
                names.append(phase.name)
            at += phase.tokens
        places = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else "no phase"
        return f"{end - begin:,} tokens ({steps:,} step{'' if steps == 1 else 's'}, {places})"


def schedule_over(phases: Sequence[PhaseSpan], settings: ScheduleSettings) -> LearningRateSchedule:
    """The schedule over some phases.

    Raises:
        ValueError: the decay is to begin with a phase that there is not.
    """
    total = sum(p.tokens for p in phases)
    names = [p.name for p in phases]
    if settings.decay_share is not None:
        decay = round(total * settings.decay_share)
    elif settings.decay_tokens is not None:
        decay = min(total, settings.decay_tokens)
    else:
        first = settings.decay_from or names[-1]
        if first not in names:
            raise ValueError(f"schedule.decay_from is {first}, which is no phase; choose one of {', '.join(names)}")
        decay = sum(p.tokens for p in phases[names.index(first) :])
    warmup = min(total, warmup_tokens(phases, settings))
    return LearningRateSchedule(tuple(phases), warmup, decay, settings.decay_shape, settings.final_share)


def warmup_tokens(phases: Sequence[PhaseSpan], settings: ScheduleSettings) -> int:
    """Tokens of the warm-up; steps of it are counted in the batches of the phases that they fall in."""
    if settings.warmup_tokens is not None:
        return settings.warmup_tokens
    tokens, steps = 0, settings.warmup_steps or 0
    for phase in phases:
        here = min(steps, phase.steps)
        tokens, steps = tokens + here * phase.batch_tokens, steps - here
    return tokens

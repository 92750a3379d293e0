"""What a training will do, before it does it: steps, learning rate, and the memory that it takes of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .memory import table
from .overrides import override
from .settings import Options
from .train import make_schedule, open_phases, read_settings


def training_plan(run: Path, options: Options, world: int) -> Iterator[str]:
    """Lines about a training of a run by `world` processes, with a GPU each.

    Raises:
        ValueError: the run or the options do not fit.
    """
    settings = override(read_settings(run), options)
    phases = open_phases(run, settings)
    schedule = make_schedule(settings, phases)
    vocabulary, micro = phases[0].info.vocab_size, settings.micro_batch_tokens
    for span, data in zip(schedule.phases, phases, strict=True):
        lengths = ", ".join(f"{s.block_length:,}" for s in data.info.splits)
        rounds = -(-span.batch_tokens // micro // world)
        yield (
            f"{span.name}: {span.steps:,} steps of {span.batch_tokens:,} tokens, blocks of {lengths}; {rounds} micro-"
            f"batch{'es' if rounds > 1 else ''} of {micro:,} tokens a step on each of {world} process{'es' if world > 1 else ''}"
        )
        if span.batch_tokens // micro % world:
            yield f"  {rounds * world - span.batch_tokens // micro} of {rounds * world} micro-batches of a step count for nothing"
    yield f"rate {settings.optimizer.learning_rate:.2e} ({settings.optimizer.name}): {schedule.describe()}"
    yield from table(settings, vocabulary, world, [data.unit_tokens for data in phases])

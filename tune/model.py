"""The project's own network at a small size, trained on a mixture by the trainer's parts, on one thread.

What it has of `fox1 train`: model, loss, micro-batches, optimizer and schedule. What it has not: processes, checkpoints and the
guard against spikes; a training of minutes begins again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..trainer.data.mixture import MixtureData
from ..trainer.data.order import UnitStream, to_micro_batch
from ..trainer.model.model import Fox1
from ..trainer.parallel import build_optimizer
from ..trainer.schedule import PhaseSpan, schedule_over
from ..trainer.settings import PhaseTraining, ScheduleSettings, TrainSettings
from .settings import ProxySettings


def train_network(data: MixtureData, settings: ProxySettings, seed: int) -> Callable[[UnitStream], np.ndarray]:
    """Train; what comes back scores sequences: bits of every token, float64 [T].

    Raises:
        ValueError: a batch holds no unit, the mixture no batch, or the model fewer positions than a unit.
    """
    torch.set_num_threads(1)
    batch_units = settings.batch_tokens // data.unit_tokens
    steps = data.units // batch_units if batch_units else 0
    if not steps or data.unit_tokens > settings.model.max_positions:
        raise ValueError(
            f"a proxy of {data.units * data.unit_tokens:,} tokens in blocks of {data.unit_tokens} cannot be trained in batches "
            f"of {settings.batch_tokens} tokens with {settings.model.max_positions} positions; change `tune.proxy`"
        )
    settings.model.check(data.info.vocab_size)
    batch_tokens = batch_units * data.unit_tokens
    span = PhaseSpan("proxy", steps * batch_tokens, batch_tokens)
    rates = ScheduleSettings(warmup_tokens=round(span.tokens * settings.warmup), decay_share=settings.decay)
    schedule = schedule_over([span], rates)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Fox1(settings.model, data.info.vocab_size)
    model.initialise(seed)
    model.to(device)
    phase = PhaseTraining(span.name, span.tokens, batch_tokens, 1)
    optimizer = build_optimizer(
        model, TrainSettings(settings.model, (phase,), batch_tokens, settings.optimizer, rates, seed=seed)
    )
    for step in range(steps):
        batch = data.micro_batch(step * batch_units, batch_units, device)
        rate = settings.optimizer.learning_rate * schedule.factor(0, step * batch_tokens)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, _ = model(batch.tokens, batch.documents, batch.targets)
        (loss / max(1, batch.valid)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def score(stream: UnitStream) -> np.ndarray:
        batch = to_micro_batch(stream, device)
        _, losses = model(batch.tokens, batch.documents, batch.targets)
        bits = losses.double().cpu().numpy() / math.log(2)
        # A loss stands where its target is predicted from.
        return np.concatenate([[0.0], bits[:-1]])

    return score

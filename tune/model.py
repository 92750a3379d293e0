"""The project's own network at a small size, trained on a mixture by the trainer's parts, on one thread.

What it has of `fox1 train`: model, loss, micro-batches, optimizer and schedule. What it has not: processes and the guard against
spikes. A proxy that is killed begins again; a longer training keeps `NetworkTraining.state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from ..tokenize.shards import SetInfo
from ..trainer.data.mixture import MixtureData
from ..trainer.data.order import MicroBatch, UnitStream, to_micro_batch
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
    training = NetworkTraining(data, settings, seed)
    training.advance(training.steps)
    return training.score


class UnitData(Protocol):
    """What is trained on: units in an order."""

    info: SetInfo
    unit_tokens: int

    @property
    def units(self) -> int: ...

    def micro_batch(self, first: int, count: int, device: torch.device) -> MicroBatch: ...


class NetworkTraining:
    """A training that can stop after any step and be continued from its state.

    Args:
        seed: of the initial weights.

    Raises:
        ValueError: a batch holds no unit, the data no batch, or the model fewer positions than a unit.
    """

    def __init__(self, data: UnitData, settings: ProxySettings, seed: int) -> None:
        torch.set_num_threads(1)
        self._batch_units = settings.batch_tokens // data.unit_tokens
        self.steps = data.units // self._batch_units if self._batch_units else 0
        if not self.steps or data.unit_tokens > settings.model.max_positions:
            raise ValueError(
                f"a proxy of {data.units * data.unit_tokens:,} tokens in blocks of {data.unit_tokens} cannot be trained in "
                f"batches of {settings.batch_tokens} tokens with {settings.model.max_positions} positions; change `tune.proxy`"
            )
        settings.model.check(data.info.vocab_size)
        self._data, self._settings = data, settings
        self.batch_tokens = self._batch_units * data.unit_tokens
        span = PhaseSpan("proxy", self.steps * self.batch_tokens, self.batch_tokens)
        rates = ScheduleSettings(warmup_tokens=round(span.tokens * settings.warmup), decay_share=settings.decay)
        self._schedule = schedule_over([span], rates)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.halved = self._device.type == "cuda"
        """Matrix products and attention in bf16 over weights in fp32, as the trainer has it: FlashAttention knows no fp32."""
        self.model = Fox1(settings.model, data.info.vocab_size)
        self.model.initialise(seed)
        self.model.to(self._device)
        phase = PhaseTraining(span.name, span.tokens, self.batch_tokens, 1)
        self._optimizer = build_optimizer(
            self.model, TrainSettings(settings.model, (phase,), self.batch_tokens, settings.optimizer, rates, seed=seed)
        )
        self.step = 0

    def advance(self, until: int) -> None:
        """Take steps until so many are done."""
        optimizer, settings = self._optimizer, self._settings
        for step in range(self.step, min(until, self.steps)):
            batch = self._data.micro_batch(step * self._batch_units, self._batch_units, self._device)
            rate = settings.optimizer.learning_rate * self._schedule.factor(0, step * self.batch_tokens)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, _ = self._forward(batch)
            (loss / max(1, batch.valid)).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.step = step + 1

    def _forward(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(summed loss, loss of every token)."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.halved):
            loss, losses = self.model(batch.tokens, batch.documents, batch.targets)
        return loss, losses

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {"step": self.step, "model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where another training of the same data, settings and seed was."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def score(self, stream: UnitStream) -> np.ndarray:
        """Bits of every token of some sequences, float64 [T]."""
        batch = to_micro_batch(stream, self._device)
        _, losses = self._forward(batch)
        bits = losses.double().cpu().numpy() / math.log(2)
        # A loss stands where its target is predicted from.
        return np.concatenate([[0.0], bits[:-1]])

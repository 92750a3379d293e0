"""Sums over the steps since the last report. They stay on the device, so that no step waits for it.

A step that is skipped is in no mean: its losses may be NaN, and no weight has learned from them.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..data.order import MicroBatch
from ..data.source_losses import sums_by_source


class Window:
    """What was trained on since the last report.

    Args:
        sources: number of sources of the data.
    """

    def __init__(self, device: torch.device, sources: int) -> None:
        self._device, self._sources = device, sources
        self.rate = 0.0
        self.norm = torch.zeros(())
        self.reset()

    def reset(self) -> None:
        """Begin again, after a report."""
        # In fp64: counts of tokens pass 2^24 within a window, where fp32 stops counting.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        """Over this rank's part of the steps that were not skipped, like `by_source`."""
        self.by_source = torch.zeros(2, self._sources, dtype=torch.float64, device=self._device)
        self.targets = torch.zeros((), dtype=torch.float64, device=self._device)
        """Of the steps that were not skipped, over all ranks."""
        self.steps = self.tokens = self.local_tokens = self.squares = 0
        self.data_seconds = 0.0
        self.began = time.monotonic()
        self.begin_step()

    def begin_step(self) -> None:
        """Forget the micro-batches of a step that was not finished."""
        self._step_loss = torch.zeros_like(self.loss_sum)
        self._step_by_source = torch.zeros_like(self.by_source)
        self._step_tokens = self._step_squares = 0

    def add(self, losses: Tensor, batch: MicroBatch) -> None:
        """Add a micro-batch to the present step.

        Args:
            losses: fp32 [T], by token; 0 where there is no target.
        """
        self._step_loss += losses.sum()
        self._step_by_source += sums_by_source(losses, batch, self._sources)
        self._step_squares += batch.square_lengths
        self._step_tokens += len(batch.tokens)

    def end_step(self, skipped: Tensor, valid: int, tokens: int) -> None:
        """Add the present step.

        Args:
            skipped: [] on the device; not 0 where the step was skipped.
            valid: targets of the step, over all ranks.
            tokens: tokens of the step, over all ranks.
        """
        kept = skipped == 0
        self.loss_sum += torch.where(kept, self._step_loss, 0.0)
        self.by_source += torch.where(kept, self._step_by_source, 0.0)
        self.targets += kept * valid
        self.steps += 1
        self.tokens += tokens
        self.local_tokens += self._step_tokens
        self.squares += self._step_squares
        self.begin_step()

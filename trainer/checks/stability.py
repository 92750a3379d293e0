"""Skips steps whose loss or gradient norm is not finite, or far above its recent values.

The decision is made on the device: the optimizer is handed a flag, and no value leaves the device for it. Losses are
summed over all ranks and norms are global, so every rank decides alike. The statistics are part of the checkpoint.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Guard:
    """Remembers the last losses and gradient norms, and decides which steps to skip.

    Args:
        sigma: standard deviations above the mean beyond which a value is a spike; 0: only what is not finite is skipped.
        window: number of steps that mean and deviation are taken over.
    """

    def __init__(self, sigma: float, window: int, device: torch.device) -> None:
        self.sigma, self.window = sigma, window
        # Losses and norms; NaN where there is none yet.
        self.values = torch.full((2, window), torch.nan, dtype=torch.float64, device=device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        """Steps whose values are in `values`, steps skipped in all, steps skipped in a row."""

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """fp32 [] on the device: 1 where the step must be skipped, else 0.

        Args:
            loss: this rank's part of the mean loss of the step.
            norm: the gradient norm over all ranks.
        """
        total = loss.detach().double().clone()
        dist.all_reduce(total)
        now = torch.stack([total, norm.detach().double().to(total.device)])
        finite = now.isfinite().all()
        bad = ~finite
        if self.sigma:
            known = ~self.values.isnan()
            filled = torch.where(known, self.values, 0.0)
            n = known.sum(1).clamp(min=1)
            mean = filled.sum(1) / n
            variance = (torch.where(known, self.values - mean[:, None], 0.0) ** 2).sum(1) / n
            # A constant loss has no deviation: a thousandth of the mean is always allowed.
            limit = mean + self.sigma * torch.maximum(variance.sqrt(), 1e-3 * mean.abs())
            # Not before the window is full: during warm-up the loss falls steeply.
            bad = bad | ((self.counts[0] >= self.window) & (now > limit).any())
        place = (self.counts[0] % self.window).reshape(1)
        # Skipped steps do not count: otherwise a run of spikes would become the norm.
        kept = torch.where(bad, self.values.index_select(1, place)[:, 0], now)
        self.values.index_copy_(1, place, kept[:, None])
        skipped = bad.long()
        self.counts.copy_(
            torch.stack([self.counts[0] + 1 - skipped, self.counts[1] + skipped, (self.counts[2] + skipped) * skipped])
        )
        return bad.float()

    def state(self) -> dict[str, Tensor]:
        """The part of a checkpoint that is the guard's; loading writes into these tensors."""
        return {"values": self.values, "counts": self.counts}

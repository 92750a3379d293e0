"""Skips steps whose loss or gradient norm is not finite, or far above its recent values.

The decision is made on the device: the optimizer is handed a flag, and no value leaves the device for it. Losses are
summed over all ranks and norms are global, so every rank decides alike. The statistics are part of the checkpoint.

Other data has another level of the loss. At a phase the statistics begin again (`begin`), and within one a level is learned:
skipped steps change no weight, so when steps in a row all lie at one level a little above the old one, it is the data that
has changed, and their values become the statistics. What lies far above, does not settle, or rises again within a window
is a model that diverges; it is skipped until the training stops.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

FEW = 8
"""Fewest values that a mean and a deviation are taken over, and fewest steps in a row that make a level."""
FARTHEST = (1.5, 10.0)
"""The mean loss and the mean norm of a new level, at most, as multiples of those before."""


class Guard:
    """Remembers the last losses and gradient norms, and decides which steps to skip.

    Args:
        sigma: standard deviations above the mean beyond which a value is a spike; 0: only what is not finite is skipped.
        window: number of steps that mean and deviation are taken over.
        max_skipped: skipped steps in a row after which the training stops. Half of them, and no fewer than `FEW`, make a new
            level; where the training stops before, none is learned.
    """

    def __init__(self, sigma: float, window: int, device: torch.device, max_skipped: int = 0) -> None:
        self.sigma, self.window = sigma, window
        self._few = min(FEW, window)
        self._learns = max_skipped > FEW
        # Losses and norms; NaN where there is none yet.
        self.values = torch.full((2, window), torch.nan, dtype=torch.float64, device=device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        """Steps whose values were taken, steps skipped in all, steps skipped in a row."""
        self.skipped = torch.full(
            (2, min(window, max(FEW, max_skipped // 2))), torch.nan, dtype=torch.float64, device=device
        )
        """Losses and norms of the last steps that were skipped in a row."""
        self.levels = torch.tensor([0, -window], dtype=torch.int64, device=device)
        """Levels learned in all, and the number of values taken when the last one was."""
        # Here, since a copy from the host in a step would wait for the device.
        self._farthest = torch.tensor(FARTHEST, dtype=torch.float64, device=device)

    def begin(self) -> None:
        """Forget the values: what comes is other data."""
        self.values.fill_(torch.nan)
        self.skipped.fill_(torch.nan)
        self.levels[1] = self.counts[0] - self.window

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """fp32 [] on the device: 1 where the step must be skipped, else 0.

        Args:
            loss: this rank's part of the mean loss of the step.
            norm: the gradient norm over all ranks.
        """
        total = loss.detach().double().clone()
        dist.all_reduce(total)
        now = torch.stack([total, norm.detach().double().to(total.device)])
        bad = ~now.isfinite().all()
        mean, limit = self._limit()
        if self.sigma:
            # Not before a window was full: during warm-up the loss falls steeply.
            judges = (self.counts[0] >= self.window) & ((~self.values.isnan()).sum(1) >= self._few).all()
            bad = bad | (judges & (now > limit).any())
        place = (self.counts[0] % self.window).reshape(1)
        # Skipped steps do not count: otherwise a run of spikes would become the norm.
        kept = torch.where(bad, self.values.index_select(1, place)[:, 0], now)
        self.values.index_copy_(1, place, kept[:, None])
        self.skipped.index_copy_(1, (self.counts[2] % self.skipped.shape[1]).reshape(1), now[:, None])
        skipped = bad.long()
        self.counts.copy_(
            torch.stack([self.counts[0] + 1 - skipped, self.counts[1] + skipped, (self.counts[2] + skipped) * skipped])
        )
        if self.sigma and self._learns:
            self._learn(mean, limit)
        return bad.float()

    def _limit(self) -> tuple[Tensor, Tensor]:
        """Mean of the values, and what lies above it is a spike; fp64 [2] each."""
        mean, deviation = _moments(self.values)
        # A constant loss has no deviation: a thousandth of the mean is always allowed.
        return mean, mean + self.sigma * torch.maximum(deviation, 1e-3 * mean.abs())

    def _learn(self, mean: Tensor, limit: Tensor) -> None:
        """Make the steps that were skipped in a row the statistics, if they lie at one level that a model may have."""
        count = self.skipped.shape[1]
        level, deviation = _moments(self.skipped)
        settled = (level <= limit) | ((deviation <= (level - mean) / 2) & (level <= self._farthest * mean))
        learned = (
            (self.counts[2] >= count)
            & self.skipped.isfinite().all()
            & settled.all()
            # A model that diverges climbs from level to level.
            & (self.counts[0] - self.levels[1] >= self.window)
        )
        # Behind the place of the next value, so that they are replaced last.
        places = (self.counts[0] - 1 - torch.arange(count, device=mean.device)) % self.window
        values = torch.full_like(self.values, torch.nan).index_copy_(1, places, self.skipped)
        self.values.copy_(torch.where(learned, values, self.values))
        self.levels.copy_(torch.where(learned, torch.stack([self.levels[0] + 1, self.counts[0]]), self.levels))

    def state(self) -> dict[str, Tensor]:
        """The part of a checkpoint that is the guard's; loading writes into these tensors."""
        return {"values": self.values, "counts": self.counts, "skipped": self.skipped, "levels": self.levels}


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (fp64 [2] each) of the values (fp64 [2, n]) that are not NaN; 0 where there is none."""
    known = ~values.isnan()
    n = known.sum(1).clamp(min=1)
    mean = torch.where(known, values, 0.0).sum(1) / n
    variance = (torch.where(known, values - mean[:, None], 0.0) ** 2).sum(1) / n
    return mean, variance.sqrt()

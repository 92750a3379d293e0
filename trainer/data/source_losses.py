"""Losses by the source of their tokens: sums by source code, means by corpus or domain."""

from __future__ import annotations

import numpy as np
import torch

from ...tokenize.shards import SetInfo
from .order import MicroBatch

CORPUS, DOMAIN = 0, 2
"""Places in a set's (corpus, subset, domain)."""


def sums_by_source(losses: torch.Tensor, batch: MicroBatch, sources: int) -> torch.Tensor:
    """(summed losses, targets) by source code, fp64 [2, sources]."""
    sums = torch.zeros(2, sources, dtype=torch.float64, device=losses.device)
    sums[0].index_add_(0, batch.sources, losses.double())
    sums[1].index_add_(0, batch.sources, (batch.targets >= 0).double())
    return sums


def shares(sums: np.ndarray, info: SetInfo, part: int) -> dict[str, float]:
    """Share of the targets by corpus or domain, from (sums, counts) [2, sources]; names without any count are left out."""
    total, found = sums[1].sum(), {}
    for name in sorted({source[part] for source in info.sources}):
        count = sums[1, [i for i, source in enumerate(info.sources) if source[part] == name]].sum()
        if count:
            found[name] = float(count / total)
    return found


def means(sums: np.ndarray, info: SetInfo, part: int) -> dict[str, float]:
    """Means by corpus or domain, from (sums, counts) [2, sources]; names without any count are left out."""
    found = {}
    for name in sorted({source[part] for source in info.sources}):
        codes = [i for i, source in enumerate(info.sources) if source[part] == name]
        if sums[1, codes].sum():
            found[name] = float(sums[0, codes].sum() / sums[1, codes].sum())
    return found

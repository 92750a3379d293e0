"""Whether all ranks hold the same model: checked before every checkpoint, so that none keeps what a broken device made.

Every rank gathers the weights as it would for a step, sums their bits, and compares with the others. With replicas of
shards (HSDP) this finds replicas that drifted apart; with one, memory or links that change what they carry.
"""

from __future__ import annotations

from collections import Counter

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ..checkpoints.checkpoint import TrainingProgress

CHUNK = 1 << 24
"""Elements summed at once."""


def checksum(values: Tensor) -> Tensor:
    """int64 []: of the bits of a tensor of two or four bytes an element."""
    bits = values.detach().reshape(-1).view({2: torch.int16, 4: torch.int32}[values.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    for begin in range(0, len(bits), CHUNK):
        # A factor for each chunk, so that two that trade places differ; int64 wraps around, alike everywhere.
        total = total * 1_000_003 + bits[begin : begin + CHUNK].sum(dtype=torch.int64)
    return total


@torch.no_grad()
def check_weights(model: nn.Module, progress: TrainingProgress) -> None:
    """Compare weights and progress over all ranks; collective.

    Raises:
        ValueError: they differ, or a weight is no number; on every rank, naming the weight and the ranks.
    """
    names, sums, broken = ["units consumed", "step"], [progress.units, progress.step], 0
    for prefix, module in model.named_modules():
        if not isinstance(module, FSDPModule):
            continue
        module.unshard()
        for name, parameter in module.named_parameters():  # type: ignore[attr-defined]
            # Those of modules sharded in their own right are not gathered with this one.
            if isinstance(parameter, torch.distributed.tensor.DTensor):
                continue
            names.append(f"{prefix}.{name}" if prefix else name)
            sums.append(int(checksum(parameter.contiguous())))
            broken += not bool(parameter.isfinite().all())
        module.reshard()
    mine = torch.tensor([*sums, broken], dtype=torch.int64)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(every, mine)
    table = torch.stack(every)
    for column, name in enumerate(names):
        values = table[:, column].tolist()
        usual = Counter(values).most_common(1)[0][0]
        if odd := [rank for rank, value in enumerate(values) if value != usual]:
            raise ValueError(
                f"step {progress.step}: rank {', '.join(map(str, odd))} holds another {name} than the others; nothing was "
                "saved: run again to go on from the last checkpoint, and have that machine's memory and links checked"
            )
    if table[:, -1].any():
        raise ValueError(f"step {progress.step}: weights are no numbers; nothing was saved; lower the learning rate")

"""Whether all ranks hold the same weights: checked before every checkpoint, so that none keeps what a broken device made.

Every rank gathers the weights as it would for a step, sums their bits, and compares with the others. With several
replicas (HSDP) this finds replicas that drifted apart; with one, memory or links that corrupt data.
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
    """Checksum (int64 []) of the bits of a tensor with elements of two or four bytes."""
    bits = values.detach().reshape(-1).view({2: torch.int16, 4: torch.int32}[values.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    for begin in range(0, len(bits), CHUNK):
        # A factor for each chunk, so that swapped chunks differ; int64 wraps around in the same way everywhere.
        total = total * 1_000_003 + bits[begin : begin + CHUNK].sum(dtype=torch.int64)
    return total


@torch.no_grad()
def check_weights(model: nn.Module, progress: TrainingProgress) -> None:
    """Compare weights and progress over all ranks; collective.

    Raises:
        ValueError: they differ, or a weight is not finite; on every rank, naming the weight and the ranks.
    """
    names, sums, not_finite = ["units consumed", "step"], [progress.units, progress.step], 0
    for prefix, module in model.named_modules():
        if not isinstance(module, FSDPModule):
            continue
        module.unshard()
        for name, parameter in module.named_parameters():  # type: ignore[attr-defined]
            # Parameters of submodules that are sharded themselves are not gathered with this module.
            if isinstance(parameter, torch.distributed.tensor.DTensor):
                continue
            names.append(f"{prefix}.{name}" if prefix else name)
            sums.append(int(checksum(parameter.contiguous())))
            not_finite += not bool(parameter.isfinite().all())
        module.reshard()
    row = torch.tensor([*sums, not_finite], dtype=torch.int64)
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, row)
    table = torch.stack(rows)
    for column, name in enumerate(names):
        values = table[:, column].tolist()
        usual = Counter(values).most_common(1)[0][0]
        if odd := [str(rank) for rank, value in enumerate(values) if value != usual]:
            ranks = f"rank {odd[0]} differs" if len(odd) == 1 else f"ranks {', '.join(odd)} differ"
            raise ValueError(
                f"step {progress.step}: {ranks} from the others in {name}; no checkpoint was saved. Have the memory and links "
                "of that machine checked, and run the same command again to resume from the last checkpoint"
            )
    if table[:, -1].any():
        raise ValueError(
            f"step {progress.step}: weights are NaN or infinite; no checkpoint was saved. Lower the learning rate, and run "
            "the same command again to resume from the last checkpoint"
        )

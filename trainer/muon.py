"""Muon: the matrices of blocks follow their momentum with all singular values brought near one; the rest follows AdamW.

K. Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the update scaled to the size of AdamW's (Liu et al. 2025, arXiv
2502.16982, section 2.2), so that one learning rate and one weight decay serve both. `torch.optim.Muon` computes the same for whole
matrices, and is what tests compare with. It is not used: it cannot skip a step without a wait for the device, it takes a fused
projection for one matrix, and a sharded one takes it eleven all-reduces (torch 2.13, counted), where one gather does.

Momentum is sharded as the weights are. A matrix is gathered once a step, in the type of the products, and every rank does the
same work on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration brings singular values into about 0.7 to 1.2 (Jordan et al.)."""
ITERATIONS = 5
SMALLEST = 1e-7
"""Least norm that a matrix is divided by."""
LIKE_ADAMW = 0.2
"""Root mean square of an update of AdamW (Liu et al. 2025)."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix [M, N] with the singular vectors of another and singular values near one, in its dtype."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / wide.norm().clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.AdamW):
    """AdamW but for some matrices, which follow Muon at the same rate and weight decay.

    A step of which `found_inf` is not 0 changes nothing, as with the fused AdamW: no value leaves the device for it.

    Args:
        groups: those of AdamW, all parameters.
        rows: the parameters that follow Muon, and the numbers of rows of the matrices that each is made of, from the top.
        momentum: share of the momentum that a step keeps.
    """

    def __init__(self, groups: Any, rows: Mapping[Tensor, tuple[int, ...]], momentum: float, **options: Any) -> None:
        super().__init__(groups, **options)
        self._rows, self._momentum = dict(rows), momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        gradients = {p: p.grad for p in self._rows if p.grad is not None}
        # AdamW passes over what has no gradient.
        for parameter in gradients:
            parameter.grad = None
        super().step(closure)
        skipped = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in gradients:
                    self._follow(parameter, gradients[parameter], group["lr"], group["weight_decay"], skipped)
                    parameter.grad = gradients[parameter]

    def _follow(
        self, parameter: Tensor, gradient: Tensor, rate: float, weight_decay: float, skipped: Tensor | None
    ) -> None:
        state = self.state[parameter]
        if not state:
            # AdamW looks for the number of steps in every state that is loaded.
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["momentum_buffer"] = torch.zeros_like(parameter)
        weight, momentum, new = (_local(x) for x in (parameter, state["momentum_buffer"], gradient))
        taken: Tensor | float = 1.0
        if skipped is not None:
            taken = (skipped == 0).to(weight.dtype)
            # Momentum moved towards itself stays what it is, bit for bit, and is finite.
            new = torch.where(skipped == 0, new, momentum)
        momentum.lerp_(new, 1 - self._momentum)
        update = self._update(parameter, new.lerp(momentum, self._momentum))
        weight.mul_(1 - rate * weight_decay * taken)
        weight.sub_(update * (rate * taken))
        state["step"] += taken

    def _update(self, parameter: Tensor, direction: Tensor) -> Tensor:
        """This rank's part of the orthogonalised direction (given as this rank's part), scaled to the size of AdamW's updates."""
        kind = torch.bfloat16 if direction.device.type == "cuda" else direction.dtype
        whole = _gathered(direction.to(kind), parameter)
        parts = []
        for part in whole.split(self._rows[parameter]):
            parts.append(orthogonalised(part) * (LIKE_ADAMW * max(part.shape) ** 0.5))
        return _part(torch.cat(parts), parameter).to(direction.dtype)


def _local(values: Tensor) -> Tensor:
    return values.to_local() if isinstance(values, DTensor) else values


def _gathered(part: Tensor, like: Tensor) -> Tensor:
    """The whole of what is sharded as a parameter is, from this rank's part of it."""
    if not isinstance(like, DTensor):
        return part
    # Shape and stride are given, since parts may differ in size.
    sharded = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return sharded.full_tensor()


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """This rank's part of what all ranks have, sharded as a parameter is; nothing is sent."""
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=like.placements).to_local()

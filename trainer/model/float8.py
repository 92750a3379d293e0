"""Matrix products from 8-bit operands, each tensor scaled by its largest value (Micikevicius et al. 2022, arXiv 2209.05433): an
experiment, for GPUs from Ada on. Values are e4m3, gradients e5m2, which reaches further; sums are wide."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VALUES, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
STEP = 16
"""Sizes of a product have to be multiples of it."""


def to_fp8(values: Tensor, kind: torch.dtype = VALUES) -> tuple[Tensor, Tensor]:
    """(quantised values, scale fp32 []): their product is about `values`."""
    most = torch.finfo(kind).max
    scale = (values.detach().abs().amax().float() / most).clamp(min=1e-12)
    return (values / scale).to(kind), scale


def product(a: tuple[Tensor, Tensor], b_transposed: tuple[Tensor, Tensor]) -> Tensor:
    """bf16 [M, N] = [M, K] @ [N, K].T of quantised tensors with their scales."""
    (left, scale_a), (right, scale_b) = a, b_transposed
    return torch._scaled_mm(left, right.T, scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16)


class _Linear(torch.autograd.Function):
    """`F.linear` with x [T, I] and weight [O, I] in fp8, and so the gradient of x; that of the weight is summed over all tokens,
    from bf16 (or what x is)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(to_fp8(x), to_fp8(weight)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        d_x = product(to_fp8(d_out, GRADIENTS), to_fp8(weight.T.contiguous())).to(x.dtype)
        return d_x, d_out.T @ x


class Float8Linear(nn.Linear):
    """A linear layer without bias whose products are in fp8; its parameter has the same name, so checkpoints fit."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % STEP or not torch.is_grad_enabled():
            return F.linear(x, self.weight)
        out: Tensor = _Linear.apply(x, self.weight)
        return out


def use_float8(module: nn.Module) -> None:
    """Have all linear layers below a module compute in fp8.

    Raises:
        ValueError: a size is no multiple of 16.
    """
    for name, linear in module.named_modules():
        if isinstance(linear, nn.Linear):
            if linear.in_features % STEP or linear.out_features % STEP:
                raise ValueError(
                    f"training.fp8_linears: {name} has {linear.in_features} x {linear.out_features} weights, and fp8 takes "
                    f"multiples of {STEP}; switch it off, or change the shape of the model"
                )
            linear.__class__ = Float8Linear


def require_float8(setting: str, device: torch.device) -> None:
    """Raise ValueError if a GPU cannot multiply in fp8."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"training.{setting}: {name} cannot multiply in fp8 (H100 and later can); switch it off")

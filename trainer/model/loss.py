"""Linear cross-entropy in chunks: the head is 29 % of all FLOPs, and its logits would be the largest tensor by far.

Logits, loss and gradients are computed chunk by chunk, so the logits of only one chunk of tokens exist at a time. The
weight gradient accumulates in fp32 over chunks. Sums, not means: the caller divides by the global count of valid
targets, so that neither ranks nor micro-batches weigh tokens differently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .float8 import product, to_fp8

IGNORE = -100
CHUNKS = {"cuda": 4096, "cpu": 512}
"""Tokens per chunk. On a GPU 4,096 to 8,192 at 256,000 pieces, where smaller chunks are bound by the memory traffic of the
weight and its gradient; on a CPU what fits its caches."""


def _gradient(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """Losses and squared log-sum-exps (fp32 [T]), and d(sum of losses) / d(logits) in the dtype of the logits [T, V].

    Without side effects, and without a scatter into the gradient, so that a compiler fuses it into one pass: for GPUs.
    """
    wide = logits.float()
    valid = targets != IGNORE
    lse = torch.logsumexp(wide, dim=-1)
    picked = wide.gather(-1, targets.clamp(min=0)[:, None])[:, 0]
    # d loss / d logits = softmax - one-hot, zero where the target is ignored; the z-loss z lse^2 adds 2 z lse softmax.
    softmax = torch.exp(wide - lse[:, None]) * (1 + 2 * z_loss * lse[:, None])
    here = torch.arange(logits.shape[-1], device=logits.device)[None, :] == targets[:, None]
    gradient = torch.where(valid[:, None], softmax - here.float(), 0.0)
    zero = torch.zeros_like(lse)
    return torch.where(valid, lse - picked, zero), torch.where(valid, lse, zero).square(), gradient.to(logits.dtype)


def _gradient_in_place(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `_gradient`, but in place in the logits and with one exponential: for CPUs, and where nothing is compiled."""
    kind, wide = logits.dtype, logits.float()
    valid, index = targets != IGNORE, targets.clamp(min=0)[:, None]
    top, picked = wide.amax(-1, keepdim=True), wide.gather(-1, index)[:, 0]
    total = wide.sub_(top).exp_().sum(-1)
    lse = top[:, 0] + total.log()
    counted = valid.float()
    wide.mul_((counted * (1 + 2 * z_loss * lse) / total)[:, None])
    wide.scatter_add_(-1, index, -counted[:, None])
    return (lse - picked) * counted, lse.square() * counted, wide.to(kind)


@functools.cache
def _gradient_of(device: str, compiled: bool) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]:
    return torch.compile(_gradient) if device == "cuda" and compiled else _gradient_in_place


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        z_loss: float,
        fp8: bool,
        compiled: bool,
        needs: bool,
    ) -> tuple[Tensor, Tensor]:
        head = to_fp8(weight) if fp8 else None
        extra = torch.zeros((), dtype=torch.float32, device=hidden.device)
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if needs else None
        gradient = _gradient_of(hidden.device.type, compiled)
        for begin in range(0, hidden.shape[0], chunk):
            span = slice(begin, begin + chunk)
            h, target = hidden[span], targets[span]
            logits = product(to_fp8(h), head) if head else h @ weight.T
            if d_hidden is None or d_weight is None:
                wide = logits.float()
                index = target.clamp(min=0)[:, None]
                lse = torch.logsumexp(wide, dim=-1)
                losses[span] = torch.where(target != IGNORE, lse - wide.gather(-1, index)[:, 0], 0.0)
                continue
            losses[span], squares, grad = gradient(logits, target, z_loss)
            if z_loss:
                extra += z_loss * squares.sum()
            grad = grad.to(hidden.dtype)
            torch.matmul(grad, weight, out=d_hidden[span])
            d_weight.add_(grad.T @ h)
            # Else this chunk's would be held beside the next one's.
            del logits, grad
        if needs:
            ctx.save_for_backward(d_hidden, d_weight)
            ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(losses)
        return losses.sum() + extra, losses

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_loss, (d_weight * d_loss).to(ctx.weight_dtype), *[None] * 6


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk: int = 0,
    z_loss: float = 0.0,
    fp8: bool = False,
    compiled: bool = True,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of ``hidden @ weight.T`` [T, V] against targets (int64 [T], -100 ignored).

    Args:
        chunk: tokens per chunk; 0: the device's default.
        z_loss: weight of the squared log-sum-exp, which keeps logits from drifting (Chowdhery et al. 2022: 1e-4).
        fp8: compute logits from fp8 operands, but gradients from the operands as given.
        compiled: on a GPU, compile what becomes of the logits.

    Returns:
        (loss fp32 [], with the z-loss; cross-entropy of each token fp32 [T], detached, without it).
    """
    # Whether gradients are wanted has to be asked here: within the function, autograd always looks switched off.
    size = chunk or CHUNKS[hidden.device.type]
    return _LinearCrossEntropy.apply(hidden, weight, targets, size, z_loss, fp8, compiled, torch.is_grad_enabled())

"""Linear cross-entropy in chunks: the head is 29 % of all FLOPs and its logits would be the largest tensor by far.

Each chunk of tokens makes its logits, its loss and its gradients at once, so no more than one chunk of logits exists.
The weight gradient accumulates in fp32 over chunks. Sums, not means: the caller divides by the global count of valid
targets, so that neither ranks nor micro-batches weigh tokens differently.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -100
CHUNK = 4096
"""Tokens whose logits exist at once: 4,096 to 8,192 at 256,000 pieces, since smaller chunks are bound by memory."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int, z_loss: float, fp8: bool, needs: bool
    ) -> tuple[Tensor, Tensor]:
        head = _Fp8(weight) if fp8 else None
        extra = torch.zeros((), dtype=torch.float32, device=hidden.device)
        losses = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if needs else None
        for begin in range(0, hidden.shape[0], chunk):
            span = slice(begin, begin + chunk)
            h, target = hidden[span], targets[span]
            logits = head.logits(h) if head else (h @ weight.T).float()
            valid = target != IGNORE
            index = target.clamp(min=0)[:, None]
            lse = torch.logsumexp(logits, dim=-1)
            losses[span] = torch.where(valid, lse - logits.gather(-1, index)[:, 0], 0.0)
            if z_loss:
                extra += z_loss * torch.where(valid, lse, 0.0).square().sum()
            if d_hidden is not None and d_weight is not None:
                # d loss / d logits = softmax - one-hot, zero where the target is ignored; the z-loss z lse^2 adds
                # 2 z lse softmax.
                grad = logits.sub_(lse[:, None]).exp_()
                if z_loss:
                    grad.mul_(1 + 2 * z_loss * lse[:, None])
                grad.scatter_add_(-1, index, torch.full_like(index, -1, dtype=grad.dtype))
                grad.mul_(valid[:, None])
                grad = grad.to(hidden.dtype)
                torch.matmul(grad, weight, out=d_hidden[span])
                d_weight.add_(grad.T @ h)
        if needs:
            ctx.save_for_backward(d_hidden, d_weight)
            ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(losses)
        return losses.sum() + extra, losses

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_loss, (d_weight * d_loss).to(ctx.weight_dtype), None, None, None, None, None


class _Fp8:
    """The head with operands in e4m3, each tensor scaled to its largest value: an experiment (see docs/training.md)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._scale = _to_fp8(weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 [T, V]."""
        values, scale = _to_fp8(hidden)
        out = torch._scaled_mm(values, self._weight.T, scale_a=scale, scale_b=self._scale, out_dtype=torch.bfloat16)
        return out.float()


def _to_fp8(values: Tensor) -> tuple[Tensor, Tensor]:
    """(e4m3, scale fp32 []): values are about e4m3 times scale."""
    most = torch.finfo(torch.float8_e4m3fn).max
    scale = (values.detach().abs().amax().float() / most).clamp(min=1e-12)
    return (values / scale).to(torch.float8_e4m3fn), scale


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int, z_loss: float = 0.0, fp8: bool = False
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of ``hidden @ weight.T`` [T, V] against targets (int64 [T], -100 ignored).

    Args:
        chunk: tokens whose logits exist at once; 4,096 to 8,192 at 256,000 pieces (smaller ones are bound by memory).
        z_loss: weight of the squared log of the softmax's sum, which keeps logits from drifting (Chowdhery et al. 2022, 1e-4).
        fp8: logits from fp8 operands; gradients from the operands as given.

    Returns:
        (loss fp32 [], z-loss included; cross-entropy of each token fp32 [T], detached).
    """
    # Inside the function autograd looks switched off, always: whether gradients are wanted is asked here.
    return _LinearCrossEntropy.apply(hidden, weight, targets, chunk, z_loss, fp8, torch.is_grad_enabled())

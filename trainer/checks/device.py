"""Does the trainer compute on this device what it should? A few layers of a model against plain ones over a dense mask, in fp32.

For `fox1 doctor --gpu` and `benchmarks/gpu_check.py`: a kernel that is wrong on one GPU, or in one version of torch, says nothing
of it. On CUDA the model is as it is trained: bf16, blocks compiled, sharded; on the CPU fp32, eager.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..checkpoints.checkpoint import Checkpointer, CheckpointManifest, TrainingProgress, checkpoints, load
from ..data.order import MicroBatch, UnitStream, to_micro_batch
from ..model.attention import Stream, attend
from ..model.loss import IGNORE
from ..model.model import Block, Fox1, rope_tables, rotate
from ..parallel import build, build_optimizer
from ..settings import ModelSettings, TrainSettings

LAYERS = 4
"""Of the model that is compared: a dense one of all layers would not fit beside it."""
ENDS = (0.11, 0.37, 0.52, 1.0)
"""Where the documents of a block end, of its length."""
ATTENTION_ERROR = {torch.bfloat16: 0.16, torch.float32: 1e-3}
"""Largest error of an element of the output or a gradient, over their standard deviation: the worst of millions of roundings."""
LOSS_ERROR = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Largest relative error of a loss."""
GRADIENT_ERROR = {torch.bfloat16: 0.2, torch.float32: 1e-3}
"""Largest error of a parameter's gradient, as norms; at the beginning those of queries and keys are small and mostly rounding."""


@dataclass(frozen=True)
class Finding:
    """What was compared, and whether it is right."""

    name: str
    right: bool
    found: str
    """In words, with figures."""


def check_device(settings: TrainSettings, vocab_size: int, length: int, device: torch.device) -> Iterator[Finding]:
    """Compare attention, collectives, loss, gradients and a checkpoint, each as soon as it is done. The process group is started.

    Args:
        length: tokens of a block, of several documents.
    """
    few = replace(settings, model=replace(settings.model, layers=min(LAYERS, settings.model.layers)))
    yield check_attention(few.model, length, device)
    yield _check_collectives(device)
    yield from _check_model(few, vocab_size, length, device)


def dtype_of(device: torch.device) -> torch.dtype:
    """What is computed in."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def some_documents(length: int, vocab_size: int, device: torch.device) -> tuple[MicroBatch, Tensor]:
    """(a block of random tokens, the number of each token's document: int64 [T])."""
    ends = np.unique((np.array(ENDS) * length).astype(np.int64))
    tokens = np.random.default_rng(1).integers(0, vocab_size, length, np.int32)
    none = np.zeros(len(ends), np.int64)
    batch = to_micro_batch(UnitStream(tokens, ends, none, none.astype(bool)), device)
    return batch, torch.cumsum((batch.documents.positions == 0).long(), 0)


def dense_attention(q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, owner: Tensor) -> Tensor:
    """Causal attention within documents over a dense mask of who sees whom, [T, N, D].

    Args:
        owner: int64 [T]: the document of each token.
    """
    repeats = q_TND.shape[1] // k_TKD.shape[1]
    q, k, v = (x.transpose(0, 1) for x in (q_TND, k_TKD, v_TKD))
    k, v = (x.repeat_interleave(repeats, 0) for x in (k, v))
    place = torch.arange(len(owner), device=owner.device)
    seen = (owner[:, None] == owner[None, :]) & (place[:, None] >= place[None, :])
    scores = (q @ k.transpose(1, 2)) / q.shape[-1] ** 0.5
    return (scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(0, 1)


def dense_loss(model: Fox1, batch: MicroBatch, owner: Tensor) -> Tensor:
    """Summed cross-entropy by a plain decoder over the weights of a model, which holds all scores and all logits."""
    s = model.settings
    x = F.embedding(batch.tokens, model.embedding)
    cos, sin = rope_tables(batch.documents.positions, s.head_dim, s.rope_theta)
    for block in model.blocks:
        assert isinstance(block, Block)
        a = block.attention
        sizes = [n * s.head_dim for n in (s.heads, s.kv_heads, s.kv_heads)]
        q, k, v = (y.unflatten(-1, (-1, s.head_dim)) for y in a.qkv(block.attention_norm(x)).split(sizes, dim=-1))
        x = x + a.out(dense_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, owner).flatten(-2))
        x = x + block.mlp(block.mlp_norm(x))
    logits = F.linear(model.norm(x), model.embedding)
    return F.cross_entropy(logits, batch.targets, ignore_index=IGNORE, reduction="sum")


def check_attention(shape: ModelSettings, length: int, device: torch.device) -> Finding:
    """The kernel, forward and backward, against the dense mask."""
    batch, owner = some_documents(length, 100, device)
    kind = dtype_of(device)
    generator = torch.Generator(device=device).manual_seed(1)
    sizes = [(length, n, shape.head_dim) for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
    given = [torch.randn(size, generator=generator, device=device).to(kind) for size in sizes]
    wanted = torch.randn(sizes[0], generator=generator, device=device)

    def both(values: list[Tensor], call: Callable[..., Tensor]) -> list[Tensor]:
        values = [x.detach().requires_grad_() for x in values]
        out = call(*values)
        return [out.detach(), *torch.autograd.grad(out, values, wanted.to(out.dtype))]

    stream = Stream(batch.documents, *rope_tables(batch.documents.positions, shape.head_dim, shape.rope_theta))
    ours = both(given, lambda q, k, v: attend(q, k, v, stream))
    wide = both([x.float() for x in given], lambda q, k, v: dense_attention(q, k, v, owner))
    worst = max(float((a.float() - b).abs().max() / b.std()) for a, b in zip(ours, wide, strict=True))
    right = worst < ATTENTION_ERROR[kind]
    return Finding(
        "attention", right, f"differs by {worst:.1e} deviations at most from a dense mask, {length:,} tokens"
    )


def _check_collectives(device: torch.device) -> Finding:
    """A sum over all processes, by the backend of the device."""
    total = torch.ones(1 << 20, device=device)
    dist.all_reduce(total)
    world = dist.get_world_size()
    return Finding(
        "collectives", bool((total == world).all()), f"{dist.get_backend()} adds up over {world} process(es)"
    )


def _check_model(settings: TrainSettings, vocab_size: int, length: int, device: torch.device) -> Iterator[Finding]:
    """Loss and gradients of the model as it is trained; a step, and whether a checkpoint brings back what came of it."""
    kind = dtype_of(device)
    batch, owner = some_documents(length, vocab_size, device)
    model = build(settings, vocab_size, device)
    loss, _ = model(batch.tokens, batch.documents, batch.targets, 0, 0.0, False)
    loss.backward()
    plain = Fox1(settings.model, vocab_size)
    plain.initialise(settings.seed)
    plain.to(device)
    names, parameters = zip(*plain.named_parameters(), strict=True)
    wide = dense_loss(plain, batch, owner)
    gradients = torch.autograd.grad(wide, parameters)
    world = dist.get_world_size()
    heads = settings.model.heads, settings.model.kv_heads, settings.model.kv_heads
    sizes = [n * settings.model.head_dim for n in heads]
    errors = {}
    for name, parameter, wanted in zip(names, model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        fused = name.endswith("qkv.weight")
        # The gradient of the values is by far the largest of the three.
        ours, theirs = ((x.split(sizes) if fused else (x,)) for x in (whole(parameter.grad) / world, wanted))
        for part, a, b in zip(("queries", "keys", "values") if fused else ("",), ours, theirs, strict=True):
            errors[f"{name} {part}".strip()] = float((a - b).norm() / b.norm())
    error, where = abs(loss.item() / wide.item() - 1), max(errors, key=lambda name: errors[name])
    yield Finding(
        "model",
        # None of them is NaN, either.
        error < LOSS_ERROR[kind] and all(e < GRADIENT_ERROR[kind] for e in errors.values()),
        f"loss differs by {error:.1e} from a dense model in fp32, gradients by {errors[where]:.1e} at most ({where})",
    )
    optimizer = build_optimizer(model, settings)
    optimizer.step()
    kept = [whole(p).clone() for p in model.parameters()]
    with tempfile.TemporaryDirectory(prefix="fox1-device-") as folder:
        checkpointer = Checkpointer(Path(folder), 2, 0)
        manifest = CheckpointManifest(TrainingProgress(step=1), {}, vocab_size, {})
        checkpointer.save(model, optimizer, manifest, {})
        checkpointer.finish()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        load(checkpoints(Path(folder))[-1], model, optimizer, {})
    same = all(torch.equal(whole(p), old) for p, old in zip(model.parameters(), kept, strict=True))
    yield Finding("checkpoint", same, "brings back the same weights" if same else "brings back other weights")


def whole(values: Tensor) -> Tensor:
    """A parameter or gradient of a sharded model, gathered, in fp32."""
    return (values.full_tensor() if isinstance(values, DTensor) else values).detach().float()

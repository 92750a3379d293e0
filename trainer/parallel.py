"""The process group, the mesh over it, and the model and optimizer sharded on that mesh."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from .model.attention import choose_attention
from .model.float8 import require_float8, use_float8
from .model.model import MLP, Attention, Fox1
from .muon import Muon
from .settings import OptimizerSettings, TrainSettings

T = TypeVar("T")

BACKEND = "cpu:gloo,cuda:nccl"
"""Backends of a process with a GPU: flags and counts travel over gloo, so that they wait for no kernel."""


def start_processes() -> torch.device:
    """Join the process group: the one that Ray Train has set up, torchrun's, or one of this process alone.

    Returns:
        The device of this process.
    """
    cuda = torch.cuda.is_available()
    backend = BACKEND if cuda else "gloo"
    joined = dist.is_initialized()
    if not joined and "RANK" in os.environ:
        dist.init_process_group(backend)
    elif not joined:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if not cuda:
        return torch.device("cpu")
    if joined:
        return torch.device("cuda", torch.cuda.current_device())
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def build(settings: TrainSettings, vocab_size: int, device: torch.device) -> Fox1:
    """The sharded model: one FSDP group per block, and the root's for the tied embedding and the final norm.

    Activation checkpointing that is `auto` is none here; `memory.settle` says what it has to be.

    Raises:
        ValueError: the processes do not divide into `training.replicas` groups, or the device cannot do what is asked for.
    """
    for name in ("fp8_head", "fp8_linears"):
        if getattr(settings, name):
            require_float8(name, device)
    kernel = choose_attention(settings.attention, device)
    model = Fox1(settings.model, vocab_size)
    model.initialise(settings.seed)
    model.compiles_loss, model.kernel = settings.compile, kernel
    if settings.fp8_linears:
        use_float8(model.blocks)
    model.to(device)
    world, replicas = dist.get_world_size(), settings.replicas
    if world % replicas:
        raise ValueError(
            f"training.replicas is {replicas}, which does not divide the number of processes ({world}); change one of them"
        )
    # With replicas, parameters are sharded within each and gradients summed across: less traffic between machines.
    mesh = (
        init_device_mesh(device.type, (replicas, world // replicas), mesh_dim_names=("replicate", "shard"))
        if replicas > 1
        else init_device_mesh(device.type, (world,))
    )
    # Inputs are not cast: the tokens' states are bf16 from the embedding on, and the tables of RoPE have to stay fp32.
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
        if device.type == "cuda"
        else MixedPrecisionPolicy()
    )
    for i, block in enumerate(model.blocks):
        # Activations recomputed in the backward pass: of every block, or of every second one.
        if settings.activation_checkpointing == "full" or (settings.activation_checkpointing == "selective" and i % 2):
            model.blocks[i] = checkpoint_wrapper(block)
    for block in model.blocks:
        if device.type == "cuda" and settings.compile:
            compile_block(block)
        # Weights that were gathered, and cast, once serve all micro-batches of a step.
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are summed over the global count of targets, so gradients are summed too, on every backend.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def compile_block(block: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile a block for one number of tokens, and any number and length of segments (`attention.Stream` marks them)."""
    block.compile(fullgraph=True, dynamic=False, backend=backend)


def begin_micro_batch(model: nn.Module, last: bool) -> None:
    """Call before the forward pass of a micro-batch.

    Args:
        last: this is the last one of a step: gradients are summed over ranks in its backward pass, and the gathered weights are
            given up, which the optimizer is about to change.
    """
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(last)
    model.set_reshard_after_backward(last)


def give_up_gathered(model: nn.Module) -> None:
    """Call after forward passes that no backward pass follows: weights are gathered again when they are needed."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def build_optimizer(model: Fox1, settings: TrainSettings) -> torch.optim.AdamW:
    """Fused AdamW, or Muon for the matrices of blocks beside it; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    o = settings.optimizer
    groups = [{"params": matrices, "weight_decay": o.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    options: dict[str, Any] = {"lr": o.learning_rate, "betas": o.betas, "eps": o.eps, "fused": True}
    if o.name == "adamw":
        return torch.optim.AdamW(groups, **options)
    rows: dict[Tensor, tuple[int, ...]] = {}
    for module in model.modules():
        if isinstance(module, Attention):
            rows |= {module.qkv.weight: module.sizes, module.out.weight: (module.out.out_features,)}
        elif isinstance(module, MLP):
            half = module.gate_up.out_features // 2
            rows |= {module.gate_up.weight: (half, half), module.down.weight: (module.down.out_features,)}
    return Muon(groups, rows, o.momentum, **options)


def set_optimizer(optimizer: torch.optim.Optimizer, settings: OptimizerSettings) -> None:
    """Put settings in force in an optimizer whose state, settings included, was loaded from a checkpoint."""
    for group in optimizer.param_groups:
        decay = settings.weight_decay if group["params"][0].ndim > 1 else 0.0
        group |= {"weight_decay": decay, "betas": settings.betas, "eps": settings.eps}


def is_of_others(error: RuntimeError) -> bool:
    """Whether an error says that a process of the group has ended or cannot be reached; of Gloo, only its text does."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def on_rank_zero(work: Callable[[], T]) -> T | None:
    """Do `work` on rank 0 only, and return its result there; an error of it is raised on every rank.

    Raises:
        ValueError: rank 0 met a ValueError or an OSError.
    """
    result, problem = None, [""]
    if dist.get_rank() == 0:
        try:
            result = work()
        except (ValueError, OSError) as error:
            problem = [str(error)]
    dist.broadcast_object_list(problem)
    if problem[0]:
        raise ValueError(problem[0])
    return result

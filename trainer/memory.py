"""What a step of training holds in the memory of a GPU, and how much of the activations has to be computed again to fit.

An estimate from shapes, for a model as `parallel.build` makes it on CUDA: fp32 weights and optimizer state sharded over the
processes, bf16 weights gathered for a whole step, gradients summed over its micro-batches in fp32. The peak is in the head, at
the end of a forward pass. Tests compare the activations with those that autograd keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from .model.loss import CHUNKS
from .settings import ModelSettings, TrainSettings

CHOICES = ("none", "selective", "full")
"""Of activation checkpointing, from the fastest to what needs the least memory."""
USABLE = 0.92
"""Share of a GPU's memory that a step may take: kernels, collectives and fragments of free memory take the rest."""
CARDS = {"80 GB": 80e9, "141 GB": 141e9}
"""GPUs that a table is for: H100 or A100, and H200."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a GPU holds at the peak of a step."""

    weights: int
    """This process's part, in fp32."""
    optimizer: int
    """This process's part of its state."""
    gathered: int
    """All weights, in bf16."""
    gradients: int
    """In fp32: all of them where a step has several micro-batches, else this process's part."""
    activations: int
    """What the backward pass reads of a micro-batch."""
    loss: int
    """Logits of a chunk with their gradient, and the gradient of the head."""

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    @property
    def fixed(self) -> int:
        """What does not depend on the micro-batch."""
        return self.weights + self.optimizer + self.gathered + self.gradients


def memory_need(settings: TrainSettings, vocab_size: int, world: int, choice: str | None = None) -> MemoryNeed:
    """What a GPU needs for a training by `world` processes.

    Args:
        choice: of activation checkpointing; None: the settings', and `none` for `auto`.
    """
    s, tokens = settings.model, settings.micro_batch_tokens
    sizes = {name: torch.Size(shape).numel() for name, shape in s.shapes(vocab_size).items()}
    parameters = sum(sizes.values())
    matrices = sum(n for name, n in sizes.items() if name.startswith("blocks.") and "norm" not in name)
    shards = max(1, world // settings.replicas)
    largest = max((p.batch_tokens for p in settings.phases), default=tokens)
    several = -(-largest // tokens // world) > 1
    moments = 2 * parameters - (matrices if settings.optimizer.name == "muon" else 0)
    chunk = min(CHUNKS["cuda"], tokens)
    logits = (4 if settings.compile else 8) * chunk * vocab_size
    head = sizes["embedding"]
    return MemoryNeed(
        weights=4 * parameters // shards,
        optimizer=4 * moments // shards,
        gathered=2 * parameters,
        gradients=4 * parameters // (1 if several else shards),
        activations=tokens * _activation_bytes(settings, choice or settings.activation_checkpointing),
        # The gradient in fp32 with a chunk's part of it in bf16 beside the logits, or scaled and cast once they are gone.
        loss=4 * head + max(logits + 2 * head, 6 * head),
    )


def _activation_bytes(settings: TrainSettings, choice: str) -> int:
    """Bytes by token of a micro-batch."""
    s = settings.model
    block, kept = block_bytes(s, settings.compile), 2 * s.hidden
    again = {"full": s.layers, "selective": s.layers // 2}.get(choice, 0)
    # One block more: its gradients on the way back, or what of it is computed again. Then the embedding's and the head's states.
    return (s.layers - again + 1) * block + again * kept + 4 * kept


def block_bytes(shape: ModelSettings, compiled: bool) -> int:
    """Bytes that autograd keeps of a block, by token, in bf16.

    The input and the sum after attention, each normed for the product that follows; queries, keys and values as one product,
    queries and keys rotated; what attention gives, with its log-sum-exp; gate and up, and what comes of them. Without a
    compiler norms also keep fp32 and bf16 copies of their input, and SwiGLU its gate.
    """
    s = shape
    c, heads, both = 2 * s.hidden, 2 * s.heads * s.head_dim, 2 * (s.heads + s.kv_heads) * s.head_dim
    attention = 2 * c + (both + 2 * s.kv_heads * s.head_dim) + both + heads + 4 * s.heads
    mlp = 2 * c + 6 * s.intermediate
    return attention + mlp + (0 if compiled else 2 * (2 * c) + 2 * s.intermediate)


def fits(need: MemoryNeed, memory: float) -> bool:
    """Whether a step fits a GPU with so many bytes."""
    return need.total <= USABLE * memory


def choose(settings: TrainSettings, vocab_size: int, world: int, memory: float) -> str:
    """The fastest activation checkpointing that fits a GPU with so many bytes; `full` where none does."""
    choices = (c for c in CHOICES if fits(memory_need(settings, vocab_size, world, c), memory))
    return next(choices, CHOICES[-1])


def settle(settings: TrainSettings, vocab_size: int, device: torch.device) -> tuple[TrainSettings, str]:
    """(settings in which `auto` is what fits the GPUs of all processes, a line of it: empty where nothing is to be said).

    Collective: the smallest GPU decides for all.
    """
    asked = settings.activation_checkpointing
    if device.type != "cuda":
        return (replace(settings, activation_checkpointing="none") if asked == "auto" else settings), ""
    smallest = torch.tensor(torch.cuda.get_device_properties(device).total_memory)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return settled(settings, vocab_size, dist.get_world_size(), int(smallest))


def settled(settings: TrainSettings, vocab_size: int, world: int, memory: int) -> tuple[TrainSettings, str]:
    """As `settle`, for GPUs of so many bytes."""
    asked = settings.activation_checkpointing
    choice = choose(settings, vocab_size, world, memory) if asked == "auto" else asked
    need, has = memory_need(settings, vocab_size, world, choice), f"{memory / 1e9:.0f} GB of this GPU"
    settings = replace(settings, activation_checkpointing=choice)  # type: ignore[arg-type]
    if not fits(need, memory):
        line = (
            f"warning: a step takes about {need.total / 1e9:.0f} GB, and does not fit the {has} (activation_checkpointing: "
            f"{choice}); give smaller micro_batch_tokens, more GPUs" + ("" if choice == "full" else ", or `auto`")
        )
    elif asked == "auto" and choice != "none":
        without = memory_need(settings, vocab_size, world, "none").total
        line = (
            f"activation_checkpointing: {choice}, since a step would take about {without / 1e9:.0f} GB without, and the {has} "
            f"allow {USABLE * memory / 1e9:.0f}; so it takes about {need.total / 1e9:.0f}"
        )
    else:
        line = f"memory: about {need.total / 1e9:.0f} GB of the {has} (activation_checkpointing: {choice})"
    return settings, line


def table(settings: TrainSettings, vocab_size: int, world: int, units: Sequence[int]) -> Iterator[str]:
    """Lines that say what a GPU needs by micro-batch and activation checkpointing, and which GPUs have it.

    Args:
        units: tokens of the longest block of each phase: no micro-batch is smaller than one.
    """
    one = memory_need(settings, vocab_size, world)
    parts = {
        "weights": one.weights,
        "optimizer": one.optimizer,
        "gathered weights": one.gathered,
        "gradients": one.gradients,
        "loss": one.loss,
    }
    several = "" if world == 1 else f" of {world}"
    yield f"memory of a GPU{several}, in GB: " + ", ".join(f"{name} {_gb(n)}" for name, n in parts.items())
    cards = "  ".join(f"{name:>8}" for name in CARDS)
    yield f"  {'micro-batch':>11}  {'computed again':14}  {'activations':>11}  {'all':>6}  {cards}"
    given = settings.micro_batch_tokens
    for tokens in sorted({given // 4, given // 2, given, 2 * given}):
        if any(tokens % unit for unit in units) or any(p.batch_tokens % tokens for p in settings.phases):
            continue
        for choice in CHOICES:
            need = memory_need(replace(settings, micro_batch_tokens=tokens), vocab_size, world, choice)
            have = "  ".join(f"{'fits' if fits(need, memory) else '-':>8}" for memory in CARDS.values())
            mark = "*" if tokens == given else " "
            yield (f" {mark}{tokens:>11,}  {choice:14}  {_gb(need.activations):>11}  {_gb(need.total):>6}  {have}")
    for name, memory in CARDS.items():
        yield f"  activation_checkpointing `auto` is `{choose(settings, vocab_size, world, memory)}` on a GPU of {name}"


def _gb(size: int) -> str:
    """Bytes as GB, with more digits where they are few."""
    return f"{size / 1e9:.1f}" if size >= 1e8 else f"{size / 1e9:.3f}"

"""Settings of a training, as plain frozen dataclasses that travel as JSON with the run and with every checkpoint.

A recipe is checked against them as they stand; see `storage/fields.py`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..storage.fields import Bounds, Quantity, Share, check_bounds
from ..storage.reading import Misshapen, typed

MOST = 1 << 24
"""More than any size of a model: of its vocabulary, its width, its layers."""
STOPPED = 75
"""Exit status after a signal: the state is saved; the same command resumes (EX_TEMPFAIL)."""


def stopping_signals() -> list[signal.Signals]:
    """Signals that ask a training to save its state and exit; a SIGHUP that `nohup` has switched off stays so."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangs_up else [])]


@dataclass(frozen=True)
class ModelSettings:
    """Shape of a Fox-1; the defaults are the released model (arXiv 2411.05281)."""

    layers: int = 32
    """Transformer blocks."""
    hidden: int = 2048
    """Width of the residual stream."""
    intermediate: int = 4096
    """Width inside the SwiGLU."""
    heads: int = 16
    """Query heads."""
    kv_heads: int = 4
    """Key-value heads; the query heads are divided among them."""
    head_dim: int = 128
    """Width of a head."""
    max_positions: int = 8192
    """Longest sequence, as the exported model declares it."""
    rope_theta: float = 10_000.0
    """Base of the rotary embedding's wavelengths."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""

    def check(self, vocab_size: int) -> None:
        """Raise ValueError for a shape that no model has. Others may have written it: it is refused before it is built."""
        sizes = {"vocab_size": vocab_size, **{k: v for k, v in vars(self).items() if isinstance(v, int)}}
        if wrong := next((name for name, size in sizes.items() if not 0 < size <= MOST), None):
            raise ValueError(f"a model cannot have {wrong} {sizes[wrong]}")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ValueError(
                f"a model cannot have {self.heads} heads with {self.kv_heads} for keys and values, of width {self.head_dim}"
            )
        if not all(0 < x < float("inf") for x in (self.rope_theta, self.norm_eps)):
            raise ValueError(f"a model cannot have rope_theta {self.rope_theta} and norm_eps {self.norm_eps}")

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight of the model, without building it."""
        c, heads = self.hidden, self.heads + 2 * self.kv_heads
        block = {
            "attention_norm.weight": (c,),
            "attention.qkv.weight": (heads * self.head_dim, c),
            "attention.out.weight": (c, self.heads * self.head_dim),
            "mlp_norm.weight": (c,),
            "mlp.gate_up.weight": (2 * self.intermediate, c),
            "mlp.down.weight": (c, self.intermediate),
        }
        blocks = {f"blocks.{i}.{name}": shape for i in range(self.layers) for name, shape in block.items()}
        return {"embedding": (vocab_size, c), "norm.weight": (c,), **blocks}


FOX1_VOCABULARY = 256_000


@dataclass(frozen=True)
class PhaseTraining:
    """One phase: how many tokens, in batches of how many."""

    name: str
    tokens: Annotated[int, Bounds(ge=0)]
    batch_tokens: Annotated[int, Bounds(ge=1)]
    number: Annotated[int, Bounds(ge=1)]
    """From 1."""


Beta = Annotated[float, Bounds(ge=0, lt=1)]
"""Share of a moment that a step keeps."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW, and of Muon."""

    learning_rate: Annotated[float, Bounds(gt=0, le=1)]
    """The rate between warm-up and decay."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """Decay of the first and second moments."""
    eps: Annotated[float, Bounds(gt=0, le=1)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Bounds(ge=0, le=10)] = 0.1
    """Decoupled weight decay of matrices."""
    clip_norm: Annotated[float, Bounds(gt=0)] = 1.0
    """Largest norm of the gradient; what is above is scaled down to it. 1e9 is never reached."""
    name: Literal["adamw", "muon"] = "adamw"
    """With `muon`, the matrices of blocks follow their orthogonalised momentum, and the rest AdamW, at one rate."""
    momentum: Beta = 0.95
    """Of Muon: the share of the momentum that a step keeps."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Warm-up, stable, decay, over all phases as one schedule that counts tokens.

    The warm-up is given by steps or by tokens; the decay by at most one of its share, its tokens and its first phase, and is the
    last phase where none is given.
    """

    warmup_steps: Annotated[int, Bounds(ge=0)] | None = None
    """Steps over which the rate rises from zero."""
    decay_share: Share | None = None
    """Share of all tokens, at the end, over which the rate falls; 0: it does not fall."""
    warmup_tokens: Annotated[Quantity, Bounds(ge=0)] | None = None
    """Tokens over which the rate rises from zero, in place of steps."""
    decay_tokens: Annotated[Quantity, Bounds(ge=0)] | None = None
    """Tokens, at the end, over which the rate falls."""
    decay_from: str | None = None
    """Phase with which the decay begins; it ends with the last phase."""
    decay_shape: Literal["linear", "cosine", "sqrt"] = "linear"
    """How the rate falls: linearly, as half a cosine, or by the root of what has passed (1 - sqrt)."""
    final_share: Share = 0.0
    """Share of the peak rate that the decay ends at."""

    def __post_init__(self) -> None:
        """Raise ValueError for a warm-up or a decay that is given twice, or a warm-up that is not given."""
        given = [n for n in ("warmup_steps", "warmup_tokens") if getattr(self, n) is not None]
        if len(given) != 1:
            found = "both" if given else "neither"
            raise ValueError(f"give one of warmup_steps and warmup_tokens, not {found}; null takes one back")
        given = [n for n in ("decay_share", "decay_tokens", "decay_from") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}; null takes one back")


@dataclass(frozen=True)
class Options:
    """The choices of one call of `fox1 train`; none but `set` changes what is learned."""

    resume: str = "auto"
    """The checkpoint to start from if the folder has none; `auto`: from the beginning."""
    stop_after: int = 0
    """Stop after this step; 0: train to the end."""
    force: bool = False
    """Continue although the data is not what the checkpoint was trained on."""
    profile: int = 0
    """Number of steps to trace."""
    set: tuple[str, ...] = ()
    """Settings of this call, as KEY=VALUE, in place of those of `training.json`; see `overrides.py`."""
    log_every: int | None = None
    """In place of the setting."""
    checkpoint_minutes: float | None = None
    """In place of the setting."""
    name: str = ""
    """What the training is called in reports; empty: as before, or as its folder."""

    def arguments(self) -> list[str]:
        """As arguments of `python -m fox1.trainer.train`."""
        words = [f"--resume={self.resume}", f"--stop-after={self.stop_after}", f"--profile={self.profile}"]
        words += [f"--set={assignment}" for assignment in self.set]
        if self.log_every is not None:
            words.append(f"--log-every={self.log_every}")
        if self.checkpoint_minutes is not None:
            words.append(f"--checkpoint-minutes={self.checkpoint_minutes}")
        if self.name:
            words.append(f"--name={self.name}")
        return [*words, "--force"] if self.force else words


MicroBatchTokens = Annotated[Quantity, Bounds(ge=1)]
"""Tokens that a device takes at once."""


@dataclass(frozen=True)
class _BySize:
    """What belongs to the size of the model; it comes first in `training.json`."""

    model: ModelSettings
    phases: tuple[PhaseTraining, ...]
    micro_batch_tokens: MicroBatchTokens
    optimizer: OptimizerSettings
    schedule: ScheduleSettings


@dataclass(frozen=True)
class Routine:
    """How a model of any size is trained."""

    seed: Annotated[int, Bounds(ge=0, le=2**63 - 1)] = 1
    """Of the initial weights, and of the order of repeated epochs."""
    checkpoint_every: Annotated[int, Bounds(ge=1)] = 1000
    """Steps between checkpoints."""
    checkpoint_minutes: Annotated[float, Bounds(ge=0)] = 30.0
    """Minutes after which a checkpoint is saved, however few steps there were; 0: by steps only."""
    log_every: Annotated[int, Bounds(ge=1)] = 10
    """Steps between reports; where steps are slow, there is one every half minute or every step."""
    keep_last: Annotated[int, Bounds(ge=2)] = 2
    """Newest checkpoints that are kept."""
    keep_every: Annotated[int, Bounds(ge=0)] = 0
    """Steps between checkpoints that are kept for good; 0: none."""
    evaluate_every: Annotated[int, Bounds(ge=0)] = 500
    """Steps between held-out evaluations; 0: at phase ends only."""
    evaluate_blocks: Annotated[int, Bounds(ge=1)] = 512
    """Held-out blocks of an evaluation."""
    activation_checkpointing: Literal["auto", "none", "selective", "full"] = "auto"
    """What the backward pass computes again, to save memory; `auto`: as little as the memory of the GPU allows."""
    compile: bool = True
    """Compile blocks and loss on a GPU; nothing is compiled on a CPU."""
    attention: Literal["auto", "fa2", "fa3"] = "auto"
    """Which FlashAttention a GPU uses; `auto`: 3 on a Hopper GPU where it is installed, else 2."""
    z_loss: Annotated[float, Bounds(ge=0, le=1)] = 0.0
    """Weight of the squared log of the softmax's sum, e.g. 1e-4; 0: off."""
    fp8_head: bool = False
    """An experiment: the head's logits from fp8 operands (gradients stay as they are)."""
    fp8_linears: bool = False
    """An experiment: the matrices of blocks in fp8, but for the gradients of weights."""
    replicas: Annotated[int, Bounds(ge=1)] = 1
    """Copies of the sharded parameters (HSDP), e.g. one for each machine."""
    skip_sigma: Annotated[float, Bounds(ge=0)] = 6.0
    """A step whose loss or gradient norm lies this many deviations above the last ones' mean is skipped; 0: none is."""
    skip_window: Annotated[int, Bounds(ge=8, le=1 << 20)] = 128
    """Steps that the deviations are taken over."""
    max_skipped: Annotated[int, Bounds(ge=1, le=1 << 20)] = 16
    """Skipped steps in a row after which the training stops."""


@dataclass(frozen=True)
class TrainSettings(Routine, _BySize):
    """What a training is made of: `training.json` of a run. Data and device are not part of it."""

    chat: tuple[tuple[str, str, str], ...] = ()
    """The chat template of the data: (role, before its turns, after them); travels with what is exported."""
    add_bos: bool = True
    """Documents of the data begin with bos."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainSettings:
        """Parse what `dataclasses.asdict` gave.

        Raises:
            ValueError: a field is missing or unknown, of another type, or out of its bounds.
        """
        try:
            settings = typed(cls, value)
            check_bounds(settings)
            return settings
        except Misshapen as error:
            raise ValueError(
                f"training.json does not fit this version of fox1 ({error}); run `fox1 curate` again to rewrite it"
            ) from None
        except ValueError as error:
            raise ValueError(f"training.json: {error}") from None

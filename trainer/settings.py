"""Settings of a training, as plain frozen dataclasses that travel as JSON with the run and with every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

STOPPED = 75
"""Exit status after SIGTERM or SIGINT: the state is saved, run again to go on (EX_TEMPFAIL)."""


@dataclass(frozen=True)
class ModelSettings:
    """Shape of a Fox-1; the defaults are the released model (arXiv 2411.05281)."""

    layers: int = 32
    hidden: int = 2048
    intermediate: int = 4096
    heads: int = 16
    kv_heads: int = 4
    head_dim: int = 128
    max_positions: int = 8192
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    init_std: float = 0.02


FOX1_VOCABULARY = 256_000


@dataclass(frozen=True)
class PhaseTraining:
    """One phase: how many tokens, in batches of how many."""

    name: str
    tokens: int
    batch_tokens: int
    number: int
    """From 1."""


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW's."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


@dataclass(frozen=True)
class ScheduleSettings:
    """Warm-up, stable, decay over all phases as one plan."""

    warmup_steps: int
    decay_share: float = 0.1


@dataclass(frozen=True)
class Options:
    """What a call of `fox1 train` chooses; none of it changes what is learned."""

    resume: str = "auto"
    """auto: from the newest checkpoint of the folder; else the checkpoint to begin from where the folder has none."""
    stop_after: int = 0
    """Leave after this step; 0: at the end."""
    force: bool = False
    """Go on although the data is not what a checkpoint was trained on."""
    profile: int = 0
    """Steps to trace."""

    def arguments(self) -> list[str]:
        """As arguments of `python -m fox1.trainer.train`."""
        words = [f"--resume={self.resume}", f"--stop-after={self.stop_after}", f"--profile={self.profile}"]
        return [*words, "--force"] if self.force else words


@dataclass(frozen=True)
class TrainSettings:
    """What a training is made of: `training.json` of a run. Data and device are not part of it."""

    model: ModelSettings
    phases: tuple[PhaseTraining, ...]
    micro_batch_tokens: int
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    seed: int = 1
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_every: int = 0
    evaluate_every: int = 500
    evaluate_blocks: int = 512
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    z_loss: float = 0.0
    """Weight of the squared log of the softmax's sum."""
    fp8_head: bool = False
    """An experiment: the head's logits from fp8 operands (gradients stay as they are)."""
    replicas: int = 1
    """Copies of the sharded parameters; more than one is HSDP."""
    skip_sigma: float = 6.0
    """A step whose loss or gradient norm lies this many deviations above the last ones' mean is skipped; 0: none is."""
    skip_window: int = 128
    max_skipped: int = 16
    """Steps skipped in a row after which the training stops."""
    chat: tuple[tuple[str, str, str], ...] = ()
    """The chat template of the data: (role, before its turns, after them); travels with what is exported."""
    add_bos: bool = True
    """Documents of the data begin with bos."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainSettings:
        """Parse what `dataclasses.asdict` gave.

        Raises:
            ValueError: a field is missing or unknown.
        """
        try:
            return cls(
                **{
                    **value,
                    "model": ModelSettings(**value["model"]),
                    "phases": tuple(PhaseTraining(**p) for p in value["phases"]),
                    "optimizer": OptimizerSettings(
                        **{**value["optimizer"], "betas": tuple(value["optimizer"]["betas"])}
                    ),
                    "schedule": ScheduleSettings(**value["schedule"]),
                    "chat": tuple((role, before, after) for role, before, after in value.get("chat", ())),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"training settings are not those of this version: {error}") from None

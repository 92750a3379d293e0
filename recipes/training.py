"""The parts of a recipe that train: model sizes with their batches and schedules, and what all sizes share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .curation import Strict
from .units import Quantity, Share


class Optimizer(Strict):
    """AdamW."""

    learning_rate: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


class Schedule(Strict):
    """The learning rate over the steps."""

    warmup_steps: int = Field(ge=0)
    decay_share: Share = Field(0.1, description="Share of all steps, at the end, over which the rate falls to zero.")


class ModelShape(Strict):
    """Shapes of a Fox-1; see trainer/model/model.py."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int = 8192
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    init_std: float = 0.02


class Size(Strict):
    """A model size: its shape, and the batches and schedule that belong to it."""

    model: ModelShape
    batch_tokens: dict[str, Annotated[Quantity, Field(ge=1)]] = Field(description="Phase -> tokens of a batch.")
    micro_batch_tokens: Quantity = Field(ge=1)
    optimizer: Optimizer
    schedule: Schedule
    checkpoint_every: int | None = Field(None, ge=1, description="In place of the training's.")
    evaluate_every: int | None = Field(None, ge=0, description="In place of the training's.")
    evaluate_blocks: int | None = Field(None, ge=1, description="In place of the training's.")


class Training(Strict):
    """The model and how it is trained."""

    size: str = Field(description="Which of `sizes` is trained.")
    sizes: dict[str, Size]
    seed: int = 1
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints.")
    keep_last: int = Field(2, ge=2)
    keep_every: int = Field(0, ge=0, description="Steps between checkpoints that are kept for good; 0: none.")
    evaluate_every: int = Field(500, ge=0, description="Steps between held-out evaluations; 0: at phase ends only.")
    evaluate_blocks: int = Field(512, ge=1, description="Held-out blocks of an evaluation.")
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    z_loss: float = Field(0.0, ge=0, description="Weight of the squared log-partition, e.g. 1e-4; 0: off.")
    fp8_head: bool = Field(False, description="An experiment: the head's logits from fp8 operands.")
    replicas: int = Field(1, ge=1, description="Copies of the sharded parameters (HSDP), e.g. one for each machine.")
    skip_sigma: float = Field(
        6.0, ge=0, description="Skip a step whose loss or gradient norm is so many deviations above the last; 0: off."
    )
    skip_window: int = Field(128, ge=8, description="Steps that the deviations are taken over.")
    max_skipped: int = Field(16, ge=1, description="Skipped steps in a row after which the training stops.")

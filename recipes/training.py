"""The forms of a recipe's training part that differ from `trainer/settings.py`: several sizes, of which one is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from ..storage.fields import Bounds, Quantity
from ..trainer.settings import MicroBatchTokens, ModelSettings, OptimizerSettings, Routine, ScheduleSettings
from .curation import Strict

SHAPE = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim")


def _whole(value: Any) -> Any:
    """Half a shape would be filled up with that of the released model."""
    if isinstance(value, Mapping) and (lacking := [name for name in SHAPE if name not in value]):
        raise ValueError(f"give {', '.join(lacking)}, too")
    return value


class Size(Strict):
    """A model size: its shape, and the batches and schedule that belong to it."""

    model: Annotated[ModelSettings, BeforeValidator(_whole)]
    """Shape of the model."""
    batch_tokens: dict[str, Annotated[Quantity, Bounds(ge=1)]]
    """Phase and the tokens of a batch."""
    micro_batch_tokens: MicroBatchTokens
    """Tokens that a device takes at once."""
    optimizer: OptimizerSettings
    """How weights follow the gradient."""
    schedule: ScheduleSettings
    """The learning rate over the steps."""
    checkpoint_every: Annotated[int, Bounds(ge=1)] | None = None
    """In place of the training's."""
    evaluate_every: Annotated[int, Bounds(ge=0)] | None = None
    """In place of the training's."""
    evaluate_blocks: Annotated[int, Bounds(ge=1)] | None = None
    """In place of the training's."""


@dataclass(frozen=True, kw_only=True)
class Training(Routine):
    """The model and how it is trained."""

    size: str
    """Which of `sizes` is trained."""
    sizes: dict[str, Size]
    """Sizes by name."""

    @property
    def chosen(self) -> Size:
        """The size that is trained."""
        return self.sizes[self.size]

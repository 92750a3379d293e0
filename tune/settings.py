"""The settings of a tuning: `tune` in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from ..storage.fields import Bounds, Pairs, Quantity, Share, Written
from ..trainer.settings import ModelSettings, OptimizerSettings

Count = Annotated[int, Bounds(ge=0, le=64)]
Kind = Literal["ngram", "model"]


# With AdamW a network is still about as good as a table of single tokens when a proxy ends, and its initial weights decide.
OPTIMIZER = OptimizerSettings(1e-2, name="muon")
MODEL = ModelSettings(layers=2, hidden=96, intermediate=192, heads=3, kv_heads=1, head_dim=32, max_positions=2048)


def _beside(settings: OptimizerSettings | ModelSettings) -> Callable[[Any], Any]:
    """What a recipe leaves out is as in these settings, not as in the released model."""
    return lambda value: asdict(settings) | dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class ProxySettings:
    """One small training."""

    kind: Kind = "ngram"
    """`ngram`: a 4-gram model that counts; `model`: a network of the project's own architecture."""
    tokens: Annotated[Quantity, Bounds(ge=1)] = 5_000_000
    """Tokens of a training."""
    block_length: Annotated[Quantity, Bounds(ge=0)] = 0
    """Tokens of a block of the packed pools; 0: the shortest of the phases."""
    batch_tokens: Annotated[Quantity, Bounds(ge=1)] = 1024
    """Tokens of a batch; only for `model`."""
    warmup: Share = 0.05
    """Share of the tokens over which the rate rises; only for `model`."""
    decay: Share = 0.3
    """Share of the tokens, at the end, over which the rate falls; only for `model`."""
    optimizer: Annotated[OptimizerSettings, Written(_beside(OPTIMIZER))] = OPTIMIZER
    """How weights follow the gradient; only for `model`."""
    model: Annotated[ModelSettings, Written(_beside(MODEL))] = MODEL
    """Shape of the network; only for `model`."""
    gpus: Annotated[float, Bounds(ge=0, le=8)] = 0.0
    """GPUs of a training on Ray, e.g. 0.25 for four on one; only for `model`."""


@dataclass(frozen=True)
class Anchors:
    """Rows of the design that are no candidates. Repeats tell the noise."""

    recipe: Count = 4
    """Trainings on the recipe's weights."""
    natural: Count = 4
    """Trainings on natural weights, in proportion to the tokens that there are."""
    uniform: Count = 2
    """Trainings on equal weights."""
    drop_one: Count = 1
    """Trainings without a pool, for each pool."""


@dataclass(frozen=True)
class Objective:
    """What is to be low: bits per byte of held-out documents by domain, and of the right options of benchmark items."""

    domains: Literal["equal", "natural"] = "equal"
    """Weights of the domains: the same for each, or by the tokens that there are."""
    items: tuple[str, ...] = ()
    """Names of `contamination.benchmarks` whose right options are scored; empty: none."""
    items_weight: Share = 0.5
    """Weight of all items together, where there are any; the domains have the rest."""
    never_worse: Annotated[tuple[tuple[str, float], ...], Pairs()] = ()
    """Domain or benchmark, and how many bits per byte it may lose against natural weights."""


@dataclass(frozen=True)
class Constraints:
    """What a mixture must keep to."""

    floor: Share = 0.002
    """Least share of every pool."""
    max_epochs: Annotated[float, Bounds(gt=0, le=64)] = 4.0
    """How often the whole training may repeat a pool."""
    kl: Annotated[float, Bounds(ge=0)] = 0.01
    """Bits per byte that a distance of one nat (Kullback-Leibler) from natural weights must earn."""


@dataclass(frozen=True)
class Validation:
    """The trainings that decide, and what is measured."""

    times: Annotated[float, Bounds(ge=1, le=1000)] = 10.0
    """Tokens, in those of a proxy."""
    seeds: Annotated[int, Bounds(ge=3, le=64)] = 5
    """Trainings of each mixture; those of a seed are paired."""
    documents: Annotated[int, Bounds(ge=2)] = 40
    """Documents of a domain that are measured on, for the fit and again for the validation."""
    tokens: Annotated[Quantity, Bounds(ge=256)] = 60_000
    """Tokens of a domain that are measured on, likewise."""
    margin: Annotated[float, Bounds(ge=0)] = 0.005
    """Bits per byte that an adopted mixture's mean may lie above that of natural weights."""


@dataclass(frozen=True)
class PlacementSettings:
    """The search for an order: how the phases should have the mixture that was found. Only for `model`, since an n-gram model
    counts the same in any order."""

    trainings: Annotated[int, Bounds(ge=0, le=2048)] = 32
    """Small trainings across phases, each with another placement of the same mixture; 0: none, and the order is the recipe's."""
    repeats: Annotated[int, Bounds(ge=1, le=64)] = 4
    """Trainings of those with the same weights in all phases, and as many with the recipe's order."""


@dataclass(frozen=True)
class TuneSettings:
    """The search for weights of the pools by small trainings (`fox1 tune`)."""

    proxies: Annotated[int, Bounds(ge=8, le=2048)] = 64
    """Small trainings; raising it later keeps those that are finished."""
    refine: Annotated[int, Bounds(ge=0, le=2048)] = 16
    """Further ones, near the mixture that the first fit finds; the second fit learns from all."""
    proxy: ProxySettings = ProxySettings()
    """One small training."""
    anchors: Anchors = Anchors()
    """Rows of the design that are no candidates."""
    tiers: Annotated[tuple[tuple[str, tuple[Share, ...]], ...], Pairs()] = ()
    """Pool, and the shares of its domain's tokens, best quality first, at which it is divided: `{web: [30%, 70%]}` makes three
    pools of it, `{web: []}` one. A pool that is not named is divided where a weight of the recipe has `top` or `below`."""
    objective: Objective = Objective()
    """What is to be low."""
    constraints: Constraints = Constraints()
    """What a mixture must keep to."""
    repetition: Literal["match", "ignore"] = "match"
    """`match`: pools are cut so that a small training repeats them as often as the whole one would."""
    placement: PlacementSettings = PlacementSettings()
    """The search for an order."""
    validation: Validation = Validation()
    """The trainings that decide."""
    seed: Annotated[int, Bounds(ge=0, le=2**31)] = 1
    """Of the design, and of what the trainings draw."""

    @property
    def validation_tokens(self) -> int:
        """Tokens of a training of the validation."""
        return round(self.proxy.tokens * self.validation.times)

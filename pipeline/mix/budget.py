"""Budgets: what a phase wants of each pool, in integers that sum exactly, and whether the pools can give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...tokenize.pack import Packing


@dataclass(frozen=True)
class Cell:
    """A (corpus, subset) with its domain: the finest thing a mixture is stated in. Its code is its place in the run."""

    corpus: str
    subset: str
    domain: str


@dataclass(frozen=True)
class Weight:
    """A pool of a phase and its share. A document belongs to the first weight of the phase that matches it."""

    weight: float
    domain: str = ""
    corpus: str = ""
    subset: str = ""
    if_present: bool = False
    """An empty pool gives its share to the others, in proportion, instead of being an error."""
    max_epochs: float = 1.0
    """How often a document may be used in the phase."""
    top: float = 1.0
    """Only this share of the domain's tokens, best quality first."""

    @property
    def name(self) -> str:
        parts = [self.domain, "/".join(p for p in (self.corpus, self.subset) if p)]
        return " in ".join(p for p in parts if p) or "everything"

    def matches(self, cell: Cell) -> bool:
        return (
            self.domain in ("", cell.domain) and self.corpus in ("", cell.corpus) and self.subset in ("", cell.subset)
        )


@dataclass(frozen=True)
class BlockRule:
    """Which documents of a phase are packed into blocks of one length; the first rule that matches takes a document."""

    length: int
    min_tokens: int = 0
    domains: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    fill: float = 0.0
    """Share of the documents too short for `min_tokens` that go here too, to fill the gaps long ones leave."""


@dataclass(frozen=True)
class Phase:
    """One phase of the curriculum."""

    name: str
    tokens: int
    """Positions that are not padding, BOS and EOS included."""
    weights: tuple[Weight, ...]
    blocks: tuple[BlockRule, ...]
    prefer: Literal["any", "long", "quality"] = "any"
    """Which documents of a pool a phase claims first."""


@dataclass(frozen=True)
class MixSettings:
    phases: tuple[Phase, ...]
    claim_order: tuple[str, ...] = ()
    """Names of the phases in the order they claim documents; empty: last phase first."""
    packing: Packing = "best_fit"
    tokens_per_segment: int = 32
    """A block of L tokens holds at most L / this segments."""
    held_out_block_length: int = 0
    """0: the shortest block length of the phases."""
    seed: int = 0

    def max_docs(self, block_length: int) -> int:
        return max(1, block_length // self.tokens_per_segment)

    @property
    def claiming(self) -> tuple[int, ...]:
        """Indices of the phases in claim order."""
        names = [p.name for p in self.phases]
        return tuple(names.index(n) for n in self.claim_order) if self.claim_order else tuple(range(len(names)))[::-1]

    @property
    def sets(self) -> tuple[tuple[int, int], ...]:
        """(phase, block length) of every shard set, phases in order, lengths ascending."""
        return tuple((p, length) for p, phase in enumerate(self.phases) for length in block_lengths(phase))


def block_lengths(phase: Phase) -> list[int]:
    return sorted({rule.length for rule in phase.blocks})


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Integers in proportion to `weights` that sum to `total`; no positive weight gets 0 while `total` allows it."""
    whole = sum(weights)
    exact = [total * w / whole for w in weights]
    shares = [int(e) for e in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    for i, weight in enumerate(weights):
        if weight > 0 and shares[i] == 0 and max(shares) > 1:
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


@dataclass(frozen=True)
class PoolNeed:
    """A line of the feasibility table."""

    phase: str
    pool: str
    wanted: int
    available: int
    """Tokens the pool can give once, after the phases that claim before."""
    max_epochs: float
    margin: float = 1.0
    """How far `available` may be off where it is an estimate."""

    @property
    def short(self) -> bool:
        return self.wanted > self.available * self.max_epochs * self.margin


class BudgetShort(ValueError):
    """Pools cannot give what their phases want; holds the table."""

    def __init__(self, needs: Sequence[PoolNeed], when: str) -> None:
        self.needs = tuple(needs)
        bad = [n for n in needs if n.short]
        rows = "; ".join(
            f"{n.phase}, {n.pool}: wanted {n.wanted:,}, available {n.available:,} x {n.max_epochs:g} epochs"
            for n in bad
        )
        super().__init__(
            f"budget short {when}: {rows} tokens. Lower `scale` or the phase's `tokens`, or raise `max_epochs`"
        )


def quotas(phase: Phase, available: Sequence[int]) -> tuple[list[int], list[str]]:
    """Tokens wanted of every weight, and the names of the pools whose share went to the others.

    Args:
        available: tokens each weight's pool holds.

    Raises:
        ValueError: a pool without `if_present` is empty.
    """
    weights, given = [], []
    for weight, tokens in zip(phase.weights, available, strict=True):
        if tokens == 0 and not weight.if_present:
            raise ValueError(
                f"{phase.name}: the pool `{weight.name}` is empty; remove its weight or mark it `if_present: true`"
            )
        if tokens == 0:
            given.append(weight.name)
        weights.append(weight.weight if tokens else 0.0)
    if not any(weights):
        raise ValueError(f"{phase.name}: no pool of its weights holds a document")
    return largest_remainder(phase.tokens, weights), given


def set_of(phase: Phase, cell: Cell) -> list[BlockRule]:
    """The block rules that may take a document of this cell, in order; the last one takes what is left."""
    return [
        r
        for r in phase.blocks
        if (not r.domains or cell.domain in r.domains) and (not r.corpora or cell.corpus in r.corpora)
    ]

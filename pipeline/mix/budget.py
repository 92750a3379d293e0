"""Budgets: what a phase wants of each pool, in integers that sum exactly at every level."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from ...storage.fields import WITH_UNIT, Bounds, Derived, Pairs, Quantity, QuantityOrShare, Share, Written, quantity
from ...tokenize.pack import Packing
from ..sources.domains import CHAT, Domain, OneDomain, domain_of


@dataclass(frozen=True)
class Cell:
    """A (corpus, subset) with its domain: the finest thing a mixture is stated in. Its code is its place in the run."""

    corpus: str
    subset: str
    domain: str
    chat: bool = False
    """Its documents are conversations, of which only the answers are trained on."""

    @classmethod
    def of(cls, corpus: str, subset: str, format: str, domain: str = "") -> Cell:
        """The cell of a subset of a corpus whose files have a format, and a domain if the recipe gives them one."""
        return cls(corpus, subset, domain_of(format, subset, domain), format == CHAT)


@dataclass(frozen=True)
class Weight:
    """A pool of a phase and its share, or a group of pools that divide its share among them (`within`, or `by`).

    A document belongs to the first pool of the phase that matches it, quality included, groups taken apart in order.
    """

    weight: Annotated[float, Bounds(gt=0)]
    """Share among the weights of the same list."""
    domain: Annotated[str, OneDomain(optional=True)] = ""
    """Only documents of this domain."""
    corpus: str = ""
    """Only documents of this corpus."""
    subset: str = ""
    """Only documents of this subset."""
    if_present: bool = False
    """An empty pool gives its share to the others, in proportion, instead of being an error."""
    max_epochs: Annotated[float, Bounds(ge=1, le=63)] = 1.0
    """How often a document may be used in the phase."""
    top: Share = 1.0
    """Only this share of the domain's tokens, best quality first."""
    min_quality: Share = 0.0
    """Only documents of at least this quality, 0 to 1."""
    reuse: tuple[str, ...] = ()
    """Phases that claim documents before this one and whose documents this pool may take again."""
    below: Share = 0.0
    """Without this share of the domain's tokens, best quality first: `top: 70%` and `below: 30%` are the four tenths between."""
    by: Literal["", "domain", "corpus", "subset"] = ""
    """A group of one pool for each of these that the run holds, weighed by their tokens."""
    temperature: Annotated[float, Bounds(gt=0)] = 1.0
    """With `by`: a pool of n tokens weighs n ** (1 / temperature)."""
    within: tuple[Weight, ...] = ()
    """The pools of a group, which divide its share; a recipe gives them what the group says."""
    repeat: Annotated[tuple[tuple[int, int], ...], Pairs()] = ()
    """How often a document counts that represents at least so many, itself included: {"2": 2, "10": 3}; none: once each."""

    def __post_init__(self) -> None:
        if self.by and self.within:
            raise ValueError("a weight has `by` or `within`, not both")
        if self.temperature != 1 and not self.by:
            raise ValueError("`temperature` needs `by`: domain, corpus or subset")
        if self.below and self.below >= self.top:
            raise ValueError(f"`below: {self.below:.0%}` leaves nothing of `top: {self.top:.0%}`; lower `below`")
        for copies, times in self.repeat:
            if copies < 2 or not 1 <= times <= self.max_epochs:
                raise ValueError(
                    f"`repeat` lets a document that represents {copies:,} count {times:,} times; write sizes from 2, and no more "
                    f"times than `max_epochs` ({self.max_epochs:g})"
                )
        for pool in self.within:
            for kind in ("domain", "corpus", "subset"):
                group, own = getattr(self, kind), getattr(pool, kind)
                if group and own and group != own:
                    raise ValueError(f"a pool of {kind} {own} cannot lie within one of {group}")

    def identity(self) -> dict[str, object]:
        """What it adds to the key of a task; one without `repeat` has the keys of versions that knew none."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value or name != "repeat"}

    @property
    def most_times(self) -> int:
        """How often a document counts in the pool at most."""
        return max((times for _, times in self.repeat), default=1)

    @property
    def passes(self) -> float:
        """How often all of the pool may be taken: with `repeat`, so that no document is used more than `max_epochs` times."""
        return self.max_epochs // self.most_times if self.repeat else self.max_epochs

    @property
    def name(self) -> str:
        parts = [self.domain, "/".join(p for p in (self.corpus, self.subset) if p)]
        name = " in ".join(p for p in parts if p) or "everything"
        return f"{name} below the best {100 * self.below:g} %" if self.below else name

    def matches(self, cell: Cell) -> bool:
        return (
            self.domain in ("", cell.domain) and self.corpus in ("", cell.corpus) and self.subset in ("", cell.subset)
        )

    @property
    def selects(self) -> bool:
        """Whether it takes only documents of some quality."""
        return self.top < 1 or self.below > 0 or self.min_quality > 0

    def pools(self) -> Iterator[Weight]:
        """The pools of a group, depth first; a pool itself."""
        if not self.within:
            yield self
        for weight in self.within:
            yield from weight.pools()


def _block_length(value: Any) -> int:
    length = quantity(value)
    if not 64 <= length <= 65_536 or length & (length - 1):
        raise ValueError(f"block length {length} is not a power of two between 64 and 65,536")
    return length


@dataclass(frozen=True)
class BlockRule:
    """Which documents of a phase are packed into blocks of one length; the first rule that matches takes a document."""

    length: Annotated[int, Written(_block_length, (WITH_UNIT,))]
    """Tokens of a block."""
    min_tokens: Quantity = 0
    """Only documents of at least this length."""
    domains: tuple[Domain, ...] = ()
    """Only documents of these domains; empty: of all."""
    corpora: tuple[str, ...] = ()
    """Only documents of these corpora, or corpus/subset; empty: of all."""
    fill: Share = 0.0
    """Share of the documents too short for `min_tokens` that go here too, to fill the gaps long ones leave."""

    def matches(self, cell: Cell) -> bool:
        return (not self.domains or cell.domain in self.domains) and (
            not self.corpora or cell.corpus in self.corpora or f"{cell.corpus}/{cell.subset}" in self.corpora
        )


@dataclass(frozen=True)
class Phase:
    """One phase of the curriculum: how many tokens of which pools."""

    name: Annotated[str, Derived()]
    tokens: QuantityOrShare
    """Tokens, absolute (62B) or as a share of `total_tokens` (39%): positions that are not padding, BOS and EOS included."""
    weights: Annotated[tuple[Weight, ...], Bounds(min_length=1)]
    """The pools that it draws on."""
    blocks: Annotated[tuple[BlockRule, ...], Bounds(min_length=1)]
    """Block lengths and what goes there, tried in order; the last entry takes what is left."""
    prefer: Literal["any", "long", "quality"] = "any"
    """Which documents of a pool a phase claims first."""

    def __post_init__(self) -> None:
        last = self.blocks[-1] if self.blocks else None
        if last and (last.domains or last.corpora or last.min_tokens):
            raise ValueError("the last entry of `blocks` must take every document: only a `length`")

    @property
    def pools(self) -> tuple[Weight, ...]:
        """The pools in the order in which they match documents; a pool's number is its place here."""
        return tuple(pool for weight in self.weights for pool in weight.pools())

    @property
    def block_lengths(self) -> list[int]:
        return sorted({rule.length for rule in self.blocks})

    def rules_of(self, cell: Cell) -> list[BlockRule]:
        """The block rules that may take a document of this cell, in order; the last one takes what is left."""
        return [rule for rule in self.blocks if rule.matches(cell)]


@dataclass(frozen=True)
class MixSettings:
    """What the phases hold, and how blocks are filled."""

    phases: Annotated[tuple[Phase, ...], Derived()] = ()
    claim_order: tuple[str, ...] = ()
    """Names of the phases in the order they claim documents; empty: last phase first."""
    packing: Packing = "best_fit"
    """`best_fit` cuts only documents longer than a block; `concatenate` cuts at every block's end."""
    tokens_per_segment: Annotated[int, Bounds(ge=1)] = 32
    """A block of L tokens holds at most L / this segments."""
    held_out_block_length: Quantity = 0
    """Block length of the held-out sets; 0: the shortest of the phases."""
    seed: Annotated[int, Derived()] = 0

    def max_docs(self, block_length: int) -> int:
        return max(1, block_length // self.tokens_per_segment)

    @property
    def claiming(self) -> tuple[int, ...]:
        """Indices of the phases in claim order."""
        names = [p.name for p in self.phases]
        return tuple(names.index(n) for n in self.claim_order) if self.claim_order else tuple(range(len(names)))[::-1]

    @property
    def by_cluster(self) -> bool:
        """Whether it matters how many copies a document stands for."""
        return any(pool.repeat for phase in self.phases for pool in phase.pools)

    @property
    def sets(self) -> tuple[tuple[int, int], ...]:
        """(phase, block length) of every shard set, phases in order, lengths ascending."""
        return tuple((p, length) for p, phase in enumerate(self.phases) for length in phase.block_lengths)

    def expanded(self, cells: Sequence[Cell], tokens: Sequence[int]) -> MixSettings:
        """These settings with a pool for each domain, corpus or subset that a group with `by` has in a run.

        Args:
            tokens: of every cell; the natural sizes.
        """
        phases = (replace(p, weights=tuple(_expanded(w, cells, tokens) for w in p.weights)) for p in self.phases)
        return replace(self, phases=tuple(phases))


def _expanded(weight: Weight, cells: Sequence[Cell], tokens: Sequence[int]) -> Weight:
    if weight.within:
        return replace(weight, within=tuple(_expanded(w, cells, tokens) for w in weight.within))
    if not weight.by:
        return weight
    sizes: dict[tuple[str, str, str], int] = {}
    for cell, n in zip(cells, tokens, strict=True):
        if n and weight.matches(cell):
            domain = cell.domain if weight.by == "domain" else weight.domain
            corpus = cell.corpus if weight.by in ("corpus", "subset") else weight.corpus
            subset = cell.subset if weight.by == "subset" else weight.subset
            sizes[domain, corpus, subset] = sizes.get((domain, corpus, subset), 0) + n
    if not sizes:
        return replace(weight, by="", temperature=1.0)
    # Relative to the largest: a pool may hold more tokens than a power of a float can be exact about.
    most = max(sizes.values())
    within = tuple(
        replace(
            weight,
            weight=(n / most) ** (1 / weight.temperature),
            domain=d,
            corpus=c,
            subset=s,
            by="",
            temperature=1.0,
            if_present=True,
        )
        for (d, c, s), n in sorted(sizes.items())
    )
    return replace(weight, by="", temperature=1.0, within=within)


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Integers in proportion to `weights` that sum to `total`; no positive weight gets 0 while `total` allows it."""
    whole = sum(weights)
    exact = [total * w / whole for w in weights]
    shares = [int(e) for e in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], i))
    # Floats may leave a few more than one for each, or one too many, where the total has more digits than they.
    for k in range(total - sum(shares)):
        shares[order[k % len(order)]] += 1
    while sum(shares) > total:
        shares[shares.index(max(shares))] -= 1
    for i, weight in enumerate(weights):
        if weight > 0 and shares[i] == 0 and max(shares) > 1:
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


Claimed = Mapping[str, int]
"""Phase -> tokens that it claimed of a pool of a later phase, in claim order."""


def after_claims(claimed: Claimed) -> str:
    """What earlier claims took of a pool, in words."""
    taken = " and ".join(f"{phase} claimed {tokens:,}" for phase, tokens in claimed.items())
    return f"{taken} of its tokens"


def to_reuse(claimed: Iterable[str]) -> str:
    """How a pool gets what other phases claimed."""
    return f"let it take them again (`reuse: [{', '.join(claimed)}]`)"


def quotas(
    phase: Phase, available: Sequence[int], claimed: Callable[[int], Claimed] = lambda pool: {}
) -> tuple[list[int], list[str]]:
    """Tokens wanted of every pool, and the names of the pools whose share went to the others.

    The quotas of a group's pools sum to the group's, those of the groups to the phase's tokens.

    Args:
        available: tokens each pool can give.
        claimed: what earlier claims took of a pool, by its number; asked only for a message.

    Raises:
        ValueError: a pool without `if_present` is empty.
    """
    given: list[str] = []
    for number, (pool, tokens) in enumerate(zip(phase.pools, available, strict=True)):
        if not tokens and not pool.if_present:
            if taken := claimed(number):
                raise ValueError(
                    f"{phase.name}: the pool `{pool.name}` is empty, since {after_claims(taken)}; {to_reuse(taken)}, lower the "
                    f"`tokens` of {' and '.join(taken)}, or mark it `if_present: true`"
                )
            raise ValueError(
                f"{phase.name}: the pool `{pool.name}` is empty; remove its weight or mark it `if_present: true`"
            )
        if not tokens:
            given.append(pool.name)
    if not any(available):
        for number, pool in enumerate(phase.pools):
            if taken := claimed(number):
                raise ValueError(
                    f"{phase.name}: no pool of its weights holds a document that is left; of `{pool.name}`, "
                    f"{after_claims(taken)}: {to_reuse(taken)}, or lower the `tokens` of {' and '.join(taken)}"
                )
        raise ValueError(f"{phase.name}: no pool of its weights holds a document")
    return _divided(phase.tokens, phase.weights, available), given


def _divided(total: int, weights: Sequence[Weight], available: Sequence[int]) -> list[int]:
    """Tokens of every pool of some weights, of which some hold a document."""
    ends = list(itertools.accumulate(sum(1 for _ in w.pools()) for w in weights))
    there = [available[a:b] for a, b in itertools.pairwise([0, *ends])]
    shares = largest_remainder(total, [w.weight if any(t) else 0.0 for w, t in zip(weights, there, strict=True)])
    wanted: list[int] = []
    for weight, share, tokens in zip(weights, shares, there, strict=True):
        if not any(tokens):
            wanted += [0] * len(tokens)
        elif weight.within:
            wanted += _divided(share, weight.within, tokens)
        else:
            wanted.append(share)
    return wanted

"""What would other weights, budgets or rules of the phases change? The mixture is planned again over the token shards that the run
has, as mix plans it, and compared with what was reached. No block is packed, no text is read, and nothing is written to the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.engine import Engine
from ..mix.budget import Cell, MixSettings
from ..mix.feasibility import BudgetShort
from ..mix.plan import MixPlan
from ..mix.stage import plan_phases
from ..mix.stored import StoredTokens
from ..run.artifacts import read_json
from ..run.paths import RunPaths


@dataclass(frozen=True)
class PoolMixture:
    """What a phase takes of a pool."""

    pool: str
    wanted: int
    tokens: int
    available: int
    """Tokens that it can give once, after the phases that claim before."""
    epochs: float
    max_epochs: float


@dataclass(frozen=True)
class PhaseMixture:
    """What a phase reads."""

    name: str
    wanted: int
    tokens: int
    documents: int
    """With every pass counted."""
    pools: tuple[PoolMixture, ...]
    domains: Mapping[str, int]
    """Tokens by domain."""
    corpora: Mapping[str, int]
    given_away: tuple[str, ...] = ()
    """Pools without a document, whose share the others got."""


@dataclass(frozen=True)
class MixtureWhatIf:
    """What the phases read, and what they would."""

    before: tuple[PhaseMixture, ...]
    after: tuple[PhaseMixture, ...]
    """Empty where a budget is short."""
    unused: tuple[int, int] = (0, 0)
    """Kept tokens that no phase uses, before and after."""
    short: str = ""
    """Why the change is not feasible, in one line."""
    details: list[str] = field(default_factory=list)
    """The pools that are short, as lines of a table."""


def what_if_mixture(run: RunPaths, engine: Engine, tokens: StoredTokens, then: MixSettings) -> MixtureWhatIf:
    """Plan a run's phases by other settings.

    Args:
        engine: of a folder of its own; where it is used again, only what a change moves is counted again.

    Raises:
        ValueError: the run has no mixture, or a pool that must be there is empty.
    """
    stored = read_json(run.stats("mixture"))
    before = tuple(_stored(phase) for phase in stored["phases"])
    left = sum(cell["tokens"] for cell in stored["unused"])
    try:
        settings, plan = plan_phases(engine, then, tokens.vocabulary, tokens.cells, tokens.groups)
    except BudgetShort as error:
        return MixtureWhatIf(before, (), (left, left), str(error), error.details)
    after = tuple(_planned(settings, plan, tokens.cells, number) for number in range(len(settings.phases)))
    return MixtureWhatIf(before, after, (left, sum(cell.tokens for cell in plan.tally.unused)))


def _stored(phase: Mapping[str, Any]) -> PhaseMixture:
    pools = tuple(
        PoolMixture(
            p["pool"],
            p["wanted_tokens"],
            p["tokens"],
            p["available_tokens"],
            float(p["epochs"]),
            float(p["max_epochs"]),
        )
        for p in phase["pools"]
    )
    return PhaseMixture(
        phase["name"],
        phase["wanted_tokens"],
        phase["tokens"],
        phase["documents"],
        pools,
        _sums((cell["domain"], cell["tokens"]) for cell in phase["cells"]),
        _sums((cell["corpus"], cell["tokens"]) for cell in phase["cells"]),
        tuple(phase["given_away"]),
    )


def _planned(settings: MixSettings, plan: MixPlan, cells: Sequence[Cell], number: int) -> PhaseMixture:
    phase = settings.phases[number]
    counts = [count for count in plan.tally.sets if count.phase == number]
    reached = [0] * len(phase.pools)
    for count in counts:
        reached[count.pool] += count.tokens
    needs = [need for need in plan.needs if need.phase == phase.name]
    pools = tuple(
        PoolMixture(n.pool, n.wanted, got, n.available, round(got / max(n.available, 1), 4), n.max_epochs)
        for n, got in zip(needs, reached, strict=True)
    )
    return PhaseMixture(
        phase.name,
        phase.tokens,
        sum(reached),
        sum(count.copies for count in counts),
        pools,
        _sums((cells[count.cell].domain, count.tokens) for count in counts),
        _sums((cells[count.cell].corpus, count.tokens) for count in counts),
        tuple(plan.given.get(phase.name, ())),
    )


def _sums(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, n in counts:
        found[name] = found.get(name, 0) + n
    return dict(sorted(found.items()))

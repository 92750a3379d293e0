"""Whether pools can give what phases want: the table of pools, and the nearest weights that are feasible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..prepare.tokenizer import PreparedTokenizer
from .budget import Cell, Claimed, MixSettings, Phase, after_claims, quotas, to_reuse
from .select import pools_of


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
    claimed: Claimed = field(default_factory=dict)
    """What those phases took of it, where that is known."""

    @property
    def most(self) -> float:
        return self.available * self.max_epochs * self.margin

    @property
    def short(self) -> bool:
        return self.wanted > self.most

    @property
    def epochs(self) -> float:
        """Epochs of the pool that the budget needs."""
        return self.wanted / self.available if self.available else float("inf")


NAMED = 3
"""Short pools named in the error's line; its table has all."""


class BudgetShort(ValueError):
    """Pools cannot give what their phases want."""

    def __init__(self, needs: Sequence[PoolNeed], when: str) -> None:
        self.needs = tuple(needs)
        short = [n for n in needs if n.short]
        rows = "; ".join(
            f"{n.phase}, {n.pool}: wanted {n.wanted:,}, available {n.available:,} x {n.max_epochs:g} epochs"
            + (f" ({after_claims(n.claimed)})" if n.claimed else "")
            for n in short[:NAMED]
        )
        more = f"; and {len(short) - NAMED} more pools" if len(short) > NAMED else ""
        do = all(nearest_feasible(pools) for pools in self._short_phases().values())
        weights = ", or use the nearest feasible weights of the table above" if do else ""
        taken = dict.fromkeys(phase for n in short for phase in n.claimed)
        again = f", {to_reuse(taken)}" if taken else ""
        super().__init__(
            f"budget short {when}, in tokens: {rows}{more}. Lower `scale` or the phase's `tokens`{again}, or raise "
            f"`max_epochs`{weights}"
        )

    def _short_phases(self) -> dict[str, list[PoolNeed]]:
        """All pools of the phases in which one is short."""
        names = dict.fromkeys(n.phase for n in self.needs if n.short)
        return {phase: [n for n in self.needs if n.phase == phase] for phase in names}

    @property
    def details(self) -> list[str]:
        """The pools of the phases that are short, as lines of a table."""
        head = ("phase", "pool", "wanted", "available", "epochs needed", "allowed", "weight", "nearest feasible")
        rows = [head]
        notes = []
        for phase, pools in self._short_phases().items():
            whole = sum(n.wanted for n in pools)
            nearest = nearest_feasible(pools)
            if nearest is None:
                most = int(sum(n.most for n in pools))
                notes.append(
                    f"{phase}: no weights are feasible; all its pools together hold {most:,} of {whole:,} tokens"
                )
            for i, n in enumerate(pools):
                feasible = "-" if nearest is None else f"{100 * nearest[i] / whole:.2f} %"
                needed = "-" if not n.wanted else f"{n.epochs:.2f}" if n.available else "empty"
                share = f"{100 * n.wanted / whole:.2f} %"
                rows.append(
                    (n.phase, n.pool, f"{n.wanted:,}", f"{n.available:,}", needed, f"{n.max_epochs:g}", share, feasible)
                )
        widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
        lines = []
        for row in rows:
            cells = [t.ljust(w) if k < 2 else t.rjust(w) for k, (t, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        return [*lines, *notes]


def nearest_feasible(needs: Sequence[PoolNeed]) -> list[int] | None:
    """Tokens of every pool of a phase that come nearest to what is wanted: short pools give all they have, the others
    what is missing, in proportion to their weights. None where all pools together hold too little."""
    whole = sum(n.wanted for n in needs)
    most = [int(n.most) for n in needs]
    if sum(m for m, n in zip(most, needs, strict=True) if n.wanted) < whole:
        return None
    fixed = [False] * len(needs)
    while True:
        left = whole - sum(m for m, f in zip(most, fixed, strict=True) if f)
        base = sum(n.wanted for n, f in zip(needs, fixed, strict=True) if not f)
        shares = [m if f else left * n.wanted // max(base, 1) for m, f, n in zip(most, fixed, needs, strict=True)]
        over = [s > m for s, m in zip(shares, most, strict=True)]
        if not any(over):
            return shares
        fixed = [f or o for f, o in zip(fixed, over, strict=True)]


def estimated_needs(
    settings: MixSettings, cells: Sequence[Cell], tokens: Sequence[int], margin: float
) -> list[PoolNeed]:
    """The table from estimated tokens per cell: phases in claim order, each taking evenly from the cells of a pool. A share of a
    domain by quality is taken for the same share of each of its cells.

    Raises:
        ValueError: a pool that must be there is empty.
    """
    settings = settings.expanded(cells, tokens)
    used: dict[str, list[float]] = {}
    needs = []
    for number in settings.claiming:
        phase = settings.phases[number]
        pools = phase.pools
        parts = _parts(phase, cells)
        left = [
            part.share
            * max(0.0, tokens[part.cell] - sum(u[part.cell] for name, u in used.items() if name not in own.reuse))
            for part in parts
            if (own := pools[part.pool])
        ]
        available = [
            int(sum(n for n, part in zip(left, parts, strict=True) if part.pool == i)) for i in range(len(pools))
        ]
        claimed = [
            {
                name: int(sum(taken))
                for name, u in used.items()
                if name not in pool.reuse and any(taken := [p.share * u[p.cell] for p in parts if p.pool == i])
            }
            for i, pool in enumerate(pools)
        ]
        wanted = quotas(phase, available, claimed.__getitem__)[0]
        needs += [
            PoolNeed(phase.name, pool.name, w, a, pool.max_epochs, margin, c)
            for pool, w, a, c in zip(pools, wanted, available, claimed, strict=True)
        ]
        used[phase.name] = [0.0] * len(cells)
        for n, part in zip(left, parts, strict=True):
            if available[part.pool]:
                used[phase.name][part.cell] += n * min(1.0, wanted[part.pool] / available[part.pool])
    return needs


@dataclass(frozen=True)
class _Part:
    """What a pool may take of a cell."""

    cell: int
    pool: int
    share: float


def _parts(phase: Phase, cells: Sequence[Cell]) -> list[_Part]:
    """The parts of all cells; those of a cell are no more than the whole."""
    found = []
    for cell, own in enumerate(pools_of(phase, cells)):
        left = 1.0
        for number in own:
            pool = phase.pools[number]
            share = min(left, pool.top - pool.below)
            left -= share
            found.append(_Part(cell, number, share))
    return found


ESTIMATE_MARGIN = 2.0
"""How far the estimate after dedupe may be off before it refuses a budget; the exact check follows."""


def check_estimate(
    settings: MixSettings,
    kept_bytes: Mapping[str, int],
    kinds: Mapping[str, tuple[str, str]],
    measured: PreparedTokenizer,
    given: Mapping[str, int] | None = None,
) -> None:
    """The second feasibility check, after dedupe: bytes that survive times measured tokens per byte.

    Args:
        kept_bytes: by `corpus/subset`.
        kinds: (format, domain if the recipe gives one) of the corpora.
        given: tokens by `corpus/subset` of documents that come as token ids, at most.

    Raises:
        BudgetShort: some pool cannot give what its phase wants, by far.
    """
    if not measured.measured_bytes:
        return
    rate = measured.measured_tokens / measured.measured_bytes
    tokens = {name: int(size * rate) for name, size in kept_bytes.items()} | dict(given or {})
    names = [name.split("/", 1) for name in tokens]
    cells = [Cell.of(corpus, subset, *kinds[corpus]) for corpus, subset in names]
    needs = estimated_needs(settings, cells, list(tokens.values()), ESTIMATE_MARGIN)
    if any(n.short for n in needs):
        raise BudgetShort(needs, "after dedupe, by measured tokens per byte")

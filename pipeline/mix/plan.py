"""The plan: which documents each phase claims, whether all budgets can be met, and what will stand where.

Reads 16 bytes per document. Every shortage is known before a block is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..engine.tasks import Engine, TaskResult
from ..run.artifacts import Artifact, RunPaths
from . import assign, select
from .budget import Cell, MixSettings, quotas
from .feasibility import BudgetShort, PoolNeed
from .select import Claim, PhaseClaims, Search
from .step import run_step


@dataclass(frozen=True)
class MixPlan:
    """What every phase takes."""

    claims: tuple[PhaseClaims, ...]
    """In claim order."""
    needs: tuple[PoolNeed, ...]
    given: dict[str, list[str]]
    """Phase -> pools that were empty and gave their share to the others."""
    tally: dict[str, dict[str, np.ndarray]]
    """What `assign.tally` counts, over all documents: kind -> key -> int64 [2]."""


@dataclass
class Planner:
    """Finds the thresholds of every phase, in claim order."""

    engine: Engine
    settings: MixSettings
    cells: tuple[Cell, ...]
    documents: Sequence[Artifact]
    """`DOC` files of the training groups."""
    needs: list[PoolNeed] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=dict)

    @property
    def paths(self) -> RunPaths:
        return self.engine.paths

    def plan(self) -> MixPlan:
        """Claim for every phase and count what that gives.

        Raises:
            BudgetShort: some pool cannot give what its phase wants.
            ValueError: a pool that must be there is empty.
        """
        floors = self._floors(self.documents)
        claims: list[PhaseClaims] = []
        for phase in self.settings.claiming:
            claims.append(self._claims(phase, self.documents, claims, floors[phase]))
        if any(need.short for need in self.needs):
            raise BudgetShort(self.needs, "before any block was written")
        tallies = run_step(
            self.engine,
            "mix.tally",
            self.documents,
            lambda d: (assign.tally, (d.file, self.settings, self.cells, claims)),
            lambda d: (d.hash, self.settings, self.cells, claims),
            name=lambda d: str(d.file.relative_to(self.paths.mix("docs"))),
        )
        tally: dict[str, dict[str, np.ndarray]] = {}
        for result in tallies:
            for kind, counts in result.data.items():
                into = tally.setdefault(kind, {})
                for key, value in counts.items():
                    into[key] = into.get(key, np.zeros(2, np.int64)) + np.array(value, np.int64)
        return MixPlan(tuple(claims), tuple(self.needs), self.given, tally)

    def _floors(self, documents: Sequence[Artifact]) -> list[tuple[int, ...]]:
        """Least quality by phase and cell code, from the weights' `top` shares."""
        domains = sorted({c.domain for c in self.cells})
        ranked = any(pool.top < 1 for p in self.settings.phases for pool in p.pools)
        table = np.zeros((len(domains), select.LEVELS), np.int64)
        if ranked:
            results = run_step(
                self.engine,
                "mix.quality",
                list(enumerate(documents)),
                lambda d: (
                    select.quality_histogram,
                    (d[1].file, self.cells, domains, self.paths.mix(f"quality/{d[0]:05d}")),
                ),
                lambda d: (d[1].hash, self.cells),
                name=lambda d: f"{d[0]:05d}",
            )
            table = select.sum_tables([r.outputs[0] for r in results], len(domains))
        floors = []
        for phase in self.settings.phases:
            pools = phase.pools
            mine = [pools[p] if p >= 0 else None for p in select.pools_of(phase, self.cells)]
            floors.append(
                tuple(
                    max(select.floor_for(table[domains.index(c.domain)], p.top), round(p.min_quality * select.BEST))
                    if p
                    else 0
                    for c, p in zip(self.cells, mine, strict=True)
                )
            )
        return floors

    def _claims(
        self, number: int, documents: Sequence[Artifact], before: Sequence[PhaseClaims], floors: tuple[int, ...]
    ) -> PhaseClaims:
        phase = self.settings.phases[number]
        pools = select.pools_of(phase, self.cells)
        n = len(phase.pools)
        search = Search(number, pools, floors, (0,) * n, 0)
        table = self._histogram(documents, before, search)
        available = table.sum(axis=1).tolist()
        wanted, given = quotas(phase, available)
        if given:
            self.given[phase.name] = given
        self.needs += [
            PoolNeed(phase.name, p.name, wanted[i], available[i], p.max_epochs) for i, p in enumerate(phase.pools)
        ]
        left = [w % a if a and w > a else w for w, a in zip(wanted, available, strict=True)]
        epochs = [w // a if a and w > a else 0 for w, a in zip(wanted, available, strict=True)]
        if max(epochs) >= assign.MAX_COPIES:
            raise BudgetShort([need for need in self.needs if need.phase == phase.name], "by far")
        prefixes = [0 if x else -1 for x in left]
        for bits in (0, 16):
            if bits:
                table = self._histogram(documents, before, Search(number, pools, floors, tuple(prefixes), bits))
            for i in range(n):
                if prefixes[i] >= 0:
                    at, below = select.cross(table[i], left[i])
                    prefixes[i] = prefixes[i] << 16 | at
                    left[i] -= below
        claims = self._last(documents, before, Search(number, pools, floors, tuple(prefixes), 32), epochs, left)
        return PhaseClaims(number, pools, floors, claims)

    def _histogram(self, documents: Sequence[Artifact], before: Sequence[PhaseClaims], search: Search) -> np.ndarray:
        results = self._search("histogram", select.histogram, documents, before, search)
        return select.sum_tables([r.outputs[0] for r in results], len(search.prefixes))

    def _last(
        self,
        documents: Sequence[Artifact],
        before: Sequence[PhaseClaims],
        search: Search,
        epochs: Sequence[int],
        left: Sequence[int],
    ) -> tuple[Claim, ...]:
        results = self._search("bucket", select.last_bucket, documents, before, search)
        rows = np.concatenate([np.fromfile(r.outputs[0].file, np.uint64).reshape(-1, 4) for r in results])
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        claims = []
        for pool, prefix in enumerate(search.prefixes):
            mine = rows[rows[:, 0] == pool]
            if prefix < 0 or not len(mine):
                claims.append(Claim(pool, epochs[pool], 0, 0, 0))
                continue
            at, below = select.cross(mine[:, 3].astype(np.int64), left[pool])
            take = min(left[pool] - below, int(mine[at, 3]))
            claims.append(Claim(pool, epochs[pool], int(mine[at, 1]), int(mine[at, 2]), take))
        return tuple(claims)

    def _search(
        self,
        step: str,
        function: Callable[..., TaskResult],
        documents: Sequence[Artifact],
        before: Sequence[PhaseClaims],
        search: Search,
    ) -> list[TaskResult]:
        name = self.settings.phases[search.phase].name
        stage = f"mix.{step}"
        before = tuple(before)
        return run_step(
            self.engine,
            f"{stage}.{name}.{search.bits}",
            list(enumerate(documents)),
            lambda d: (
                function,
                (
                    d[1].file,
                    self.settings,
                    before,
                    search,
                    self.paths.mix(f"{step}/{name}-{search.bits}/{d[0]:05d}"),
                ),
            ),
            lambda d: (d[1].hash, self.settings, list(before), search),
            name=lambda d: f"{d[0]:05d}",
        )

"""The plan: which documents each phase claims, whether all budgets can be met, and what will stand where.

Reads 16 bytes per document. Every shortage is known before a block is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ..engine.tasks import Engine, Task
from ..run.artifacts import Artifact, RunPaths
from . import VERSION, assign, select
from .budget import Cell, Claimed, MixSettings, quotas
from .feasibility import BudgetShort, PoolNeed
from .select import Claim, PhaseClaims, Search

Result = TypeVar("Result")


@dataclass(frozen=True)
class MixPlan:
    """What every phase takes."""

    claims: tuple[PhaseClaims, ...]
    """In claim order."""
    needs: tuple[PoolNeed, ...]
    given: dict[str, list[str]]
    """Phase -> pools that were empty and gave their share to the others."""
    tally: assign.Tally


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
        tallies = self.engine.run(
            "mix.tally",
            VERSION,
            [
                Task(f"{i:05d}", assign.tally, (documents, self.settings, self.cells, claims))
                for i, documents in enumerate(self.documents)
            ],
        )
        return MixPlan(tuple(claims), tuple(self.needs), self.given, assign.Tally.sum(tallies))

    def _floors(self, documents: Sequence[Artifact]) -> list[tuple[int, ...]]:
        """Least quality by phase and cell code, from the weights' `top` shares."""
        domains = sorted({c.domain for c in self.cells})
        ranked = any(pool.top < 1 for p in self.settings.phases for pool in p.pools)
        table = np.zeros((len(domains), select.LEVELS), np.int64)
        if ranked:
            tasks = [
                Task(
                    f"{i:05d}",
                    select.quality_histogram,
                    (part, self.cells, domains, self.paths.mix(f"quality/{i:05d}")),
                )
                for i, part in enumerate(documents)
            ]
            table = select.sum_tables(self.engine.run("mix.quality", VERSION, tasks), len(domains))
        floors = []
        for phase in self.settings.phases:
            pools = phase.pools
            pool_of_cell = [pools[p] if p >= 0 else None for p in select.pools_of(phase, self.cells)]
            floors.append(
                tuple(
                    max(select.floor_for(table[domains.index(c.domain)], p.top), round(p.min_quality * select.BEST))
                    if p
                    else 0
                    for c, p in zip(self.cells, pool_of_cell, strict=True)
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

        def claimed(pool: int) -> Claimed:
            return self._claimed_of(pool, documents, before, search)

        wanted, given = quotas(phase, available, claimed)
        if given:
            self.given[phase.name] = given
        for i, pool in enumerate(phase.pools):
            need = PoolNeed(phase.name, pool.name, wanted[i], available[i], pool.max_epochs)
            self.needs.append(replace(need, claimed=claimed(i)) if need.short else need)
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

    def _claimed_of(
        self, pool: int, documents: Sequence[Artifact], before: Sequence[PhaseClaims], search: Search
    ) -> Claimed:
        """What each earlier phase took of a pool: what the pool could give before its claims, less what after them."""
        tables = [
            select.sum_tables(
                self._search(f"claimed-{n}", select.histogram, documents, before[:n], search), len(search.prefixes)
            )
            for n in range(len(before) + 1)
        ]
        left = [int(table[pool].sum()) for table in tables]
        taken = zip(before, itertools.pairwise(left), strict=True)
        return {self.settings.phases[c.phase].name: had - has for c, (had, has) in taken if had > has}

    def _histogram(self, documents: Sequence[Artifact], before: Sequence[PhaseClaims], search: Search) -> np.ndarray:
        found = self._search("histogram", select.histogram, documents, before, search)
        return select.sum_tables(found, len(search.prefixes))

    def _last(
        self,
        documents: Sequence[Artifact],
        before: Sequence[PhaseClaims],
        search: Search,
        epochs: Sequence[int],
        left: Sequence[int],
    ) -> tuple[Claim, ...]:
        found = self._search("bucket", select.last_bucket, documents, before, search)
        rows = np.concatenate([np.fromfile(bucket.file.file, np.uint64).reshape(-1, 4) for bucket in found])
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        claims = []
        for pool, prefix in enumerate(search.prefixes):
            in_pool = rows[rows[:, 0] == pool]
            if prefix < 0 or not len(in_pool):
                claims.append(Claim(pool, epochs[pool], 0, 0, 0))
                continue
            at, below = select.cross(in_pool[:, 3].astype(np.int64), left[pool])
            take = min(left[pool] - below, int(in_pool[at, 3]))
            claims.append(Claim(pool, epochs[pool], int(in_pool[at, 1]), int(in_pool[at, 2]), take))
        return tuple(claims)

    def _search(
        self,
        step: str,
        function: Callable[..., Result],
        documents: Sequence[Artifact],
        before: Sequence[PhaseClaims],
        search: Search,
    ) -> list[Result]:
        name = self.settings.phases[search.phase].name
        folder = self.paths.mix(f"{step}/{name}-{search.bits}")
        tasks = [
            Task(f"{i:05d}", function, (part, self.settings, tuple(before), search, folder / f"{i:05d}"))
            for i, part in enumerate(documents)
        ]
        return self.engine.run(f"mix.{step}.{name}.{search.bits}", VERSION, tasks)

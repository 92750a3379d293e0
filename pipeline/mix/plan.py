"""The plan: which documents each phase claims, whether all budgets can be met, and what will stand where.

Reads 16 bytes per document. Every shortage is known before a block is written. What the tasks count are files, added up by
further tasks where there are many, so that the driver reads one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.engine import Engine
from ..engine.tasks import Task
from ..engine.tree import Counted, add_up
from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from ..run.paths import RunPaths
from . import VERSION, assign, select
from .budget import Cell, Claimed, MixSettings, Phase, quotas
from .feasibility import BudgetShort, PoolNeed
from .select import Band, CellBands, Claim, PhaseClaims, Search

TASK_DOCUMENTS = 5 << 20
"""Documents of which a task counts something: two seconds."""
TABLES = 9
"""Tables of up to 25 MB that a task adds up, while everything waits for the sum."""


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
    at_most: bool = False
    """A phase's tokens are the most that it takes: it is content with what its pools have."""
    prefix: str = ""
    """What the names of its steps begin with, where two plans are made in one folder."""
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
        bands = self.bands()
        claims: tuple[PhaseClaims, ...] = ()
        for phase in self.settings.claiming:
            claims = (*claims, self._claims(phase, claims, bands[phase]))
        if any(need.short for need in self.needs):
            raise BudgetShort(self.needs, "before any block was written")
        counted = self._count("tally", assign.tally, (self.settings, self.cells, claims), assign.add_tallies)
        return MixPlan(claims, tuple(self.needs), self.given, assign.read_tally(counted))

    @cached_property
    def parts(self) -> list[FileSet]:
        """The files that each task counts."""
        found: list[list[Artifact]] = []
        held = TASK_DOCUMENTS
        for file in self.documents:
            if held >= TASK_DOCUMENTS:
                found.append([])
                held = 0
            found[-1].append(file)
            held += file.rows
        return [FileSet.of(files) for files in found] or [FileSet()]

    def _count(
        self,
        step: str,
        count: Callable[..., Counted],
        arguments: tuple[Any, ...],
        add: Callable[..., Counted],
        *shape: int,
    ) -> Path:
        """Let tasks count something of all documents, and others add it up to one file.

        Args:
            count: of the files of a task, `arguments` and where to write.
            add: of files that `count` or it wrote, `shape` and where to write.
        """
        step = self.prefix + step
        folder = self.paths.mix(step)
        tasks = [Task(f"{i:05d}", count, (part, *arguments, folder / f"{i:05d}")) for i, part in enumerate(self.parts)]
        found = [result.file for result in self.engine.run(f"mix.{step}", VERSION, tasks)]
        into = self.paths.mix(f"{step}.sum")
        (whole,) = add_up(self.engine, f"mix.{step}.sum", VERSION, found, add, into, shape, most=1, fan_in=TABLES)
        return whole.file

    def bands(self) -> list[CellBands]:
        """The bands of every phase, from the weights' shares of the domains' tokens and least qualities."""
        domains = sorted({c.domain for c in self.cells})
        table = np.zeros((len(domains), select.LEVELS), np.int64)
        if any(pool.top < 1 or pool.below for p in self.settings.phases for pool in p.pools):
            clustered = (True,) if self.settings.by_cluster else ()
            arguments = (self.cells, domains, *clustered)
            counted = self._count("quality", select.quality_histogram, arguments, select.add_tables, len(domains))
            table = select.read_table(counted, len(domains))

        def band(phase: Phase, number: int, cell: Cell) -> Band:
            pool, of_domain = phase.pools[number], table[domains.index(cell.domain)]
            least = max(select.floor_for(of_domain, pool.top), round(pool.min_quality * select.BEST))
            most = select.floor_for(of_domain, pool.below) - 1 if pool.below else select.BEST
            return Band(number, least, most)

        return [
            tuple(
                tuple(band(phase, number, cell) for number in of_cell)
                for cell, of_cell in zip(self.cells, select.pools_of(phase, self.cells), strict=True)
            )
            for phase in self.settings.phases
        ]

    def _claims(self, number: int, before: tuple[PhaseClaims, ...], bands: CellBands) -> PhaseClaims:
        phase = self.settings.phases[number]
        n = len(phase.pools)
        search = Search(number, bands, (0,) * n, 0)
        table = self._histogram("histogram", before, search)
        available = table.sum(axis=1).tolist()
        if self.at_most:
            phase = replace(phase, tokens=min(phase.tokens, sum(available)))

        def claimed(pool: int) -> Claimed:
            return self._claimed_of(pool, before, search)

        wanted, given = quotas(phase, available, claimed)
        if given:
            self.given[phase.name] = given
        for i, pool in enumerate(phase.pools):
            need = PoolNeed(phase.name, pool.name, wanted[i], available[i], pool.passes)
            self.needs.append(replace(need, claimed=claimed(i)) if need.short else need)
        left = [w % a if a and w > a else w for w, a in zip(wanted, available, strict=True)]
        epochs = [w // a if a and w > a else 0 for w, a in zip(wanted, available, strict=True)]
        if max(e * pool.most_times for e, pool in zip(epochs, phase.pools, strict=True)) >= assign.MAX_COPIES:
            raise BudgetShort([need for need in self.needs if need.phase == phase.name], "by far")
        prefixes = [0 if x else -1 for x in left]
        for bits in (0, 16):
            if bits:
                table = self._histogram("histogram", before, Search(number, bands, tuple(prefixes), bits))
            for i in range(n):
                if prefixes[i] >= 0:
                    at, below = select.cross(table[i], left[i])
                    prefixes[i] = prefixes[i] << 16 | at
                    left[i] -= below
        claims = self._last(before, Search(number, bands, tuple(prefixes), 32), epochs, left)
        return PhaseClaims(number, bands, claims)

    def _claimed_of(self, pool: int, before: tuple[PhaseClaims, ...], search: Search) -> Claimed:
        """What each earlier phase took of a pool: what the pool could give before its claims, less what after them."""
        tables = [self._histogram(f"claimed-{n}", before[:n], search) for n in range(len(before) + 1)]
        left = [int(table[pool].sum()) for table in tables]
        taken = zip(before, itertools.pairwise(left), strict=True)
        return {self.settings.phases[c.phase].name: had - has for c, (had, has) in taken if had > has}

    def _histogram(self, step: str, before: tuple[PhaseClaims, ...], search: Search) -> np.ndarray:
        rows = len(search.prefixes)
        counted = self._search(step, select.histogram, before, search, select.add_tables, rows)
        return select.read_table(counted, rows)

    def _last(
        self, before: tuple[PhaseClaims, ...], search: Search, epochs: Sequence[int], left: Sequence[int]
    ) -> tuple[Claim, ...]:
        rows = select.read_bucket(self._search("bucket", select.last_bucket, before, search, select.join_buckets))
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
        count: Callable[..., Counted],
        before: tuple[PhaseClaims, ...],
        search: Search,
        add: Callable[..., Counted],
        *shape: int,
    ) -> Path:
        name = f"{step}.{self.settings.phases[search.phase].name}.{search.bits}"
        return self._count(name, count, (self.settings, before, search), add, *shape)

"""Pools by quality: a pool of the recipe as several, of which each holds a share of the domain's tokens.

Where a weight of the recipe has `top` or `below`, its pool is divided there, so that the recipe itself is a mixture of the
pools; `tune.tiers` divides others, or elsewhere. A run without quality scores has one quality for all, and so one tier.

What the tiers hold, and what the run's phases have of each, follows from the facts of documents, 16 bytes each: the phases claim
their documents again, as they did when the run was mixed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..pipeline.engine.engine import Engine
from ..pipeline.engine.tasks import Task
from ..pipeline.engine.tree import add_up
from ..pipeline.mix.assign import claimed_copies
from ..pipeline.mix.budget import Cell, MixSettings, Phase, Weight
from ..pipeline.mix.plan import Planner
from ..pipeline.mix.select import NOBODY, CellBands, PhaseClaims, document_slices, pool_of, type_of
from ..pipeline.run.artifacts import Artifact, publish
from ..pipeline.run.file_sets import FileSet
from . import VERSION

REPLAYED = "recipe."
"""What steps that claim again for the run's phases begin with."""


@dataclass(frozen=True)
class Selection:
    """What a pool is of, and its place among its kind."""

    name: str
    weight: Weight
    """What it matches; its share says nothing."""


def whole_pools(phases: Sequence[Phase]) -> list[Weight]:
    """What the phases' weights select by domain, corpus and subset, the narrowest first: a cell belongs to the first that matches.

    Raises:
        ValueError: a weight is a group of pools that differ.
    """
    found: dict[str, Weight] = {}
    for phase in phases:
        for weight in phase.weights:
            if weight.within:
                raise ValueError(
                    f"{phase.name}: a tuning takes weights by domain, corpus or subset, not a group with `within`; write its "
                    "pools as weights of the phase"
                )
            own = whole(weight)
            found.setdefault(own.name, own)

    def narrow(weight: Weight) -> int:
        return sum(map(bool, (weight.domain, weight.corpus, weight.subset)))

    return sorted(found.values(), key=lambda w: (-narrow(w), w.name))


def whole(weight: Weight) -> Weight:
    """What a weight selects, of any quality."""
    return Weight(1, weight.domain, weight.corpus, weight.subset)


def find_cuts(
    phases: Sequence[Phase], pools: Sequence[Weight], asked: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Pool -> the shares of its domain's tokens, best first, at which it is divided.

    Args:
        asked: `tune.tiers`; a pool that it does not name is divided where the recipe's weights are.

    Raises:
        ValueError: it names what is no pool, or shares that do not rise from above 0 to below 1.
    """
    names = [p.name for p in pools]
    for name, shares in asked.items():
        if name not in names:
            raise ValueError(
                f"`tune.tiers` names {name}, which is no pool of the phases; choose from {', '.join(names)}"
            )
        if any(a >= b for a, b in itertools.pairwise([0.0, *shares, 1.0])):
            raise ValueError(f"`tune.tiers` of {name}: write shares that rise between 0 and 1, such as [30%, 70%]")
    found: dict[str, set[float]] = {name: set() for name in names}
    for weight in (w for phase in phases for w in phase.weights):
        found[whole(weight).name] |= {share for share in (weight.top, weight.below) if 0 < share < 1}
    return {name: tuple(asked.get(name, sorted(shares))) for name, shares in found.items()}


def divided(pools: Sequence[Weight], cuts: Mapping[str, Sequence[float]]) -> list[Selection]:
    """Pools and tiers, those of a pool together, best first."""
    found = []
    for pool in pools:
        edges = [0.0, *cuts.get(pool.name, ()), 1.0]
        for below, top in itertools.pairwise(edges):
            found.append(Selection(_named(pool.name, below, top), replace(pool, top=top, below=below)))
    return found


def _named(pool: str, below: float, top: float) -> str:
    if not below:
        return pool if top == 1 else f"{pool}, best {100 * top:g} %"
    return f"{pool}, last {100 * (1 - below):g} %" if top == 1 else f"{pool}, {100 * below:g} to {100 * top:g} %"


@dataclass(frozen=True)
class Held:
    """Tokens of pools. K pools, P phases."""

    there: np.ndarray
    """int64 [K]."""
    trained: np.ndarray
    """int64 [P, K], repeats included."""


def count_tiers(
    engine: Engine,
    mix: MixSettings,
    cells: tuple[Cell, ...],
    documents: Sequence[Artifact],
    pools: Sequence[Selection],
) -> Held:
    """What pools hold, and what the phases of a run have of them.

    Args:
        mix: the settings that the run was mixed with, groups with `by` expanded.
        documents: files of the training groups, of `type_of` these settings.
    """
    # Counting everybody once says nothing new, but that the files say what documents represent.
    repeat = ((2, 1),) if mix.by_cluster else ()
    as_phase = Phase("pools", 1, tuple(replace(p.weight, repeat=repeat) for p in pools), mix.phases[0].blocks)
    bands = Planner(engine, MixSettings((as_phase,), seed=mix.seed), cells, documents).bands()[0]
    planner = Planner(engine, mix, cells, documents, prefix=REPLAYED)
    claims = planner.plan().claims
    folder = engine.paths.mix("tiers")
    arguments = (mix, cells, claims, bands, len(pools))
    tasks = [
        Task(f"{i:05d}", tally_tiers, (part, *arguments, folder / f"{i:05d}")) for i, part in enumerate(planner.parts)
    ]
    found = [tally.file for tally in engine.run("tune.tiers", VERSION, tasks)]
    (summed,) = add_up(engine, "tune.tiers.sum", VERSION, found, add_tiers, engine.paths.mix("tiers.sum"), most=1)
    table = _read(summed.file, len(pools))
    return Held(table[0], table[1:])


@dataclass(frozen=True)
class TierTally:
    """Tokens by row and pool, int64 [1 + P, K]: all that there are, then what each phase takes."""

    file: Artifact


def tally_tiers(
    documents: FileSet,
    mix: MixSettings,
    cells: tuple[Cell, ...],
    claims: tuple[PhaseClaims, ...],
    bands: CellBands,
    pools: int,
    out: Path,
) -> TierTally:
    """Task: count over some `DOC` files."""
    table = np.zeros((1 + len(mix.phases), pools), np.int64)
    for docs in document_slices(documents, type_of(mix)):
        pool = pool_of(docs, bands)
        known = pool != NOBODY
        np.add.at(table[0], pool[known], docs["tokens"][known].astype(np.int64))
        for phase, _, copies in claimed_copies(docs, mix, cells, claims):
            of_copy = pool[copies.row]
            np.add.at(table[1 + phase], of_copy[of_copy != NOBODY], copies.take[of_copy != NOBODY])
    return _write(table, out)


def add_tiers(tallies: FileSet, out: Path) -> TierTally:
    """Task: the sum of such tables."""
    return _write(np.sum([np.fromfile(path, "<i8") for path in tallies], axis=0), out)


def _write(table: np.ndarray, out: Path) -> TierTally:
    with publish(out, rows=table.size) as file:
        file.write(np.ascontiguousarray(table, "<i8").tobytes())
    return TierTally(file.artifact)


def _read(path: Path, pools: int) -> np.ndarray:
    return np.fromfile(path, "<i8").reshape(-1, pools)

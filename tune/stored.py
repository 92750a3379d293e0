"""What the folder of a tuning holds, for those that show or apply it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..pipeline.mix.budget import Weight
from ..pipeline.run.artifacts import read_json
from ..storage.store import shown
from .placement import FLAT, FOUND, Curriculum
from .verdict import ADOPT, NATURAL

PARTS = ("tune", "fit", "choice", "verdict", "placement")


@dataclass(frozen=True)
class TunedPool:
    """A pool of a tuning."""

    name: str
    weight: Weight
    """What it matches; its share says nothing."""
    tokens: int
    """That there are."""


@dataclass(frozen=True)
class Advised:
    """What a tuning advises."""

    pools: tuple[TunedPool, ...]
    table: np.ndarray
    """float64 [P, K]: the share of all trained tokens that a phase has of a pool."""


class PhasesTooSmall(ValueError):
    """The phases that the recipe gives a pool cannot hold as much of it as was found."""

    def __init__(self, line: str, pool: str, phases: tuple[str, ...]) -> None:
        self.pool, self.phases = pool, phases
        super().__init__(line)


@dataclass(frozen=True)
class StoredTuning:
    """The JSON files of a tuning; those that it has not come to are None."""

    folder: Path
    tune: dict[str, Any]
    fit: dict[str, Any] | None
    choice: dict[str, Any] | None
    verdict: dict[str, Any] | None
    placement: dict[str, Any] | None
    """None also where no order was searched."""

    def as_json(self) -> dict[str, Any]:
        """All of it, by the name of the file."""
        return {name: getattr(self, name) for name in PARTS}

    def validated(self, force: bool = False) -> Advised:
        """Weights and their placement, as the verdict advises. Where no order was searched, it is the recipe's.

        Args:
            force: the chosen weights, whatever the verdict.

        Raises:
            ValueError: the verdict is to keep the recipe, or there is none yet.
        """
        shares = self._shares(force)
        placed = self.placement
        if placed and placed["verdict"] == FLAT:
            return Advised(self.pools, self.curriculum(shares).flat)
        # With --force, the weights may be others than those whose placement was validated.
        if placed and np.allclose(placed["weights"], list(shares.values()), atol=1e-9):
            return Advised(self.pools, np.array(placed["tables"][placed["verdict"]]))
        return Advised(self.pools, self._in_order(shares))

    def _in_order(self, shares: Mapping[str, float]) -> np.ndarray:
        curriculum = self.curriculum(shares)
        try:
            return curriculum.in_order()
        except ValueError as error:
            phases = {
                pool.name: tuple(name for name, n in zip(self.tune["phases"], column, strict=True) if n)
                for pool, column in zip(self.pools, curriculum.recipe.T, strict=True)
            }
            raise PhasesTooSmall(str(error), *min(phases.items(), key=lambda item: len(item[1]))) from None

    @property
    def pools(self) -> tuple[TunedPool, ...]:
        if any("selects" not in p for p in self.tune["pools"]):
            raise ValueError(
                f"{shown(self.folder)} was tuned by an earlier fox1, which did not store what its pools are; run `fox1 tune` again"
            )
        return tuple(TunedPool(p["name"], Weight(1, **p["selects"]), p["tokens"]) for p in self.tune["pools"])

    def curriculum(self, shares: Mapping[str, float]) -> Curriculum:
        """The run's phases with other sums of pools."""
        tokens = np.array([p["by_phase"] for p in self.tune["pools"]], np.float64).T
        table = tokens / tokens.sum()
        return Curriculum(table.sum(axis=1), np.array([shares[p["name"]] for p in self.tune["pools"]]), table)

    def _shares(self, force: bool) -> dict[str, float]:
        """Pool -> share of the trained tokens."""
        if self.choice is None or (self.verdict is None and not force):
            raise ValueError(f"{shown(self.folder)} has no verdict yet; run `fox1 tune` again until it ends")
        said = self.verdict["verdict"] if self.verdict else ""
        if not force and said not in (ADOPT, NATURAL):
            if (placed := self.placement) and placed["verdict"] == FOUND and placed["better_than_recipe"]:
                return dict(zip(self.choice["pools"], placed["weights"], strict=True))
            line = self.verdict["line"] if self.verdict else ""
            raise ValueError(f"{line}. Nothing is written; add --force to take the chosen weights all the same")
        shares = self.choice["natural" if said == NATURAL and not force else "weights"]
        return dict(zip(self.choice["pools"], shares, strict=True))


def open_tuning(folder: Path) -> StoredTuning:
    """The files of a tuning.

    Raises:
        ValueError: there is none, or a file is damaged.
    """
    if not (folder / "tune.json").exists():
        raise ValueError(f"{shown(folder)} holds no tuning; `fox1 tune RUN --out {shown(folder)}` makes one")
    found: Mapping[str, dict[str, Any] | None] = {
        name: read_json(path) if (path := folder / f"{name}.json").exists() else None for name in PARTS
    }
    tune = found["tune"]
    assert tune is not None
    return StoredTuning(folder, tune, *(found[name] for name in PARTS[1:]))

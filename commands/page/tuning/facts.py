"""The stored JSON of a tuning as what a page shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....storage.store import shown
from ....tune.stored import StoredTuning
from ....tune.verdict import ADOPT

WAITING = "no verdict yet: run `fox1 tune` again until it ends"


@dataclass(frozen=True)
class PoolRow:
    """A pool and its shares of all trained tokens."""

    name: str
    tokens: int
    natural: float
    recipe: float
    found: float | None
    cap: float | None
    """None where it may have all."""
    note: str


@dataclass(frozen=True)
class PhaseTable:
    """Weights by phase, each row of shares sums to 1: as the run had them, and as `tune apply` writes them."""

    phases: tuple[str, ...]
    before: np.ndarray
    """float64 [P, K]."""
    after: np.ndarray | None
    """None where the phases cannot hold what was found."""


@dataclass(frozen=True)
class Interval:
    """A line of a forest plot."""

    label: str
    middle: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that is shown."""

    name: str
    """Of the tuning."""
    line: str
    order_line: str
    adopted: bool
    tune: dict[str, Any]
    pools: tuple[PoolRow, ...]
    by_phase: PhaseTable | None
    quality: list[dict[str, Any]]
    scatter: tuple[np.ndarray, np.ndarray] | None
    """The objective of each training: as measured, and as predicted out of fold."""
    response: dict[str, list[list[float]]]
    validation: tuple[Interval, ...]
    predicted: tuple[Interval, ...]
    """Of the chosen mixture against others, as differences: negative is better."""
    targets: tuple[tuple[str, tuple[float, ...]], ...]
    """Target and its mean for each arm."""
    arms: tuple[str, ...]
    placement: dict[str, Any] | None
    placement_validation: tuple[Interval, ...]

    @property
    def response_range(self) -> tuple[float, float]:
        """Of the objective, for all curves: a curve that rises by much more than the others leaves the picture."""
        values = np.array([value for curve in self.response.values() for _, value in curve])
        low = float(values.min())
        return low, max(float(np.quantile(values, 0.9)), low + 1e-3)


def facts_of(tuning: StoredTuning) -> Facts:
    """The facts of a tuning, as far as it has come."""
    fit, choice, verdict, placement = tuning.fit, tuning.choice, tuning.verdict, tuning.placement
    return Facts(
        shown(tuning.folder),
        verdict["line"] if verdict else WAITING,
        placement["line"] if placement else "",
        bool(verdict and verdict["verdict"] == ADOPT),
        tuning.tune,
        _pools(tuning),
        _by_phase(tuning) if choice else None,
        fit["quality"] if fit else [],
        _scatter(fit) if fit else None,
        fit["response"] if fit else {},
        _intervals(verdict["compared"]) if verdict else (),
        tuple(Interval(f"found against {g['against']}", -g["gain"], -g["high"], -g["low"]) for g in choice["gains"])
        if choice
        else (),
        tuple(
            (name, tuple(float(np.mean([seed[t] for seed in seeds])) for seeds in verdict["arms"].values()))
            for t, name in enumerate(verdict["targets"])
        )
        if verdict
        else (),
        tuple(verdict["arms"]) if verdict else (),
        placement,
        _intervals(placement["compared"]) if placement else (),
    )


def _pools(tuning: StoredTuning) -> tuple[PoolRow, ...]:
    choice = tuning.choice
    found = dict(zip(choice["pools"], choice["weights"], strict=True)) if choice else {}
    rows = []
    for p in tuning.tune["pools"]:
        note = ""
        if choice:
            note = (
                "at its cap"
                if p["name"] in choice["at_cap"]
                else "at its floor"
                if p["name"] in choice["at_floor"]
                else ""
            )
        cap = p["cap"] if p["cap"] < 1 else None
        rows.append(PoolRow(p["name"], p["tokens"], p["natural"], p["recipe"], found.get(p["name"]), cap, note))
    return tuple(rows)


def _by_phase(tuning: StoredTuning) -> PhaseTable | None:
    tokens = np.array([p["by_phase"] for p in tuning.tune["pools"]], np.float64).T
    if len(tokens) < 2:
        return None
    try:
        table = tuning.validated(force=True).table
        after = table / table.sum(axis=1, keepdims=True)
    except ValueError:
        after = None
    return PhaseTable(tuple(tuning.tune["phases"]), tokens / tokens.sum(axis=1, keepdims=True), after)


def _scatter(fit: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    importance = np.array(fit["importance"])
    return np.array(fit["losses"]) @ importance, np.array(fit["out_of_fold"]) @ importance


def _intervals(compared: list[dict[str, Any]]) -> tuple[Interval, ...]:
    return tuple(
        Interval(f"{c['arm']} against {c['against']}", c["difference"], c["low"], c["high"], tuple(c["seeds"]))
        for c in compared
    )

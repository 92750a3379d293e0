"""Where in the curriculum each pool lies: placements of one mixture over the phases, all with the same sums.

A placement is a table of shares, [P, K]: its rows sum to the phases' shares of all tokens, its columns to the mixture, so that
two placements differ in order alone. Tilts, one a pool, make one from the flat placement, in which all phases have the same
weights: a pool's tokens in phase p are multiplied by ``exp(tilt * z)``, z being the middle of the phase in time, from -1 to 1, and
the table is scaled back to its sums. What a fit sees of a placement is how late each pool lies, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .choose import AROUND, INTERVAL, NEAR, REPLICATES, STEPS
from .design import Candidates, choose_informative
from .fit import Fit
from .threads import one_thread
from .verdict import Compared, Measured, broken_promises, compare, said

FLAT, RECIPE, FOUND = "flat", "as in the recipe", "found"
"""The same weights in all phases; what the recipe's own order makes of the mixture; what the search found."""
MOST = 2.0
"""Largest tilt: in the middle of the last phase a pool may have about seven times its tokens of the middle of the training."""
STRENGTHS = (0.5, 1.0, MOST)
"""Strata of the design: largest tilts."""
CANDIDATES = 1024
ROUNDS = 2000
CLOSE = 1e-4
"""Share of all tokens that a pool's sum may be off."""


def placed(phases: np.ndarray, pools: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Tokens of every (phase, pool) with the sums of phases [P] and pools [K], in the proportions of `before` otherwise (iterative
    proportional fitting, Deming and Stephan 1940); both sums are the same.

    Args:
        before: [..., P, K]: one table or several.

    Raises:
        ValueError: no table that is zero where `before` is has these sums.
    """
    table = before.astype(np.float64)
    for _ in range(ROUNDS):
        table *= pools / np.maximum(table.sum(axis=-2, keepdims=True), 1e-300)
        table *= phases[:, None] / np.maximum(table.sum(axis=-1, keepdims=True), 1e-300)
        if np.abs(table.sum(axis=-2) - pools).max() <= CLOSE * pools.sum():
            return table
    raise ValueError("the phases that have a pool cannot hold as much of it as the tuning found")


@dataclass(frozen=True)
class Curriculum:
    """Phases, a mixture, and how the recipe places it. P phases, K pools; shares of all tokens."""

    phases: np.ndarray
    """float64 [P]."""
    weights: np.ndarray
    """float64 [K]."""
    recipe: np.ndarray
    """float64 [P, K]: the recipe's own table, whatever its sums of pools."""

    @property
    def middles(self) -> np.ndarray:
        """float64 [P]: of the phases in time, 0 to 1."""
        return np.asarray(self.phases.cumsum() - self.phases / 2)

    @property
    def flat(self) -> np.ndarray:
        """float64 [P, K]."""
        return self.phases[:, None] * self.weights

    def in_order(self) -> np.ndarray:
        """The mixture in the recipe's order, [P, K].

        Raises:
            ValueError: the phases that have a pool cannot hold as much of it.
        """
        return placed(self.phases, self.weights, self.recipe)

    def as_recipe(self) -> np.ndarray:
        """The same, but flat where that cannot be."""
        try:
            return self.in_order()
        except ValueError:
            return self.flat

    def tilted(self, tilts: np.ndarray) -> np.ndarray:
        """Placements [m, P, K] of tilts [m, K]."""
        z = 2 * self.middles - 1
        return placed(self.phases, self.weights, self.flat * np.exp(z[:, None] * tilts[:, None, :]))

    def lateness(self, tables: np.ndarray) -> np.ndarray:
        """How late each pool lies, float64 [m, K], in placements [m, P, K]: the mean time of its tokens, 0 to 1."""
        time = np.einsum("p,mpk->mk", self.middles, tables)
        return np.asarray(np.round(time / np.maximum(tables.sum(axis=1), 1e-12), 9))


@dataclass(frozen=True)
class Placement:
    """One training of the design."""

    kind: str
    """`FLAT`, `RECIPE` or `candidate`."""
    table: np.ndarray
    """float64 [P, K]."""


def design_placements(of: Curriculum, repeats: int, count: int, seed: int) -> list[Placement]:
    """Placements that are tried: flat and the recipe's, repeated, then candidates that tell most (as in design.py)."""
    rng = np.random.default_rng([seed, 7])
    stratum = np.arange(CANDIDATES) % len(STRENGTHS)
    tilts = rng.uniform(-1, 1, (CANDIDATES, len(of.weights))) * np.array(STRENGTHS)[stratum, None]
    tables = of.tilted(tilts)
    anchors = [Placement(FLAT, of.flat)] * repeats + [Placement(RECIPE, of.as_recipe())] * repeats
    before = of.lateness(np.stack([a.table for a in anchors]))
    chosen = choose_informative(Candidates(of.lateness(tables), stratum), before, count - len(anchors))
    return anchors + [Placement("candidate", tables[i]) for i in chosen]


@dataclass(frozen=True)
class Predicted:
    """The placement that is predicted best."""

    table: np.ndarray
    """float64 [P, K]; flat where none is predicted to be better."""
    gain: float
    """Bits per byte of the objective against the flat one; positive is better."""
    low: float
    high: float
    """95 % interval of what a validation should find."""


def choose_placement(fitted: Fit, of: Curriculum, seed: int) -> Predicted:
    """Search for the placement with the lowest prediction plus one standard deviation, over bootstrap fits, of its difference to
    the flat one."""
    importance = fitted.observed.importance
    with one_thread():
        replicates = [fitted.resampled(seed * 1000 + 500 + b) for b in range(REPLICATES)]
        flat = of.lateness(of.flat[None])

        def costs(tables: np.ndarray) -> np.ndarray:
            late = of.lateness(tables)
            apart = np.stack([(r.predict(late) - r.predict(flat)) @ importance for r in replicates])
            return np.asarray(fitted.predict(late) @ importance + apart.std(axis=0))

        rng = np.random.default_rng([seed, 8])
        tilts = np.concatenate([np.zeros((1, len(of.weights))), rng.uniform(-MOST, MOST, (256, len(of.weights)))])
        found = costs(of.tilted(tilts))
        for step in STEPS[::2]:
            best = np.argsort(found, kind="stable")[:AROUND]
            tilts, found = tilts[best], found[best]
            near = np.repeat(tilts, NEAR // 4, axis=0)
            near = np.clip(near + 2 * step * rng.standard_normal(near.shape), -MOST, MOST)
            tilts, found = np.concatenate([tilts, near]), np.concatenate([found, costs(of.tilted(near))])
        table = of.tilted(tilts[[int(np.argmin(found))]])[0]
        at_flat = costs(of.flat[None])[0]
        if found.min() >= at_flat:
            return Predicted(of.flat, 0.0, 0.0, 0.0)
        late = of.lateness(table[None])
        gain = float((fitted.predict(flat) - fitted.predict(late))[0] @ importance)
        apart = [float((r.predict(flat) - r.predict(late))[0] @ importance) for r in replicates]
        half = INTERVAL * float(np.hypot(np.std(apart), fitted.quality[-1].rmse))
        return Predicted(table, gain, gain - half, gain + half)


@dataclass(frozen=True)
class OrderVerdict:
    """How the phases should have the mixture."""

    word: str
    """`FLAT`, `RECIPE` or `FOUND`."""
    line: str
    compared: tuple[Compared, ...]
    better_than_recipe: bool
    """Whether the placement that was found is better than the recipe's, its interval excluding 0."""


PAIRS = ((RECIPE, FLAT), (FOUND, FLAT), (FOUND, RECIPE))
NOT_TRIED = "no placement is predicted to be better than the same weights in all phases"


def judge_placement(measured: Measured, never_worse: Mapping[str, float], seed: int) -> OrderVerdict:
    """Whether a placement is better than the flat one. Two ways lead away from it, which share the wrong decisions.

    Args:
        measured: of arms `FLAT`, `RECIPE` and `FOUND`; of the last two one may be missing, `RECIPE` where it is flat itself.
        never_worse: target -> bits per byte that it may lose against the flat placement.
    """
    pairs = [(arm, against) for arm, against in PAIRS if arm in measured.arms and against in measured.arms]
    compared = {(c.arm, c.against): c for c in compare(measured, pairs, seed, decisions=2)}
    recipe, found = compared.get((RECIPE, FLAT)), compared.get((FOUND, FLAT))
    everything = tuple(compared.values())
    broken = broken_promises(measured, FOUND, FLAT, never_worse) if found else ()
    if found and found.better and (not recipe or found.difference <= recipe.difference) and not broken:
        line = f"order matters: the placement that was found is {said(found)} than the same weights in all phases"
        return OrderVerdict(FOUND, line, everything, compared.get((FOUND, RECIPE), found).better)
    if recipe and recipe.better:
        line = f"order matters: the recipe's own is {said(recipe)} than the same weights in all phases"
        return OrderVerdict(RECIPE, line, everything, False)
    if found is None:
        return OrderVerdict(FLAT, f"no order is shown to matter: {NOT_TRIED}", everything, False)
    why = f"; {', '.join(broken)} lost more than promised" if broken else ""
    line = (
        f"no order is shown to matter: the best placement is {said(found)} than the same weights in all phases, and an effect of "
        f"{found.smallest:.4f} would have been seen{why}"
    )
    return OrderVerdict(FLAT, line, everything, False)


def as_json(
    verdict: OrderVerdict, of: Curriculum, tables: Mapping[str, np.ndarray], predicted: Predicted, names: Sequence[str]
) -> dict[str, Any]:
    """What is kept of a placement.

    Args:
        tables: arm -> its placement.
        names: of the phases.
    """
    return {
        "verdict": verdict.word,
        "line": verdict.line,
        "better_than_recipe": verdict.better_than_recipe,
        "weights": of.weights.tolist(),
        "phases": list(names),
        "phase_shares": of.phases.tolist(),
        "tables": {arm: table.tolist() for arm, table in tables.items()},
        "lateness": {arm: of.lateness(table[None])[0].tolist() for arm, table in tables.items()},
        "predicted": {"gain": predicted.gain, "low": predicted.low, "high": predicted.high},
        "compared": [vars(c) | {"seeds": list(c.seeds)} for c in verdict.compared],
    }

"""The mixture with the lowest prediction that one may have.

What is minimised, over mixtures within floors and caps:

    predicted objective
    + one standard deviation, over bootstrap fits, of its difference to the recipe's mixture
    + `kl` times the Kullback-Leibler distance from natural weights
    + ten times what a target loses against natural weights beyond its promise (`never_worse`)

The minimum of a fitted surface lies where it errs downwards; the second term takes back what a mixture gains by that. No
gradient is needed: candidates from everywhere, then ever closer ones around the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .design import Space, draw, rounded, within
from .fit import Fit
from .threads import one_thread

REPLICATES = 12
"""Bootstrap fits."""
AROUND = 16
"""Mixtures that a round of the search goes on from."""
NEAR = 32
"""Neighbours of each."""
STEPS = tuple(0.6 * 0.6**i for i in range(10))
"""Standard deviation of a neighbour's weights, in their logarithm, round by round."""
PENALTY = 10.0
INTERVAL = 1.96


@dataclass(frozen=True)
class Gain:
    """By how much the chosen mixture is predicted to be better than another."""

    against: str
    gain: float
    """Bits per byte of the objective; positive is better."""
    low: float
    high: float
    """95 % interval of what a validation should find: bootstrap and out-of-fold error."""


@dataclass(frozen=True)
class Choice:
    """The mixture that is proposed."""

    weights: tuple[float, ...]
    """By pool; they sum to 1."""
    predicted: tuple[float, ...]
    """Bits per byte by target."""
    objective: float
    gains: tuple[Gain, ...]
    """Against the recipe's and natural weights."""
    at_cap: tuple[str, ...]
    """Pools that would have more if there were more of them."""
    at_floor: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """What a choice must keep to besides floors and caps."""

    kl: float
    """Bits per byte that a nat of distance from natural weights must earn."""
    never_worse: Mapping[str, float]
    """Target -> bits per byte that it may lose against natural weights."""


def distance(weights: np.ndarray, natural: np.ndarray) -> np.ndarray:
    """Kullback-Leibler distance of mixtures [m, K] from natural weights [K], in nats, [m]."""
    ratio = np.log(np.maximum(weights, 1e-12) / np.maximum(natural, 1e-12))
    return np.asarray((weights * ratio).sum(axis=1))


class _Judge:
    """What a mixture costs."""

    def __init__(self, fitted: Fit, space: Space, bounds: Bounds, replicates: Sequence[Fit]) -> None:
        targets, self._importance = list(fitted.observed.targets), fitted.observed.importance
        if unknown := sorted(set(bounds.never_worse) - set(targets)):
            raise ValueError(
                f"`tune.objective.never_worse` names {unknown[0]}, which is not measured; choose from {', '.join(targets)}"
            )
        self._fitted, self._replicates, self._space, self._kl = fitted, replicates, space, bounds.kl
        self._kept = np.array([targets.index(name) for name in bounds.never_worse], np.int64)
        at_natural = fitted.predict(space.natural[None])[0]
        self._most = at_natural[self._kept] + np.array(list(bounds.never_worse.values()))
        self._at_recipe = self.sampled(space.recipe[None])

    def sampled(self, weights: np.ndarray) -> np.ndarray:
        """Objective by replicate, [B, m]."""
        return np.stack([r.predict(weights) @ self._importance for r in self._replicates])

    def costs(self, weights: np.ndarray) -> np.ndarray:
        """What is minimised, [m]."""
        predicted = self._fitted.predict(weights)
        risk = (self.sampled(weights) - self._at_recipe).std(axis=0)
        broken = np.maximum(predicted[:, self._kept] - self._most, 0).sum(axis=1)
        far = self._kl * distance(weights, self._space.natural)
        return np.asarray(predicted @ self._importance + risk + far + PENALTY * broken)


def choose(fitted: Fit, space: Space, bounds: Bounds, seed: int) -> Choice:
    """Search for the best mixture.

    Raises:
        ValueError: a promise names no target.
    """
    with one_thread():
        replicates = [fitted.resampled(seed * 1000 + b) for b in range(REPLICATES)]
        judge = _Judge(fitted, space, bounds, replicates)
        tried = within(fitted.observed.weights, space.floors, space.caps)
        named = np.stack([space.recipe, space.natural, space.uniform])
        found = np.concatenate([named, tried, draw(space, seed + 1, 1024).weights])
        costs = judge.costs(found)
        rng = np.random.default_rng([seed, 4])
        for step in STEPS:
            best = np.argsort(costs, kind="stable")[:AROUND]
            found, costs = found[best], costs[best]
            moved = np.repeat(found, NEAR, axis=0) * np.exp(
                step * rng.standard_normal((AROUND * NEAR, len(space.pools)))
            )
            near = within(moved, space.floors, space.caps)
            found, costs = np.concatenate([found, near]), np.concatenate([costs, judge.costs(near)])
        weights = rounded(found[[int(np.argmin(costs))]])[0]
        return _described(weights, fitted, space, judge)


def _described(weights: np.ndarray, fitted: Fit, space: Space, judge: _Judge) -> Choice:
    importance, error = fitted.observed.importance, fitted.quality[-1].best_rmse
    predicted = fitted.predict(weights[None])[0]
    gains = []
    for name, other in (("recipe", space.recipe), ("natural", space.natural)):
        gain = float((fitted.predict(other[None])[0] - predicted) @ importance)
        apart = (judge.sampled(other[None]) - judge.sampled(weights[None]))[:, 0]
        half = INTERVAL * float(np.hypot(apart.std(), error))
        gains.append(Gain(name, gain, gain - half, gain + half))
    near = 1e-4
    return Choice(
        tuple(weights.tolist()),
        tuple(predicted.tolist()),
        float(predicted @ importance),
        tuple(gains),
        tuple(p for p, w, cap in zip(space.pools, weights, space.caps, strict=True) if cap < 1 and w > cap - near),
        tuple(p for p, w, low in zip(space.pools, weights, space.floors, strict=True) if w < low + near),
    )


def response(fitted: Fit, space: Space, around: np.ndarray, points: int = 9) -> dict[str, list[list[float]]]:
    """Pool -> [share, predicted objective] along that pool's share, the others in their proportions around a mixture [K]."""
    curves = {}
    with one_thread():
        for k, pool in enumerate(space.pools):
            shares = np.linspace(space.floors[k], min(space.caps[k], 0.95), points)
            rest = np.delete(np.arange(len(space.pools)), k)
            lines = np.empty((points, len(space.pools)))
            lines[:, k] = shares
            lines[:, rest] = (1 - shares)[:, None] * around[rest] / max(float(around[rest].sum()), 1e-12)
            objective = fitted.predict(lines) @ fitted.observed.importance
            curves[pool] = [[float(s), float(o)] for s, o in zip(shares, objective, strict=True)]
    return curves


def as_json(choice: Choice, space: Space, targets: Sequence[str]) -> dict[str, Any]:
    """What is kept of a choice, by the names of pools and targets."""
    return {
        "pools": list(space.pools),
        "weights": list(choice.weights),
        "recipe": space.recipe.tolist(),
        "natural": space.natural.tolist(),
        "floors": space.floors.tolist(),
        "caps": space.caps.tolist(),
        "predicted": dict(zip(targets, choice.predicted, strict=True)),
        "objective": choice.objective,
        "gains": [vars(g) for g in choice.gains],
        "at_cap": list(choice.at_cap),
        "at_floor": list(choice.at_floor),
    }

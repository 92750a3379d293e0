"""From the losses of some mixtures to a prediction of any: for every target, kinds of regression, combined by how well each
predicts what it has not seen; and, by nested cross-validation, how well the combination does.

Repeats of a mixture are in the same fold: otherwise a fold would be asked for what it was told. All runs on one thread, and
nothing is drawn but from the seed: the same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .regressors import Fitted, Regressor, available
from .threads import one_thread

OUTER, INNER = 5, 4
"""Folds: of the whole, and of what each of them leaves."""
SHARPNESS = 2.0
"""Shares of the kinds go by their mean squared error to the power of minus this."""
OVERALL = "objective"


@dataclass(frozen=True)
class Observed:
    """Trainings and their losses, in bits per byte."""

    weights: np.ndarray
    """float64 [n, K]."""
    losses: np.ndarray
    """float64 [n, T]."""
    targets: tuple[str, ...]
    """T names: domains and benchmarks."""
    importance: np.ndarray
    """float64 [T], sums to 1: the objective is the losses times this."""
    judged: int = 0
    """Rows, from the first, that the quality of a fit is taken over; 0: all. Of mixtures that lie close together, noise would
    decide."""

    @property
    def objective(self) -> np.ndarray:
        """float64 [n]."""
        return np.asarray(self.losses @ self.importance)

    def mixtures(self) -> np.ndarray:
        """int64 [n]: which rows are of the same mixture, by the order in which they first come."""
        known: dict[bytes, int] = {}
        return np.array([known.setdefault(row.tobytes(), len(known)) for row in self.weights])


@dataclass(frozen=True)
class Quality:
    """How well a target is predicted, out of fold and over distinct mixtures."""

    target: str
    spearman: float
    best_third: float
    """Spearman among the third of the mixtures with the lowest losses."""
    regret: float
    """Loss of the mixture that is predicted best, less that of the best one."""
    rmse: float
    best_rmse: float
    """Root mean squared error among the best third, where a choice is made."""
    noise: float
    """Standard deviation of repeats; NaN where there are none."""
    spread: float
    """Standard deviation over mixtures."""
    shares: tuple[tuple[str, float], ...]
    """Kind of regression and its share in the combination; of the objective, weighed over targets."""


@dataclass(frozen=True)
class Combined:
    """The prediction of one target."""

    members: tuple[Fitted, ...]
    shares: np.ndarray

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """float64 [m], of mixtures [m, K]."""
        parts = [s * m.predict(weights) for s, m in zip(self.shares, self.members, strict=True) if s > 0]
        return np.asarray(np.sum(parts, axis=0))

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Combined:
        """The same kinds in the same shares, on other rows."""
        members = tuple(
            m.again(weights, losses) if s > 0 else m for s, m in zip(self.shares, self.members, strict=True)
        )
        return Combined(members, self.shares)


@dataclass(frozen=True)
class Fit:
    """Predictions of all targets."""

    observed: Observed
    targets: tuple[Combined, ...]
    out_of_fold: np.ndarray
    """float64 [n, T]: of every row by what was fitted without its mixture."""
    quality: tuple[Quality, ...]
    """Of every target, then of the objective."""

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """float64 [m, T], of mixtures [m, K]."""
        return np.stack([target.predict(weights) for target in self.targets], axis=1)

    def resampled(self, seed: int) -> Fit:
        """The same on mixtures drawn with replacement (bootstrap)."""
        o = self.observed
        which = o.mixtures()
        groups = [np.flatnonzero(which == g) for g in range(int(which.max()) + 1)]
        drawn = np.random.default_rng([seed, 3]).integers(0, len(groups), len(groups))
        rows = np.concatenate([groups[g] for g in drawn])
        with one_thread():
            targets = tuple(t.again(o.weights[rows], o.losses[rows, j]) for j, t in enumerate(self.targets))
        return Fit(o, targets, self.out_of_fold, self.quality)


def folds(mixtures: np.ndarray, count: int, seed: int) -> np.ndarray:
    """int64 [n]: the fold of every row; of about equal numbers of mixtures."""
    distinct = np.unique(mixtures)
    order = np.random.default_rng([seed, 2]).permutation(len(distinct))
    of_mixture = dict(zip(distinct[order].tolist(), (np.arange(len(order)) % count).tolist(), strict=True))
    return np.array([of_mixture[m] for m in mixtures.tolist()])


def fit(observed: Observed, seed: int, kinds: Mapping[str, Regressor] | None = None) -> Fit:
    """Fit every target, and judge it by nested cross-validation.

    Args:
        kinds: of regression, by name; None: all that this machine has.

    Raises:
        ValueError: there are too few mixtures to cross-validate.
    """
    chosen = dict(available() if kinds is None else kinds)
    mixtures = observed.mixtures()
    if len(np.unique(mixtures)) < 2 * OUTER:
        raise ValueError(f"a fit needs {2 * OUTER} mixtures at least, not {len(np.unique(mixtures))}")
    with one_thread():
        outer = folds(mixtures, OUTER, seed)
        targets, predicted = [], np.empty_like(observed.losses)
        for j in range(len(observed.targets)):
            combined, predicted[:, j] = _fit_target(observed.weights, observed.losses[:, j], outer, mixtures, chosen)
            targets.append(combined)
        first = slice(observed.judged or None)
        quality = [
            _quality(
                name, observed.losses[first, j], predicted[first, j], mixtures[first], tuple(chosen), targets[j].shares
            )
            for j, name in enumerate(observed.targets)
        ]
        shares = np.average([t.shares for t in targets], axis=0, weights=observed.importance)
        overall = predicted @ observed.importance
        quality.append(
            _quality(OVERALL, observed.objective[first], overall[first], mixtures[first], tuple(chosen), shares)
        )
    return Fit(observed, tuple(targets), predicted, tuple(quality))


def _fit_target(
    weights: np.ndarray, losses: np.ndarray, outer: np.ndarray, mixtures: np.ndarray, kinds: Mapping[str, Regressor]
) -> tuple[Combined, np.ndarray]:
    """(the combination, fitted to all rows; out-of-fold predictions of combinations that were made without a fold)."""
    alone = np.empty((len(kinds), len(losses)))
    nested = np.empty(len(losses))
    for fold in range(OUTER):
        seen, asked = np.flatnonzero(outer != fold), np.flatnonzero(outer == fold)
        members = [regressor(weights[seen], losses[seen]) for regressor in kinds.values()]
        alone[:, asked] = [m.predict(weights[asked]) for m in members]
        inner = folds(mixtures[seen], INNER, fold)
        within = np.empty((len(kinds), len(seen)))
        for part in range(INNER):
            known, held = seen[inner != part], inner == part
            # With hyperparameters of all that is seen: they cost most of a fit, and only shares depend on it.
            for k, member in enumerate(members):
                within[k, held] = member.again(weights[known], losses[known]).predict(weights[seen[held]])
        nested[asked] = _shares(within, losses[seen]) @ alone[:, asked]
    whole = tuple(regressor(weights, losses) for regressor in kinds.values())
    return Combined(whole, _shares(alone, losses)), nested


def _shares(predicted: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The share of every kind [R], from what it predicted [R, n] of losses [n] that it had not seen."""
    errors = ((predicted - losses) ** 2).mean(axis=1)
    # A constant is predicted without an error by all.
    sharp = (errors.min() + 1e-18) / (errors + 1e-18)
    sharp = sharp**SHARPNESS
    return np.asarray(sharp / sharp.sum())


def noise_of(losses: np.ndarray, mixtures: np.ndarray) -> float:
    """Standard deviation of repeats of the same mixture, over all that are repeated; NaN: none is."""
    squares, free = 0.0, 0
    for g in np.unique(mixtures):
        own = losses[mixtures == g]
        squares += float(((own - own.mean()) ** 2).sum())
        free += len(own) - 1
    return float(np.sqrt(squares / free)) if free else float("nan")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 0 where one of the two is constant."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size else 0.0


def _quality(
    target: str,
    losses: np.ndarray,
    predicted: np.ndarray,
    mixtures: np.ndarray,
    names: Sequence[str],
    shares: np.ndarray,
) -> Quality:
    distinct = np.unique(mixtures)
    true = np.array([losses[mixtures == g].mean() for g in distinct])
    said = np.array([predicted[mixtures == g].mean() for g in distinct])
    best = np.argsort(true, kind="stable")[: max(3, len(true) // 3)]
    return Quality(
        target,
        spearman(true, said),
        spearman(true[best], said[best]),
        float(true[np.argmin(said)] - true.min()),
        float(np.sqrt(((true - said) ** 2).mean())),
        float(np.sqrt(((true - said)[best] ** 2).mean())),
        noise_of(losses, mixtures),
        float(true.std()),
        tuple((name, float(share)) for name, share in zip(names, shares, strict=True)),
    )


def as_json(fitted: Fit) -> dict[str, Any]:
    """What is kept of a fit: quality, and every row's losses beside what was predicted of them out of fold."""
    return {
        "quality": [vars(q) | {"shares": dict(q.shares)} for q in fitted.quality],
        "targets": list(fitted.observed.targets),
        "importance": fitted.observed.importance.tolist(),
        "losses": fitted.observed.losses.tolist(),
        "out_of_fold": fitted.out_of_fold.tolist(),
    }

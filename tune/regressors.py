"""From mixtures to a loss: four kinds of regression, of which each is right somewhere.

gp          Gaussian process on sqrt w: smooth, no assumed form
loglinear   c + exp(b + t w): the law of data mixing (Ye et al. 2025, arXiv 2403.16952), which Olmix uses
ridge       linear in (sqrt w, w): the baseline
lightgbm    boosted trees, as in RegMix; only where the package is installed
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from .design import features


class Fitted(Protocol):
    """A regression of one target."""

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """float64 [m], of mixtures [m, K]."""
        ...

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Fitted:
        """The same with its hyperparameters, on other rows: for the bootstrap."""
        ...


Regressor = Callable[[np.ndarray, np.ndarray], Fitted]
"""From mixtures [n, K] and losses [n]."""


@dataclass(frozen=True)
class _GaussianProcess:
    model: Any

    def predict(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict(np.sqrt(weights)))

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Fitted:
        from sklearn.gaussian_process import GaussianProcessRegressor

        model = GaussianProcessRegressor(self.model.kernel_, optimizer=None, normalize_y=True)
        return _GaussianProcess(model.fit(np.sqrt(weights), losses))


def gaussian_process(weights: np.ndarray, losses: np.ndarray) -> Fitted:
    """A Matern kernel (nu 5/2) on sqrt w with noise; its hyperparameters by marginal likelihood."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(1.0, (5e-2, 5e1), nu=2.5) + WhiteKernel(0.1, (1e-5, 1e1))
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        # A hyperparameter at its bound says that the data does not tell it, which the out-of-fold errors do better.
        warnings.simplefilter("ignore")
        return _GaussianProcess(model.fit(np.sqrt(weights), losses))


@dataclass(frozen=True)
class _LogLinear:
    parameters: np.ndarray
    """c, b and t [K]."""
    shift: float
    scale: float
    """Of the losses: parameters are of (loss - shift) / scale."""

    def predict(self, weights: np.ndarray) -> np.ndarray:
        c, b = self.parameters[:2]
        return np.asarray(self.shift + self.scale * (c + np.exp(np.clip(b + weights @ self.parameters[2:], -50, 50))))

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Fitted:
        return _fit_log_linear(weights, losses, [self.parameters], self.shift, self.scale)


TILT = 1e-3
"""Weight of the squared parameters beside the mean squared error: without it, those of a pool that varies little run away."""


def log_linear(weights: np.ndarray, losses: np.ndarray) -> Fitted:
    """Least squares from several asymptotes; the best one."""
    shift, scale = float(losses.min()), float(losses.std()) or 1.0
    y = (losses - shift) / scale
    starts = []
    for below in (0.2, 1.0, 5.0):
        # With the asymptote given, the logarithm is linear.
        x = np.concatenate([np.ones((len(weights), 1)), weights], axis=1)
        gram = x.T @ x + 1e-3 * len(weights) * np.diag([0.0, *[1.0] * weights.shape[1]])
        starts.append(np.concatenate([[-below], np.linalg.solve(gram, x.T @ np.log(y + below))]))
    return _fit_log_linear(weights, losses, starts, shift, scale)


def _fit_log_linear(
    weights: np.ndarray, losses: np.ndarray, starts: list[np.ndarray], shift: float, scale: float
) -> _LogLinear:
    from scipy.optimize import least_squares

    y, n = (losses - shift) / scale, len(losses)
    pull = np.sqrt(TILT * n) * np.concatenate([[0.0, 0.0], np.ones(weights.shape[1])])

    def residuals(p: np.ndarray) -> np.ndarray:
        bend = np.exp(np.clip(p[1] + weights @ p[2:], -50, 50))
        return np.concatenate([p[0] + bend - y, (pull * p)[2:]])

    def slopes(p: np.ndarray) -> np.ndarray:
        bend = np.exp(np.clip(p[1] + weights @ p[2:], -50, 50))[:, None]
        return np.concatenate([np.concatenate([np.ones((n, 1)), bend, bend * weights], axis=1), np.diag(pull)[2:]])

    found = [least_squares(residuals, start, slopes, max_nfev=60) for start in starts]
    best = min(found, key=lambda f: float(f.cost))
    return _LogLinear(np.asarray(best.x), shift, scale)


@dataclass(frozen=True)
class _Ridge:
    coefficients: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    offset: float
    penalty: float

    def predict(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(self.offset + (features(weights) - self.mean) / self.spread @ self.coefficients)

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Fitted:
        return _fit_ridge(weights, losses, (self.penalty,))


PENALTIES = tuple(10.0 ** np.arange(-3.0, 3.1, 0.5))


def ridge(weights: np.ndarray, losses: np.ndarray) -> Fitted:
    """Linear in (sqrt w, w), standardised; the penalty with the least leave-one-out error."""
    return _fit_ridge(weights, losses, PENALTIES)


def _fit_ridge(weights: np.ndarray, losses: np.ndarray, penalties: tuple[float, ...]) -> _Ridge:
    x = features(weights)
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    u, s, vt = np.linalg.svd((x - mean) / spread, full_matrices=False)
    offset = float(losses.mean())
    y = losses - offset
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in penalties:
        shrunk = s**2 / (s**2 + penalty)
        leverage = (u**2 * shrunk).sum(axis=1) + 1 / len(y)
        left_out = (y - u @ (shrunk * (u.T @ y))) / np.maximum(1 - leverage, 1e-6)
        error = float((left_out**2).mean())
        if best is None or error < best[0]:
            best = error, penalty, vt.T @ (s / (s**2 + penalty) * (u.T @ y))
    assert best is not None
    return _Ridge(best[2], mean, spread, offset, best[1])


@dataclass(frozen=True)
class _Trees:
    model: Any

    def predict(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict(weights))

    def again(self, weights: np.ndarray, losses: np.ndarray) -> Fitted:
        return trees(weights, losses)


def trees(weights: np.ndarray, losses: np.ndarray) -> Fitted:
    """LightGBM with few leaves and slow steps, as for some ten rows a pool."""
    import lightgbm

    model = lightgbm.LGBMRegressor(
        n_estimators=300,
        learning_rate=0.05,
        num_leaves=7,
        min_child_samples=3,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        random_state=0,
        verbose=-1,
    )
    return _Trees(model.fit(weights, losses))


def available() -> dict[str, Regressor]:
    """The kinds of regression that this machine has, by name."""
    found: dict[str, Regressor] = {"gp": gaussian_process, "loglinear": log_linear, "ridge": ridge}
    if find_spec("lightgbm"):
        found["lightgbm"] = trees
    return found

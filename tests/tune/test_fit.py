"""Fit and choice over surfaces that are known: learning curves of pools, with noise."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from fox1.tune import choose as choosing
from fox1.tune import fit as fitting
from fox1.tune.choose import Bounds, choose, distance
from fox1.tune.design import Space, design
from fox1.tune.fit import Observed, fit, folds, noise_of, spearman
from fox1.tune.regressors import gaussian_process, log_linear, ridge
from fox1.tune.settings import Anchors

POOLS = ("a", "b", "c", "d")
NOISE = 0.004
EXPONENT = 0.3


def surface(weights: np.ndarray) -> np.ndarray:
    """Losses [n, 3] of three targets: a target's pool helps by a power law; pool d helps nobody."""
    scale = np.array([0.08, 0.05, 0.02])
    return np.asarray(1.5 + scale * (weights[:, :3] + 0.01) ** -EXPONENT)


def observe(losses: Callable[[np.ndarray], np.ndarray], space: Space, seed: int, rows: int = 48) -> Observed:
    weights = np.array([r.weights for r in design(space, Anchors(3, 3, 1, 1), rows, seed)])
    noise = np.random.default_rng([seed, 99]).normal(0, NOISE, (rows, 3))
    return Observed(weights, losses(weights) + noise, ("A", "B", "C"), np.full(3, 1 / 3))


def a_space(caps: tuple[float, ...] = (1, 1, 1, 1)) -> Space:
    return Space.of(POOLS, (0.1, 0.2, 0.3, 0.4), (0.25, 0.25, 0.25, 0.25), [0.002] * 4, caps)


@pytest.fixture(scope="module")
def fitted() -> fitting.Fit:
    return fit(observe(surface, a_space(), 1), 1)


def test_a_fit_predicts_what_it_has_not_seen(fitted: fitting.Fit) -> None:
    overall = fitted.quality[-1]
    assert overall.target == fitting.OVERALL and overall.spearman > 0.9 and overall.regret <= 2 * NOISE
    fresh = np.random.default_rng(5).dirichlet(np.ones(4) * 2, 200)
    truth = surface(fresh).mean(axis=1)
    assert spearman(fitted.predict(fresh).mean(axis=1), truth) > 0.9
    shares = dict(overall.shares)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert 0.5 * NOISE / 3**0.5 < overall.noise < 2 * NOISE / 3**0.5


def test_a_fit_is_a_function_of_its_rows_and_seed(fitted: fitting.Fit) -> None:
    again = fit(observe(surface, a_space(), 1), 1)
    assert json.dumps(fitting.as_json(again)) == json.dumps(fitting.as_json(fitted))


def test_the_choice_is_near_the_optimum_and_a_useless_pool_at_its_floor(fitted: fitting.Fit) -> None:
    space = a_space()
    chosen = choose(fitted, space, Bounds(0.0, {}), 1)
    w = np.array(chosen.weights)
    # The optimum of sum s w^-b gives each pool s^(1 / (1 + b)).
    best = np.array([0.08, 0.05, 0.02, 0]) ** (1 / (1 + EXPONENT))
    best = 0.998 * best / best.sum() + np.array([0, 0, 0, 0.002])
    regret = float(surface(w[None]).mean() - surface(best[None]).mean())
    assert regret <= 2 * NOISE / 3**0.5
    assert chosen.at_floor == ("d",)
    gain = chosen.gains[0]
    true = float(surface(space.recipe[None]).mean() - surface(w[None]).mean())
    assert gain.against == "recipe" and gain.low <= true <= gain.high
    assert choose(fitted, space, Bounds(0.0, {}), 1) == chosen


def test_a_scarce_pool_stops_at_its_cap() -> None:
    space = Space.of(POOLS, (0.05, 0.25, 0.3, 0.4), (0.05, 0.3, 0.3, 0.35), [0.002] * 4, (0.1, 1, 1, 1))
    chosen = choose(fit(observe(surface, space, 2), 2), space, Bounds(0.0, {}), 2)
    assert chosen.at_cap == ("a",) and chosen.weights[0] <= 0.1 + 1e-6


def test_a_promise_is_kept(fitted: fitting.Fit) -> None:
    space = a_space()
    free = choose(fitted, space, Bounds(0.0, {}), 1)
    at_natural = float(fitted.predict(space.natural[None])[0, 2])
    assert free.predicted[2] > at_natural + 0.002
    held = choose(fitted, space, Bounds(0.0, {"C": 0.001}), 1)
    assert held.predicted[2] <= at_natural + 0.0015
    with pytest.raises(ValueError, match="names D, which is not measured; choose from A, B, C"):
        choose(fitted, space, Bounds(0.0, {"D": 0.0}), 1)


def test_a_distance_that_must_be_earned_keeps_a_choice_near_natural_weights(fitted: fitting.Fit) -> None:
    space = a_space()
    far, near = (choose(fitted, space, Bounds(kl, {}), 1).weights for kl in (0.0, 1.0))
    apart = [float(distance(np.array([w]), space.natural)[0]) for w in (far, near)]
    assert apart[1] < 0.3 * apart[0]


def test_repeats_of_a_mixture_are_never_in_two_folds() -> None:
    mixtures = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8])
    found = folds(mixtures, 4, 1)
    assert all(len(set(found[mixtures == m])) == 1 for m in range(9))
    assert set(found) == {0, 1, 2, 3}


def test_noise_comes_from_repeats_alone() -> None:
    assert noise_of(np.array([1.0, 3.0, 7.0, 5.0]), np.array([0, 0, 1, 2])) == pytest.approx(2**0.5)
    assert np.isnan(noise_of(np.array([1.0, 2.0]), np.array([0, 1])))


@pytest.mark.parametrize("kind", [gaussian_process, log_linear, ridge])
def test_every_kind_of_regression_follows_a_smooth_surface(kind: Callable[..., fitting.Fitted]) -> None:
    rng = np.random.default_rng(3)
    seen, asked = rng.dirichlet(np.ones(4) * 2, 60), rng.dirichlet(np.ones(4) * 2, 100)
    losses = surface(seen)[:, 0] + rng.normal(0, 0.001, 60)
    model = kind(seen, losses)
    assert spearman(model.predict(asked), surface(asked)[:, 0]) > 0.95
    again = model.again(seen[:40], losses[:40])
    assert spearman(again.predict(asked), surface(asked)[:, 0]) > 0.9


def test_too_few_mixtures_are_refused() -> None:
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 9)
    with pytest.raises(ValueError, match="a fit needs 10 mixtures at least, not 9"):
        fit(Observed(weights, weights, ("a", "b", "c"), np.full(3, 1 / 3)), 1)


def test_responses_run_from_floor_to_cap(fitted: fitting.Fit) -> None:
    curves = choosing.response(fitted, a_space((0.5, 1, 1, 1)), np.full(4, 0.25))
    assert set(curves) == set(POOLS) and [curves["a"][0][0], curves["a"][-1][0]] == [0.002, 0.5]
    # Of the pool that helps most, the first tokens help most.
    objective = [y for _, y in curves["a"]]
    assert objective[0] - objective[2] > objective[4] - objective[6]

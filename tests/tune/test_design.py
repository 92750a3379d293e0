"""The design: within floors and caps, a function of its seed, and a beginning of every larger one."""

from __future__ import annotations

import numpy as np
import pytest
from fox1.tune.design import BANDS, Space, choose_informative, design, design_near, draw, features, rounded, within
from fox1.tune.settings import Anchors

NAMES = ("web", "code", "books", "law", "math")
NATURAL = (0.6, 0.25, 0.1, 0.04, 0.01)
RECIPE = (0.5, 0.3, 0.1, 0.05, 0.05)


def space(caps: tuple[float, ...] = (1, 1, 0.3, 0.1, 0.08), floor: float = 0.002) -> Space:
    return Space.of(NAMES, NATURAL, RECIPE, [floor] * 5, caps)


def test_a_mixture_is_brought_within_its_bounds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        floors, caps = rng.uniform(0, 0.3, 3), rng.uniform(0.34, 1, 3)
        weights = np.exp(rng.normal(0, 6, (20, 3))) * (rng.random((20, 3)) < 0.8)
        found = within(weights, floors, caps)
        assert np.abs(found.sum(axis=1) - 1).max() < 1e-9
        assert (found >= floors - 1e-9).all() and (found <= caps + 1e-9).all()
        # Between the bounds, in the proportions that were asked for.
        free = (found > floors + 1e-6) & (found < caps - 1e-6) & (weights > 0)
        for row, asked, inside in zip(found, weights, free, strict=True):
            ratios = row[inside] / asked[inside]
            assert len(ratios) < 2 or np.ptp(ratios) < 1e-6 * ratios.max()


def test_what_lies_within_its_bounds_stays_as_it_is() -> None:
    s = space()
    assert np.allclose(within(np.array([RECIPE]), s.floors, s.caps)[0], RECIPE, atol=1e-9)


def test_bounds_that_leave_no_mixture_are_named() -> None:
    with pytest.raises(ValueError, match=r"all pools together can give less than the whole"):
        space((0.2, 0.2, 0.2, 0.1, 0.1))
    with pytest.raises(
        ValueError, match=r"the pool math can have 0.10% of the tokens at most, less than its floor of 0.20%"
    ):
        space((1, 1, 1, 1, 0.001))


def test_a_design_holds_its_anchors_and_keeps_within_floors_and_caps() -> None:
    s = space()
    rows = design(s, Anchors(recipe=3, natural=2, uniform=1, drop_one=1), 40, 1)
    kinds = [r.kind for r in rows]
    assert kinds[:11] == ["recipe"] * 3 + ["natural"] * 2 + ["uniform"] + [f"without {n}" for n in NAMES]
    assert kinds[11:] == ["candidate"] * 29
    weights = np.array([r.weights for r in rows])
    assert np.abs(weights.sum(axis=1) - 1).max() < 1e-9
    inside = weights[11:]
    assert (inside >= s.floors - 2e-6).all() and (inside <= s.caps + 2e-6).all()
    # Without a pool the others are in their natural proportions.
    without_web = weights[6]
    assert without_web[0] == 0 and abs(without_web[1:].sum() - 1) < 1e-9
    # Each training draws for itself, repeats as well.
    assert len({r.seed for r in rows}) == len(rows)


def test_a_larger_design_begins_with_the_smaller_one() -> None:
    s, anchors = space(), Anchors()
    assert design(s, anchors, 128, 7)[:64] == design(s, anchors, 64, 7)
    assert design(s, anchors, 64, 8) != design(s, anchors, 64, 7)


def test_chosen_candidates_tell_more_than_the_first_ones() -> None:
    s = space()
    candidates = draw(s, 3)
    chosen = choose_informative(candidates, np.array([RECIPE]), 40)
    assert len(set(chosen)) == 40

    def information(rows: np.ndarray) -> float:
        x = features(rows)
        return float(np.linalg.slogdet(x.T @ x + 1e-3 * np.eye(x.shape[1]))[1])

    assert information(candidates.weights[chosen]) > information(candidates.weights[:40]) + 3
    # Near and far, around every centre, in turn.
    strata = np.bincount(candidates.stratum[chosen], minlength=3 * BANDS)
    assert strata.min() >= 4


def test_more_anchors_than_trainings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`tune.anchors` are 15 trainings, which leaves none of 15"):
        design(space(), Anchors(), 15, 1)


def test_weights_in_decimals_still_sum_to_one() -> None:
    found = rounded(np.random.default_rng(1).dirichlet(np.ones(7), 200))
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12


def test_rows_near_a_choice_lie_near_it_and_differ() -> None:
    s = space()
    chosen = np.array([0.4, 0.3, 0.2, 0.06, 0.04])
    rows = design_near(s, chosen, 12, 3)
    assert rows == design_near(s, chosen, 12, 3) and len({r.weights for r in rows}) == 12
    weights = np.array([r.weights for r in rows])
    assert (weights <= s.caps + 2e-6).all() and np.abs(weights - chosen).max() < 0.35
    assert not {r.seed for r in rows} & {r.seed for r in design(s, Anchors(), 64, 3)}

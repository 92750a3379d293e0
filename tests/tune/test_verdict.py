"""The verdict: what it takes to leave a recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fox1.tune.mixmin import mixmin
from fox1.tune.verdict import ADOPT, KEEP, NATURAL, Measured, compare, judge

TARGETS = ("web", "code")


def measured(chosen: float, natural: float, seed: int, noise: float = 0.004, code: float = 0.0) -> Measured:
    """Five seeds, 40 documents a target; the recipe is at 2 bits per byte, the others so far from it."""
    rng = np.random.default_rng(seed)
    size = rng.integers(500, 3000, 80).astype(float)
    target = np.repeat([0, 1], 40)
    hard = rng.normal(2, 0.4, 80)
    arms = ("chosen", "recipe", "natural")
    rates = np.empty((3, 5, 80))
    for a, effect in enumerate((chosen, 0.0, natural)):
        by_seed = rng.normal(0, noise, (5, 1))
        rates[a] = hard + effect + by_seed + rng.normal(0, 0.01, (5, 80))
    rates[0, :, target == 1] += code
    return Measured(arms, rates * size, size, target, TARGETS, np.array([0.5, 0.5]))


def test_a_better_mixture_is_adopted() -> None:
    said = judge(measured(-0.05, -0.02, 1), 0.005, {}, 1)
    assert said.word == ADOPT and said.line.startswith("adopt: 0.05")
    assert said.compared[0].low < -0.04 < said.compared[0].high + 0.02 and len(said.compared[0].seeds) == 5


def test_natural_weights_are_taken_where_they_are_better_and_the_choice_is_not() -> None:
    assert judge(measured(-0.01, -0.05, 2), 0.005, {}, 1).word == NATURAL


def test_nothing_is_changed_where_nothing_is_shown() -> None:
    said = judge(measured(0.0, 0.0, 3), 0.005, {}, 1)
    assert said.word == KEEP and "an effect of 0.0" in said.line


def test_a_broken_promise_is_named() -> None:
    data = measured(-0.06, 0.0, 4, code=0.05)
    assert judge(data, 0.005, {}, 1).word == ADOPT
    said = judge(data, 0.005, {"web": -0.2, "code": 0.1}, 1)
    assert said.word == KEEP and said.broken == ("web",) and "web lost more than promised" in said.line


def test_exchangeable_mixtures_are_seldom_told_apart() -> None:
    left = sum(judge(measured(0.0, 0.0, 100 + s), 0.005, {}, s).word != KEEP for s in range(40))
    assert left <= 4


def test_the_smallest_effect_is_seen_in_most_validations() -> None:
    smallest = np.mean([compare(measured(0, 0, s), [("chosen", "recipe")], s)[0].smallest for s in range(10)])
    seen = sum(compare(measured(-smallest, 0, 50 + s), [("chosen", "recipe")], s)[0].better for s in range(40))
    assert seen >= 24


def test_documents_are_part_of_the_interval() -> None:
    data = measured(-0.02, 0.0, 7, noise=0.0)
    # Five documents of a target carry all of the difference.
    bits = data.bits.copy()
    bits[0, :, :5] += 0.4 * data.size[:5]
    wide, narrow = (compare(replace(data, bits=b), [("chosen", "recipe")], 1)[0] for b in (bits, data.bits))
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_mixmin_finds_the_proportions_that_the_target_has() -> None:
    rng = np.random.default_rng(1)
    models = rng.dirichlet(np.ones(50) * 0.2, 3) + 1e-9
    models /= models.sum(axis=1, keepdims=True)
    truth = np.array([0.6, 0.3, 0.1])
    found = mixmin(np.log(models), truth @ models)
    assert found == pytest.approx(truth, abs=0.01)

"""Placements: the same sums in another order; what the search says where order matters, and where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.trainer.settings import ModelSettings, OptimizerSettings
from fox1.tune.fit import Observed, fit
from fox1.tune.order import Ordered, search_order
from fox1.tune.placement import (
    FLAT,
    FOUND,
    MOST,
    RECIPE,
    Curriculum,
    choose_placement,
    design_placements,
    judge_placement,
    placed,
)
from fox1.tune.pools import TunePaths
from fox1.tune.proxy import parts_of, phased_parts
from fox1.tune.settings import PlacementSettings, ProxySettings, TuneSettings
from fox1.tune.verdict import Measured

from tests.tune.planted import TOTAL, Chain, PlantedPool, plant, small_settings

PHASES = np.array([0.4, 0.5, 0.1])
CURRICULUM = Curriculum(
    PHASES, np.array([0.5, 0.3, 0.2]), np.array([[0.3, 0.1, 0.0], [0.2, 0.2, 0.1], [0.02, 0.03, 0.05]])
)


def test_all_placements_have_the_same_sums() -> None:
    rows = design_placements(CURRICULUM, 3, 24, 1)
    assert [r.kind for r in rows[:7]] == [FLAT] * 3 + [RECIPE] * 3 + ["candidate"] and len(rows) == 24
    tables = np.stack([r.table for r in rows])
    assert tables.sum(axis=2) == pytest.approx(np.tile(PHASES, (24, 1)), abs=1e-3)
    assert tables.sum(axis=1) == pytest.approx(np.tile(CURRICULUM.weights, (24, 1)), abs=2e-4)
    assert tables[0] == pytest.approx(np.outer(PHASES, CURRICULUM.weights))
    # The recipe's keeps its order, and what a phase has nothing of.
    assert tables[3][0, 2] == 0
    late = CURRICULUM.lateness(tables)
    assert late[0] == pytest.approx([0.5] * 3) and late[3][2] > late[3][1] > late[3][0]
    assert np.ptp(late[6:], axis=0).min() > 0.2


def test_a_tilt_moves_its_pool() -> None:
    late = CURRICULUM.lateness(CURRICULUM.tilted(np.array([[0, 0, MOST], [0, 0, 0], [0, 0, -MOST]])))
    assert late[0, 2] > 0.65 and late[2, 2] < 0.35
    assert late[1] == pytest.approx([0.5] * 3, abs=1e-3)


def test_sums_that_no_table_has_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold as much"):
        placed(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([[0.9, 0.0], [0.0, 0.1]]))
    # An order that cannot be kept gives way to none.
    narrow = Curriculum(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([[0.9, 0.0], [0.0, 0.1]]))
    assert narrow.as_recipe() == pytest.approx(narrow.flat)


def test_the_search_finds_an_order_that_a_surface_has_and_none_in_noise() -> None:
    rows = design_placements(CURRICULUM, 4, 32, 2)
    late = CURRICULUM.lateness(np.stack([r.table for r in rows]))
    noise = np.random.default_rng(3).normal(0, 0.002, (32, 1))

    def found(effect: float) -> tuple[np.ndarray, float]:
        losses = 2 - effect * late[:, 2:] + noise
        best = choose_placement(fit(Observed(late, losses, ("t",), np.ones(1)), 1), CURRICULUM, 1)
        return CURRICULUM.lateness(best.table[None])[0], best.gain

    where, gain = found(0.1)
    assert where[2] > 0.6 and 0 < gain < 0.03
    # With nothing to find, no more than the noise is promised.
    assert found(0.0)[1] < 0.002


def judged(found: float, recipe: float, seed: int) -> str:
    rng = np.random.default_rng(seed)
    rates = np.array([0.0, recipe, found])[:, None, None] + rng.normal(0, 0.003, (3, 5, 1)) + np.zeros((3, 5, 40))
    data = Measured((FLAT, RECIPE, FOUND), (2 + rates) * 100, np.full(40, 100.0), np.zeros(40, int), ("t",), np.ones(1))
    return judge_placement(data, {}, seed).word


def test_a_placement_is_taken_only_if_it_is_better_than_none() -> None:
    assert judged(-0.03, -0.01, 1) == FOUND
    assert judged(-0.03, -0.05, 1) == RECIPE
    assert judged(0.01, -0.05, 1) == RECIPE
    assert [judged(0.0, 0.0, seed) for seed in range(20)].count(FLAT) >= 19


# -- by trainings -------------------------------------------------------------------------------------------------------

PIECES = 40
MODEL = ModelSettings(1, 32, 32, 1, 1, 32, 128)


TOKENS = 16_000


def across() -> TuneSettings:
    proxy = ProxySettings("model", TOKENS, batch_tokens=256, optimizer=OptimizerSettings(2e-2), model=MODEL)
    settings = small_settings(TOKENS, times=1.0, seeds=4)
    return replace(settings, proxy=proxy, placement=PlacementSettings(16, 1))


def two_pools(root: Path, rival: Chain) -> Ordered:
    """What the search says of two pools, half and half in two phases; `late` is what is measured."""
    wanted = Chain.over(0, PIECES, 5, branches=2)
    pools = [
        PlantedPool("late", wanted, 3000, (0.3, 0.2)),
        PlantedPool("other", rival, 3000, (0.3, 0.2), measured=False),
    ]
    settings = across()
    planted = plant(root, pools, settings, TOTAL, 1, vocabulary=64)
    engine = Engine(TunePaths(root), InProcess())
    arguments = (planted.packed, [0.5, 0.5], planted.to_fit, planted.to_check, settings)
    ordered = search_order(engine, engine, *arguments)
    assert ordered
    before = (root / "timings" / "tasks.jsonl").read_text().count("\n")
    assert search_order(engine, engine, *arguments) == ordered
    assert (root / "timings" / "tasks.jsonl").read_text().count("\n") == before
    return ordered


@pytest.mark.slow
def test_an_order_that_matters_is_found(tmp_path: Path) -> None:
    # The other pool says something else of the same pieces: what is read last is remembered.
    ordered = two_pools(tmp_path, Chain.over(0, PIECES, 6, branches=2))
    assert ordered.word == FOUND and ordered.line.startswith("order matters")
    stored = json.loads((tmp_path / "placement.json").read_text())
    late, other = stored["lateness"][FOUND]
    assert late > 0.55 > 0.45 > other
    table = np.array(stored["tables"][FOUND])
    assert table.sum(axis=0) == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.slow
def test_where_pools_are_alike_no_order_is_found(tmp_path: Path) -> None:
    ordered = two_pools(tmp_path, Chain.over(0, PIECES, 5, branches=2))
    assert ordered.word == FLAT and ordered.line.startswith("no order is shown to matter")


def test_phases_change_the_order_and_nothing_else(tmp_path: Path) -> None:
    pools = [PlantedPool(name, Chain.over(0, PIECES, k), 400, (0.3, 0.2)) for k, name in enumerate("ab")]
    settings = across()
    packed = plant(tmp_path, pools, settings, TOTAL, 1).packed
    assert packed.phase_shares == pytest.approx([0.6, 0.4])
    whole = parts_of([0.3, 0.7], packed, TOKENS, settings)
    phased = phased_parts(np.array([[0.25, 0.35], [0.05, 0.35]]), packed, TOKENS, settings)
    assert [p.units for p in phased] == [p.units for p in whole] and [p.cap for p in phased] == [p.cap for p in whole]
    lengths = np.array([p.quota for p in phased]).sum(axis=0)
    assert abs(lengths - 250 * np.array([0.6, 0.4])).max() <= 2


def test_an_ngram_tuning_searches_no_order(tmp_path: Path) -> None:
    pools = [PlantedPool(name, Chain.over(0, PIECES, k), 400, (0.3, 0.2)) for k, name in enumerate("ab")]
    settings = small_settings(20_000)
    planted = plant(tmp_path, pools, settings, TOTAL, 1)
    (tmp_path / "placement.json").write_text("{}")
    engine = Engine(TunePaths(tmp_path), InProcess())
    found = search_order(engine, engine, planted.packed, [0.5, 0.5], planted.to_fit, planted.to_check, settings)
    assert found is None and not (tmp_path / "placement.json").exists()

"""Planted truth: pools of which it is known how much of each is best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fox1.tune.stored import open_tuning
from fox1.tune.verdict import KEEP

from tests.tune.planted import (
    TOTAL,
    Chain,
    PlantedPool,
    best_of_curves,
    learning_curve,
    plant,
    run_search,
    small_settings,
)

TOKENS = 60_000


def valued(seed: int) -> list[PlantedPool]:
    """Three chains of which a model learns the more the more it reads, and one of noise, which nobody is measured on."""
    return [
        PlantedPool("small", Chain.over(0, 60, seed), 20_000, 0.25),
        PlantedPool("middle", Chain.over(100, 300, seed + 1), 20_000, 0.25),
        PlantedPool("large", Chain.over(500, 1200, seed + 2), 20_000, 0.25),
        PlantedPool("noise", Chain.noise(3000, 500), 20_000, 0.25, measured=False),
    ]


def regret_of(root: Path, seed: int, proxies: int = 40, refine: int = 8) -> tuple[float, float, dict[str, float]]:
    """(loss of the chosen mixture above the oracle's, standard deviation of the noise, chosen weights) of one tuning."""
    pools, settings = valued(10 * seed), small_settings(TOKENS, proxies=proxies, refine=refine, seed=seed)
    planted = plant(root, pools, settings, TOTAL, seed)
    run_search(root, planted, settings)
    found = open_tuning(root)
    assert found.choice and found.fit
    curves = [learning_curve(pool, planted, TOKENS, seed) for pool in pools[:3]]
    _, best = best_of_curves(curves, spare=settings.constraints.floor)
    weights = dict(zip(found.choice["pools"], found.choice["weights"], strict=True))
    own = [np.interp(np.log(weights[p.name]), np.log(c[0]), c[1]) for p, c in zip(pools[:3], curves, strict=True)]
    return float(np.mean(own) - best.mean()), found.fit["quality"][-1]["noise"], weights


def test_a_planted_optimum_is_found_and_noise_goes_to_its_floor(tmp_path: Path) -> None:
    regret, noise, weights = regret_of(tmp_path, 1)
    assert regret <= 2 * noise
    assert weights["noise"] <= 0.015
    assert weights["large"] > weights["small"]
    verdict = open_tuning(tmp_path).verdict
    assert verdict and verdict["verdict"] == "adopt"
    # The convex baseline sees as well that no target is like noise.
    assert verdict["mixmin"][3] <= 0.02


@pytest.mark.long
def test_a_planted_optimum_is_found_in_twenty_of_twenty(tmp_path: Path) -> None:
    # As many trainings as by default.
    found = [regret_of(tmp_path / str(seed), seed, 64, 16) for seed in range(1, 21)]
    print([(round(r, 5), round(n, 5)) for r, n, _ in found])
    assert all(regret <= 2 * noise for regret, noise, _ in found)


def test_a_scarce_pool_stops_at_its_cap_and_a_poisoned_one_gets_nothing(tmp_path: Path) -> None:
    # Once through the scarce pool are 8 % of all tokens; the poisoned one has another chain over the pieces of `common`.
    scarce = TOTAL * 8 // 100 // 64
    common = Chain.over(0, 200, 1)
    pools = [
        PlantedPool("scarce", Chain.over(1000, 1000, 2), scarce, 0.02),
        PlantedPool("common", common, 20_000, 0.58),
        PlantedPool("poisoned", Chain.over(0, 200, 3), 20_000, 0.4, measured=False),
    ]
    settings = small_settings(TOKENS, proxies=32, floor=0.0, max_epochs=1.0)
    planted = plant(tmp_path, pools, settings, TOTAL, 1)
    run_search(tmp_path, planted, settings)
    choice = open_tuning(tmp_path).choice
    assert choice
    weights = dict(zip(choice["pools"], choice["weights"], strict=True))
    assert choice["at_cap"] == ["scarce"] and weights["scarce"] <= scarce * 64 / TOTAL + 1e-6
    assert weights["poisoned"] <= 0.01


def copied(root: Path, seed: int) -> tuple[float, float, list[float]]:
    """(regret of the chosen mixture, with the larger of the two copies for both; standard deviation of the noise; shares of a pool
    and of its copy)."""
    large = PlantedPool("large", Chain.over(500, 1200, 10 * seed + 2), 20_000, 0.4)
    copy = replace(large, name="copy", recipe=0.3, measured=False, copy_of="large")
    pools = [PlantedPool("small", Chain.over(0, 60, 10 * seed), 20_000, 0.3), large, copy]
    settings = small_settings(TOKENS, seed=seed)
    planted = plant(root, pools, settings, TOTAL, seed)
    run_search(root, planted, settings)
    found = open_tuning(root)
    assert found.choice and found.fit
    weights = dict(zip(found.choice["pools"], found.choice["weights"], strict=True))
    curves = [learning_curve(pool, planted, TOKENS, seed) for pool in pools[:2]]
    _, best = best_of_curves(curves, spare=settings.constraints.floor)
    both = [weights["large"], weights["copy"]]
    shares = (weights["small"], max(both))
    own = [np.interp(np.log(share), np.log(c[0]), c[1]) for share, c in zip(shares, curves, strict=True)]
    return float(np.mean(own) - best.mean()), found.fit["quality"][-1]["noise"], both


def test_of_a_pool_and_its_copy_one_is_taken(tmp_path: Path) -> None:
    # The same text from two pools is worth less than as much text of one: what they share is read twice.
    regret, noise, both = copied(tmp_path, 2)
    assert regret <= 2 * noise and min(both) <= 0.1 and max(both) > 0.5


@pytest.mark.long
def test_of_a_pool_and_its_copy_one_is_taken_in_twenty_of_twenty(tmp_path: Path) -> None:
    found = [copied(tmp_path / str(seed), seed) for seed in range(1, 21)]
    print([(round(r, 5), round(n, 5), b) for r, n, b in found])
    assert all(min(both) <= 0.1 for _, _, both in found)
    # The noise is estimated from few repeats here.
    assert sum(regret <= 2 * noise for regret, noise, _ in found) >= 18


def exchangeable(root: Path, seed: int) -> str:
    """The verdict where all pools are the same chain."""
    chain = Chain.over(0, 500, seed)
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    pools = [PlantedPool(name, chain, 12_000, share, name == "a") for name, share in shares.items()]
    settings = small_settings(TOKENS, proxies=28, seed=seed)
    return run_search(root, plant(root, pools, settings, TOTAL, seed), settings).word


def test_where_pools_are_alike_the_recipe_is_kept(tmp_path: Path) -> None:
    assert exchangeable(tmp_path, 3) == KEEP


@pytest.mark.long
def test_where_pools_are_alike_the_recipe_is_kept_in_38_of_40(tmp_path: Path) -> None:
    words = [exchangeable(tmp_path / str(seed), seed) for seed in range(1, 41)]
    print(words)
    assert words.count(KEEP) >= 38


def test_a_larger_tuning_trains_only_what_is_new(tmp_path: Path) -> None:
    pools, settings = valued(70), small_settings(20_000, proxies=24, seeds=3)
    planted = plant(tmp_path, pools, settings, TOTAL, 7)
    run_search(tmp_path, planted, settings)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "proxies").iterdir()}
    assert len(before) == 24
    more = small_settings(20_000, proxies=32, seeds=3)
    run_search(tmp_path, planted, more)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "proxies").iterdir()}
    assert len(after) == 32 and {name: after[name] for name in before} == before
    assert len(list((tmp_path / "refined").iterdir())) == 8
    # The same again: nothing is trained.
    times = (tmp_path / "timings" / "tasks.jsonl").read_text().count("\n")
    run_search(tmp_path, planted, more)
    assert (tmp_path / "timings" / "tasks.jsonl").read_text().count("\n") == times
    design = json.loads((tmp_path / "design.json").read_text())
    assert len(design) == 32

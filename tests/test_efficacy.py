"""The experiment's own mathematics: orders, quotas, bootstrap, rules; and that a training continues as if it had not stopped."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from fox1.benchmarks import efficacy_training as training
from fox1.benchmarks.efficacy_data import PLAN, DomainPool, Place
from fox1.benchmarks.efficacy_statistics import (
    EQUAL,
    HELPS,
    ITEMS,
    MACRO,
    OPEN,
    PRIMARY,
    compare,
    groups_of,
    holm,
    word,
)
from fox1.trainer.data.order import UnitStream, interleave
from fox1.trainer.model import attention
from fox1.trainer.model.model import Fox1
from fox1.tune.measured import Sequences, read_sequences, write_sequences
from fox1.tune.model import NetworkTraining
from fox1.tune.proxy import PoolPart, open_mixture
from fox1.tune.settings import MODEL

from tests.tune.planted import LENGTH, VOCABULARY, write_pool

QUOTAS = np.array([[40, 10, 0], [20, 20, 5], [5, 5, 15]])
TARGETS = ("unfiltered/web", "kept/web", "kept/code", "items/arc", "original/all")


def sequences_of(size: np.ndarray, target: np.ndarray) -> Sequences:
    empty = np.empty(0, np.int64)
    return Sequences(np.empty(0, np.int32), empty, empty, empty, size, target, TARGETS)


def test_all_orders_hold_the_same_units() -> None:
    orders = {how: training.order(QUOTAS, how, 1) for how in ("shuffled", "phased", "constant", "reversed")}
    assert all(sorted(o.tolist()) == list(range(int(QUOTAS.sum()))) for o in orders.values())
    assert (orders["phased"] == orders["constant"]).all() and not (orders["phased"] == orders["shuffled"]).all()


@pytest.mark.parametrize(("how", "phases"), [("phased", [0, 1, 2]), ("reversed", [2, 1, 0])])
def test_a_phase_reads_its_quota_of_every_pool(how: str, phases: list[int]) -> None:
    units = training.order(QUOTAS, how, 3)
    pool, _ = interleave(units, tuple(QUOTAS.sum(axis=0).tolist()))
    at = 0
    for phase in phases:
        n = int(QUOTAS[phase].sum())
        assert np.bincount(pool[at : at + n], minlength=3).tolist() == QUOTAS[phase].tolist()
        at += n


def test_domains_count_alike_in_the_macro_figure_and_halves_are_one() -> None:
    assert groups_of(TARGETS, MACRO).tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert groups_of(TARGETS, ITEMS).tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize(("effect", "said"), [(-0.05, HELPS), (0.0, EQUAL)])
def test_a_planted_effect_is_found_and_none_is_called_equal(effect: float, said: str) -> None:
    rng = np.random.default_rng(4)
    target = np.repeat(np.arange(5), 40)
    size = rng.integers(500, 2000, len(target))
    b = size * rng.normal(2.0, 0.3, len(target)) + size * rng.normal(0, 0.004, (5, 1))
    a = b + size * (effect + rng.normal(0, 0.01, (5, len(target))))
    found = compare(PRIMARY, a, b, sequences_of(size, target), 2000, True)
    assert found.low < effect < found.high and found.high - found.low < 0.02
    assert word(found, found.p <= 0.05, 0.01) == said


def test_two_seeds_that_disagree_show_nothing() -> None:
    target = np.repeat(np.arange(5), 30)
    size = np.full(len(target), 1000)
    b = np.full((2, len(target)), 2000.0)
    a = b + np.array([[-80.0], [60.0]])
    found = compare(PRIMARY, a, b, sequences_of(size, target), 2000, True)
    assert word(found, found.p <= 0.05, 0.01) == OPEN and found.low < -0.05 and found.high > 0.05


def test_holm_stops_at_the_first_that_is_kept() -> None:
    assert holm([0.04, 0.001, 0.03, 0.02], 0.05) == [False, True, False, False]
    assert holm([0.01, 0.012, 0.04], 0.05) == [True, True, True]


LARGE = PLAN.with_name("efficacy-100m.yaml")


def test_a_plan_that_extends_another_says_only_what_differs_and_leaves_its_hash_alone(tmp_path: Path) -> None:
    small, large = (Place(tmp_path, tmp_path, tmp_path, file) for file in (PLAN, LARGE))
    assert small.plan_hash == hashlib.blake2b(PLAN.read_bytes(), digest_size=8).hexdigest() == "2d4ee4d83eac84d6"
    assert large.plan_hash != small.plan_hash and "extends" not in large.plan
    same = set(small.plan) - {"network", "tier1", "tier3"}
    assert {k: large.plan[k] for k in same} == {k: small.plan[k] for k in same}
    assert large.plan["tier1"] == small.plan["tier1"] | {"tokens": 32_000_000}
    assert large.plan["network"]["decay"] == small.plan["network"]["decay"]
    settings = training.settings_of(training.Task("tier1", "raw", 0, 32_000_000, {}, {}), large.plan)
    parameters = sum(p.numel() for p in Fox1(settings.model, 2048).parameters())
    assert 95e6 < parameters < 105e6 and settings.optimizer.learning_rate == 6e-4
    kept = training.settings_of(training.Task("tier1", "raw", 0, 20_000_000, {}, {}), small.plan)
    assert kept.model.hidden == 96 and kept.optimizer.learning_rate == 8e-3


@pytest.fixture
def efficacy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which has everything run on one thread from its import on: that ends with the test."""
    for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    return importlib.import_module("fox1.benchmarks.efficacy")


def test_a_plan_with_an_order_is_run_in_it_and_costs_what_its_trainings_take(
    efficacy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, tmp_path, tmp_path, LARGE)
    for module, name in ((efficacy, "pools_of"), (efficacy, "natural_shares"), (efficacy.data, "recipe_phases")):
        monkeypatch.setattr(module, name, lambda *given: {})
    tasks = [opened() for opened in efficacy.queue(place, training.Results(place))]
    names = [task.name for task in tasks]
    assert names[:6] == [
        *("tier1:curated:0", "tier1:raw:0", "tier1:curated:1", "tier1:raw:1"),
        *("tier3:shuffled:0", "tier3:phased:0"),
    ]
    assert len(set(names)) == len(names) == 4 * 5 + 4 * 5 and not any("datatrove" in name for name in names)
    found = training.cost(place.plan, 2048, 0)
    assert {tier: tokens for tier, tokens, _ in found} == {
        tier: sum(t.tokens for t in tasks if t.tier == tier) for tier in ("tier1", "tier3")
    }
    assert all(hours > 0 for *_, hours in found)
    assert training.cost(place.plan, 2048, 3_000_000)[0][1] == found[0][1] + 20 * place.plan["evaluations"] * 1_000_000


def test_on_a_gpu_attention_gets_bf16_and_weights_stay_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    pool = write_pool(tmp_path / "web", rng.integers(4, VOCABULARY, (16, LENGTH)).astype(np.int32))
    data = open_mixture([PoolPart(pool, 16, 16)], 1)
    plan = a_place(tmp_path).plan
    plan["network"]["model"] = {**vars(MODEL), "layers": 1, "hidden": 32, "intermediate": 48}
    task = training.Task("tier1", "raw", 0, 16 * LENGTH, {}, {})
    seen, real = set(), attention._per_document

    def noted(q: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.add(q.dtype)
        return real(q, *more)

    monkeypatch.setattr(attention, "_per_document", noted)
    trainings = [NetworkTraining(data, training.settings_of(task, plan), 1) for _ in range(2)]
    trainings[1].halved = True
    for each, dtype in zip(trainings, (torch.float32, torch.bfloat16), strict=True):
        seen.clear()
        each.advance(each.steps)
        assert seen == {dtype} and {p.dtype for p in each.model.parameters()} == {torch.float32}
    stream = UnitStream(np.arange(4, 24, dtype=np.int32), np.array([20]), np.zeros(1, int), np.zeros(1, bool))
    one, two = (each.score(stream) for each in trainings)
    assert np.allclose(one, two, atol=0.15) and not np.array_equal(one, two)


def test_results_go_on_at_another_machine(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, kept, rng = training.Results(a_place(tmp_path / "here")), tmp_path / "kept", np.random.default_rng(2)
    tasks = [training.Task("tier1", arm, 0, 200, {}, {}) for arm in ("raw", "curated")]
    sequences = sequences_of(np.full(5, 100), np.arange(5))
    bits = [rng.random(5) for _ in tasks]
    for task, each in zip(tasks, bits, strict=True):
        here.add(task, 100, sequences, each)
        here.add(task, 200, sequences, each)
    here.keep(kept)
    there = training.Results(a_place(tmp_path / "there"))
    there.take_up(kept)
    assert there.lines() == here.lines() and len(list(kept.glob("*-bits/*"))) == 2
    for task, each in zip(tasks, bits, strict=True):
        assert there.is_finished(task)
        assert np.allclose(np.load(there.bits_file(task.key, 200)), each, atol=1e-6)
    # What is there already is not replaced, and a line without bits is no finished training.
    there.bits_file(tasks[0].key, 200).unlink()
    there.take_up(kept)
    assert [there.is_finished(task) for task in tasks] == [False, True]
    there.add(tasks[0], 200, sequences, bits[0])
    assert there.is_finished(tasks[0]) and there.lines() == here.lines()


def a_place(root: Path) -> Place:
    place = Place(root, root, root / "truth.jsonl")
    place.plan.update(block_length=LENGTH, domains=["web", "code"], evaluations=2, checkpoint_seconds=0)
    place.plan["network"]["batch_tokens"] = 4 * LENGTH
    return place


@pytest.mark.parametrize("arm", ["phased", "constant"])
def test_a_killed_training_continues_as_if_it_had_not_stopped(
    arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, killed = a_place(tmp_path / "whole"), a_place(tmp_path / "killed")
    rng = np.random.default_rng(1)
    pools = {}
    for domain in ("web", "code"):
        packed = write_pool(tmp_path / domain, rng.integers(4, VOCABULARY, (64, LENGTH)).astype(np.int32))
        pools[domain] = DomainPool(packed, 64, 64 * LENGTH)
    rows = [
        ("kept/web", 1, 1, 200, rng.integers(4, VOCABULARY, 60).astype(np.int32)),
        ("arc", 2, 3, 9, np.arange(4, 12)),
    ]
    write_sequences(rows, tmp_path / "measures.arrow")
    read = read_sequences([tmp_path / "measures.arrow"])
    sequences = Sequences(**{**vars(read), "targets": ("kept/web", "items/arc")})
    phases = ({"web": 0.8, "code": 0.2}, {"web": 0.5, "code": 0.5}, {"web": 0.1, "code": 0.9})
    task = training.Task("tier3", arm, 0, 96 * LENGTH, pools, {}, phases=phases)
    training.run(task, place, sequences)
    advance = NetworkTraining.advance
    calls: list[int] = []

    def dies(self: NetworkTraining, until: int) -> None:
        advance(self, min(until, self.step + 5))
        calls.append(self.step)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(NetworkTraining, "advance", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            training.run(task, killed, sequences)
    training.run(task, killed, sequences)
    whole, again = ([np.load(f) for f in sorted((p.root / "bits").glob("*"))] for p in (place, killed))
    assert len(whole) == len(again) == 2
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    assert [v["tokens"] for v in training.Results(killed).lines()] == [48 * LENGTH, 96 * LENGTH]
    assert not list((killed.root / "checkpoints").iterdir()) and torch.get_num_threads() == 1

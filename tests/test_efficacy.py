"""The experiment's own mathematics: orders, quotas, bootstrap, rules; and that a training continues as if it had not stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fox1.benchmarks import efficacy_training as training
from fox1.benchmarks.efficacy_data import DomainPool, Place
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
from fox1.trainer.data.order import interleave
from fox1.tune.measured import Sequences, read_sequences, write_sequences
from fox1.tune.model import NetworkTraining

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

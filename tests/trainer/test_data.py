"""The data order: a pure function of the unit index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fox1.trainer.data import PhaseData, interleave
from fox1.trainer.loss import IGNORE
from fox1.trainer.permutation import permute
from fox1.trainer.schedule import Plan, plan_steps
from fox1.trainer.settings import ScheduleSettings
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum))
def test_interleaving_takes_every_unit_once_in_order_and_in_proportion(counts: list[int]) -> None:
    total = sum(counts)
    split, number = interleave(np.arange(total), tuple(counts))
    seen = list(zip(split.tolist(), number.tolist(), strict=True))
    alone = [interleave(np.array([i]), tuple(counts)) for i in range(total)]
    assert seen == [(int(s[0]), int(n[0])) for s, n in alone]
    for split, count in enumerate(counts):
        assert [n for s, n in seen if s == split] == list(range(count))
    first = counts[0]
    for i in range(total):
        taken = sum(1 for s, _ in seen[: i + 1] if s == 0)
        assert abs(taken - (i + 1) * first / total) <= 1


@given(st.integers(1, 3000), st.integers(0, 5))
def test_permute_is_a_permutation(n: int, seed: int) -> None:
    assert sorted(permute(np.arange(n), n, seed).tolist()) == list(range(n))


def test_micro_batches_are_the_blocks_on_disk(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase2", 1)
    batch = data.micro_batch(0, data.units, torch.device("cpu"))
    assert len(batch.tokens) == data.units * data.unit_tokens
    ends = batch.documents.ends
    assert ends[-1] == len(batch.tokens) and list(ends) == sorted(set(ends))
    targets, tokens = batch.targets.numpy(), batch.tokens.numpy()
    counted = targets != IGNORE
    assert counted.sum() == batch.valid
    assert (targets[counted] == tokens[1:][counted[:-1]]).all()
    # The last token of a segment predicts nothing; a position of zero begins each.
    assert not counted[np.array(ends) - 1].any()
    begins = np.r_[0, np.array(ends)[:-1]]
    assert (batch.documents.positions.numpy()[begins] == 0).all()


def test_units_past_the_end_are_the_same_units_in_another_order(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase2", 1)
    first = sorted(data.stream(i, 1).tokens.tobytes() for i in range(data.units))
    second = sorted(data.stream(i + data.units, 1).tokens.tobytes() for i in range(data.units))
    assert first == second


def test_padding_counts_for_nothing(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase1", 1)
    for i in range(data.units):
        unit = data.stream(i, 1)
        if unit.padding[-1]:
            batch = data.micro_batch(i, 1, torch.device("cpu"))
            assert (batch.targets[unit.ends[-2] - 1 :] == IGNORE).all()
            return
    pytest.skip("no block of the sample is padded")


def test_the_schedule_rises_holds_and_falls() -> None:
    plan = plan_steps([1000, 400], [10, 4], ScheduleSettings(20, 0.1))
    assert plan == Plan((100, 100), ScheduleSettings(20, 0.1))
    assert plan.factor(0) == pytest.approx(1 / 20)
    assert plan.factor(19) == plan.factor(100) == plan.factor(180) == 1.0
    assert plan.factor(190) == pytest.approx(0.5)
    assert plan.factor(199) == pytest.approx(0.05)
    assert plan.first_step(1) == 100


def test_a_missing_set_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a phase set"):
        PhaseData(tmp_path, 1)

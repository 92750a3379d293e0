"""Skipped steps: spikes, NaN and infinite values, decided alike on all ranks and kept with the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fox1.trainer.checks.stability import Guard
from fox1.trainer.model import model as model_module
from fox1.trainer.train import train


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def judged(guard: Guard, values: list[tuple[float, float]]) -> list[bool]:
    return [bool(guard.judge(torch.tensor(loss), torch.tensor(norm)).item()) for loss, norm in values]


def test_spikes_and_what_is_not_finite_are_skipped(alone: None) -> None:
    guard = Guard(6.0, 8, torch.device("cpu"))
    calm = [(3.0 + 0.1 * (i % 3), 1.0 + 0.05 * (i % 2)) for i in range(8)]
    assert not any(judged(guard, calm))
    assert judged(
        guard, [(9.0, 1.0), (3.1, 1.0), (3.1, 50.0), (float("nan"), 1.0), (3.1, float("inf")), (3.2, 1.0)]
    ) == [
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert guard.counts.tolist() == [10, 4, 0]


def test_only_what_is_not_finite_is_skipped_before_the_window_is_full_or_with_sigma_zero(alone: None) -> None:
    assert judged(Guard(6.0, 8, torch.device("cpu")), [(11.0, 9.0), (3.0, 1.0), (99.0, 1.0)]) == [False] * 3
    off = Guard(0.0, 2, torch.device("cpu"))
    assert judged(off, [(1.0, 1.0)] * 4 + [(99.0, 1.0), (float("nan"), 1.0)]) == [False] * 5 + [True]


def test_a_run_of_spikes_does_not_become_the_norm(alone: None) -> None:
    guard = Guard(6.0, 8, torch.device("cpu"))
    judged(guard, [(3.0 + 0.1 * (i % 3), 1.0) for i in range(8)])
    assert all(judged(guard, [(9.0, 1.0)] * 20)) and guard.counts.tolist() == [8, 20, 20]
    # What a checkpoint holds makes the same decisions.
    other = Guard(6.0, 8, torch.device("cpu"))
    for name, value in guard.state().items():
        other.state()[name].copy_(value)
    assert judged(other, [(9.0, 1.0), (3.0, 1.0)]) == [True, False] and other.counts.tolist() == [9, 21, 0]


@pytest.fixture
def small(run: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    out.mkdir()
    for part in ("phases", "held_out"):
        (out / part).symlink_to(run / part)
    settings = json.loads((run / "training.json").read_text())
    settings |= {"evaluate_blocks": 2, "skip_window": 8, "max_skipped": 3}
    settings["model"] |= {"layers": 1, "hidden": 32, "intermediate": 32, "heads": 1, "kv_heads": 1}
    (out / "training.json").write_text(json.dumps(settings))
    return out


def broken(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Make the loss of some steps NaN."""
    calls = iter(range(10**6))
    real = model_module.linear_cross_entropy

    def loss(*arguments):  # type: ignore[no-untyped-def]
        total, each = real(*arguments)
        return (total * torch.nan, each) if torch.is_grad_enabled() and next(calls) in steps else (total, each)

    monkeypatch.setattr(model_module, "linear_cross_entropy", loss)


@pytest.mark.slow
def test_a_step_with_a_loss_of_nan_is_skipped_and_counted(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, range(2, 4))
    assert train(small, tmp_path / "ckpt", [0]) == 0
    lines = [json.loads(line) for line in (tmp_path / "ckpt" / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert trained[-1]["skipped_steps"] == 2
    held_out = [line["loss"] for line in lines if line["kind"] == "held_out"]
    assert held_out and all(loss == loss and loss < 8 for loss in held_out)


@pytest.mark.slow
def test_too_many_skipped_steps_stop_the_training(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, range(1, 10**6))
    with pytest.raises(
        ValueError,
        match=r"skipped \d+ steps in a row, up to step \d+: loss or gradient norm was NaN, infinite or a spike",
    ):
        train(small, tmp_path / "ckpt", [0, 1, 2])

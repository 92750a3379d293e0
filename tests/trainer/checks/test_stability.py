"""Skipped steps: spikes, NaN and infinite values, decided alike on all ranks and kept with the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fox1.trainer import loop
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest
from fox1.trainer.checks.stability import Guard
from fox1.trainer.data.order import PhaseData
from fox1.trainer.model import model as model_module
from fox1.trainer.settings import Options
from fox1.trainer.train import train
from fox1.trainer.watch.curves import draw_curves


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


CALM = [(3.0 + 0.02 * (i % 3), 1.0 + 0.05 * (i % 2)) for i in range(32)]


def raised(loss: float = 1.0, norm: float = 1.0) -> list[tuple[float, float]]:
    """Calm steps whose losses and norms are this many times as large."""
    return [(a * loss, b * norm) for a, b in CALM]


def test_a_phase_begins_with_statistics_of_its_own(alone: None) -> None:
    guard = Guard(6.0, 16, torch.device("cpu"), 16)
    judged(guard, CALM)
    guard.begin()
    # However much higher its level; and once a few of its steps are known, what lies above it is a spike.
    assert not any(judged(guard, raised(3.0, 20.0)[:8]))
    assert judged(guard, [(9.0 * 3, 20.0), (9.1, 400.0), (9.0, 20.0)]) == [True, True, False]


@pytest.mark.parametrize(("loss", "norm"), [(1.1, 1.0), (1.4, 1.0), (1.0, 5.0), (1.2, 3.0)])
def test_a_level_within_a_phase_is_learned_from_the_steps_that_were_skipped(
    alone: None, loss: float, norm: float
) -> None:
    guard = Guard(6.0, 16, torch.device("cpu"), 16)
    assert not any(judged(guard, CALM))
    higher = raised(loss, norm)
    assert judged(guard, higher) == [True] * 8 + [False] * (len(higher) - 8)
    assert guard.levels[0] == 1
    assert judged(guard, [(9.0, norm), (3.0 * loss, 60.0 * norm), higher[0]]) == [True, True, False]
    # Back again: what is lower is no spike.
    assert not any(judged(guard, CALM))


def test_a_level_is_learned_again_once_a_window_has_passed(alone: None) -> None:
    guard = Guard(6.0, 16, torch.device("cpu"), 16)
    judged(guard, CALM)
    judged(guard, raised(1.2)[:24])
    assert sum(judged(guard, raised(1.5))) == 8 and guard.levels[0] == 2


def test_what_diverges_is_no_level(alone: None) -> None:
    def after(steps: list[tuple[float, float]], max_skipped: int = 16) -> list[bool]:
        guard = Guard(6.0, 16, torch.device("cpu"), max_skipped)
        judged(guard, CALM)
        return judged(guard, steps)

    assert all(after(raised(2.0))) and all(after(raised(1.0, 20.0)))  # far above
    assert all(after([(4.0 + 3.0 * (i % 2), 1.0) for i in range(32)]))  # not settled
    assert all(after([(float("nan") if i % 5 == 0 else 3.6, 1.0) for i in range(32)]))
    assert all(after(raised(1.2), max_skipped=4))  # the training stops before
    climbing = after(raised(1.3)[:10] + raised(1.8))
    assert climbing[:8] == [True] * 8 and climbing[8:10] == [False] * 2 and all(climbing[10:])


def test_spikes_in_a_row_are_skipped_when_they_are_few(alone: None) -> None:
    guard = Guard(6.0, 16, torch.device("cpu"), 16)
    judged(guard, CALM)
    for _ in range(5):
        assert all(judged(guard, raised(1.2)[:7])) and not any(judged(guard, CALM[:4]))
    assert guard.levels[0] == 0


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


def shifted(monkeypatch: pytest.MonkeyPatch, by: Callable[[int], float]) -> None:
    """Multiply the loss of each step."""
    calls = iter(range(10**6))
    real = model_module.linear_cross_entropy

    def loss(*arguments):  # type: ignore[no-untyped-def]
        total, each = real(*arguments)
        factor = by(next(calls)) if torch.is_grad_enabled() else 1.0
        return total * factor, each * factor

    monkeypatch.setattr(model_module, "linear_cross_entropy", loss)


def long_phases(small: Path, batch_tokens: int, count: int) -> None:
    """Give the first phases batches of one micro-batch, so that they have many steps."""
    settings = json.loads((small / "training.json").read_text())
    settings["phases"] = settings["phases"][:count]
    settings |= {"micro_batch_tokens": batch_tokens, "max_skipped": 16, "skip_window": 16, "checkpoint_every": 1000}
    for phase in settings["phases"]:
        phase["batch_tokens"] = batch_tokens
    settings["optimizer"]["learning_rate"] = 1e-5
    (small / "training.json").write_text(json.dumps(settings))


@pytest.mark.slow
def test_a_phase_with_higher_losses_is_trained_to_its_end(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_phases(small, 1024, 2)
    data = PhaseData(small / "phases" / "phase1", 1)
    steps = data.units * data.unit_tokens // 1024
    shifted(monkeypatch, lambda step: 1.0 if step < steps else 1.8)
    assert train(small, tmp_path / "ckpt", [0, 1]) == 0
    last = read_manifest(checkpoints(tmp_path / "ckpt")[-1]).progress
    lines = [json.loads(line) for line in (tmp_path / "ckpt" / "metrics.jsonl").read_text().splitlines()]
    assert last.phase == 1 and last.phase_done and last.step > steps + 16
    # A spike may be among them; the new level is none.
    assert [line["skipped_steps"] for line in lines if line["kind"] == "train"][-1] <= 2


@pytest.mark.slow
def test_a_level_learned_within_a_phase_is_reported_and_a_model_that_diverges_is_stopped(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_phases(small, 512, 1)
    shifted(monkeypatch, lambda step: 1.0 if step < 20 else 1.1)
    assert train(small, tmp_path / "ckpt", [0], Options(stop_after=36)) == 75
    assert "has settled at a higher level" in (tmp_path / "ckpt" / "train.log").read_text()
    shifted(monkeypatch, lambda step: 1.0 if step < 20 else 2.5)
    with pytest.raises(ValueError, match="steps in a row, up to step"):
        train(small, tmp_path / "other", [0])


def strict(line: str) -> dict[str, Any]:
    """A line as JSON, which has neither NaN nor Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    found: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return found


@pytest.mark.slow
def test_a_step_that_is_skipped_is_in_no_mean(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first 30 steps of one micro-batch each, 3 in the first report are NaN, and all in the second."""
    long_phases(small, 512, 1)
    settings = json.loads((small / "training.json").read_text()) | {"skip_window": 1000, "max_skipped": 100}
    (small / "training.json").write_text(json.dumps(settings))

    monkeypatch.setattr(loop, "LOG_SECONDS", 1e9)

    def reported(name: str, bad: set[int]) -> list[dict[str, Any]]:
        shifted(monkeypatch, lambda step: float("nan") if step in bad else 1.0)
        assert train(small, tmp_path / name, [0], Options(stop_after=30)) == 75
        lines = map(strict, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [line for line in lines if line["kind"] == "train"]

    whole, holed = reported("whole", set()), reported("holed", {3, 4, 9, *range(10, 20)})
    assert holed[0]["skipped_steps"] == 3 and holed[1]["skipped_steps"] == 13
    # The rate is tiny, so a loss is that of the first steps.
    assert holed[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.01)
    for corpus, loss in holed[0]["loss_by_corpus"].items():
        assert loss == pytest.approx(whole[0]["loss_by_corpus"][corpus], rel=0.05)
    assert holed[0]["gradient_norm"] is None and holed[1]["loss"] is None and holed[1]["loss_by_corpus"] == {}
    assert holed[2]["loss"] == pytest.approx(whole[2]["loss"], rel=0.01)
    assert "phase1 step 20/" in (log := (tmp_path / "holed" / "train.log").read_text()) and " loss - rate " in log
    draw_curves([tmp_path / "holed"], tmp_path / "curves.svg")


@pytest.mark.slow
def test_too_many_skipped_steps_stop_the_training(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, range(1, 10**6))
    with pytest.raises(
        ValueError,
        match=r"skipped \d+ steps in a row, up to step \d+: loss or gradient norm was NaN, infinite or a spike",
    ):
        train(small, tmp_path / "ckpt", [0, 1, 2])

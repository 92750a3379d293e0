"""Settings of one call: `--set`, and reports and checkpoints by steps and by time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fox1.trainer import loop
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest
from fox1.trainer.launch import run_processes
from fox1.trainer.overrides import override
from fox1.trainer.settings import (
    ModelSettings,
    OptimizerSettings,
    Options,
    PhaseTraining,
    ScheduleSettings,
    TrainSettings,
)

from tests.conftest import ONE_LAYER, run_command, run_to_train

PHASES = (PhaseTraining("first", 64, 16, 1), PhaseTraining("second", 64, 16, 2))
BASE = TrainSettings(ModelSettings(), PHASES, 16, OptimizerSettings(1e-3), ScheduleSettings(1, 0.1))


def test_values_are_written_as_in_a_recipe() -> None:
    found = override(
        BASE,
        Options(
            set=(
                "optimizer.learning_rate=2e-4",
                "training.optimizer.betas=[0.8, 0.9]",
                "phases.second.batch_tokens=32",
                "micro_batch_tokens=2Ki",
                "schedule.warmup_steps=null",
                "schedule.warmup_tokens=1M",
                "schedule.decay_share=25%",
                "activation_checkpointing=full",
                "fp8_head=true",
                "optimizer.name=muon",
                "compile=false",
            ),
            log_every=3,
            checkpoint_minutes=1.5,
        ),
    )
    assert found == replace(
        BASE,
        optimizer=replace(BASE.optimizer, learning_rate=2e-4, betas=(0.8, 0.9), name="muon"),
        phases=(PHASES[0], replace(PHASES[1], batch_tokens=32)),
        micro_batch_tokens=2048,
        schedule=ScheduleSettings(None, 0.25, 1_000_000),
        activation_checkpointing="full",
        fp8_head=True,
        compile=False,
        log_every=3,
        checkpoint_minutes=1.5,
    )
    assert override(BASE, Options()) == BASE


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optimizer.learning_rat=1", "has no setting optimizer.learning_rat; did you mean optimizer.learning_rate?"),
        ("optimizer=1", "has no setting optimizer; did you mean optimizer."),
        ("qqq=1", "has no setting qqq; choose from model.layers, "),
        ("seed", "write KEY=VALUE, for example"),
        ("micro_batch_tokens=2Kx", "unknown unit 'Kx'"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate is 'fast'"),
        ("optimizer.clip_norm=0", "optimizer.clip_norm is 0.0; it must be above 0"),
        ("activation_checkpointing=some", "activation_checkpointing is 'some'"),
        ("schedule.decay_from=second", "give one of decay_share and decay_from"),
    ],
)
def test_what_cannot_be_set_is_one_line(assignment: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^--set ") as refused:
        override(BASE, Options(set=(assignment,)))
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.fixture
def small(run: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    paces = {"checkpoint_every": 1000, "evaluate_blocks": 2, "micro_batch_tokens": 1024, "evaluate_every": 0}
    run_to_train(run, out, ONE_LAYER, 1024, **paces)
    return out


def steps(out: Path) -> list[int]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_a_call_has_settings_of_its_own(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "ckpt"
    words: list[Any] = ["train", small, "--out", out, "--stop-after", 6, "--log-every", 2]
    done = run_command(*words, "--set", "optimizer.learning_rate=2e-3", "--set", "schedule.warmup_steps=0")
    assert done.returncode == 75, done.stderr
    assert steps(out) == [2, 4, 6]
    assert "for this call: optimizer.learning_rate 0.004 -> 0.002\n" in done.stderr
    assert "for this call: log_every 10 -> 2\n" in done.stderr
    assert read_manifest(checkpoints(out)[-1]).settings["optimizer"]["learning_rate"] == 2e-3
    again = run_command("train", small, "--out", out, "--stop-after", 7)
    assert "changed since step-00000006: optimizer.learning_rate 0.002 -> 0.004\n" in again.stderr
    wrong = run_command("train", small, "--out", out, "--set", "z_los=1")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "error: --set z_los=1: a training has no setting z_los; did you mean z_loss?\n",
    )


@pytest.mark.slow
def test_reports_and_checkpoints_come_by_time_as_well(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_SECONDS", 0.0)
    from fox1.trainer.train import train

    out = tmp_path / "ckpt"
    assert train(small, out, [0], Options(stop_after=4, checkpoint_minutes=1e-6)) == 75
    assert steps(out) == [1, 2, 3, 4]
    # Of those by time the last two are kept.
    assert [c.name for c in checkpoints(out)] == ["step-00000003", "step-00000004"]
    assert train(small, tmp_path / "none", [0], Options(stop_after=4, checkpoint_minutes=0)) == 75
    assert [c.name for c in checkpoints(tmp_path / "none")] == ["step-00000004"]


@pytest.mark.long
def test_ranks_go_by_one_clock(small: Path, tmp_path: Path) -> None:
    """Rank 1 finds nothing due, and rank 0 everything; both get all settings of the call."""
    import sys

    script, out = tmp_path / "clocks.py", tmp_path / "ckpt"
    script.write_text(
        "import os\n"
        "from fox1.trainer import loop, train\n"
        "loop.LOG_SECONDS = 0.0 if os.environ['RANK'] == '0' else 1e9\n"
        "train.main()\n"
    )
    options = Options(stop_after=3, set=("z_loss=1e-4",), checkpoint_minutes=1e-6).arguments()
    assert run_processes([sys.executable, str(script), str(small), str(out), "--phases=1", *options], 2) == 75
    assert steps(out) == [1, 2, 3]
    assert [c.name for c in checkpoints(out)] == ["step-00000002", "step-00000003"]
    assert read_manifest(checkpoints(out)[-1]).settings["z_loss"] == 1e-4

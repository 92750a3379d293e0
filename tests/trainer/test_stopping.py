"""A training that is asked to stop: at once, on every rank, and with nothing lost but a part of a step."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fox1.trainer.checkpoints import checkpoint as module
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest, remove_partial
from fox1.trainer.checkpoints.reader import load_state
from fox1.trainer.checks.held_out_loss import HeldOutLoss
from fox1.trainer.launch import run_processes
from fox1.trainer.loop import Trainer
from fox1.trainer.settings import Options
from fox1.trainer.stopping import ASKED, Stop, passed_on
from fox1.trainer.train import train

from tests.conftest import ONE_LAYER, run_to_train


@pytest.fixture
def small(run: Path, tmp_path: Path) -> Path:
    """A run whose steps have four micro-batches of 1,024 tokens each."""
    out = tmp_path / "run"
    paces = {"checkpoint_every": 1000, "evaluate_blocks": 4, "micro_batch_tokens": 1024, "evaluate_every": 0}
    run_to_train(run, out, ONE_LAYER, 4096, **paces)
    return out


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    from fox1.trainer.checkpoints.reader import contents

    held = contents(checkpoint)
    names = [n for n in held.names if n.startswith(("model.", "optimizer.state.", "guard."))]
    state = {n: torch.empty(held.shapes[n], dtype=held.metadata.state_dict_metadata[n].properties.dtype) for n in names}
    load_state(checkpoint, state, no_dist=True)
    return state


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Ask for a stop, as a signal would, when the ranks agree for the n-th time (from 1)."""
    agree, calls = Trainer._agree, iter(range(1, 10**6))

    def asked(trainer: Trainer) -> tuple[bool, bool, bool]:
        trainer.stop.asked |= next(calls) == call
        return agree(trainer)

    monkeypatch.setattr(Trainer, "_agree", asked)


@pytest.mark.slow
def test_a_stop_within_a_step_loses_that_part_and_no_bit_of_the_rest(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks agree before a phase, and after each of the four micro-batches of a step."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(small, whole, [0], Options(stop_after=3)) == 75
    with monkeypatch.context() as patch:
        stop_at(patch, 1 + 4 + 3)
        assert train(small, stopped, [0]) == 75
    (left,) = checkpoints(stopped)
    assert read_manifest(left).progress.step == 1
    assert train(small, stopped, [0], Options(stop_after=3)) == 75
    found, expected = weights(checkpoints(stopped)[-1]), weights(checkpoints(whole)[-1])
    assert found.keys() == expected.keys() and any(n.startswith("optimizer.state.") for n in found)
    for name, value in found.items():
        assert torch.equal(value.nan_to_num(), expected[name].nan_to_num()), name


@pytest.mark.slow
def test_where_no_step_was_taken_nothing_is_saved(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 2)
    assert train(small, tmp_path / "ckpt", [0]) == 75
    assert not checkpoints(tmp_path / "ckpt")
    assert "stopped at step 0; run the same command again" in (tmp_path / "ckpt" / "train.log").read_text()


@pytest.mark.slow
def test_an_evaluation_is_left_when_asked_to_stop_and_made_again_at_the_end_of_a_phase(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, out = HeldOutLoss.measure, tmp_path / "ckpt"

    def asked(held_out: HeldOutLoss, model: Any, device: Any, stops: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return measure(held_out, model, device, stops)

    with monkeypatch.context() as patch:
        patch.setattr(HeldOutLoss, "measure", asked)
        assert train(small, out, [0]) == 75
    progress = read_manifest(checkpoints(out)[-1]).progress
    assert not progress.phase_done and progress.step == 4
    assert "asked to stop; the held-out loss of this step is not measured" in (out / "train.log").read_text()
    assert train(small, out, [0]) == 0
    assert read_manifest(checkpoints(out)[-1]).progress.phase_done
    assert (out / "metrics.jsonl").read_text().count('"kind": "held_out"') == 1


SLOW = """
import sys, time
from fox1.trainer import loop, train
from fox1.trainer.model import model
real = model.linear_cross_entropy
def slow(*arguments):
    print("micro-batch", file=sys.stderr, flush=True)
    time.sleep(1.5)
    return real(*arguments)
model.linear_cross_entropy = slow
train.main()
"""
"""A training whose micro-batches take so long that its steps take six seconds."""


def begun(small: Path, out: Path, tmp_path: Path) -> subprocess.Popen[str]:
    """A training in another process, in its first step."""
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, str(tmp_path / "slow.py"), str(small), str(out), "--phases=1"]

    def heed() -> None:  # what started the suite may ignore them
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    assert process.stderr
    assert any("micro-batch" in line for line in process.stderr)
    return process


@pytest.mark.slow
def test_sigterm_ends_a_training_within_a_micro_batch(small: Path, tmp_path: Path) -> None:
    process = begun(small, tmp_path / "ckpt", tmp_path)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 75 and rest.count("micro-batch") <= 1, rest


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(small: Path, tmp_path: Path) -> None:
    process = begun(small, tmp_path / "ckpt", tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    assert any("press Ctrl-C again to end at once" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    process.stderr.close()


@pytest.mark.long
def test_a_second_ctrl_c_ends_several_processes_at_once(small: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    ranks = [sys.executable, str(tmp_path / "slow.py"), str(small), str(tmp_path / "ckpt"), "--phases=1"]
    (tmp_path / "launch.py").write_text(
        f"from fox1.trainer.launch import run_processes\nraise SystemExit(run_processes({ranks!r}, 2))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "launch.py")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr
    for awaited in ("micro-batch", "press Ctrl-C again to end at once"):
        assert any(awaited in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGINT and "was killed" not in said, said
    assert not checkpoints(tmp_path / "ckpt")


@pytest.mark.long
def test_ranks_that_see_a_signal_at_different_times_stop_at_the_same_micro_batch(small: Path, tmp_path: Path) -> None:
    """One rank alone sees it, in the middle of a step; then the other, in the next call."""
    script, out = tmp_path / "one.py", tmp_path / "ckpt"
    script.write_text(
        "import os\n"
        "from fox1.trainer import loop, train\n"
        "agree, calls = loop.Trainer._agree, iter(range(1, 10**6))\n"
        "def asked(self):\n"
        "    self.stop.asked |= os.environ['RANK'] == os.environ['WHO'] and next(calls) == 4\n"
        "    return agree(self)\n"
        "loop.Trainer._agree = asked\n"
        "train.main()\n"
    )
    for who, step in (("1", 1), ("0", 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WHO", who)
            assert run_processes([sys.executable, str(script), str(small), str(out), "--phases=1"], 2) == 75
        assert read_manifest(checkpoints(out)[-1]).progress.step == step


def test_a_file_beside_the_checkpoints_asks_workers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fox1.trainer.stopping.ASKED_SECONDS", 0.01)
    stop = Stop()
    (tmp_path / ASKED).touch()  # of a call that was killed
    with passed_on(tmp_path, lambda: True), stop.watching(tmp_path):
        time.sleep(0.1)
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not stop.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.asked
    assert not (tmp_path / ASKED).exists() and threading.active_count() < 50


def test_a_signal_is_not_passed_on_where_nothing_has_begun_nor_a_second_ctrl_c(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), passed_on(tmp_path, lambda: False):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), passed_on(tmp_path, lambda: True):
            signal.raise_signal(signal.SIGINT)
            assert (tmp_path / ASKED).exists()
            signal.raise_signal(signal.SIGINT)
        assert not (tmp_path / ASKED).exists()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_a_killed_call_was_writing_is_removed_and_no_more(tmp_path: Path) -> None:
    for name in (".step-00000013", ".step-00000014", ".damaged-step-00000002", "step-00000012"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__0_0.distcp").write_text("x")
    assert remove_partial(tmp_path) == [f"removed .step-0000001{n}, a checkpoint that was not finished" for n in (3, 4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".damaged-step-00000002", "step-00000012"]
    (tmp_path / ".step-00000015").symlink_to(tmp_path / "step-00000012")
    with pytest.raises(ValueError, match="symbolic link"):
        remove_partial(tmp_path)
    assert (tmp_path / "step-00000012" / "__0_0.distcp").exists()


@pytest.mark.slow
def test_a_training_begins_by_removing_them(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_publish", lambda *_: None)
        assert train(small, out, [0], Options(stop_after=2)) == 75
    assert [p.name for p in out.glob(".step-*")] == [".step-00000002"] and not checkpoints(out)
    assert train(small, out, [0], Options(stop_after=3)) == 75
    assert not list(out.glob(".step-*")) and [c.name for c in checkpoints(out)] == ["step-00000003"]
    assert "removed .step-00000002, a checkpoint that was not finished" in (out / "train.log").read_text()

"""What reports a training: never the end of it, and every step once."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fox1.trainer.watch.metrics import Metrics


def written(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tensorboard_that_cannot_be_written_is_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    later, at_once = tmp_path / "later", tmp_path / "at_once"
    before = Metrics(later)
    before.write("train", 0, {"loss": 1.0})
    monkeypatch.setattr(writer, "write", refuse)
    monkeypatch.setattr(writer, "flush", refuse)
    for folder, metrics in ((later, before), (at_once, Metrics(at_once))):
        for step in range(1, 500):
            metrics.write("train", step, {"loss": 1.0})
            time.sleep(0.005)
        metrics.close()
        assert written(folder)[-1] == 499
        said = (folder / "train.log").read_text()
        assert said.count("\n") == 1 and "warning: TensorBoard failed, and gets no more metrics" in said
        assert "tensorboard cannot be written (Read-only file system)" in said
    assert "Traceback" not in capfd.readouterr().err


class FakeRun:
    """A W&B run whose service is gone from its second call on."""

    def __init__(self) -> None:
        self.calls = 0

    def log(self, numbers: dict[str, Any], step: int) -> None:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("the service is gone\nand more")

    def finish(self) -> None:
        raise RuntimeError("the service is gone")


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_no_failure_of_wandb_ends_a_training(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = ModuleType("wandb")
    run = FakeRun()

    def init(**_: object) -> FakeRun:
        if where == "init":
            raise RuntimeError("nobody has logged in")
        return run

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "x")
    metrics = Metrics(tmp_path)
    for step in range(1, 2 if where == "finish" else 5):
        metrics.write("train", step, {"loss": 1.0})
    metrics.close()
    said = (tmp_path / "train.log").read_text()
    why = "nobody has logged in" if where == "init" else "the service is gone"
    assert said == (
        f"warning: Weights & Biases failed, and gets no more metrics ({why}); the training continues, and metrics.jsonl has "
        "them all\n"
    )
    assert written(tmp_path) == ([1] if where == "finish" else [1, 2, 3, 4])
    assert run.calls == {"init": 0, "log": 2, "finish": 1}[where]


def test_tensorboard_shows_a_step_once_after_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begin, end, resumed in ((1, 30, 0), (16, 45, 15)):
        metrics = Metrics(tmp_path)
        metrics.begin(resumed)
        for step in range(begin, end):
            metrics.write("train", step, {"loss": float(step), "nothing": None, "bad": float("nan")})
        metrics.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 45))
    assert events.Tags()["scalars"] == ["train/loss"]

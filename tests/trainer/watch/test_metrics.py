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
from fox1.trainer.watch.metrics import Metrics, training_name


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def written(folder: Path) -> list[int]:
    return [line["step"] for line in records(folder, "train")]


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


class FakeConfig(dict[str, Any]):
    """A W&B configuration, which refuses another value unless it is allowed."""

    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:  # type: ignore[override]
        assert allow_val_change or not self
        super().update(values)


class FakeRun:
    """A W&B run whose service is gone from its second call on."""

    def __init__(self) -> None:
        self.calls = 0
        self.config = FakeConfig()

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


def test_a_training_has_a_name_and_its_whole_configuration_wherever_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, named = FakeRun(), []
    fake: Any = ModuleType("wandb")
    fake.init = lambda name, **_: named.append(name) or run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "x")
    folder = tmp_path / "ckpt"
    for name, rate in (("", 0.1), ("first try", 0.1), ("", 0.2)):
        metrics = Metrics(folder, name)
        metrics.begin(3, {"settings": {"optimizer": {"learning_rate": rate}}, "processes": 2})
        run.calls = 0
        metrics.write("train", 4, {"loss": 1.0})
        metrics.close()
    # It keeps the name that it was given.
    assert named == ["ckpt", "first try", "first try"] and training_name(folder) == "first try"
    assert run.config["settings"]["optimizer"]["learning_rate"] == 0.2 and run.config["name"] == "first try"
    found = records(folder, "run")
    assert [(line["name"], line["step"]) for line in found] == [("ckpt", 3), ("first try", 3), ("first try", 3)]
    assert found[-1]["settings"] == {"optimizer": {"learning_rate": 0.2}} and found[-1]["processes"] == 2
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    shown = events.Tensors("run/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert '"name": "first try"' in shown and '"learning_rate": 0.2' in shown


def test_a_call_that_reports_nothing_leaves_no_record_of_itself(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.begin(3, {})
    metrics.close()
    assert not (tmp_path / "metrics.jsonl").read_bytes()

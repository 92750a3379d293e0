"""Checkpoints are read without running anything that they hold."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from fox1.trainer.checkpoints.reader import contents, load_state


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_what_torch_writes_is_read(tmp_path: Path) -> None:
    state = {"model": {"w": torch.arange(6.0).reshape(2, 3)}, "rng": {"cpu": torch.get_rng_state()}, "lr": 0.5}
    dcp.save(state, checkpoint_id=str(tmp_path), no_dist=True)
    assert contents(tmp_path).names == {"model.w", "rng.cpu", "lr"}
    found = {"model": {"w": torch.zeros(2, 3)}, "rng": {"cpu": torch.zeros_like(state["rng"]["cpu"])}, "lr": 0.0}
    load_state(tmp_path, found, no_dist=True)
    assert torch.equal(found["model"]["w"], state["model"]["w"]) and found["lr"] == 0.5


def test_metadata_that_would_run_something_is_refused(tmp_path: Path) -> None:
    dcp.save({"w": torch.zeros(2)}, checkpoint_id=str(tmp_path), no_dist=True)
    ran = tmp_path / "ran"
    metadata = pickle.loads((tmp_path / ".metadata").read_bytes())
    metadata.planner_data = Bomb(f"touch {ran}")
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"names (posix|nt|os)\.system, which no checkpoint needs"):
        load_state(tmp_path, {"w": torch.ones(2)}, no_dist=True)
    assert not ran.exists()
    (tmp_path / ".metadata").write_bytes(b"\x80\x05garbage")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        contents(tmp_path)


def test_a_value_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    real = torch.save

    def bombed(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        real(Bomb(f"touch {ran}") if isinstance(value, float) else value, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", bombed)
    dcp.save({"lr": 0.5}, checkpoint_id=str(tmp_path), no_dist=True)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"cannot be loaded .*Weights only load failed"):
        load_state(tmp_path, {"lr": 0.0}, no_dist=True)
    assert not ran.exists()

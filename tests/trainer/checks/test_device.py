"""The comparison of a device with plain layers: right on this CPU, and wrong where a part of the trainer is."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from fox1.trainer.checks import device as checked
from fox1.trainer.model import model as model_of
from fox1.trainer.model.attention import Stream
from fox1.trainer.parallel import start_processes
from fox1.trainer.settings import ModelSettings, OptimizerSettings, ScheduleSettings, TrainSettings

SHAPE = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16)


@pytest.fixture
def device() -> Iterator[torch.device]:
    yield start_processes()
    dist.destroy_process_group()


def findings(device: torch.device) -> dict[str, bool]:
    settings = TrainSettings(SHAPE, (), 1, OptimizerSettings(learning_rate=1e-3), ScheduleSettings(warmup_steps=1))
    return {f.name: f.right for f in checked.check_device(settings, 300, 128, device)}


def test_all_is_right_on_this_machine(device: torch.device) -> None:
    assert findings(device) == dict.fromkeys(("attention", "collectives", "model", "checkpoint"), True)


def test_attention_that_looks_into_other_documents_is_found(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = checked.attend

    def wrong(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, stream: Stream) -> torch.Tensor:
        whole = copy.copy(stream)
        whole.ends = (len(q),)
        return right(q, k, v, whole)

    monkeypatch.setattr(checked, "attend", wrong)
    monkeypatch.setattr(model_of, "attend", wrong)
    found = findings(device)
    assert not found["attention"] and not found["model"]


def test_a_wrong_gradient_is_found(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss alone would not show it."""
    right = model_of.rotate
    calls = []

    def wrong(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        out = right(x, cos, sin)
        # Half of the keys' gradient is lost.
        return (out + out.detach()) / 2 if x.shape[1] == SHAPE.kv_heads else out

    monkeypatch.setattr(model_of, "rotate", wrong)
    assert not findings(device)["model"] and calls


def test_a_checkpoint_that_brings_back_other_weights_is_found(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked, "load", lambda *arguments: True)
    assert not findings(device)["checkpoint"]

"""What a training does with settings that changed since its last checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest
from fox1.trainer.loop import Trainer
from fox1.trainer.resume import changes
from fox1.trainer.settings import Options
from fox1.trainer.train import train

from tests.conftest import ONE_LAYER, run_to_train

OPTIMIZER = {"learning_rate": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0}


@pytest.fixture
def begun(run: Path, tmp_path: Path) -> Path:
    """A run, and beside it `ckpt`, the checkpoints of its first three steps."""
    out = tmp_path / "run"
    paces: dict[str, Any] = {
        "checkpoint_every": 1000,
        "evaluate_blocks": 2,
        "micro_batch_tokens": 1024,
        "optimizer": OPTIMIZER,
    }
    paces["schedule"] = {"warmup_steps": 0, "decay_share": 0.0}
    run_to_train(run, out, ONE_LAYER, 1024, **paces)
    assert train(out, tmp_path / "ckpt", [0], Options(stop_after=3)) == 75
    return out


def change(run: Path, **settings: Any) -> None:
    path = run / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.slow
def test_changed_settings_are_printed_recorded_and_in_force(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ckpt = begun.parent / "ckpt"
    new = {"learning_rate": 5e-4, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.0, "clip_norm": 0.5}
    change(begun, optimizer=new, z_loss=1e-4, skip_window=64, checkpoint_every=2)
    in_force: list[dict[str, Any]] = []
    step = Trainer._step

    def watched(trainer: Trainer, *arguments: Any) -> None:
        step(trainer, *arguments)
        in_force.extend(trainer.optimizer.param_groups)

    monkeypatch.setattr(Trainer, "_step", watched)
    assert train(begun, ckpt, [0], Options(stop_after=4)) == 75
    for group in in_force:
        found = tuple(group[name] for name in ("lr", "betas", "eps", "weight_decay"))
        assert found == (5e-4, (0.8, 0.99), 1e-6, 0.0), group
    log = (ckpt / "train.log").read_text()
    for line in (
        "changed since step-00000003: optimizer.learning_rate 0.001 -> 0.0005",
        "changed since step-00000003: optimizer.betas [0.9, 0.95] -> [0.8, 0.99]",
        "changed since step-00000003: optimizer.weight_decay 0.1 -> 0.0",
        "changed since step-00000003: z_loss 0.0 -> 0.0001",
        "changed since step-00000003: skip_window 128 -> 64",
    ):
        assert line in log
    lines = [json.loads(line) for line in (ckpt / "metrics.jsonl").read_text().splitlines()]
    (recorded,) = [line for line in lines if line["kind"] == "settings"]
    assert recorded["step"] == 3 and recorded["changed"]["optimizer.eps"] == [1e-8, 1e-6]
    assert read_manifest(checkpoints(ckpt)[-1]).settings["optimizer"]["eps"] == 1e-6
    # Nothing has changed since.
    assert train(begun, ckpt, [0], Options(stop_after=5)) == 75
    assert "changed since step-00000004" not in (ckpt / "train.log").read_text()


@pytest.mark.slow
def test_weight_decay_of_matrices_alone_returns_to_what_it_is_set_to(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(begun, optimizer={**OPTIMIZER, "weight_decay": 0.3})
    found: list[tuple[int, float]] = []
    step = Trainer._step

    def watched(trainer: Trainer, *arguments: Any) -> None:
        step(trainer, *arguments)
        found.extend((p.ndim, g["weight_decay"]) for g in trainer.optimizer.param_groups for p in g["params"])

    monkeypatch.setattr(Trainer, "_step", watched)
    assert train(begun, begun.parent / "ckpt", [0], Options(stop_after=4)) == 75
    assert set(found) == {(2, 0.3), (1, 0.0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seed": 7}, r"was trained with seed 1, and now it is 7: its weights and the order of its data began with"),
        (
            {"model": {"intermediate": 64}},
            r"was trained with model.intermediate 32, and now it is 64: its weights belong",
        ),
        ({"model": {"norm_eps": 1e-3}}, r"was trained with model.norm_eps 1e-05, and now it is 0.001"),
        (
            {"optimizer": {**OPTIMIZER, "name": "muon"}},
            r"was trained with optimizer.name adamw, and now it is muon: the state of its optimizer belongs",
        ),
    ],
)
def test_what_cannot_change_is_refused_with_the_reason(begun: Path, settings: dict[str, Any], says: str) -> None:
    if "model" in settings:
        settings = {"model": json.loads((begun / "training.json").read_text())["model"] | settings["model"]}
    change(begun, **settings)
    with pytest.raises(ValueError, match=says) as refused:
        train(begun, begun.parent / "ckpt", [0])
    assert "put it back, or choose another --out" in str(refused.value)


def test_phases_are_compared_by_name() -> None:
    def phase(name: str, number: int, batch: int) -> dict[str, Any]:
        return {"name": name, "tokens": 100, "batch_tokens": batch, "number": number}

    old = {"phases": [phase("a", 1, 2), phase("b", 2, 2)], "warmup_tokens": 5, "gone": 1}
    new = {"phases": (phase("a", 1, 2), phase("b", 2, 4)), "later": 3}
    assert changes(old, new) == {"phases.b.batch_tokens": (2, 4), "gone": (1, None)}
    other = {"phases": [phase("b", 1, 2), phase("a", 2, 2)], "gone": 1}
    assert changes(old, other) == {"phases.order": (["a", "b"], ["b", "a"])}


@pytest.mark.slow
def test_the_same_stop_after_again_trains_nothing(begun: Path) -> None:
    ckpt = begun.parent / "ckpt"
    before = (ckpt / "metrics.jsonl").read_bytes()
    for _ in range(2):
        assert train(begun, ckpt, [0], Options(stop_after=3)) == 75
    assert [c.name for c in checkpoints(ckpt)] == ["step-00000003"]
    assert (ckpt / "metrics.jsonl").read_bytes() == before
    said = (ckpt / "train.log").read_text()
    assert said.count("stopped at step 3; run the same command again to continue, without --stop-after 3") == 3


@pytest.mark.slow
def test_statistics_of_another_window_or_an_earlier_version_begin_again(begun: Path) -> None:
    """A checkpoint without some of them is as one of an earlier version."""
    from fox1.trainer.checkpoints.reader import contents

    shapes = contents(checkpoints(begun.parent / "ckpt")[-1]).shapes
    assert shapes["guard.values"] == (2, 128) and shapes["guard.skipped"] == (2, 8)
    change(begun, skip_window=32, max_skipped=64)
    assert train(begun, begun.parent / "ckpt", [0], Options(stop_after=5)) == 75
    shapes = contents(checkpoints(begun.parent / "ckpt")[-1]).shapes
    assert shapes["guard.values"] == (2, 32) and shapes["guard.skipped"] == (2, 32)
    assert torch.Size(shapes["guard.counts"]) == (3,)

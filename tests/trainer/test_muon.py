"""Muon: what it does to a matrix, sharded or whole, and that a training with it resumes bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fox1.trainer.checkpoints.checkpoint import checkpoints
from fox1.trainer.model.model import Fox1
from fox1.trainer.muon import LIKE_ADAMW, Muon, orthogonalised
from fox1.trainer.parallel import build_optimizer
from fox1.trainer.settings import ModelSettings, OptimizerSettings, ScheduleSettings, TrainSettings
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.trainer.model.test_model import documents
from tests.trainer.ranks import losses, stopped_server, train  # noqa: F401  a fixture
from tests.trainer.test_curriculum import write_run

SHAPE = ModelSettings(layers=2, hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8)
OPTIONS = {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8}


def alone(*rows: int, columns: int = 24, rate: float = 0.02) -> tuple[torch.nn.Parameter, Muon]:
    """A matrix of parts with so many rows, and what follows its gradient."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(torch.randn(sum(rows), columns, generator=generator))
    groups = [{"params": [weight], "weight_decay": 0.1}]
    return weight, Muon(groups, {weight: rows}, 0.95, **{**OPTIONS, "lr": rate})


def gradients(weight: torch.Tensor, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(weight.shape, generator=generator) for _ in range(steps)]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("shape", [(16, 24), (24, 16), (40, 24)])
def test_a_whole_matrix_moves_as_with_torchs_muon(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's iterates in bf16 whatever it is given; here in what the weights are."""
    from torch.optim import _muon

    exact = _muon._zeropower_via_newtonschulz
    bf16 = gradients(torch.empty(shape), 1)[0]
    assert torch.equal(
        orthogonalised(bf16.bfloat16()), exact(bf16, (_muon.DEFAULT_A, _muon.DEFAULT_B, _muon.DEFAULT_C), 5, 1e-7)
    )
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", lambda grad, *_: orthogonalised(grad))
    ours, muon = alone(shape[0], columns=shape[1])
    theirs = torch.nn.Parameter(ours.detach().clone())
    peer = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients(ours, 4):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        peer.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-5, atol=1e-6)


def test_each_part_of_a_fused_matrix_has_singular_values_of_its_own() -> None:
    weight, muon = alone(16, 8, 8, rate=1.0)
    before = weight.detach().clone()
    (gradient,) = gradients(weight, 1)
    gradient[:16] *= 1000
    weight.grad = gradient
    muon.step()
    moved = (before * (1 - 0.1) - weight.detach()).split((16, 8, 8))
    for part in moved:
        values = torch.linalg.svdvals(part) / (LIKE_ADAMW * max(part.shape) ** 0.5)
        assert values.min() > 0.6 and values.max() < 1.3
        # As large as AdamW's.
        assert 0.1 < part.square().mean().sqrt() < 0.3


def test_a_step_that_is_skipped_changes_nothing() -> None:
    weight, muon = alone(16)
    first, second, third = gradients(weight, 3)
    weight.grad = first
    muon.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    muon.step()
    before = (weight.detach().clone(), muon.state[weight]["momentum_buffer"].clone())
    weight.grad = second * torch.nan
    muon.found_inf = torch.ones(())  # type: ignore[attr-defined]
    muon.step()
    assert torch.equal(weight, before[0]) and torch.equal(muon.state[weight]["momentum_buffer"], before[1])
    weight.grad = third
    muon.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    muon.step()
    assert weight.isfinite().all() and not torch.equal(weight, before[0])


def test_matrices_of_blocks_follow_it_and_the_rest_follows_adamw() -> None:
    optimizer = OptimizerSettings(1e-3, name="muon")
    model = Fox1(SHAPE, 50)
    model.initialise(1)
    muon = build_optimizer(model, TrainSettings(SHAPE, (), 64, optimizer, ScheduleSettings(1)))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    muon.step()
    for name, parameter in model.named_parameters():
        kept = set(muon.state[parameter])
        inside = name.startswith("blocks.") and parameter.ndim == 2
        assert kept == ({"step", "momentum_buffer"} if inside else {"step", "exp_avg", "exp_avg_sq"}), name
        assert parameter.grad is not None


def test_a_model_learns_with_it() -> None:
    model = Fox1(SHAPE, 50)
    model.initialise(1)
    settings = TrainSettings(SHAPE, (), 64, OptimizerSettings(3e-3, name="muon"), ScheduleSettings(1))
    muon = build_optimizer(model, settings)
    tokens = torch.randint(0, 50, (64,), generator=torch.Generator().manual_seed(3))
    losses = []
    for _ in range(20):
        loss, _ = model(tokens, documents([20, 64]), tokens.roll(-1))
        muon.zero_grad()
        (loss / 64).backward()
        muon.step()
        losses.append(loss.item() / 64)
    assert losses[-1] < losses[0] - 1


@pytest.mark.slow
def test_a_training_is_the_same_on_more_processes_and_after_a_stop(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run)
    options = ["--phases=1", "--set=optimizer.name=muon", "--set=schedule.decay_share=0"]
    assert train(run, tmp_path / "one", 1, *options) == 0
    found = list(losses(tmp_path / "one").values())
    assert len(found) == 4
    # Three: matrices do not divide among them.
    assert train(run, tmp_path / "three", 3, *options, "--stop-after=2") == 75
    assert train(run, tmp_path / "three", 1, *options) == 0
    assert list(losses(tmp_path / "three").values()) == pytest.approx(found, rel=2e-5)
    assert train(run, tmp_path / "two", 1, *options, "--stop-after=2") == 75
    assert train(run, tmp_path / "two", 1, *options) == 0
    states = []
    for folder in ("one", "two"):
        newest = checkpoints(tmp_path / folder)[-1]
        dcp_to_torch_save(newest, tmp_path / "state.pt")
        states.append(torch.load(tmp_path / "state.pt", weights_only=True))
    momenta = [name for name in states[0]["optimizer"] if name.endswith("momentum_buffer")]
    assert len(momenta) == 4
    for part in ("model", "optimizer"):
        for name, value in states[0][part].items():
            assert not isinstance(value, torch.Tensor) or torch.equal(value, states[1][part][name]), name

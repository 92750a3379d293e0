"""Products from 8-bit operands: near those of the operands as given, forwards and backwards, and in a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from fox1.trainer.model.float8 import GRADIENTS, Float8Linear, product, to_fp8, use_float8
from fox1.trainer.parallel import build, build_optimizer, compile_block, start_processes
from fox1.trainer.settings import TrainSettings

from tests.trainer.model.test_model import documents
from tests.trainer.test_parallel import SETTINGS

CPU = torch.device("cpu")


@pytest.fixture
def alone() -> Iterator[None]:
    start_processes()
    yield
    dist.destroy_process_group()


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, GRADIENTS])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_no_value_overflows_and_each_is_near(kind: torch.dtype, size: float) -> None:
    values = size * torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    small, scale = to_fp8(values, kind)
    back = small.float() * scale
    # Three and two bits of a mantissa.
    assert back.isfinite().all() and error(back, values) < (0.03 if kind == torch.float8_e4m3fn else 0.06)
    assert float(back.abs().max()) == pytest.approx(float(values.abs().max()), rel=1e-3)


def test_a_linear_layer_and_its_gradients_are_near_the_exact_ones() -> None:
    torch.manual_seed(2)
    exact = torch.nn.Linear(64, 48, bias=False)
    fp8 = torch.nn.Linear(64, 48, bias=False)
    fp8.load_state_dict(exact.state_dict())
    use_float8(fp8)
    assert isinstance(fp8, Float8Linear) and fp8.state_dict().keys() == exact.state_dict().keys()
    x, d_out = torch.randn(96, 64), torch.randn(96, 48) * 1e-3
    found = []
    for layer in (fp8, exact):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.backward(d_out)
        assert given.grad is not None and layer.weight.grad is not None
        found.append((out.detach(), given.grad, layer.weight.grad))
    ours, theirs = found
    assert 0 < error(ours[0], theirs[0]) < 0.05 and 0 < error(ours[1], theirs[1]) < 0.08
    # The gradient of the weight is summed over all tokens, from operands as given.
    torch.testing.assert_close(ours[2], theirs[2])
    # Without gradients, as when a model is evaluated, nothing is rounded.
    with torch.no_grad():
        assert torch.equal(fp8(x), exact(x))


def test_a_product_is_that_of_its_operands() -> None:
    a, b = to_fp8(torch.randn(32, 64)), to_fp8(torch.randn(16, 64))
    wide = (a[0].float() * a[1]) @ (b[0].float() * b[1]).T
    torch.testing.assert_close(product(a, b), wide.bfloat16(), rtol=2e-2, atol=2e-2)


def test_a_training_in_fp8_follows_the_exact_one(alone: None) -> None:
    tokens = torch.randint(0, 50, (64,), generator=torch.Generator().manual_seed(3))
    where, losses = documents([20, 64]), []
    shape = replace(SETTINGS.model, head_dim=16, intermediate=64)
    for fp8 in (False, True):
        settings = TrainSettings(**{**vars(SETTINGS), "model": shape, "fp8_linears": fp8})
        model = build(settings, 50, CPU)
        optimizer = build_optimizer(model, settings)
        found = []
        for _ in range(12):
            loss, _ = model(tokens, where, tokens.roll(-1))
            (loss / 64).backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item() / 64)
        losses.append(found)
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1][-1] < losses[1][0] - 0.2


def test_a_block_in_fp8_is_one_graph(alone: None) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    shape = replace(SETTINGS.model, layers=1, head_dim=16, intermediate=64)
    model = build(TrainSettings(**{**vars(SETTINGS), "model": shape, "fp8_linears": True}), 50, CPU)
    compile_block(model.blocks[0], counter)
    tokens = torch.arange(32)
    for _ in range(2):
        loss, _ = model(tokens, documents([32]), tokens)
        loss.backward()
    assert counter.frame_count == 1


def test_a_shape_that_fp8_does_not_take_is_refused(alone: None) -> None:
    shape = replace(SETTINGS.model, intermediate=56)
    settings = TrainSettings(**{**vars(SETTINGS), "model": shape, "fp8_linears": True})
    with pytest.raises(ValueError, match=r"training.fp8_linears: 0.mlp.down has 56 x 32 weights, and fp8 takes"):
        build(settings, 50, CPU)


@pytest.mark.parametrize("setting", ["fp8_head", "fp8_linears"])
def test_a_gpu_that_has_no_fp8_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.trainer.model.float8 import require_float8

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    with pytest.raises(ValueError, match=f"training.{setting}: NVIDIA A100 cannot multiply in fp8"):
        require_float8(setting, torch.device("cuda"))

"""The model as it is built for GPUs, on a CPU: blocks compiled and sharded, bf16 over fp32, evaluation between steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from fox1.trainer import parallel
from fox1.trainer.checks.held_out_loss import HeldOutLoss
from fox1.trainer.data.order import PhaseData
from fox1.trainer.model import model as network
from fox1.trainer.model.attention import Documents
from fox1.trainer.parallel import begin_micro_batch, build, compile_block, give_up_gathered, start_processes
from fox1.trainer.settings import TrainSettings
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from tests.trainer.data.test_data import write_set
from tests.trainer.model.test_model import cumulative, varlen_on_cpu  # noqa: F401  a fixture

CPU = torch.device("cpu")
SETTINGS = TrainSettings.from_json(
    {
        "model": {"layers": 2, "hidden": 32, "intermediate": 48, "heads": 4, "kv_heads": 2, "head_dim": 8},
        "phases": [{"name": "phase1", "tokens": 512, "batch_tokens": 256, "number": 1}],
        "micro_batch_tokens": 256,
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": 1},
    }
)


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    start_processes()
    yield
    dist.destroy_process_group()


@pytest.fixture
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy of a GPU."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    monkeypatch.setattr(parallel, "MixedPrecisionPolicy", lambda: policy)


def batch(n: int = 64) -> tuple[torch.Tensor, Documents, torch.Tensor]:
    tokens = torch.randint(0, 50, (n,), generator=torch.Generator().manual_seed(n))
    return tokens, cumulative([n // 3, n]), tokens.roll(-1)


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_rope_is_rotated_by_tables_in_fp32(
    alone: None, in_bf16: None, varlen_on_cpu: None, monkeypatch: pytest.MonkeyPatch, checkpointing: Any  # noqa: F811
) -> None:  # fmt: skip
    seen = set()
    real = network.rotate

    def spy(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        seen.add((x.dtype, cos.dtype, sin.dtype))
        return real(x, cos, sin)

    monkeypatch.setattr(network, "rotate", spy)
    settings = TrainSettings(**{**vars(SETTINGS), "activation_checkpointing": checkpointing})
    loss, _ = build(settings, 50, CPU)(*batch())
    loss.backward()
    assert seen == {(torch.bfloat16, torch.float32, torch.float32)}


def test_weights_are_gathered_once_a_step(
    alone: None, in_bf16: None, varlen_on_cpu: None, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    gathered = 0
    real = _fsdp_param.FSDPParam.init_all_gather_outputs

    def count(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal gathered
        gathered += 1
        return real(self, *arguments, **options)

    monkeypatch.setattr(_fsdp_param.FSDPParam, "init_all_gather_outputs", count)
    model = build(SETTINGS, 50, CPU)
    optimizer = parallel.build_optimizer(model, SETTINGS)
    parameters, losses = len(list(model.parameters())), []
    for step in (1, 2, 3):
        for n in range(4):
            begin_micro_batch(model, last=n == 3)
            loss, _ = model(*batch())
            loss.backward()
        losses.append(loss.item())
        assert gathered == step * parameters
        assert all(isinstance(p, DTensor) for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    # The next step is of the weights that the optimizer has changed.
    assert losses[2] < losses[1] < losses[0]
    with torch.no_grad():
        model(*batch())
    assert not all(isinstance(p, DTensor) for p in model.parameters())
    give_up_gathered(model)
    assert all(isinstance(p, DTensor) for p in model.parameters())


def test_gradients_over_micro_batches_are_those_of_weights_gathered_each_time(alone: None) -> None:
    found = []
    for kept in (True, False):
        model = build(SETTINGS, 50, CPU)
        for n in range(3):
            begin_micro_batch(model, last=n == 2)
            if not kept:
                model.set_reshard_after_backward(True)  # type: ignore[operator]
                model.set_reshard_after_forward(True)  # type: ignore[operator]
            tokens, of, targets = batch(60 + n)
            assert of.cumulative is not None
            loss, _ = model(tokens, Documents(of.positions, tuple(of.cumulative[1:].tolist()), None, 64), targets)
            loss.backward()
        found.append([p.grad.full_tensor() for p in model.parameters() if isinstance(p.grad, DTensor)])
    assert len(found[0]) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_nothing_compiles_again_in_a_training_with_evaluations(
    alone: None, in_bf16: None, varlen_on_cpu: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """Three phases of other block lengths, and held-out blocks: one graph a block, and one to evaluate with."""
    from fox1.trainer.data import order

    for name, lengths, seed in (
        ("one", {64: 24}, 1),
        ("two", {32: 16, 128: 8}, 2),
        ("three", {256: 4}, 4),
        ("held", {64: 7}, 3),
    ):
        write_set(tmp_path / name, lengths, seed)
    real = order.to_micro_batch

    def as_on_a_gpu(stream: order.UnitStream, device: torch.device) -> order.MicroBatch:
        made = real(stream, device)
        lengths = torch.tensor([0, *stream.ends], dtype=torch.int32)
        documents = Documents(made.documents.positions, (), lengths, made.documents.longest)
        return order.replace(made, documents=documents)

    monkeypatch.setattr(order, "to_micro_batch", as_on_a_gpu)
    torch._dynamo.reset()
    counter, shard, given = CompileCounterWithBackend("aot_eager"), parallel.fully_shard, []

    def backend(graph: Any, inputs: list[Any]) -> Any:
        given.append([x.dtype for x in inputs if isinstance(x, torch.Tensor)])
        return counter(graph, inputs)

    def compiled_before(module: Any, **options: Any) -> Any:
        """As on a GPU: blocks are compiled, then sharded."""
        if isinstance(module, network.Block):
            compile_block(module, backend)
        return shard(module, **options)

    monkeypatch.setattr(parallel, "fully_shard", compiled_before)
    model = build(SETTINGS, 1000, CPU)
    held_out = HeldOutLoss(PhaseData(tmp_path / "held", 1), 7, None, SETTINGS.micro_batch_tokens)
    compiled = []
    for name in ("one", "two", "three"):
        data = PhaseData(tmp_path / name, 1)
        count = SETTINGS.micro_batch_tokens // data.unit_tokens
        for n in range(4):
            begin_micro_batch(model, last=True)
            made = data.micro_batch(n * count, count, CPU)
            model(made.tokens, made.documents, made.targets)[0].backward()
            compiled.append(counter.frame_count)
            if n == 1:
                measured = held_out.measure(model, CPU)
                assert np.isfinite(measured["loss"])
                compiled.append(counter.frame_count)
    first = compiled[0]
    assert compiled[:2] == [first] * 2 and compiled[2:] == [compiled[2]] * 13
    assert first <= SETTINGS.model.layers and compiled[2] <= 2 * first
    # States and six weights in bf16, the tables of RoPE in fp32, the cumulative lengths.
    kinds = (torch.bfloat16, torch.float32, torch.int32)
    assert given and all([dtypes.count(kind) for kind in kinds] == [7, 2, 1] for dtypes in given)


def test_the_held_out_loss_is_that_of_its_blocks_one_by_one(alone: None, tmp_path: Any) -> None:
    write_set(tmp_path, {64: 11})
    model, data = build(SETTINGS, 1000, CPU), PhaseData(tmp_path, 1)
    one, many = (HeldOutLoss(data, 9, None, tokens).measure(model, CPU) for tokens in (0, 256))
    assert one["targets"] == many["targets"] and one["unigram_entropy"] == many["unigram_entropy"]
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)
    assert one["loss_by_corpus"] == pytest.approx(many["loss_by_corpus"], rel=1e-6)

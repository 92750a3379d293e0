"""Blocks compiled and sharded as on a GPU, by the passes of torch's own compiler without its machine code: one graph to train
with and one to evaluate with, over all phases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from fox1.benchmarks.blocks import write_set
from fox1.trainer.checks.held_out_loss import HeldOutLoss
from fox1.trainer.data import order
from fox1.trainer.data.order import MicroBatch, PhaseData, UnitStream
from fox1.trainer.model.model import Fox1
from fox1.trainer.parallel import begin_micro_batch, compile_block, start_processes
from fox1.trainer.settings import ModelSettings
from torch._dynamo.backends.debugging import aot_eager
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from tests.trainer.model.test_model import varlen_on_cpu  # noqa: F401  a fixture

SHAPE = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=256)
VOCABULARY, MICRO = 200, 256
CPU = torch.device("cpu")
HALF, WIDE = torch.bfloat16, torch.float32


@pytest.fixture
def as_on_a_gpu(varlen_on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: F811
    """Attention by cumulative lengths, as the loader gives them to a GPU; a process group of this process."""
    made = order.to_micro_batch

    def with_cumulative(stream: UnitStream, device: torch.device) -> MicroBatch:
        batch = made(stream, device)
        cumulative = torch.from_numpy(np.r_[0, stream.ends].astype(np.int32))
        return replace(batch, documents=replace(batch.documents, ends=(), cumulative=cumulative))

    monkeypatch.setattr(order, "to_micro_batch", with_cumulative)
    torch._dynamo.reset()
    start_processes()
    yield
    dist.destroy_process_group()


def sharded(graphs: list[list[Any]]) -> Fox1:
    """The model as `parallel.build` makes it on CUDA; of every graph that is compiled, what it is given."""

    def backend(graph: Any, given: list[Any]) -> Any:
        graphs.append(given)
        return aot_eager(graph, given)

    model = Fox1(SHAPE, VOCABULARY)
    model.initialise(1)
    policy = MixedPrecisionPolicy(param_dtype=HALF, reduce_dtype=WIDE, cast_forward_inputs=False)
    for block in model.blocks:
        compile_block(block, backend)
        fully_shard(block, mesh=init_device_mesh("cpu", (1,)), mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)), mp_policy=policy)
    return model


def test_nothing_compiles_after_the_first_step_and_the_first_evaluation(as_on_a_gpu: None, tmp_path: Path) -> None:
    shares = (0.11, 0.37, 0.52, 1.0)
    held_out = tmp_path / "held_out"
    # Other lengths, hence other segments and other longest ones, in each phase; the last one has less than a block's width.
    write_set(held_out, [64], 7 * 64, shares, VOCABULARY)
    phases = []
    for number, lengths in enumerate(([64], [128, 256], [256], [32]), 1):
        write_set(tmp_path / f"phase{number}", lengths, 4 * MICRO, shares, VOCABULARY)
        phases.append(PhaseData(tmp_path / f"phase{number}", 1))
    graphs: list[list[Any]] = []
    model, compiled, longest = sharded(graphs), [], set()
    evaluation = HeldOutLoss(PhaseData(held_out, 1), 7, None, MICRO)
    for data in phases:
        units = MICRO // data.unit_tokens
        for first in (0, units):
            batch = data.micro_batch(first, units, CPU)
            longest.add((len(batch.documents.cumulative), batch.documents.longest))  # type: ignore[arg-type]
            begin_micro_batch(model, last=first > 0)
            loss, _ = model(batch.tokens, batch.documents, batch.targets, 64)
            loss.backward()
            compiled.append(len(graphs))
        evaluation.measure(model, CPU)
        compiled.append(len(graphs))
    assert len(longest) >= 4
    # Both blocks share the one to train with, and the one to evaluate with.
    assert compiled == [1, 1] + [2] * (len(compiled) - 2)
    given = [[x.dtype for x in graph if isinstance(x, torch.Tensor)] for graph in graphs]
    # States and six weights in bf16, cos and sin in fp32, and the cumulative lengths.
    assert all((g.count(HALF), g.count(WIDE), g.count(torch.int32)) == (7, 2, 1) for g in given)
    assert {p.grad.dtype for p in model.parameters()} == {WIDE}  # type: ignore[union-attr]

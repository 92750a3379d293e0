"""What a step is said to hold in the memory of a GPU, against what autograd keeps; and what is chosen to fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fox1.trainer.memory import CARDS, CHOICES, block_bytes, choose, fits, memory_need, settled, table
from fox1.trainer.model.attention import Stream
from fox1.trainer.model.model import Block, rope_tables
from fox1.trainer.settings import ModelSettings, OptimizerSettings, PhaseTraining, ScheduleSettings, TrainSettings
from functorch.compile import min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd

from tests.trainer.model.test_model import cumulative, varlen_on_cpu  # noqa: F401  a fixture

FULL = TrainSettings(
    ModelSettings(),
    (PhaseTraining("phase1", 0, 1 << 21, 1), PhaseTraining("phase2", 0, 1 << 22, 2)),
    1 << 15,
    OptimizerSettings(3e-4),
    ScheduleSettings(2000),
)
SMALL = ModelSettings(layers=1, hidden=64, intermediate=128, heads=4, kv_heads=1, head_dim=16)


def kept(block: torch.nn.Module, shape: ModelSettings, tokens: int) -> int:
    """Bytes that autograd keeps of a block in bf16, other than its weights and what all blocks share."""
    where = cumulative([tokens // 3, tokens])
    stream = Stream(where, *rope_tables(where.positions, shape.head_dim, shape.rope_theta))
    shared = {t.untyped_storage().data_ptr() for t in (stream.cos, stream.sin, where.cumulative, *block.parameters())}  # type: ignore[union-attr]
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in shared:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(tokens, shape.hidden).bfloat16().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = block(x * 1, stream)
    out.sum().backward()
    return sum(found.values())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_block_keeps_what_is_said(compiled: bool, varlen_on_cpu: None) -> None:  # noqa: F811
    """Compiled with the partition of torch's own compiler, which computes again what costs little."""
    tokens = 256
    block: Any = Block(SMALL).bfloat16()
    if compiled:
        torch._dynamo.reset()
        backend = aot_autograd(fw_compiler=lambda g, _: g, partition_fn=min_cut_rematerialization_partition)
        block.compile(fullgraph=True, dynamic=False, backend=backend)
    assert kept(block, SMALL, tokens) / tokens == pytest.approx(block_bytes(SMALL, compiled), rel=0.1)


def test_the_full_model_fits_one_h200_as_it_is_and_an_80_gb_card_with_something_computed_again() -> None:
    need = memory_need(FULL, 256_000, 1)
    assert need.weights == 4 * 1_665_271_808 and need.optimizer == 2 * need.weights
    assert need.gathered == need.weights // 2 and 90e9 < need.total < 105e9
    assert choose(FULL, 256_000, 1, CARDS["141 GB"]) == "none"
    chosen = choose(FULL, 256_000, 1, CARDS["80 GB"])
    assert chosen != "none" and fits(memory_need(FULL, 256_000, 1, chosen), CARDS["80 GB"])
    assert choose(FULL, 256_000, 1, 1e9) == "full"
    # More of them share weights, gradients and the state of the optimizer.
    eight = memory_need(FULL, 256_000, 8)
    assert eight.weights == need.weights // 8 and eight.activations == need.activations
    shards = memory_need(replace(FULL, replicas=4), 256_000, 8)
    assert shards.weights == need.weights // 2


def test_less_is_needed_the_more_is_computed_again_and_the_smaller_a_micro_batch() -> None:
    totals = [memory_need(FULL, 256_000, 1, choice).total for choice in CHOICES]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == 3
    assert memory_need(replace(FULL, micro_batch_tokens=1 << 14), 256_000, 1).total < totals[0]
    muon = replace(FULL, optimizer=replace(FULL.optimizer, name="muon"))
    assert memory_need(muon, 256_000, 1).optimizer < memory_need(FULL, 256_000, 1).optimizer


@pytest.mark.parametrize(
    ("asked", "memory", "chosen", "says"),
    [
        ("auto", 150 << 30, "none", "of the 161 GB of this GPU (activation_checkpointing: none)"),
        ("auto", 85_000_000_000, "selective", "activation_checkpointing: selective, since a step would take about"),
        ("none", 85_000_000_000, "none", "does not fit the 85 GB of this GPU (activation_checkpointing: none); give"),
        ("auto", 24_000_000_000, "full", "warning: a step takes about"),
    ],
)
def test_what_is_chosen_is_said(asked: Any, memory: int, chosen: str, says: str) -> None:
    settings, line = settled(replace(FULL, activation_checkpointing=asked), 256_000, 1, memory)
    assert settings.activation_checkpointing == chosen and says in line


def test_a_table_has_a_row_for_every_micro_batch_that_blocks_and_batches_allow() -> None:
    lines = list(table(FULL, 256_000, 1, [2048, 8192]))
    rows = [line.split() for line in lines[2:-2]]
    assert [row[0] for row in rows[::3]] == ["8,192", "16,384", "*32,768" if rows[6][0] != "*" else "*", "65,536"]
    assert lines[-2:] == [
        "  activation_checkpointing `auto` is `selective` on a GPU of 80 GB",
        "  activation_checkpointing `auto` is `none` on a GPU of 141 GB",
    ]
    assert not any(" 4,096 " in line for line in table(replace(FULL, micro_batch_tokens=1 << 14), 256_000, 1, [8192]))

"""The trainer on a GPU that is not there (`benchmarks/fake_gpu.py`): what it asks of one, from the first step to a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fox1.benchmarks.blocks import write_set
from fox1.benchmarks.fake_gpu import FakeGpu
from fox1.benchmarks.gpu_counts import (
    casts_of_weights,
    count_memory,
    count_thread_blocks,
    thread_blocks,
    train_on_fake_gpu,
)
from fox1.trainer.checks.stability import Guard
from fox1.trainer.data.order import PhaseData
from fox1.trainer.model import attention
from fox1.trainer.model import model as model_of
from fox1.trainer.settings import ModelSettings, OptimizerSettings, PhaseTraining, ScheduleSettings, TrainSettings
from torch.nn.attention.varlen import varlen_attn

from tests.trainer.ranks import reports

SHARES = (0.11, 0.37, 0.52, 1.0)
"""Where the documents of a block end, of its length."""
VOCABULARY, MICRO, BATCH, WEIGHTS = 500, 512, 1024, 14
"""Micro-batches are half a batch; two layers have six weights each, beside the embedding and the last norm."""
SETTINGS = TrainSettings(
    ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=256),
    (PhaseTraining("phase1", 0, BATCH, 1), PhaseTraining("phase2", 0, BATCH, 2)),
    MICRO,
    OptimizerSettings(1e-3),
    ScheduleSettings(2),
    evaluate_every=1,
    checkpoint_every=1,
)
STEPS = 4
"""Two of each phase."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of 128 tokens, then of 128 and 256."""
    folder = tmp_path_factory.mktemp("fake") / "run"
    write_set(folder / "phases" / "phase1", [128], 2 * BATCH, SHARES, VOCABULARY)
    write_set(folder / "phases" / "phase2", [128, 256], 2 * BATCH, SHARES, VOCABULARY)
    write_set(folder / "held_out", [128], 4 * 128, SHARES, VOCABULARY)
    return folder


Rotated = list[tuple[torch.dtype, torch.dtype, torch.dtype, str]]


@pytest.fixture(scope="module")
def trained(run: Path) -> tuple[FakeGpu, Rotated, Path]:
    """(what two phases with an evaluation and a checkpoint a step asked for, what RoPE was given, where they were saved)."""
    gpu, out, rotated = FakeGpu(), run.with_name("out"), []
    right = model_of.rotate

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rotated.append((x.dtype, cos.dtype, sin.dtype, str(cos.device)))
        return right(x, cos, sin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_of, "rotate", rotate)
        train_on_fake_gpu(run, out, SETTINGS, gpu)
    return gpu, rotated, out


def test_two_phases_are_trained_evaluated_and_saved_as_on_a_gpu(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    _, _, out = trained
    steps = reports(out)
    assert [line["phase"] for line in steps] == ["phase1"] * 2 + ["phase2"] * 2
    assert all(line["device"] == "NVIDIA H200" and line["mfu"] > 0 and line["memory_bytes"] > 0 for line in steps)
    assert len(reports(out, "held_out")) == STEPS
    assert sorted(path.name for path in out.glob("step-*")) == [f"step-{n:08d}" for n in (2, 3, 4)]


def test_all_layers_compute_in_bf16_on_the_device_and_rope_in_fp32(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, rotated, _ = trained
    kinds = {(x.name, x.weight, x.given, x.gave) for x in gpu.layers}
    half = torch.bfloat16
    assert kinds == {
        ("RMSNorm", half, half, half),
        ("Linear", half, half, half),
        *((name, None, half, half) for name in ("Attention", "MLP", "Block")),
        ("Fox1", None, torch.int64, torch.float32),
    }
    assert {x.devices for x in gpu.layers} == {frozenset({"cuda:0"})} and not gpu.strays
    assert {x.part for x in gpu.layers} == {"step", "evaluation"}
    assert set(rotated) == {(half, torch.float32, torch.float32, "cuda:0")}


def test_attention_is_given_the_segments_there_are_and_their_longest(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, _, _ = trained
    half = torch.bfloat16
    assert {a.shapes[:3] for a in gpu.attended} == {((MICRO, 4, 16), (MICRO, 2, 16), (MICRO, 2, 16))}
    assert {a.dtypes for a in gpu.attended} == {(half, half, half, torch.int32)}
    # Four documents in each of four blocks of 128 tokens; in the second phase one block of 256 and two of 128.
    in_steps = Counter((a.shapes[3], a.longest) for a in gpu.attended if a.part == "step")
    assert in_steps == {((17,), 128): 8, ((13,), 128): 8}
    assert {a.shapes[3] for a in gpu.attended if a.part == "evaluation"} == {(17,)}
    # Causal; heads of keys and values are shared.
    assert {a.options for a in gpu.attended} == {("True", "None", "[-1, 0]", "True")}


def test_no_step_waits_for_the_device(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, _, _ = trained
    assert not [r for r in gpu.reads if r.part == "step"]
    assert not [c for c in gpu.copies if c.part == "step" and c.waits]
    # Elsewhere it is meant: reports, sums of an evaluation, the comparison of weights before a checkpoint.
    assert {r.where for r in gpu.reads} == {"loop.py:_log", "held_out_loss.py:_sums", "sanity.py:check_weights"}
    to_host = {(c.part, c.where) for c in gpu.copies if not c.to_device}
    assert to_host == {
        ("report", "loop.py:_log"),
        ("evaluation", "held_out_loss.py:_sums"),
        ("checkpoint", "checkpoint.py:save"),
    }


def test_a_micro_batch_is_one_pinned_copy_beside_the_kernels(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, _, _ = trained
    loads = [c for c in gpu.copies if c.thread.startswith("loader")]
    # A step ahead of the last one of each phase is prepared as well.
    assert len(loads) == (STEPS + 2) * BATCH // MICRO
    assert {(c.to_device, c.pinned, c.waits, c.stream) for c in loads} == {(True, True, False, "side")}
    # Four rows of int64, and int32 for 0 and the end of each segment.
    assert {c.bytes for c in loads} == {8 * (4 * MICRO + segments // 2 + 1) for segments in (12, 16)}
    others = {(c.part, c.where, c.pinned) for c in gpu.copies if c.to_device and c not in loads}
    assert others == {
        ("", "parallel.py:build", False),
        ("", "stability.py:__init__", False),
        ("evaluation", "order.py:to_micro_batch", True),
    }


def test_weights_are_cast_once_a_step_whatever_its_micro_batches(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, _, _ = trained
    sizes = Counter(int(np.prod(shape)) for shape in SETTINGS.model.shapes(VOCABULARY).values())
    assert sum(sizes.values()) == WEIGHTS
    assert Counter(c.shape[0] for c in casts_of_weights(gpu)) == {size: STEPS * n for size, n in sizes.items()}


def test_a_checkpoint_leaves_the_device_by_pinned_memory(trained: tuple[FakeGpu, Rotated, Path]) -> None:
    gpu, _, _ = trained
    saved = [c for c in gpu.copies if c.part == "checkpoint" and c.bytes > 8]
    weights_and_moments = 3 * WEIGHTS
    # Once for every checkpoint: each weight and its moments, and the guard's four tensors.
    pinned = sum(c.pinned for c in saved)
    assert pinned == STEPS * (weights_and_moments + 4)
    # The first one also copies what is sharded without, while pinned memory is made.
    assert len(saved) - pinned == weights_and_moments


@contextmanager
def as_in(release: str) -> Iterator[None]:
    """`varlen_attn` with the signature that torch has had until 2.11, or since."""

    def until_2_11(query, key, value, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):  # type: ignore[no-untyped-def]
        assert query.shape == key.shape == value.shape
        return varlen_attn(query, key, value, cu_q, cu_k, max_q, max_k, scale=scale, window_size=window_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_varlen", attention.grouped(until_2_11 if release == "2.11" else varlen_attn))
        yield


@pytest.mark.parametrize(("release", "heads"), [("2.11", 4), ("2.12", 2)])
def test_a_step_calls_attention_by_the_signature_of_both_releases(
    release: str, heads: int, run: Path, tmp_path: Path
) -> None:
    gpu = FakeGpu()
    with as_in(release):
        train_on_fake_gpu(run, tmp_path / "out", replace(SETTINGS, evaluate_every=0, checkpoint_every=9), gpu, 1)
    assert {a.shapes[:2] for a in gpu.attended} == {((MICRO, 4, 16), (MICRO, heads, 16))}


def waits(guard: Guard, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float(float(norm) > 1e9), device=loss.device)


def test_a_step_that_waits_and_one_that_moves_to_the_host_are_seen(run: Path, tmp_path: Path) -> None:
    """Else what is said above would be said of any trainer."""
    gpu, rotate = FakeGpu(), model_of.rotate

    def moves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return rotate(x, cos.cpu().to(x.device), sin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "judge", waits)
        patch.setattr(model_of, "rotate", moves)
        train_on_fake_gpu(run, tmp_path / "out", replace(SETTINGS, evaluate_every=0, checkpoint_every=9), gpu, 1)
    assert [r.where for r in gpu.reads if r.part == "step"] == ["test_fake_gpu.py:waits"]
    moved = [c for c in gpu.copies if c.part == "step" and c.where == "test_fake_gpu.py:moves"]
    # Queries and keys of two layers in two micro-batches, there and back.
    assert Counter(c.to_device for c in moved) == {False: 8, True: 8} and all(c.waits for c in moved)


def test_the_estimate_of_memory_holds_at_the_shapes_of_fox1(tmp_path: Path) -> None:
    """Two layers of it with 32,768 tokens at once, one of them computed again: others only add to what every layer holds."""
    write_set(tmp_path / "run" / "phases" / "phase1", [2048], 1 << 17, SHARES, 256_000)
    settings = replace(
        SETTINGS,
        model=ModelSettings(layers=2),
        phases=(PhaseTraining("phase1", 0, 1 << 16, 1),),
        micro_batch_tokens=1 << 15,
    )
    found = count_memory(tmp_path / "run", settings, 256_000, "selective")
    assert found["right"] and found["counted_gb"] > 20, found


def test_the_thread_blocks_of_attention_are_those_of_the_segments_there_are(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase2", 1)
    found = count_thread_blocks(data, MICRO)
    # Twelve segments in each of four micro-batches, none of more than 128 tokens: each has one block of 128 queries.
    assert (found.micro_batches, found.segments, found.launched, found.busy, found.exact) == (4, 48, 48, 48, 48)
    assert found.share == 1.0
    # Filled up to the most documents of a block, each as long as a block may be.
    assert found.padded == 4 * 2 * 2 * (64 + 1) * 2


def test_a_long_document_among_short_ones_launches_blocks_without_work(tmp_path: Path) -> None:
    write_set(tmp_path / "phases" / "phase1", [2048], 4 * 2048, (0.05, 0.1, 1.0), VOCABULARY)
    (row,) = thread_blocks(tmp_path, 4096)
    # The longest has 1,844 tokens, so the grid is 15 blocks high for all six; the short ones fill one each.
    assert (row["segments"], row["launched"], row["busy"]) == (6, 6 * 15, 2 * (1 + 1 + 15))

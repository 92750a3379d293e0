"""A training whose data, batch, processes, learning rate and schedule all change from phase to phase, against a plain loop.

The loop knows blocks on disk and arithmetic: it works out by itself which blocks a step takes and what its rate is, and runs
the network over one document after the other, in one process, with no mask, loader, chunk, shard or micro-batch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fox1.trainer.model.attention import Documents
from fox1.trainer.model.model import Fox1
from fox1.trainer.settings import ModelSettings

from tests.trainer.data.test_data import write_set
from tests.trainer.ranks import reports, stopped_server, token_ids, train  # noqa: F401  a fixture

pytestmark = pytest.mark.slow
VOCABULARY, MICRO, SEED = 1000, 128, 5
SHAPE = {"layers": 1, "hidden": 32, "intermediate": 48, "heads": 2, "kv_heads": 1, "head_dim": 16, "max_positions": 128}
Block = tuple[list[int], list[int], int]


@dataclass(frozen=True)
class Phase:
    """A phase, and what its call changes."""

    blocks: dict[int, int]
    """Block length -> blocks."""
    unit: int
    """Tokens of a block of the longest length."""
    batch: int
    peak: float
    schedule: dict[str, Any]
    """What the call says of it."""
    decay: tuple[str, int, float]
    """Its shape, the phase (from 0) it begins with, and the share of the peak that it ends at."""


WARMUP_STEPS = 3
PHASES = (
    Phase({64: 17}, 64, 256, 3e-3, {"decay_from": "phase3"}, ("linear", 2, 0.0)),
    Phase({32: 20, 128: 12}, 128, 512, 2.5e-3, {"decay_from": "phase2", "final_share": 0.2}, ("linear", 1, 0.2)),
    Phase(
        {32: 50},
        32,
        384,
        4e-3,
        {"decay_from": "phase3", "decay_shape": "cosine", "final_share": 0.1},
        ("cosine", 2, 0.1),
    ),
)


def write_run(run: Path) -> list[list[list[Block]]]:
    """A run with three made-up phases; of every phase its units in order, each as blocks."""
    found = []
    for number, phase in enumerate(PHASES, 1):
        known = write_set(run / "phases" / f"phase{number}", phase.blocks, seed=number)
        found.append(list(units_in_order(known, phase.unit)))
    settings = {
        "model": SHAPE,
        "phases": [
            {"name": f"phase{n}", "tokens": 0, "batch_tokens": p.batch, "number": n} for n, p in enumerate(PHASES, 1)
        ],
        "micro_batch_tokens": MICRO,
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": WARMUP_STEPS},
        "seed": SEED,
        "log_every": 1,
    }
    (run / "training.json").write_text(json.dumps(settings))
    return found


def units_in_order(known: dict[int, list[Block]], unit: int) -> Iterator[list[Block]]:
    """The units of a phase: those of two lengths take turns in proportion to their numbers, each in on-disk order."""
    units = []
    for length, blocks in sorted(known.items()):
        each = unit // length
        units.append([blocks[i * each : (i + 1) * each] for i in range(len(blocks) // each)])
    if len(units) == 1:
        yield from units[0]
        return
    short, long = units
    total = len(short) + len(long)
    for place in range(total):
        # So many of the short ones, to the nearest, are among the first `place`.
        before, after = (math.floor(n * len(short) / total + 0.5) for n in (place, place + 1))
        yield short[before] if after > before else long[place - before]


def documents_of(unit: list[Block]) -> Iterator[list[int]]:
    """The documents of a unit; what follows the last one of a block is padding."""
    for tokens, ends, _ in unit:
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            yield tokens[begin:end]


def rate_of(number: int, at: int, tokens: list[int]) -> float:
    """The rate of a step of a phase (from 0) that begins after `at` tokens of the training; `tokens` are those of phases."""
    phase = PHASES[number]
    shape, first, floor = phase.decay
    rising = min(1.0, (at + phase.batch) / (WARMUP_STEPS * PHASES[0].batch))
    begin, end = sum(tokens[:first]), sum(tokens)
    if at <= begin:
        return phase.peak * rising
    passed = (at - begin) / (end - begin)
    left = 1 - passed if shape == "linear" else math.cos(math.pi * passed / 2) ** 2
    return phase.peak * min(rising, floor + (1 - floor) * left)


def plain_loop(phases: list[list[list[Block]]]) -> tuple[list[float], list[float]]:
    """(mean loss of every step, its rate)."""
    torch.manual_seed(0)
    model = Fox1(ModelSettings(**SHAPE), VOCABULARY)  # type: ignore[arg-type]
    model.initialise(SEED)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        foreach=False,
    )
    tokens = [len(units) * p.unit // p.batch * p.batch for units, p in zip(phases, PHASES, strict=True)]
    losses, rates, at = [], [], 0
    for number, (units, phase) in enumerate(zip(phases, PHASES, strict=True)):
        per_step = phase.batch // phase.unit
        for first in range(0, len(units) - per_step + 1, per_step):
            documents = [d for unit in units[first : first + per_step] for d in documents_of(unit)]
            total, targets = torch.zeros(()), 0
            for document in documents:
                size = len(document)
                ids = torch.tensor(document)
                logits = model.logits(ids, Documents(torch.arange(size), (size,), None, size))
                total = total + F.cross_entropy(logits[:-1], ids[1:], reduction="sum") if size > 1 else total
                targets += size - 1
            optimizer.zero_grad()
            (total / targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate_of(number, at, tokens)
            optimizer.step()
            losses.append(float(total.detach()) / targets)
            rates.append(rate_of(number, at, tokens))
            at += phase.batch
    return losses, rates


def expected_ids(units: list[list[Block]], phase: Phase) -> dict[tuple[int, int], list[str]]:
    """As `token_ids` gives them, of one phase."""
    per_step, per_micro = phase.batch // phase.unit, MICRO // phase.unit
    found = {}
    for first in range(0, len(units) - per_step + 1, per_step):
        micro = [units[n : n + per_micro] for n in range(first, first + per_step, per_micro)]
        streams = [np.array([t for unit in one for tokens, _, _ in unit for t in tokens], np.int64) for one in micro]
        found[phase.unit, first] = [hashlib.sha256(s.tobytes()).hexdigest()[:16] for s in streams]
    return found


@pytest.mark.parametrize("worlds", [(1, 2, 1), (2, 1, 2), pytest.param((1, 2, 4), marks=pytest.mark.long),
                                    pytest.param((4, 1, 2), marks=pytest.mark.long)])  # fmt: skip
def test_everything_may_change_between_phases_and_a_plain_loop_learns_the_same(
    tmp_path: Path, worlds: tuple[int, ...]
) -> None:
    run, out = tmp_path / "run", tmp_path / "ckpt"
    phases = write_run(run)
    for number, (phase, world) in enumerate(zip(PHASES, worlds, strict=True)):
        changes = {"optimizer.learning_rate": phase.peak, **{f"schedule.{k}": v for k, v in phase.schedule.items()}}
        options = [f"--set={key}={value}" for key, value in changes.items()]
        assert train(run, out, world, f"--phases={number + 1}", *options) == 0
        assert token_ids(out, world) == expected_ids(phases[number], phase)
        for rank in range(world):
            Path(f"{out}.record.{rank}").unlink()
    losses, rates = plain_loop(phases)
    found = reports(out)
    assert [line["step"] for line in found] == list(range(1, len(losses) + 1))
    assert [line["learning_rate"] for line in found] == pytest.approx(rates, rel=1e-12)
    assert [line["loss"] for line in found] == pytest.approx(losses, abs=1e-4)
    # Only the two steps at the first peak have one rate.
    assert len(set(rates)) == len(rates) - 1

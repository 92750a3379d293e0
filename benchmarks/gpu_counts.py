"""What a GPU would do in a training, counted where there is none: copies, casts, waits, memory, thread blocks of attention.

For `gpu_check.py` on a CPU, and for the tests. What is counted is what the trainer asks a GPU for (`fake_gpu.py`); how long that
takes only a GPU can say.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fox1.benchmarks.fake_gpu import Cast, FakeGpu
from fox1.trainer.data.order import LONGEST_STEP, PhaseData, UnitStream, to_micro_batch
from fox1.trainer.memory import block_bytes, memory_need
from fox1.trainer.settings import Options, TrainSettings
from fox1.trainer.train import train

STEPS = 2
"""Of a counted training: the optimizer has its state from the second one on."""
BLOCK_QUERIES = 128
"""Queries of a thread block of FlashAttention at 128 dimensions of a head; in the backward pass, keys."""
MEMORY_ABOVE = 1.4
"""Activations of blocks that an estimate of memory may be above what is counted; it is never below."""
MOST_BATCHES = 200
"""Micro-batches of a phase that are looked at."""


@dataclass(frozen=True)
class ThreadBlocks:
    """Thread blocks that FlashAttention launches for a layer's forward pass, by head, over some micro-batches.

    The grid is as high as the longest segment for each of them; a block without queries returns at once.
    """

    micro_batches: int
    segments: int
    launched: int
    busy: int
    """With queries."""
    exact: int
    """Launched if the longest segment were given exactly."""
    padded: int
    """Launched for `max_docs_per_block` segments of a whole block each."""

    @property
    def share(self) -> float:
        return self.busy / self.launched


def count_thread_blocks(data: PhaseData, micro_tokens: int, most: int = MOST_BATCHES) -> ThreadBlocks:
    """Over the first micro-batches of a phase set, as the trainer makes them for a GPU."""
    units = micro_tokens // data.unit_tokens
    slots = {s.block_length: data.info.max_docs_per_block[str(s.block_length)] for s in data.info.splits}
    most_slots = max(units * data.unit_tokens // length * (n + 1) for length, n in slots.items())
    numbers = range(0, min(most, data.units // units) * units, units)
    counted = [_of_stream(data.stream(first, units), most_slots, data.unit_tokens) for first in numbers]
    return ThreadBlocks(len(counted), *(sum(column) for column in zip(*counted, strict=True)))


def _of_stream(stream: UnitStream, slots: int, unit: int) -> tuple[int, int, int, int, int]:
    lengths = np.diff(np.r_[0, stream.ends])
    bound = to_micro_batch(stream, torch.device("cpu")).documents.longest
    each = -(-lengths // BLOCK_QUERIES)
    launched, exact = (-(-longest // BLOCK_QUERIES) * len(lengths) for longest in (bound, int(lengths.max())))
    return len(lengths), launched, int(each.sum()), exact, slots * -(-unit // BLOCK_QUERIES)


def thread_blocks(run: Path, micro_tokens: int) -> Iterator[dict[str, Any]]:
    """A row for each phase of a run: what attention launches there, and how much of it has work."""
    for folder in sorted((run / "phases").iterdir()):
        data = PhaseData(folder, 1)
        if data.units * data.unit_tokens < micro_tokens:
            continue
        found = count_thread_blocks(data, micro_tokens)
        assert found.launched == found.exact and LONGEST_STEP == BLOCK_QUERIES
        yield {
            "phase": folder.name,
            "lengths": [s.block_length for s in data.info.splits],
            "segments": round(found.segments / found.micro_batches, 1),
            "launched": round(found.launched / found.micro_batches),
            "busy": round(found.busy / found.micro_batches),
            "share": round(found.share, 3),
            "share_if_padded": round(found.busy / found.padded, 4),
        }


def train_on_fake_gpu(run: Path, out: Path, settings: TrainSettings, gpu: FakeGpu, steps: int = 0) -> None:
    """Train all phases of a run with other settings, or so many steps of them, on a GPU that is not there.

    Nothing is compiled, and no step is a spike: losses have no values.
    """
    settings = replace(settings, compile=False, log_every=1, skip_sigma=0.0)
    with tempfile.TemporaryDirectory(prefix="fox1-counts-") as place:
        other = Path(place)
        for name in ("phases", "held_out", "prepare"):
            if (run / name).exists():
                (other / name).symlink_to((run / name).resolve())
        (other / "training.json").write_text(json.dumps(asdict(settings)))
        with gpu, gpu.watching():
            train(other, out, list(range(len(settings.phases))), Options(stop_after=steps))


def count_steps(run: Path, settings: TrainSettings, steps: int = STEPS) -> dict[str, Any]:
    """What a few steps ask a GPU for, and whether it is what they should."""
    gpu = FakeGpu()
    with tempfile.TemporaryDirectory() as out:
        train_on_fake_gpu(run, Path(out), settings, gpu, steps)
    loads = [c for c in gpu.copies if c.thread.startswith("loader")]
    # A step is prepared while the one before it runs.
    expected = (steps + 1) * settings.phases[0].batch_tokens // settings.micro_batch_tokens
    weights = len(settings.model.shapes(1))
    waits = [r for r in gpu.reads if r.part == "step"] + [c for c in gpu.copies if c.part == "step" and c.waits]
    found: dict[str, Any] = {
        "waits_by_step": len(waits) / steps,
        "copies_by_micro_batch": len(loads) / expected,
        "pinned_beside_the_kernels": all(c.pinned and not c.waits and c.stream == "side" for c in loads),
        "casts_by_weight_and_step": len(casts_of_weights(gpu)) / weights / steps,
        "layers": sorted({f"{x.name} {str(x.gave).removeprefix('torch.')}" for x in gpu.layers if x.part == "step"}),
        "attention": sorted({f"{a.shapes[0]} {a.shapes[1]}" for a in gpu.attended}),
        "devices": sorted({device for x in gpu.layers for device in x.devices}),
        "moved_to_the_host": sum(gpu.strays.values()),
    }
    figures = ("waits_by_step", "copies_by_micro_batch", "pinned_beside_the_kernels", "casts_by_weight_and_step")
    right = [found[name] for name in figures] == [0, 1, True, 1] and not gpu.strays and found["devices"] == ["cuda:0"]
    return {"right": right, **found}


def casts_of_weights(gpu: FakeGpu) -> list[Cast]:
    """Parts of weights that steps brought from fp32 into bf16: FSDP does so while they are flat."""
    return [c for c in gpu.casts if c.part == "step" and len(c.shape) == 1 and c.after == torch.bfloat16]


def count_memory(run: Path, settings: TrainSettings, vocab_size: int, choice: str) -> dict[str, Any]:
    """Bytes at the peak of a step, counted and as `memory.py` estimates them, without a compiler."""
    settings = replace(settings, activation_checkpointing=choice, compile=False)  # type: ignore[arg-type]
    gpu = FakeGpu()
    with tempfile.TemporaryDirectory() as out, ExitStack() as within:
        # No value counts, so none is drawn; what a checkpoint holds is on the host.
        for name in ("model.model.Fox1.initialise", "loop.Trainer.save"):
            within.enter_context(mock.patch(f"fox1.trainer.{name}"))
        within.enter_context(mock.patch("fox1.trainer.train.checkpoints", lambda _: [out]))
        train_on_fake_gpu(run, Path(out), settings, gpu, STEPS)
        lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    counted = [line["memory_bytes"] for line in lines if line["kind"] == "train"][-1]
    estimate = memory_need(settings, vocab_size, 1).total
    block = block_bytes(settings.model, False) * settings.micro_batch_tokens
    return {
        "right": counted <= estimate <= counted + MEMORY_ABOVE * block,
        "counted_gb": round(counted / 1e9, 2),
        "estimated_gb": round(estimate / 1e9, 2),
        "compiled_estimated_gb": round(memory_need(replace(settings, compile=True), vocab_size, 1).total / 1e9, 2),
    }

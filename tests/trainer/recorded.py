"""A rank of a training that records what it trains on, and kills itself where it is asked to.

    RECORD=FILE [DIE=step:N | DIE=publish:N] python recorded.py RUN CKPT ...

Every step appends (units consumed before it, rank, hashes of its micro-batches' tokens) to FILE.RANK; `step:N` kills the rank
before its N-th step, `publish:N` when the N-th checkpoint is written but has neither manifest nor name.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal

import torch.distributed as dist
from fox1.trainer import train
from fox1.trainer.checkpoints import checkpoint
from fox1.trainer.data import order as data

next_step, checksum = data.Loader.next_step, checkpoint._sha256
what, _, number = os.environ.get("DIE", "never:0").partition(":")
steps, folders = 0, set()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def recorded(loader: data.Loader) -> list[data.MicroBatch]:
    global steps
    units = loader._units
    batches = next_step(loader)
    steps += 1
    if what == "step" and steps == int(number):
        die()
    hashes = [hashlib.sha256(b.tokens.numpy().tobytes()).hexdigest()[:16] for b in batches if b.valid]
    with open(f"{os.environ['RECORD']}.{dist.get_rank()}", "a") as file:
        file.write(json.dumps([loader._data.unit_tokens, units, dist.get_rank(), hashes]) + "\n")
    return batches


def summed(path):  # type: ignore[no-untyped-def]
    folders.add(path.parent)
    # Rank 0 alone gets here; `verify` reads finished folders.
    if what == "publish" and path.parent.name.startswith(".step-") and len(folders) == int(number):
        die()
    return checksum(path)


data.Loader.next_step = recorded  # type: ignore[method-assign]
checkpoint._sha256 = summed
train.main()

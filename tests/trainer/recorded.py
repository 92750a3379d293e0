"""Ranks of a training that record what they train on, and kill themselves where they are asked to.

    RECORD=FILE [DIE=step:N | DIE=publish:N] python recorded.py RUN CKPT ...
    python recorded.py --serve

Every step appends (units consumed before it, rank, hashes of its micro-batches' tokens) to FILE.RANK; `step:N` kills the rank
before its N-th step, `publish:N` when the N-th checkpoint is written but has neither manifest nor name.

With --serve it reads one request a line, as JSON: the number of ranks, their arguments and environment; and writes the exit
status of each. Its ranks are forks of itself, started and watched by the product's own launcher: what takes a rank five
seconds, it imported once.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch._dynamo  # noqa: F401  the first optimizer would import it
import torch.distributed as dist
from fox1.trainer import launch, loop, train
from fox1.trainer.checkpoints import checkpoint
from fox1.trainer.data import order as data

next_step, checksum = data.Loader.next_step, checkpoint._sha256


def run_recorded() -> None:
    """Train as `fox1.trainer.train` does, by this process's arguments and environment."""
    what, _, number = os.environ.get("DIE", "never:0").partition(":")
    steps, folders = 0, set()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def recorded(loader: data.Loader) -> list[data.MicroBatch]:
        nonlocal steps
        units = loader._units
        batches = next_step(loader)
        steps += 1
        if what == "step" and steps == int(number):
            die()
        hashes = [hashlib.sha256(b.tokens.numpy().tobytes()).hexdigest()[:16] for b in batches if b.valid]
        with open(f"{os.environ['RECORD']}.{dist.get_rank()}", "a") as file:
            file.write(json.dumps([loader._data.unit_tokens, units, dist.get_rank(), hashes]) + "\n")
        return batches

    def summed(path: Any) -> Any:
        folders.add(path.parent)
        # Rank 0 alone gets here; `verify` reads finished folders.
        if what == "publish" and path.parent.name.startswith(".step-") and len(folders) == int(number):
            die()
        return checksum(path)

    # Reports by steps only, so that those of two trainings compare on a machine that is busy.
    loop.LOG_SECONDS = 1e9
    data.Loader.next_step = recorded  # type: ignore[method-assign]
    checkpoint._sha256 = summed
    train.main()


class Forked:
    """A rank that is a fork of this process, with what the launcher asks of a `subprocess.Popen`."""

    def __init__(self, command: list[str], env: dict[str, str], preexec_fn: Callable[[], None], **_: Any) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            status: object = 1
            try:
                os.setsid()
                preexec_fn()
                os.environ.clear()
                os.environ.update(env)
                sys.argv = command[1:]
                run_recorded()
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 1)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def serve() -> None:
    """Run what is asked, one training after the other. What ranks print goes to where this process's errors go."""
    launch.subprocess.Popen = Forked  # type: ignore[assignment, misc]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        # A fork of a process with threads has their locks and not the threads.
        assert len(os.listdir("/proc/self/task")) == 1
        os.environ |= request["environment"]
        print(
            launch.run_processes([sys.executable, __file__, *request["arguments"]], request["ranks"]),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else run_recorded()

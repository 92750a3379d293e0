"""Training as workers of a Ray cluster, by Ray Train: as many as there is room for, again after one is lost.

Checkpoints go straight to the shared folder. A group of workers that is restarted, larger or smaller, goes on from the
newest one with the next unit of the data, since neither batch nor order depends on their number.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..storage import store
from ..storage.store import as_path
from .settings import Options
from .watch.metrics import LOG

OUTCOME = "outcome.json"
"""In the folder of checkpoints: what the last group of workers ended with."""


@dataclass(frozen=True)
class Workers:
    """Which workers a training runs on, and what it survives."""

    least: int
    most: int
    gpus: int
    """Of each worker: 1, or 0 on CPUs."""
    cpus: int = 1
    """Of each worker."""
    max_failures: int = 3
    """Lost workers and errors after which it ends; nodes that announce their end do not count."""
    resize_seconds: float = 60.0
    """How often it is looked whether there is room for more."""

    @classmethod
    def parse(cls, text: str, gpus: int, cpus: int = 1, max_failures: int = 3) -> Workers:
        """`4`, or `2:8` for as many as there is room for.

        Raises:
            ValueError: it is neither.
        """
        least, _, most = text.partition(":")
        if not (least.isdigit() and (most or least).isdigit() and 1 <= int(least) <= int(most or least)):
            raise ValueError(f"--ray {text}: give a number of workers, or the least and the most, e.g. 2:8")
        return cls(int(least), int(most or least), gpus, cpus, max_failures)


def load_kernels() -> None:
    """Use MKL once. It loads its kernels when they are first used, and in the driver of a job that fails after Ray's."""
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)


def launch_on_ray(run: Path, out: Path, phase: str, workers: Workers, options: Options) -> int:
    """Train on the Ray session that stands; the exit status: 0 done, 75 stopped with the state saved.

    Raises:
        ValueError: the run or the options do not fit, or the training failed more often than allowed.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from .parallel import BACKEND
    from .train import phase_numbers, read_settings

    numbers = phase_numbers(read_settings(run), phase)
    out.mkdir(parents=True, exist_ok=True)
    (out / OUTCOME).unlink(missing_ok=True)
    task = {"run": str(run), "out": str(out), "numbers": numbers, "options": asdict(options)}
    trainer = TorchTrainer(
        _work,
        train_loop_config=task,
        torch_config=TorchConfig(backend=BACKEND if workers.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.least if workers.least == workers.most else (workers.least, workers.most),
            use_gpu=bool(workers.gpus),
            resources_per_worker={"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})},
            elastic_resize_monitor_interval_s=workers.resize_seconds,
        ),
        run_config=RunConfig(
            # Ray's own notes of this call; what is trained lies in the folder itself.
            name=f"call-{time.time_ns():x}",
            **_ray_storage(out / "ray"),
            failure_config=FailureConfig(max_failures=workers.max_failures),
        ),
    )
    try:
        with _followed(out / LOG):
            trainer.fit()
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "ray":
            raise
        raise ValueError(
            f"the training ended after {workers.max_failures} restarts: {str(error).strip().splitlines()[-1]}; "
            "run again to go on from the last checkpoint"
        ) from error
    outcome = json.loads((out / OUTCOME).read_text())
    if outcome["error"]:
        raise ValueError(outcome["error"])
    return int(outcome["status"])


def _ray_storage(folder: Path) -> dict[str, Any]:
    """Where Ray Train keeps its notes, with the credentials that fox1 uses."""
    if not isinstance(folder, store.Mirrored):
        return {"storage_path": str(folder)}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, key = store.store_of(folder.url)
    return {"storage_path": key, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


@contextmanager
def _followed(path: Path) -> Iterator[None]:
    """Print what is appended to a file as long as the block lasts: the log that rank 0 writes on the shared folder."""

    def more(begin: int) -> bytes:
        try:
            return store.read_range(path, begin, None)
        except (OSError, ValueError):  # not there yet, or nothing behind its end
            return b""

    shown = len(more(0))

    def follow(ended: threading.Event) -> None:
        nonlocal shown
        while True:
            last = ended.is_set()
            text = more(shown)
            shown += len(text)
            print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)
            if last:
                return
            ended.wait(0.5 if Path(str(path)).exists() else 5.0)

    with store.beside(follow):
        yield


def _work(task: dict[str, Any]) -> None:
    """What each worker runs. An error that all ranks find is no reason to start again: it is the outcome."""
    import ray.train

    from .train import train

    status, wrong = 1, ""
    try:
        options = Options(**task["options"])
        status = train(as_path(task["run"]), as_path(task["out"]), task["numbers"], options, _announced())
    except ValueError as error:
        wrong = str(error)
    if ray.train.get_context().get_world_rank() == 0:
        (as_path(task["out"]) / OUTCOME).write_text(json.dumps({"status": status, "error": wrong}))


def _announced() -> Callable[[dict[str, Any]], bool]:
    """Asked on every rank after each report: True, once, where a node says that it is about to go."""
    import ray.train

    seen: list[Any] = []

    def ask(values: dict[str, Any]) -> bool:
        info = ray.train.get_preemption_info()
        if info is None or seen:
            return False
        seen.append(info)
        return True

    return ask

"""Starts a training on a Ray cluster, through Ray Train: as many workers as there is room for, restarted when one is lost.

Checkpoints go straight to the shared folder. A restarted group of workers, larger or smaller, continues from the newest
checkpoint with the next unit of the data, since neither batch nor order depends on the number of workers.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..storage import access, store
from ..storage.background import beside
from ..storage.inside import refuse_links
from ..storage.lease import TRAINING, claim
from ..storage.store import as_path
from ..storage.wording import printable
from .settings import Options
from .stopping import ASKED, Stop, passed_on
from .watch.metrics import LOG

OUTCOME = "outcome.json"
"""File in the folder of checkpoints: the exit status of the last group of workers, and its error."""


@dataclass(frozen=True)
class Workers:
    """The workers that a training runs on, and the failures that it survives."""

    least: int
    most: int
    gpus: int
    """GPUs of each worker: 1, or 0 for training on CPUs."""
    cpus: int = 1
    """CPU cores of each worker."""
    max_failures: int = 3
    """Lost workers and errors after which the training ends; nodes that announce their end do not count."""
    resize_seconds: float = 60.0
    """Seconds between checks for room for more workers."""

    @classmethod
    def parse(cls, text: str, gpus: int, cpus: int = 1, max_failures: int = 3) -> Workers:
        """Workers by the text of `--ray`: `4`, or `2:8` for as many as there is room for.

        Raises:
            ValueError: it is neither a number nor a range.
        """
        least, _, most = text.partition(":")
        if not (least.isdigit() and (most or least).isdigit() and 1 <= int(least) <= int(most or least)):
            raise ValueError(f"--ray {text}: give a number of workers, or a minimum and a maximum, e.g. 2:8")
        return cls(int(least), int(most or least), gpus, cpus, max_failures)


def load_kernels() -> None:
    """Use MKL once: it loads its kernels at their first use, which fails in the driver of a job once Ray is loaded."""
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)


def launch_on_ray(run: Path, out: Path, phase: str, workers: Workers, options: Options) -> int:
    """Train on the Ray session of this process; the exit status: 0 for done, 75 for stopped with the state saved.

    Raises:
        ValueError: the run or the options do not fit, or the training failed more often than allowed.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from .parallel import BACKEND
    from .train import phase_numbers, read_settings

    class Interruptible(TorchTrainer):
        def _register_sigint_handler(self, controller: Any) -> None:
            """Ctrl-C is the caller's, as every signal is; Ray would end the process with status 0."""

    numbers = phase_numbers(read_settings(run), phase)
    claim(out, TRAINING)
    for name in (OUTCOME, ASKED, "ray"):
        refuse_links(out, out / name)
    (out / OUTCOME).unlink(missing_ok=True)
    task = {"run": str(run), "out": str(out), "numbers": numbers, "options": asdict(options)}
    trainer = Interruptible(
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
            # Only Ray's own notes go there; checkpoints lie in the folder itself.
            name=f"call-{time.time_ns():x}",
            **_ray_storage(out / "ray"),
            failure_config=FailureConfig(max_failures=workers.max_failures),
        ),
    )
    try:
        with _followed(out / LOG) as said, passed_on(out, said):
            trainer.fit()
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "ray":
            raise
        raise ValueError(
            f"the training failed more often than --max-failures {workers.max_failures} allows: "
            f"{str(error).strip().splitlines()[-1]}; run the same command again to resume from the last checkpoint"
        ) from error
    outcome = json.loads((out / OUTCOME).read_text())
    if outcome["error"]:
        raise ValueError(outcome["error"])
    return int(outcome["status"])


def _ray_storage(folder: Path) -> dict[str, Any]:
    """Where Ray Train keeps its notes, reached with the credentials that fox1 uses."""
    if not isinstance(folder, store.Mirrored):
        return {"storage_path": str(folder)}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, key = access.store_of(folder.url)
    return {"storage_path": key, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


@contextmanager
def _followed(path: Path) -> Iterator[Callable[[], bool]]:
    """Print what is appended to a file while the block runs: the log that rank 0 writes to the shared folder.

    The block gets a function that says whether anything was.
    """

    def more(begin: int) -> bytes:
        try:
            return store.read_range(path, begin, None)
        except (OSError, ValueError):  # the file is not there yet, or has nothing new
            return b""

    shown = before = len(more(0))

    def follow(ended: threading.Event) -> None:
        nonlocal shown
        while True:
            last = ended.is_set()
            text = more(shown)
            shown += len(text)
            print(printable(text.decode(errors="replace"), "\n"), end="", file=sys.stderr, flush=True)
            if last:
                return
            ended.wait(0.5 if Path(str(path)).exists() else 5.0)

    with beside(follow):
        yield lambda: shown > before


def _work(task: dict[str, Any]) -> None:
    """What each worker runs. An error that all ranks find is the outcome, since a restart would meet it again."""
    import ray.train

    from .train import train

    status, problem = 1, ""
    try:
        options, out, stop = Options(**task["options"]), as_path(task["out"]), Stop()
        # Workers agree on it: one looks.
        with stop.watching(out) if ray.train.get_context().get_world_rank() == 0 else nullcontext():
            status = train(as_path(task["run"]), out, task["numbers"], options, _announced(), stop)
    except ValueError as error:
        problem = str(error)
    if ray.train.get_context().get_world_rank() == 0:
        (as_path(task["out"]) / OUTCOME).write_text(json.dumps({"status": status, "error": problem}))


def _announced() -> Callable[[dict[str, Any]], bool]:
    """A function for every rank to call after each report: True, once, where a node is about to be reclaimed."""
    import ray.train

    seen: list[Any] = []

    def ask(values: dict[str, Any]) -> bool:
        info = ray.train.get_preemption_info()
        if info is None or seen:
            return False
        seen.append(info)
        return True

    return ask

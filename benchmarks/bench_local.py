"""What a run on this machine waits for, and what its cores are worth: one and two workers of the pool, and Ray, in turn.

    FOX1_DATA=... python -m benchmarks.bench_local [--recipe mini] [--pairs 3] [--no-ray]

Each curates the recipe into a folder of its own, as a user would by the command, and the last run of two workers is repeated
with nothing left to do. The first task's time is from the start of the command to that of its first task, as the run's log of
tasks tells. All runs must have the same phases. What the machine's second core is worth to processes that share nothing is
measured beside, by two runs of one worker at the same time (`speedup_of_two_runs`): no run of two workers can gain more. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fox1.pipeline.engine.records import task_times
from fox1.pipeline.run.artifacts import read_json
from fox1.pipeline.run.paths import RunPaths


@dataclass(frozen=True)
class Timed:
    """One command."""

    seconds: float
    first_task: float
    """Seconds until its first task began; 0: it had none."""
    tasks: int
    task_seconds: float
    """Of all tasks together."""


def curate(recipe: str, run: Path, *options: str) -> Timed:
    """Time `fox1 curate`.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "fox1", "curate", recipe, "--out", str(run), *options]
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took = time.time() - began
    tasks = [entry for entry in task_times(RunPaths(run)) if entry["ended"] >= began]
    first = min((entry["ended"] - entry["seconds"] for entry in tasks), default=began) - began
    return Timed(took, first, len(tasks), sum(entry["seconds"] for entry in tasks))


def curate_twice(recipe: str, folder: Path) -> float:
    """Seconds of two runs of one worker at the same time."""
    began = time.time()
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(curate, recipe, folder / name, "--workers", "1") for name in ("left", "right")]
    for run in runs:
        run.result()
    return time.time() - began


def identities(run: Path) -> object:
    """What the phases of a run hold, as hashes."""
    return read_json(RunPaths(run).stats("settings"))["phases"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    options = parser.parse_args()
    kinds: dict[str, tuple[str, ...]] = {"one": ("--workers", "1"), "two": ("--workers", "2")}
    if not options.no_ray:
        kinds["ray"] = ("--workers", "2", "--ray")
    times: dict[str, list[Timed]] = {kind: [] for kind in (*kinds, "noop")}
    held, at_once = [], []
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="fox1-bench-local-") as folder:
            for kind, given in kinds.items():
                run = Path(folder, kind)
                times[kind].append(curate(options.recipe, run, *given))
                held.append(identities(run))
            times["noop"].append(curate(options.recipe, Path(folder, "two")))
            at_once.append(curate_twice(options.recipe, Path(folder)))
        for kind, timed in times.items():
            t = timed[-1]
            print(
                f"{pair} {kind:5} {t.seconds:6.2f} s, first task {t.first_task:5.2f} s, {t.tasks} tasks {t.task_seconds:6.2f} s"
            )
        print(f"{pair} two runs of one worker at once {at_once[-1]:6.2f} s")
    if any(one != held[0] for one in held):
        raise SystemExit("the runs differ in their phases")

    def median(kind: str, name: str = "seconds") -> float:
        return round(statistics.median(getattr(t, name) for t in times[kind]), 2)

    speedups = [one.seconds / two.seconds for one, two in zip(times["one"], times["two"], strict=True)]
    of_two_runs = [2 * one.seconds / both for one, both in zip(times["one"], at_once, strict=True)]
    print(
        json.dumps(
            {
                "seconds": {kind: median(kind) for kind in kinds},
                "task_seconds": {kind: median(kind, "task_seconds") for kind in kinds},
                "tasks": times["two"][-1].tasks,
                "first_task_s": median("two", "first_task"),
                "noop_s": median("noop"),
                "speedup_of_two_runs": round(statistics.median(of_two_runs), 2),
                "speedup": round(statistics.median(speedups), 2),
            }
        )
    )


if __name__ == "__main__":
    main()

"""How fast each stage of fox1 is: one curation in one process, MB of text per second by stage, medians of several runs.

    FOX1_DATA=... python -m benchmarks.stages [--recipe mini] [--runs 3]

Imports and kernel compilation are excluded (compile with `python -m fox1.commands.compile_kernels`); reading, decompression and
writing are not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Silent
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings


class Clock(Silent):
    """Seconds by stage, as the engine reports them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None: ...

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None:
        now = time.monotonic()
        part = name.split(".")[0]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._began
        self._began = now


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    recipe, _ = load_recipe(options.recipe)
    clocks, megabytes = [], 0.0
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="fox1-stages-") as folder:
            clock = Clock()
            summary = curate(curate_settings(recipe), Engine(RunPaths(Path(folder) / "run"), InProcess(), clock))
        clocks.append(clock.seconds)
        megabytes = sum(f.bytes for f in summary.funnels) / 1e6
    print(f"{megabytes:.1f} MB of text, one process, median of {options.runs}")
    total = 0.0
    for part in clocks[0]:
        seconds = statistics.median(c[part] for c in clocks)
        total += seconds
        print(f"{part:10} {seconds:7.2f} s {megabytes / seconds:9.1f} MB/s")
    print(f"{'all':10} {total:7.2f} s {megabytes / total:9.1f} MB/s")


if __name__ == "__main__":
    main()

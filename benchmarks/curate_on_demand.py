"""Curate the recipe `mini` for every line of the standard input, one core, and answer with JSON: seconds of the clock, seconds
of the processor, and bytes of text.

    FOX1_DATA=... python curate_on_demand.py gemma.model [KEY=VALUE ...]

`bench_end_to_end.py --old` starts it once for each of two trees; it imports no more of them than it needs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings


def main(model: str, *changes: str) -> None:
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory(prefix="fox1-e2e-") as folder:
            recipe, _ = load_recipe("mini", [*changes, f"tokenizer.model={model}"])
            wall, cpu = time.perf_counter(), time.process_time()
            summary = curate(curate_settings(recipe), Engine(RunPaths(Path(folder, "run")), InProcess()))
            took = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([*took, sum(f.bytes for f in summary.funnels)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How near a plan comes: `fox1 plan` from a small sample of the inputs, then the run itself, then one beside the other.

    FOX1_DATA=... python -m benchmarks.plan_accuracy [--recipe mini] [--sample 2%] [--pairs 3]

Every pair measures rates anew before its run. Prints the planned over the actual wall time of each pair, the median last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def fox1(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "fox1", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"fox1 {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--sample", default="2%")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="fox1-plan-") as folder:
            rates, run = str(Path(folder) / "rates.json"), str(Path(folder) / "run")
            fox1("plan", options.recipe, "--sample", options.sample, "--save", rates)
            fox1("curate", options.recipe, "--out", run)
            found = json.loads(fox1("plan", run, "--rates", rates, "--json"))
        planned, took = found["wall_seconds"], found["actual"]["wall_seconds"]
        ratios.append(planned / took)
        share = 100 * found["rates"]["sample_share"]
        print(
            f"pair {pair + 1}: {share:.1f} % sampled, planned {planned:.1f} s, took {took:.1f} s, {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"planned over actual, median of {options.pairs}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()

"""The long form of the kill tests: SIGKILL at random moments on the whole sample, then equality of every byte.

    python tests/faults/kills.py [--kills 20] [--megabytes 26] [--seed N]

Curates the sample once undisturbed; then again with the driver killed `--kills` times at moments uniform over the whole
run; then with one worker killed in every stage. Prints what was hit and compares every final byte of the runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fox1.pipeline.run.artifacts import FINAL

SCRIPT = Path(__file__).parent / "killed_run.py"


def hashes(run: Path) -> dict[str, str]:
    files = (p for part in FINAL for p in sorted((run / part).rglob("*")) if p.is_file())
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def curate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--megabytes", type=float, default=26.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="fox1-kills-") as folder:
        root = Path(folder)
        from fox1.pipeline.sample import write_sample

        write_sample(root / "data", megabytes=options.megabytes)
        began = time.monotonic()
        clean = curate(root / "data", root / "clean", "none")
        if clean.returncode:
            sys.exit(clean.stderr)
        seconds = {line.split()[0]: float(line.split()[1]) for line in clean.stdout.splitlines()}
        print(f"undisturbed: {time.monotonic() - began:.1f} s with start, stages {json.dumps(seconds)}")
        expected = hashes(root / "clean")

        stages, weights = list(seconds), list(seconds.values())
        hit = dict.fromkeys(stages, 0)
        landed = inside = 0
        for _ in range(options.kills):
            stage = rng.choices(stages, weights)[0]
            done = curate(root / "data", root / "driver", "driver", stage, rng.uniform(0, seconds[stage]))
            landed += done.returncode == -9
            hit[stage] += done.returncode == -9
            inside += any((root / "driver").rglob(".*.tmp"))
        curate(root / "data", root / "driver", "none")
        same = hashes(root / "driver") == expected
        print(
            f"driver: {landed} kills landed, {inside} left a file half written, by stage {json.dumps(hit)}: same bytes {same}"
        )

        done = curate(root / "data", root / "workers", "workers", options.seed)
        kills = [line for line in done.stdout.splitlines() if line.startswith("killed")]
        same_workers = hashes(root / "workers") == expected
        print(f"workers: {len(kills)} killed ({', '.join(k.split()[-1] for k in kills)}): same bytes {same_workers}")
        print(f"result: {'all bytes equal' if same and same_workers else 'BYTES DIFFER'}")
        sys.exit(0 if same and same_workers else 1)


if __name__ == "__main__":
    main()

"""The long form of the kill tests: SIGKILL inside publishes of the whole sample, then equality of every byte.

    python -m tests.faults.kills [--rounds 3] [--megabytes 26] [--seed N]

Curates the sample once undisturbed. Every round then kills, once in every stage and at moments drawn anew, a run of one
process, the drivers of a Ray session and its workers, and compares every byte that the finished runs promise.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.kill_at_publish import draw
from tests.faults.killed_run import WHO, finish
from tests.faults.promises import promised_of_a_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=26.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), 0
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fox1-kills-") as folder:
        from fox1.pipeline.sample import write_sample

        data, clean = Path(folder) / "data", Path(folder) / "clean"
        write_sample(data, megabytes=options.megabytes)
        finish(str(data), clean, [], on_ray=False)
        expected = promised_of_a_run(clean)
        for number in range(options.rounds):
            for who in WHO:
                kills, out = draw(clean, rng), Path(folder) / f"{who}-{number}"
                command = [sys.executable, "-m", "tests.faults.killed_run", str(data), str(out), "--who", who]
                command += [word for kill in kills for word in ("--kill", str(kill))]
                done = subprocess.run(command, capture_output=True, text=True)
                same = done.returncode == 0 and promised_of_a_run(out) == expected
                wrong += not same
                print(f"{who}: {' '.join(map(str, kills))}: {'same bytes' if same else 'WRONG'}", flush=True)
                if done.returncode:
                    print(done.stderr, flush=True)
    print("result: all bytes equal" if not wrong else f"result: {wrong} RUNS WRONG")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

"""A tuning with n-gram proxies: what it takes, and how much of that is counting and scoring.

    python -m benchmarks.bench_tune RUN [--out DIR] [--proxies 64] [--tokens 5M] [--workers 2] [--times 10]

RUN is a finished run with some ten million tokens. `fox1 tune` runs whole into a new folder. Then a few of its trainings are
repeated in this process, and their CPU time within counting and scoring alone is taken. The last line is JSON: `overhead` is 1 -
(that time, for all trainings) / (workers x wall time of the proxy stage); `packing_s`, `fit_s` and `wall_s` are wall times,
`tokens_per_second` is counted tokens per CPU second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fox1.pipeline.engine.records import task_times
from fox1.pipeline.mix.budget import largest_remainder
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.units import quantity
from fox1.tune.measured import PackedSet, read_sequences
from fox1.tune.ngram import NgramModel, warm
from fox1.tune.proxy import PoolPart, open_mixture

REPEATED = 4
"""Trainings whose CPU time is taken."""


def tune(run: Path, out: Path, proxies: int, tokens: int, workers: int, times: float) -> float:
    """Run the command; its wall time."""
    sets = [f"tune.proxies={proxies}", f"tune.proxy.tokens={tokens}", f"tune.validation.times={times}"]
    command = [sys.executable, "-m", "fox1", "tune", str(run), "--out", str(out), "--workers", str(workers)]
    began = time.perf_counter()
    subprocess.run([*command, *(word for s in sets for word in ("--set", s))], check=True)
    return time.perf_counter() - began


def counted(out: Path, tokens: int) -> tuple[float, float]:
    """(CPU seconds of counting and scoring of one training, counted tokens per CPU second)."""
    facts = json.loads((out / "tune.json").read_text())
    rows = json.loads((out / "design.json").read_text())
    pools = {set_.data_identity: set_ for set_ in map(PackedSet.of, sorted((out / "pools").iterdir()))}
    measured = read_sequences(sorted((out / "measured" / "fit").glob("*.arrow")))
    warm()
    train = score = 0.0
    chosen = rows[:: max(1, len(rows) // REPEATED)][:REPEATED]
    for row in chosen:
        quotas = largest_remainder(round(tokens / facts["block_length"]), row["weights"])
        parts = [
            PoolPart(pools[pool["data_identity"]], q, pool["used_units"])
            for pool, q in zip(facts["pools"], quotas, strict=True)
            if q
        ]
        data = open_mixture(parts, row["seed"])
        model = NgramModel(data.info.vocab_size, data.units * data.unit_tokens)
        began = time.process_time()
        model.train_on(data)
        train += time.process_time() - began
        began = time.process_time()
        measured.bits(model.bits)
        score += time.process_time() - began
    return (train + score) / len(chosen), len(chosen) * tokens / train


def wall(times: list[dict[str, Any]], *stages: str) -> float:
    """From the begin of the first task of some stages to the end of the last."""
    own = [t for t in times if any(t["stage"].startswith(s) for s in stages)]
    return max(t["ended"] for t in own) - min(t["ended"] - t["seconds"] for t in own)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--proxies", type=int, default=64)
    parser.add_argument("--tokens", type=quantity, default=5_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=float, default=10.0)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fox1-tune-") as folder:
        out = o.out or Path(folder) / "tune"
        took = tune(o.run, out, o.proxies, o.tokens, o.workers, o.times)
        times = task_times(RunPaths(out))
        each, rate = counted(out, o.tokens)
        proxies = wall(times, "tune.proxies")
        verdict = json.loads((out / "verdict.json").read_text())
        result = {
            "overhead": 1 - o.proxies * each / (o.workers * proxies),
            "packing_s": wall(times, "mix"),
            "proxies_s": proxies,
            # Of both rounds.
            "fit_s": sum(t["seconds"] for t in times if t["stage"] in ("tune.first-fit", "tune.fit")),
            "validation_s": wall(times, "tune.mixmin", "tune.validation"),
            "wall_s": took,
            "tokens_per_second": rate,
            "verdict": verdict["line"],
        }
    print(json.dumps(result, indent=1))
    print(json.dumps({name: round(v, 3) for name, v in result.items() if isinstance(v, float)}))


if __name__ == "__main__":
    main()

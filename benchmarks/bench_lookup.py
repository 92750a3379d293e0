"""How long `fox1 why`, `find` and `trace` take on a run of many documents, each as a whole command, imports included.

    python -m benchmarks.bench_lookup [--documents 1000000] [--runs 5]

Makes a corpus of short documents, curates it once without near-dedupe, and asks for documents of its last rows and for
blocks of its phases. Peers have no such commands: a run of theirs is searched by reading it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from fox1.tokenize.shards import read_set

ROWS_OF_A_FILE = 125_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fox1-lookup-") as folder:
        root = Path(folder)
        write_corpus(root / "corpus", options.documents)
        curate(root)
        run = root / "run"
        last = sorted((root / "corpus").glob("*.jsonl"))[-1]
        row = sum(1 for _ in open(last)) - 1
        document = json.loads(last.read_text().splitlines()[row])
        split = read_set(run / "phases" / "phase1").splits[0]
        documents = sum(pq.read_metadata(p).num_rows for p in (run / "signals").rglob("*.parquet"))
        print(f"{documents:,} documents, {split.blocks:,} blocks; median of {options.runs} whole commands")
        for name, arguments in {
            "why": ["why", str(run), f"pile/{last.name}#{row}"],
            "find --url": ["find", str(run), "--url", document["url"]],
            "find --id": ["find", str(run), "--id", document["id"]],
            "trace": ["trace", str(run), "phase1", str(split.blocks - 1)],
            "trace --source": ["trace", str(run), "phase1", str(split.blocks - 1), "--source"],
        }.items():
            times = [timed(arguments) for _ in range(options.runs)]
            print(f"{name:16} {statistics.median(times):6.2f} s")
        print(f"{'fox1 --version':16} {statistics.median(timed(['--version']) for _ in range(options.runs)):6.2f} s")


def write_corpus(folder: Path, documents: int) -> None:
    """Documents of some sixty words drawn from a small vocabulary, with an id and a URL."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    words = np.array([f"{a}{b}{c}" for a in "bcdfgklmnprst" for b in "aeiou" for c in ("ra", "len", "to", "mis", "")])
    number = 0
    for part in range(-(-documents // ROWS_OF_A_FILE)):
        rows = min(ROWS_OF_A_FILE, documents - number)
        drawn = words[rng.integers(0, len(words), (rows, 60))]
        with open(folder / f"part-{part:03d}.jsonl", "w") as file:
            for k in range(rows):
                text = "The " + " ".join(drawn[k]) + " and that is it."
                line = {"text": text, "id": f"doc-{number}", "url": f"https://site-{number % 997}.example/{number}"}
                file.write(json.dumps(line) + "\n")
                number += 1


def curate(root: Path, tokens: int = 60_000_000) -> None:
    """One corpus, few tokens a phase, no rules: what is looked up is a matter of documents, not of text."""
    from fox1.pipeline.curate import CurateSettings
    from fox1.pipeline.curate import curate as run_curate
    from fox1.pipeline.dedupe.order import DedupeSettings
    from fox1.pipeline.engine.engine import Engine
    from fox1.pipeline.engine.on_ray import ray_session
    from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
    from fox1.pipeline.run.manifest import run_files
    from fox1.pipeline.run.paths import RunPaths
    from fox1.pipeline.sources.listing import SourceSettings
    from fox1.tokenize.model import TokenizerSettings

    settings = CurateSettings(
        sources=(SourceSettings("pile", "dolma", str(root / "corpus"), ("*.jsonl",)),),
        mix=MixSettings((Phase("phase1", tokens, (Weight(1.0),), (BlockRule(2048),)),)),
        dedupe=DedupeSettings(exempt=("pile",)),
        tokenizer=TokenizerSettings(vocab_size=700, sample_bytes=1 << 20),
    )
    paths = RunPaths(root / "run")
    recipe = {
        "name": "lookup",
        "sources": {"pile": {"format": "dolma", "root": str(root / "corpus"), "files": ["*.jsonl"]}},
        "tokenizer": {"vocab_size": 700},
        "phases": {"phase1": {"tokens": tokens, "weights": [{"weight": 1}], "blocks": [{"length": 2048}]}},
        "training": TRAINING,
    }
    began = time.monotonic()
    with ray_session(None, None) as executor:
        run_curate(settings, Engine(paths, executor), files=run_files(paths, recipe, {}))
    print(f"curated in {time.monotonic() - began:.0f} s")


TRAINING = {
    "size": "none",
    "sizes": {
        "none": {
            "model": dict.fromkeys(("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim"), 64),
            "batch_tokens": {"phase1": 2048},
            "micro_batch_tokens": 2048,
            "optimizer": {"learning_rate": 1e-3},
            "schedule": {"warmup_steps": 1},
        }
    },
}


def timed(arguments: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "fox1", *arguments], capture_output=True, text=True)
    # `find` leaves with 1 where a document was not trained on.
    if done.returncode not in (0, 1) or done.stderr:
        raise SystemExit(f"fox1 {' '.join(arguments)} failed: {done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()

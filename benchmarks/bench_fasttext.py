"""A fastText classifier by fox1's reader and by the package itself, on documents that it was not trained on.

    FOX1_DATA=... python -m benchmarks.bench_fasttext [--megabytes 16] [--dim 100] [--buckets 2000000] [--python PYTHON]

The package trains a classifier of DCLM's shape (words and pairs of words, 2 million buckets, 100 dimensions) on half of the
documents, to tell text of the web from other text. Each side then scores the other half, in a process of its own. Prints the time
to read the file, megabytes of text per second and core, the peak memory of the process, and by how much the scores differ at
most.

PYTHON is an interpreter that can import `fasttext`; without it, one is made with the wheel `fasttext-wheel`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from fox1.benchmarks.bench_scan import stratified
from fox1.pipeline.prepare.classifiers import prepare_classifier
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals import fasttext
from fox1.pipeline.signals.scores import ScoreSettings
from fox1.pipeline.sources.domains import domain_of
from fox1.pipeline.sources.listing import NamedFile, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import sources_of
from fox1.tokenize.spans import text_buffers

TRAIN = """
import sys, fasttext
model = fasttext.train_supervised(sys.argv[1], dim=int(sys.argv[3]), bucket=int(sys.argv[4]), wordNgrams=2, minCount=1, epoch=20,
    lr=0.5, thread=1, verbose=0)
model.save_model(sys.argv[2])
"""
PREDICT = """
import json, sys, time, fasttext
fasttext.FastText.eprint = lambda *_: None
began = time.process_time()
model = fasttext.load_model(sys.argv[1])
read = time.process_time() - began
lines = open(sys.argv[2]).read().split("\\n")[:-1]
best, found = 1e9, []
for _ in range(3):
    began = time.process_time()
    found = [dict((label, p) for p, label in model.f.predict(line + "\\n", 2, 0.0, "strict")) for line in lines]
    best = min(best, time.process_time() - began)
peak = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
json.dump([read, best, peak / 1024, [f.get("__label__other", 0.0) for f in found]], open(sys.argv[3], "w"))
"""


def documents(recipe: str, megabytes: float) -> list[tuple[str, str]]:
    """(label, text on one line) of documents in an order of chance."""
    files = list_sources(sources_of(load_recipe(recipe)[0]))
    found = []
    for file, batch in stratified([(f, b) for f in files for b in read_rows(f, Quarantine(f))], megabytes, 3):
        for text, subset in zip(batch.column("text").to_pylist(), batch.column("subset").to_pylist(), strict=True):
            web = domain_of(file.format, subset, file.domain) == "web"
            found.append(("web" if web else "other", " ".join(text.split("\n"))))
    return sorted(found, key=lambda d: xxhash.xxh3_64_intdigest(d[1].encode()))


def score(model: str, texts: str, out: str) -> None:
    """What a process of fox1 does."""
    lines = pa.array(Path(texts).read_text().split("\n")[:-1], pa.large_string())
    began = time.process_time()
    asked = ScoreSettings("other", model, (("other", 1.0),))
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_classifier(asked, NamedFile(model, ""), RunPaths(Path(folder)))
        read = time.process_time() - began
        classifier = fasttext.load_classifier(prepared.file)
        text, offsets = text_buffers(lines)
        skip = np.zeros(len(lines), bool)
        fasttext.score(classifier, text[: offsets[1]], offsets[:2], skip[:1])  # the kernel is loaded
        best, scores = 1e9, np.empty(0)
        for _ in range(3):
            began = time.process_time()
            scores = fasttext.score(classifier, text, offsets, skip)
            best = min(best, time.process_time() - began)
    peak = next(int(li.split()[1]) for li in open("/proc/self/status") if li.startswith("VmHWM"))
    Path(out).write_text(json.dumps([read, best, peak / 1024, scores.astype(float).tolist()]))


def peer_python(folder: Path) -> str:
    """An interpreter with the package."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "fasttext-wheel"], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=16.0)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--buckets", type=int, default=2_000_000)
    parser.add_argument("--python", default="")
    parser.add_argument("--score", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        score(*options.score)
        return
    with tempfile.TemporaryDirectory(prefix="fox1-bench-") as name:
        folder = Path(name)
        python = options.python or peer_python(folder / "venv")
        every = documents(options.recipe, options.megabytes)
        train, test = every[::2], every[1::2]
        (folder / "train.txt").write_text("".join(f"__label__{label} {text}\n" for label, text in train))
        (folder / "test.txt").write_text("".join(f"{text}\n" for _, text in test))
        size = sum(len(text.encode()) for _, text in test) / 1e6
        model = folder / "model.bin"
        shape = (str(options.dim), str(options.buckets))
        subprocess.run([python, "-c", TRAIN, str(folder / "train.txt"), str(model), *shape], check=True)
        print(f"{len(test):,} documents, {size:.1f} MB; a model of {model.stat().st_size / 1e6:,.0f} MB")
        files = (str(model), str(folder / "test.txt"))
        commands = {
            "fasttext": [python, "-c", PREDICT, *files],
            "fox1": [sys.executable, "-m", "fox1.benchmarks.bench_fasttext", "--score", *files],
        }
        found = {}
        for side, command in commands.items():
            subprocess.run([*command, str(folder / side)], check=True)
            read, seconds, peak, scores = json.loads((folder / side).read_text())
            found[side] = np.array(scores)
            rate = size / seconds
            print(
                f"{side:9} reads the file in {read:6.1f} s, scores {rate:8.1f} MB/s, takes {peak:7,.0f} MiB at most",
                flush=True,
            )
            found[f"{side} rate"] = np.array(rate)
        # The package adds 1e-5 to every probability.
        apart = np.abs(found["fox1"] - (found["fasttext"] - 1e-5))
        same = float(((found["fox1"] > 0.5) == (found["fasttext"] - 1e-5 > 0.5)).mean())
        ratio = float(found["fox1 rate"] / found["fasttext rate"])
        print(json.dumps({"most_apart": float(apart.max()), "same_side_of_a_half": same, "ratio": round(ratio, 1)}))


if __name__ == "__main__":
    main()

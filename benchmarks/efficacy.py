"""Does curation help? One model and one number of tokens, trained on the raw corpora and on curations of them.

    FOX1_DATA=... python -m benchmarks.efficacy --out DIR [--seeds 3] [--share 0.125] [--truth truth.jsonl]

Arms, all of the same documents, tokenizer, model, steps and tokens, without the licence policy's subsets, the copies of
held-out documents and the benchmarks' items:

    raw              everything, in the proportions of the corpora, packed by concatenation
    datatrove        what datatrove's FineWeb steps leave: Gopher repetition and quality, C4 (without its rule of final
                     punctuation), FineWeb quality, MinHash; words split at white space
    mix              fox1's filters, dedupe and mixture, in one phase: the sum of the three
    phases           the same in its three phases
    mix-no-dedupe, mix-no-filters, mix-no-priority, mix-concat      `mix` without one part

Measured: bits per byte on held-out documents that no arm has seen, all of them (`whole`) and those that the filters keep
(`clean`), by domain; for every seed, with the mean and its 95 % interval (Student's t), and the paired difference to `raw`
and, for the last four, to `mix`. A seed decides the draw and order of documents and the model's initial weights.

The documents are a share of the clusters of ${FOX1_DATA}, with all their copies, so that what is trained on is a good part of
what there is, as it is at full scale. All results go to DIR/results.jsonl; a run that was stopped goes on. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import fox1
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import yaml
import zstandard
from fox1.benchmarks.peers import minhash_dedup, whitespace_words
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of

RECIPE = Path(__file__).with_suffix(".yaml")
EVALUATED_BLOCKS = 400
JOBS = os.cpu_count() or 1
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""Student's t for a 95 % interval, by number of seeds."""
Recipe = dict[str, Any]
Row = tuple[str, str, int]
"""Corpus, file, row."""

# --- the arms ---------------------------------------------------------------------------------------------------------


def one_phase(recipe: Recipe) -> None:
    """The weights of all phases by domain, as one phase of blocks of 512."""
    total, tokens = dict[str, float](), 0
    parsed, _ = load_recipe(str(RECIPE))
    for name, phase in recipe["phases"].items():
        share = parsed.phase_tokens(name)
        tokens += share
        weights = [w for w in phase["weights"] if not w.get("if_present")]
        for weight in weights:
            part = share * weight["weight"] / sum(w["weight"] for w in weights)
            total[weight["domain"]] = total.get(weight["domain"], 0.0) + part
    weights = [{"domain": d, "weight": w} for d, w in total.items()]
    recipe["scale"] = 1.0
    recipe["phases"] = {"phase1": {"tokens": tokens, "weights": weights, "blocks": [{"length": 512}]}}


def raw(recipe: Recipe) -> None:
    one_phase(recipe)
    recipe["phases"]["phase1"]["weights"] = [{"weight": 1}]
    no_filters(recipe)
    no_dedupe(recipe)
    concat(recipe)
    recipe["edits"] = {}
    recipe["quality"] = {}


def no_dedupe(recipe: Recipe) -> None:
    # Copies of held-out documents still go.
    recipe["dedupe"]["exempt"] = list(recipe["sources"])


def no_filters(recipe: Recipe) -> None:
    recipe["filters"] = {}
    recipe["url_lists"] = []


def no_priority(recipe: Recipe) -> None:
    recipe["dedupe"]["priority"] = []


def concat(recipe: Recipe) -> None:
    recipe["mix"]["packing"] = "concatenate"


def lenient(recipe: Recipe) -> None:
    """Small domains may be repeated; what a share of the documents lacks altogether gives its part to the others."""
    for phase in recipe["phases"].values():
        for weight in phase["weights"]:
            if weight.get("domain") not in (None, "web"):
                weight |= {"if_present": True, "max_epochs": 4}


ARMS: dict[str, tuple[str, tuple[Callable[[Recipe], None], ...]]] = {
    "raw": ("pool", (raw,)),
    "datatrove": ("datatrove", (raw,)),
    "mix": ("pool", (one_phase,)),
    "phases": ("pool", ()),
    "mix-no-dedupe": ("pool", (one_phase, no_dedupe)),
    "mix-no-filters": ("pool", (one_phase, no_filters)),
    "mix-no-priority": ("pool", (one_phase, no_priority)),
    "mix-concat": ("pool", (one_phase, concat)),
}
"""Arm -> (its documents, changes of the recipe)."""

# --- the documents ----------------------------------------------------------------------------------------------------


def write_pool(source: Path, out: Path, keep: Mapping[Row, str | None]) -> None:
    """The corpora with some of their rows, in their formats; those of held-out files all. A text that is not None replaces."""
    for file in list_sources(sources_of(load_recipe(str(RECIPE))[0])):
        path, to = source / file.name, out / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.held_out:
            shutil.copy(path, to)
            continue
        rows = {row: text for (corpus, name, row), text in keep.items() if f"{corpus}/{name}" == file.name}
        if path.suffix == ".parquet":
            table = pq.read_table(path).take(pa.array(sorted(rows)))
            texts = [rows[r] or t for r, t in zip(sorted(rows), table.column("content").to_pylist(), strict=True)]
            at = table.schema.get_field_index("content")
            pq.write_table(table.set_column(at, "content", pa.array(texts, table.schema.field(at).type)), to)
            continue
        data = path.read_bytes()
        data = (
            gzip.decompress(data) if path.suffix == ".gz" else zstandard.ZstdDecompressor().stream_reader(data).read()
        )
        lines = data.splitlines()
        chosen = []
        for row in sorted(rows):
            text = rows[row]
            chosen.append(lines[row] if text is None else json.dumps(json.loads(lines[row]) | {"text": text}).encode())
        data = b"\n".join(chosen) + b"\n" if chosen else b""
        to.write_bytes(gzip.compress(data) if path.suffix == ".gz" else zstandard.ZstdCompressor().compress(data))


def rows_of(data: Path) -> Iterator[tuple[Row, str]]:
    """Every training row of corpora that the licence policy allows, with its text."""
    recipe, _ = load_recipe(str(RECIPE), [], {**os.environ, "FOX1_DATA": str(data)})
    excluded = {(e.corpus, e.subset) for e in curate_settings(recipe).filter.excluded}
    for file in list_sources(sources_of(recipe)):
        for batch in () if file.held_out else read_rows(file, Quarantine(file)):
            columns = (batch.column(c).to_pylist() for c in ("row", "text", "subset"))
            for row, text, subset in zip(*columns, strict=True):
                if (file.corpus, subset) not in excluded:
                    yield (file.corpus, file.path, row), text


def make_pool(data: Path, truth: Path, share: float, out: Path) -> None:
    """All rows of a share of the documents, by the key that their copies have in common."""
    keep: dict[Row, str | None] = {}
    for line in open(truth):
        row = json.loads(line)
        if xxhash.xxh3_64_intdigest(row["key"].encode()) < share * 2**64:
            keep[row["corpus"], row["file"].split("/", 1)[1], row["row"]] = None
    write_pool(data, out, keep)


def make_datatrove_pool(pool: Path, work: Path, out: Path) -> None:
    """What datatrove's steps leave of a pool, with the texts as they leave them."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.logging import logger

    logger.remove()
    words = whitespace_words()
    (work / "text").mkdir(parents=True)
    texts = dict(rows_of(pool))
    with open(work / "text" / "0.jsonl", "w") as file:
        for row, text in texts.items():
            file.write(json.dumps({"id": json.dumps(row), "text": text}) + "\n")
    documents = JsonlReader(str(work / "text")).run(rank=0, world_size=1)
    for step in (
        GopherRepetitionFilter(language=words),
        GopherQualityFilter(language=words),
        C4QualityFilter(language=words, filter_no_terminal_punct=False),
        FineWebQualityFilter(language=words),
    ):
        documents = step.run(documents, 0, 1)
    writer = JsonlWriter(str(work / "filtered"), output_filename="${rank}.jsonl", compression=None)
    for _ in writer.run(documents, 0, 1):
        pass
    writer.close()
    kept: dict[Row, str | None] = {}
    for document, _ in minhash_dedup(work / "filtered", work / "dedup", 1, words):
        corpus, name, number = json.loads(document.id)
        row = (corpus, name, number)
        kept[row] = None if document.text == texts[row] else document.text
    write_pool(pool, out, kept)


# --- one arm with one seed --------------------------------------------------------------------------------------------


def make_run(arm: str, seed: int, root: Path) -> Path:
    """The curated sets of an arm; nothing is done where they are finished."""
    documents, changes = ARMS[arm]
    out = root / "runs" / f"{arm}-{seed}"
    _, recipe = load_recipe(str(RECIPE), [], {**os.environ, "FOX1_DATA": str(root / documents)})
    recipe = deepcopy(recipe)
    for change in (*changes, lenient):
        change(recipe)
    recipe["seed"] = recipe["training"]["seed"] = seed + 1
    if (arm, seed) != ("raw", 0):
        recipe["tokenizer"]["model"] = str(root / "runs" / "raw-0" / "prepare" / "tokenizer.model")
    path = root / "recipes" / f"{arm}-{seed}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    fox1.curate(path, out, in_process=True)
    return out


def measure(arm: str, seed: int, root: Path) -> dict[str, Any]:
    """Train one model on an arm, and its bits per byte on both held-out sets."""
    import numpy as np
    import torch
    import torch.distributed as dist
    from fox1.trainer.checks.held_out_loss import HeldOutLoss
    from fox1.trainer.data.order import PhaseData
    from fox1.trainer.evaluate.text_model import open_model
    from fox1.trainer.parallel import start_processes
    from fox1.trainer.train import train

    torch.set_num_threads(1)
    run, out = root / "runs" / f"{arm}-{seed}", root / "checkpoints" / f"{arm}-{seed}"
    settings = json.loads((run / "training.json").read_text())
    with open(os.devnull, "w") as nothing:
        sys.stdout, shown = nothing, sys.stdout
        start_processes()
        status = train(run, out, list(range(len(settings["phases"]))))
        sys.stdout = shown
    if status:
        raise SystemExit(status)
    model = open_model(out).model
    bytes_of = torch.from_numpy(np.load(root / "runs" / "raw-0" / "prepare" / "piece_bytes.npy").astype(np.int64))
    lines = [json.loads(line) for line in open(out / "metrics.jsonl")]
    result: dict[str, Any] = {"arm": arm, "seed": seed, "steps": max(v["step"] for v in lines if v["kind"] == "train")}
    result["tokens"] = sum(p["tokens"] for p in fox1.open_run(run).stats["mixture"]["phases"])
    for name, of in (("whole", "raw-0"), ("clean", "phases-0")):
        data = PhaseData(root / "runs" / of / "held_out", 0)
        found = HeldOutLoss(data, EVALUATED_BLOCKS, bytes_of).measure(model, torch.device("cpu"))
        result[name] = {
            "bits_per_byte": found["bits_per_byte"],
            "by_domain": found["bits_per_byte_by_domain"],
            "targets": found["targets"],
        }
    dist.destroy_process_group()
    shutil.rmtree(out)
    return result


# --- the report -------------------------------------------------------------------------------------------------------


def interval(values: list[float]) -> tuple[float, float]:
    """(mean, half of its 95 % interval)."""
    n = len(values)
    return statistics.mean(values), T_95[n] * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.inf


def tables(results: list[dict[str, Any]]) -> Iterator[str]:
    """The results as Markdown."""
    by = {(r["arm"], r["seed"]): r for r in results}
    arms = [a for a in ARMS if any(r["arm"] == a for r in results)]

    def values(arm: str, read: Callable[[dict[str, Any]], float]) -> list[float]:
        return [read(r) for (a, _), r in sorted(by.items()) if a == arm]

    def difference(arm: str, of: str, read: Callable[[dict[str, Any]], float]) -> str:
        pairs = [read(r) - read(by[of, seed]) for (a, seed), r in sorted(by.items()) if a == arm and (of, seed) in by]
        mean, half = interval(pairs)
        return f"{mean:+.4f} ± {half:.4f}"

    for name in ("whole", "clean"):
        read = lambda r, name=name: r[name]["bits_per_byte"]  # noqa: E731
        yield f"\n{name}: bits per byte, every seed, mean with its 95 % interval, paired difference\n"
        yield "| arm | seeds | mean | against raw | against mix |\n|---|---|---|---|---|"
        for arm in arms:
            mean, half = interval(values(arm, read))
            seeds = ", ".join(f"{v:.4f}" for v in values(arm, read))
            against = [difference(arm, of, read) if arm != of else "" for of in ("raw", "mix")]
            yield f"| {arm} | {seeds} | {mean:.4f} ± {half:.4f} | {against[0]} | {against[1]} |"
    domains = sorted(results[0]["whole"]["by_domain"])
    yield "\nwhole, by domain: means over the seeds\n"
    yield f"| arm | {' | '.join(domains)} |\n|{'---|' * (len(domains) + 1)}"
    for arm in arms:
        means = [statistics.mean(values(arm, lambda r, d=d: r["whole"]["by_domain"][d])) for d in domains]  # type: ignore[misc]
        yield f"| {arm} | {' | '.join(f'{m:.3f}' for m in means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.125)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help="what a process of its own does")
    parser.add_argument("--tables", action="store_true", help="only print the results so far")
    options = parser.parse_args()
    root = options.out.absolute()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), root)))
        return
    log = root / "results.jsonl"
    results = [json.loads(line) for line in open(log)] if log.exists() else []
    if not options.tables:
        data = Path(os.environ["FOX1_DATA"]).absolute()
        os.environ.setdefault("FOX1_EVAL", str(data.parent / "eval"))
        if not (root / "pool").exists():
            make_pool(data, options.truth or data.parent / "truth.jsonl", options.share, root / "pool.part")
            (root / "pool.part").rename(root / "pool")
        if not (root / "datatrove").exists():
            for name in ("work", "datatrove.part"):
                shutil.rmtree(root / name, ignore_errors=True)
            make_datatrove_pool(root / "pool", root / "work", root / "datatrove.part")
            (root / "datatrove.part").rename(root / "datatrove")
        for name in ("pool", "datatrove"):
            sizes = [len(text.encode()) for _, text in rows_of(root / name)]
            print(f"{name}: {len(sizes):,} documents, {sum(sizes) / 1e6:.1f} MB of text", flush=True)
        todo = [(arm, seed) for seed in range(options.seeds) for arm in ARMS]
        for arm, seed in todo:
            run = make_run(arm, seed, root)
            stats = fox1.open_run(run).stats
            tokens = sum(p["tokens"] for p in stats["mixture"]["phases"])
            print(
                f"{arm}-{seed}: {sum(c['kept'] for c in stats['funnel']['corpora']):,} kept, {tokens:,} tokens",
                flush=True,
            )
        done = {(r["arm"], r["seed"]) for r in results}

        def one(arm: str, seed: int) -> None:
            command = [sys.executable, __file__, "--out", str(root), "--one", arm, str(seed)]
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode:
                raise ValueError(f"{arm}-{seed} failed: {made.stderr[-2000:]}")
            line = made.stdout.splitlines()[-1]
            results.append(json.loads(line))
            with open(log, "a") as file:
                file.write(line + "\n")
            print(f"{arm}-{seed}: {results[-1]['whole']['bits_per_byte']:.4f} bits per byte", flush=True)

        with ThreadPoolExecutor(JOBS) as threads:
            for future in [threads.submit(one, *pair) for pair in todo if pair not in done]:
                future.result()
    for line in tables(results):
        print(line)
    final = {a: interval([r["whole"]["bits_per_byte"] for r in results if r["arm"] == a]) for a in ARMS}
    print(json.dumps({arm: [round(mean, 4), round(half, 4)] for arm, (mean, half) in final.items()}))


if __name__ == "__main__":
    main()

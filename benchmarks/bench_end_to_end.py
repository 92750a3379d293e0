"""Five corpora to three shard sets against the same steps in datatrove, one core each, on the same documents, in one run.

    FOX1_DATA=... python -m benchmarks.bench_end_to_end --model gemma.model [--megabytes 20] [--pairs 3]
    FOX1_DATA=... python -m benchmarks.bench_end_to_end --model gemma.model --old TREE [--pairs 5]

fox1: all stages, from the five native formats to packed curriculum sets, provenance index and statistics; benchmark items
and quality models, which datatrove has no step for, are off. datatrove: its Gopher repetition, Gopher quality, C4 and
FineWeb filters, four MinHash stages, and tokenization to its format with the same model, from JSON lines; it mixes and
packs nothing. At its defaults (English words by spaCy) and in its fastest setting (words split at white space). fox1 on
the whole data is measured beside. Imports and compilation are excluded. Then once more with all cores on both sides: fox1 on
its pool, datatrove in its local executor. The last line is JSON, with processor seconds beside those of the clock.

With `--old` the whole data is curated by this tree and by another checkout of fox1 instead, in turn, one core each.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fox1.benchmarks.peers import (
    Took,
    bring,
    in_turn,
    is_sampled,
    measured,
    minhash_dedup,
    minhash_stages,
    whitespace_words,
)
from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.pool import pool_session, usable_cores
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.engine.tasks import Executor, InProcess
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of

FILES = 4
CORES = usable_cores()
SAME_STEPS = ("contamination.benchmarks={}", "quality={}", "tokenizer.specials={}", "tokenizer.reserved=[]")


def write_sample(megabytes: float, root: Path) -> int:
    """Documents of the five corpora in their formats below `root/corpora`, and as JSON lines in `root/text`; bytes of text."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for file in list_sources(sources_of(load_recipe("mini")[0])):
        for batch in read_rows(file, Quarantine(file)):
            pairs = zip(batch.column("text").to_pylist(), batch.column("subset").to_pylist(), strict=True)
            rows.setdefault(file.corpus, []).extend(pairs)
    share = megabytes * 1e6 / sum(len(t.encode()) for pairs in rows.values() for t, _ in pairs)
    chosen = {corpus: [(t, s) for t, s in pairs if is_sampled(t, share)] for corpus, pairs in rows.items()}
    corpora = root / "corpora"

    def lines(path: Path, values: list[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "\n".join(json.dumps(v, ensure_ascii=False) for v in values).encode() + b"\n"
        if path.suffix == ".zst":
            data = zstandard.ZstdCompressor().compress(data)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)

    red, slim, pile = chosen["redpajama"], chosen["slimpajama"], chosen["pile"]
    lines(corpora / "redpajama/all.jsonl.zst", [{"text": t, "meta": {}, "red_pajama_subset": s} for t, s in red])
    slimpajama = [{"text": t, "meta": {"redpajama_set_name": s}} for t, s in slim]
    lines(corpora / "slimpajama/train/chunk1/a.jsonl.zst", slimpajama[5:])
    lines(corpora / "slimpajama/validation/chunk1/a.jsonl.zst", slimpajama[:5])
    lines(
        corpora / "dolma/a.json.gz",
        [{"id": str(i), "text": t, "source": s} for i, (t, s) in enumerate(chosen["dolma"])],
    )
    piled = [{"text": t, "meta": {"pile_set_name": s}} for t, s in pile]
    lines(corpora / "pile/train/00.jsonl.zst", piled[5:])
    lines(corpora / "pile/val.jsonl.zst", piled[:5])
    (corpora / "refinedweb/data").mkdir(parents=True)
    web = [t for t, _ in chosen["refinedweb"]]
    pq.write_table(pa.table({"content": web, "url": [""] * len(web)}), corpora / "refinedweb/data/a.parquet")
    every = [t for pairs in chosen.values() for t, _ in pairs]
    for k in range(FILES):
        lines(root / "text" / f"{k}.jsonl", [{"id": str(i), "text": t} for i, t in enumerate(every) if i % FILES == k])
    return sum(len(t.encode()) for t in every)


def run_fox1(recipe: str, data: Path, model: Path, out: Path, executor: Executor | None = None) -> int:
    """Curate; bytes of text that were read."""
    settings = [*SAME_STEPS, f"tokenizer.model={model}"]
    loaded, _ = load_recipe(recipe, settings, {**os.environ, "FOX1_DATA": str(data)})
    summary = curate(curate_settings(loaded), Engine(RunPaths(out), executor or InProcess()))
    return sum(f.bytes for f in summary.funnels)


def run_fox1_on_all_cores(data: Path, model: Path, folder: Path) -> Took:
    """Curate on a pool that has curated once before: imports and compilation are excluded on all sides."""
    with pool_session(CORES) as pool:
        run_fox1("sample", data, model, folder / "warm", pool)
        began = time.perf_counter()
        run_fox1("sample", data, model, folder / "run", pool)
        seconds = time.perf_counter() - began
    return Took(seconds, sum(entry["seconds"] for entry in task_times(RunPaths(folder / "run"))))


def run_datatrove(sources: Path, folder: Path, tokenizer: Path, words: Any) -> None:
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    for rank in range(FILES):
        documents = JsonlReader(str(sources)).run(rank=rank, world_size=FILES)
        for step in (GopherRepetitionFilter, GopherQualityFilter, C4QualityFilter, FineWebQualityFilter):
            documents = step(language=words).run(documents, rank, FILES)
        writer = JsonlWriter(str(folder / "filtered"), output_filename="${rank}.jsonl", compression=None)
        for _ in writer.run(documents, rank, FILES):
            pass
        writer.close()
    kept: list[Any] = [[] for _ in range(FILES)]
    for document, rank in minhash_dedup(folder / "filtered", folder / "dedup", FILES, words):
        kept[rank].append(document)
    for rank in range(FILES):
        step = DocumentTokenizer(
            str(folder / "tokens"),
            tokenizer_name_or_path=str(tokenizer),
            eos_token=None,
            local_working_dir=str(folder / "w"),
        )
        step.run(iter(kept[rank]), rank, FILES)


def run_datatrove_on_all_cores(sources: Path, folder: Path, tokenizer: Path, words: Any) -> None:
    """The same steps as its users run them: one local executor after the other, `CORES` processes each."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import MinhashDedupFilter
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    def run(name: str, pipeline: list[Any], tasks: int = FILES) -> None:
        logs = str(folder / "logs" / name)
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=CORES, logging_dir=logs, skip_completed=False).run()

    filters = [
        step(language=words)
        for step in (GopherRepetitionFilter, GopherQualityFilter, C4QualityFilter, FineWebQualityFilter)
    ]
    filtered = JsonlWriter(str(folder / "filtered"), output_filename="${rank}.jsonl", compression=None)
    run("filters", [JsonlReader(str(sources)), *filters, filtered])
    for number, (step, reads, tasks) in enumerate(minhash_stages(folder / "dedup", FILES, words)):
        run(f"minhash{number}", [JsonlReader(str(folder / "filtered")), step] if reads else [step], tasks)
    encode = DocumentTokenizer(
        str(folder / "tokens"),
        tokenizer_name_or_path=str(tokenizer),
        eos_token=None,
        local_working_dir=str(folder / "w"),
    )
    kept = [JsonlReader(str(folder / "filtered")), MinhashDedupFilter(str(folder / "dedup/remove")), encode]
    run("tokens", kept)


def compare_trees(old: Path, model: Path, pairs: int) -> None:
    """Curate with this tree and another in turn, and print how their times compare."""
    seconds: dict[str, list[Took]] = {"old": [], "new": []}
    script, size = Path(__file__).with_name("curate_on_demand.py"), 0
    # The first of each compiles.
    for number, name, answer in in_turn(old, script, [str(model), *SAME_STEPS], pairs + 1):
        wall, cpu, size = json.loads(answer)
        if number:
            seconds[name].append(Took(wall, cpu))
            print(f"{name}: {wall:.2f} s, {cpu:.2f} s of the processor", flush=True)

    def median(name: str, kind: str) -> float:
        return statistics.median(getattr(took, kind) for took in seconds[name])

    pairs_of = list(zip(seconds["old"], seconds["new"], strict=True))
    print(
        json.dumps(
            {
                "pairs": pairs,
                "mb_per_s_old": round(size / 1e6 / median("old", "wall"), 2),
                "mb_per_s_new": round(size / 1e6 / median("new", "wall"), 2),
                "cpu_ratio_old_to_new": round(statistics.median(a.cpu / b.cpu for a, b in pairs_of), 3),
                "ratio_old_to_new": round(statistics.median(a.wall / b.wall for a, b in pairs_of), 3),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a SentencePiece BPE model")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--pairs", type=int, default=0, help="how often (default: 3; with --old 5)")
    parser.add_argument("--old", type=Path, metavar="TREE", help="another checkout of fox1 to compare this one with")
    options = parser.parse_args()
    model = options.model.absolute()
    if options.old:
        compare_trees(options.old, model, options.pairs or 5)
        return
    options.pairs = options.pairs or 3
    bring("orjson", "spacy", "tokenizers")
    import gigatoken
    from datatrove.utils.logging import logger

    logger.remove()
    root = Path(tempfile.mkdtemp(prefix="fox1-e2e-"))
    # The same model as a tokenizer.json, which datatrove wants.
    data = gigatoken.Tokenizer.from_sentencepiece(model)._hf_json
    (root / "tokenizer.json").write_bytes(data if isinstance(data, bytes) else data.encode())
    try:
        size = write_sample(options.megabytes, root)

        def once(name: str) -> Took:
            folder = Path(tempfile.mkdtemp(dir=root))
            words = "en" if name.endswith("default") else whitespace_words()
            tokenizer = root / "tokenizer.json"
            if name == "fox1":
                took = measured(lambda: run_fox1("sample", root / "corpora", model, folder))
            elif name == "fox1 on all cores":
                took = run_fox1_on_all_cores(root / "corpora", model, folder)
            elif name.startswith("all cores"):
                took = measured(lambda: run_datatrove_on_all_cores(root / "text", folder, tokenizer, words))
            else:
                took = measured(lambda: run_datatrove(root / "text", folder, tokenizer, words))
            shutil.rmtree(folder)
            print(
                f"{name:18} {size / 1e6 / took.wall:8.3f} MB/s {took.wall:8.2f} s, of the processor {took.cpu:8.2f} s"
            )
            return took

        once("fox1")  # kernels are compiled, models loaded
        pairs = [(once("fox1"), once("fastest")) for _ in range(options.pairs)]
        default = once("default")
        ours = statistics.median(p[0].wall for p in pairs)
        spread = [(once("fox1 on all cores"), once("all cores, fastest")) for _ in range(options.pairs)]
        whole = []
        for _ in range(options.pairs):
            folder, sizes = Path(tempfile.mkdtemp(dir=root)), list[int]()
            took = measured(
                lambda folder=folder, sizes=sizes: sizes.append(  # type: ignore[misc]
                    run_fox1("mini", Path(os.environ["FOX1_DATA"]), model, folder)
                )
            )
            whole.append(sizes[0] / 1e6 / took.wall)
            shutil.rmtree(folder)
        result = {
            "cores": CORES,
            "ratio_all_cores": round(statistics.median(theirs.wall / ours.wall for ours, theirs in spread), 1),
            "cpu_s": {
                "fox1": round(statistics.median(p[0].cpu for p in pairs), 2),
                "fastest": round(statistics.median(p[1].cpu for p in pairs), 2),
                "default": round(default.cpu, 2),
            },
            "cpu_ratio": round(statistics.median(p[1].cpu / p[0].cpu for p in pairs), 1),
            "mb_per_s": round(statistics.median(whole), 1),
            "mb_per_s_on_the_sample": round(size / 1e6 / ours, 1),
            "megabytes": round(size / 1e6, 1),
            "ratio_default": round(default.wall / ours, 1),
            "ratio": round(statistics.median(p[1].wall / p[0].wall for p in pairs), 1),
        }
        print(json.dumps(result))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

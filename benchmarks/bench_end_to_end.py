"""Five corpora to three shard sets against the same steps in datatrove, one core each, on the same documents, in one run.

    FOX1_DATA=... python -m benchmarks.bench_end_to_end --model gemma.model [--megabytes 20] [--pairs 3]

fox1: all stages, from the five native formats to packed curriculum sets, provenance index and statistics; benchmark items
and quality models, which datatrove has no step for, are off. datatrove: its Gopher repetition, Gopher quality, C4 and
FineWeb filters, four MinHash stages, and tokenization to its format with the same model, from JSON lines; it mixes and
packs nothing. At its defaults (English words by spaCy) and in its fastest setting (words split at white space). fox1 on
the whole data is measured beside. Imports and compilation are excluded. The last line is JSON.

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
from pathlib import Path
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fox1.benchmarks.peers import bring, is_sampled, minhash_dedup, timed, whitespace_words
from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.artifacts import RunPaths
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of

FILES = 4
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


def run_fox1(recipe: str, data: Path, model: Path, out: Path) -> Any:
    settings = [*SAME_STEPS, f"tokenizer.model={model}"]
    loaded, _ = load_recipe(recipe, settings, {**os.environ, "FOX1_DATA": str(data)})
    return curate(curate_settings(loaded), Engine(RunPaths(out), InProcess()))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a SentencePiece BPE model")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    bring("spacy", "tokenizers")
    import gigatoken
    from datatrove.utils.logging import logger

    logger.remove()
    root = Path(tempfile.mkdtemp(prefix="fox1-e2e-"))
    # The same model as a tokenizer.json, which datatrove wants.
    data = gigatoken.Tokenizer.from_sentencepiece(options.model)._hf_json
    (root / "tokenizer.json").write_bytes(data if isinstance(data, bytes) else data.encode())
    try:
        size = write_sample(options.megabytes, root)

        def once(name: str) -> float:
            folder = Path(tempfile.mkdtemp(dir=root))
            if name == "fox1":
                seconds = timed(lambda: run_fox1("sample", root / "corpora", options.model.absolute(), folder))
            else:
                words = "en" if name == "default" else whitespace_words()
                seconds = timed(lambda: run_datatrove(root / "text", folder, root / "tokenizer.json", words))
            shutil.rmtree(folder)
            print(f"{name:8} {size / 1e6 / seconds:8.3f} MB/s {seconds:8.2f} s")
            return seconds

        once("fox1")  # kernels are compiled, models loaded
        pairs = [(once("fox1"), once("fastest")) for _ in range(options.pairs)]
        default = once("default")
        ours = statistics.median(p[0] for p in pairs)
        whole = []
        for _ in range(options.pairs):
            folder = Path(tempfile.mkdtemp(dir=root))
            summaries: list[Any] = []
            seconds = timed(
                lambda folder=folder, s=summaries: s.append(  # type: ignore[misc]
                    run_fox1("mini", Path(os.environ["FOX1_DATA"]), options.model.absolute(), folder)
                )
            )
            whole.append(sum(f.bytes for f in summaries[0].funnels) / 1e6 / seconds)
            shutil.rmtree(folder)
        result = {
            "ratio_default": round(default / ours, 1),
            "ratio": round(statistics.median(p[1] / p[0] for p in pairs), 1),
            "mb_per_s": round(statistics.median(whole), 1),
            "mb_per_s_on_the_sample": round(size / 1e6 / ours, 1),
            "megabytes": round(size / 1e6, 1),
        }
        print(json.dumps(result))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

"""Encoding against sentencepiece, HF tokenizers, gigatoken and kitoken on the same documents, one core, in one run.

    FOX1_DATA=... python -m benchmarks.bench_encode --model gemma.model [--megabytes 30] [--pairs 3]

fox1 takes Arrow arrays and gives flat ids; the peers take Python strings (gigatoken also the Arrow array, its fastest
input) and give what they give. Half of the documents warm an encoder up, which is timed as cold; the others are encoded
once each, in as many parts as there are pairs, since fox1 and its peers keep the words that they have seen. All ids are
compared with sentencepiece's, those of fox1 and gigatoken on every document. The last line is JSON.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import awkward
import numpy as np
import pyarrow as pa
import xxhash
from fox1.benchmarks.peers import bring
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import sources_of
from fox1.tokenize.encode import Encoder

BATCH = 500
SLOW = ("sentencepiece", "tokenizers", "kitoken")
"""Timed and compared on fewer documents."""
Batches = list[pa.LargeStringArray]


def sample(recipe: str, megabytes: float) -> Batches:
    """Distinct documents of all corpora, chosen by hash, in batches."""
    texts: dict[int, str] = {}
    for file in list_sources(sources_of(load_recipe(recipe)[0])):
        for batch in read_rows(file, Quarantine(file)):
            for text in batch.column("text").to_pylist():
                texts.setdefault(xxhash.xxh3_64_intdigest(text.encode()), text)
    chosen, size = [], 0.0
    for key in sorted(texts):
        chosen.append(texts[key])
        size += len(texts[key].encode()) / 1e6
        if size >= megabytes:
            break
    return [pa.array(chosen[i : i + BATCH], pa.large_string()) for i in range(0, len(chosen), BATCH)]


def encoders(model: Path, reserved: tuple[str, ...]) -> dict[str, Callable[[], Callable[[Any], Any]]]:
    """Name -> what makes a fresh encoder; each encodes one batch."""

    def fox1() -> Callable[[Any], Any]:
        encoder = Encoder(model, reserved)
        return lambda texts: encoder.encode(texts).ids

    def sentencepiece() -> Callable[[Any], Any]:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=str(model))
        return lambda texts: processor.encode(texts, num_threads=1)

    def gigatoken() -> Callable[[Any], Any]:
        import gigatoken

        tokenizer = gigatoken.Tokenizer.from_sentencepiece(model)
        return lambda texts: tokenizer.encode_batch(texts, parallel=False)

    def kitoken() -> Callable[[Any], Any]:
        import kitoken

        tokenizer = kitoken.Kitoken.from_sentencepiece_file(str(model))
        return lambda texts: [tokenizer.encode(t) for t in texts]

    def tokenizers() -> Callable[[Any], Any]:
        import gigatoken
        from tokenizers import Tokenizer

        # The same model as a tokenizer.json, as gigatoken converts it.
        data = gigatoken.Tokenizer.from_sentencepiece(model)._hf_json
        tokenizer = Tokenizer.from_str(data.decode() if isinstance(data, bytes) else data)
        return lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    return {
        "fox1": fox1,
        "gigatoken": gigatoken,
        "kitoken": kitoken,
        "sentencepiece": sentencepiece,
        "tokenizers": tokenizers,
    }


def as_wanted(name: str, batches: Batches) -> list[Any]:
    if name == "fox1":
        return list(batches)
    if name == "gigatoken":
        return [awkward.from_arrow(b, generate_bitmasks=False) for b in batches]
    return [b.to_pylist() for b in batches]


def flat(value: Any) -> np.ndarray:
    """Ids of a batch in one array, whatever a peer gives."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "layout"):
        return np.asarray(awkward.flatten(value)).astype(np.int32)
    return np.array([i for one in value for i in getattr(one, "ids", one)], np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=60.0)
    parser.add_argument("--slow-megabytes", type=float, default=12.0, help="for the slow ones")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    bring("kitoken", "tokenizers")
    batches = sample(options.recipe, options.megabytes)
    half = len(batches) // 2
    parts = [batches[:half], *(batches[half + k :: options.pairs] for k in range(options.pairs))]
    few = [part[: max(1, round(len(part) * options.slow_megabytes / options.megabytes))] for part in parts]
    makers = encoders(options.model, ("<start_of_turn>", "<end_of_turn>"))
    makers["fox1"]()(batches[0])  # kernels are compiled
    cold: dict[str, float] = {}
    warm: dict[str, list[float]] = {name: [] for name in makers}
    running: dict[str, Callable[[Any], Any]] = {}

    def timed(name: str, number: int) -> float:
        part = (few if name in SLOW else parts)[number]
        wanted = as_wanted(name, part)
        began = time.perf_counter()
        for batch in wanted:
            running[name](batch)
        return sum(b.nbytes for b in part) / 1e6 / (time.perf_counter() - began)

    for name, make in makers.items():
        running[name] = make()
        cold[name] = timed(name, 0)
    for pair in range(options.pairs):
        for name in makers:
            warm[name].append(timed(name, pair + 1))
    compared = {name: [b for part in (few if name in SLOW else parts) for b in part] for name in makers}
    reference = {id(b): flat(running["sentencepiece"](b.to_pylist())) for b in batches}
    for name in makers:
        median = statistics.median(warm[name])
        same = all(
            np.array_equal(flat(running[name](wanted)), reference[id(batch)])
            for batch, wanted in zip(compared[name], as_wanted(name, compared[name]), strict=True)
        )
        print(f"{name:14} cold {cold[name]:6.2f} MB/s, warm {median:6.2f} MB/s, ids as sentencepiece: {same}")
    ratios = {peer: statistics.median(a / b for a, b in zip(warm["fox1"], warm[peer], strict=True)) for peer in makers}
    print(
        json.dumps(
            {
                "ratio": round(ratios["sentencepiece"], 2),
                "ratio_gigatoken": round(ratios["gigatoken"], 3),
                "ratio_kitoken": round(ratios["kitoken"], 2),
                "ratio_tokenizers": round(ratios["tokenizers"], 2),
                "mb_per_s_cold": round(cold["fox1"], 2),
                "mb_per_s": round(statistics.median(warm["fox1"]), 2),
            }
        )
    )


if __name__ == "__main__":
    main()

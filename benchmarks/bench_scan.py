"""The whole scan against datatrove's same steps on the same documents, one core each, in one run.

    FOX1_DATA=... python -m benchmarks.bench_scan [--megabytes 30] [--default-megabytes 4] [--pairs 3]
    FOX1_DATA=... python -m benchmarks.bench_scan --old TREE [--megabytes 30] [--pairs 15]

fox1: everything scan computes (words and lines, Gopher quality and repetition, C4, FineWeb, code, personal data, language, quality
model, contamination, URL rules, edits, content hash, signature, sketch) as Arrow columns. datatrove: its Gopher quality,
Gopher repetition, C4 and FineWeb filters and MinHash signatures; each at its defaults (English words by spaCy) and in its
fastest setting (words split at white space). Imports and kernel compilation are excluded on both sides; texts are in
memory as each side wants them. The last line is JSON.

With `--old` this tree's scan is compared with that of another checkout of fox1 instead: a process for each, which scan the
same documents in turn. What counts is the processor time of a scan, so that other processes of the machine disturb little.

Installs spacy where it is missing; with rensa it compares MinHash alone as well.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
from fox1.benchmarks.peers import bring, signature_step, timed, whitespace_words
from fox1.pipeline.engine.memory import keep_freed_memory
from fox1.pipeline.prepare.contamination import prepare_contamination
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals import c4, code, contamination, fineweb, gopher, language, minhash, pii, quality, scan
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings

Batch = tuple[SourceFile, pa.RecordBatch]


def size_of(batches: list[Batch]) -> int:
    return sum(int(np.diff(scan.text_buffers(b.column("text"))[1]).sum()) for _, b in batches)


def stratified(batches: list[Batch], megabytes: float, seed: int) -> list[Batch]:
    """Documents of every file alike, about so many megabytes in all."""
    rng = random.Random(seed)
    share = megabytes * 1e6 / size_of(batches)
    chosen: dict[str, tuple[SourceFile, list[pa.RecordBatch]]] = {}
    for file, batch in batches:
        rows = pa.array([i for i in range(batch.num_rows) if rng.random() < share], pa.int64())
        chosen.setdefault(file.corpus, (file, []))[1].append(batch.take(rows))
    # One batch per corpus: documents in memory, as the peer has them.
    return [(file, pa.Table.from_batches(parts).combine_chunks().to_batches()[0]) for file, parts in chosen.values()]


class Datatrove:
    """Its five steps over prepared documents."""

    def __init__(self, tokenizer: Any = None) -> None:
        from datatrove.pipeline.dedup.minhash import MinhashConfig
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )

        words = "en" if tokenizer is None else tokenizer
        signature = signature_step(Path(tempfile.mkdtemp(prefix="fox1-bench-")), words, MinhashConfig())

        def sign(document: Any) -> None:
            shingles = signature.get_shingles(document.text)
            if shingles.size:  # as its own step does
                signature.get_signature(shingles)

        self.steps: dict[str, Callable[[Any], Any]] = {
            "gopher quality": GopherQualityFilter(language=words).filter,
            "gopher repetition": GopherRepetitionFilter(language=words).filter,
            "c4": C4QualityFilter(language=words).filter,
            "fineweb": FineWebQualityFilter(language=words).filter,
            "minhash": sign,
        }

    def run_apart(self, documents: list[Any]) -> float:
        """Seconds of all steps, each over all documents by itself: nothing one step splits is there for the next."""

        def every(step: Callable[[Any], Any]) -> None:
            for document in documents:
                step(document)

        return sum(timed(lambda step=step: every(step)) for step in self.steps.values())  # type: ignore[misc]

    def run(self, documents: list[Any]) -> dict[str, float]:
        # Document by document, as its pipelines run: the words of a document are split once for all filters.
        seconds = dict.fromkeys(self.steps, 0.0)
        for document in documents:
            for name, step in self.steps.items():
                began = time.perf_counter()
                step(document)
                seconds[name] += time.perf_counter() - began
        return seconds


def prepared_for(settings: Any, paths: RunPaths) -> scan.Models:
    """The contamination index of the recipe, and a quality model of the right size."""
    nothing = scan.Models.nothing()
    weights = np.random.default_rng(0).integers(-100, 100, (1, quality.BUCKETS)).astype(np.int16)
    index = None
    if settings.contamination.benchmarks:
        made = prepare_contamination(settings.contamination, (), paths)
        read: Callable[..., Any] = contamination.read_index
        # Earlier trees have no passages.
        if hasattr(made, "passages"):
            index = read(made.index.file, made.passages.file, made.pairs.file)
        else:
            index = read(made.index.file, made.pairs.file, settings.contamination.ngram)
    return scan.Models(quality.QualityModels(("web",), weights), index, nothing.urls)


def kernels(batches: list[Batch], prepared: scan.Models) -> dict[str, float]:
    """Seconds of every kernel by itself, over segmented pieces."""
    seconds: dict[str, float] = {}

    def add(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = call()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        return value

    shape = minhash.MinHashSettings()
    for _, batch in batches:
        for piece in scan.pieces(batch):
            text, offsets = scan.text_buffers(piece.column("text"))
            s = add("segment", lambda: segment(text, offsets))  # noqa: B023
            best, _ = add("language", lambda: language.identify(s.text, s.offsets))  # noqa: B023
            # Earlier trees count the stop words of one language.
            languages = (best,) if len(inspect.signature(gopher.quality_counts).parameters) == 2 else ()
            count_quality: Callable[..., Any] = gopher.quality_counts
            add("gopher quality", lambda: count_quality(s, *languages))  # noqa: B023
            _, repeats = add("gopher repetition", lambda: gopher.repetition_counts(s, 5))  # noqa: B023
            add("c4", lambda: c4.judge_lines(s))  # noqa: B023
            add("fineweb", lambda: fineweb.punctuation_counts(s))  # noqa: B023
            add("code", lambda: code.encoded_counts(s))  # noqa: B023
            add("pii", lambda: pii.find_pii(s))  # noqa: B023
            add("minhash", lambda: minhash.sign(s, shape, repeats))  # noqa: B023
            if (index := prepared.index) is not None:
                add("contamination", lambda: contamination.find_hits(s, index))  # noqa: B023
            domain = np.zeros(len(offsets) - 1, np.int64)
            add("quality", lambda: quality.score(s, prepared.quality, domain, domain))  # noqa: B023
            add("memory copy", lambda: text[offsets[0] : offsets[-1]].copy())  # noqa: B023
    return seconds


class Loaded:
    """A recipe's documents in memory, and all that their scan needs."""

    def __init__(self, recipe: str, folder: Path) -> None:
        keep_freed_memory()  # as every scan task does
        self.settings = curate_settings(load_recipe(recipe)[0])
        # Earlier trees have one table of both.
        self.schema = getattr(scan, "scanned_schema", scan.signals_schema)(self.settings.scan)
        self.paths = RunPaths(folder)
        self.prepared = prepared_for(self.settings, self.paths)
        self.files = list_sources(self.settings.sources)
        self.whole = self.read()

    def read(self) -> list[Batch]:
        return [(f, b) for f in self.files for b in read_rows(f, Quarantine(f))]

    def scan(self, batches: list[Batch]) -> None:
        for file, batch in batches:
            for piece in scan.pieces(batch):
                scan.scan_piece(piece, file, self.settings.scan, self.schema, self.prepared)


def scan_on_demand(recipe: str, megabytes: float) -> None:
    """Scan the same documents for every line of the standard input, and answer with the seconds of processor time."""
    with tempfile.TemporaryDirectory(prefix="fox1-bench-") as folder:
        loaded = Loaded(recipe, Path(folder))
        batches = stratified(loaded.whole, megabytes, 1)
        loaded.scan(batches)  # kernels are compiled and models loaded
        for _ in sys.stdin:
            began = time.process_time()
            loaded.scan(batches)
            print(json.dumps([time.process_time() - began, size_of(batches)]), flush=True)


def compare_trees(old: Path, recipe: str, megabytes: float, pairs: int) -> None:
    """Scan with this tree and another in turn, and print how their times compare."""
    # Here, since this file drives an older tree too, which does not have it.
    from fox1.benchmarks.peers import in_turn

    arguments = ["--on-demand", "--recipe", recipe, "--megabytes", str(megabytes)]
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    # The first of each waits until both are loaded.
    for number, name, answer in in_turn(old, Path(__file__), arguments, pairs + 1):
        took, size = json.loads(answer)
        if number:
            seconds[name].append(took)
        else:
            print(f"{name}: {size / 1e6:.1f} MB", flush=True)
    ratio = statistics.median(new / old for new, old in zip(seconds["new"], seconds["old"], strict=True))
    least = min(seconds["new"]) / min(seconds["old"])
    print(
        json.dumps(
            {
                "pairs": pairs,
                "seconds_old": round(statistics.median(seconds["old"]), 3),
                "seconds_new": round(statistics.median(seconds["new"]), 3),
                "ratio_of_least": round(least, 4),
                "ratio_new_to_old": round(ratio, 4),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=30.0, help="of text for datatrove's fastest setting")
    parser.add_argument("--default-megabytes", type=float, default=4.0, help="of text for its defaults")
    parser.add_argument("--pairs", type=int, default=0, help="how often (default: 3; with --old 15)")
    parser.add_argument("--old", type=Path, metavar="TREE", help="another checkout of fox1 to compare this one with")
    parser.add_argument("--on-demand", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    bring("spacy")
    if options.on_demand:
        scan_on_demand(options.recipe, options.megabytes)
        return
    if options.old:
        compare_trees(options.old, options.recipe, options.megabytes, options.pairs or 15)
        return
    options.pairs = options.pairs or 3

    from datatrove.data import Document

    with tempfile.TemporaryDirectory(prefix="fox1-bench-") as folder:
        loaded = Loaded(options.recipe, Path(folder))
        whole, run_scan = loaded.whole, loaded.scan
        total = size_of(whole)

        small, tiny = (stratified(whole, m, 1) for m in (options.megabytes, options.default_megabytes))
        run_scan(tiny)  # kernels are compiled and models loaded
        documents = {
            name: [Document(text=t, id=str(i)) for _, b in part for i, t in enumerate(b.column("text").to_pylist())]
            for name, part in (("fastest", small), ("default", tiny))
        }
        peers = {"fastest": Datatrove(whitespace_words()), "default": Datatrove()}
        ratios: dict[str, float] = {}
        for name, part in (("fastest", small), ("default", tiny)):
            peers[name].run(documents[name][:5])
            megabytes = size_of(part) / 1e6
            pairs = []
            for _ in range(options.pairs):
                ours = timed(lambda part=part: run_scan(part))  # type: ignore[misc]
                theirs = peers[name].run(documents[name])
                pairs.append((ours, theirs))
                print(
                    f"{name}: fox1 {megabytes / ours:.1f} MB/s, datatrove {megabytes / sum(theirs.values()):.3f} MB/s"
                )
            for step in pairs[0][1]:
                speed = megabytes / statistics.median(t[step] for _, t in pairs)
                print(f"  datatrove {name:8} {step:18} {speed:8.2f} MB/s")
            ratios[name] = statistics.median(sum(t.values()) / o for o, t in pairs)
            if name == "default":
                ratios["apart"] = peers[name].run_apart(documents[name]) / timed(lambda part=part: run_scan(part))  # type: ignore[misc]
        by_kernel = kernels(whole, loaded.prepared)
        for name, seconds in by_kernel.items():
            print(f"  fox1 {name:18} {total / 1e6 / seconds:9.1f} MB/s")
        alone = statistics.median(timed(lambda: run_scan(whole)) for _ in range(options.pairs))
        parsing = statistics.median(timed(loaded.read) for _ in range(options.pairs))

        def from_disk() -> None:
            for file in loaded.files:
                scan.scan_file(file, loaded.settings.scan, scan.ModelFiles.installed(), loaded.paths)

        disk = statistics.median(timed(from_disk) for _ in range(options.pairs))
        try:
            compare_rensa(small)
        except ImportError:
            print("rensa is not installed: MinHash alone is not compared")
    result = {
        "ratio_default": round(ratios["default"], 1),
        "ratio_default_steps_apart": round(ratios["apart"], 1),
        "ratio": round(ratios["fastest"], 1),
        "mb_per_s": round(total / 1e6 / alone, 1),
        "mb_per_s_from_disk": round(total / 1e6 / disk, 1),
        "parse_mb_per_s": round(total / 1e6 / parsing, 1),
        "share_of_parse_speed": round(parsing / disk, 3),
        "megabytes": round(total / 1e6, 1),
    }
    print(json.dumps(result))


def compare_rensa(batches: list[Batch]) -> None:
    """MinHash alone: 112 functions over word 5-grams, words split beforehand for rensa."""
    from rensa import RMinHash

    texts = [t for _, b in batches for t in b.column("text").to_pylist()]
    words = [t.split() for t in texts]
    grams = [[" ".join(w[i : i + 5]) for i in range(max(1, len(w) - 4))] for w in words]

    def rensa() -> None:
        for gram in grams:
            signature = RMinHash(num_perm=112, seed=1)
            signature.update(gram)
            signature.digest()

    segmented = [segment(*scan.text_buffers(p.column("text"))) for _, b in batches for p in scan.pieces(b)]
    repeats = [gopher.repetition_counts(s, 5)[1] for s in segmented]
    shape = minhash.MinHashSettings()
    theirs = timed(rensa)
    ours = timed(lambda: [minhash.sign(s, shape, r) for s, r in zip(segmented, repeats, strict=True)])
    megabytes = size_of(batches) / 1e6
    print(f"MinHash alone, words at hand: fox1 {megabytes / ours:.1f} MB/s, rensa {megabytes / theirs:.1f} MB/s")


if __name__ == "__main__":
    main()

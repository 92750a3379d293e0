"""datatrove's pipelines with its own steps and with fox1's, in its own executor with two workers each, on the same files.

    FOX1_DATA=... python -m benchmarks.bench_datatrove [--megabytes 30] [--pairs 3] [--model gemma.model] [--spacy-megabytes 4]

Three scripts, each once as datatrove's users write it and once with the imports changed to `fox1.datatrove`: the Gopher
repetition, Gopher quality, C4 and FineWeb filters (words split at white space on both sides; English words by spaCy apart),
MinHash dedupe from text to the documents left, and tokenization with one model. Timed is the whole executor, with its
worker processes and their imports; kernels are compiled before. What the executor and the reader take by themselves is
measured too (`read_s`), and the ratio of what the filters add to it (`ratio_above_reading`), to which that of longer
pipelines comes near. Every decision is noted on both sides and compared: id, reason, and a hash of the text that is kept.
Without FOX1_DATA the sample corpora are made and read. The last line is JSON.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import xxhash
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from fox1.benchmarks.peers import bring, is_sampled, signature_step, timed

# Every worker of an executor imports the script again: on both sides no more than such scripts import.
FILES = 4
WORKERS = 2
FILTERS = ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter")


class Note(PipelineStep):
    """Writes which documents come so far, with a hash of their text; as a writer, which are dropped here, and why."""

    name = type = "note"

    def __init__(self, folder: Path, step: str) -> None:
        super().__init__()
        self.folder, self.step = folder, step
        self.lines: dict[int, list[str]] = {}

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self:
            for document in data or ():
                self.lines.setdefault(rank, []).append(
                    f"{document.id}\t{xxhash.xxh3_64_hexdigest(document.text.encode())}"
                )
                yield document

    def write(self, document: Document, rank: int) -> None:
        self.lines.setdefault(rank, []).append(f"{document.id}\t{self.step}: {document.metadata.get('filter_reason')}")

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for rank, lines in self.lines.items():
            (self.folder / f"{self.step}-{rank}").write_text("\n".join(lines) + "\n")


def noted(folder: Path) -> dict[str, str]:
    """What became of every document, by its id."""
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines()]
    return dict(line.split("\t") for line in lines)


def write_lines(megabytes: float, folder: Path) -> float:
    """Documents of the five corpora as JSON lines in `FILES` files; megabytes of text."""
    from fox1.pipeline.sample import write_sample
    from fox1.pipeline.sources.listing import list_sources
    from fox1.pipeline.sources.quarantine import Quarantine
    from fox1.pipeline.sources.rows import read_rows
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import sources_of

    environment = dict(os.environ)
    if "FOX1_DATA" not in environment:
        sample = folder.with_name("sample")
        if not sample.exists():
            write_sample(sample)
        environment["FOX1_DATA"] = str(sample)
    texts = [
        text
        for file in list_sources(sources_of(load_recipe("mini", (), environment)[0]))
        for batch in read_rows(file, Quarantine(file))
        for text in batch.column("text").to_pylist()
    ]
    share = megabytes * 1e6 / sum(len(text.encode()) for text in texts)
    chosen = [text for text in texts if is_sampled(text, share)]
    folder.mkdir(parents=True)
    for k in range(FILES):
        rows = [json.dumps({"id": f"{k}-{i}", "text": text}) for i, text in enumerate(chosen[k::FILES])]
        (folder / f"{k}.jsonl").write_text("\n".join(rows) + "\n")
    return sum(len(text.encode()) for text in chosen) / 1e6


def execute(pipeline: list[Any], folder: Path, name: str, tasks: int = FILES) -> None:
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=f"{folder}/logs-{name}").run()


def filtered(ours: bool, words: Any, lines: Path, folder: Path) -> None:
    from datatrove.pipeline import filters as theirs
    from datatrove.pipeline.readers import JsonlReader
    from fox1.datatrove.pipeline import filters as fox1

    module = fox1 if ours else theirs
    steps = [getattr(module, n)(language=words, exclusion_writer=Note(folder / "notes", n)) for n in FILTERS]
    execute([JsonlReader(str(lines)), *steps, Note(folder / "notes", "kept")], folder, "filters")


def read_only(lines: Path, folder: Path) -> None:
    from datatrove.pipeline.readers import JsonlReader

    execute([JsonlReader(str(lines)), Note(folder / "notes", "kept")], folder, "read")


def deduped(ours: bool, words: Any, lines: Path, folder: Path) -> None:
    from datatrove.pipeline.dedup import minhash as theirs
    from datatrove.pipeline.readers import JsonlReader
    from fox1.datatrove.pipeline import dedup as fox1

    reader, config = JsonlReader(str(lines)), theirs.MinhashConfig()
    signatures, pairs, removed = (str(folder / name) for name in ("signatures", "pairs", "remove"))
    if ours:
        execute([reader, fox1.MinhashDedupSignature(signatures, config)], folder, "signatures")
        execute([fox1.MinhashDedupDecide(signatures, removed, config)], folder, "decide", 1)
    else:
        execute([reader, signature_step(Path(signatures), words, config)], folder, "signatures")
        buckets = theirs.MinhashDedupBuckets(signatures, pairs, config=config, only_dedup_in_index=False)
        execute([buckets], folder, "buckets", config.num_buckets)
        execute([theirs.MinhashDedupCluster(pairs, removed, config)], folder, "cluster", 1)
    execute([reader, theirs.MinhashDedupFilter(removed), Note(folder / "notes", "kept")], folder, "filter")


def tokenized(ours: bool, model: Path, converted: Path, lines: Path, folder: Path) -> None:
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer as Theirs
    from fox1.datatrove.pipeline.tokens import DocumentTokenizer
    from fox1.tokenize.model import load

    make, path = (DocumentTokenizer, model) if ours else (Theirs, converted)
    processor = load(model)
    eos = processor.id_to_piece(processor.eos_id())
    step = make(str(folder / "tokens"), str(path), eos_token=eos, seed=1, save_final_metadata=False)
    execute([JsonlReader(str(lines)), step], folder, "tokens")


def trained(lines: Path, folder: Path) -> Path:
    """A SentencePiece model of 16,000 pieces, from the sample."""
    from fox1.tokenize.model import TokenizerSettings, train

    path = folder / "tokenizer.model"
    texts = [json.loads(row)["text"] for row in (lines / "0.jsonl").read_text().splitlines()]
    path.write_bytes(train(texts, TokenizerSettings()))
    return path


@dataclass(frozen=True)
class Pairs:
    """Each side once in every pair."""

    fox1: list[float]
    """Seconds."""
    datatrove: list[float]
    folders: list[Path]
    """Of the last pair, fox1's first."""

    def ratio(self, without: float = 0.0) -> float:
        """The median of datatrove's time by fox1's, both less that of what they share."""
        return statistics.median((b - without) / (a - without) for a, b in zip(self.fox1, self.datatrove, strict=True))


def pairs_of(call: Callable[[bool, Path], None], root: Path, name: str, pairs: int) -> Pairs:
    measured = Pairs([], [], [])
    for pair in range(pairs):
        measured.folders[:] = [root / f"{name}-{pair}-{side}" for side in ("fox1", "datatrove")]
        measured.fox1.append(timed(partial(call, True, measured.folders[0])))
        measured.datatrove.append(timed(partial(call, False, measured.folders[1])))
        fox1, theirs = measured.fox1[-1], measured.datatrove[-1]
        print(f"{name}: fox1 {fox1:.2f} s, datatrove {theirs:.2f} s, {theirs / fox1:.2f} x", flush=True)
    return measured


def alike(ours: dict[str, str], theirs: dict[str, str]) -> float:
    """The share of documents of which the same was noted."""
    every = ours.keys() | theirs.keys()
    return sum(ours.get(k) == theirs.get(k) for k in every) / max(len(every), 1)


def measure(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    import gigatoken
    from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

    words, lines, small = WhiteSpaceWords(), root / "lines", root / "small"
    size = write_lines(options.megabytes, lines)
    write_lines(min(options.megabytes, 0.5), small)
    model = options.model.absolute() if options.model else trained(lines, root)
    data = gigatoken.Tokenizer.from_sentencepiece(model)._hf_json
    converted = root / "tokenizer.json"
    converted.write_bytes(data if isinstance(data, bytes) else data.encode())

    def filters(ours: bool, folder: Path) -> None:
        filtered(ours, words, lines, folder)

    def minhash(ours: bool, folder: Path) -> None:
        deduped(ours, words, lines, folder)

    def tokens(ours: bool, folder: Path) -> None:
        tokenized(ours, model, converted, lines, folder)

    # Kernels are compiled once for a machine.
    filtered(True, words, small, root / "warm-filters")
    deduped(True, words, small, root / "warm-minhash")
    tokenized(True, model, converted, small, root / "warm-tokens")

    found: dict[str, Any] = {"megabytes": round(size, 2), "files": FILES, "workers": WORKERS}
    reading = statistics.median(timed(partial(read_only, lines, root / f"read-{k}")) for k in range(options.pairs))
    pairs = pairs_of(filters, root, "filters", options.pairs)
    notes = [noted(folder / "notes") for folder in pairs.folders]
    found |= {"read_s": reading, "ratio_above_reading": pairs.ratio(reading), "ratio": pairs.ratio()}
    found |= {"kept_alike": alike(*notes), "documents": len(notes[0])}
    found["dropped"] = sum(": " in note for note in notes[0].values())
    pairs = pairs_of(minhash, root, "minhash", options.pairs)
    left = [noted(folder / "notes").keys() for folder in pairs.folders]
    found |= {"minhash_ratio": pairs.ratio(), "minhash_removed": found["documents"] - len(left[0])}
    found["minhash_removed_by_datatrove"] = found["documents"] - len(left[1])
    pairs = pairs_of(tokens, root, "tokens", options.pairs)
    files = [{p.name: p.read_bytes() for p in (folder / "tokens").iterdir()} for folder in pairs.folders]
    found |= {"tokens_ratio": pairs.ratio(), "tokens_alike": float(files[0] == files[1])}
    if options.spacy_megabytes:
        english = root / "english"
        write_lines(options.spacy_megabytes, english)
        pairs = pairs_of(lambda ours, folder: filtered(ours, "en", english, folder), root, "spacy", 1)
        found |= {"spacy_ratio": pairs.ratio(), "spacy_kept_alike": alike(*(noted(f / "notes") for f in pairs.folders))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a SentencePiece BPE model (default: one is trained)")
    parser.add_argument(
        "--spacy-megabytes", type=float, default=4.0, help="text for the filters with spaCy's words; 0: none"
    )
    options = parser.parse_args()
    bring("spacy", "tokenizers")
    from datatrove.utils.logging import logger

    logger.remove()
    root = Path(tempfile.mkdtemp(prefix="fox1-datatrove-"))
    try:
        found = measure(options, root)
    finally:
        shutil.rmtree(root)
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}))


if __name__ == "__main__":
    main()

"""datatrove's pipelines with its own steps and with fox1's, in its own executor with two workers each, on the same files.

    FOX1_DATA=... python -m benchmarks.bench_datatrove [--megabytes 30] [--pairs 3] [--model gemma.model] [--spacy-megabytes 4]

Three scripts, each once as datatrove's users write it and once with the imports changed to `fox1.datatrove`: the Gopher
repetition, Gopher quality, C4 and FineWeb filters (words split at white space on both sides; English words by spaCy apart),
MinHash dedupe from text to the documents left, and tokenization with one model. The reader is datatrove's on both sides.

Each script is a process of its own, which runs its pipeline twice. Timed is the whole of its executors, from the construction
of the steps on, with the start of workers and all that they import; kernels are compiled before. Three ratios come of it:

    ratio         of a script's first pipeline: the workers' start is in it
    ratio_later   of its second, whose workers start with what the fork server has loaded for the first
    ratio_net     of the first, less what the same script takes with almost no text, on either side

What reading takes is measured too (`read_s`, `read_later_s`). Every decision is noted on both sides and compared: id, reason,
and a hash of the text that is kept. Without FOX1_DATA the sample corpora are made and read. The last line is JSON.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
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


@dataclass(frozen=True)
class Inputs:
    """What a script reads."""

    lines: Path
    """A folder of `FILES` files of JSON lines."""
    model: Path
    """A SentencePiece model."""
    converted: Path
    """The same as a `tokenizer.json`."""


def filter_script(ours: bool, spacy: bool, inputs: Inputs) -> Callable[[Path], None]:
    """The pipeline of the four filters, into a folder."""
    from datatrove.pipeline.readers import JsonlReader
    from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

    module = import_module(f"{'fox1.' if ours else ''}datatrove.pipeline.filters")
    words: Any = "en" if spacy else WhiteSpaceWords()

    def run(folder: Path) -> None:
        steps = [getattr(module, n)(language=words, exclusion_writer=Note(folder / "notes", n)) for n in FILTERS]
        execute([JsonlReader(str(inputs.lines)), *steps, Note(folder / "notes", "kept")], folder, "filters")

    return run


def read_script(inputs: Inputs) -> Callable[[Path], None]:
    """The reader alone."""
    from datatrove.pipeline.readers import JsonlReader

    return lambda folder: execute([JsonlReader(str(inputs.lines)), Note(folder / "notes", "kept")], folder, "read")


def minhash_script(ours: bool, inputs: Inputs) -> Callable[[Path], None]:
    """Dedupe from text to the documents left."""
    from datatrove.pipeline.dedup import minhash as theirs
    from datatrove.pipeline.readers import JsonlReader
    from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

    if ours:
        from fox1.datatrove.pipeline import dedup as fox1

    def run(folder: Path) -> None:
        reader, config = JsonlReader(str(inputs.lines)), theirs.MinhashConfig()
        signatures, pairs, removed = (str(folder / name) for name in ("signatures", "pairs", "remove"))
        if ours:
            execute([reader, fox1.MinhashDedupSignature(signatures, config)], folder, "signatures")
            execute([fox1.MinhashDedupDecide(signatures, removed, config)], folder, "decide", 1)
        else:
            sign = signature_step(Path(signatures), WhiteSpaceWords(), config)
            execute([reader, sign], folder, "signatures")
            buckets = theirs.MinhashDedupBuckets(signatures, pairs, config=config, only_dedup_in_index=False)
            execute([buckets], folder, "buckets", config.num_buckets)
            execute([theirs.MinhashDedupCluster(pairs, removed, config)], folder, "cluster", 1)
        execute([reader, theirs.MinhashDedupFilter(removed), Note(folder / "notes", "kept")], folder, "filter")

    return run


def token_script(ours: bool, inputs: Inputs) -> Callable[[Path], None]:
    """Tokenization with one model."""
    from datatrove.pipeline.readers import JsonlReader
    from fox1.tokenize.model import load

    make = import_module(f"{'fox1.' if ours else ''}datatrove.pipeline.tokens").DocumentTokenizer
    processor = load(inputs.model)
    eos = processor.id_to_piece(processor.eos_id())
    path = str(inputs.model if ours else inputs.converted)

    def run(folder: Path) -> None:
        step = make(str(folder / "tokens"), path, eos_token=eos, seed=1, save_final_metadata=False)
        execute([JsonlReader(str(inputs.lines)), step], folder, "tokens")

    return run


SCRIPTS: dict[str, Callable[[bool, Inputs], Callable[[Path], None]]] = {
    "filters": lambda ours, inputs: filter_script(ours, False, inputs),
    "spacy": lambda ours, inputs: filter_script(ours, True, inputs),
    "minhash": minhash_script,
    "tokens": token_script,
    "read": lambda ours, inputs: read_script(inputs),
}


def be_script(name: str, side: str, folder: Path, runs: int, *paths: str) -> None:
    """What a process of its own does: one of the scripts, some times; prints the seconds of each."""
    from datatrove.utils.logging import logger

    logger.remove()
    run = SCRIPTS[name](side == "fox1", Inputs(*map(Path, paths)))
    print(json.dumps([timed(partial(run, folder / str(k))) for k in range(runs)]))


def run_script(name: str, side: str, folder: Path, inputs: Inputs, runs: int = 2) -> list[float]:
    """Seconds of each run of a script in a new process."""
    folder.mkdir(parents=True)
    paths = [str(path) for path in (inputs.lines, inputs.model, inputs.converted)]
    command = [sys.executable, "-m", __spec__.name, "--script", name, side, str(folder), str(runs), *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} with {side}'s steps failed: {done.stderr[-2000:]}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def trained(lines: Path, folder: Path) -> Path:
    """A SentencePiece model of 16,000 pieces, from the sample."""
    from fox1.tokenize.model import TokenizerSettings, train

    path = folder / "tokenizer.model"
    texts = [json.loads(row)["text"] for row in (lines / "0.jsonl").read_text().splitlines()]
    path.write_bytes(train(texts, TokenizerSettings()))
    return path


@dataclass(frozen=True)
class Pairs:
    """Seconds of a script with fox1's steps and with datatrove's, in turn; [first, later] of each pair."""

    fox1: list[list[float]]
    datatrove: list[list[float]]
    start: dict[str, float]
    """Of a first pipeline with almost no text, by the side."""
    folder: Path
    """Of the last pair."""

    def ratio(self, run: int = 0) -> float:
        """The median of datatrove's time by fox1's."""
        return statistics.median(b[run] / a[run] for a, b in zip(self.fox1, self.datatrove, strict=True))

    def net(self) -> float:
        """The same of first pipelines, each side less its start."""
        started = [
            (a[0] - self.start["fox1"], b[0] - self.start["datatrove"])
            for a, b in zip(self.fox1, self.datatrove, strict=True)
        ]
        return statistics.median(b / a for a, b in started)

    def found(self, prefix: str) -> dict[str, Any]:
        """Ratios and medians of seconds, by the keys of the JSON."""
        seconds = {
            f"{prefix}{side}_s": [round(statistics.median(times[k] for times in runs), 2) for k in range(2)]
            for side, runs in (("fox1", self.fox1), ("datatrove", self.datatrove))
        }
        ratios = {"ratio_later": self.ratio(1), "ratio_net": self.net(), "ratio": self.ratio()}
        return seconds | {f"{prefix}start_s": self.start} | {f"{prefix}{k}": v for k, v in ratios.items()}


def pairs_of(name: str, root: Path, inputs: Inputs, tiny: Inputs, pairs: int) -> Pairs:
    """Each side in a process of its own, once in every pair."""
    starts: dict[str, list[float]] = {"fox1": [], "datatrove": []}
    times: dict[str, list[list[float]]] = {"fox1": [], "datatrove": []}
    for pair in range(pairs):
        for side in starts:
            starts[side] += run_script(name, side, root / f"{name}-{pair}-{side}-start", tiny, 1)
            times[side].append(run_script(name, side, root / f"{name}-{pair}" / side, inputs))
            shutil.rmtree(root / f"{name}-{pair - 1}" / side, ignore_errors=True)
        fox1, theirs = (times[side][-1] for side in starts)
        print(
            f"{name}: fox1 {fox1[0]:.2f} s, then {fox1[1]:.2f}; datatrove {theirs[0]:.2f} s, then {theirs[1]:.2f}; "
            f"{theirs[0] / fox1[0]:.2f} x, then {theirs[1] / fox1[1]:.2f} x",
            flush=True,
        )
    start = {side: round(statistics.median(values), 3) for side, values in starts.items()}
    return Pairs(times["fox1"], times["datatrove"], start, root / f"{name}-{pairs - 1}")


def alike(ours: dict[str, str], theirs: dict[str, str]) -> float:
    """The share of documents of which the same was noted."""
    every = ours.keys() | theirs.keys()
    return sum(ours.get(k) == theirs.get(k) for k in every) / max(len(every), 1)


def notes_of(pairs: Pairs) -> list[dict[str, str]]:
    """What became of every document with fox1's steps, and with datatrove's."""
    return [noted(pairs.folder / side / "0" / "notes") for side in ("fox1", "datatrove")]


def measure(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    import gigatoken

    lines = root / "lines"
    size = write_lines(options.megabytes, lines)
    model = options.model.absolute() if options.model else trained(lines, root)
    data = gigatoken.Tokenizer.from_sentencepiece(model)._hf_json
    converted = root / "tokenizer.json"
    converted.write_bytes(data if isinstance(data, bytes) else data.encode())
    inputs = Inputs(lines, model, converted)
    tiny = Inputs(root / "tiny", model, converted)
    tiny.lines.mkdir()
    for k in range(FILES):
        (tiny.lines / f"{k}.jsonl").write_text(json.dumps({"id": f"{k}", "text": "Two words, and more."}) + "\n")

    # Kernels are compiled once for a machine.
    small = Inputs(root / "small", model, converted)
    write_lines(min(options.megabytes, 0.5), small.lines)
    for name in ("filters", "minhash", "tokens"):
        run_script(name, "fox1", root / f"warm-{name}", small, 1)

    found: dict[str, Any] = {"megabytes": round(size, 2), "files": FILES, "workers": WORKERS}
    reading = [run_script("read", "datatrove", root / f"read-{k}", inputs) for k in range(options.pairs)]
    found["read_s"], found["read_later_s"] = (statistics.median(run[k] for run in reading) for k in range(2))
    pairs = pairs_of("filters", root, inputs, tiny, options.pairs)
    notes = notes_of(pairs)
    found |= pairs.found("")
    found |= {"kept_alike": alike(*notes), "documents": len(notes[0])}
    found["dropped"] = sum(": " in note for note in notes[0].values())
    pairs = pairs_of("minhash", root, inputs, tiny, options.pairs)
    left = [note.keys() for note in notes_of(pairs)]
    found |= pairs.found("minhash_")
    found |= {"minhash_removed": found["documents"] - len(left[0])}
    found["minhash_removed_by_datatrove"] = found["documents"] - len(left[1])
    pairs = pairs_of("tokens", root, inputs, tiny, options.pairs)
    folders = [pairs.folder / side / "0" / "tokens" for side in ("fox1", "datatrove")]
    files = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders]
    found |= pairs.found("tokens_") | {"tokens_alike": float(files[0] == files[1])}
    if options.spacy_megabytes:
        english = Inputs(root / "english", model, converted)
        write_lines(options.spacy_megabytes, english.lines)
        pairs = pairs_of("spacy", root, english, tiny, 1)
        found |= pairs.found("spacy_") | {"spacy_kept_alike": alike(*notes_of(pairs))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a SentencePiece BPE model (default: one is trained)")
    parser.add_argument(
        "--spacy-megabytes", type=float, default=4.0, help="text for the filters with spaCy's words; 0: none"
    )
    parser.add_argument("--script", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.script:
        name, side, folder, runs, *paths = options.script
        be_script(name, side, Path(folder), int(runs), *paths)
        return
    bring("spacy", "tokenizers")
    root = Path(tempfile.mkdtemp(prefix="fox1-datatrove-"))
    try:
        found = measure(options, root)
    finally:
        shutil.rmtree(root)
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}))


if __name__ == "__main__":
    main()

"""FineWeb's script in datatrove and FineWeb's recipe in fox1, on the same documents: what each keeps, and why they differ.

    FOX1_DATA=... python -m benchmarks.fineweb_parity [--megabytes 10] [--pairs-shown 40] [--out FILE.json]

datatrove runs the steps of its examples/fineweb.py with their arguments, in its own executor: URL filter with the lists of its
package, language, Gopher's repetition and quality, C4, FineWeb (English words by spaCy), the four jobs of MinHash, personal
data. fox1 runs the recipe `fineweb`. The documents are a sample of the five corpora, of up to 50,000 characters, whose copies
of each other come with it; they are text, so neither side extracts; documents without an address get one of their own.
Language is fox1's model on both sides, since the script's is a download.

Compared are, for every document: the step that drops it, its reason and the text that the steps leave; whether MinHash dedupe
keeps it; and of what both keep the text after personal data is replaced. Each document that dedupe decides otherwise is
printed with the document that explains it, their similarity and the cause (fineweb_causes.py). The last line is JSON.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fox1.benchmarks.fineweb_causes import UNEXPLAINED, Buckets, Sides, Texts, by_cause
from fox1.benchmarks.peers import bring, is_sampled
from fox1.pipeline.run.identity import ROW_BITS

PLACE = (1 << ROW_BITS) - 1
"""The row in a document's id."""
RUN = (
    "before_scan.trafilatura=null",
    "max_bad_rows=0",
    "tokenizer.model=''",
    "tokenizer.vocab_size=400",
    "phases.phase1={tokens: 10K, weights: [{corpus: crawl, weight: 1}], blocks: [{length: 256}]}",
    "training.size=small",
    "training.sizes.small={model: {layers: 1, hidden: 32, intermediate: 32, heads: 1, kv_heads: 1, head_dim: 32}, "
    "batch_tokens: {phase1: 2Ki}, micro_batch_tokens: 2Ki, optimizer: {learning_rate: 0.1}, schedule: {warmup_steps: 2}}",
)
"""What a run over text, which ends before training, changes in the recipe."""
LONGEST = 50_000
"""Characters of a document: pages of a crawl are hardly ever longer, and books would be most of the text."""
HEADER = f"{'document':>9} {'kept by':10}{'other':>9} {'Jaccard':>8} {'by spaCy':>9} {'sketch':>7} {'bands':>6} {'there':>6}  cause"
_REPLACED = re.compile(r"email@example\.com|firstname\.lastname@example\.org|22\.214\.171\.124|76\.190\.219\.133")


@dataclass(frozen=True)
class Stepped:
    """What the steps made of a document."""

    text: str
    dropped_by: str
    reason: str


def write_documents(folder: Path, megabytes: float) -> int:
    """A sample of the five corpora as JSON lines; how many documents."""
    from fox1.pipeline.sources.listing import list_sources
    from fox1.pipeline.sources.quarantine import Quarantine
    from fox1.pipeline.sources.rows import read_rows
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import sources_of

    pages = [
        (text, url)
        for file in list_sources(sources_of(load_recipe("mini")[0]))
        for batch in read_rows(file, Quarantine(file))
        for text, url in zip(batch.column("text").to_pylist(), batch.column("url").to_pylist(), strict=True)
        # datatrove's readers hand on no document without text, and its filters divide by the words.
        if text.strip() and len(text) <= LONGEST
    ]
    share = megabytes * 1e6 / sum(len(text.encode()) for text, _ in pages)
    chosen = [(text, url) for text, url in pages if is_sampled(text, share)]
    folder.mkdir(parents=True)
    with (folder / "0.jsonl").open("w") as out:
        for k, (text, url) in enumerate(chosen):
            row = {"id": str(k), "text": text, "url": url or f"https://document-{k}.example/"}
            out.write(json.dumps(row) + "\n")
    return len(chosen)


def filters() -> dict[str, Any]:
    """The script's filters, by the names that the recipe gives them."""
    from datatrove.pipeline import filters as theirs
    from fox1.datatrove.pipeline.filters import LanguageFilter

    return {
        "url_filter": theirs.URLFilter(),
        "language": LanguageFilter(["en"]),
        "gopher_repetition": theirs.GopherRepetitionFilter(),
        "gopher_quality": theirs.GopherQualityFilter(),
        "c4": theirs.C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb_quality": theirs.FineWebQualityFilter(),
    }


def run_script(documents: Path, folder: Path) -> None:
    """The script: filtered documents, then those that dedupe leaves, with personal data replaced."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    place = str(folder)

    def writer(name: str) -> Any:
        return JsonlWriter(f"{place}/{name}", compression=None)

    steps = []
    for name, step in filters().items():
        step.exclusion_writer = writer(f"removed/{name}")
        steps.append(step)
    config = MinhashConfig(
        hash_config=HashConfig(precision=64, hash_fc="sha1"), num_buckets=14, hashes_per_bucket=8, n_grams=5
    )
    filtered = JsonlReader(f"{place}/filtered")
    jobs: list[tuple[list[Any], int]] = [
        ([JsonlReader(str(documents)), *steps, writer("filtered")], 1),
        ([filtered, MinhashDedupSignature(f"{place}/signatures", config)], 1),
        ([MinhashDedupBuckets(f"{place}/signatures", f"{place}/buckets", config=config)], config.num_buckets),
        ([MinhashDedupCluster(f"{place}/buckets", f"{place}/remove", config=config)], 1),
        ([filtered, MinhashDedupFilter(f"{place}/remove"), PIIFormatter(), writer("output")], 1),
    ]
    for k, (pipeline, tasks) in enumerate(jobs):
        # What they say is in their logs too.
        with contextlib.redirect_stderr(io.StringIO()):
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{place}/logs/{k}").run()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a writer's files, in order; none if it wrote none."""
    files = sorted(folder.glob("*.jsonl")) if folder.exists() else []
    return [json.loads(line) for file in files for line in file.read_text().split("\n") if line]


def of_script(folder: Path) -> dict[int, Stepped]:
    """What the script's filters say of every document; of those that they drop, without the text."""
    found = {int(row["id"]): Stepped(row["text"], "", "") for row in rows_of(folder / "filtered")}
    for name in filters_named(folder):
        for row in rows_of(folder / "removed" / name):
            found[int(row["id"])] = Stepped("", name, row["metadata"].get("filter_reason") or "")
    return found


def filters_named(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "removed").iterdir())


def run_recipe(documents: Path, run: Path) -> None:
    """The recipe, to its decisions, in this process."""
    from fox1.api import curate

    source = f"sources.crawl={{root: {documents}, domain: web, format: huggingface, files: ['*']}}"
    curate(
        "fineweb", run, overrides=[source, *RUN], stages=["scan", "filter", "dedupe"], in_process=True, memory=4 << 30
    )


@dataclass(frozen=True)
class Ours:
    """What the recipe decides."""

    steps: Mapping[int, Stepped]
    kept: frozenset[int]
    dropped_for: Mapping[int, int]
    texts: Mapping[int, str]
    """Of kept documents, with the edits."""


def of_recipe(run: Path) -> Ours:
    from fox1.pipeline.text.edits import apply_edits

    tables = []
    for part in ("extracted", "decisions", "signals"):
        (file,) = sorted((run / part).rglob("*.parquet"))
        tables.append(pq.read_table(file))
    extracted, decisions, signals = tables
    steps = {}
    dropped_by, why = (extracted.column(name).to_pylist() for name in ("before_scan", "before_scan_reason"))
    texts = extracted.column("text").to_pylist()
    for row, (text, by, reason) in enumerate(zip(texts, dropped_by, why, strict=True)):
        steps[row] = Stepped("" if by else text, by, reason)
    rows = decisions.column("row").to_pylist()
    kept = frozenset(row for row, stays in zip(rows, decisions.column("kept").to_pylist(), strict=True) if stays)
    named = zip(rows, decisions.column("duplicate_of").to_pylist(), strict=True)
    edits = signals.column("edits").combine_chunks()
    edited = apply_edits(extracted.column("text").combine_chunks(), edits).to_pylist()
    return Ours(steps, kept, {row: other & PLACE for row, other in named if other}, {row: edited[row] for row in kept})


def without_addresses(text: str) -> str:
    """The replacements take turns over the documents of a file, dropped ones included: which one it is says nothing."""
    return _REPLACED.sub("<address>", text)


def measure(root: Path, megabytes: float, shown: int) -> dict[str, Any]:
    """Run both, print the differences, and return the figures."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    documents, script, run = root / "documents", root / "script", root / "run"
    total = write_documents(documents, megabytes)
    run_script(documents, script)
    run_recipe(documents, run)
    theirs, ours = of_script(script), of_recipe(run)
    otherwise = sorted(k for k in range(total) if theirs.get(k) != ours.steps.get(k))
    for k in otherwise[:shown]:
        print(f"steps, document {k}: datatrove {_told(theirs.get(k))}, fox1 {_told(ours.steps.get(k))}")
    output = {int(row["id"]): row["text"] for row in rows_of(script / "output")}

    # Dedupe numbers what the steps leave; where steps differ, so does what is compared.
    left = [int(row["id"]) for row in rows_of(script / "filtered")]
    place = {document: k for k, document in enumerate(left)}
    signer = MinhashDedupSignature(
        str(root / "unused"), MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
    )
    sides = Sides(
        frozenset(place[k] for k in ours.kept if k in place),
        frozenset(place[k] for k in output),
        {place[k]: place[other] for k, other in ours.dropped_for.items() if k in place and other in place},
        Buckets.read(script / "signatures"),
        Texts([theirs[k].text for k in left], signer.get_shingles),
        0.72,
    )
    differences = list(sides.differences())
    names = {-1: -1} | dict(enumerate(left))
    print(HEADER)
    for d in differences:
        print(
            f"{names[d.document]:9} {d.kept_by:10}{names[d.other]:9} {d.jaccard:8.3f} {d.jaccard_there:9.3f} "
            f"{d.estimate:7.3f} {d.bands:6} {d.buckets:6}  {d.cause}"
        )
    both = sides.ours & sides.theirs
    texts = sum(without_addresses(output[left[k]]) == without_addresses(ours.texts[left[k]]) for k in both)
    return {
        "documents": total,
        "dropped_by": dict(Counter(s.dropped_by for s in theirs.values() if s.dropped_by)),
        "steps_alike": total - len(otherwise),
        "deduplicated": len(left),
        "kept_by_both": len(both),
        "kept_by_datatrove": len(sides.theirs),
        "kept_by_fox1": len(sides.ours),
        "alike": len(left) - len(differences),
        "differing": len(differences),
        "by_cause": by_cause(differences),
        "unexplained": sum(d.cause == UNEXPLAINED for d in differences),
        "texts_alike": texts,
        "differences": [asdict(d) | {"document": names[d.document], "other": names[d.other]} for d in differences],
    }


def _told(stepped: Stepped | None) -> str:
    if stepped is None:
        return "has no such document"
    return (
        f"drops it ({stepped.dropped_by}, {stepped.reason})"
        if stepped.dropped_by
        else f"keeps {len(stepped.text):,} characters"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=10.0)
    parser.add_argument("--pairs-shown", type=int, default=40, help="documents that the steps treat otherwise, at most")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bring("spacy", "tldextract", "fasteners")
    root = Path(tempfile.mkdtemp(prefix="fox1-fineweb-"))
    try:
        found = measure(root, options.megabytes, options.pairs_shown)
    finally:
        shutil.rmtree(root)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "differences"}))


if __name__ == "__main__":
    main()

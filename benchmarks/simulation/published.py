"""The corpora of the full recipe by their published names and sizes, as sparse files, and what is known of a file's text.

A sparse file takes no room but its name and size. Files, bytes, documents and survivors of each corpus are those of
`expected` in recipes/fox1.yaml; how its files are named, and of what size each is, is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources.domains import SUBSET_DOMAINS
from fox1.recipes.schema import Recipe

BYTES_PER_TOKEN = 4.2
_DOLMA = ("cc_en_head", "cc_en_middle", "cc_en_tail", "starcoder", "c4", "pes2o", "reddit", "falcon-refinedweb")
_PLAIN = {
    "arxiv/arxiv_{:03d}.jsonl": (100, 88e9),
    "c4/c4-train.{:05d}-of-01024.jsonl": (1024, 806e9),
    "github/filtered_{:03d}.sampled.jsonl": (98, 212e9),
    "wikipedia/wiki.jsonl": (1, 112e9),
    "stackexchange/stackexchange.jsonl": (1, 75e9),
    "book/book.jsonl": (1, 100e9),
}
"""RedPajama's plain files: pattern -> (files, their bytes)."""
_CRAWL = 1600e9
"""Its others."""
_SPREAD = 0.4
"""SlimPajama's files differ by so much of their mean."""


def sizes(recipe: Recipe) -> Iterator[tuple[str, int]]:
    """(path below the data's root, bytes) of every file."""
    expected = recipe.expected
    e = expected["slimpajama"]
    for i in range(e.files):
        size = e.stored / e.files * (1 - _SPREAD / 2 + _SPREAD * (i * 2654435761 % 1000) / 1000)
        yield f"slimpajama/train/chunk{i % 10 + 1}/example_train_{i // 10}.jsonl.zst", int(size)
    for i in range(100):
        part = ("validation", "test")[i % 2]
        yield f"slimpajama/{part}/chunk{i // 2 % 5 + 1}/example_holdout_{i // 10}.jsonl.zst", 14_000_000
    e = expected["refinedweb"]
    for i in range(e.files):
        yield f"refinedweb/data/train-{i:05d}-of-{e.files:05d}-abcdef0123456789.parquet", int(e.stored / e.files)
    e = expected["dolma"]
    for i in range(e.files):
        yield f"dolma/{_DOLMA[i % len(_DOLMA)]}-{i // len(_DOLMA):04d}.json.gz", int(e.stored / e.files)
    e = expected["pile"]
    for i in range(e.files):
        yield f"pile/train/{i:02d}.jsonl.zst", int(e.stored / e.files)
    yield "pile/val.jsonl.zst", 340_000_000
    yield "pile/test.jsonl.zst", 340_000_000
    for pattern, (files, size) in _PLAIN.items():
        for i in range(files):
            yield f"redpajama/{pattern.format(i)}", int(size / files)
    files = expected["redpajama"].files - sum(n for n, _ in _PLAIN.values())
    for i in range(files):
        path = f"redpajama/common_crawl/2023-06/en_head_{i:04d}.json.gz.dedup.classifier.jsonl.zst"
        yield path, int(_CRAWL / files)


def write_sparse(recipe: Recipe, root: Path, share: float) -> int:
    """Make about a share of the files of each corpus, at least one of each kind, chosen evenly; how many these are."""
    seen: dict[str, float] = {}
    count = 0
    for path, size in sizes(recipe):
        kind = os.path.dirname(path).split("/chunk")[0]
        if path.startswith("dolma/"):
            kind = path.partition("-0")[0]
        # The k-th file of a kind is taken where k * share passes a whole number.
        before = seen.setdefault(kind, 1 - share)
        seen[kind] = before + share
        if int(seen[kind]) == int(before):
            continue
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
            file.truncate(size)
        count += 1
    return count


def is_one_frame(file: SourceFile) -> bool:
    """Whether one task must read all of a file: gz, and zstd of one frame, as which all of these corpora are published."""
    return file.path.endswith((".gz", ".zst"))


@dataclass(frozen=True)
class Fates:
    """What becomes of the documents of a corpus."""

    text_per_byte: float
    """Of its compressed files."""
    documents_per_byte: float
    """Of text."""
    kept: float
    """Share of the documents that filters and dedupe leave."""
    subsets: tuple[tuple[str, float], ...]
    """Subset -> share of the documents of a file that holds all of them."""


FILTERED = 0.12
"""Share of the documents that filters drop, or less where dedupe has to drop none for what is expected to survive."""


def fates(recipe: Recipe) -> dict[str, Fates]:
    """By corpus, from the recipe's `expected`."""
    found = {}
    barred = {(e.corpus, e.subset) for e in recipe.licence.exclude}
    for name, e in recipe.expected.items():
        plain = sum(size for _, size in _PLAIN.values()) if name == "redpajama" else 0.0
        total = sum(e.survivors.values())
        domains = SUBSET_DOMAINS[name]
        names = [s for s in domains if (name, s) not in barred and domains[s] in e.survivors]
        share = {s: e.survivors[domains[s]] / sum(domains[t] == domains[s] for t in names) / total for s in names}
        found[name] = Fates(
            (e.text - plain) / (e.stored - plain),
            e.documents / e.text,
            min(1.0, total * BYTES_PER_TOKEN / e.text),
            tuple(share.items()),
        )
    return found


def text_of(file: SourceFile, fate: Fates) -> int:
    """Bytes of text of a file or a piece of one."""
    if file.piece:
        return file.piece.text
    return int(file.size * (1.0 if file.path.endswith(".jsonl") else fate.text_per_byte))


def counts_of(file: SourceFile, documents: int, fate: Fates) -> dict[str, tuple[int, int, int]]:
    """Subset -> (documents, those that filters keep, those that are kept) of a file with so many documents."""
    folder = file.path.split("/")[0]
    if file.corpus == "dolma":
        names: tuple[tuple[str, float], ...] = ((file.path.partition("-0")[0], 1.0),)
    elif file.corpus == "redpajama":
        names = ((folder, 1.0),)
    else:
        names = fate.subsets
    found, before, share = {}, 0, 0.0
    for name, part in names:
        share += part
        upto = documents if name == names[-1][0] else int(documents * share)
        n = upto - before
        passed = int(n * max(1 - FILTERED, fate.kept))
        found[name] = (n, passed, passed if file.held_out else int(n * fate.kept))
        before = upto
    return found

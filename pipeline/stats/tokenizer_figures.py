"""How a run's tokenizer does on the run's own text: bytes per token, unknown pieces and byte fallback by subset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import xxhash

from ...tokenize.model import TokenizerSettings, load, train
from ...tokenize.shards import token_batches
from ..run.artifacts import read_json
from ..run.identity import Group
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..sources.domains import domain_of
from ..text.survivors import DecidedFile, read_survivors

SEEN_TOKENS = 4 << 20
"""Tokens of a shard that are searched for unknown and byte pieces."""


@dataclass(frozen=True)
class SubsetTokens:
    """What became of the text of a subset."""

    corpus: str
    subset: str
    domain: str
    tokens: int
    bytes: int
    seen: int
    """Tokens among which the next two were counted."""
    unknown: int
    byte_fallback: int


def subset_tokens(paths: RunPaths) -> list[SubsetTokens]:
    """The figures of every subset of a tokenized run.

    Raises:
        ValueError: the run is not finished.
    """
    processor = load(paths.tokenizer)
    size = processor.vocab_size()
    byte = np.array([processor.is_byte(i) for i in range(size)])
    unknown = np.array([processor.is_unknown(i) for i in range(size)])
    manifest = read_manifest(paths)
    kinds = {f["corpus"]: (f["format"], f.get("domain", "")) for f in manifest["files"]}
    tokens = read_json(paths.stats("funnel"))["survivor_tokens"]
    sizes = read_json(paths.stats("dedupe"))["kept_bytes"]
    counts = {name: np.zeros(3, np.int64) for name in tokens}
    for name in manifest["artifacts"].below("tokens/"):
        parts = name.split("/")
        if parts[-1].startswith("held-out-"):
            continue
        if (cell := f"{parts[1]}/{unquote(parts[2])}") not in counts:
            continue
        left = SEEN_TOKENS
        for batch in token_batches(paths.root / name):
            ids = batch.column("input_ids").flatten().to_numpy()
            counts[cell] += np.array([len(ids), unknown[ids].sum(), byte[ids].sum()])
            left -= len(ids)
            if left <= 0:
                break
    rows = []
    for name, n in tokens.items():
        corpus, subset = name.split("/", 1)
        format, given = kinds[corpus]
        domain = domain_of(format, subset, given)
        rows.append(SubsetTokens(corpus, subset, domain, n, sizes.get(name, 0), *map(int, counts[name])))
    return rows


def train_on_survivors(groups: list[Group], paths: RunPaths, settings: TokenizerSettings, seed: int) -> bytes:
    """A model trained on a seeded sample of a run's kept documents, edits applied, in file and row order.

    Raises:
        ValueError: the run has no decisions, or too little text for the vocabulary.
    """
    listed = read_manifest(paths)["artifacts"]
    files = [DecidedFile.of_run(f, paths, listed) for g in groups if not g.held_out for f in g.files]
    whole = sum(read_json(paths.stats("dedupe"))["kept_bytes"].values())
    share = settings.sample_bytes / max(whole, 1)

    def sample() -> Iterator[str]:
        for batch in read_survivors(files):
            keys = [xxhash.xxh3_64_intdigest(i.to_bytes(8, "little"), seed) for i in batch.doc_ids.tolist()]
            chosen = np.flatnonzero(np.array(keys, np.uint64) < np.uint64(min(share, 1.0) * (2**64 - 2**11)))
            yield from batch.text.take(pa.array(chosen)).to_pylist()

    return train(sample(), settings)

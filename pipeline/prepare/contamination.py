"""Build the contamination index: the n-grams of every item of the benchmarks, and the list of what it covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...storage.fields import Bounds, Keyed
from ..run.artifacts import Artifact, RunPaths, publish
from ..signals.contamination import ContaminationIndex, index_table, item_grams, make_index
from ..sources.listing import NamedFile
from .benchmarks import BenchmarkSettings, Item, read_items

QUESTION_WORDS = 4
"""An n-gram of a question with its answer or choices must hold this many words of the question, or all if it has fewer."""

ITEM_SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("native_id", pa.string(), nullable=False),
        pa.field("n_words", pa.int64(), nullable=False),
        pa.field("covered_by", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
    ]
)
"""One row per item; its number is what `contamination_items` of the signals holds. n_words: of the question's longest
wording; covered_by: `question`, `question and answer`, or empty where the item is too short to match."""


@dataclass(frozen=True)
class ContaminationSettings:
    """Which benchmarks training must not have seen. What becomes of documents that hold an item is not asked here: scan
    acts on whether it is cut, filter on whether they are dropped."""

    benchmarks: Annotated[tuple[BenchmarkSettings, ...], Keyed("name")] = ()
    """Benchmarks by name; null takes one out."""
    ngram: Annotated[int, Bounds(ge=4, le=32)] = 13
    """Words that a document and an item must share in a row."""


@dataclass(frozen=True)
class PreparedContamination:
    """The contamination index, and which items of the benchmarks it covers."""

    index: Artifact
    pairs: Artifact
    """The bitmap of word pairs that goes with the index."""
    items: Artifact
    """`ITEM_SCHEMA`."""
    grams: int
    benchmarks: dict[str, dict[str, int]]
    """By benchmark: `items`, and those that are too short to match (`uncovered`)."""


def prepare_contamination(
    settings: ContaminationSettings, files: Sequence[NamedFile], paths: RunPaths
) -> PreparedContamination:
    """Publish ``prepare/contamination.arrow`` (with its bitmap of word pairs) and ``prepare/benchmarks.parquet``.

    Args:
        files: of the benchmarks, as planning saw them.
    """
    items = [item for b in sorted(settings.benchmarks, key=lambda b: b.name) for item in read_items(b)]
    index, table = build(items, settings.ngram)
    with (
        publish(paths.prepare("contamination.arrow"), len(index.grams)) as out,
        pa.ipc.new_file(out, index_table(index).schema) as writer,
    ):
        writer.write_table(index_table(index))
    with publish(paths.prepare("contamination-pairs.bin")) as pairs:
        pairs.write(index.pairs.astype("<u8").tobytes())
    with publish(paths.prepare("benchmarks.parquet"), len(items)) as listed:
        pq.write_table(table, listed, compression="zstd")
    covered = table.column("covered_by").to_pylist()
    by_benchmark: dict[str, dict[str, int]] = {}
    for item, how in zip(items, covered, strict=True):
        counts = by_benchmark.setdefault(item.benchmark, {"items": 0, "uncovered": 0})
        counts["items"] += 1
        counts["uncovered"] += not how
    return PreparedContamination(out.artifact, pairs.artifact, listed.artifact, len(index.grams), by_benchmark)


def build(items: Sequence[Item], ngram: int) -> tuple[ContaminationIndex, pa.Table]:
    """(index, `ITEM_SCHEMA` table) of items."""
    owner = [i for i, item in enumerate(items) for _ in item.questions]
    questions = [q for item in items for q in item.questions]
    grams = item_grams(questions, ngram)
    owners = np.array(owner, np.int64)
    longest = np.zeros(len(items), np.int64)
    np.maximum.at(longest, owners, grams.words)
    # A question too short to match alone is matched together with its answer, or with its choices.
    short = np.flatnonzero(longest < ngram).tolist()
    joined = [(i, text) for i in short for text in items[i].longer]
    more = item_grams([t for _, t in joined], ngram)
    joined_owner = np.array([i for i, _ in joined], np.int64)
    # Many items share their choices (true or false, yes or no): a gram must hold words of the question.
    place = np.arange(len(more.text)) - np.searchsorted(more.text, more.text)
    own = place <= longest[joined_owner[more.text]] - np.minimum(longest[joined_owner[more.text]], QUESTION_WORDS)
    index = make_index(
        ngram,
        np.concatenate([grams.hashes, more.hashes[own]]),
        np.concatenate([owners[grams.text], joined_owner[more.text[own]]]),
        grams.pairs | more.pairs,
    )
    how = np.where(longest >= ngram, "question", "").astype(object)
    how[joined_owner[more.words >= ngram]] = "question and answer"
    columns = [
        [item.benchmark for item in items],
        [item.file for item in items],
        [item.row for item in items],
        [item.native_id for item in items],
        longest,
        how.tolist(),
        [item.questions[0][:200] for item in items],
    ]
    return index, pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, ITEM_SCHEMA, strict=True)], schema=ITEM_SCHEMA
    )

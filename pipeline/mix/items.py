"""Benchmark items as blocks, of which only the right option counts: what validation reads beside held-out documents.

The columns are those of a set with instruction data, so whoever reads phases reads them. An item is a segment of its own, whole,
and its source is its benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa

from ...storage.fields import Bounds
from ...tokenize.encode import encoder_of
from ...tokenize.pack import PackedSegments
from ...tokenize.shards import block_schema, file_name, rows_per_file, write_blocks
from ..prepare.benchmarks import BenchmarkSettings
from ..prepare.questions import encode_questions, questions_of
from ..run.artifacts import Artifact, publish
from ..sources.listing import NamedFile
from .blocks import Material, SetShape


@dataclass(frozen=True)
class ItemSettings:
    """How many items a training is measured on."""

    per_benchmark: Annotated[int, Bounds(ge=1)] = 400
    """Items of each benchmark that has right answers, at most."""


@dataclass(frozen=True)
class BenchmarkItems:
    """The items that are measured on."""

    benchmarks: tuple[BenchmarkSettings, ...]
    files: tuple[NamedFile, ...]
    """Of the benchmarks, as planning saw them."""
    settings: ItemSettings
    tokenizer: Artifact
    reserved: tuple[str, ...]
    """Pieces that a text does not get."""


@dataclass(frozen=True)
class ItemSet:
    """The set of items."""

    files: tuple[Artifact, ...]
    names: tuple[str, ...]
    """The benchmarks by source code: those that have right answers."""
    items: tuple[int, ...]
    """Of each of them."""
    tokens: int


def write_items(asked: BenchmarkItems, shape: SetShape, folder: Path) -> ItemSet:
    """Task: pack the items of some benchmarks, those of the smallest hashes, and write their blocks.

    Raises:
        ValueError: no benchmark has right answers, or a row of one is not what its format says.
    """
    encoder = encoder_of(asked.tokenizer.file, asked.tokenizer.hash, asked.reserved)
    names, counts, encoded = [], [], []
    for benchmark in sorted(asked.benchmarks, key=lambda b: b.name):
        own = sorted(questions_of(benchmark), key=lambda q: q.place)[: asked.settings.per_benchmark]
        if items := encode_questions(own, encoder, shape.bos, shape.block_length):
            names.append(benchmark.name)
            counts.append(len(items))
            encoded += items
    if not encoded:
        raise ValueError(
            "held_out.items: no benchmark of `contamination.benchmarks` has items with a right answer; take `items` out"
        )
    lengths = np.array([len(item.ids) for item in encoded], np.int64)
    spans = np.array([(item.skip, len(item.ids)) for item in encoded], np.int64)
    material = Material(
        np.concatenate([item.ids for item in encoded]).astype(np.int32),
        np.r_[0, np.cumsum(lengths)],
        np.array([item.question.place >> 1 for item in encoded], np.uint64),
        np.repeat(np.arange(len(names)), counts).astype(np.uint16),
        np.zeros(len(encoded), np.int64),
        spans.ravel(),
        2 * np.arange(len(encoded) + 1, dtype=np.int64),
    )
    segments = whole_segments(lengths, shape.block_length, shape.max_docs)
    batch = material.blocks(segments, int(segments.block[-1]) + 1, shape).batch()
    table = pa.Table.from_batches([batch], block_schema(shape.block_length, shape.masked))
    rows = rows_per_file(shape.block_length)
    files = []
    for number in range(count := -(-table.num_rows // rows)):
        part = table.slice(number * rows, rows)
        with publish(folder / file_name(number, count), rows=part.num_rows) as out:
            write_blocks(out, part, shape.block_length, shape.masked)
        files.append(out.artifact)
    return ItemSet(tuple(files), tuple(names), tuple(counts), int(lengths.sum()))


def whole_segments(lengths: np.ndarray, block_length: int, max_docs: int) -> PackedSegments:
    """Sequences in their order, each as a segment that no block cuts; what is left of a block is padding. Phases cut documents to
    fill their blocks.

    Args:
        lengths: int64 [n], at least one, each at most `block_length`.
    """
    block = np.zeros(len(lengths), np.int64)
    number = held = count = 0
    for i, length in enumerate(lengths.tolist()):
        if held + length > block_length or count == max_docs:
            number, held, count = number + 1, 0, 0
        block[i], held, count = number, held + length, count + 1
    return PackedSegments(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths, block)


def named_sources(found: ItemSet) -> Sequence[tuple[str, str, str]]:
    """The table of sources of the set."""
    return [(name, "items", name) for name in found.names]

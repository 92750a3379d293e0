"""Build the contamination index: the n-grams of every item of the benchmarks, and the list of what it covers.

Indexed are questions, right answers, and the n-grams that cross from a question into what follows it: its right and wrong
answers, also after a word that announces them, and the list of its choices. A choice alone is none of them unless it is
the right answer: wrong ones are what anybody may have written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...storage.fields import Bounds, Keyed, Share
from ..run.artifacts import Artifact, publish
from ..run.paths import RunPaths
from ..signals.contamination import ContaminationIndex, index_table, make_index, passage_table
from ..signals.item_grams import MAX_NGRAM, no_pairs, text_grams, words_of
from ..sources.listing import NamedFile
from .benchmarks import LETTERS, BenchmarkSettings, Item, read_items

QUESTION_WORDS = 4
"""An n-gram of a question with what follows it must hold this many words of the question, or all if it has fewer: many items
share their choices (true or false, yes or no)."""
ANNOUNCED = ("Answer:", "A:")
"""What copies put between a question and its answer."""
_ITEMS_AT_ONCE = 2000

COVERED = ("question", "answer", "question and answer")
"""The least text of an item that is found, the first of these that is; an answer stands for choices and context, too."""
QUESTION, ANSWER, JOINED = range(len(COVERED))
SHORT, NUMBERS, SHARED = "too short", "mostly numbers", "shared"
UNCOVERED = (SHORT, NUMBERS, SHARED)
"""Why no n-gram of an item is in the index: even with what follows its question it has fewer than n words; every n-gram is of
numbers, and of hardly any other words; as many items as an n-gram names have all of its n-grams, too."""

ITEM_SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("native_id", pa.string(), nullable=False),
        pa.field("n_words", pa.int64(), nullable=False),
        pa.field("covered_by", pa.string(), nullable=False),
        pa.field("uncovered", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
    ]
)
"""One row per item; its number is what `contamination_items` of the signals holds. n_words: of the question's longest
wording, numbers as one; covered_by: of `COVERED`, empty where no n-gram of the item is in the index; uncovered: then why,
of `UNCOVERED`."""


@dataclass(frozen=True)
class ContaminationSettings:
    """Which benchmarks training must not have seen. What becomes of documents that hold an item is not asked here: scan
    acts on whether it is cut, filter on whether they are dropped."""

    benchmarks: Annotated[tuple[BenchmarkSettings, ...], Keyed("name")] = ()
    """Benchmarks by name; null takes one out."""
    ngram: Annotated[int, Bounds(ge=4, le=MAX_NGRAM)] = 13
    """Words that a document and an item must share in a row; all numbers are the same word."""
    overlap: Share = 0.0
    """Share of the n-grams of a question, of an answer, or of where the two meet, that a document must hold; one at least."""

    def of(self, benchmark: BenchmarkSettings) -> tuple[int, float]:
        """(n, share of n-grams) for a benchmark."""
        own = benchmark.ngram, benchmark.overlap
        return self.ngram if own[0] is None else own[0], self.overlap if own[1] is None else own[1]


@dataclass(frozen=True)
class PreparedContamination:
    """The contamination index, and which items of the benchmarks it covers."""

    index: Artifact
    passages: Artifact
    """The passages that the n-grams of the index stand in."""
    pairs: Artifact
    """The bitmap of word pairs that goes with the index."""
    items: Artifact
    """`ITEM_SCHEMA`."""
    grams: int
    benchmarks: dict[str, dict[str, int]]
    """By benchmark: `items`, and those that no n-gram covers (`uncovered`)."""


def prepare_contamination(
    settings: ContaminationSettings, files: Sequence[NamedFile], paths: RunPaths
) -> PreparedContamination:
    """Publish ``prepare/contamination.arrow`` (with its passages and bitmap of word pairs) and ``prepare/benchmarks.parquet``.

    Args:
        files: of the benchmarks, as planning saw them.
    """
    items = [item for b in sorted(settings.benchmarks, key=lambda b: b.name) for item in read_items(b)]
    index, table = build(items, settings)
    grams = _published(paths.prepare("contamination.arrow"), index_table(index))
    passages = _published(paths.prepare("contamination-passages.arrow"), passage_table(index))
    with publish(paths.prepare("contamination-pairs.bin")) as pairs:
        pairs.write(index.pairs.astype("<u8").tobytes())
    with publish(paths.prepare("benchmarks.parquet"), len(items)) as listed:
        pq.write_table(table, listed, compression="zstd")
    by_benchmark: dict[str, dict[str, int]] = {}
    for item, how in zip(items, table.column("covered_by").to_pylist(), strict=True):
        counts = by_benchmark.setdefault(item.benchmark, {"items": 0, "uncovered": 0})
        counts["items"] += 1
        counts["uncovered"] += not how
    return PreparedContamination(grams, passages, pairs.artifact, listed.artifact, len(index.grams), by_benchmark)


def _published(path: Path, table: pa.Table) -> Artifact:
    with publish(path, table.num_rows) as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.artifact


def build(items: Sequence[Item], settings: ContaminationSettings) -> tuple[ContaminationIndex, pa.Table]:
    """(index, `ITEM_SCHEMA` table) of items; those of a benchmark stand together."""
    pairs, found, ngrams = no_pairs(), [], []
    named = {b.name: settings.of(b) for b in settings.benchmarks}
    for benchmark, own in groupby(items, key=lambda item: item.benchmark):
        ngram, overlap = named.get(benchmark, (settings.ngram, settings.overlap))
        ngrams.append(ngram)
        while some := list(islice(own, _ITEMS_AT_ONCE)):
            found.append(_indexed(some, ngram, overlap, pairs))
    found = found or [_indexed([], settings.ngram, settings.overlap, pairs)]
    first_item = np.cumsum([0, *(len(part.words) for part in found)])
    first_passage = np.cumsum([0, *(len(part.item) for part in found)])
    index = make_index(
        ngrams,
        np.concatenate([part.grams for part in found]),
        np.concatenate([part.passage + first for part, first in zip(found, first_passage, strict=False)]),
        np.concatenate([part.item + first for part, first in zip(found, first_item, strict=False)]),
        np.concatenate([np.full(len(part.item), part.overlap) for part in found]),
        pairs,
    )
    return index, _item_table(items, found, index)


@dataclass(frozen=True)
class _Indexed:
    """Items of a benchmark, and the n-grams of them to index."""

    grams: np.ndarray
    """uint64 [grams]."""
    passage: np.ndarray
    """int64 [grams]."""
    item: np.ndarray
    """int64 [passages]."""
    overlap: float
    words: np.ndarray
    """int64 [items]: of the longest wording of the question."""
    kind: np.ndarray
    """int64 [items]: what of an item is found, an index into `COVERED`; its length where no n-gram of it says anything."""
    short: np.ndarray
    """bool [items]: the longest text of an item has fewer than n words."""


def _indexed(items: Sequence[Item], ngram: int, overlap: float, pairs: np.ndarray) -> _Indexed:
    """The n-grams of some items of a benchmark; adds their pairs to the bitmap."""
    known: dict[str, int] = {announced: i for i, announced in enumerate(("", *ANNOUNCED))}
    alone: list[tuple[int, int, int]] = []  # item, kind, text
    for i, item in enumerate(items):
        for what, own in ((QUESTION, item.questions), (ANSWER, item.answers)):
            alone += [(i, what, known.setdefault(text, len(known))) for text in own]
        for beside in (*item.wrong, *_lists(item.choices), item.context):
            known.setdefault(beside, len(known))
    texts = list(known)
    words = words_of(texts)
    joins = [(i, *join) for i, item in enumerate(items) for join in _joins(item, known, words.counts, ngram)]
    joined = words_of(["\n".join(filter(None, (texts[part] for part in parts))) for _, *parts, _ in joins])

    of, kinds, numbers = np.array(alone, np.int64).reshape(-1, 3).T
    plain = text_grams(words, numbers, ngram, pairs)
    crossing = text_grams(joined, np.arange(len(joins)), ngram, pairs, *_crossing(joins, words.counts, ngram))
    owner = np.append(of, np.array([i for i, *_ in joins], np.int64))
    kind = np.append(kinds, np.full(len(joins), JOINED))
    place = np.append(plain.text, crossing.text + len(alone))

    least = np.full(len(items), len(COVERED))
    np.minimum.at(least, owner[place], kind[place])
    longest, most = np.zeros((2, len(items)), np.int64)
    np.maximum.at(longest, of[kinds == QUESTION], words.counts[numbers[kinds == QUESTION]])
    np.maximum.at(most, owner, np.append(words.counts[numbers], joined.counts))
    # Where one n-gram is enough, an item is a single passage.
    passage, whose = (owner[place], np.arange(len(items))) if not overlap else (place, owner)
    return _Indexed(np.append(plain.hashes, crossing.hashes), passage, whose, overlap, longest, least, most < ngram)


def _lists(choices: Sequence[str]) -> tuple[str, ...]:
    """The choices of an item as one text, with letters and without."""
    lettered = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return ("\n".join(lettered), "\n".join(choices)) if choices else ()


def _joins(
    item: Item, known: Mapping[str, int], counts: np.ndarray, ngram: int
) -> Iterator[tuple[int, int, int, bool]]:
    """What stands around a question, as indices of texts: (left, between, right, whether the question is the left one)."""
    nothing, *announced = (known[text] for text in ("", *ANNOUNCED))
    for question in item.questions:
        asked = known[question]
        # A longer question, or right answer, is found by itself: what else may stand beside it needs no n-grams.
        short = bool(counts[asked] < ngram)
        for answer in (*item.answers, *(item.wrong if short else ())):
            told = known[answer]
            for between in (nothing, *announced) if counts[told] < ngram else (nothing,):
                yield asked, between, told, True
        for choices in _lists(item.choices)[: 2 if short else 1]:
            yield asked, nothing, known[choices], True
        if item.context:
            yield known[item.context], nothing, asked, False


def _crossing(
    joins: Sequence[tuple[int, int, int, int, bool]], counts: np.ndarray, ngram: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which n-grams of joined texts hold words of both and enough of the question: first and end of their first words."""
    _, left, between, right, asks = np.array(joins, np.int64).reshape(-1, 5).T
    before, after = counts[left], counts[left] + counts[between]
    enough = np.minimum(QUESTION_WORDS, counts[np.where(asks, left, right)])
    first = after + np.where(asks, 1, enough) - ngram
    end = before + 1 - np.where(asks, enough, 1)
    return first, np.where((counts[left] > 0) & (counts[right] > 0), end, 0)


def _item_table(items: Sequence[Item], found: Sequence[_Indexed], index: ContaminationIndex) -> pa.Table:
    present = np.zeros(len(items), np.bool_)
    present[index.items[index.passages]] = True
    words, kind, short = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("words", "kind", "short")
    )
    why = np.where(short, SHORT, np.where(kind == len(COVERED), NUMBERS, SHARED))
    columns = [
        [item.benchmark for item in items],
        [item.file for item in items],
        [item.row for item in items],
        [item.native_id for item in items],
        words,
        np.where(present, np.array([*COVERED, ""])[kind], ""),
        np.where(present, "", why),
        [item.questions[0][:200] for item in items],
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, ITEM_SCHEMA, strict=True)], schema=ITEM_SCHEMA
    )

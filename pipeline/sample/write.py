"""`write_sample`: harvest, compose and write the five corpora, up to a given amount of text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import extract, invent
from .compose import Composer, Corpus
from .corpora import write_corpora
from .extract import Document, Kind
from .harvest import harvest
from .passages import passages

SHARES: dict[Kind, float] = {
    Kind.CRAWL: 0.16,
    Kind.C4: 0.12,
    Kind.SCIENCE: 0.11,
    Kind.MATH: 0.06,
    Kind.ENCYCLOPEDIA: 0.12,
    Kind.QA: 0.08,
    Kind.BOOK: 0.07,
    Kind.LEGAL: 0.04,
}
"""Largest share of the sample's bytes by kind. Source code fills the rest: every machine has more of it than needed."""
MIN_DOCUMENTS = 8
"""Least documents of each kind, however small the sample."""


@dataclass(frozen=True)
class SampleSummary:
    """What `write_sample` wrote."""

    rows: dict[str, int]
    """Rows by corpus, held-out ones included."""
    text_bytes: dict[str, int]
    """UTF-8 bytes of the texts, by corpus, before compression and without metadata."""
    seconds: float


def write_sample(root: Path, *, megabytes: float = 26.0) -> SampleSummary:
    """Write the five corpora below `root`, at least `megabytes` (of 10**6 bytes) of text in all.

    The same installation gives the same bytes. Nothing is downloaded, and no module is imported to be read.

    Raises:
        ValueError: `root` is not empty, `megabytes` is not positive, or this machine has too little text.
    """
    began = time.perf_counter()
    if megabytes <= 0:
        raise ValueError(f"megabytes must be positive, not {megabytes}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} exists and is not an empty folder; choose another for the sample")
    composer = _compose(megabytes)
    write_corpora(root, composer.rows)
    _write_benchmarks(root / "benchmarks.jsonl")
    return SampleSummary(
        rows={c.value: sum(r.corpus is c for r in composer.rows) for c in Corpus},
        text_bytes={c.value: composer.written[c] for c in Corpus},
        seconds=time.perf_counter() - began,
    )


def _write_benchmarks(path: Path) -> None:
    """The items that `Composer` plants in web documents, as question and answer."""
    lines = []
    for _, text in passages("benchmarks"):
        question, found, answer = text.rpartition("Answer:")
        if not found:
            question, answer = text, ""
        lines.append(
            json.dumps({"question": question.removeprefix("Question:").strip(), "answer": answer.strip()}) + "\n"
        )
    path.write_text("".join(lines))


def _compose(megabytes: float) -> Composer:
    """Fill each kind up to its share, and the rest with code."""
    found, composer, budget = harvest(), Composer(), megabytes * 1e6
    for document in (*invent.shipped(), *_invented(megabytes)):
        composer.add(document)
    spent = dict.fromkeys(SHARES, 0)

    def wants(kind: Kind) -> bool:
        return spent[kind] < SHARES[kind] * budget or composer.documents[kind] < MIN_DOCUMENTS

    streams: tuple[tuple[Iterable[Document], tuple[Kind, ...]], ...] = (
        (extract.licences(found.licences), (Kind.LEGAL,)),
        (extract.science(found.code), (Kind.SCIENCE, Kind.MATH)),
        (extract.topics(found.code), (Kind.ENCYCLOPEDIA,)),
        (extract.readmes(found.readmes), (Kind.CRAWL, Kind.C4)),
        (extract.reference(found.code, standard=True), (Kind.ENCYCLOPEDIA,)),
        (extract.reference(found.code, standard=False), (Kind.CRAWL, Kind.C4, Kind.QA, Kind.BOOK)),
    )
    for documents, kinds in streams:
        _fill(composer, documents, kinds, spent, wants)
    for document in extract.code(found.code):
        if composer.written.total() >= budget and composer.documents[Kind.CODE] >= MIN_DOCUMENTS:
            return composer
        composer.add(document)
    raise ValueError(
        f"this installation has only {composer.written.total() / 1e6:.0f} MB of text, not {megabytes:g}; ask for less"
    )


def _fill(
    composer: Composer,
    documents: Iterable[Document],
    kinds: tuple[Kind, ...],
    spent: dict[Kind, int],
    wants: Callable[[Kind], bool],
) -> None:
    for document in documents:
        if wants(document.kind):
            spent[document.kind] += composer.add(document)
        elif not any(map(wants, kinds)):
            return


def _invented(megabytes: float) -> Iterable[Document]:
    yield from invent.poor(round(12 + 6 * megabytes))
    yield from invent.arithmetic(round(8 + megabytes))

"""Documents to rows: which corpora hold which document, and how their copies differ.

The corpora overlap as the real ones do. A document is in one to all of the corpora that know its kind; where a copy
is not the first it may be lightly edited; RedPajama holds some texts twice and some with decomposed accents; and
SlimPajama is a cleaned subset of RedPajama: NFC, no short text, no exact duplicate. Every choice is a hash of the
document's key.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .extract import Document, Kind
from .harvest import rank
from .passages import passages
from .variants import edited


class Corpus(StrEnum):
    """A corpus; the value is the name of its folder."""

    REDPAJAMA = "redpajama"
    SLIMPAJAMA = "slimpajama"
    DOLMA = "dolma"
    PILE = "pile"
    REFINEDWEB = "refinedweb"


def _homes(redpajama: str, dolma: str, pile: str, *, web: bool = False) -> dict[Corpus, tuple[str, ...]]:
    named = {Corpus.REDPAJAMA: redpajama, Corpus.DOLMA: dolma, Corpus.PILE: pile}
    homes = {corpus: tuple(names.split(", ")) for corpus, names in named.items() if names}
    return homes | ({Corpus.REFINEDWEB: ("train",)} if web else {})


_PILE_BOOKS = "Gutenberg (PG-19), BookCorpus2, Gutenberg (PG-19), Books3"
_PILE_SCIENCE = "ArXiv, PubMed Abstracts, PubMed Central, PhilPapers, NIH ExPorter"
_PILE_TALK = "Ubuntu IRC, HackerNews, OpenSubtitles, Enron Emails, YoutubeSubtitles"

HOMES: Mapping[Kind, Mapping[Corpus, tuple[str, ...]]] = {
    Kind.CODE: _homes("github", "stack-code", "Github"),
    Kind.ENCYCLOPEDIA: _homes("wikipedia", "wiki", "Wikipedia (en)"),
    Kind.CRAWL: _homes("common_crawl", "cc_en_head, cc_en_middle", "Pile-CC, OpenWebText2", web=True),
    Kind.C4: _homes("c4", "c4", "Pile-CC", web=True),
    Kind.LEGAL: _homes("common_crawl", "cc_en_middle", "FreeLaw, USPTO Backgrounds", web=True),
    Kind.SCIENCE: _homes("arxiv", "pes2o", _PILE_SCIENCE),
    Kind.MATH: _homes("arxiv", "open-web-math", "ArXiv"),
    Kind.ARITHMETIC: _homes("", "open-web-math", "DM Mathematics"),
    Kind.BOOK: _homes("book", "books", _PILE_BOOKS),
    Kind.QA: _homes("stackexchange", "stackexchange", "StackExchange"),
    Kind.DIALOGUE: _homes("", "", _PILE_TALK),
    Kind.INSTRUCTION: _homes("stackexchange", "stackexchange", "HackerNews"),
    Kind.LANGUAGES: _homes("wikipedia, common_crawl", "wiki, cc_en_middle", "EuroParl, Pile-CC", web=True),
    Kind.PERSONAL: _homes("common_crawl, c4", "c4, cc_en_head", "Pile-CC, Enron Emails", web=True),
    Kind.BENCHMARK: _homes("common_crawl", "cc_en_head", "Pile-CC", web=True),
    Kind.POOR: _homes("c4, common_crawl", "cc_en_tail", "Pile-CC", web=True),
}
"""Subsets a document of each kind can be in, by corpus; SlimPajama follows from RedPajama."""

EVERYWHERE = 2
"""This many documents of each kind are in all of their corpora, so that no file of the sample is empty."""
EDITED_PERCENT = 18
TWICE_PERCENT = 6
SLIM_PERCENT = 85
SLIM_CHARS = 200
PLANTED_EVERY = 40
"""One web document in this many ends with personal data, and as many with a benchmark item."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row of one corpus, without the metadata that its format adds."""

    corpus: Corpus
    subset: str
    """As RedPajama's folders, Dolma's sources and the Pile's names write it; of RedPajama in SlimPajama."""
    text: str
    document: Document

    @property
    def seed(self) -> int:
        """Stands for the row wherever a format wants an id, a score or a date."""
        return rank(self.corpus, self.subset, self.document.key, len(self.text))


@dataclass
class Composer:
    """Gathers rows, and counts the bytes of their text."""

    rows: list[SampleRow] = field(default_factory=list)
    written: Counter[Corpus] = field(default_factory=Counter)
    """Bytes of UTF-8 text by corpus."""
    documents: Counter[Kind] = field(default_factory=Counter)
    _in_slim: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._planted = [[text for _, text in passages(name)] for name in ("personal", "benchmarks")]

    def add(self, document: Document) -> int:
        """Put a document into its corpora; returns the bytes of text that were added."""
        before = self.written.total()
        document = self._plant(document)
        key, homes = document.key, HOMES[document.kind]
        corpora = list(homes)
        first = rank("first", key) % len(corpora)
        corpora = corpora[first:] + corpora[:first]
        number = self.documents[document.kind]
        if number >= EVERYWHERE:
            corpora = corpora[: 1 + rank("copies", key) % len(corpora)]
        for place, corpus in enumerate(corpora):
            subsets = homes[corpus]
            # The documents that are everywhere take the subsets in turn, so each has one.
            subset = subsets[(number if number < EVERYWHERE else rank("subset", key)) % len(subsets)]
            self._copy(document, corpus, subset, may_differ=place > 0)
            if corpus is Corpus.REDPAJAMA and rank("twice", key) % 100 < TWICE_PERCENT:
                self._copy(document, corpus, subset, may_differ=True)
        self.documents[document.kind] += 1
        return self.written.total() - before

    def _plant(self, document: Document) -> Document:
        which = rank("plant", document.key) % PLANTED_EVERY
        if document.kind not in (Kind.CRAWL, Kind.C4) or which >= len(self._planted):
            return document
        texts = self._planted[which]
        return replace(document, text=f"{document.text}\n\n{texts[rank(document.key) % len(texts)]}")

    def _copy(self, document: Document, corpus: Corpus, subset: str, *, may_differ: bool) -> None:
        text, seed = document.text, rank("edit", corpus, document.key)
        if may_differ and seed % 100 < EDITED_PERCENT:
            text = edited(text, seed, comment=_comment(document))
        if corpus is Corpus.REDPAJAMA:
            if not text.isascii() and seed % 2:
                text = unicodedata.normalize("NFD", text)
            self._slim(SampleRow(corpus, subset, text, document))
        self._append(SampleRow(corpus, subset, text, document))

    def _slim(self, row: SampleRow) -> None:
        text = unicodedata.normalize("NFC", row.text)
        if len(text) < SLIM_CHARS or text in self._in_slim or rank("slim", row.document.key) % 100 >= SLIM_PERCENT:
            return
        self._in_slim.add(text)
        self._append(replace(row, corpus=Corpus.SLIMPAJAMA, text=text))

    def _append(self, row: SampleRow) -> None:
        self.rows.append(row)
        self.written[row.corpus] += len(row.text.encode())


def _comment(document: Document) -> str:
    if document.kind is not Kind.CODE:
        return ""
    return "# " if document.key.endswith((".py", ".pyi", ".pyx", ".cmake")) else "// "

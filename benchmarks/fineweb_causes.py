"""Why fox1 and datatrove keep different documents of the same texts after MinHash dedupe: one cause for every document.

datatrove keeps one of all documents that equal bands connect. fox1 drops a document for a kept one with an equal band whose
sketches say that both are alike. Both find a pair of similarity s with probability 1 - (1 - s^8)^14, by hash functions of their
own, and fox1 compares its own words. Similarities here are exact, over all shingles of both documents.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fox1.pipeline.signals.minhash import PRESETS, MinHashSettings, Signatures, common, sign
from fox1.pipeline.signals.nfc import to_nfc
from fox1.pipeline.signals.segment import segment
from fox1.tokenize.spans import text_buffers

SHAPE = PRESETS["fineweb"]
WHOLE = 1 << 17
"""Shingles of a document that are compared, at most: all of them, but in books of more than a hundred thousand words."""

OTHER_COPY = "another copy of the two stays"
LESS_ALIKE = "datatrove: an equal band, though less alike than the threshold"
CHAIN = "datatrove: connected by a chain; no equal band with a document that fox1 keeps"
MISSED_HERE = "fox1: alike, but no equal band"
ESTIMATE = "fox1: alike by all shingles, not by its sketches"
MISSED_THERE = "datatrove: alike, but no equal band"
OTHER_WORDS = "alike by fox1's words, not by datatrove's"
NO_SIGNATURE = "datatrove: too short for a signature"
UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Difference:
    """A document that one side keeps, and the document that it is compared with."""

    document: int
    kept_by: str
    """`fox1` or `datatrove`."""
    other: int
    """The document that explains it; -1: none."""
    cause: str
    jaccard: float
    """Exact, of both documents' shingles by fox1's words."""
    jaccard_there: float
    """The same by datatrove's words."""
    estimate: float
    """What fox1's sketches of 128 say."""
    bands: int
    """Equal bands of fox1's signatures."""
    buckets: int
    """Equal bands of datatrove's."""


@dataclass(frozen=True)
class Buckets:
    """datatrove's signatures, read from the files of its first stage."""

    bands: Mapping[int, tuple[bytes, ...]]
    """Of each document with a signature."""

    @classmethod
    def read(cls, folder: Path) -> Buckets:
        """Those of one task, with 64-bit hashes."""
        found: defaultdict[int, list[bytes]] = defaultdict(list)
        for file in sorted(folder.glob("bucket_*/00000.minhash.sig")):
            rows = np.fromfile(file, np.dtype([("band", f"V{8 * SHAPE.rows}"), ("document", "<u4")]))
            for band, document in zip(rows["band"], rows["document"].tolist(), strict=True):
                found[document].append(band.tobytes())
        return cls({document: tuple(bands) for document, bands in found.items()})

    def equal(self, a: int, b: int) -> int:
        """Bands in which two documents are equal."""
        return sum(x == y for x, y in zip(self.bands.get(a, ()), self.bands.get(b, ()), strict=False))

    @cached_property
    def clusters(self) -> Mapping[int, frozenset[int]]:
        """By document those that equal bands connect it with, itself included."""
        root = {document: document for document in self.bands}

        def find(document: int) -> int:
            while root[document] != document:
                root[document] = document = root[root[document]]
            return document

        seen: dict[tuple[int, bytes], int] = {}
        for document, bands in self.bands.items():
            for place, band in enumerate(bands):
                root[find(document)] = find(seen.setdefault((place, band), document))
        members: defaultdict[int, set[int]] = defaultdict(set)
        for document in root:
            members[find(document)].add(document)
        return {document: frozenset(group) for group in members.values() for document in group}


@dataclass(frozen=True)
class Compared:
    """What two texts have in common."""

    jaccard: float
    jaccard_there: float
    estimate: float
    bands: int


@dataclass
class Texts:
    """Compares the texts that dedupe read."""

    texts: Sequence[str]
    shingles_there: Any
    """Of a text, datatrove's hashes of shingles: `MinhashDedupSignature.get_shingles`."""
    _known: dict[tuple[int, int], Compared] = field(default_factory=dict)

    def compare(self, a: int, b: int) -> Compared:
        if (a, b) not in self._known:
            one, two = (self._signed(k) for k in (a, b))
            there = [set(self.shingles_there(self.texts[k]).ravel().tolist()) for k in (a, b)]
            self._known[a, b] = Compared(
                _share(*common(one[0].sketch, two[0].sketch, 2 * WHOLE)),
                _share(len(there[0] & there[1]), len(there[0] | there[1])),
                _share(*common(one[1].sketch, two[1].sketch, SHAPE.sketch_size)),
                int((one[1].bands == two[1].bands).sum()),
            )
        return self._known[a, b]

    def _signed(self, k: int) -> tuple[Signatures, Signatures]:
        """With all shingles, and as dedupe reads them."""
        return signed(self.texts[k], WHOLE), signed(self.texts[k], SHAPE.sketch_size)


@lru_cache(maxsize=4096)
def signed(text: str, sketch_size: int) -> Signatures:
    """The signature of one text."""
    s = segment(*text_buffers(to_nfc(pa.array([text], pa.large_string()))))
    return sign(s, MinHashSettings(SHAPE.unit, SHAPE.ngram, SHAPE.bands, SHAPE.rows, sketch_size, SHAPE.seed))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True)
class Sides:
    """What both sides decide of the same documents, which have the numbers 0 to n - 1."""

    ours: frozenset[int]
    """Kept by fox1."""
    theirs: frozenset[int]
    dropped_for: Mapping[int, int]
    """Of documents that fox1 drops, the kept one."""
    buckets: Buckets
    texts: Texts
    threshold: float

    def differences(self) -> Iterator[Difference]:
        """One for every document that one side alone keeps, in order."""
        for document in sorted(self.ours ^ self.theirs):
            yield self._kept_here(document) if document in self.ours else self._kept_there(document)

    def _kept_here(self, document: int) -> Difference:
        """datatrove removes it: for one of its cluster."""
        others = self.buckets.clusters.get(document, frozenset()) - {document}
        stays = sorted(others & self.theirs)
        if not stays:
            return self._told(document, -1, UNEXPLAINED)
        if self.dropped_for.get(stays[0]) == document:
            return self._told(document, stays[0], OTHER_COPY)
        # The kept documents of fox1 that it might have been dropped for: those that its cluster holds, or is dropped for.
        kept = {self.dropped_for.get(other, other) for other in others} & self.ours - {document}
        nearest = max(kept, key=lambda other: (self.texts.compare(document, other).jaccard, -other), default=stays[0])
        found = self.texts.compare(document, nearest)
        if max(found.jaccard, found.estimate) < self.threshold or not kept:
            return self._told(document, nearest, LESS_ALIKE if self._touches(document, others) else CHAIN)
        if not found.bands:
            return self._told(document, nearest, MISSED_HERE)
        return self._told(document, nearest, ESTIMATE if found.estimate < self.threshold else UNEXPLAINED)

    def _touches(self, document: int, others: Iterable[int]) -> bool:
        """Whether it has an equal band with another document that fox1 keeps."""
        return any(self.buckets.equal(document, other) for other in others if other in self.ours)

    def _kept_there(self, document: int) -> Difference:
        """fox1 drops it for a kept document."""
        other = self.dropped_for.get(document, -1)
        if other < 0:
            return self._told(document, -1, UNEXPLAINED)
        if other in self.buckets.clusters.get(document, frozenset()):
            # datatrove sees them as copies too, and keeps this one.
            return self._told(document, other, OTHER_COPY if other not in self.theirs else UNEXPLAINED)
        if document not in self.buckets.bands or other not in self.buckets.bands:
            return self._told(document, other, NO_SIGNATURE)
        alike = self.texts.compare(document, other).jaccard_there >= self.threshold
        return self._told(document, other, MISSED_THERE if alike else OTHER_WORDS)

    def _told(self, document: int, other: int, cause: str) -> Difference:
        side = "fox1" if document in self.ours else "datatrove"
        if other < 0:
            return Difference(document, side, other, cause, 0.0, 0.0, 0.0, 0, 0)
        found = self.texts.compare(document, other)
        equal = self.buckets.equal(document, other)
        return Difference(
            document, side, other, cause, found.jaccard, found.jaccard_there, found.estimate, found.bands, equal
        )


def by_cause(differences: Iterable[Difference]) -> dict[str, int]:
    """Documents by the side that keeps them and the cause."""
    return dict(sorted(Counter(f"{d.kept_by} keeps: {d.cause}" for d in differences).items()))

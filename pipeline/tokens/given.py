"""Documents that come as token ids, into token shards: what tokenize makes of text, of sources without text.

Ids are checked against the vocabulary, and the tokenizer by its name or hash. A BOS at a document's beginning and an EOS at its
end are taken off, as packing adds what the recipe says. Nothing is known of quality: it is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...tokenize.model import load, specials
from ...tokenize.spans import gather
from ..filter.judge import Verdict, Verdicts
from ..run.artifacts import Artifact
from ..run.identity import ROW_BITS, Group, SourceFile
from ..run.paths import RunPaths
from ..sources.token_files import TokenBatch, id_size, read_tokens, subset_of
from .shards import EncodedDocuments, GroupTokens, subset_shards

LICENCE = "licence"
CONTROL = "control_ids"
"""Reason for what has the id of a control piece inside: a tokenizer took its text for one, or it is no document but a block."""
EMPTY = "no_tokens"


@dataclass(frozen=True)
class GivenTokens:
    """The documents of a group that came as token ids."""

    tokens: GroupTokens
    verdicts: tuple[Verdict, ...]
    bytes: int
    """Of the text that all of them stand for."""


def read_given(
    group: Group,
    barred: Sequence[str],
    tokenizer: Artifact,
    piece_bytes: Artifact,
    names: Sequence[str],
    paths: RunPaths,
) -> GivenTokens:
    """Read the token files of a group into ``tokens/``.

    Args:
        barred: subsets that the licence policy excludes.
        piece_bytes: uint16 [vocabulary]: the bytes that each piece stands for.
        names: what the files may call the tokenizer, besides by its hash.

    Raises:
        ValueError: a file was made by another tokenizer, or is damaged.
    """
    vocabulary = _Vocabulary.of(tokenizer, piece_bytes)
    verdicts, total = Verdicts(), 0
    kept = Counter[str]()
    with subset_shards(group, paths) as shards:
        for file in group.files:
            subset = subset_of(file)
            for batch in read_tokens(file, id_size(file, names, tokenizer.hash)):
                found = vocabulary.documents(file, batch)
                total += int(found.bytes.sum())
                barring = subset in barred
                for reason, of in ((CONTROL, found.control), (EMPTY, found.empty)):
                    verdicts[group.corpus, subset, LICENCE if barring else reason] += int(np.count_nonzero(of))
                good = np.flatnonzero(~(found.control | found.empty))
                verdicts[group.corpus, subset, LICENCE if barring else ""] += len(good)
                if barring or not len(good):
                    continue
                ids, offsets = gather(batch.ids.astype(np.int32), found.begins[good], found.lengths[good])
                nothing = np.empty(0, np.int32), np.zeros(len(good) + 1, np.int64)
                doc_ids = np.uint64(file.file_hash << ROW_BITS) + (batch.row + good).astype(np.uint64)
                shards[subset].add(doc_ids, np.zeros(len(good), np.uint16), ids, offsets, *nothing)
                shards[subset].bytes += int(found.bytes[good].sum())
                kept += Counter(documents=len(good), tokens=len(ids), bytes=int(found.bytes[good].sum()))
    encoded = EncodedDocuments(documents=kept["documents"], tokens=kept["tokens"], bytes=kept["bytes"])
    said = tuple(v for v in verdicts.listed() if v.documents)
    return GivenTokens(GroupTokens(shards.written(), encoded), said, total)


@dataclass(frozen=True)
class _Documents:
    """The documents of a batch without BOS and EOS."""

    begins: np.ndarray
    """int64 [n]: place in the batch."""
    lengths: np.ndarray
    control: np.ndarray
    """bool [n]: the id of a control piece is inside."""
    empty: np.ndarray
    bytes: np.ndarray
    """int64 [n]: of the text that a document stands for."""


@dataclass(frozen=True)
class _Vocabulary:
    """What is asked of ids."""

    control: np.ndarray
    """bool [pieces]."""
    bytes: np.ndarray
    """uint16 [pieces]."""
    bos: int
    eos: int

    @classmethod
    def of(cls, tokenizer: Artifact, piece_bytes: Artifact) -> _Vocabulary:
        processor = load(tokenizer.file)
        special = specials(processor)
        control = np.array([processor.is_control(i) for i in range(processor.vocab_size())])
        with open(piece_bytes.file, "rb") as file:
            sizes = np.load(file, allow_pickle=False)
        return cls(control, sizes, special.bos, special.eos)

    def documents(self, file: SourceFile, batch: TokenBatch) -> _Documents:
        """What a batch holds.

        Raises:
            ValueError: an id is none of the vocabulary.
        """
        ids, offsets = batch.ids, batch.offsets
        if len(ids) and int(ids.max()) >= len(self.control):
            at = int(np.argmax(ids >= len(self.control)))
            row = batch.row + int(np.searchsorted(offsets, at, "right")) - 1
            raise ValueError(
                f"{file.name}#{row} holds the id {int(ids[at]):,}, and the recipe's tokenizer has {len(self.control):,} pieces; "
                "it was made by another tokenizer, or is damaged"
            )
        begins, ends = offsets[:-1].copy(), offsets[1:].copy()
        there = begins < ends
        begins[there] += ids[begins[there]] == self.bos
        there = begins < ends
        ends[there] -= ids[ends[there] - 1] == self.eos
        control = _sums(self.control[ids], begins, ends) > 0
        return _Documents(begins, ends - begins, control, begins == ends, _sums(self.bytes[ids], begins, ends))


def _sums(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """int64 [n]: the sum of each span of some values."""
    bounds = np.stack([begins, ends], 1).reshape(-1)
    found = np.add.reduceat(np.append(values, 0), bounds, dtype=np.int64)[::2]
    found[begins == ends] = 0
    return found

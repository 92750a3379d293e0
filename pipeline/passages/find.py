"""Find passages that stand a second time.

shuffle_passages   map: the passages of kept documents, by hash
find_repeats       reduce: of equal passages the first stays; the others are cut. Of equal anchors, all
shuffle_runs       map: the runs of words around anchors that repeat, by hash; `find_repeats` follows
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from ...tokenize.spans import text_buffers
from ..carve.settings import CARVED
from ..dedupe.order import EXEMPT, NOT_HELD_OUT, ORDER_COLUMNS, Plan, order_keys
from ..engine.shuffle import Cursor, Records, by_hash_range, distinct, merged
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact
from ..run.identity import Group, SourceFile
from ..signals.scan import runs_of_texts
from ..signals.scripts import UNITS_PER_WORD
from ..signals.segment import Segments, segment
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile, Survivors, survivors_of_each
from .settings import PassageSettings
from .units import ANCHOR, Hashed, passages, runs_around

PASSAGE = np.dtype([("h0", "<u8"), ("h1", "<u8"), ("order", "<u8"), ("id", "<u8"), ("place", "<u8"), ("words", "<u8")])
"""A passage of a document: 48 bytes. `place` is its first byte in the edited text and the byte after it, 32 bits each, of an
anchor its first word; `words` the first word, how many there are (24 bits each), its kind (8) and its script (7)."""
PASSAGES = Records(PASSAGE, ("h0", "h1", "order", "id", "place"))
CUT = np.dtype([("id", "<u8"), ("place", "<u8"), ("words", "<u8"), ("by", "<u8")])
"""A passage is cut, for an equal one of the document `by`; where `by` is 0, others are cut for one of this document. The highest
bit of `words` says that `by` is held out."""
CUTS = Records(CUT, ("id", "place", "words", "by"), distinct)
MARK = np.dtype([("id", "<u8"), ("word", "<u8")])
"""An anchor that repeats, by its first word."""
MARKS = Records(MARK, ("id", "word"))
_COUNT, _KIND, _SCRIPT, _OF_HELD_OUT = (np.uint64(n) for n in (24, 48, 56, 63))
_WORD_BITS = np.uint64((1 << 24) - 1)
_BYTES = np.uint64((1 << 32) - 1)
_32 = np.uint64(32)
_BYTE, _SEVEN_BITS = np.uint64(255), np.uint64(127)
_ANCHOR = np.uint64(ANCHOR)


class Unpacked(NamedTuple):
    """The numbers that `place` and `words` hold, int64 [n] each."""

    begin: np.ndarray
    end: np.ndarray
    first: np.ndarray
    size: np.ndarray
    kind: np.ndarray
    script: np.ndarray
    of_held_out: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Unpacked:
        place, words = rows["place"], rows["words"]
        values = (
            place >> _32,
            place & _BYTES,
            words & _WORD_BITS,
            words >> _COUNT & _WORD_BITS,
            words >> _KIND & _BYTE,
            words >> _SCRIPT & _SEVEN_BITS,
            words >> _OF_HELD_OUT,
        )
        return cls(*(v.astype(np.int64) for v in values))


@dataclass(frozen=True)
class Shuffled:
    """The passages of some documents."""

    files: tuple[Artifact, ...]
    """`PASSAGE`, by ranges of their hashes."""


def shuffle_passages(
    groups: Sequence[Group],
    files: Sequence[DecidedFile],
    settings: PassageSettings,
    levels: Levels,
    plan: Plan,
    stem: Path,
) -> Shuffled:
    """Map: the passages of the kept documents of some groups.

    Args:
        files: of all groups.

    Raises:
        ValueError: a source file is not the one that was scanned.
    """
    out = PASSAGES.writer(stem, levels)
    for piece in _pieces(groups, files, plan):
        for found in passages(piece.segments, settings):
            records = piece.records(found)
            out.add(records, by_hash_range(records["h0"], levels.partitions))
    return Shuffled(out.close())


def shuffle_runs(
    groups: Sequence[Group],
    files: Sequence[DecidedFile],
    marks: Partition,
    settings: PassageSettings,
    levels: Levels,
    plan: Plan,
    stem: Path,
) -> Shuffled:
    """Map: the runs of words of the same documents that hold an anchor that repeats."""
    out = PASSAGES.writer(stem, levels)
    held = Cursor(merged(marks.files, marks.place, MARK, MARKS.by, plan.memory // 8), "id", MARK)
    for piece in _pieces(groups, files, plan):
        own = held.take(int(piece.ids[-1]))
        if len(own):
            anchors = np.searchsorted(piece.ids, own["id"]), own["word"].astype(np.int64)
            records = piece.records(runs_around(piece.segments, anchors, settings))
            out.add(records, by_hash_range(records["h0"], levels.partitions))
    return Shuffled(out.close())


@dataclass(frozen=True)
class _Piece:
    """Some documents of a file, with what their passages are made of."""

    ids: np.ndarray
    order: np.ndarray
    segments: Segments

    def records(self, found: Hashed) -> np.ndarray:
        """`PASSAGE` of passages of these documents."""
        s, units = self.segments, found.units
        d = units.document
        begin = s.offsets[d]
        first = (units.first - s.word_offsets[d]).astype(np.uint64)
        count = (units.end - units.first).astype(np.uint64)
        script = np.searchsorted(UNITS_PER_WORD, s.units_per_word[d]).astype(np.uint64)
        out = np.empty(len(d), PASSAGE)
        out["h0"], out["h1"] = found.hashes
        out["order"], out["id"] = self.order[d], self.ids[d]
        out["words"] = first | count << _COUNT | np.uint64(found.kind) << _KIND | script << _SCRIPT
        if found.kind == ANCHOR:
            out["place"] = first
            return out
        ends = units.end_byte - begin
        out["place"] = (units.begin_byte - begin).astype(np.uint64) << _32 | ends.astype(np.uint64)
        # Of a document of 4 GiB and more, what lies beyond stays.
        return out[ends < 1 << 32]


@dataclass(frozen=True)
class _KeptOrApart:
    """Chooses the documents that dedupe keeps, and those that are set apart to measure on."""

    decisions: tuple[str, ...] = ("kept", "reason")
    signals: tuple[str, ...] = ()

    def of(self, file: SourceFile, decisions: pa.Table, signals: pa.Table) -> pa.ChunkedArray:
        return pc.or_(decisions.column("kept"), pc.equal(decisions.column("reason"), CARVED))


def _pieces(groups: Sequence[Group], files: Sequence[DecidedFile], plan: Plan) -> Iterator[_Piece]:
    """The kept documents of some groups and those that are set apart, in the order of their ids. Conversations take no part:
    what is cut of one could be the beginning of an answer."""
    columns = [name for name in ORDER_COLUMNS if name not in ("doc_id", "subset")]
    choice = _KeptOrApart()
    group_of = {file.table: group for group in groups for file in group.files if group.format != CHAT}
    read = sorted((f for f in files if f.source.table in group_of), key=lambda f: f.source.first_id)
    for file, batches in zip(read, survivors_of_each(read, columns, choice), strict=True):
        for batch in batches:
            yield from _of_batch(batch, group_of[file.source.table], columns, plan)


def _of_batch(batch: Survivors, group: Group, columns: Sequence[str], plan: Plan) -> Iterator[_Piece]:
    facts = batch.facts.select(columns).append_column("subset", pa.chunked_array([batch.subset])).combine_chunks()
    order, _ = order_keys(facts.to_batches()[0], group, False, plan.settings, plan.rank)
    apart = pc.equal(batch.facts.column("reason"), CARVED).to_numpy()
    order = np.where(apart, order & ~NOT_HELD_OUT, order)
    for first, end in runs_of_texts(batch.text):
        segments = segment(*text_buffers(batch.text.slice(first, end - first)))
        yield _Piece(batch.doc_ids[first:end], order[first:end], segments)


@dataclass(frozen=True)
class Repeats:
    """What becomes of the passages of one partition."""

    cuts: tuple[Artifact, ...]
    """`CUT`, by the chunk of the document."""
    marks: tuple[Artifact, ...]
    """`MARK`, likewise."""


def find_repeats(found: Partition, to_chunks: Levels, plan: Plan, stem: Path) -> Repeats:
    """Reduce: of equal passages the first one in the order stays, and what may go for it is cut."""
    cuts = CUTS.writer(stem.with_name(f"{stem.name}.cuts"), to_chunks)
    marks = MARKS.writer(stem.with_name(f"{stem.name}.marks"), to_chunks)
    scope = ("all", "within", "across").index(plan.settings.scope)
    table = plan.chunks.table if scope else None
    keepers = np.zeros((len(table.corpus_names) if table else 1, len(_KEEPER)), np.uint64)
    state = np.zeros(len(_STATE), np.uint64)
    # What is said of a slice comes on top of it.
    for rows in merged(found.files, found.place, PASSAGE, PASSAGES.by, plan.memory // 6):
        corpus = table.corpus_of(rows["id"]).astype(np.int64) if table else np.zeros(len(rows), np.int64)
        columns = [np.ascontiguousarray(rows[name]) for name in PASSAGE.names or ()]
        cut, marked = _repeats(*columns, corpus, scope, keepers, state)
        out, noted = np.ascontiguousarray(cut).view(CUT).ravel(), np.ascontiguousarray(marked).view(MARK).ravel()
        cuts.add(out, plan.chunks.of(out["id"]))
        marks.add(noted, plan.chunks.of(noted["id"]))
    return Repeats(cuts.close(), marks.close())


_STATE = ("h0", "h1", "open", "class", "held_out", "anchors", "anchor_id", "anchor_word")
_H0, _H1, _OPEN, _CLASS, _HELD, _ANCHORS, _ANCHOR_ID, _ANCHOR_WORD = range(len(_STATE))
"""What a walk carries from slice to slice: the open class, its number, the held-out document that has it, its anchors."""
_KEEPER = ("class", "id", "place", "words", "corpus", "told")
_OF_CLASS, _ID, _PLACE, _WORDS, _CORPUS, _TOLD = range(len(_KEEPER))
"""The passage that stays of the open class, of a corpus or of all; `told`: its document knows that others are cut for it."""


@njit(cache=True, nogil=True)
def _repeats(
    h0: np.ndarray,
    h1: np.ndarray,
    order: np.ndarray,
    ids: np.ndarray,
    place: np.ndarray,
    words: np.ndarray,
    corpus: np.ndarray,
    scope: int,
    keepers: np.ndarray,
    state: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 [cuts, 4] as `CUT`, uint64 [marks, 2] as `MARK`) of sorted passages."""
    n = len(ids)
    cuts = np.empty((2 * n, 4), np.uint64)
    marks = np.empty((n + 1, 2), np.uint64)
    c = m = 0
    one = np.uint64(1)
    for i in range(n):
        if not state[_OPEN] or h0[i] != state[_H0] or h1[i] != state[_H1]:
            state[_H0], state[_H1], state[_OPEN] = h0[i], h1[i], one
            state[_CLASS] += one
            state[_HELD] = state[_ANCHORS] = np.uint64(0)
        if words[i] >> _KIND & _BYTE == _ANCHOR:
            if not state[_ANCHORS]:
                state[_ANCHORS], state[_ANCHOR_ID], state[_ANCHOR_WORD] = one, ids[i], place[i]
                continue
            if state[_ANCHORS] == one:
                marks[m, 0], marks[m, 1] = state[_ANCHOR_ID], state[_ANCHOR_WORD]
                state[_ANCHORS] += one
                m += 1
            marks[m, 0], marks[m, 1] = ids[i], place[i]
            m += 1
            continue
        if not order[i] & NOT_HELD_OUT:
            # These come first. They stay as they are: what is measured on them must not depend on the training data.
            if not state[_HELD]:
                state[_HELD] = ids[i]
            continue
        if state[_HELD]:
            cuts[c, 0], cuts[c, 1], cuts[c, 3] = ids[i], place[i], state[_HELD]
            cuts[c, 2] = words[i] | one << _OF_HELD_OUT
            c += 1
            continue
        if order[i] & EXEMPT:
            continue
        keeper = keepers[corpus[i] if scope == 1 else 0]
        if keeper[_OF_CLASS] != state[_CLASS]:
            keeper[_OF_CLASS], keeper[_ID], keeper[_PLACE] = state[_CLASS], ids[i], place[i]
            keeper[_WORDS], keeper[_CORPUS], keeper[_TOLD] = words[i], np.uint64(corpus[i]), np.uint64(0)
            continue
        if scope == 2 and keeper[_CORPUS] == np.uint64(corpus[i]):
            continue
        begin, end = place[i] >> _32, place[i] & _BYTES
        first, count = words[i] & _WORD_BITS, words[i] >> _COUNT & _WORD_BITS
        if keeper[_ID] == ids[i]:
            # What overlaps the passage that stays is cut behind it only.
            stays = (keeper[_WORDS] & _WORD_BITS) + (keeper[_WORDS] >> _COUNT & _WORD_BITS)
            if first + count <= stays:
                continue
            if first < stays:
                begin = keeper[_PLACE] & _BYTES
                count -= stays - first
                first = stays
        rest = words[i] >> _KIND << _KIND
        cuts[c, 0], cuts[c, 1], cuts[c, 3] = ids[i], begin << _32 | end, keeper[_ID]
        cuts[c, 2] = first | count << _COUNT | rest
        c += 1
        if not keeper[_TOLD] and keeper[_ID] != ids[i]:
            keeper[_TOLD] = one
            cuts[c, 0], cuts[c, 1], cuts[c, 2], cuts[c, 3] = keeper[_ID], np.uint64(0), np.uint64(0), np.uint64(0)
            c += 1
    return cuts[:c], marks[:m]

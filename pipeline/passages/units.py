"""The passages of a batch of documents, each as a run of words with the bytes that go if it is cut.

    line       what stands between line ends, with its line end
    paragraph  a run of lines with no empty line between, with the empty lines after it
    sentences  so many consecutive sentences of a document, across lines. A sentence ends with its line; at . ! ? and the closing
               quotes and brackets after them, before white space; and at the full stops and question marks of other scripts
    run        so many consecutive words, wherever they stand, with what follows up to the next word

Of documents of more than `segment.MAX_WORDS` words or `MAX_LINES` lines, the first so many are looked at.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ..signals.c4 import whole_lines
from ..signals.characters import LINES
from ..signals.scripts import UNITS_PER_WORD
from ..signals.segment import Segments
from ..signals.unicode import SPACE, STOP, class_of, decode, tables
from .hashing import Runs, compared_words, exact_words, run_hashes, runs_of
from .settings import PassageSettings

LINE, PARAGRAPH, SENTENCES, RUN, ANCHOR = range(1, 6)
"""Kinds of passages, those of a recipe first; an anchor is a part of a run that says where to look for runs."""


class Units(NamedTuple):
    """Passages of one kind, in order. Words and bytes are counted over the batch."""

    document: np.ndarray
    """int64 [n]."""
    first: np.ndarray
    """int64 [n]: the first word."""
    end: np.ndarray
    """int64 [n]: the word after the last."""
    begin_byte: np.ndarray
    """int64 [n]: of what is cut."""
    end_byte: np.ndarray

    def where(self, use: np.ndarray) -> Units:
        """Those that a mask, or their places, choose."""
        return Units(*(column[use] for column in self))


class Hashed(NamedTuple):
    """Passages of one kind with their hashes."""

    kind: int
    units: Units
    hashes: np.ndarray
    """uint64 [2, n]."""


def passages(s: Segments, settings: PassageSettings) -> list[Hashed]:
    """All passages that a recipe asks for; of substrings their anchors, which tell where to look for runs."""
    found: list[Hashed] = []
    if settings.of_lines:
        runs = runs_of(compared_words(s, settings.any_numbers), _longest(s))
        lines, spans = _lines(s)
        if "lines" in settings.cut:
            found.append(_hashed(s, runs, lines, LINE, settings))
        if "paragraphs" in settings.cut:
            found.append(_hashed(s, runs, _paragraphs(s, lines, spans), PARAGRAPH, settings))
        if "sentences" in settings.cut:
            found.append(_hashed(s, runs, _spans_of_sentences(s, spans, settings.sentences), SENTENCES, settings))
    if "substrings" in settings.cut:
        runs = runs_of(exact_words(s), settings.substring_words)
        every = _runs(s, anchor_words(settings))
        chosen = _winnowed(
            s.word_offsets, run_hashes(runs, every.first, every.end, ANCHOR)[0], every.first, settings.substring_words
        )
        anchors = every.where(chosen)
        found.append(Hashed(ANCHOR, anchors, run_hashes(runs, anchors.first, anchors.end, ANCHOR)))
    return found


def anchor_words(settings: PassageSettings) -> int:
    """Words of an anchor: half as many as of the shortest substring."""
    return settings.substring_words // 2


def runs_around(s: Segments, anchors: tuple[np.ndarray, np.ndarray], settings: PassageSettings) -> Hashed:
    """The runs of words that hold one of some anchors.

    Args:
        anchors: int64 [n] documents, and int64 [n] first words of anchors within these, ascending.
    """
    length = settings.substring_words
    runs = runs_of(exact_words(s), length)
    every = _runs(s, length)
    first = s.word_offsets[anchors[0]] + anchors[1]
    # A run holds an anchor if it begins at it, or before it by as many words as it is longer at most.
    before = length - anchor_words(settings)
    use = np.zeros(len(s.word_hash) + 1, np.int64)
    np.add.at(use, np.maximum(first - before, s.word_offsets[anchors[0]]), 1)
    np.add.at(use, first + 1, -1)
    chosen = every.where(np.cumsum(use)[every.first] > 0)
    return Hashed(RUN, chosen, run_hashes(runs, chosen.first, chosen.end, RUN))


def _longest(s: Segments) -> int:
    return int(np.diff(s.word_offsets).max(initial=0))


def _hashed(s: Segments, runs: Runs, units: Units, kind: int, settings: PassageSettings) -> Hashed:
    """Those that are long enough, and whole: of what `Segments` does not hold to its end, the last one is not."""
    least = (settings.min_words * s.units_per_word + 5) // 10
    held = np.diff(s.word_offsets)
    cut_short = (s.n_units > held) | (s.counts[:, LINES] > np.diff(s.line_offsets))
    d = units.document
    use = (units.end - units.first >= np.maximum(least[d], 1)) & ~(cut_short[d] & (units.end == s.word_offsets[d + 1]))
    units = units.where(use)
    return Hashed(kind, units, run_hashes(runs, units.first, units.end, kind))


def _lines(s: Segments) -> tuple[Units, np.ndarray]:
    """(lines, int64 [lines, 2] their bytes with the line ends)."""
    owner = np.repeat(np.arange(len(s.offsets) - 1), np.diff(s.line_offsets))
    spans = whole_lines(s.text, s.offsets, owner, s.line_start, s.line_end, tables()[0])[:, 1:]
    end = np.append(s.line_word[1:], 0)[: len(owner)]
    last = s.line_offsets[1:][np.diff(s.line_offsets) > 0] - 1
    end[last] = s.word_offsets[owner[last] + 1]
    return Units(owner, s.line_word, end, spans[:, 0].copy(), spans[:, 1].copy()), spans


def _paragraphs(s: Segments, lines: Units, spans: np.ndarray) -> Units:
    """A paragraph ends where the next one of its document begins, so that the empty lines after it go with it."""
    first = np.flatnonzero(s.line_opens)
    last = (np.append(first[1:], len(s.line_opens)) - 1)[: len(first)]
    owner = lines.document[first]
    end_byte = spans[last, 1]
    followed = np.flatnonzero(owner[:-1] == owner[1:])
    end_byte[followed] = spans[first[followed + 1], 0]
    return Units(owner, lines.first[first], lines.end[last], spans[first, 0], end_byte)


def _spans_of_sentences(s: Segments, spans: np.ndarray, count: int) -> Units:
    begins = _sentences(
        s.text, s.word_offsets, s.word_start, s.word_end, s.line_offsets, s.line_word, spans, tables()[0]
    )
    return Units(*_windows(*begins, s.word_offsets, s.line_end, spans, count))


_CLOSING = np.array([ord(c) for c in "\"')]}”’»›」』）》〉】"], np.int64)


@njit(cache=True, nogil=True, inline="always")
def _closes(cp: int) -> bool:
    found = False
    for closing in _CLOSING:
        found |= cp == closing
    return found


@njit(cache=True, nogil=True)
def _next_sentence(text: np.ndarray, i: int, end: int, classes: np.ndarray) -> int:
    """Where a sentence begins between two words, at the byte after the white space that follows the end of the one before; -1
    where none ends between them."""
    begin = -1
    stopped = spaced = False
    while i < end:
        cp, after = decode(text, i)
        flags = class_of(classes, cp)
        if flags & STOP and not spaced:
            stopped = True
            if cp >= 128:
                begin = after
        elif flags & SPACE:
            if stopped:
                spaced = True
                begin = after
        elif stopped and not spaced and _closes(cp):
            if begin >= 0:
                begin = after
        elif begin >= 0:
            break
        else:
            stopped = False
        i = after
    return begin


@njit(cache=True, nogil=True)
def _sentences(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    line_offsets: np.ndarray,
    line_word: np.ndarray,
    spans: np.ndarray,
    classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(first word, first byte, line of every sentence; int64 [n + 1] sentences before each document)."""
    n = len(word_offsets) - 1
    words = len(word_start)
    first = np.empty(words, np.int64)
    begin = np.empty(words, np.int64)
    line_of = np.empty(words, np.int64)
    before = np.zeros(n + 1, np.int64)
    m = 0
    for d in range(n):
        for line in range(line_offsets[d], line_offsets[d + 1]):
            w = line_word[line]
            last = line_word[line + 1] if line + 1 < line_offsets[d + 1] else word_offsets[d + 1]
            if w == last:
                continue
            first[m], begin[m], line_of[m] = w, spans[line, 0], line
            m += 1
            while w + 1 < last:
                at = -1
                gap = word_end[w]
                # Most words are followed by one space.
                if word_start[w + 1] > gap + 1 or (word_start[w + 1] > gap and text[gap] != 32):
                    at = _next_sentence(text, gap, word_start[w + 1], classes)
                w += 1
                if at >= 0:
                    first[m], begin[m], line_of[m] = w, at, line
                    m += 1
        before[d + 1] = m
    return first[:m], begin[:m], line_of[:m], before


@njit(cache=True, nogil=True)
def _windows(
    first: np.ndarray,
    begin: np.ndarray,
    line_of: np.ndarray,
    before: np.ndarray,
    word_offsets: np.ndarray,
    line_end: np.ndarray,
    spans: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`Units` of so many consecutive sentences each."""
    out = np.empty((5, len(first)), np.int64)
    m = 0
    for d in range(len(word_offsets) - 1):
        for i in range(before[d], before[d + 1] - count + 1):
            after, last = i + count, line_of[i + count - 1]
            out[0, m], out[1, m], out[3, m] = d, first[i], begin[i]
            out[2, m] = first[after] if after < before[d + 1] else word_offsets[d + 1]
            if after < before[d + 1] and line_of[after] == last:
                out[4, m] = begin[after]
            elif i == before[d] or line_of[i - 1] != line_of[i]:
                out[4, m] = spans[last, 1]
            else:
                # It begins within a line: the end of its last line ends that one.
                out[4, m] = line_end[last]
            m += 1
    return out[0, :m], out[1, :m], out[2, :m], out[3, :m], out[4, :m]


def _runs(s: Segments, length: int) -> Units:
    """Every run of so many words."""
    counts = np.maximum(np.diff(s.word_offsets) - length + 1, 0)
    document = np.repeat(np.arange(len(counts)), counts)
    first = np.arange(len(document)) - (np.cumsum(counts) - counts)[document] + s.word_offsets[:-1][document]
    end = first + length
    # The last word of a document goes with all that follows.
    after = np.append(s.word_start, 0)
    end_byte = np.where(end < s.word_offsets[document + 1], after[end], s.offsets[document + 1])
    return Units(document, first, end, s.word_start[first], end_byte)


@njit(cache=True, nogil=True)
def _winnowed(word_offsets: np.ndarray, hashes: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """int64: places of the anchors that are chosen (Schleimer, Wilkerson, Aiken 2003, robust winnowing): of those in every run
    of `length` words the one with the least hash. So two equal runs hold an equal one.
    """
    out = np.empty(len(hashes), np.int64)
    m = 0
    at = 0
    for d in range(len(word_offsets) - 1):
        end = at
        while end < len(first) and first[end] < word_offsets[d + 1]:
            end += 1
        words = word_offsets[d + 1] - word_offsets[d]
        # Of a document of n words, n - length + 1 windows.
        window = (end - at) - (words - length)
        if words >= length:
            least = -1
            for i in range(at + window - 1, end):
                low = i - window + 1
                if least < low:
                    least = low
                    for k in range(low + 1, i + 1):
                        if hashes[k] <= hashes[least]:
                            least = k
                elif hashes[i] < hashes[least]:
                    least = i
                else:
                    continue
                out[m] = least
                m += 1
        at = end
    return out[:m].copy()


def words_of_units(units: np.ndarray, script: np.ndarray) -> np.ndarray:
    """int64 [n]: the words that so many units of a script make, the last one begun."""
    size = UNITS_PER_WORD[script]
    return (10 * units + size - 1) // size

"""Gopher's quality and repetition signals (Rae et al. 2021, appendix A1.1 and Table A1), as integer counts.

Quality: stop words, bullet lines, lines that end in an ellipsis; the rest of the rules reads the counts of segment.py.

Repetition, all by characters as in the paper:
  duplicate lines, paragraphs   those that equal an earlier one of the document
  top n-gram, n = 2..4          characters of the n-gram that occurs most often (ties: the longest), times its
                                occurrences; 0 where none occurs twice. Words are joined by one space.
  duplicate n-grams, n = 5..10  characters of the words that stand in an n-gram which occurs more than once, its first copy
                                too, each counted once wherever n-grams overlap
  repeated n-grams, n = 5..10   the same as datatrove's `GopherRepetitionFilter` counts it, for which FineWeb and FineWeb-2
                                set their thresholds: from left to right, characters of every n-gram that was seen before,
                                whose words are then passed over. First copies and what overlaps a repeat are not counted.

In unspaced scripts an n-gram is as many units as n words have (segment.py): on average in Han and Kana, in the document itself
in Thai, Lao, Khmer and Burmese, whose words differ in length by a third from one kind of text to another. The marks for
signatures are of n-grams as long in every document.

An n-gram can only occur twice where both (n-1)-grams in it do. So each level looks at the positions the last one left:
first all pairs of words, then fewer and fewer, and nine levels cost little more than one. Pairs are told apart by 64 bits
of hash; from there on classes of equal n-grams are exact: a class of level n is a pair of classes of level n - 1.
Signatures take from here which of their shingles are repeats.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .characters import WORDS
from .hashing import hash_bytes, mix64
from .marked import Marked
from .scripts import EAST_ASIAN, UNITS_PER_WORD, units_of
from .segment import Segments
from .stop_words import stop_word_counts

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's eight; a document with fewer than two of them is hardly English prose. Documents in languages that have a list of
their own are counted by that (stop_words.py)."""

QUALITY_COUNTS = ("n_stop_words", "n_distinct_stop_words", "n_bullet_lines", "n_ellipsis_lines")
TOP_NGRAMS = (2, 3, 4)
DUPLICATE_NGRAMS = (5, 6, 7, 8, 9, 10)
REPETITION_COUNTS = (
    "n_duplicate_lines",
    "duplicate_line_chars",
    "n_duplicate_paragraphs",
    "duplicate_paragraph_chars",
    *(f"top_{n}gram_chars" for n in TOP_NGRAMS),
    *(f"duplicate_{n}gram_chars" for n in DUPLICATE_NGRAMS),
    *(f"repeated_{n}gram_chars" for n in DUPLICATE_NGRAMS),
)

MOST_UNITS = 60
"""Units of a word in tenths by which n-grams are measured at most."""

REPEAT, FIRST = 1, 2
"""Marks of an n-gram that occurs more than once."""

_STOPS = Marked.of(STOP_WORDS)


def quality_counts(s: Segments, languages: np.ndarray) -> np.ndarray:
    """int64 [n, len(QUALITY_COUNTS)].

    Args:
        languages: int64 [n]: columns of the language model, -1 for none.
    """
    marks = _STOPS.numbers(s.word_hash)
    counts = _quality(s.text, s.word_offsets, marks, s.line_offsets, s.line_start, s.line_end)
    documents, own = stop_word_counts(s, languages)
    counts[documents, :2] = own
    return counts


@njit(cache=True, nogil=True)
def _quality(
    text: np.ndarray,
    word_offsets: np.ndarray,
    marks: np.ndarray,
    line_offsets: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
) -> np.ndarray:
    n = len(word_offsets) - 1
    out = np.zeros((n, 4), np.int64)
    for d in range(n):
        seen = total = 0
        for w in range(word_offsets[d], word_offsets[d + 1]):
            mark = marks[w]
            if mark:
                total += 1
                seen |= 1 << mark
        distinct = 0
        for k in range(1, 9):
            distinct += (seen >> k) & 1
        bullets = ellipses = 0
        for line in range(line_offsets[d], line_offsets[d + 1]):
            bullets += is_bullet(text, line_start[line], line_end[line])
            ellipses += ends_in_ellipsis(text, line_start[line], line_end[line])
        out[d, 0], out[d, 1], out[d, 2], out[d, 3] = total, distinct, bullets, ellipses
    return out


@njit(cache=True, nogil=True, inline="always")
def is_bullet(text: np.ndarray, start: int, end: int) -> bool:
    """Whether a line begins with -, *, or one of the bullets U+2022, U+2023, U+25CF."""
    b = text[start]
    if b == 42 or b == 45:
        return True
    if b != 0xE2 or end - start < 3:
        return False
    c, e = text[start + 1], text[start + 2]
    return (c == 0x80 and (e == 0xA2 or e == 0xA3)) or (c == 0x97 and e == 0x8F)


@njit(cache=True, nogil=True, inline="always")
def ends_in_ellipsis(text: np.ndarray, start: int, end: int) -> bool:
    """Whether a line ends in "..." or U+2026."""
    if end - start < 3:
        return False
    a, b, c = text[end - 3], text[end - 2], text[end - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


def repetition_counts(
    s: Segments, ngram: int = 0, units_of_a_word: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Repetition of every document, and the repeats among its `ngram`-grams.

    Args:
        units_of_a_word: int64 [n], in tenths: by them the `ngram`-grams of a document are as long; None: as in its script.

    Returns:
        int64 [n, len(REPETITION_COUNTS)], and uint8 [words]: `REPEAT` where the n-gram that begins at a word equals an
        earlier one of the document, `FIRST` where later ones equal it (all 0 where `ngram` is not within 2..10).
    """
    if units_of_a_word is None:
        units_of_a_word = s.units_per_word
    longest = int(np.max(np.diff(s.word_offsets))) if len(s.counts) else 0
    slots = 1 << max(6, (2 * longest - 1).bit_length())
    words, repeats = _ngrams(s.word_offsets, s.word_hash, s.word_chars, units_of_a_word, counted_units(s), ngram, slots)
    return np.hstack(
        [_duplicate_lines(s.text, s.line_offsets, s.line_start, s.line_end, s.line_chars, s.line_opens), words]
    ), repeats


def counted_units(s: Segments) -> np.ndarray:
    """int64 [n]: units of a word in tenths, by which repetition is counted: in scripts of southeast Asia as many as a word of the
    document has on average."""
    own = (10 * s.n_units + s.counts[:, WORDS] // 2) // np.maximum(s.counts[:, WORDS], 1)
    of_script = s.units_per_word
    return np.where(of_script > UNITS_PER_WORD[EAST_ASIAN], np.clip(own, 10, MOST_UNITS), of_script)


@njit(cache=True, nogil=True, inline="always")
def _seen(keys: np.ndarray, mask: np.uint64, key: np.uint64) -> bool:
    """Add a key (not 0) to an open-addressing set; whether it was there."""
    slot = mix64(key) & mask
    while keys[slot] != 0:
        if keys[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = key
    return False


@njit(cache=True, nogil=True)
def _duplicate_lines(
    text: np.ndarray,
    line_offsets: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
    line_chars: np.ndarray,
    line_opens: np.ndarray,
) -> np.ndarray:
    n = len(line_offsets) - 1
    out = np.zeros((n, 4), np.int64)
    longest = 0
    for d in range(n):
        longest = max(longest, line_offsets[d + 1] - line_offsets[d])
    room = 16
    while room < 2 * longest:
        room *= 2
    lines, paragraphs = np.empty(room, np.uint64), np.empty(room, np.uint64)
    for d in range(n):
        first, last = line_offsets[d], line_offsets[d + 1]
        if last - first < 2:
            continue
        size = 16
        while size < 2 * (last - first):
            size *= 2
        lines[:size] = np.uint64(0)
        paragraphs[:size] = np.uint64(0)
        mask = np.uint64(size - 1)
        paragraph = np.uint64(0)
        paragraph_chars = 0
        for line in range(first, last):
            h = hash_bytes(text, line_start[line], line_end[line]) | np.uint64(1)
            if line_opens[line] and line > first:
                if _seen(paragraphs, mask, paragraph | np.uint64(1)):
                    out[d, 2] += 1
                    out[d, 3] += paragraph_chars
                paragraph = np.uint64(0)
                paragraph_chars = 0
            paragraph = mix64(paragraph ^ h)
            paragraph_chars += line_chars[line]
            if _seen(lines, mask, h):
                out[d, 0] += 1
                out[d, 1] += line_chars[line]
        if _seen(paragraphs, mask, paragraph | np.uint64(1)):
            out[d, 2] += 1
            out[d, 3] += paragraph_chars
    return out


@njit(cache=True, nogil=True, inline="always")
def _repeated_pairs(words: np.ndarray, seen: np.ndarray, pending: np.ndarray, place: np.ndarray) -> int:
    """Pairs of neighbouring words that may occur more than once, and where; how many.

    A table of counts up to two, small enough for the nearest cache, leaves out most pairs that occur once, and asks for
    no branch.

    Args:
        words: uint64 [m]: hashes of the words of a document.
        seen: uint8, of a power of two of at least 4 * m and 64.
        pending: uint64, receives the hash of each pair.
    """
    m = len(words)
    room, bits = 64, 6
    while room < 4 * m:
        room *= 2
        bits += 1
    shift = np.uint64(64 - bits)
    seen[:room] = np.uint8(0)
    for j in range(m - 1):
        key = words[j] * np.uint64(0x9E3779B97F4A7C15) + words[j + 1]
        pending[j] = key | np.uint64(1)
        slot = (key * np.uint64(0xD6E8FEB86659FD93)) >> shift
        seen[slot] += np.uint8(seen[slot] < 2)
    q = 0
    for j in range(m - 1):
        key = words[j] * np.uint64(0x9E3779B97F4A7C15) + words[j + 1]
        pending[q] = pending[j]
        place[q] = j
        q += seen[(key * np.uint64(0xD6E8FEB86659FD93)) >> shift] > 1
    return q


@njit(cache=True, nogil=True, inline="always")
def _pair_up(place: np.ndarray, klass: np.ndarray, pending: np.ndarray, m: int) -> int:
    """Candidates of the next level from those of this one: neighbours, as pairs of classes; how many.

    In place: written no further than read. Without a branch, which nothing could predict.
    """
    q = 0
    for j in range(m - 1):
        at = place[j]
        pending[q] = ((np.uint64(klass[j]) << np.uint64(32)) | np.uint64(klass[j + 1])) + np.uint64(1)
        adjacent = place[j + 1] == at + 1
        place[q] = at
        q += adjacent
    return q


@njit(cache=True, nogil=True, inline="always")
def _classify(
    pending: np.ndarray,
    place: np.ndarray,
    klass: np.ndarray,
    q: int,
    keys: np.ndarray,
    count: np.ndarray,
    first: np.ndarray,
) -> int:
    """Give equal candidates one class, a slot of the table, and drop those that occur once; how many are left."""
    room = 64
    bits = 6
    while room < 2 * q:
        room *= 2
        bits += 1
    mask = np.uint64(room - 1)
    shift = np.uint64(64 - bits)
    keys[:room] = np.uint64(0)
    for j in range(q):
        key = pending[j]
        slot = (key * np.uint64(0x9E3779B97F4A7C15)) >> shift
        while keys[slot] != 0 and keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        new = np.int32(keys[slot] == 0)
        keys[slot] = key
        count[slot] = count[slot] * (1 - new) + 1
        first[slot] += new * (place[j] - first[slot])
        klass[j] = np.int32(slot)
    m = 0
    for j in range(q):
        slot = klass[j]
        place[m] = place[j]
        klass[m] = slot
        m += count[slot] > 1
    return m


@njit(cache=True, nogil=True)
def _ngrams(
    word_offsets: np.ndarray,
    word_hash: np.ndarray,
    word_chars: np.ndarray,
    marked_units: np.ndarray,
    counted: np.ndarray,
    ngram: int,
    slots: int,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(word_offsets) - 1
    out = np.zeros((n, 15), np.int64)
    repeats = np.zeros(len(word_hash), np.uint8)
    keys = np.empty(slots, np.uint64)
    count = np.empty(slots, np.int32)
    first = np.empty(slots, np.int32)
    place = np.empty(slots, np.int32)  # positions that may still repeat, ascending
    klass = np.empty(slots, np.int32)  # the class of each: a slot of the level's table
    pending = np.empty(slots, np.uint64)
    seen = np.empty(2 * slots, np.uint8)
    for d in range(n):
        base = word_offsets[d]
        m = 0
        marked = units_of(ngram, marked_units[d]) if ngram >= 2 else 0
        size = counted[d]
        words = 2
        wanted = units_of(words, size)
        for level in range(2, max(units_of(10, size), marked) + 1):
            if level == 2:
                q = _repeated_pairs(word_hash[base : word_offsets[d + 1]], seen, pending, place)
            else:
                q = _pair_up(place, klass, pending, m)
            if q < 2:
                break
            m = _classify(pending, place, klass, q, keys, count, first)
            if level == marked:
                for j in range(m):
                    repeats[base + place[j]] = FIRST if first[klass[j]] == place[j] else REPEAT
            if level != wanted:
                continue
            if words <= 4:
                top_count = top_chars = np.int64(0)
                for j in range(m):
                    at, slot = place[j], klass[j]
                    c = np.int64(count[slot])
                    if first[slot] == at and c >= top_count:
                        chars = np.int64(words - 1)
                        for k in range(level):
                            chars += word_chars[base + at + k]
                        if c > top_count or chars > top_chars:
                            top_count, top_chars = c, chars
                out[d, words - 2] = top_count * top_chars
            else:
                total = repeated = np.int64(0)
                free = passed = 0
                for j in range(m):
                    at, slot = place[j], klass[j]
                    for k in range(max(at, free), at + level):
                        total += word_chars[base + k]
                    free = at + level
                    if at < passed:
                        continue
                    # Seen before means: at a position that was not passed over. The sign of `first` notes it.
                    if first[slot] < 0:
                        for k in range(level):
                            repeated += word_chars[base + at + k]
                        passed = at + level
                    else:
                        first[slot] = -1 - first[slot]
                out[d, words - 2] = total
                out[d, words + 4] = repeated
            words += 1
            wanted = units_of(words, size) if words <= 10 else 0
    return out, repeats

"""C4's rules (Raffel et al. 2020, section 2.2): which of them every line fails, and counts per document.

C4 drops lines and then judges what is left. The flags of a line say which rules would drop it; the recipe says which
of them do, as edits. Of the lines that pass all rules the sentences are counted, as C4 counts them.

Numbers, marks and the order of steps are those of the code that made C4 (tensorflow/datasets, text/c4_utils.py):

    word too long -> citation markers go -> end mark -> number of words -> javascript, policies -> sentences

  words      of a line are those that `str.split` finds (too long is one of more than 1,000 characters)
  markers    are `[`, digits or none, `]`; `[edit]`; `[citation needed]`. What they leave is judged as it stands: a space
             between a full stop and a marker at the end of a line is now the end of the line
  end marks  are . ? ! and the straight double quote; three full stops are none

A sentence ends at a run of . ! ? and closing quotes or brackets before white space or the end of its line, or at one of
the full stops of unspaced scripts; words after the last end of a line are one more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit

from .hashing import TOPS, bytes_before, word_at, zero_bytes
from .leaf import leaf
from .marked import Marked
from .segment import Segments
from .unicode import DIGIT, INVISIBLE, NEWLINE, SPACE, class_of, decode, tables

LINE_RULES = ("no_terminal_punctuation", "few_words", "long_word", "javascript", "policy")
"""Rules that drop a line; rule k is bit k of its flags."""
_UNTERMINATED, _FEW_WORDS, _LONG_WORD, _JAVASCRIPT, _POLICY = (1 << k for k in range(5))
LINE_EDITS = (*LINE_RULES, "citations")
"""What a recipe may do with the lines of a domain: drop some, and remove the citation markers of all others."""
_CITATIONS = 1 << len(LINE_RULES)
MIN_WORDS = 5
MAX_WORD_CHARS = 1000

C4_COUNTS = (
    "n_terminal_lines",
    "n_few_word_lines",
    "n_javascript_lines",
    "n_policy_lines",
    "n_sentences",
    "n_c4_lines",
    "n_c4_sentences",
    "n_lorem_ipsum",
)
"""n_c4_lines and n_c4_sentences count only the lines that pass every rule."""

_WORDS = "lorem ipsum javascript terms of use privacy policy cookie uses cookies".split()
_LOREM, _IPSUM, _SCRIPT, _TERMS, _OF, _USE, _PRIVACY, _POLICIES, _COOKIE, _USES, _COOKIES = range(1, len(_WORDS) + 1)
_MARKS = Marked.of(_WORDS)


@dataclass(frozen=True)
class JudgedLines:
    """What the rules say of the lines of a batch."""

    counts: np.ndarray
    """int64 [n, len(C4_COUNTS)]."""
    flags: np.ndarray
    """uint8 [lines]: the rules that a line fails."""
    markers: np.ndarray
    """int64 [markers, 3] of (line, start, end): citation markers, bytes in the text."""


def judge_lines(s: Segments) -> JudgedLines:
    """Judge every line by every rule."""
    marks = _MARKS.numbers(s.word_hash)
    return JudgedLines(
        *_judge(
            s.text, s.word_offsets, s.word_start, marks, s.line_offsets, s.line_start, s.line_end, s.line_word,
            s.line_split_words, tables()[0],
        )
    )  # fmt: skip


_NAMED = np.frombuffer(b"[edit]", np.uint8), np.frombuffer(b"[citation needed]", np.uint8)
"""Markers without a number."""


@leaf
def _after_marker(text: np.ndarray, i: int, end: int, classes: np.ndarray) -> int:
    """Byte after the citation marker that the `[` at i opens, or i where it opens none."""
    for marker in _NAMED:
        k = 1
        while k < len(marker) and i + k < end and text[i + k] == marker[k]:
            k += 1
        if k == len(marker):
            return i + k
    at = i + 1
    while at < end:
        if text[at] == 93:
            return at + 1
        cp, at = decode(text, at)
        if not class_of(classes, cp) & DIGIT:
            break
    return i


@njit(cache=True, nogil=True, inline="always")
def _is_terminal(text: np.ndarray, start: int, end: int, markers: np.ndarray, first: int, last: int) -> bool:
    """Whether a line without its markers, `markers[first:last]`, ends in . ! ? or the quote, and not in three full stops."""
    tail = np.uint32(0)
    read = 0
    k = last - 1
    while end > start and read < 3:
        if k >= first and markers[k, 2] == end:
            end = markers[k, 1]
            k -= 1
            continue
        end -= 1
        tail |= np.uint32(text[end]) << np.uint32(8 * read)
        read += 1
    b = tail & np.uint32(0xFF)
    return (b == 46 or b == 33 or b == 63 or b == 34) and tail != 0x2E2E2E


@leaf
def _is_short(
    text: np.ndarray, start: int, end: int, markers: np.ndarray, first: int, last: int, classes: np.ndarray
) -> bool:
    """Whether a line without its markers, `markers[first:last]`, has fewer than `MIN_WORDS` words."""
    words = 0
    inside = False
    i, k = start, first
    while i < end and words < MIN_WORDS:
        if k < last and markers[k, 1] == i:
            i = markers[k, 2]
            k += 1
            continue
        cp, i = decode(text, i)
        flags = class_of(classes, cp)
        if flags & SPACE:
            inside = False
        elif not inside and not flags & INVISIBLE:
            inside = True
            words += 1
    return words < MIN_WORDS


@leaf
def _has_long_word(text: np.ndarray, start: int, end: int, classes: np.ndarray) -> bool:
    """Whether a line has a word of more than `MAX_WORD_CHARS` characters.

    Its bytes are at least as many, so it holds one that is at a multiple of so many: only those are looked around.
    """
    at = start + MAX_WORD_CHARS
    while at < end:
        first = at
        while text[first] & 0xC0 == 0x80:
            first -= 1
        at += MAX_WORD_CHARS
        cp, i = decode(text, first)
        if class_of(classes, cp) & SPACE:
            continue
        chars = 1
        while first > start and chars <= MAX_WORD_CHARS:
            before = first - 1
            while text[before] & 0xC0 == 0x80:
                before -= 1
            cp, _ = decode(text, before)
            if class_of(classes, cp) & SPACE:
                break
            first = before
            chars += 1
        while i < end and chars <= MAX_WORD_CHARS:
            cp, i = decode(text, i)
            if class_of(classes, cp) & SPACE:
                break
            chars += 1
        if chars > MAX_WORD_CHARS:
            return True
    return False


_MAY_END = np.zeros(256, np.bool_)
_MAY_END[[*b".!?[", 0xE3, 0xEF]] = True
"""First bytes of what may end a sentence, and of markers."""
_DOTS, _SHOUTS, _ASKS, _OPENS, _E3, _EF = (np.uint64(b * 0x0101010101010101) for b in (*b".!?[", 0xE3, 0xEF))


@njit(cache=True, nogil=True, inline="always")
def _next_end(text: np.ndarray, i: int, end: int) -> int:
    """The first byte from i that may end a sentence or begin a marker, eight bytes at a time; end where there is none."""
    while i + 8 <= end:
        word = word_at(text, i, 8)
        found = (
            zero_bytes(word ^ _DOTS) | zero_bytes(word ^ _SHOUTS) | zero_bytes(word ^ _ASKS) | zero_bytes(word ^ _OPENS)
        )
        if word & TOPS:
            found |= zero_bytes(word ^ _E3) | zero_bytes(word ^ _EF)
        if found:
            return i + bytes_before(found)
        i += 8
    while i < end and not _MAY_END[text[np.uint64(i)]]:
        i += 1
    return i


@njit(cache=True, nogil=True)
def _with(markers: np.ndarray, m: int, line: int, start: int, end: int) -> np.ndarray:
    """The markers with one more, number m; a larger array where they fill theirs."""
    if m == len(markers):
        larger = np.empty((2 * m, 3), np.int64)
        larger[:m] = markers
        markers = larger
    markers[m, 0], markers[m, 1], markers[m, 2] = line, start, end
    return markers


@njit(cache=True, nogil=True, inline="always")
def _sentence_ends(
    text: np.ndarray, start: int, end: int, line: int, markers: np.ndarray, m: int, classes: np.ndarray
) -> tuple[int, int, np.ndarray, int]:
    """(sentence ends within a line, byte after the last of them, markers with those of the line, how many they are)."""
    ends = 0
    last = start
    i = _next_end(text, start, end)
    while i < end:
        b = text[i]
        if b == 91:
            after = _after_marker(text, i, end, classes)
            if after > i:
                markers = _with(markers, m, line, i, after)
                m += 1
            i = max(after, i + 1)
        elif b < 0x80:
            i += 1
            while i < end:
                b = text[i]
                if b == 46 or b == 33 or b == 63 or b == 34 or b == 39 or b == 41 or b == 93:
                    i += 1
                elif b == 0xE2 and i + 2 < end and text[i + 1] == 0x80 and (text[i + 2] == 0x9D or text[i + 2] == 0x99):
                    i += 3
                elif b == 91 and _after_marker(text, i, end, classes) > i:
                    after = _after_marker(text, i, end, classes)
                    markers = _with(markers, m, line, i, after)
                    m += 1
                    i = after
                else:
                    break
            if i == end or text[i] == 32 or text[i] == 9:
                ends += 1
                last = i
        else:
            if i + 2 < end and (
                (b == 0xE3 and text[i + 1] == 0x80 and text[i + 2] == 0x82)
                or (b == 0xEF and text[i + 1] == 0xBC and (text[i + 2] == 0x81 or text[i + 2] == 0x9F))
            ):
                ends += 1
                last = i + 3
                i += 3
            else:
                i += 1
        i = _next_end(text, i, end)
    return ends, last, markers, m


@njit(cache=True, nogil=True, inline="always")
def _last_word(word_start: np.ndarray, w: int, markers: np.ndarray, first: int, last: int) -> int:
    """Where the last word up to w begins that is not in one of `markers[first:last]`; -1 where none is before the first."""
    k = last - 1
    while w >= 0 and k >= first and word_start[w] < markers[k, 2]:
        if word_start[w] > markers[k, 1]:
            w -= 1
        else:
            k -= 1
    return word_start[w] if w >= 0 else -1


@njit(cache=True, nogil=True)
def _judge(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_start: np.ndarray,
    marks: np.ndarray,
    line_offsets: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
    line_word: np.ndarray,
    line_split_words: np.ndarray,
    classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(word_offsets) - 1
    out = np.zeros((n, 8), np.int64)
    flags = np.zeros(len(line_start), np.uint8)
    markers = np.empty((64, 3), np.int64)
    m = 0
    for d in range(n):
        row = out[d]
        for line in range(line_offsets[d], line_offsets[d + 1]):
            start, end = line_start[line], line_end[line]
            first = line_word[line]
            last = line_word[line + 1] if line + 1 < line_offsets[d + 1] else word_offsets[d + 1]
            flag = np.uint8(0)
            before_line = m
            sentences, after, markers, m = _sentence_ends(text, start, end, line, markers, m, classes)
            if last > first and _last_word(word_start, last - 1, markers, before_line, m) >= after:
                sentences += 1
            row[4] += sentences
            if _is_terminal(text, start, end, markers, before_line, m):
                row[0] += 1
            else:
                flag |= np.uint8(_UNTERMINATED)
            short = line_split_words[line] < MIN_WORDS
            if m > before_line and not short:
                short = _is_short(text, start, end, markers, before_line, m, classes)
            if short:
                flag |= np.uint8(_FEW_WORDS)
                row[1] += 1
            if end - start > MAX_WORD_CHARS and _has_long_word(text, start, end, classes):
                flag |= np.uint8(_LONG_WORD)
            script = policy = False
            before = before_that = np.uint8(0)
            for w in range(first, last):
                mark = marks[w]
                if mark:
                    if mark == _SCRIPT:
                        script = True
                    elif mark == _IPSUM:
                        row[7] += before == _LOREM
                    elif mark == _USE:
                        policy |= (before == _OF) & (before_that == _TERMS)
                    elif mark == _POLICIES:
                        policy |= (before == _PRIVACY) | (before == _COOKIE)
                    elif mark == _COOKIES:
                        policy |= (before == _USES) | (before == _USE) | ((before == _OF) & (before_that == _USE))
                before_that, before = before, mark
            if script:
                flag |= np.uint8(_JAVASCRIPT)
                row[2] += 1
            if policy:
                flag |= np.uint8(_POLICY)
                row[3] += 1
            if flag == 0:
                row[5] += 1
                row[6] += sentences
            flags[line] = flag
    return out, flags, markers[:m].copy()


def bits_of(names: Iterable[str]) -> int:
    """What a recipe names of `LINE_EDITS` as bits. Lines that are judged without their markers lose them."""
    bits = sum(1 << LINE_EDITS.index(name) for name in set(names))
    return bits | _CITATIONS if bits & (_UNTERMINATED | _FEW_WORDS) else bits


def kept_markers(s: Segments, lines: JudgedLines, rules: np.ndarray) -> np.ndarray:
    """Citation markers that the rules of their document remove: those of lines that stay.

    Args:
        rules: uint8 [n] of `bits_of`.

    Returns:
        int64 [spans, 3] of (document, start, end), bytes in `s.text`, in order.
    """
    owner = np.searchsorted(s.line_offsets, lines.markers[:, 0], "right") - 1
    removed = (rules[owner] & _CITATIONS != 0) & (lines.flags[lines.markers[:, 0]] & rules[owner] == 0)
    return np.column_stack([owner, lines.markers[:, 1:]])[removed]


def dropped_lines(s: Segments, flags: np.ndarray, rules: np.ndarray) -> np.ndarray:
    """Spans of lines that the rules of their document drop, with their line ends.

    Args:
        flags: uint8 [lines] of `judge_lines`.
        rules: uint8 [n]: the rules that drop a line of each document, as bits (`bits_of`).

    Returns:
        int64 [spans, 3] of (document, start, end), bytes in `s.text`, in order.
    """
    owner = np.repeat(np.arange(len(rules)), np.diff(s.line_offsets))
    dropped = np.flatnonzero(flags & rules[owner])
    if not len(dropped):
        return np.empty((0, 3), np.int64)
    return whole_lines(s.text, s.offsets, owner[dropped], s.line_start[dropped], s.line_end[dropped], tables()[0])


@njit(cache=True, nogil=True)
def whole_lines(
    text: np.ndarray,
    offsets: np.ndarray,
    owner: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    """int64 [n, 3] of (document, start, end): lines with the white space around them and their line ends."""
    out = np.empty((len(owner), 3), np.int64)
    for k in range(len(owner)):
        d = owner[k]
        start = line_start[k]
        # Back over white space to the line end before; the walk never leaves the line.
        while start > offsets[d]:
            at = start - 1
            while text[at] & 0xC0 == 0x80:
                at -= 1
            cp, _ = decode(text, at)
            if classes[cp] & NEWLINE or not classes[cp] & SPACE:
                break
            start = at
        end = line_end[k]
        while end < offsets[d + 1]:
            cp, end = decode(text, end)
            if classes[cp] & NEWLINE:
                if cp == 13 and end < offsets[d + 1] and text[end] == 10:
                    end += 1
                break
        out[k, 0], out[k, 1], out[k, 2] = d, start, end
    return out

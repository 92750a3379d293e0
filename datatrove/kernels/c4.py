"""The lines that datatrove's C4 filter keeps, as a new text, with what dropped the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ...pipeline.signals.hashing import TOPS, bytes_before, word_at, zero_bytes
from ...pipeline.signals.unicode import decode
from .batch import Texts
from .characters import BEYOND_SPACE, DECIMAL, FROM_SPACE, LINE_END, SIZE, SPACE, classes, holds
from .repetition import put_eight, stripped

KEPT, LOREM_IPSUM, CURLY_BRACKET = range(3)
"""What becomes of a document before its sentences are counted."""
TOTAL, LONG_WORD, UNTERMINATED, FEW_WORDS, JAVASCRIPT, POLICY, KEPT_LINES = range(7)
"""Columns of the counts of lines."""
_EDIT, _NEEDED = np.frombuffer(b"[edit]", np.uint8), np.frombuffer(b"[citation needed]", np.uint8)

BRACKETS, BRACES, KELVINS = (np.uint64(b * 0x0101010101010101) for b in (ord("["), ord("{"), 0xE2))
FROM_CAPITAL, BEYOND_CAPITAL = (np.uint64((0x80 - b) * 0x0101010101010101) for b in (65, 91))
"""As `FROM_SPACE`."""


@dataclass(frozen=True)
class LineRules:
    """What a line must be; -1 where a limit is off."""

    remove_citations: bool
    terminal: bool
    min_words: int
    max_word: int
    lorem_ipsum: bool
    javascript: bool
    curly_bracket: bool
    policy: tuple[str, ...]
    """ASCII, in lower case; empty where the rule is off."""
    joint: str
    """One character between the lines that are kept."""


@dataclass(frozen=True)
class Cleaned:
    """What is left of each document."""

    verdict: np.ndarray
    """uint8 [n]."""
    counts: np.ndarray
    """int64 [n, 7]: of lines; up to the one that drops the document."""
    text: np.ndarray
    """uint8: the lines kept, with joints."""
    bounds: np.ndarray
    """int64 [n, 2]: the text of each document in it, stripped."""
    lines: np.ndarray
    """int64 [kept, 2]: the lines kept in it."""
    line_offsets: np.ndarray
    """int64 [n + 1]: those of each document."""
    same: np.ndarray
    """bool [n]: the text is what it was."""


def clean(texts: Texts, spans: np.ndarray, span_offsets: np.ndarray, rules: LineRules) -> Cleaned:
    """Judge lines.

    Args:
        spans: int64 [lines, 2] of the text; those of document d are ``[span_offsets[d]:span_offsets[d + 1]]``.
    """
    sought = ["lorem ipsum" if rules.lorem_ipsum else "", "javascript" if rules.javascript else "", *rules.policy]
    joined = np.frombuffer("".join(sought).encode("ascii"), np.uint8)
    bounds = np.zeros(len(sought) + 1, np.int64)
    np.cumsum([len(s) for s in sought], out=bounds[1:])
    room = int(np.sum(spans[:, 1] - spans[:, 0])) + len(spans)
    return Cleaned(
        *_clean(
            texts.data, texts.offsets, spans, span_offsets, classes(), joined, bounds, room, rules.remove_citations,
            rules.terminal, rules.min_words, rules.max_word, rules.curly_bracket, ord(rules.joint),
        )
    )  # fmt: skip


def lines_of(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [lines, 2]: the lines of `str.splitlines`, int64 [n + 1]: those of each document)."""
    return _lines_of(texts.data, texts.offsets, classes())


def sentences(cleaned: Cleaned) -> np.ndarray:
    """int64 [n]: sentences of the lines kept, by the rule of `WhiteSpaceWords`; a line has at least one."""
    return _sentences(cleaned.text, cleaned.lines, cleaned.line_offsets, classes())


@njit(cache=True, nogil=True)
def _lines_of(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    line_offsets = np.zeros(n + 1, np.int64)
    # Once to count the lines, once to write them.
    for write in range(2):
        spans = np.empty((line_offsets[n] if write else 0, 2), np.int64)
        count = 0
        for d in range(n):
            i, end = offsets[d], offsets[d + 1]
            begin = i
            while i < end:
                if i + 8 <= end:
                    eight = word_at(text, i, 8)
                    if not (eight | ~(eight + FROM_SPACE)) & TOPS:
                        i += 8
                        continue
                at = i
                b = text[i]
                if b < 0x80:
                    kind = classes[b]
                    i += 1
                else:
                    cp, i = decode(text, i)
                    kind = classes[cp] if cp < SIZE else np.uint8(0)
                if kind & LINE_END:
                    if b == 13 and i < end and text[i] == 10:
                        i += 1
                    if write:
                        spans[count, 0], spans[count, 1] = begin, at
                    count += 1
                    begin = i
            if begin < end:
                if write:
                    spans[count, 0], spans[count, 1] = begin, end
                count += 1
            line_offsets[d + 1] = count
    return spans, line_offsets


@njit(cache=True, nogil=True)
def _words(text: np.ndarray, begin: int, end: int, classes: np.ndarray) -> tuple[int, int]:
    """(words between white space, characters of the longest)."""
    words = chars = longest = 0
    i = begin
    while i < end:
        if i + 8 <= end:
            eight = word_at(text, i, 8)
            if not (eight | ~(eight + FROM_SPACE)) & TOPS:
                spaces = ~(eight + BEYOND_SPACE) & TOPS
                at = 0
                while spaces:
                    place = bytes_before(spaces)
                    if place > at:
                        words += chars == 0
                        chars += place - at
                    longest = max(longest, chars)
                    chars = 0
                    at = place + 1
                    spaces &= spaces - np.uint64(1)
                if at < 8:
                    words += chars == 0
                    chars += 8 - at
                i += 8
                continue
        b = text[i]
        if b < 0x80:
            space = (classes[b] & SPACE) != 0
            i += 1
        else:
            cp, i = decode(text, i)
            space = cp < SIZE and (classes[cp] & SPACE) != 0
        if space:
            longest = max(longest, chars)
            chars = 0
        else:
            words += chars == 0
            chars += 1
    return words, max(longest, chars)


@njit(cache=True, nogil=True)
def _citation(text: np.ndarray, at: int, end: int, classes: np.ndarray) -> int:
    """The byte after a citation mark that begins with the bracket at `at`; -1 if it begins none."""
    i = at + 1
    while i < end:
        b = text[i]
        if b == 93:  # ]
            return i + 1
        if b < 0x80:
            cp, after = np.int64(b), i + 1
        else:
            cp, after = decode(text, i)
        if cp >= SIZE or not classes[cp] & DECIMAL:
            break
        i = after
    if holds(text, at, end, _EDIT):
        return at + len(_EDIT)
    return at + len(_NEEDED) if holds(text, at, end, _NEEDED) else -1


@njit(cache=True, nogil=True)
def _lower(text: np.ndarray, begin: int, end: int, out: np.ndarray) -> int:
    """Write ``text[begin:end]`` with ASCII letters in lower case; the Kelvin sign is the one other that becomes ASCII."""
    size = 0
    i = begin
    while i < end:
        if i + 8 <= end:
            eight = word_at(text, i, 8)
            if not zero_bytes(eight ^ KELVINS):
                seven = eight & ~TOPS
                capitals = (seven + FROM_CAPITAL) & ~(seven + BEYOND_CAPITAL) & ~eight & TOPS
                put_eight(out, size, eight + (capitals >> np.uint64(2)))
                size += 8
                i += 8
                continue
        b = text[i]
        if b == 0xE2 and i + 2 < end and text[i + 1] == 0x84 and text[i + 2] == 0xAA:
            out[size] = 107  # k
            i += 3
        else:
            out[size] = b + 32 if 65 <= b <= 90 else b
            i += 1
        size += 1
    return size


@njit(cache=True, nogil=True)
def _found(text: np.ndarray, size: int, sought: np.ndarray, bounds: np.ndarray, begins: np.ndarray) -> int:
    """Bits of the phrases that stand in ``text[:size]``: 1 for the first, 2 for the second, 4 for any other."""
    found = 0
    for i in range(size - 1):
        if not begins[text[np.uint64(i)], text[np.uint64(i + 1)]]:
            continue
        for k in range(len(bounds) - 1):
            length = bounds[k + 1] - bounds[k]
            if length and i + length <= size and text[i + 1] == sought[bounds[k] + 1] and text[i] == sought[bounds[k]]:
                equal = True
                for j in range(2, length):
                    if text[i + j] != sought[bounds[k] + j]:
                        equal = False
                        break
                if equal:
                    found |= 1 << min(k, 2)
    return found


@njit(cache=True, nogil=True, inline="always")
def _is_terminal(text: np.ndarray, begin: int, end: int) -> bool:
    if end == begin:
        return False
    b = text[end - 1]
    if b == 46:
        return end - begin < 3 or text[end - 2] != 46 or text[end - 3] != 46
    return b == 63 or b == 33 or b == 34 or b == 39


@njit(cache=True, nogil=True)
def _clean(
    text: np.ndarray,
    offsets: np.ndarray,
    spans: np.ndarray,
    span_offsets: np.ndarray,
    classes: np.ndarray,
    sought: np.ndarray,
    sought_bounds: np.ndarray,
    room: int,
    remove_citations: bool,
    terminal: bool,
    min_words: int,
    max_word: int,
    curly_bracket: bool,
    joint: int,
) -> tuple[np.ndarray, ...]:
    n = len(span_offsets) - 1
    verdict = np.zeros(n, np.uint8)
    counts = np.zeros((n, 7), np.int64)
    out = np.empty(room, np.uint8)
    lower = np.empty(room, np.uint8)
    bounds = np.zeros((n, 2), np.int64)
    lines = np.empty((len(spans), 2), np.int64)
    line_offsets = np.zeros(n + 1, np.int64)
    unchanged = np.zeros(n, np.bool_)
    begins = np.zeros((256, 256), np.bool_)
    for k in range(len(sought_bounds) - 1):
        if sought_bounds[k + 1] > sought_bounds[k]:
            begins[sought[sought_bounds[k]], sought[sought_bounds[k] + 1]] = True
    to = kept = 0
    for d in range(n):
        row = counts[d]
        document, first_kept = to, kept
        for span in range(span_offsets[d], span_offsets[d + 1]):
            begin, end = stripped(text, spans[span, 0], spans[span, 1], classes)
            row[TOTAL] += 1
            words, longest = _words(text, begin, end, classes)
            if max_word != -1 and longest > max_word:
                row[LONG_WORD] += 1
                continue
            line = to + (kept > first_kept)
            size = line
            curly = False
            i = begin
            while i < end:
                if i + 8 <= end:
                    eight = word_at(text, i, 8)
                    if not zero_bytes(eight ^ BRACKETS) | zero_bytes(eight ^ BRACES):
                        put_eight(out, size, eight)
                        size += 8
                        i += 8
                        continue
                b = text[i]
                if b == 91 and remove_citations:
                    after = _citation(text, i, end, classes)
                    if after > 0:
                        i = after
                        continue
                curly |= b == 123
                out[size] = b
                size += 1
                i += 1
            if terminal and not _is_terminal(out, line, size):
                row[UNTERMINATED] += 1
                continue
            if words < min_words:
                row[FEW_WORDS] += 1
                continue
            found = _found(lower, _lower(out, line, size, lower), sought, sought_bounds, begins)
            if found & 1:
                verdict[d] = LOREM_IPSUM
                break
            if found & 2:
                row[JAVASCRIPT] += 1
                continue
            if curly and curly_bracket:
                verdict[d] = CURLY_BRACKET
                break
            if found & 4:
                row[POLICY] += 1
                continue
            row[KEPT_LINES] += 1
            if kept > first_kept:
                out[to] = joint
            lines[kept, 0], lines[kept, 1] = line, size
            kept += 1
            to = size
        line_offsets[d + 1] = kept
        first, last = stripped(out, document, to, classes)
        bounds[d, 0], bounds[d, 1] = first, last
        if last - first == offsets[d + 1] - offsets[d]:
            unchanged[d] = True
            for k in range(last - first):
                if out[first + k] != text[offsets[d] + k]:
                    unchanged[d] = False
                    break
    return verdict, counts, out, bounds, lines[:kept], line_offsets, unchanged


@njit(cache=True, nogil=True)
def _sentences(text: np.ndarray, lines: np.ndarray, line_offsets: np.ndarray, classes: np.ndarray) -> np.ndarray:
    n = len(line_offsets) - 1
    out = np.zeros(n, np.int64)
    for d in range(n):
        for line in range(line_offsets[d], line_offsets[d + 1]):
            found = 0
            open_ = False  # a sentence has begun and not ended
            marks = closing = False  # the characters before are marks that may end it
            i, end = lines[line, 0], lines[line, 1]
            while i < end:
                b = text[i]
                if b < 0x80:
                    cp = np.int64(b)
                    i += 1
                else:
                    cp, i = decode(text, i)
                if cp < SIZE and classes[cp] & SPACE:
                    if open_ and (marks or closing):
                        found += 1
                        open_ = False
                    marks = closing = False
                    continue
                is_mark = cp == 46 or cp == 33 or cp == 63
                is_closing = cp == 34 or cp == 39 or cp == 41 or cp == 93 or cp == 0x201D or cp == 0x2019
                closing = is_closing and (marks or closing)
                # The first character of a sentence ends none.
                marks = is_mark and open_
                open_ = True
            out[d] += max(found + open_, 1)
    return out

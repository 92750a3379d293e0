"""C4's rules (Raffel et al. 2020, section 2.2): which of them every line fails, and counts per document.

C4 drops lines and then judges what is left. The flags of a line say which rules would drop it; the recipe says which
of them do, as edits. Of the lines that pass all rules the sentences are counted, as C4 counts them.

A sentence ends at a run of . ! ? and closing quotes or brackets before white space or the end of its line, or at one of
the full stops of unspaced scripts; words after the last end of a line are one more.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .gopher import ends_in_ellipsis
from .marked import Marked
from .segment import Segments
from .unicode import NEWLINE, SPACE, decode, tables

LINE_RULES = ("no_terminal_punctuation", "few_words", "long_word", "javascript", "policy")
"""Rules that drop a line; rule k is bit k of its flags."""
_UNTERMINATED, _FEW_WORDS, _LONG_WORD, _JAVASCRIPT, _POLICY = (1 << k for k in range(5))
MIN_WORDS = 3
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


def line_counts(s: Segments) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [n, len(C4_COUNTS)], flags uint8 [lines])."""
    marks = _MARKS.numbers(s.word_hash)
    return _lines(
        s.text, s.word_offsets, s.word_start, s.word_chars, marks, s.line_offsets, s.line_start, s.line_end, s.line_word
    )


@njit(cache=True, nogil=True, inline="always")
def _is_terminal(text: np.ndarray, start: int, end: int) -> bool:
    """Whether a line ends in . ! ? " ' (or the closing quotes and full stops beyond ASCII), and not in an ellipsis."""
    b = text[end - 1]
    if b == 46 or b == 33 or b == 63 or b == 34 or b == 39:
        return not ends_in_ellipsis(text, start, end)
    if b < 0x80 or end - start < 3:
        return False
    a, c = text[end - 3], text[end - 2]
    if a == 0xE2 and c == 0x80:
        return b == 0x9D or b == 0x99  # ” ’
    return (a == 0xE3 and c == 0x80 and b == 0x82) or (a == 0xEF and c == 0xBC and (b == 0x81 or b == 0x9F))


_MAY_END = np.zeros(256, np.bool_)
_MAY_END[[*b".!?", 0xE3, 0xEF]] = True
"""First bytes of what may end a sentence."""


@njit(cache=True, nogil=True, inline="always")
def _sentence_ends(text: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """(sentence ends within a line, byte after the last of them)."""
    ends = 0
    last = start
    i = start
    while i < end:
        b = text[np.uint64(i)]
        if not _MAY_END[b]:
            i += 1
            continue
        if b < 0x80:
            i += 1
            while i < end:
                b = text[i]
                if b == 46 or b == 33 or b == 63 or b == 34 or b == 39 or b == 41 or b == 93:
                    i += 1
                elif b == 0xE2 and i + 2 < end and text[i + 1] == 0x80 and (text[i + 2] == 0x9D or text[i + 2] == 0x99):
                    i += 3
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
    return ends, last


@njit(cache=True, nogil=True)
def _lines(
    text: np.ndarray,
    word_offsets: np.ndarray,
    word_start: np.ndarray,
    word_chars: np.ndarray,
    marks: np.ndarray,
    line_offsets: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
    line_word: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(word_offsets) - 1
    out = np.zeros((n, 8), np.int64)
    flags = np.zeros(len(line_start), np.uint8)
    for d in range(n):
        row = out[d]
        for line in range(line_offsets[d], line_offsets[d + 1]):
            start, end = line_start[line], line_end[line]
            first = line_word[line]
            last = line_word[line + 1] if line + 1 < line_offsets[d + 1] else word_offsets[d + 1]
            flag = np.uint8(0)
            if _is_terminal(text, start, end):
                row[0] += 1
            else:
                flag |= np.uint8(_UNTERMINATED)
            if last - first < MIN_WORDS:
                flag |= np.uint8(_FEW_WORDS)
                row[1] += 1
            script = policy = False
            before = before_that = np.uint8(0)
            for w in range(first, last):
                if word_chars[w] > MAX_WORD_CHARS:
                    flag |= np.uint8(_LONG_WORD)
                m = marks[w]
                if m:
                    if m == _SCRIPT:
                        script = True
                    elif m == _IPSUM:
                        row[7] += before == _LOREM
                    elif m == _USE:
                        policy |= (before == _OF) & (before_that == _TERMS)
                    elif m == _POLICIES:
                        policy |= (before == _PRIVACY) | (before == _COOKIE)
                    elif m == _COOKIES:
                        policy |= (before == _USES) | (before == _USE) | ((before == _OF) & (before_that == _USE))
                before_that, before = before, m
            if script:
                flag |= np.uint8(_JAVASCRIPT)
                row[2] += 1
            if policy:
                flag |= np.uint8(_POLICY)
                row[3] += 1
            sentences, after = _sentence_ends(text, start, end)
            if last > first and word_start[last - 1] >= after:
                sentences += 1
            row[4] += sentences
            if flag == 0:
                row[5] += 1
                row[6] += sentences
            flags[line] = flag
    return out, flags


def dropped_lines(s: Segments, flags: np.ndarray, rules: np.ndarray) -> np.ndarray:
    """Spans of lines that the rules of their document drop, with their line ends.

    Args:
        flags: uint8 [lines] of `line_counts`.
        rules: uint8 [n]: the rules that drop a line of each document, as bits.

    Returns:
        int64 [spans, 3] of (document, start, end), bytes in `s.text`, in order.
    """
    owner = np.repeat(np.arange(len(rules)), np.diff(s.line_offsets))
    dropped = np.flatnonzero(flags & rules[owner])
    if not len(dropped):
        return np.empty((0, 3), np.int64)
    return _spans(s.text, s.offsets, owner[dropped], s.line_start[dropped], s.line_end[dropped], tables()[0])


@njit(cache=True, nogil=True)
def _spans(
    text: np.ndarray,
    offsets: np.ndarray,
    owner: np.ndarray,
    line_start: np.ndarray,
    line_end: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
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

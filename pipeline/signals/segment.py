"""Segmentation, shared by all signals: one walk over a batch of documents finds words and lines, and counts characters.

    UTF-8 bytes + offsets -> words (hash, place, length), lines (place, length, first word), counts per document

Definitions on which every signal is based:
  word       a maximal run of word characters (letters, digits, underscore, and the marks after them). Its hash is of the
             case-folded code points. Invisible characters (soft hyphens, joiners, zero-width spaces, fillers, variation
             selectors, direction marks) part no word and are none of it.
  unit       a word; in unspaced scripts, where nothing tells words apart, a letter with the marks after it. The arrays of
             words below hold units. So many units make a word as words of the script have on average
             (`UNITS_PER_WORD`): n-grams of words are measured, and words of Han and Kana counted, by that; words of the
             other unspaced scripts are counted by their letters (southeast.py).
  signs      symbols between the words of a line of code or a formula, which only shingles look at: such a line holds
             an operator (unicode.py says which), one of * / % & by itself between spaces, a * within a word, or a ! at
             the beginning of one. Quotes, commas, points, the `>` before quoted lines, and all symbols of other lines
             are no signs.
  line       what stands between line ends (those of `str.splitlines`), stripped of white space; empty ones are counted
             as raw lines only.
  paragraph  a run of lines with no empty line between.

Arrays hold at most `MAX_WORDS` words and `MAX_LINES` lines of a document, so that one huge document cannot exhaust a
task's memory; counts are always of the whole document.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ...tokenize.vectors import LANES
from .characters import (
    ALPHA_SPLIT_WORDS,
    ALPHA_TOKEN,
    ALPHA_UNITS,
    ALPHA_WORDS,
    BURMESE,
    BYTES,
    CHARACTER_COUNTS,
    CHARS,
    CURLY,
    DIGITS,
    DOTS,
    ELLIPSES,
    EMPTY_BEFORE,
    FIRST_BYTE,
    FIRST_CHAR,
    FIRST_WORD,
    HASHES,
    IN_SPLIT,
    KHMER,
    LAST_BYTE,
    LAST_CHAR,
    LAST_LINE,
    LAST_WORD,
    LATEX,
    LETTERED,
    LETTERS,
    LINE_AT,
    LINE_CHAR,
    LINE_CHARS,
    LINE_END,
    LINE_ENDS,
    LINE_OPENS,
    LINE_SPLIT_WORDS,
    LINE_START,
    LINE_WORD,
    MATH_SYMBOLS,
    MAX_WORD,
    NO_TOKEN,
    OPERATORS,
    RAW_LINES,
    SOUTHEAST,
    SPACES,
    SPLIT_WORDS,
    STATE_SIZE,
    SYMBOL_TOKEN,
    THOUSANDTHS,
    TOKEN,
    TOKENS,
    UNITS,
    UNSPACED,
    WORD_AT,
    WORD_CHARS,
    WORD_TOKEN,
    WORDS,
)
from .continuations import ATTACHED, FOLDED, HIDDEN, INSIDE, NUMERAL, SPELLED, continuation, continuations
from .hashing import mix64
from .leaf import leaf
from .lines import end_line, is_operator
from .plain import walk_plain
from .scripts import BURMESE_SCRIPT, UNITS_PER_WORD, script_of, words_of
from .southeast import is_burmese, is_khmer, is_southeast, shares, thousandths
from .southeast_symbols import count_symbols
from .unicode import ALONE, INVISIBLE, MATH, NEWLINE, OPERATOR, SIGN, SPACE, WORD, class_of, decode, tables
from .word_hashes import WORD_SEED, WORD_STEP, room_abreast

MAX_WORDS = 1 << 22
MAX_LINES = 1 << 20

_LONGEST_STRETCH = 512
"""Most bytes that are walked character by character before it is looked again whether text is plain."""


@dataclass(frozen=True)
class Segments:
    """Words and lines of a batch. `text[offsets[d]:offsets[d + 1]]` is document d."""

    text: np.ndarray
    """uint8: UTF-8 bytes."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    counts: np.ndarray
    """int64 [n, len(CHARACTER_COUNTS)]."""
    n_units: np.ndarray
    """int64 [n]: of the whole document, also where the arrays below hold the first `MAX_WORDS`."""
    units_per_word: np.ndarray
    """int64 [n]: of `UNITS_PER_WORD`, by the script of most of its units."""
    word_offsets: np.ndarray
    """int64 [n + 1]: units of document d are [word_offsets[d]:word_offsets[d + 1]] of the next five."""
    word_hash: np.ndarray
    """uint64 [units]: of the case-folded word."""
    word_start: np.ndarray
    """int64 [words]: byte in `text`."""
    word_end: np.ndarray
    """int64 [words]."""
    word_chars: np.ndarray
    """int32 [words]: without invisible ones."""
    word_signs: np.ndarray
    """uint64 [words]: a hash of the signs before a word of its line, or after its last; 0 where there are none."""
    line_offsets: np.ndarray
    """int64 [n + 1]: lines of document d."""
    line_start: np.ndarray
    """int64 [lines]: byte in `text` of the first character that is not white space."""
    line_end: np.ndarray
    """int64 [lines]: byte after the last such character."""
    line_chars: np.ndarray
    """int32 [lines]: characters between."""
    line_word: np.ndarray
    """int64 [lines]: index of the line's first word, counted over the batch."""
    line_opens: np.ndarray
    """bool [lines]: the line opens a paragraph."""
    line_split_words: np.ndarray
    """int32 [lines]: what `str.split` finds in it, as `n_split_words` counts."""


def segment(text: np.ndarray, offsets: np.ndarray) -> Segments:
    """Segment the documents ``text[offsets[i]:offsets[i + 1]]`` (valid UTF-8)."""
    return Segments(
        text, offsets, *_segment(text, offsets, tables()[0], continuations(), shares(), MAX_WORDS, MAX_LINES)
    )


@leaf
def _walk(
    text: np.ndarray,
    begin: int,
    stop: int,
    end: int,
    state: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_chars: np.ndarray,
    word_signs: np.ndarray,
    lines: np.ndarray,
    classes: np.ndarray,
    continues: np.ndarray,
    word_shares: np.ndarray,
) -> int:
    """Segment a document that ends at byte `end` from one byte up to another, or to the end of the word or symbol there: any text,
    character by character. Returns the byte after it."""
    w, last_w = state[WORD_AT], state[LAST_WORD]
    chars, tokens, split_words, lettered_splits = (
        state[CHARS],
        state[TOKENS],
        state[SPLIT_WORDS],
        state[ALPHA_SPLIT_WORDS],
    )
    units, alpha_units, letters, digits, spaces = (
        state[UNITS],
        state[ALPHA_UNITS],
        state[LETTERS],
        state[DIGITS],
        state[SPACES],
    )
    longest_word, total_word_chars = state[MAX_WORD], state[WORD_CHARS]
    in_split, lettered, alpha_token = state[IN_SPLIT] != 0, state[LETTERED] != 0, state[ALPHA_TOKEN] != 0
    token, dots = state[TOKEN], state[DOTS]
    i = begin
    while i < stop:
        b = text[i]
        if b < 0x80:
            cp, after = np.int64(b), i + 1
            flags = classes[b]
        else:
            cp, after = decode(text, i)
            flags = class_of(classes, cp)
        if flags & WORD:
            start = i
            if state[FIRST_BYTE] < 0:
                state[FIRST_BYTE], state[FIRST_CHAR] = i, chars
            h = WORD_SEED
            length = in_word_letters = hidden = 0
            goes_on = np.int64(INSIDE)
            kind = continuation(continues, cp)
            weighed = False
            if flags & ALONE:
                goes_on = np.int64(ATTACHED)
                token = NO_TOKEN
                weighed = is_southeast(cp)
                state[UNSPACED] += 1
                if weighed:
                    state[SOUTHEAST] += 1
                    state[KHMER] += is_khmer(cp)
                    state[BURMESE] += is_burmese(cp)
            going = True
            while going:
                if kind & HIDDEN:
                    hidden += 1
                else:
                    h = (h ^ np.uint64(kind & FOLDED)) * WORD_STEP
                    length += 1
                    in_word_letters += (kind & SPELLED) != 0
                    digits += (kind & NUMERAL) != 0
                i = after
                if i >= end:
                    break
                b = text[i]
                if b < 0x80:
                    cp, after = np.int64(b), i + 1
                else:
                    cp, after = decode(text, i)
                kind = continuation(continues, cp)
                going = (kind & goes_on) != 0
            if weighed:
                state[THOUSANDTHS] += thousandths(text, start, i, word_shares)
            chars += length + hidden
            letters += in_word_letters
            units += 1
            alpha = in_word_letters > 0
            alpha_units += alpha
            in_split = True
            lettered |= alpha
            if token == SYMBOL_TOKEN:
                tokens -= 1
                if not (alpha & alpha_token):
                    tokens -= 1
                    alpha |= alpha_token
            alpha_token = alpha
            token = WORD_TOKEN
            total_word_chars += length
            longest_word = max(longest_word, length)
            if w < last_w:
                word_hash[w] = mix64(h)
                word_start[w] = start
                word_end[w] = i
                word_chars[w] = length
                word_signs[w] = np.uint64(0)
                w += 1
            state[LAST_BYTE], state[LAST_CHAR] = i, chars
            dots = 0
            continue
        chars += 1
        if flags & SPACE:
            spaces += 1
            token = NO_TOKEN
            dots = 0
            split_words += in_split
            lettered_splits += lettered
            in_split = lettered = False
            if flags & NEWLINE:
                length = chars - 1
                if cp == 13 and after < end and text[after] == 10:
                    chars += 1
                    spaces += 1
                    after += 1
                state[LINE_ENDS] += 1
                end_line(text, state, word_start, word_end, word_signs, lines, classes, w, length, chars, split_words)
        else:
            if state[FIRST_BYTE] < 0:
                state[FIRST_BYTE], state[FIRST_CHAR] = i, chars - 1
            state[LAST_BYTE], state[LAST_CHAR] = after, chars
            if (flags & INVISIBLE) == 0:
                in_split = True
                tokens += 1
                token = SYMBOL_TOKEN if token == WORD_TOKEN else NO_TOKEN
            if flags & SIGN and not (cp == 62 and w == state[FIRST_WORD]):
                state[OPERATORS] |= (flags & OPERATOR) != 0 or (
                    after < end and is_operator(cp, text[i - 1] if i > state[FIRST_BYTE] else np.uint8(10), text[after])
                )
            if cp == 46:
                dots += 1
                if dots == 3:
                    state[ELLIPSES] += 1
                    dots = 0
            else:
                dots = 0
                if cp == 35:
                    state[HASHES] += 1
                elif cp == 123 or cp == 125:
                    state[CURLY] += 1
                elif cp == 36:
                    state[LATEX] += 1
                elif cp == 92:
                    k = after
                    while k < end and (65 <= text[k] <= 90 or 97 <= text[k] <= 122):
                        k += 1
                    if k > after:
                        state[LATEX] += 1 + k - after
                elif cp == 0x2026:
                    state[ELLIPSES] += 1
                elif flags & MATH:
                    state[MATH_SYMBOLS] += 1
        i = after
    state[WORD_AT] = w
    state[CHARS], state[TOKENS], state[SPLIT_WORDS], state[ALPHA_SPLIT_WORDS] = (
        chars,
        tokens,
        split_words,
        lettered_splits,
    )
    state[UNITS], state[ALPHA_UNITS], state[LETTERS], state[DIGITS], state[SPACES] = (
        units,
        alpha_units,
        letters,
        digits,
        spaces,
    )
    state[MAX_WORD], state[WORD_CHARS] = longest_word, total_word_chars
    state[IN_SPLIT], state[LETTERED], state[ALPHA_TOKEN] = in_split, lettered, alpha_token
    state[TOKEN], state[DOTS] = token, dots
    return i


@leaf
def _begin(state: np.ndarray, word: int, line: int, max_words: int, max_lines: int) -> None:
    """The state of a document at its beginning."""
    state[:] = 0
    state[FIRST_BYTE] = -1
    state[EMPTY_BEFORE] = 1
    state[WORD_AT] = state[FIRST_WORD] = word
    state[LINE_AT] = line
    state[LAST_WORD], state[LAST_LINE] = word + max_words, line + max_lines


@leaf
def _end(
    text: np.ndarray,
    begin: int,
    end: int,
    state: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_signs: np.ndarray,
    lines: np.ndarray,
    classes: np.ndarray,
    continues: np.ndarray,
    row: np.ndarray,
) -> int:
    """End the last line of a document and complete its counts; returns its script."""
    state[SPLIT_WORDS] += state[IN_SPLIT]
    state[ALPHA_SPLIT_WORDS] += state[LETTERED]
    state[RAW_LINES] = state[LINE_ENDS] + (state[CHARS] > state[LINE_CHAR])
    end_line(
        text,
        state,
        word_start,
        word_end,
        word_signs,
        lines,
        classes,
        state[WORD_AT],
        state[CHARS],
        state[CHARS],
        state[SPLIT_WORDS],
    )
    units, unspaced = state[UNITS], state[UNSPACED]
    script = script_of(units, unspaced, state[SOUTHEAST], state[KHMER], state[BURMESE])
    n_words = units - unspaced + words_of(unspaced - state[SOUTHEAST], state[THOUSANDTHS])
    state[BYTES] = end - begin
    state[WORDS] = n_words
    # Of units without a letter, each is a word.
    state[ALPHA_WORDS] = max(n_words - (units - state[ALPHA_UNITS]), 0)
    if script >= BURMESE_SCRIPT:
        state[TOKENS] = count_symbols(text, begin, end, classes, continues)
    state[TOKENS] += n_words
    for k in range(len(row)):
        row[k] = state[k]
    return script


@njit(cache=True, nogil=True)
def _segment(
    text: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    continues: np.ndarray,
    word_shares: np.ndarray,
    max_words: int,
    max_lines: int,
) -> tuple[np.ndarray, ...]:
    n = len(offsets) - 1
    counts = np.zeros((n, len(CHARACTER_COUNTS)), np.int64)
    n_units = np.zeros(n, np.int64)
    units_per_word = np.zeros(n, np.int64)
    word_offsets = np.zeros(n + 1, np.int64)
    line_offsets = np.zeros(n + 1, np.int64)
    most_words = most_lines = 0
    for d in range(n):
        # Two words are separated by at least a byte, or one of them has three; two lines by a line end.
        size = offsets[d + 1] - offsets[d]
        most_words += min(size // 2 + 1, max_words)
        most_lines += min(size // 2 + 1, max_lines)
    word_hash = np.empty(most_words, np.uint64)
    word_start = np.empty(most_words, np.int64)
    word_end = np.empty(most_words, np.int64)
    word_chars = np.empty(most_words, np.int32)
    word_signs = np.empty(most_words, np.uint64)
    lines = np.empty((most_lines, 6), np.int64)
    state = np.zeros(STATE_SIZE, np.int64)
    room = room_abreast()
    w = line = np.int64(0)
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        _begin(state, w, line, max_words, max_lines)
        i = begin
        stretch = 1
        while i < end:
            before = i
            if i + LANES <= end:
                i = walk_plain(
                    text, i, end, state, word_hash, word_start, word_end, word_chars, word_signs, lines, classes, room
                )
            # Text that is seldom plain is asked seldom.
            stretch = min(2 * stretch, _LONGEST_STRETCH) if i - before < LANES else 1
            if i < end:
                i = _walk(
                    text,
                    i,
                    min(i + stretch, end) if i + LANES <= end else end,
                    end,
                    state,
                    word_hash,
                    word_start,
                    word_end,
                    word_chars,
                    word_signs,
                    lines,
                    classes,
                    continues,
                    word_shares,
                )
        script = _end(text, begin, end, state, word_start, word_end, word_signs, lines, classes, continues, counts[d])
        n_units[d], units_per_word[d] = state[UNITS], UNITS_PER_WORD[script]
        w, line = state[WORD_AT], state[LINE_AT]
        word_offsets[d + 1], line_offsets[d + 1] = w, line
    lines = lines[:line]
    return (
        counts,
        n_units,
        units_per_word,
        word_offsets,
        word_hash[:w],
        word_start[:w],
        word_end[:w],
        word_chars[:w],
        word_signs[:w],
        line_offsets,
        lines[:, LINE_START].copy(),
        lines[:, LINE_END].copy(),
        lines[:, LINE_CHARS].astype(np.int32),
        lines[:, LINE_WORD].copy(),
        lines[:, LINE_OPENS] != 0,
        lines[:, LINE_SPLIT_WORDS].astype(np.int32),
    )

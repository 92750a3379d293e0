"""Segmentation, shared by all signals: one walk over a batch of documents finds words and lines, and counts characters.

    UTF-8 bytes + offsets -> words (hash, place, length), lines (place, length, first word), counts per document

Definitions on which every signal is based:
  word       a maximal run of word characters (letters, digits, underscore, and the marks after them). Its hash is of the
             case-folded code points. Invisible characters (soft hyphens, joiners, zero-width spaces, fillers, variation
             selectors, direction marks) part no word and are none of it.
  unit       a word; in unspaced scripts, where nothing tells words apart, a letter or digit with the marks after it. The
             arrays of words below hold units. So many units make a word as words of the script have on average
             (`UNITS_PER_WORD`): words are counted, and n-grams of words are measured, by that.
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

import functools
from dataclasses import dataclass

import numpy as np
from numba import njit

from .hashing import mix64
from .unicode import (
    ALONE,
    DIGIT,
    INVISIBLE,
    LETTER,
    MARK,
    MATH,
    NEWLINE,
    OPERATOR,
    SIGN,
    SPACE,
    TABLE_SIZE,
    TAGS,
    WORD,
    class_of,
    decode,
    tables,
)

MAX_WORDS = 1 << 22
MAX_LINES = 1 << 20

SPACED, EAST_ASIAN, SOUTHEAST_ASIAN = range(3)
"""How the script of most units of a document separates words: by spaces, or not at all (Han and Kana; Thai, Lao, Khmer and
Myanmar)."""
UNITS_PER_WORD = np.array([10, 18, 37], np.int64)
"""Units of a word in tenths, by script: as segmenters of these languages cut running text (docs/signals.md)."""

CHARACTER_COUNTS = (
    "n_bytes",
    "n_chars",
    "n_words",
    "n_alpha_words",
    "n_tokens",
    "n_split_words",
    "n_alpha_split_words",
    "n_word_chars",
    "n_letters",
    "n_digits",
    "n_spaces",
    "n_line_ends",
    "n_raw_lines",
    "n_lines",
    "n_paragraphs",
    "max_line_chars",
    "max_word_chars",
    "n_hashes",
    "n_ellipses",
    "n_curly_braces",
    "n_math_symbols",
    "latex_chars",
)
"""Columns of `Segments.counts`, all int64.

n_words: words with spaces between them, and what the units of unspaced scripts make by `UNITS_PER_WORD`; n_alpha_words:
those with a letter; n_tokens: words and visible symbols, where one symbol right between two words, the second of a spaced
script, is none (`d'eau`), and they are one token if not both have a letter (`1,000`, `covid-19`); n_split_words,
n_alpha_split_words: what `str.split` finds, symbols by themselves included and invisible characters by themselves not, and
what of it has a letter; n_raw_lines: lines of `str.splitlines`, empty ones included; max_line_chars: of raw lines; n_hashes:
`#`; n_ellipses: `...` (not overlapping) and U+2026; n_curly_braces: `{` and `}`; n_math_symbols: Unicode category Sm beyond
ASCII; latex_chars: characters of `\\name` commands, and dollar signs.
"""

(
    BYTES,
    CHARS,
    WORDS,
    ALPHA_WORDS,
    TOKENS,
    SPLIT_WORDS,
    ALPHA_SPLIT_WORDS,
    WORD_CHARS,
    LETTERS,
    DIGITS,
    SPACES,
    LINE_ENDS,
    RAW_LINES,
    LINES,
    PARAGRAPHS,
    MAX_LINE,
    MAX_WORD,
    HASHES,
    ELLIPSES,
    CURLY,
    MATH_SYMBOLS,
    LATEX,
) = range(len(CHARACTER_COUNTS))

# A letter adds 1 to a word's sum, a digit 2^32, `_` 2^62: one addition counts them apart, and none is 0.
_ASCII_WORD = np.zeros(256, np.int64)
_ASCII_WORD[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"]] = 1
_ASCII_WORD[[*b"0123456789"]] = 1 << 32
_ASCII_WORD[ord("_")] = 1 << 62
_ASCII_LOWER = np.array([ord(chr(b).lower()) if b < 128 else b for b in range(256)], np.uint8)

# What the loop over a word asks of a character, in one table: the folded code point in the lowest bits, and these.
_LETTER, _DIGIT, _INVISIBLE, _INSIDE, _ATTACHED = (1 << bit for bit in (24, 25, 26, 27, 28))
_FOLDED = _LETTER - 1

_NONE, _WORD, _SYMBOL = range(3)
"""What a token may go on from: a word between spaces, or that and one symbol."""

WORD_SEED = np.uint64(0x243F6A8885A308D3)
WORD_STEP = np.uint64(0x9E3779B97F4A7C15)


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


def word_hash(word: str) -> int:
    """The kernel's hash of a word that is case-folded already."""
    mask = (1 << 64) - 1
    h = int(WORD_SEED)
    for char in word:
        h = ((h ^ ord(char)) * int(WORD_STEP)) & mask
    h ^= h >> 33
    h = (h * 0xFF51AFD7ED558CCD) & mask
    h ^= h >> 33
    h = (h * 0xC4CEB9FE1A85EC53) & mask
    return h ^ (h >> 33)


@functools.cache
def _continuations() -> np.ndarray:
    """int32 [TABLE_SIZE]: of every character that may stand in a word. `_INSIDE`: it continues one that has begun;
    `_ATTACHED`: also one letter of an unspaced script.
    """
    classes, folded = tables()
    table = folded.astype(np.int32)
    table[(classes & LETTER) != 0] |= _LETTER
    table[(classes & DIGIT) != 0] |= _DIGIT
    table[(classes & INVISIBLE) != 0] |= _INVISIBLE
    table[((classes & (WORD | MARK | INVISIBLE)) != 0) & ((classes & ALONE) == 0)] |= _INSIDE
    table[(classes & (MARK | INVISIBLE)) != 0] |= _ATTACHED
    return table


@njit(cache=True, nogil=True, inline="always")
def _continuation(table: np.ndarray, cp: int) -> np.int64:
    """The entry of any code point."""
    if cp < TABLE_SIZE:
        return np.int64(table[cp])
    return np.int64(_INVISIBLE | _INSIDE | _ATTACHED) if TAGS[0] <= cp < TAGS[1] else np.int64(cp | _INSIDE)


def segment(text: np.ndarray, offsets: np.ndarray) -> Segments:
    """Segment the documents ``text[offsets[i]:offsets[i + 1]]`` (valid UTF-8)."""
    sizes = np.diff(offsets)
    # Two words are separated by at least a byte, or one of them has three; two lines by a line end.
    words = int(np.minimum(sizes // 2 + 1, MAX_WORDS).sum())
    lines = int(np.minimum(sizes // 2 + 1, MAX_LINES).sum())
    classes = tables()[0]
    return Segments(
        text, offsets, *_segment(text, offsets, classes, _continuations(), words, lines, MAX_WORDS, MAX_LINES)
    )


@njit(cache=True, nogil=True, inline="always")
def units_of(words: int, units_per_word: int) -> int:
    """The units of so many words, to the nearest.

    Args:
        units_per_word: in tenths.
    """
    return (words * units_per_word + 5) // 10


@njit(cache=True, nogil=True, inline="always")
def _words_of(east: int, southeast: int) -> int:
    """The words that units of unspaced scripts make, the last one begun."""
    east_size, southeast_size = UNITS_PER_WORD[EAST_ASIAN], UNITS_PER_WORD[SOUTHEAST_ASIAN]
    return (10 * east + east_size - 1) // east_size + (10 * southeast + southeast_size - 1) // southeast_size


@njit(cache=True, nogil=True)
def _end_signs(word_signs: np.ndarray, first: int, last: int, after: np.uint64, operator: bool) -> None:
    """Settle the signs of a line's words at its end: none without an operator; those after the last word are its."""
    if not operator:
        for w in range(first, last):
            word_signs[w] = np.uint64(0)
    elif after and last > first:
        word_signs[last - 1] = mix64(word_signs[last - 1] ^ (after * WORD_STEP))


@njit(cache=True, nogil=True, inline="always")
def _is_operator(cp: int, before: int, after: int) -> bool:
    """Whether an ASCII sign that prose has as well, between these bytes of its line, is one of code or a formula."""
    if before == 32 and after == 32:
        return cp == 42 or cp == 47 or cp == 37 or cp == 38
    if _ASCII_WORD[after] == 0:
        return False
    return (cp == 42 and _ASCII_WORD[before] != 0) or (cp == 33 and _ASCII_WORD[before] == 0 and before < 0x80)


@njit(cache=True, nogil=True)
def _segment(
    text: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    continuations: np.ndarray,
    words: int,
    lines: int,
    max_words: int,
    max_lines: int,
) -> tuple[np.ndarray, ...]:
    n = len(offsets) - 1
    counts = np.zeros((n, len(CHARACTER_COUNTS)), np.int64)
    n_units = np.zeros(n, np.int64)
    units_per_word = np.zeros(n, np.int64)
    word_offsets = np.zeros(n + 1, np.int64)
    word_hash = np.empty(words, np.uint64)
    word_start = np.empty(words, np.int64)
    word_end = np.empty(words, np.int64)
    word_chars = np.empty(words, np.int32)
    word_signs = np.empty(words, np.uint64)
    line_offsets = np.zeros(n + 1, np.int64)
    line_start = np.empty(lines, np.int64)
    line_end = np.empty(lines, np.int64)
    line_chars = np.empty(lines, np.int32)
    line_word = np.empty(lines, np.int64)
    line_opens = np.empty(lines, np.bool_)
    line_split_words = np.empty(lines, np.int32)
    w = line = 0
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        last_w, last_l = w + max_words, line + max_lines
        i = begin
        chars = units = alpha_units = symbols_apart = joined_numbers = unspaced = southeast = total_word_chars = (
            letters
        ) = digits = spaces = 0
        line_ends = n_lines = paragraphs = longest_line = longest_word = 0
        hashes = ellipses = curly = symbols = latex = 0
        split_words = alpha_split_words = split_before = np.int64(0)  # split_before: this line
        in_split = lettered = False  # within what `str.split` finds; it has a letter
        token = _NONE
        alpha_token = False
        dots = 0
        raw_line_char = 0  # characters before this raw line
        first_byte = np.int64(-1)  # of the line, or -1 while it is empty
        first_char = last_byte = last_char = np.int64(0)
        first_word = w
        empty_before = True
        signs = np.uint64(0)  # since the last word
        signed = operator = False  # in this line: a word has signs; one of the signs is an operator
        while i < end:
            b = text[i]
            if b < 0x80:
                cp, after = np.int64(b), i + 1
                flags = classes[b]
            else:
                cp, after = decode(text, i)
                flags = class_of(classes, cp)
            if flags & WORD:
                start = i
                if first_byte < 0:
                    first_byte, first_char = i, chars
                h = WORD_SEED
                length = in_word_letters = hidden = 0
                goes_on = np.int64(_INSIDE)
                if b < 0x80:
                    # Runs of ASCII word characters: a table lookup, a hash step and two sums a byte.
                    # An unsigned index, since Numba makes a signed one wrap around.
                    sums = 0
                    u, last = np.uint64(i), np.uint64(end)
                    while u < last:
                        b = text[u]
                        kind = _ASCII_WORD[b]
                        if kind == 0:
                            break
                        h = (h ^ np.uint64(_ASCII_LOWER[b])) * WORD_STEP
                        sums += kind
                        u += np.uint64(1)
                    i = np.int64(u)
                    length = i - start
                    in_word_letters = sums & 0xFFFFFFFF
                    digits += (sums >> 32) & 0x3FFFFFFF
                    going = i < end and b >= 0x80
                    if going:
                        cp, after = decode(text, i)
                        kind = _continuation(continuations, cp)
                        going = (kind & _INSIDE) != 0
                else:
                    kind = _continuation(continuations, cp)
                    going = True
                    if flags & ALONE:
                        goes_on = np.int64(_ATTACHED)
                        token = _NONE
                        unspaced += 1
                        southeast += cp < 0x3000 or 0xA9E0 <= cp < 0xAA80
                while going:
                    if kind & _INVISIBLE:
                        hidden += 1
                    else:
                        h = (h ^ np.uint64(kind & _FOLDED)) * WORD_STEP
                        length += 1
                        in_word_letters += (kind & _LETTER) != 0
                        digits += (kind & _DIGIT) != 0
                    i = after
                    if i >= end:
                        break
                    b = text[i]
                    if b < 0x80:
                        cp, after = np.int64(b), i + 1
                    else:
                        cp, after = decode(text, i)
                    kind = _continuation(continuations, cp)
                    going = (kind & goes_on) != 0
                chars += length + hidden
                letters += in_word_letters
                units += 1
                alpha = in_word_letters > 0
                alpha_units += alpha
                in_split = True
                lettered |= alpha
                if token == _SYMBOL:
                    symbols_apart -= 1
                    if not (alpha & alpha_token):
                        joined_numbers += 1
                        alpha |= alpha_token
                alpha_token = alpha
                token = _WORD
                total_word_chars += length
                longest_word = max(longest_word, length)
                if w < last_w:
                    word_hash[w] = mix64(h)
                    word_start[w] = start
                    word_end[w] = i
                    word_chars[w] = length
                    word_signs[w] = signs
                    if signs:
                        word_signs[w] = mix64(signs)
                        signed = True
                        signs = np.uint64(0)
                    w += 1
                last_byte, last_char = i, chars
                dots = 0
                continue
            chars += 1
            if flags & SPACE:
                spaces += 1
                token = _NONE
                dots = 0
                split_words += in_split
                alpha_split_words += lettered
                in_split = lettered = False
                if flags & NEWLINE:
                    if cp == 13 and after < end and text[after] == 10:
                        chars += 1
                        spaces += 1
                        after += 1
                        longest_line = max(longest_line, chars - 2 - raw_line_char)
                    else:
                        longest_line = max(longest_line, chars - 1 - raw_line_char)
                    if signed or signs:
                        _end_signs(word_signs, first_word, w, signs, operator)
                        signs = np.uint64(0)
                        signed = False
                    operator = False
                    line_ends += 1
                    raw_line_char = chars
                    if first_byte >= 0:
                        n_lines += 1
                        paragraphs += empty_before
                        if line < last_l:
                            line_start[line] = first_byte
                            line_end[line] = last_byte
                            line_chars[line] = last_char - first_char
                            line_word[line] = first_word
                            line_opens[line] = empty_before
                            line_split_words[line] = split_words - split_before
                            line += 1
                    split_before = split_words
                    empty_before = first_byte < 0
                    first_byte = np.int64(-1)
                    first_word = w
            else:
                if first_byte < 0:
                    first_byte, first_char = i, chars - 1
                last_byte, last_char = after, chars
                if (flags & INVISIBLE) == 0:
                    in_split = True
                    symbols_apart += 1
                    token = _SYMBOL if token == _WORD else _NONE
                if flags & SIGN and not (cp == 62 and w == first_word):
                    signs = (signs ^ np.uint64(cp)) * WORD_STEP
                    operator |= (flags & OPERATOR) != 0 or (
                        after < end and _is_operator(cp, text[i - 1] if i > first_byte else 10, text[after])
                    )
                if cp == 46:
                    dots += 1
                    if dots == 3:
                        ellipses += 1
                        dots = 0
                else:
                    dots = 0
                    if cp == 35:
                        hashes += 1
                    elif cp == 123 or cp == 125:
                        curly += 1
                    elif cp == 36:
                        latex += 1
                    elif cp == 92:
                        k = after
                        while k < end and (65 <= text[k] <= 90 or 97 <= text[k] <= 122):
                            k += 1
                        if k > after:
                            latex += 1 + k - after
                    elif cp == 0x2026:
                        ellipses += 1
                    elif flags & MATH:
                        symbols += 1
            i = after
        split_words += in_split
        if first_byte >= 0:
            n_lines += 1
            paragraphs += empty_before
            if line < last_l:
                line_start[line] = first_byte
                line_end[line] = last_byte
                line_chars[line] = last_char - first_char
                line_word[line] = first_word
                line_opens[line] = empty_before
                line_split_words[line] = split_words - split_before
                line += 1
        longest_line = max(longest_line, chars - raw_line_char)
        if signed or signs:
            _end_signs(word_signs, first_word, w, signs, operator)
        word_offsets[d + 1] = w
        line_offsets[d + 1] = line
        script = SPACED
        if 2 * unspaced > units:
            script = SOUTHEAST_ASIAN if 2 * southeast > unspaced else EAST_ASIAN
        n_units[d], units_per_word[d] = units, UNITS_PER_WORD[script]
        row = counts[d]
        row[BYTES] = end - begin
        row[CHARS] = chars
        words = units - unspaced + _words_of(unspaced - southeast, southeast)
        row[WORDS] = words
        # Of units without a letter, each is a word.
        row[ALPHA_WORDS] = max(words - (units - alpha_units), 0)
        row[TOKENS] = words + symbols_apart - joined_numbers
        row[SPLIT_WORDS] = split_words
        row[ALPHA_SPLIT_WORDS] = alpha_split_words + lettered
        row[WORD_CHARS] = total_word_chars
        row[LETTERS] = letters
        row[DIGITS] = digits
        row[SPACES] = spaces
        row[LINE_ENDS] = line_ends
        row[RAW_LINES] = line_ends + (chars > raw_line_char)
        row[LINES] = n_lines
        row[PARAGRAPHS] = paragraphs
        row[MAX_LINE] = longest_line
        row[MAX_WORD] = longest_word
        row[HASHES] = hashes
        row[ELLIPSES] = ellipses
        row[CURLY] = curly
        row[MATH_SYMBOLS] = symbols
        row[LATEX] = latex
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
        line_start[:line],
        line_end[:line],
        line_chars[:line],
        line_word[:line],
        line_opens[:line],
        line_split_words[:line],
    )

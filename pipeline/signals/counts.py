"""The first quality signals: integer counts per document, from one walk over its bytes.

A word is a maximal run of word characters (letters, digits, marks, underscore); in unspaced scripts every character is
one. A line is what stands between newlines and is counted if anything but white space is in it. Sources: Gopher (Rae
et al. 2021, Table A1) and C4 (Raffel et al. 2020, section 2.2) for what is counted; thresholds are the filters'.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .hashing import mix64
from .unicode import ALONE, DIGIT, LETTER, SPACE, TABLE_SIZE, WORD, decode, tables

COUNTS = (
    "n_bytes",
    "n_chars",
    "n_words",
    "n_alpha_words",
    "n_word_chars",
    "n_letters",
    "n_digits",
    "n_spaces",
    "n_lines",
    "n_paragraphs",
    "n_symbols",
    "n_stop_words",
    "n_distinct_stop_words",
    "n_bullet_lines",
    "n_ellipsis_lines",
    "n_terminal_lines",
    "n_short_lines",
    "n_duplicate_lines",
    "duplicate_line_chars",
    "max_line_chars",
    "n_curly_braces",
    "n_lorem_ipsum",
    "n_javascript",
)
"""Names of the columns, in order; all int64. n_symbols counts `#` and ellipses, n_short_lines those under 30 chars."""

(
    _BYTES,
    _CHARS,
    _WORDS,
    _ALPHA,
    _WORD_CHARS,
    _LETTERS,
    _DIGITS,
    _SPACES,
    _LINES,
    _PARAGRAPHS,
    _SYMBOLS,
    _STOPS,
    _DISTINCT_STOPS,
    _BULLETS,
    _ELLIPSES,
    _TERMINALS,
    _SHORT,
    _DUP_LINES,
    _DUP_CHARS,
    _MAX_LINE,
    _CURLY,
    _LOREM,
    _JAVASCRIPT,
) = range(len(COUNTS))

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's eight; a document with fewer than two of them is hardly English prose."""
_MARKED_WORDS = (*STOP_WORDS, "lorem", "ipsum", "javascript")
SHORT_LINE = 30
_WORD_SEED = np.uint64(0x243F6A8885A308D3)
_WORD_STEP = np.uint64(0x9E3779B97F4A7C15)


def word_hash(word: str) -> int:
    """The kernel's hash of a (folded) word: what `_step` and `mix64` make of its code points."""
    mask = (1 << 64) - 1
    h = int(_WORD_SEED)
    for char in word:
        h = ((h ^ ord(char)) * int(_WORD_STEP)) & mask
        h ^= h >> 29
    return h


@njit(cache=True, nogil=True, inline="always")
def word_start() -> np.uint64:
    return _WORD_SEED


@njit(cache=True, nogil=True, inline="always")
def word_step(h: np.uint64, folded: np.uint64) -> np.uint64:
    """Add one folded code point to the hash of a word."""
    h = (h ^ folded) * _WORD_STEP
    return h ^ (h >> np.uint64(29))


def count_batch(text: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64 [n, len(COUNTS)] of the documents ``text[offsets[i]:offsets[i + 1]]`` (uint8)."""
    classes, folded = tables()
    marked = np.array([word_hash(w) for w in _MARKED_WORDS], np.uint64)
    n = len(offsets) - 1
    longest = int(np.max(np.diff(offsets))) if n else 0
    # A line has at least two bytes with its newline; the set of line hashes stays at most half full.
    capacity = 1 << max(4, int(longest // 2 + 2).bit_length())
    seen = np.zeros(min(capacity, 1 << 22), np.uint64)
    return _count(text, offsets, classes, folded, marked, seen)


@njit(cache=True, nogil=True)
def _first_time(seen: np.ndarray, used: np.ndarray, count: int, key: np.uint64) -> bool:
    """Add a key to the open-addressing set; False if it was there (or the set is half full)."""
    mask = len(seen) - 1
    slot = np.int64(key & np.uint64(mask))
    while seen[slot] != 0:
        if seen[slot] == key:
            return False
        slot = (slot + 1) & mask
    if count < len(used):
        seen[slot] = key
        used[count] = slot
    return True


@njit(cache=True, nogil=True)
def _count(
    text: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    folded: np.ndarray,
    marked: np.ndarray,
    seen: np.ndarray,
) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros((n, 23), np.int64)
    used = np.empty(len(seen) // 2, np.int64)
    for d in range(n):
        row = out[d]
        i, end = offsets[d], offsets[d + 1]
        row[_BYTES] = end - i
        stops = 0
        in_word = alpha = False
        word = np.uint64(0)
        line_chars = 0  # without white space at either end
        trailing = 0
        line_hash = np.uint64(0)
        line_empty = True
        previous_line_empty = True
        first_cp = last_cp = before_last = before_that = np.int64(0)
        n_used = 0
        while i <= end:
            at_end = i == end
            if at_end:
                cp, i = np.int64(10), i + 1
            else:
                cp, i = decode(text, i)
                row[_CHARS] += 1
            flags = classes[cp] if cp < TABLE_SIZE else np.uint8(WORD)
            if flags & LETTER:
                row[_LETTERS] += 1
            elif flags & DIGIT:
                row[_DIGITS] += 1
            if in_word and (not flags & WORD or flags & ALONE):
                in_word = False
                row[_WORDS] += 1
                row[_ALPHA] += alpha
                for k in range(len(marked)):
                    if word == marked[k]:
                        if k < 8:
                            row[_STOPS] += 1
                            stops |= 1 << k
                        elif k == 10:
                            row[_JAVASCRIPT] += 1
                        elif k == 9:
                            row[_LOREM] += 1
            if flags & WORD:
                row[_WORD_CHARS] += 1
                if not in_word:
                    in_word, alpha = True, False
                    word = word_start()
                alpha = alpha or (flags & LETTER) != 0
                word = word_step(word, np.uint64(folded[cp]) if cp < TABLE_SIZE else np.uint64(cp))
            if (
                cp == 35
                or cp == 0x2026
                or (cp == 46 and last_cp == 46 and before_last == 46 and before_that != 46 and trailing == 0)
            ):
                row[_SYMBOLS] += 1
            elif cp == 123 or cp == 125:
                row[_CURLY] += 1
            if cp == 10:
                if not line_empty:
                    row[_LINES] += 1
                    if previous_line_empty:
                        row[_PARAGRAPHS] += 1
                    row[_MAX_LINE] = max(row[_MAX_LINE], line_chars)
                    row[_SHORT] += line_chars < SHORT_LINE
                    row[_BULLETS] += (
                        first_cp == 0x2022
                        or first_cp == 0x2023
                        or first_cp == 0x25CF
                        or first_cp == 42
                        or first_cp == 45
                    )
                    ellipsis = last_cp == 0x2026 or (last_cp == 46 and before_last == 46 and before_that == 46)
                    row[_ELLIPSES] += ellipsis
                    row[_TERMINALS] += not ellipsis and (
                        last_cp == 46 or last_cp == 33 or last_cp == 63 or last_cp == 34 or last_cp == 0x3002
                    )
                    key = mix64(line_hash) | np.uint64(1)
                    if _first_time(seen, used, n_used, key):
                        n_used = min(n_used + 1, len(used))
                    else:
                        row[_DUP_LINES] += 1
                        row[_DUP_CHARS] += line_chars
                previous_line_empty = line_empty
                line_empty, line_chars, trailing = True, 0, 0
                line_hash = np.uint64(0)
                first_cp = last_cp = before_last = before_that = np.int64(0)
                if not at_end:
                    row[_SPACES] += 1
            elif flags & SPACE:
                row[_SPACES] += 1
                if not line_empty:
                    trailing += 1
            else:
                if line_empty:
                    first_cp = cp
                    line_empty = False
                line_chars += trailing + 1
                line_hash = word_step(line_hash + np.uint64(trailing > 0), np.uint64(cp))
                if trailing:
                    before_last = before_that = np.int64(0)
                    last_cp = cp
                else:
                    before_that = before_last
                    before_last = last_cp
                    last_cp = cp
                trailing = 0
        distinct = 0
        for k in range(8):
            distinct += (stops >> k) & 1
        row[_DISTINCT_STOPS] = distinct
        for k in range(n_used):
            seen[used[k]] = 0
    return out


def quality_of(counts: np.ndarray) -> np.ndarray:
    """uint16 [n]: a first quality score, an integer formula of the counts (higher is better).

    The sum of six parts of at most 10,000 each, so at most 60,000:
      words in sentences   lines that end in terminal punctuation, of all lines
      language             distinct stop words of eight
      words                words with a letter, of all words
      letters              letters, of all characters without white space
      novelty              lines that are not repeats, of all lines
      length               log2 of the number of words, full at 4,096
    It orders documents within a domain only; a learned score takes its place without moving the column.
    """
    c = {name: counts[:, k] for k, name in enumerate(COUNTS)}

    def part(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.minimum(numerator * 10_000 // np.maximum(denominator, 1), 10_000)

    bits = np.zeros(len(counts), np.int64)
    for k in range(1, 13):
        bits += c["n_words"] >> k > 0
    score = part(c["n_terminal_lines"], c["n_lines"])
    score += c["n_distinct_stop_words"] * 1_250
    score += part(c["n_alpha_words"], c["n_words"])
    score += part(c["n_letters"], c["n_chars"] - c["n_spaces"])
    score += part(c["n_lines"] - c["n_duplicate_lines"], c["n_lines"])
    score += bits * 10_000 // 12
    return np.clip(score, 0, 65_535).astype(np.uint16)

"""Counts that datatrove's Gopher quality filter bounds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import njit

from ...pipeline.signals.hashing import TOPS, bytes_before, word_at, zero_bytes
from ...pipeline.signals.unicode import decode
from ...tokenize.spans import text_array, text_buffers
from .batch import Texts, Words
from .characters import (
    BEYOND_SPACE,
    FROM_SPACE,
    LETTER,
    LINE_END,
    PUNCTUATION,
    SIZE,
    SPACE,
    SPACES,
    characters,
    classes,
    same_bytes,
)

WORDS, PLAIN_WORDS, PLAIN_CHARS, ALPHA_WORDS, STOP_WORDS, HASHES, ELLIPSES, LINES, BULLETS, ENDS_IN_ELLIPSIS = range(10)
"""Columns. PLAIN_WORDS: words with a character that is no punctuation; PLAIN_CHARS: their characters; STOP_WORDS: different
ones; LINES: of `str.splitlines`, blank ones included."""

HASH_SIGNS, DOTS = (np.uint64(ord(char) * 0x0101010101010101) for char in "#.")
FROM_A, BEYOND_Z = (np.uint64((0x80 - b) * 0x0101010101010101) for b in (97, 123))
"""As `FROM_SPACE`."""


def quality_counts(texts: Texts, words: Words, stop_words: Iterable[str]) -> np.ndarray:
    """int64 [n, 10]."""
    data, bounds = text_buffers(text_array(sorted(stop_words)))
    out = np.zeros((len(texts), 10), np.int64)
    _words(words.data, words.offsets, words.start, words.end, classes(), data, bounds, out)
    _lines(texts.data, texts.offsets, classes(), out)
    return out


@njit(cache=True, nogil=True)
def _words(
    data: np.ndarray,
    word_offsets: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    classes: np.ndarray,
    stops: np.ndarray,
    stop_bounds: np.ndarray,
    out: np.ndarray,
) -> None:
    stop_words = len(stop_bounds) - 1
    seen = np.full(stop_words, -1, np.int64)
    # A word can only be a stop word if it begins as one.
    begins = np.zeros(256, np.bool_)
    longest = 0
    for k in range(stop_words):
        longest = max(longest, stop_bounds[k + 1] - stop_bounds[k])
        if stop_bounds[k + 1] > stop_bounds[k]:
            begins[stops[stop_bounds[k]]] = True
    for d in range(len(word_offsets) - 1):
        plain = plain_chars = alpha = distinct = 0
        for w in range(word_offsets[d], word_offsets[d + 1]):
            i, last = start[w], end[w]
            if last - i <= longest and last > i and begins[data[i]]:
                for k in range(stop_words):
                    size = stop_bounds[k + 1] - stop_bounds[k]
                    if size == last - i and seen[k] != d and same_bytes(data, i, stops, stop_bounds[k], size):
                        seen[k] = d
                        distinct += 1
            if i + 8 <= len(data):
                eight = word_at(data, i, 8)
                if last - i < 8:
                    eight &= ~(~np.uint64(0) << np.uint64(8 * (last - i)))
                # Most words have a letter of ASCII among their first bytes: then nothing else has to be known of them.
                lower = eight | SPACES
                if not eight & TOPS and (lower + FROM_A) & ~(lower + BEYOND_Z) & TOPS:
                    alpha += 1
                    plain += 1
                    plain_chars += characters(data, i, last) if last - i > 8 else last - i
                    continue
            chars = 0
            all_signs = np.uint8(PUNCTUATION)
            some = np.uint8(0)
            while i < last:
                b = data[i]
                if b < 0x80:
                    kind = classes[b]
                    i += 1
                else:
                    cp, i = decode(data, i)
                    kind = classes[cp] if cp < SIZE else np.uint8(0)
                all_signs &= kind
                some |= kind
                chars += 1
            alpha += (some & LETTER) != 0
            if chars and not all_signs:
                plain += 1
                plain_chars += chars
        row = out[d]
        row[WORDS] = word_offsets[d + 1] - word_offsets[d]
        row[PLAIN_WORDS], row[PLAIN_CHARS], row[ALPHA_WORDS], row[STOP_WORDS] = plain, plain_chars, alpha, distinct


@njit(cache=True, nogil=True, inline="always")
def _is_bullet(text: np.ndarray, first: int, last: int) -> bool:
    if text[first] == 45:  # -
        return True
    return last - first >= 3 and text[first] == 0xE2 and text[first + 1] == 0x80 and text[first + 2] == 0xA2  # •


@njit(cache=True, nogil=True, inline="always")
def _is_cut(text: np.ndarray, first: int, last: int) -> bool:
    if last - first < 3:
        return False
    a, b, c = text[last - 3], text[last - 2], text[last - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)  # ... …


@njit(cache=True, nogil=True)
def _lines(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray, out: np.ndarray) -> None:
    for d in range(len(offsets) - 1):
        i, end = offsets[d], offsets[d + 1]
        hashes = ellipses = lines = bullets = cut = dots = 0
        line = i
        first = last = np.int64(-1)  # bytes of the line without white space around it
        while i <= end:
            # The end of a text that does not end in a line end is one.
            ended = i == end
            at = i
            if not ended:
                if i + 8 <= end:
                    eight = word_at(text, i, 8)
                    odd = eight | ~(eight + FROM_SPACE) | zero_bytes(eight ^ DOTS) | zero_bytes(eight ^ HASH_SIGNS)
                    if not odd & TOPS:
                        shown = (eight + BEYOND_SPACE) & TOPS
                        if shown:
                            if first < 0:
                                first = i + bytes_before(shown)
                            last = i + 8
                            while not shown >> np.uint64(63):
                                shown <<= np.uint64(8)
                                last -= 1
                        dots = 0
                        i += 8
                        continue
                b = text[i]
                if b < 0x80:
                    kind = classes[b]
                    i += 1
                    if b == 46:
                        dots += 1
                        if dots == 3:
                            ellipses += 1
                            dots = 0
                    else:
                        dots = 0
                        hashes += b == 35
                else:
                    cp, i = decode(text, i)
                    kind = classes[cp] if cp < SIZE else np.uint8(0)
                    dots = 0
                    ellipses += cp == 0x2026
                if not kind & SPACE:
                    if first < 0:
                        first = at
                    last = i
                ended = (kind & LINE_END) != 0
                if ended and text[at] == 13 and i < end and text[i] == 10:
                    i += 1
            elif line == end:
                break
            else:
                i += 1
            if ended:
                lines += 1
                if first >= 0:
                    bullets += _is_bullet(text, first, last)
                    cut += _is_cut(text, first, last)
                line = i
                first = last = np.int64(-1)
        row = out[d]
        row[HASHES], row[ELLIPSES], row[LINES], row[BULLETS], row[ENDS_IN_ELLIPSIS] = (
            hashes,
            ellipses,
            lines,
            bullets,
            cut,
        )

"""What segmentation does at the end of a line, and the signs of lines of code and formulas (segment.py defines both)."""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

from .characters import (
    EMPTY_BEFORE,
    FIRST_BYTE,
    FIRST_CHAR,
    FIRST_WORD,
    LAST_BYTE,
    LAST_CHAR,
    LAST_LINE,
    LINE_AT,
    LINE_CHAR,
    LINE_CHARS,
    LINE_END,
    LINE_OPENS,
    LINE_SPLIT_WORDS,
    LINE_START,
    LINE_WORD,
    LINES,
    MAX_LINE,
    OPERATORS,
    PARAGRAPHS,
    SPLIT_BEFORE,
)
from .hashing import mix64
from .leaf import leaf
from .unicode import SIGN, class_of, decode
from .word_hashes import WORD_STEP

_ASCII_WORD = np.zeros(256, np.bool_)
_ASCII_WORD[[*b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"]] = True
_GREATER = ord(">")


@njit(cache=True, nogil=True, inline="always")
def is_operator(cp: int, before: int, after: int) -> bool:
    """Whether an ASCII sign that prose has as well, between these bytes of its line, is one of code or a formula."""
    if before == 32 and after == 32:
        return cp == 42 or cp == 47 or cp == 37 or cp == 38
    if not _ASCII_WORD[after]:
        return False
    return (cp == 42 and _ASCII_WORD[before]) or (cp == 33 and not _ASCII_WORD[before] and before < 0x80)


@njit(cache=True, nogil=True, inline="always")
def _signs_between(
    text: np.ndarray, start: int, end: int, classes: np.ndarray, quoted: bool, signs: np.uint64
) -> np.uint64:
    """A hash of the signs between two words.

    Args:
        quoted: before the first word of a line, where `>` is none.
    """
    i = start
    while i < end:
        cp, i = decode(text, i)
        if class_of(classes, cp) & SIGN and not (quoted and cp == _GREATER):
            signs = (signs ^ np.uint64(cp)) * WORD_STEP
    return signs


@leaf
def _sign_words(
    text: np.ndarray,
    start: int,
    end: int,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_signs: np.ndarray,
    first: int,
    last: int,
    classes: np.ndarray,
) -> None:
    """Give the words of a line the signs before them, and those after the last word to it.

    Args:
        start: the line's first byte that is not white space, and `end` the byte after the last.
    """
    at = start
    for w in range(first, last):
        signs = _signs_between(text, at, word_start[w], classes, w == first, np.uint64(0))
        if signs:
            word_signs[w] = mix64(signs)
        at = word_end[w]
    after = _signs_between(text, at, end, classes, first == last, np.uint64(0))
    if after and last > first:
        word_signs[last - 1] = mix64(word_signs[last - 1] ^ (after * WORD_STEP))


@leaf
def end_line(
    text: np.ndarray,
    state: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_signs: np.ndarray,
    lines: np.ndarray,
    classes: np.ndarray,
    word: int,
    chars: int,
    after: int,
    split_words: int,
) -> None:
    """End a line: add it to the lines, unless it is empty, and begin the next.

    Args:
        word: the next word.
        chars: characters up to the line end, and `after` with it.
        split_words: of the document up to here.
    """
    state[MAX_LINE] = max(state[MAX_LINE], chars - state[LINE_CHAR])
    first_byte, first_word = state[FIRST_BYTE], state[FIRST_WORD]
    if first_byte >= 0:
        if state[OPERATORS]:
            _sign_words(text, first_byte, state[LAST_BYTE], word_start, word_end, word_signs, first_word, word, classes)
        opens = state[EMPTY_BEFORE]
        state[LINES] += 1
        state[PARAGRAPHS] += opens
        line = state[LINE_AT]
        if line < state[LAST_LINE]:
            lines[line, LINE_START] = first_byte
            lines[line, LINE_END] = state[LAST_BYTE]
            lines[line, LINE_CHARS] = state[LAST_CHAR] - state[FIRST_CHAR]
            lines[line, LINE_WORD] = first_word
            lines[line, LINE_OPENS] = opens
            lines[line, LINE_SPLIT_WORDS] = split_words - state[SPLIT_BEFORE]
            state[LINE_AT] = line + 1
    state[EMPTY_BEFORE] = first_byte < 0
    state[LINE_CHAR] = after
    state[SPLIT_BEFORE] = split_words
    state[FIRST_BYTE] = -1
    state[FIRST_WORD] = word
    state[OPERATORS] = 0

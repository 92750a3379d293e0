"""Segmentation of plain text, 64 bytes at a time: of printable ASCII characters, spaces, tabs and line feeds.

Each class of characters is a mask of 64 bits, and what segment.py counts follows from shifts, sums and counts of bits. Where a
run of bits ends, adding a bit within it carries out of it: that tells runs with a letter from those without. A word that may go
on after the 64 bytes is left to the next ones, so that none is ever begun.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np

from ...tokenize.vectors import LANES, byte_class, leading_zeros, ones, trailing_zeros
from .characters import (
    ALPHA_SPLIT_WORDS,
    ALPHA_TOKEN,
    ALPHA_UNITS,
    CHARS,
    CURLY,
    DIGITS,
    DOTS,
    ELLIPSES,
    FIRST_BYTE,
    FIRST_CHAR,
    FIRST_WORD,
    HASHES,
    IN_SPLIT,
    LAST_BYTE,
    LAST_CHAR,
    LAST_WORD,
    LATEX,
    LETTERED,
    LETTERS,
    LINE_ENDS,
    MAX_WORD,
    NO_TOKEN,
    OPERATORS,
    SPACES,
    SPLIT_WORDS,
    SYMBOL_TOKEN,
    TOKEN,
    TOKENS,
    UNITS,
    WORD_AT,
    WORD_CHARS,
    WORD_TOKEN,
)
from .leaf import leaf
from .lines import end_line, is_operator
from .word_hashes import Abreast, hash_ascii_words

LEAST = 16
"""Plain bytes in a row for which a mask pays."""

plain_bytes = byte_class((9, 10), (32, 126))
letter_bytes = byte_class((65, 90), (97, 122))
digit_bytes = byte_class((48, 57))
underscore_bytes = byte_class((95, 95))
blank_bytes = byte_class((9, 10), (32, 32))
newline_bytes = byte_class((10, 10))
dot_bytes = byte_class((46, 46))
hash_bytes = byte_class((35, 35))
dollar_bytes = byte_class((36, 36))
backslash_bytes = byte_class((92, 92))
curly_bytes = byte_class((123, 123), (125, 125))
operator_bytes = byte_class((43, 43), (60, 62), (92, 92), (94, 94), (123, 126))
perhaps_operator_bytes = byte_class((33, 33), (37, 38), (42, 42), (47, 47))
greater_bytes = byte_class((62, 62))
"""Classes of 64 bytes. Of operators + < = > \\ ^ { | } ~, and of what may be one ! % & * / (unicode.py, lines.py)."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)


@leaf
def _below(bit: int) -> np.uint64:
    """The bits below one of 0 to 64."""
    return _ALL if bit >= LANES else (_ONE << np.uint64(bit)) - _ONE


@leaf
def _bit(mask: np.uint64, bit: int) -> np.int64:
    return np.int64((mask >> np.uint64(bit)) & _ONE)


@leaf
def _count_dots(state: np.ndarray, dots: np.uint64, size: int) -> None:
    """Count ellipses: three full stops in a row are one."""
    before = state[DOTS]
    after = 0
    while dots:
        first = trailing_zeros(dots)
        run = trailing_zeros(~(dots >> np.uint64(first)))
        count = run + before if first == 0 else run
        state[ELLIPSES] += count // 3
        if first + run >= size:
            after = count % 3
        dots &= ~_below(first + run)
    state[DOTS] = after


@leaf
def _count_commands(text: np.ndarray, i: int, end: int, state: np.ndarray, backslashes: np.uint64) -> None:
    """Count the characters of LaTeX commands that begin among the bytes from i on."""
    while backslashes:
        first = i + trailing_zeros(backslashes) + 1
        backslashes &= backslashes - _ONE
        k = first
        while k < end and (65 <= text[k] <= 90 or 97 <= text[k] <= 122):
            k += 1
        if k > first:
            state[LATEX] += 1 + k - first


@leaf
def _join_tokens(state: np.ndarray, joins: np.uint64, ends: np.uint64, lettered_ends: np.uint64, size: int) -> None:
    """Count as one token two words with one symbol between them, unless both have a letter, and note whether what ends last
    has one.

    Args:
        joins: first bytes of words that such a symbol is before.
        ends: bytes after words, and `lettered_ends` those after words with a letter.
    """
    last_end = -2
    alpha = np.int64(0)
    while joins:
        start = trailing_zeros(joins)
        joins &= joins - _ONE
        if start - 1 == last_end:
            before = alpha
        elif start < 2:
            before = state[ALPHA_TOKEN]  # of a word before these bytes
        else:
            before = _bit(lettered_ends, start - 1)
        last_end = start + trailing_zeros(ends >> np.uint64(start))
        own = _bit(lettered_ends, last_end)
        if not own & before:
            state[TOKENS] -= 1
        alpha = own | before
    if last_end != size - 1:
        alpha = _bit(lettered_ends, size - 1)
    state[ALPHA_TOKEN] = alpha


@leaf
def _has_operator(text: np.ndarray, i: int, end: int, first_byte: int, candidates: np.uint64) -> bool:
    """Whether one of the candidates among the bytes from i on is an operator."""
    while candidates:
        at = i + trailing_zeros(candidates)
        candidates &= candidates - _ONE
        if at + 1 < end and is_operator(text[at], text[at - 1] if at > first_byte else np.uint8(10), text[at + 1]):
            return True
    return False


@leaf
def walk_plain(
    text: np.ndarray,
    begin: int,
    end: int,
    state: np.ndarray,
    word_hash: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    word_chars: np.ndarray,
    word_signs: np.ndarray,
    lines: np.ndarray,
    classes: np.ndarray,
    room: Abreast,
) -> int:
    """Segment the plain text of a document from a byte on that no word goes on at.

    Returns:
        The byte up to which it was done, at which no word goes on either.
    """
    i = begin
    w = state[WORD_AT]
    first_new, last_word = w, state[LAST_WORD]
    chars, split_words = state[CHARS], state[SPLIT_WORDS]
    longest = state[MAX_WORD]
    letters = digits = spaces = in_words = units = alpha_units = tokens = lettered_splits = np.int64(0)
    in_split, lettered = np.uint64(state[IN_SPLIT]), np.uint64(state[LETTERED])
    token = state[TOKEN]
    while i + LANES <= end:
        letter, digit = letter_bytes(text, i), digit_bytes(text, i)
        word = letter | digit | underscore_bytes(text, i)
        plain = _below(trailing_zeros(~plain_bytes(text, i)))
        size = LANES - leading_zeros(plain & ~word)
        if size < LEAST:
            break
        inside = _below(size)
        letter, digit, word = letter & inside, digit & inside, word & inside
        blank = blank_bytes(text, i) & inside
        visible = inside & ~blank
        symbol = visible & ~word
        letters += ones(letter)
        digits += ones(digit)
        spaces += ones(blank)
        in_words += ones(word)

        starts, ends = word & ~(word << _ONE), ~word & (word << _ONE)
        lettered_ends = (word + letter) & ends
        units += ones(starts)
        alpha_units += ones(lettered_ends)
        open_starts, open_ends = starts, ends
        before_block = w
        while open_starts:
            start, stop = trailing_zeros(open_starts), trailing_zeros(open_ends)
            open_starts &= open_starts - _ONE
            open_ends &= open_ends - _ONE
            longest = max(longest, stop - start)
            if w < last_word:
                word_start[w], word_end[w] = i + start, i + stop
                word_chars[w] = stop - start
                word_signs[w] = np.uint64(0)
                w += 1

        # Tokens: one symbol between two words is none.
        single = symbol & (word << _ONE | np.uint64(token == WORD_TOKEN)) & (word >> _ONE)
        joins = single << _ONE | (np.uint64(token == SYMBOL_TOKEN) & word)
        tokens += ones(symbol) - ones(joins)
        last = np.uint64(size - 1)
        after_word = (word >> (last - _ONE)) & _ONE
        if joins:
            _join_tokens(state, joins, ends, lettered_ends, size)
        else:
            state[ALPHA_TOKEN] = _bit(lettered_ends, size - 1)
        token = SYMBOL_TOKEN if (symbol >> last) & after_word & _ONE else NO_TOKEN

        # What `str.split` finds, and what of it has a letter.
        split_ends = blank & (visible << _ONE | in_split)
        reached = visible + (letter | (lettered & visible))
        lettered_splits += ones(reached & blank) + np.int64(lettered & ~visible & _ONE)
        in_split = (visible >> last) & _ONE
        lettered = np.uint64(reached < visible) if size == LANES else (reached >> np.uint64(size)) & _ONE

        dots = dot_bytes(text, i) & inside
        if (dots & (dots >> _ONE)) != 0 or (state[DOTS] != 0 and (dots & _ONE) != 0):
            _count_dots(state, dots, size)
        else:
            state[DOTS] = _bit(dots, size - 1)
        state[HASHES] += ones(hash_bytes(text, i) & inside)
        state[CURLY] += ones(curly_bytes(text, i) & inside)
        state[LATEX] += ones(dollar_bytes(text, i) & inside)
        backslashes = backslash_bytes(text, i) & inside
        if backslashes:
            _count_commands(text, i, end, state, backslashes)

        # Lines, one after another.
        newlines = newline_bytes(text, i) & inside
        operators, perhaps = operator_bytes(text, i) & inside, perhaps_operator_bytes(text, i) & inside
        state[LINE_ENDS] += ones(newlines)
        from_ = np.int64(0)
        while True:
            stop = trailing_zeros(newlines) if newlines else size
            line = _below(stop) & ~_below(from_)
            shown = visible & line
            if shown:
                if state[FIRST_BYTE] < 0:
                    first = trailing_zeros(shown)
                    state[FIRST_BYTE], state[FIRST_CHAR] = i + first, chars + first
                after = LANES - leading_zeros(shown)
                state[LAST_BYTE], state[LAST_CHAR] = i + after, chars + after
                if state[OPERATORS] == 0 and ((operators | perhaps) & line) != 0:
                    own = operators & line
                    if own != 0 and state[FIRST_WORD] >= before_block + ones(starts & _below(from_)):
                        # No word of the line is before these bytes: `>` before the first is none.
                        quotes = greater_bytes(text, i) & _below(trailing_zeros(starts & line))
                        own &= ~quotes
                    state[OPERATORS] = own != 0 or _has_operator(text, i, end, state[FIRST_BYTE], perhaps & line)
            if not newlines:
                break
            newlines &= newlines - _ONE
            from_ = stop + 1
            end_line(
                text,
                state,
                word_start,
                word_end,
                word_signs,
                lines,
                classes,
                min(before_block + ones(starts & _below(stop)), last_word),
                chars + stop,
                chars + stop + 1,
                split_words + ones(split_ends & _below(from_)),
            )
        split_words += ones(split_ends)
        chars += size
        i += size
    state[WORD_AT], state[CHARS], state[SPLIT_WORDS], state[MAX_WORD] = w, chars, split_words, longest
    state[LETTERS] += letters
    state[DIGITS] += digits
    state[SPACES] += spaces
    state[WORD_CHARS] += in_words
    state[UNITS] += units
    state[ALPHA_UNITS] += alpha_units
    state[TOKENS] += tokens
    state[ALPHA_SPLIT_WORDS] += lettered_splits
    state[IN_SPLIT], state[LETTERED], state[TOKEN] = np.int64(in_split), np.int64(lettered), token
    hash_ascii_words(text, word_start, word_end, word_hash, first_new, w, room)
    return i

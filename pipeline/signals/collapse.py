"""The form of a text whose hash is its content hash: every run of white space as one space, none at its ends.

What this changes is noted: of every run that is not one space between others, where it stands and what it is. Form and notes
together are the text, no more and no less. So the hash of a text itself is made of the hash of its form and of its notes,
which are short, and no byte is hashed twice.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

from .blake3 import hash_texts
from .hashing import TOPS, bytes_before, word_at, zero_bytes
from .leaf import leaf
from .unicode import SPACE, decode, tables

HASH_BYTES = 16


def text_hashes(text: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 [n, 2], uint64 [n, 2]): the hashes of the documents' collapsed forms, and those of the documents themselves.

    The hash of a document is that of the hash of its form, followed by its notes.

    Args:
        text: uint8, UTF-8.
        offsets: int64 [n + 1], where the documents begin and end in it.
    """
    forms, bounds, notes, note_bounds = _collapse_all(text, offsets, tables()[0])
    content = hash_texts(forms, bounds)
    notes[note_bounds[:-1, None] + np.arange(HASH_BYTES)] = content.view(np.uint8)
    return content, hash_texts(notes, note_bounds)


def content_hashes(text: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [n, 2]: the content hashes of NFC documents ``text[offsets[d]:offsets[d + 1]]``."""
    return text_hashes(text, offsets)[0]


_SPACE_BYTES = np.zeros(256, np.uint8)
_SPACE_BYTES[[*range(9, 14), *range(28, 33)]] = 1
_SPACE_BYTES[[0xC2, 0xE1, 0xE2, 0xE3]] = 2
"""1: white space; 2: first byte of characters among which is white space."""
_BLANKS, _C2, _E0, _FC = (np.uint64(b * 0x0101010101010101) for b in (ord(" "), 0xC2, 0xE0, 0xFC))


@njit(cache=True, nogil=True)
def _collapse_all(
    text: np.ndarray, offsets: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(uint8, int64 [n + 1], uint8, int64 [n + 1]): the collapsed forms back to back, where they begin and end; the same of
    the notes, each after `HASH_BYTES` that are left free."""
    n = len(offsets) - 1
    size = offsets[n] - offsets[0]
    forms = np.empty(size, np.uint8)
    # Neither number of a note takes more bytes than it counts, but for a 0 at the beginning.
    notes = np.empty(2 * size + (HASH_BYTES + 1) * n, np.uint8)
    bounds, note_bounds = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    for d in range(n):
        at = note_bounds[d] + HASH_BYTES
        written, noted = _collapse(text, offsets[d], offsets[d + 1], classes, forms[bounds[d] :], notes[at:])
        bounds[d + 1], note_bounds[d + 1] = bounds[d] + written, at + noted
    return forms, bounds, notes, note_bounds


@leaf
def _put_number(value: int, out: np.ndarray, at: int) -> int:
    """Write a number with seven bits to a byte, the lowest first; the place after it."""
    while value >= 128:
        out[at] = np.uint8(value & 127 | 128)
        value >>= 7
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@leaf
def _note(text: np.ndarray, first: int, last: int, distance: int, out: np.ndarray, at: int) -> int:
    """Note a run of white space: how far it is from the one before in the form, its bytes and how many they are."""
    at = _put_number(distance, out, at)
    at = _put_number(last - first, out, at)
    for k in range(first, last):
        out[np.uint64(at)] = text[np.uint64(k)]
        at += 1
    return at


@leaf
def _collapse(
    text: np.ndarray, begin: int, end: int, classes: np.ndarray, out: np.ndarray, notes: np.ndarray
) -> tuple[int, int]:
    """Copy a document with white space runs as one space, stripped; returns the bytes written, and those of notes."""
    size = noted = last_note = 0
    after_space = np.uint64(1)
    i = begin
    while i < end:
        if i + 8 <= end:
            # Eight bytes at a time, up to the first that may be white space and is not one space between others.
            word = word_at(text, i, 8)
            blank = zero_bytes(word ^ _BLANKS)
            odd = ((word - _BLANKS) & ~word & TOPS) | (blank & (blank << np.uint64(8) | after_space << np.uint64(7)))
            if word & TOPS:
                odd |= zero_bytes(word ^ _C2) | (zero_bytes(word & _FC ^ _E0) & ~zero_bytes(word ^ _E0))
            for k in range(8):
                out[np.uint64(size + k)] = np.uint8(word >> np.uint64(8 * k))
            if odd == 0:
                size += 8
                i += 8
                after_space = blank >> np.uint64(63)
                continue
            before = bytes_before(odd)
            size += before
            i += before
        first = i
        kind = _SPACE_BYTES[text[i]]
        i += 1
        if kind == 2:
            cp, i = decode(text, first)
            kind = np.uint8(classes[cp] & SPACE)
        after_space = np.uint64(0)
        if kind == 0:
            for k in range(first, i):
                out[np.uint64(size)] = text[np.uint64(k)]
                size += 1
            continue
        if size and out[size - 1] == 32:
            first -= 1
            size -= 1
        while i < end:
            kind = _SPACE_BYTES[text[i]]
            after = i + 1
            if kind == 2:
                cp, after = decode(text, i)
                kind = np.uint8(classes[cp] & SPACE)
            if kind == 0:
                break
            i = after
        between = size > 0 and i < end
        if not between or i - first > 1 or text[first] != 32:
            noted = _note(text, first, i, size - last_note, notes, noted)
            last_note = size
        if between:
            out[size] = np.uint8(32)
            size += 1
    if size and out[size - 1] == 32:
        size -= 1
        noted = _note(text, end - 1, end, size - last_note, notes, noted)
    return size, noted

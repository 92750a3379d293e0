"""E-mail addresses: the local part before an @, and the domain after it. Kernels over bytes, as in matchers.py.

Letters of other scripts belong to both parts (RFC 6531), but those of scripts without spaces to neither: there, text goes on
without a gap. Invisible characters are passed over.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np

from .hashing import mix64
from .leaf import leaf
from .matchers import is_among, is_named
from .unicode import ALONE, DIGIT, INVISIBLE, LETTER, MARK, class_of, decode
from .word_hashes import WORD_SEED, WORD_STEP

MAX_LOCAL = 64
"""Bytes of the longest local part (RFC 5321)."""


@leaf
def match_email(
    text: np.ndarray,
    at: int,
    begin: int,
    end: int,
    local: np.ndarray,
    alnum: np.ndarray,
    top_level: np.ndarray,
    accounts: np.ndarray,
    classes: np.ndarray,
) -> tuple[int, int]:
    """(start, end) of the address around the @ at `at`, or (-1, -1).

    Args:
        local: bool [256], bytes of a local part.
        top_level: names of domains, as `is_named` takes them.
        accounts: local parts that are nobody's.
        classes: of unicode.py.
    """
    start = _local_start(text, at, begin, local, alnum, classes)
    if not 1 <= at - start <= MAX_LOCAL or is_named(text, start, at, accounts):
        return -1, -1
    stop = _domain_end(text, at + 1, end, alnum, top_level, classes)
    if stop < 0 or _is_path(text, stop, end, alnum):
        return -1, -1
    return start, stop


@leaf
def _local_start(
    text: np.ndarray, at: int, begin: int, local: np.ndarray, alnum: np.ndarray, classes: np.ndarray
) -> int:
    """Where the local part before an @ begins."""
    if at > begin and text[at - 1] == 34:  # "in quotes"
        start = at - 2
        while start > max(begin, at - MAX_LOCAL) and text[start] != 34 and text[start] != 10:
            start -= 1
        quoted = begin <= start < at - 2 and text[start] == 34 and not (start > begin and alnum[text[start - 1]])
        return start if quoted else at
    start = at
    while start > begin:
        b = text[start - 1]
        if local[b]:
            start -= 1
        elif b == 39 and begin < start - 1 and start < at and alnum[text[start]] and alnum[text[start - 2]]:
            start -= 1  # o'neil
        elif b >= 128:
            lead = start - 1
            while lead > begin and text[lead] & 0xC0 == 0x80:
                lead -= 1
            kind = class_of(classes, decode(text, lead)[0])
            if not kind & INVISIBLE and (not kind & (LETTER | MARK) or kind & ALONE):
                break
            start = lead
        else:
            break
    return start


@leaf
def _domain_end(
    text: np.ndarray, i: int, end: int, alnum: np.ndarray, top_level: np.ndarray, classes: np.ndarray
) -> int:
    """End of the domain that begins at i, after its last top-level domain, or -1."""
    best = -1
    labels = 0
    while True:
        first = i
        h = WORD_SEED
        size = 0
        hyphen = foreign = False  # the label so far ends with a hyphen; it has a letter of another script
        while i < end:
            b = text[i]
            after = i + 1
            if b >= 128:
                cp, after = decode(text, i)
                kind = class_of(classes, cp)
                if kind & INVISIBLE:
                    i = after
                    continue
                if kind & ALONE or not kind & (LETTER | MARK | DIGIT):
                    break
                # What is written in other letters may follow an address without a gap.
                if not foreign and labels and size and is_among(mix64(h), top_level):
                    best = i
                foreign = True
            elif b == 45:
                if (
                    labels
                    and size
                    and not hyphen
                    and not (i + 1 < end and alnum[text[i + 1]])
                    and is_among(mix64(h), top_level)
                ):
                    best = i
            elif not alnum[b]:
                break
            hyphen = b == 45
            for k in range(i, after):
                h = (h ^ np.uint64(text[k] | 32 if text[k] < 128 else text[k])) * WORD_STEP
            size += after - i
            i = after
        if not size or size > 63 or hyphen or text[first] == 45:
            break
        labels += 1
        if labels == 1 and size == 2 and text[first] <= 57 and text[first + 1] == 120:
            return -1  # logo@2x.png: a picture for dense screens
        # An operator and a method are none: a@b.to(c)
        if labels > 1 and is_among(mix64(h), top_level) and not (i < end and text[i] == 40):
            best = i
        if i >= end or text[i] != 46:
            break
        i += 1
    return best


@leaf
def _is_path(text: np.ndarray, stop: int, end: int, alnum: np.ndarray) -> bool:
    """Whether a host ends there and a path on it follows, as in user@host:folder/file."""
    if stop + 1 >= end or text[stop] != 58:
        return False
    i = stop + 1
    port = True
    while i < min(end, stop + MAX_LOCAL) and (alnum[text[i]] or text[i] == 95 or text[i] == 46 or text[i] == 45):
        port = port and 48 <= text[i] <= 57
        i += 1
    if i >= end or (port and i > stop + 1):
        return False
    return bool(text[i] == 47 or (text[i] == 126 and i == stop + 1))

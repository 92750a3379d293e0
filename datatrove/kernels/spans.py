"""Where an e-mail or IP address may stand: runs of the characters that datatrove's patterns match, with the signs they need.

A pattern can match nothing beyond a run, so it is tried on runs alone; where it begins and ends it says itself.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .batch import Texts

_EMAIL = np.zeros(256, np.bool_)
_EMAIL[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-.@[]:"]] = True
_IP = np.zeros(256, np.bool_)
_IP[[*b"0123456789."]] = True


def email_runs(texts: Texts) -> np.ndarray:
    """int64 [runs, 3] of (document, begin, end), in characters: with an @."""
    return _runs(texts.data, texts.offsets, _EMAIL, ord("@"), 1)


def ip_runs(texts: Texts) -> np.ndarray:
    """int64 [runs, 3] of (document, begin, end), in characters: of digits and at least three dots."""
    return _runs(texts.data, texts.offsets, _IP, ord("."), 3)


@njit(cache=True, nogil=True)
def _runs(text: np.ndarray, offsets: np.ndarray, members: np.ndarray, sign: int, least: int) -> np.ndarray:
    found = np.empty((64, 3), np.int64)
    count = 0
    for d in range(len(offsets) - 1):
        begin, end = offsets[d], offsets[d + 1]
        counted, chars = begin, 0  # characters before a byte
        after = begin  # of the last run
        i = begin
        while i < end:
            # From a sign back to where its run begins: most of a text has none, and is passed over quickly.
            if text[np.uint64(i)] != sign:
                i += 1
                continue
            first = i
            while first > after and members[text[first - 1]]:
                first -= 1
            signs = 0
            while i < end and members[text[i]]:
                signs += text[i] == sign
                i += 1
            after = i
            if signs < least:
                continue
            while counted < first:
                chars += (text[counted] & 0xC0) != 0x80
                counted += 1
            if count == len(found):
                grown = np.empty((2 * count, 3), np.int64)
                grown[:count] = found
                found = grown
            # The characters of a run are bytes.
            found[count, 0], found[count, 1], found[count, 2] = d, chars, chars + i - first
            count += 1
    return found[:count]

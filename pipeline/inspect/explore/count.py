"""The kernels behind cross-filtered histograms, over bytes: documents that a selection takes, and how many lie in each bin.

A histogram shows the documents that pass every filter but its own. So each document gets a state: 0 if it passes all, the number
of the filter if it fails that one alone, `OUT` if it fails more. Histograms are counted over the documents of state 0, and those
that have a filter also over the ones that fail that one alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OUT = 255
"""State of documents that fail several filters, or one that no histogram shows."""
BINS = 256


@njit(cache=True, nogil=True)
def judge(
    codes: np.ndarray,
    rows: np.ndarray,
    allowed: np.ndarray,
    state: np.ndarray,
    kept: np.ndarray,
    first: int,
    end: int,
) -> tuple[int, int]:
    """Write the state of documents ``first .. end``; returns how many pass, and how many of them are kept.

    Args:
        codes: uint8 [columns, documents].
        rows: int64 [filters]: the column of each.
        allowed: bool [filters, BINS]: what passes each.
        state: uint8 [documents]; what is `OUT` already, stays.
        kept: uint8 [documents], 0 or 1.
    """
    passed = stay = 0
    for i in range(first, end):
        if state[i] == OUT:
            continue
        fails = which = 0
        for f in range(len(rows)):
            if not allowed[f, codes[rows[f], i]]:
                fails += 1
                which = f + 1
        state[i] = which if fails < 2 else OUT
        passed += fails == 0
        stay += (fails == 0) & (kept[i] != 0)
    return passed, stay


@njit(cache=True, nogil=True)
def list_places(
    state: np.ndarray, kept: np.ndarray, inside: bool, first: int, end: int, out: np.ndarray
) -> tuple[int, int]:
    """Write the places of documents ``first .. end`` that pass all filters, the dropped ones and the kept ones; how many they are.

    Args:
        state: uint8 [documents] of `judge`.
        kept: uint8 [documents], 0 or 1.
        inside: those that pass; else those that do not.
        out: int32 [2, end - first + 1].
    """
    dropped = stay = 0
    for i in range(first, end):
        # Written whether it counts or not: nothing could predict a branch.
        out[0, dropped] = i
        out[1, stay] = i
        counts = (state[i] == 0) == inside
        dropped += counts & (kept[i] == 0)
        stay += counts & (kept[i] != 0)
    return dropped, stay


@njit(cache=True, nogil=True)
def count_pair(first: np.ndarray, second: np.ndarray, places: np.ndarray, bins: int, tables: np.ndarray) -> None:
    """Add documents to a table of two columns at once: half as many additions as each by itself, and the table stays in a core's
    nearest cache.

    Args:
        first, second: uint8 [documents].
        places: int32: the documents.
        bins: of the second column.
        tables: uint32 [2, bins of both], used in turn: equal neighbours would wait for each other's addition.
    """
    even, odd = tables[0], tables[1]
    for j in range(len(places) // 2):
        a, b = places[2 * j], places[2 * j + 1]
        even[np.int64(first[a]) * bins + second[a]] += np.uint32(1)
        odd[np.int64(first[b]) * bins + second[b]] += np.uint32(1)
    if len(places) % 2:
        a = places[len(places) - 1]
        even[np.int64(first[a]) * bins + second[a]] += np.uint32(1)


@njit(cache=True, nogil=True)
def count_own(column: np.ndarray, state: np.ndarray, own: int, kept: np.ndarray) -> np.ndarray:
    """Documents that fail one filter alone, by whether they are kept and by their bin in its column: int64 [2, BINS].

    Args:
        own: the number of the filter.
    """
    out = np.zeros((2, BINS), np.int64)
    for i in range(len(state)):
        if state[i] == own:
            out[kept[i], column[i]] += 1
    return out


@njit(cache=True, nogil=True)
def count_names(codes: np.ndarray, state: np.ndarray, own: int, kept: np.ndarray, names: int) -> np.ndarray:
    """Documents by whether they are kept and by name, of those that pass all filters but the one on their names.

    Args:
        codes: uint32 [documents]: the name of each.
        own: the number of the filter on names; 0: there is none.
        names: how many there are.

    Returns:
        int64 [2, names].
    """
    out = np.zeros((2, names), np.int64)
    for i in range(len(codes)):
        if state[i] == 0 or state[i] == own:
            out[kept[i], codes[i]] += 1
    return out

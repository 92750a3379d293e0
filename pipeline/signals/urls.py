"""URL rules: block lists of domains and of words, matched against every document's URL.

A list file has one entry a line; `#` begins a comment. An entry with a dot is a domain, which blocks its subdomains too;
one without is a word, which blocks where it stands between characters that are no letters or digits, anywhere in the URL.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from .hashing import hash_bytes

NOT_BLOCKED, BY_DOMAIN, BY_WORD = 0, 1, 2


@dataclass(frozen=True)
class UrlRules:
    """Hashes of blocked domains and words."""

    domains: np.ndarray
    """uint64, ascending."""
    words: np.ndarray
    """uint64, ascending."""


def parse_rules(lines: Iterable[str]) -> UrlRules:
    """Rules of list files.

    Raises:
        ValueError: an entry is neither a domain nor a word.
    """
    domains: list[int] = []
    words: list[int] = []
    for number, line in enumerate(lines, 1):
        entry = line.split("#")[0].strip().lower()
        if not entry:
            continue
        if not entry.isascii() or not all(c.isalnum() or c in ".-_" for c in entry):
            raise ValueError(f"line {number}: {entry!r} is neither a domain (example.com) nor a word")
        data = np.frombuffer(entry.strip(".").encode(), np.uint8)
        (domains if "." in entry else words).append(int(hash_bytes(data, 0, len(data))))
    return UrlRules(np.unique(np.array(domains, np.uint64)), np.unique(np.array(words, np.uint64)))


def blocked(urls: pa.StringArray, rules: UrlRules) -> np.ndarray:
    """uint8 [n]: NOT_BLOCKED, BY_DOMAIN or BY_WORD."""
    if not len(rules.domains) and not len(rules.words):
        return np.zeros(len(urls), np.uint8)
    column = urls.cast(pa.large_string())
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(urls) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    longest = int(np.max(np.diff(bounds))) if len(urls) else 0
    return _blocked(text, bounds, rules.domains, rules.words, np.empty(longest, np.uint8))


@njit(cache=True, nogil=True)
def _in(table: np.ndarray, key: np.uint64) -> bool:
    at = np.searchsorted(table, key)
    return bool(at < len(table) and table[at] == key)


@njit(cache=True, nogil=True)
def _blocked(
    text: np.ndarray, offsets: np.ndarray, domains: np.ndarray, words: np.ndarray, lower: np.ndarray
) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros(n, np.uint8)
    for d in range(n):
        begin = offsets[d]
        size = offsets[d + 1] - begin
        for i in range(size):
            b = text[begin + i]
            lower[i] = b + 32 if 65 <= b <= 90 else b
        # The host: after "//", before the next / ? #; without user (up to @) and port (from :).
        host = 0
        for i in range(size - 1):
            if lower[i] == 47 and lower[i + 1] == 47:
                host = i + 2
                break
        end = host
        while end < size and lower[end] != 47 and lower[end] != 63 and lower[end] != 35:
            if lower[end] == 64:
                host = end + 1
            end += 1
        stop = host
        while stop < end and lower[stop] != 58:
            stop += 1
        while stop > host and lower[stop - 1] == 46:
            stop -= 1
        at = host
        while at < stop:
            if (at == host or lower[at - 1] == 46) and _in(domains, hash_bytes(lower, at, stop)):
                out[d] = 1
                break
            at += 1
        if out[d]:
            continue
        first = 0
        for i in range(size + 1):
            if i < size and (48 <= lower[i] <= 57 or 97 <= lower[i] <= 122):
                continue
            if i > first and _in(words, hash_bytes(lower, first, i)):
                out[d] = 2
                break
            first = i + 1
    return out

"""URL rules: block lists of domains and of words, matched against every document's URL; and the hash of a URL.

A list file has one entry a line; `#` begins a comment. An entry with a dot is a domain, which blocks its subdomains too;
one without is a word, which blocks wherever it stands in the URL between characters that are not letters or digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from .hashing import hash_bytes
from .segment import text_buffers

NOT_BLOCKED, BY_DOMAIN, BY_WORD = 0, 1, 2
MAX_DOMAIN = 253
"""Characters of the longest domain name (RFC 1035): of a longer host only the end can be one that is blocked."""


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
        if "." in entry and len(data) > MAX_DOMAIN:
            raise ValueError(
                f"line {number}: {entry[:20]}... has {len(data)} characters; a domain has at most {MAX_DOMAIN}"
            )
        (domains if "." in entry else words).append(int(hash_bytes(data, 0, len(data))))
    return UrlRules(np.unique(np.array(domains, np.uint64)), np.unique(np.array(words, np.uint64)))


def blocked(urls: pa.StringArray, rules: UrlRules) -> np.ndarray:
    """uint8 [n]: NOT_BLOCKED, BY_DOMAIN or BY_WORD."""
    if not len(rules.domains) and not len(rules.words):
        return np.zeros(len(urls), np.uint8)
    text, bounds = text_buffers(urls.cast(pa.large_string()))
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
        at = max(host, stop - MAX_DOMAIN)
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


def normalised_hashes(urls: pa.StringArray) -> np.ndarray:
    """uint64 [n]: a hash of every URL as `_normalise` writes it, 0 if there is none."""
    text, bounds = text_buffers(urls.cast(pa.large_string()))
    longest = int(np.max(np.diff(bounds))) if len(urls) else 0
    return _hash_normalised(text, bounds, np.empty(longest + 1, np.uint8))


@njit(cache=True, nogil=True)
def _hash_normalised(text: np.ndarray, offsets: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    out = np.zeros(len(offsets) - 1, np.uint64)
    for d in range(len(out)):
        size = _normalise(text, offsets[d], offsets[d + 1], scratch)
        if size:
            out[d] = hash_bytes(scratch, 0, size) | np.uint64(1)
    return out


_TRACKING = tuple(np.frombuffer(name, np.uint8) for name in (b"utm_", b"fbclid=", b"gclid="))


@njit(cache=True, nogil=True)
def _normalise(text: np.ndarray, begin: int, end: int, out: np.ndarray) -> int:
    """Write a URL so that all spellings of one address agree; returns the bytes written.

    Without scheme, user, `www.`, default port, fragment, parameters of trackers and a last slash; the host in lower
    case, hexadecimal digits of escapes in upper case.
    """
    while begin < end and text[begin] <= 32:
        begin += 1
    while end > begin and text[end - 1] <= 32:
        end -= 1
    host = begin
    for i in range(begin, end - 1):
        b = text[i]
        if b == 47 and text[i + 1] == 47:  # //
            host = i + 2
            break
        if not (97 <= b | 32 <= 122 or 43 <= b <= 58):  # no character of a scheme, and no colon
            break
    stop = host
    while stop < end and text[stop] != 47 and text[stop] != 63 and text[stop] != 35:
        if text[stop] == 64:  # @
            host = stop + 1
        stop += 1
    n = 0
    for i in range(host, stop):
        b = text[i]
        out[n] = b + 32 if 65 <= b <= 90 else b
        n += 1
    if n >= 3 and out[n - 3] == 58 and out[n - 2] == 56 and out[n - 1] == 48:  # :80
        n -= 3
    elif n >= 4 and out[n - 4] == 58 and out[n - 3] == 52 and out[n - 2] == 52 and out[n - 1] == 51:  # :443
        n -= 4
    while n and out[n - 1] == 46:
        n -= 1
    if n > 4 and out[0] == 119 and out[1] == 119 and out[2] == 119 and out[3] == 46:  # www.
        for i in range(4, n):
            out[i - 4] = out[i]
        n -= 4
    i = stop
    while i < end and text[i] != 63 and text[i] != 35:
        out[n] = text[i]
        n += 1
        i += 1
    while n and out[n - 1] == 47:
        n -= 1
    if i < end and text[i] == 63:
        joint = np.uint8(63)
        i += 1
        while i < end and text[i] != 35:
            after = i
            while after < end and text[after] != 38 and text[after] != 35:
                after += 1
            if after > i and not _is_tracking(text, i, after):
                out[n] = joint
                n += 1
                joint = np.uint8(38)
                for k in range(i, after):
                    out[n] = text[k]
                    n += 1
            i = after + 1 if after < end and text[after] == 38 else after
    for k in range(n - 2):
        if out[k] == 37:  # %
            for m in (k + 1, k + 2):
                if 97 <= out[m] <= 102:
                    out[m] -= np.uint8(32)
    return n


@njit(cache=True, nogil=True)
def _is_tracking(text: np.ndarray, begin: int, end: int) -> bool:
    for name in _TRACKING:
        if end - begin >= len(name):
            same = True
            for k in range(len(name)):
                if text[begin + k] | 32 != name[k] | 32:
                    same = False
                    break
            if same:
                return True
    return False

"""URL rules: block lists of domains and of words, matched against every document's URL; and the hash of a URL.

A list file has one entry a line; `#` begins a comment. An entry with a dot is a domain, which blocks its subdomains too;
one without is a word, which blocks wherever it stands in the URL between characters that are not letters or digits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from ...tokenize.spans import text_buffers
from ..run.numbers import distinct_numbers
from .hashing import hash_bytes
from .unicode import tables
from .url_parts import clean, find_host, normalise, write_host

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

    def __len__(self) -> int:
        return len(self.domains) + len(self.words)


RULES_SCHEMA = pa.schema(
    [pa.field("is_word", pa.bool_(), nullable=False), pa.field("hash", pa.uint64(), nullable=False)]
)
"""Rules as they are stored: domains, then words, each ascending."""


def rules_table(rules: UrlRules) -> pa.Table:
    """`RULES_SCHEMA`."""
    kinds = np.repeat(np.array([False, True]), [len(rules.domains), len(rules.words)])
    return pa.Table.from_arrays(
        [pa.array(kinds), pa.array(np.concatenate([rules.domains, rules.words]))], schema=RULES_SCHEMA
    )


def stored_rules(path: Path) -> UrlRules:
    """Rules that `rules_table` made, mapped: all workers of a machine share them."""
    with pa.memory_map(os.fspath(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    hashes, domains = table.column("hash").to_numpy(), len(table) - int(pc.sum(table.column("is_word")).as_py() or 0)
    return UrlRules(hashes[:domains], hashes[domains:])


def merged(each: Iterable[UrlRules]) -> UrlRules:
    """All rules of some lists, each once."""
    found = [NO_RULES, *each]
    return UrlRules(
        *(distinct_numbers(np.concatenate([getattr(r, name) for r in found])) for name in ("domains", "words"))
    )


def read_list(data: bytes) -> UrlRules:
    """The rules of a list file: what `parse_rules` makes of its lines, for lists of millions.

    Raises:
        ValueError: it is no UTF-8, or an entry is neither a domain nor a word.
    """
    text = np.frombuffer(data, np.uint8)
    hashes, kinds, odd = _parse(text, _KINDS)
    found = UrlRules(hashes[kinds == BY_DOMAIN], hashes[kinds == BY_WORD])
    # Few lines of any list: what is not plain ASCII, and what is wrong.
    others = [parse_rules(data[begin:end].decode().splitlines(), line) for line, begin, end in odd.tolist()]
    return merged([found, *others])


def parse_rules(lines: Iterable[str], first: int = 1) -> UrlRules:
    """Rules of list files.

    Args:
        first: number of the first line.

    Raises:
        ValueError: an entry is neither a domain nor a word.
    """
    domains: list[int] = []
    words: list[int] = []
    for number, line in enumerate(lines, first):
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
    return UrlRules(distinct_numbers(np.array(domains, np.uint64)), distinct_numbers(np.array(words, np.uint64)))


NO_RULES = UrlRules(np.empty(0, np.uint64), np.empty(0, np.uint64))

_PLAIN, _SPACE, _COMMENT, _LINE, _ODD = range(5)
_KINDS = np.full(256, _ODD, np.uint8)
"""uint8 [256]: what a byte is to a list."""
_KINDS[[*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"]] = _PLAIN
_KINDS[[*b" \t"]], _KINDS[[*b"#"]], _KINDS[[*b"\r\n"]] = _SPACE, _COMMENT, _LINE


@njit(cache=True, nogil=True)
def _parse(text: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint64 [n]: hashes of entries, uint8 [n]: BY_DOMAIN or BY_WORD, int64 [odd, 3]: number, begin and end of the lines that hold
    anything but plain entries, blanks and comments)."""
    lines = 1
    for i in range(len(text)):
        lines += text[i] == 10 or text[i] == 13
    hashes, found, odd = np.empty(lines, np.uint64), np.empty(lines, np.uint8), np.empty((lines, 3), np.int64)
    lower = np.empty(MAX_DOMAIN, np.uint8)
    count = rest = at = 0
    number = 1
    while at < len(text):
        end = at
        while end < len(text) and kinds[text[end]] != _LINE:
            end += 1
        begin, stop = at, at
        while stop < end and kinds[text[stop]] != _COMMENT:
            stop += 1
        plain = True
        for i in range(stop, end):
            # Lines end at more places than these in other writing systems.
            plain = plain and 32 <= text[i] < 127
        while begin < stop and kinds[text[begin]] == _SPACE:
            begin += 1
        while stop > begin and kinds[text[stop - 1]] == _SPACE:
            stop -= 1
        is_domain = False
        for i in range(begin, stop):
            plain = plain and kinds[text[i]] == _PLAIN
            is_domain = is_domain or text[i] == 46
        while begin < stop and text[begin] == 46:
            begin += 1
        while stop > begin and text[stop - 1] == 46:
            stop -= 1
        size = stop - begin
        if not plain or size > MAX_DOMAIN or (is_domain and not size):
            odd[rest, 0], odd[rest, 1], odd[rest, 2] = number, at, end
            rest += 1
        elif size:
            for i in range(size):
                b = text[begin + i]
                lower[i] = b + 32 if 65 <= b <= 90 else b
            hashes[count] = hash_bytes(lower, 0, size)
            found[count] = BY_DOMAIN if is_domain else BY_WORD
            count += 1
        if end + 1 < len(text) and text[end] == 13 and text[end + 1] == 10:
            end += 1
        at = end + 1
        number += 1
    return hashes[:count], found[:count], odd[:rest]


def blocked(urls: pa.StringArray, rules: UrlRules) -> np.ndarray:
    """uint8 [n]: NOT_BLOCKED, BY_DOMAIN or BY_WORD."""
    if not len(rules):
        return np.zeros(len(urls), np.uint8)
    text, bounds = text_buffers(urls.cast(pa.large_string()))
    return _blocked(text, bounds, rules.domains, rules.words, *_scratch(bounds), tables()[0])


def _scratch(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twice the room for the longest of some URLs."""
    longest = int(np.max(np.diff(bounds), initial=0))
    return np.empty(longest, np.uint8), np.empty(longest, np.uint8)


@njit(cache=True, nogil=True)
def _in(table: np.ndarray, key: np.uint64) -> bool:
    at = np.searchsorted(table, key)
    return bool(at < len(table) and table[at] == key)


@njit(cache=True, nogil=True)
def _blocked(
    text: np.ndarray,
    offsets: np.ndarray,
    domains: np.ndarray,
    words: np.ndarray,
    url: np.ndarray,
    lower: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros(n, np.uint8)
    for d in range(n):
        size = clean(text, offsets[d], offsets[d + 1], url, classes)
        first, stop, _ = find_host(url, size)
        if _is_host_in(domains, lower, write_host(url, first, stop, lower)):
            out[d] = BY_DOMAIN
            continue
        for i in range(size):
            b = url[i]
            lower[i] = b + 32 if 65 <= b <= 90 else b
        first = 0
        for i in range(size + 1):
            if i < size and (48 <= lower[i] <= 57 or 97 <= lower[i] <= 122):
                continue
            if i > first and _in(words, hash_bytes(lower, first, i)):
                out[d] = BY_WORD
                break
            first = i + 1
    return out


@njit(cache=True, nogil=True)
def _is_host_in(domains: np.ndarray, host: np.ndarray, size: int) -> bool:
    """Whether a host is one of some domains, or below one."""
    first = max(0, size - MAX_DOMAIN)
    for at in range(first, size):  # noqa: SIM110
        if (at == 0 or host[at - 1] == 46) and _in(domains, hash_bytes(host, at, size)):
            return True
    return False


def normalised_hashes(urls: pa.StringArray) -> np.ndarray:
    """uint64 [n]: a hash of every URL as `normalise` writes it, 0 if there is none."""
    text, bounds = text_buffers(urls.cast(pa.large_string()))
    return _hash_normalised(text, bounds, *_scratch(bounds), tables()[0])


@njit(cache=True, nogil=True)
def _hash_normalised(
    text: np.ndarray, offsets: np.ndarray, url: np.ndarray, scratch: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    out = np.zeros(len(offsets) - 1, np.uint64)
    for d in range(len(out)):
        size = normalise(url, clean(text, offsets[d], offsets[d + 1], url, classes), scratch)
        if size:
            out[d] = hash_bytes(scratch, 0, size) | np.uint64(1)
    return out

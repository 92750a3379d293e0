"""URL rules: block lists, matched against every document's URL; and the hash of a URL.

url_entries.py says what an entry of a list may be. A domain blocks its subdomains too; a word blocks wherever it stands in
the URL between characters that are not letters or digits, and words that follow each other likewise; a page blocks all URLs
below it; a part blocks wherever it stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from ...tokenize.spans import text_buffers
from ..run.numbers import distinct_numbers
from .hashing import hash_bytes, hash_each, mix64
from .unicode import tables
from .url_entries import BY_DOMAIN, BY_PAGE, BY_PART, BY_WORD, JOINT, MAX_DOMAIN, NOT_BLOCKED, rules_of
from .url_parts import clean, find_host, is_letter, normalise, unescaped, write_host
from .word_hashes import WORD_SEED, WORD_STEP

KINDS = (BY_DOMAIN, BY_WORD, BY_PAGE, BY_PART)
REASONS = {NOT_BLOCKED: "no", BY_DOMAIN: "by domain", BY_WORD: "by word", BY_PAGE: "by page", BY_PART: "by part"}


@dataclass(frozen=True)
class UrlRules:
    """Hashes of what is blocked, each uint64, ascending."""

    domains: np.ndarray
    words: np.ndarray
    """Of words and phrases."""
    pages: np.ndarray
    parts: np.ndarray
    phrase: int = 1
    """Words of the longest phrase."""
    sizes: tuple[int, ...] = ()
    """Distinct sizes of parts in bytes, ascending."""

    def __len__(self) -> int:
        return sum(map(len, self.hashes()))

    def hashes(self) -> tuple[np.ndarray, ...]:
        """By kind, as `KINDS` lists them."""
        return self.domains, self.words, self.pages, self.parts


RULES_SCHEMA = pa.schema([pa.field("kind", pa.uint8(), nullable=False), pa.field("hash", pa.uint64(), nullable=False)])
"""Rules as they are stored: by kind, the hashes of each ascending. The metadata have `phrase` and `sizes`."""


def rules_table(rules: UrlRules) -> pa.Table:
    """`RULES_SCHEMA`."""
    kinds = np.repeat(np.array(KINDS, np.uint8), [*map(len, rules.hashes())])
    schema = RULES_SCHEMA.with_metadata({"phrase": str(rules.phrase), "sizes": " ".join(map(str, rules.sizes))})
    return pa.Table.from_arrays([pa.array(kinds), pa.array(np.concatenate(rules.hashes()))], schema=schema)


def stored_rules(path: Path) -> UrlRules:
    """Rules that `rules_table` made, mapped: all workers of a machine share them."""
    with pa.memory_map(os.fspath(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    bounds = np.searchsorted(table.column("kind").to_numpy(), KINDS, "right")
    said = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    domains, words, pages, parts = np.split(table.column("hash").to_numpy(), bounds[:-1])
    return UrlRules(domains, words, pages, parts, int(said["phrase"]), tuple(map(int, said["sizes"].split())))


def merged(each: Iterable[UrlRules]) -> UrlRules:
    """All rules of some lists, each once."""
    found = [NO_RULES, *each]
    each_kind = zip(*(rules.hashes() for rules in found), strict=True)
    domains, words, pages, parts = (distinct_numbers(np.concatenate(hashes)) for hashes in each_kind)
    sizes = sorted({size for rules in found for size in rules.sizes})
    return UrlRules(domains, words, pages, parts, max(rules.phrase for rules in found), tuple(sizes))


def read_list(data: bytes) -> UrlRules:
    """The rules of a list file: what `parse_rules` makes of its lines, for lists of millions.

    Raises:
        ValueError: it is no UTF-8, or an entry can match no URL.
    """
    text = np.frombuffer(data.removeprefix(b"\xef\xbb\xbf"), np.uint8)
    hashes, kinds, odd = _parse(text, _BYTES)
    plain = UrlRules(hashes[kinds == BY_DOMAIN], hashes[kinds == BY_WORD], NOTHING, NOTHING)
    # Few lines of most lists: what is not plain ASCII, what is no single domain or word, and what is wrong.
    lines = (
        (number + k, line)
        for number, begin, end in odd.tolist()
        for k, line in enumerate(text[begin:end].tobytes().decode().splitlines())
    )
    return merged([plain, _rules(lines)])


def parse_rules(lines: Iterable[str]) -> UrlRules:
    """The rules of a list by its lines.

    Raises:
        ValueError: an entry can match no URL.
    """
    return _rules(enumerate(lines, 1))


def _rules(lines: Iterable[tuple[int, str]]) -> UrlRules:
    found: dict[int, list[str]] = {kind: [] for kind in KINDS}
    for number, line in lines:
        try:
            for kind, text in rules_of(line):
                found[kind].append(text)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    pages = pa.array(found[BY_PAGE], pa.large_string())
    return UrlRules(
        domains=distinct_numbers(_hashes(found[BY_DOMAIN])),
        words=distinct_numbers(_hashes(found[BY_WORD])),
        pages=distinct_numbers(_page_hashes(*text_buffers(pages), *_scratch(pages), tables()[0])),
        parts=distinct_numbers(_hashes(found[BY_PART])),
        phrase=max((phrase.count(JOINT) + 1 for phrase in found[BY_WORD]), default=1),
        sizes=tuple(sorted({len(part.encode()) for part in found[BY_PART]})),
    )


def _hashes(texts: list[str]) -> np.ndarray:
    """uint64 [n]"""
    return hash_each(*text_buffers(pa.array(texts, pa.large_string())))


NOTHING = np.empty(0, np.uint64)
NO_RULES = UrlRules(NOTHING, NOTHING, NOTHING, NOTHING)

_PLAIN, _DOT, _HYPHEN, _SPACE, _COMMENT, _LINE, _ODD = range(7)
_BYTES = np.full(256, _ODD, np.uint8)
"""uint8 [256]: what a byte is to a list."""
_BYTES[[*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]] = _PLAIN
_BYTES[[*b"."]], _BYTES[[*b"-_"]] = _DOT, _HYPHEN
_BYTES[[*b" \t"]], _BYTES[[*b"#"]], _BYTES[[*b"\r\n"]] = _SPACE, _COMMENT, _LINE
_SINKS = tuple(np.frombuffer(address, np.uint8) for address in (b"0.0.0.0", b"127.0.0.1"))
"""Addresses at which hosts files put what they block."""


@njit(cache=True, nogil=True)
def _past_sink(text: np.ndarray, begin: int, end: int, kinds: np.ndarray) -> int:
    """Where the name begins that a hosts file puts nowhere; `begin` if it is no such line."""
    for address in _SINKS:
        at = begin + len(address)
        same = at < end and kinds[text[at]] == _SPACE
        for k in range(len(address) if same else 0):
            same = same and text[begin + k] == address[k]
        if same:
            while at < end and kinds[text[at]] == _SPACE:
                at += 1
            return at
    return begin


@njit(cache=True, nogil=True)
def _is_plain_domain(text: np.ndarray, begin: int, stop: int) -> bool:
    """Whether no label begins or ends with a hyphen, and none can be Punycode, which has two in its third and fourth places."""
    label = begin
    for i in range(begin, stop + 1):
        if i < stop and text[i] != 46:
            continue
        if i - label > 63 or text[label] == 45 or text[i - 1] == 45:
            return False
        if i - label > 3 and text[label + 2] == 45 and text[label + 3] == 45:
            return False
        label = i + 1
    return True


@njit(cache=True, nogil=True)
def _parse(text: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint64 [n]: hashes of entries, uint8 [n]: BY_DOMAIN or BY_WORD, int64 [odd, 3]: number, begin and end of the lines that
    hold anything but a plain domain or word, blanks and comments)."""
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
        # A comment without a space before it may be something else.
        plain = stop in (at, end) or kinds[text[stop - 1]] == _SPACE
        for i in range(stop, end):
            # Lines end at more places than these in other writing systems.
            plain = plain and 32 <= text[i] < 127
        while begin < stop and kinds[text[begin]] == _SPACE:
            begin += 1
        while stop > begin and kinds[text[stop - 1]] == _SPACE:
            stop -= 1
        name = _past_sink(text, begin, stop, kinds)
        sunk, begin = name > begin, name
        size = stop - begin
        while begin < stop and text[begin] == 46:
            begin += 1
        while stop > begin and text[stop - 1] == 46:
            stop -= 1
        dotted = stop - begin < size
        dots = hyphens = 0
        last = _DOT
        for i in range(begin, stop):
            kind = kinds[text[i]]
            dots += kind == _DOT
            hyphens += kind == _HYPHEN
            plain = plain and (kind in (_PLAIN, _HYPHEN) or (kind == _DOT and last != _DOT))
            last = kind
        size = stop - begin
        is_domain = dots > 0
        # Names of one label, and words in a row, are looked at more closely.
        if is_domain:
            plain = plain and _is_plain_domain(text, begin, stop)
        else:
            plain = plain and not hyphens and not sunk and not dotted
        if not plain or size > MAX_DOMAIN:
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
    """uint8 [n]: NOT_BLOCKED, or the first of BY_DOMAIN, BY_PAGE, BY_WORD and BY_PART that blocks."""
    if not len(rules):
        return np.zeros(len(urls), np.uint8)
    urls = urls.cast(pa.large_string())
    sizes = np.array(rules.sizes, np.int64)
    return _blocked(*text_buffers(urls), *rules.hashes(), max(rules.phrase, 1), sizes, *_scratch(urls), tables()[0])


def _scratch(urls: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Twice the room for the longest of some URLs."""
    longest = int(np.max(np.diff(text_buffers(urls)[1]), initial=0))
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
    pages: np.ndarray,
    parts: np.ndarray,
    phrase: int,
    sizes: np.ndarray,
    url: np.ndarray,
    scratch: np.ndarray,
    classes: np.ndarray,
) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros(n, np.uint8)
    starts = np.empty(phrase, np.int64)
    for d in range(n):
        size = clean(text, offsets[d], offsets[d + 1], url, classes)
        first, stop, _ = find_host(url, size)
        if len(domains) and _is_host_in(domains, scratch, write_host(url, first, stop, scratch)):
            out[d] = BY_DOMAIN
        elif len(pages) and _is_page_in(pages, scratch, normalise(url, size, scratch)):
            out[d] = BY_PAGE
        elif len(words) and _has_words(words, url, size, scratch, starts):
            out[d] = BY_WORD
        elif len(parts) and _has_part(parts, sizes, url, size, scratch):
            out[d] = BY_PART
    return out


@njit(cache=True, nogil=True)
def _is_host_in(domains: np.ndarray, host: np.ndarray, size: int) -> bool:
    """Whether a host is one of some domains, or below one."""
    first = 0
    if size and host[0] == 91:  # [, before an IPv6 address
        for at in range(size):
            if host[at] == 58:
                first, size = 1, size - 1
                break
    for at in range(max(first, size - MAX_DOMAIN), size):
        if (at == first or host[at - 1] == 46) and _in(domains, hash_bytes(host, at, size)):
            return True
    return False


@njit(cache=True, nogil=True)
def _page_hashes(
    text: np.ndarray, offsets: np.ndarray, url: np.ndarray, scratch: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """uint64 [n]: hashes of URLs as `_is_page_in` looks them up."""
    out = np.empty(len(offsets) - 1, np.uint64)
    for d in range(len(out)):
        h = WORD_SEED
        for k in range(normalise(url, clean(text, offsets[d], offsets[d + 1], url, classes), scratch)):
            h = (h ^ np.uint64(scratch[k])) * WORD_STEP
        out[d] = mix64(h)
    return out


@njit(cache=True, nogil=True)
def _is_page_in(pages: np.ndarray, page: np.ndarray, size: int) -> bool:
    """Whether a URL in normal form is one of some pages, or below one."""
    h = WORD_SEED
    for k in range(size + 1):
        if (k == size or page[k] == 47 or page[k] == 63 or page[k] == 38) and _in(pages, mix64(h)):
            return True
        if k < size:
            h = (h ^ np.uint64(page[k])) * WORD_STEP
    return False


@njit(cache=True, nogil=True)
def _has_words(words: np.ndarray, url: np.ndarray, size: int, joined: np.ndarray, starts: np.ndarray) -> bool:
    """Whether one of some words stands in a URL, or the words of a phrase in a row.

    Args:
        joined: receives the words, joined as those of phrases are.
        starts: room for as many numbers as the longest phrase has words.
    """
    n = count = i = 0
    inside = False
    while i <= size:
        b = 0
        after = i + 1
        if i < size:
            b, after = unescaped(url, i, size)
        if is_letter(b) or 48 <= b <= 57:
            if not inside:
                if n:
                    joined[n] = 45
                    n += 1
                starts[count % len(starts)] = n
                count += 1
                inside = True
            joined[n] = b + 32 if 65 <= b <= 90 else b
            n += 1
        elif inside:
            inside = False
            for k in range(min(count, len(starts))):
                if _in(words, hash_bytes(joined, starts[(count - 1 - k) % len(starts)], n)):
                    return True
        i = after
    return False


@njit(cache=True, nogil=True)
def _has_part(parts: np.ndarray, sizes: np.ndarray, url: np.ndarray, size: int, lower: np.ndarray) -> bool:
    """Whether one of some parts stands anywhere in a URL."""
    for i in range(size):
        b = url[i]
        lower[i] = b + 32 if 65 <= b <= 90 else b
    for length in sizes:
        for i in range(size - length + 1):
            if _in(parts, hash_bytes(lower, i, i + length)):
                return True
    return False


def normalised_hashes(urls: pa.StringArray) -> np.ndarray:
    """uint64 [n]: a hash of every URL as `normalise` writes it, 0 if there is none."""
    urls = urls.cast(pa.large_string())
    return _hash_normalised(*text_buffers(urls), *_scratch(urls), tables()[0])


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

"""What datatrove's URL filter asks of a URL besides its domain: words, soft words, subwords; and lists as sorted hashes."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from ...pipeline.run.numbers import distinct_numbers
from ...pipeline.signals.hashing import hash_bytes, hash_each
from ...tokenize.spans import text_array, text_buffers
from .characters import classes
from .repetition import stripped

BANNED, SUBWORD = 1, 2
_SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SYMBOL = np.full(256, -1, np.int8)
for _k, _char in enumerate(_SYMBOLS):
    _SYMBOL[[ord(_char), ord(_char.upper())]] = _k


@dataclass(frozen=True)
class UrlWords:
    """The words that a URL is searched for."""

    banned: np.ndarray
    """uint64, ascending: hashes."""
    soft: np.ndarray
    """uint64, ascending: hashes."""
    next: np.ndarray
    """int32 [states, 36]: the automaton of subwords (Aho and Corasick 1975); state 0 is its beginning."""
    ends: np.ndarray
    """bool [states]: a subword ends here."""

    @classmethod
    def of(cls, banned: Iterable[str], soft: Iterable[str], subwords: Iterable[str]) -> UrlWords:
        return cls(hashes(banned), hashes(soft), *_automaton({word for word in subwords if word}))


def hashes(strings: Iterable[str]) -> np.ndarray:
    """uint64, ascending: a hash of each string."""
    data, bounds = text_buffers(text_array(strings))
    return distinct_numbers(hash_each(data, bounds))


def hash_of(string: str) -> np.uint64:
    """The hash of one string."""
    data = np.frombuffer(string.encode("utf-8", "surrogatepass"), np.uint8)
    return np.uint64(hash_bytes(data, 0, len(data)))


@functools.lru_cache(4)
def listed(path: Path, size: int) -> np.ndarray:
    """uint64, ascending: hashes of the stripped lines of a list, without those that begin with `#`.

    Args:
        size: bytes of the file, which another list may have by now.
    """
    return listed_hashes(np.fromfile(path, np.uint8))


def listed_hashes(text: np.ndarray) -> np.ndarray:
    """The same, of the bytes of a list."""
    return distinct_numbers(_hash_lines(text, classes()))


def contains(sorted_hashes: np.ndarray, sought: np.uint64) -> bool:
    at = int(np.searchsorted(sorted_hashes, sought))
    return at < len(sorted_hashes) and sorted_hashes[at] == sought


def url_words(urls: list[str], words: UrlWords) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n]: `BANNED` and `SUBWORD`, int64 [n]: different soft words)."""
    # Only ASCII is looked at: half a surrogate pair may pass.
    data = [url.encode("utf-8", "surrogatepass") for url in urls]
    bounds = np.zeros(len(data) + 1, np.int64)
    np.cumsum([len(url) for url in data], out=bounds[1:])
    text = np.frombuffer(b"".join(data), np.uint8)
    return _url_words(text, bounds, _SYMBOL, words.banned, words.soft, words.next, words.ends)


def _automaton(words: set[str]) -> tuple[np.ndarray, np.ndarray]:
    children: list[dict[int, int]] = [{}]
    ends = [False]
    for word in sorted(words):
        state = 0
        for char in word:
            symbol = _SYMBOLS.index(char)
            if symbol not in children[state]:
                children[state][symbol] = len(children)
                children.append({})
                ends.append(False)
            state = children[state][symbol]
        ends[state] = True
    table = np.zeros((len(children), len(_SYMBOLS)), np.int32)
    fallback = [0] * len(children)
    level = [0]
    while level:
        below = []
        for state in level:
            for symbol in range(len(_SYMBOLS)):
                elsewhere = table[fallback[state], symbol] if state else 0
                child = children[state].get(symbol)
                if child is None:
                    table[state, symbol] = elsewhere
                else:
                    fallback[child] = int(elsewhere)
                    ends[child] = ends[child] or ends[elsewhere]
                    below.append(child)
                    table[state, symbol] = child
        level = below
    return table, np.array(ends)


@njit(cache=True, nogil=True)
def _hash_lines(text: np.ndarray, classes: np.ndarray) -> np.ndarray:
    lines = 1
    for i in range(len(text)):
        lines += text[i] == 10 or text[i] == 13
    out = np.empty(lines, np.uint64)
    count = 0
    i = 0
    while i < len(text):
        begin = i
        while i < len(text) and text[i] != 10 and text[i] != 13:
            i += 1
        if text[begin] != 35:  # a line that is only a line end is an empty entry, as datatrove reads it
            first, last = stripped(text, begin, i, classes)
            out[count] = hash_bytes(text, first, last)
            count += 1
        if i + 1 < len(text) and text[i] == 13 and text[i + 1] == 10:
            i += 1
        i += 1
    return out[:count]


@njit(cache=True, nogil=True)
def _place(table: np.ndarray, key: np.uint64) -> int:
    at = int(np.searchsorted(table, key))
    return at if at < len(table) and table[at] == key else -1


@njit(cache=True, nogil=True)
def _url_words(
    text: np.ndarray,
    offsets: np.ndarray,
    symbols: np.ndarray,
    banned: np.ndarray,
    soft: np.ndarray,
    next_: np.ndarray,
    ends: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    flags, counts = np.zeros(n, np.uint8), np.zeros(n, np.int64)
    seen = np.full(len(soft), -1, np.int64)
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        state = 0
        first = begin
        for i in range(begin, end + 1):
            symbol = symbols[text[i]] if i < end else -1
            if symbol >= 0:
                state = next_[state, symbol]
                if ends[state]:
                    flags[d] |= SUBWORD
                continue
            # Of separators in a row one counts; before the first and after the last word is an empty one.
            if i > first or (i == begin and i < end) or (i == end and end > begin):
                word = hash_bytes(text, first, i)
                if _place(banned, word) >= 0:
                    flags[d] |= BANNED
                at = _place(soft, word)
                if at >= 0 and seen[at] != d:
                    seen[at] = d
                    counts[d] += 1
            first = i + 1
    return flags, counts

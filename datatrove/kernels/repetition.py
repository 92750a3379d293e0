"""Which rule of datatrove's Gopher repetition filter a document breaks first, by its definitions.

    paragraphs    what `\\n{2,}` separates in the stripped text        lines    what `\\n+` separates, also nothing
    top n-gram    the n words, joined by a space, that occur most often (of several the first), once is enough
    duplicates    from left to right, n words that joined by nothing equal such ones before; their words are passed over

All are compared byte by byte; hashes only say what to compare. Two n-grams can only be equal where what they begin with is
equal: so each level looks where the last one found something twice, or where the next `PREFIX` bytes stand twice. Before all
that, characters are added up by hashes of n-grams: where no sum is too large, no n-gram is, and most texts need no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ...pipeline.signals.hashing import TOPS, hash_bytes, word_at, zero_bytes
from ...pipeline.signals.unicode import decode
from .batch import Texts, Words
from .characters import SIZE, SPACE, SPACES, characters, classes, is_inside, line_feed, same

PREFIX, LONG_PREFIX = 12, 24
"""Bytes by which the places of duplicates are found: a long n-gram is compared if its longer prefix stands twice, another if the
shorter one does, and one that is shorter still in any case."""
BUCKET_BITS = 10
BUCKETS = 1 << BUCKET_BITS
"""By which characters of n-grams are added up."""
ODD = np.uint64(0x9E3779B97F4A7C15)
DUPLICATE_PARAGRAPHS, DUPLICATE_PARAGRAPH_CHARS, DUPLICATE_LINES, DUPLICATE_LINE_CHARS = range(1, 5)


@dataclass(frozen=True)
class NGramRules:
    """n and the most that its n-grams may take of the text, in the order in which they are judged."""

    top: tuple[tuple[int, float], ...]
    duplicate: tuple[tuple[int, float], ...]


def line_verdicts(texts: Texts, most: tuple[float, ...]) -> np.ndarray:
    """int8 [n]: 0, or the first of the four constants above whose share is too large.

    Args:
        most: the share allowed of each; infinite where the rule is off.
    """
    return _line_verdicts(texts.data, texts.offsets, classes(), np.array(most, np.float64))


def ngram_verdicts(texts: Texts, words: Words, rules: NGramRules, asked: np.ndarray) -> np.ndarray:
    """int64 [n]: 0, or 1 + the place of the first broken rule in ``rules.top + rules.duplicate``; 0 if not asked."""
    ns = np.array([n for n, _ in (*rules.top, *rules.duplicate)], np.int64)
    most = np.array([share for _, share in (*rules.top, *rules.duplicate)], np.float64)
    sizes = np.diff(words.offsets)
    longest = int(sizes.max()) if len(sizes) else 0
    joined = int(_sizes(words.offsets, words.start, words.end).max()) if len(sizes) else 0
    return _ngram_verdicts(
        words.data, words.offsets, words.start, words.end, texts.data, texts.offsets,
        ns, most, len(rules.top), asked, longest, joined,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _sizes(word_offsets: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 [n]: bytes of the words of each document."""
    out = np.zeros(len(word_offsets) - 1, np.int64)
    for d in range(len(out)):
        for w in range(word_offsets[d], word_offsets[d + 1]):
            out[d] += end[w] - start[w]
    return out


@njit(cache=True, nogil=True)
def table_bits(items: int) -> int:
    """Bits of an open-addressing table for some items."""
    bits = 4
    while (1 << bits) < 2 * items:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def duplicates(
    text: np.ndarray, start: np.ndarray, end: np.ndarray, count: int, slots: np.ndarray, hashes: np.ndarray
) -> tuple[int, int]:
    """(spans that equal an earlier one, their characters)."""
    bits = table_bits(count)
    slots[: 1 << bits] = 0
    mask = np.uint64((1 << bits) - 1)
    elements = chars = 0
    for k in range(count):
        h = hash_bytes(text, start[k], end[k])
        hashes[k] = h
        at = h & mask
        size = end[k] - start[k]
        while slots[at]:
            other = slots[at] - 1
            if hashes[other] == h and end[other] - start[other] == size and same(text, start[other], start[k], size):
                elements += 1
                chars += characters(text, start[k], end[k])
                break
            at = (at + np.uint64(1)) & mask
        if not slots[at]:
            slots[at] = k + 1
    return elements, chars


@njit(cache=True, nogil=True, inline="always")
def _is_space(text: np.ndarray, begin: int, classes: np.ndarray) -> bool:
    """Whether the character that begins at a byte is white space."""
    cp = decode(text, begin)[0]
    return cp < SIZE and (classes[cp] & SPACE) != 0


@njit(cache=True, nogil=True)
def stripped(text: np.ndarray, begin: int, end: int, classes: np.ndarray) -> tuple[int, int]:
    """The bytes of `str.strip`."""
    while begin < end:
        after = begin + 1
        while after < end and is_inside(text[after]):
            after += 1
        if not _is_space(text, begin, classes):
            break
        begin = after
    while end > begin:
        before = end - 1
        while is_inside(text[before]):
            before -= 1
        if not _is_space(text, before, classes):
            break
        end = before
    return begin, end


@njit(cache=True, nogil=True)
def _line_verdicts(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray, most: np.ndarray) -> np.ndarray:
    n = len(offsets) - 1
    out = np.zeros(n, np.int8)
    room = 0
    for d in range(n):
        lines = 2
        for i in range(offsets[d], offsets[d + 1]):
            lines += text[i] == 10
        room = max(room, lines)
    start, end = np.empty(room, np.int64), np.empty(room, np.int64)
    hashes = np.empty(room, np.uint64)
    slots = np.empty(1 << table_bits(room), np.int32)
    for d in range(n):
        begin, last = offsets[d], offsets[d + 1]
        chars = characters(text, begin, last)
        if not chars:
            continue
        first, stop = stripped(text, begin, last, classes)
        for least in (2, 1):  # line ends that separate: of paragraphs, of lines
            if least == 1:
                first, stop = begin, last
            count = 0
            start[0] = first
            i = first
            while i < stop:
                i = line_feed(text, i, stop)
                if i == stop:
                    break
                after = i + 1
                while after < stop and text[after] == 10:
                    after += 1
                if after - i >= least:
                    end[count] = i
                    count += 1
                    start[count] = after
                i = after
            end[count] = stop
            count += 1
            elements, repeated = duplicates(text, start, end, count, slots, hashes)
            rule = DUPLICATE_PARAGRAPHS if least == 2 else DUPLICATE_LINES
            if elements / count > most[rule - 1]:
                out[d] = rule
            elif repeated / chars > most[rule]:
                out[d] = rule + 1
            if out[d]:
                break
    return out


@njit(cache=True, nogil=True)
def _ngram_verdicts(
    data: np.ndarray,
    word_offsets: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    text: np.ndarray,
    text_offsets: np.ndarray,
    ns: np.ndarray,
    most: np.ndarray,
    tops: int,
    asked: np.ndarray,
    longest: int,
    joined_bytes: int,
) -> np.ndarray:
    n = len(word_offsets) - 1
    out = np.zeros(n, np.int64)
    joined = np.empty(joined_bytes + 8, np.uint8)
    spaced = np.empty(joined_bytes + longest + 8, np.uint8)
    bounds = np.empty(longest + 1, np.int64)  # of the words in `joined`; in `spaced` word k begins k bytes later
    chars = np.empty(longest + 1, np.int64)  # before each word
    twice = np.empty(longest, np.bool_)
    slots = np.empty(1 << table_bits(longest), np.int32)
    seen = np.empty(1 << (table_bits(longest) + 2), np.uint8)
    hashes = np.empty(longest, np.uint64)
    counts = np.empty(longest, np.int32)
    places, every = np.empty(longest, np.int32), np.arange(longest).astype(np.int32)
    long_twice = np.empty(longest, np.bool_)
    sums = np.empty((tops, BUCKETS), np.int64)
    for d in range(n):
        if not asked[d]:
            continue
        size = characters(text, text_offsets[d], text_offsets[d + 1])
        words = word_offsets[d + 1] - word_offsets[d]
        plain, free_of_spaces = _join(data, word_start, word_end, word_offsets[d], words, joined, bounds, hashes)
        count_characters(joined, bounds, words, plain, chars)
        bounded = free_of_spaces
        if bounded:
            _add_up(hashes, chars, words, ns[:tops], sums)
        is_spaced = False
        level = 0
        candidates = -1
        for rule in range(len(ns)):
            at = ns[rule]
            grams = words - at + 1
            if rule < tops:
                if grams < 1 or (bounded and sums[rule].max() / size <= most[rule]):
                    continue
                if not is_spaced:
                    _space(joined, bounds, words, spaced)
                    is_spaced = True
                narrowed = free_of_spaces and 0 < level < at
                top = _top(spaced, bounds, chars, at, grams, narrowed, at - level, twice, slots, hashes, counts)
                level = at
                broken = top / size > most[rule]
            else:
                if candidates < 0:
                    _prefixes(joined, bounds, words, PREFIX, every[:words], twice, seen, hashes)
                    candidates = _list_candidates(bounds, words, ns[tops:].min(), twice, places)
                    _prefixes(joined, bounds, words, LONG_PREFIX, places[:candidates], long_twice, seen, hashes)
                repeated = _repeated(
                    joined, bounds, chars, at, grams, twice, long_twice, places[:candidates], slots, hashes
                )
                broken = repeated / size > most[rule]
            if broken:
                out[d] = rule + 1
                break
    return out


@njit(cache=True, nogil=True)
def _join(
    data: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    base: int,
    words: int,
    joined: np.ndarray,
    bounds: np.ndarray,
    hashes: np.ndarray,
) -> tuple[bool, bool]:
    """Write the words of a document one after the other, their bounds and a weak hash of each: (whether all is ASCII, whether
    there is no space in any of them)."""
    seen = spaces = np.uint64(0)
    to = 0
    bounds[0] = 0
    for k in range(words):
        i, last = word_start[base + k], word_end[base + k]
        weak = np.uint64(0)
        while i < last:
            count = min(last - i, 8)
            if i + 8 <= len(data):
                eight = word_at(data, i, 8)
            else:
                eight = word_at(data, i, count)
            # What lies beyond the word is overwritten by the next one.
            put_eight(joined, to, eight)
            beyond = np.uint64(0) if count == 8 else ~np.uint64(0) << np.uint64(8 * count)
            seen |= eight & ~beyond
            spaces |= zero_bytes(eight ^ SPACES | beyond)
            weak = (weak ^ (eight & ~beyond)) * ODD
            weak ^= weak >> np.uint64(32)
            to += count
            i += 8
        hashes[k] = weak
        bounds[k + 1] = to
    return not seen & TOPS, not spaces


@njit(cache=True, nogil=True)
def _space(joined: np.ndarray, bounds: np.ndarray, words: int, spaced: np.ndarray) -> None:
    """Write the words with a space after each."""
    for k in range(words):
        for i in range(bounds[k], bounds[k + 1]):
            spaced[i + k] = joined[i]
        spaced[bounds[k + 1] + k] = 32


@njit(cache=True, nogil=True)
def _add_up(hashes: np.ndarray, chars: np.ndarray, words: int, ns: np.ndarray, sums: np.ndarray) -> None:
    """Characters of the n-grams of each bucket, for each n: as many as those of an n-gram in it, times its occurrences."""
    sums[:] = 0
    for rule in range(len(ns)):
        n = ns[rule]
        for k in range(words - n + 1):
            h = hashes[k]
            for i in range(k + 1, k + n):
                h = h * ODD + hashes[i]
            bucket = (h * ODD) >> np.uint64(64 - BUCKET_BITS)
            sums[rule, bucket] += chars[k + n] - chars[k] + n - 1


@njit(cache=True, nogil=True, inline="always")
def put_eight(data: np.ndarray, at: int, eight: np.uint64) -> None:
    """Write a little-endian number into ``data[at : at + 8]`` (uint8)."""
    for k in range(8):
        data[np.uint64(at + k)] = np.uint8(eight >> np.uint64(8 * k) & np.uint64(255))


@njit(cache=True, nogil=True)
def count_characters(data: np.ndarray, bounds: np.ndarray, words: int, plain: bool, chars: np.ndarray) -> None:
    """Characters before each word, of words that stand one after the other; `plain`: all are ASCII."""
    chars[0] = 0
    if plain:
        chars[1 : words + 1] = bounds[1 : words + 1]
        return
    total = 0
    for k in range(words):
        for i in range(bounds[k], bounds[k + 1]):
            total += (data[i] & 0xC0) != 0x80
        chars[k + 1] = total


@njit(cache=True, nogil=True)
def _top(
    spaced: np.ndarray,
    bounds: np.ndarray,
    chars: np.ndarray,
    n: int,
    grams: int,
    narrowed: bool,
    beyond: int,
    twice: np.ndarray,
    slots: np.ndarray,
    hashes: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Characters of the n-gram that occurs most often, times its occurrences; marks in `twice` those that occur twice.

    Args:
        narrowed: whether `twice` holds the marks of the n-grams of `beyond` words less.
    """
    candidates = grams
    if narrowed:
        candidates = 0
        for k in range(grams):
            # In place: `twice[k + beyond]` is read before it is written.
            twice[k] = twice[k] and twice[k + beyond]
            candidates += twice[k]
    bits = table_bits(candidates)
    slots[: 1 << bits] = 0
    mask = np.uint64((1 << bits) - 1)
    best = chars[n] + n - 1  # the first n-gram of all, once
    best_count = 1
    for k in range(grams):
        if narrowed and not twice[k]:
            continue
        begin, end = bounds[k] + k, bounds[k + n] + k + n - 1
        h = hash_bytes(spaced, begin, end)
        hashes[k] = h
        counts[k] = 0
        at = h & mask
        while slots[at]:
            other = slots[at] - 1
            if hashes[other] == h:
                from_ = bounds[other] + other
                if bounds[other + n] + other + n - 1 - from_ == end - begin and same(spaced, from_, begin, end - begin):
                    break
            at = (at + np.uint64(1)) & mask
        if slots[at]:
            first = slots[at] - 1
            counts[first] += 1
            counts[k] = -1 - first
        else:
            slots[at] = k + 1
            counts[k] = 1
    for k in range(grams):
        if narrowed and not twice[k]:
            continue
        c = counts[k]
        if c > best_count:
            best_count = c
            best = (chars[k + n] - chars[k] + n - 1) * c
        twice[k] = c != 1
    for k in range(grams, grams + n - 1):
        twice[k] = False
    return best


@njit(cache=True, nogil=True, inline="always")
def _prefixes(
    joined: np.ndarray,
    bounds: np.ndarray,
    words: int,
    size: int,
    places: np.ndarray,
    twice: np.ndarray,
    seen: np.ndarray,
    hashes: np.ndarray,
) -> None:
    """Mark in `twice`, of some words, those from which the next `size` bytes stand elsewhere too, from one of them on; perhaps
    others. `size` is a constant of at least 8, and `seen` (uint8) has room for eight times the words."""
    bits = table_bits(len(places)) + 2
    seen[: 1 << bits] = 0
    last = bounds[words] - size
    for k in places:
        begin = bounds[k]
        if begin > last:
            break
        h = word_at(joined, begin + size - 8, 8)
        for at in range(0, size - 8, 8):
            h = (h ^ word_at(joined, begin + at, 8)) * ODD
        h = (h ^ h >> np.uint64(32)) * ODD >> np.uint64(64 - bits)
        hashes[k] = h
        seen[h] += seen[h] < 2
    for k in places:
        twice[k] = bounds[k] <= last and seen[hashes[k]] == 2


@njit(cache=True, nogil=True)
def _list_candidates(bounds: np.ndarray, words: int, least: int, twice: np.ndarray, places: np.ndarray) -> int:
    """How many words may begin an n-gram of at least so many words that stands twice, and into `places`, which."""
    count = 0
    for k in range(words):
        if twice[k] or bounds[min(k + least, words)] - bounds[k] < PREFIX:
            places[count] = k
            count += 1
    return count


@njit(cache=True, nogil=True)
def _repeated(
    joined: np.ndarray,
    bounds: np.ndarray,
    chars: np.ndarray,
    n: int,
    grams: int,
    twice: np.ndarray,
    long_twice: np.ndarray,
    places: np.ndarray,
    slots: np.ndarray,
    hashes: np.ndarray,
) -> int:
    """Characters of n-grams that stand before, without what was counted already.

    Args:
        places: the words that may begin one, ascending.
    """
    if len(places) < 2:
        return 0
    bits = table_bits(len(places))
    slots[: 1 << bits] = 0
    mask = np.uint64((1 << bits) - 1)
    repeated = free = 0
    for k in places:
        if k >= grams:
            break
        if k < free:
            continue
        begin, end = bounds[k], bounds[k + n]
        if end - begin >= LONG_PREFIX and not long_twice[k]:
            continue
        if end - begin >= PREFIX and not twice[k]:
            continue
        h = hash_bytes(joined, begin, end)
        hashes[k] = h
        at = h & mask
        while slots[at]:
            other = slots[at] - 1
            if hashes[other] == h:
                size = bounds[other + n] - bounds[other]
                if size == end - begin and same(joined, bounds[other], begin, size):
                    break
            at = (at + np.uint64(1)) & mask
        if slots[at]:
            repeated += chars[k + n] - chars[k]
            free = k + n
        else:
            slots[at] = k + 1
    return repeated

"""A fastText classifier over Arrow buffers: what the package's `predict` does to a line, a batch of documents at a time.

    words        runs of bytes that are no space, tab, line end, vertical tab, form feed or NUL; one </s> ends the text, wherever
                 its lines end, and a </s> in the text ends it there
    features     the word's own row if the dictionary has it, a row for each of its character n-grams (of `<word>`), and one for
                 each run of 2 to `ngrams` words, by FNV-1a hashes as signed numbers; words that are labels count for nothing
    score        the mean of the rows times the output matrix; softmax, its hierarchical form, or a sigmoid of each label

Everything after the sum of rows is linear up to the last step, so a file with fewer labels than dimensions is stored as the
product of both matrices (`prepare/fasttext_file.py`): a row is two numbers instead of a hundred. Sums are of float64 and the
exponential is made of multiplications, so a score is the same bits on every machine; the package's differ from them by the
rounding of its float32, and by the 1e-5 that it adds to every probability it prints.
"""

# mypy: disable-error-code="assignment,return-value,arg-type"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import functools
import math
import os
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from ..run.artifacts import Artifact

EOS = b"</s>"
LABEL = b"__label__"
HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4
"""Losses, as the file numbers them."""
_PREFIX = np.frombuffer(LABEL, np.uint8)
_EOS = np.frombuffer(EOS, np.uint8)
_SEED, _PRIME = 2_166_136_261, 16_777_619
MAX_NGRAMS, MAX_CHARACTERS = 8, 64
"""Of runs of words and of n-grams of characters: what a text takes grows with both."""
_ADDED = 116_049_371
"""By which the hash of a run of words is multiplied for the next word."""

SCHEMA = pa.schema(
    [
        pa.field("numbers", pa.large_list(pa.int64()), nullable=False),
        pa.field("words", pa.large_list(pa.uint8()), nullable=False),
        pa.field("word_offsets", pa.large_list(pa.int64()), nullable=False),
        pa.field("slots", pa.large_list(pa.uint64()), nullable=False),
        pa.field("pruned_from", pa.large_list(pa.int32()), nullable=False),
        pa.field("pruned_to", pa.large_list(pa.int32()), nullable=False),
        pa.field("table", pa.large_list(pa.float32()), nullable=False),
        pa.field("output", pa.large_list(pa.float32()), nullable=False),
        pa.field("path_offsets", pa.large_list(pa.int32()), nullable=False),
        pa.field("path_nodes", pa.large_list(pa.int32()), nullable=False),
        pa.field("path_right", pa.large_list(pa.uint8()), nullable=False),
        pa.field("values", pa.large_list(pa.float64()), nullable=False),
    ]
)
"""A `Classifier` in one row, mapped by whoever reads it."""


class Classifier(NamedTuple):
    """A classifier, in the order in which the kernel takes it."""

    numbers: np.ndarray
    """int64 [8]: words, shortest and longest n-gram of characters, longest run of words, buckets, whether n-grams were pruned,
    loss, entry of </s> or -1."""
    words: np.ndarray
    """uint8: the dictionary's entries, words before labels."""
    word_offsets: np.ndarray
    """int64 [entries + 1]."""
    slots: np.ndarray
    """uint64 [a power of two]: hash of an entry << 32 | its number + 1, probed linearly; 0: empty."""
    pruned_from: np.ndarray
    """int32, ascending: the buckets that are left."""
    pruned_to: np.ndarray
    """int32: the row of each, after those of the words."""
    table: np.ndarray
    """float32 [rows * columns]."""
    output: np.ndarray
    """float32 [labels * columns]."""
    path_offsets: np.ndarray
    """int32 [labels + 1]: of a hierarchical softmax, where a label's path from its leaf to the root begins."""
    path_nodes: np.ndarray
    """int32: rows of `output`."""
    path_right: np.ndarray
    """uint8: whether the path comes from the right."""
    values: np.ndarray
    """float64 [labels]: what each counts."""

    def stored(self) -> pa.RecordBatch:
        """`SCHEMA`."""
        return pa.RecordBatch.from_arrays(
            [
                pa.LargeListArray.from_arrays(
                    pa.array([0, len(values)], pa.int64()), pa.array(values, field.type.value_type)
                )
                for field, values in zip(SCHEMA, self, strict=True)
            ],
            schema=SCHEMA,
        )


@functools.lru_cache(maxsize=8)
def load_classifier(prepared: Artifact) -> Classifier:
    """What `prepare` made of a classifier's file; its arrays are mapped, and a worker keeps them.

    Raises:
        ValueError: the file is not what `prepare` writes; whoever made the run may have changed it.
    """
    try:
        with pa.memory_map(os.fspath(prepared.file)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        batch.validate(full=True)
        found = Classifier(*(batch.column(name)[0].values.to_numpy() for name in Classifier._fields))
        whole = batch.schema.equals(SCHEMA) and _is_whole(found)
    except (pa.ArrowException, LookupError, AttributeError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"{prepared.path} is damaged; delete it and run `fox1 curate` again")
    return found


def _is_whole(c: Classifier) -> bool:
    """Whether nothing in a classifier points outside it, and every search in it ends."""
    if len(c.numbers) != 8 or not len(c.values) or not len(c.slots):
        return False
    n_words, _, longest, ngrams, buckets, pruned, _, eos = c.numbers.tolist()
    entries, labels = len(c.word_offsets) - 1, len(c.values)
    columns, rest = divmod(len(c.output), labels)
    if not columns or rest or len(c.table) % columns:
        return False
    hashed = longest > 0 or ngrams > 1
    kept = int(c.pruned_to.max()) + 1 if len(c.pruned_to) else 0
    rows = n_words + ((kept if pruned else buckets) if hashed else 0)
    numbered = (c.slots & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return bool(
        0 <= n_words <= entries
        and entries >= 0
        and -1 <= eos < n_words + (n_words == 0)
        and 0 <= ngrams <= MAX_NGRAMS
        and 0 <= longest <= MAX_CHARACTERS
        and buckets >= 1
        and rows <= len(c.table) // columns
        and c.word_offsets[0] == 0
        and c.word_offsets[-1] <= len(c.words)
        and (np.diff(c.word_offsets) >= 0).all()
        and len(c.slots) & (len(c.slots) - 1) == 0
        and numbered.max(initial=0) <= entries
        and (c.slots == 0).any()
        and ((c.slots == 0) == (numbered == 0)).all()
        and len(c.pruned_from) == len(c.pruned_to)
        and (c.pruned_to >= 0).all()
        and len(c.path_offsets) == labels + 1
        and c.path_offsets[0] == 0
        and (np.diff(c.path_offsets) >= 0).all()
        and c.path_offsets[-1] <= min(len(c.path_nodes), len(c.path_right))
        and (c.path_nodes >= 0).all()
        and (c.path_nodes < labels).all()
    )


def score(classifier: Classifier, text: np.ndarray, offsets: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """float32 [n]: the score of every document, NaN of one without a feature.

    Args:
        text: uint8, the documents' UTF-8; `offsets`: int64 [n + 1], where each begins.
        skip: bool [n]: documents that are not scored, and get NaN.
    """
    out = np.full(len(offsets) - 1, np.nan, np.float32)
    # Arrow's buffers may be written or not: the kernel is compiled for one kind.
    _score(_read_only(text), _read_only(offsets), skip, out, *map(_read_only, classifier))
    return out


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True, inline="always")
def _separates(b: int) -> bool:
    return b == 32 or 9 <= b <= 13 or b == 0


@njit(cache=True, nogil=True, inline="always")
def _hashed(h: int, b: int) -> np.uint32:
    """One step of FNV-1a; bytes are signed numbers."""
    byte = np.uint32(b) | np.uint32(0xFFFFFF00) if b >= 128 else np.uint32(b)
    return np.uint32((np.uint32(h) ^ byte) * np.uint32(_PRIME))


@njit(cache=True, nogil=True)
def hash_word(text: np.ndarray, begin: int, end: int) -> np.uint32:
    """fastText's hash of a word."""
    h = np.uint32(_SEED)
    for i in range(begin, end):
        h = _hashed(h, text[i])
    return h


@njit(cache=True, nogil=True)
def fill_slots(words: np.ndarray, word_offsets: np.ndarray, slots: np.ndarray) -> int:
    """Put the entries of a dictionary into empty slots; returns an entry that is there twice, or -1."""
    mask = np.uint64(len(slots) - 1)
    for entry in range(len(word_offsets) - 1):
        begin, end = word_offsets[entry], word_offsets[entry + 1]
        h = hash_word(words, begin, end)
        if find_word(words, begin, end, h, words, word_offsets, slots) >= 0:
            return entry
        slot = np.uint64(h) & mask
        while slots[slot]:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = np.uint64(h) << np.uint64(32) | np.uint64(entry + 1)
    return -1


@njit(cache=True, nogil=True)
def find_word(
    text: np.ndarray, begin: int, end: int, h: int, words: np.ndarray, word_offsets: np.ndarray, slots: np.ndarray
) -> int:
    """The entry of a word of hash `h`; -1 if there is none."""
    mask = np.uint64(len(slots) - 1)
    slot = np.uint64(h) & mask
    while slots[slot]:
        if slots[slot] >> np.uint64(32) == np.uint64(h):
            entry = np.int64(slots[slot] & np.uint64(0xFFFFFFFF)) - 1
            at = word_offsets[entry]
            if word_offsets[entry + 1] - at == end - begin:
                same = True
                for k in range(end - begin):
                    if text[begin + k] != words[at + k]:
                        same = False
                        break
                if same:
                    return entry
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit(cache=True, nogil=True, inline="always")
def _row_of(bucket: int, n_words: int, pruned: bool, pruned_from: np.ndarray, pruned_to: np.ndarray) -> int:
    """The row of a bucket; -1 where it was pruned away."""
    if not pruned:
        return n_words + bucket
    low, high = 0, len(pruned_from)
    while low < high:
        middle = (low + high) // 2
        if pruned_from[middle] < bucket:
            low = middle + 1
        else:
            high = middle
    return n_words + pruned_to[low] if low < len(pruned_from) and pruned_from[low] == bucket else -1


@njit(cache=True, nogil=True, inline="always")
def _bracketed(text: np.ndarray, begin: int, end: int, k: int) -> int:
    """Byte k of `<word>`."""
    if k == 0:
        return 60
    return 62 if k == end - begin + 1 else np.int64(text[begin + k - 1])


@njit(cache=True, nogil=True)
def _is(text: np.ndarray, begin: int, end: int, word: np.ndarray) -> bool:
    """Whether some bytes begin with a word."""
    if end - begin < len(word):
        return False
    for k in range(len(word)):  # noqa: SIM110
        if text[begin + k] != word[k]:
            return False
    return True


@njit(cache=True, nogil=True)
def exponential(x: float) -> float:
    """exp(x) for x <= 0 to the last bits of a float64, by multiplications and divisions alone."""
    if x < -700.0:
        return 0.0
    k = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    power = 1.0
    for i in range(13, 0, -1):
        power = 1.0 + r * power / i
    return math.ldexp(power, np.int64(k))


@njit(cache=True, nogil=True, inline="always")
def _sigmoid(x: float) -> float:
    small = exponential(-abs(x))
    return 1.0 / (1.0 + small) if x >= 0 else small / (1.0 + small)


@njit(cache=True, nogil=True)
def _score(
    text: np.ndarray,
    offsets: np.ndarray,
    skip: np.ndarray,
    out: np.ndarray,
    numbers: np.ndarray,
    words: np.ndarray,
    word_offsets: np.ndarray,
    slots: np.ndarray,
    pruned_from: np.ndarray,
    pruned_to: np.ndarray,
    table: np.ndarray,
    output: np.ndarray,
    path_offsets: np.ndarray,
    path_nodes: np.ndarray,
    path_right: np.ndarray,
    values: np.ndarray,
) -> None:
    n_words, shortest, longest, ngrams = numbers[0], numbers[1], numbers[2], numbers[3]
    buckets, pruned, loss, eos = numbers[4], numbers[5] != 0, numbers[6], numbers[7]
    labels = len(values)
    columns = len(output) // labels
    sums, logits = np.zeros(columns), np.zeros(labels)
    # The hashes of the runs of words that the next word may go on: that of the run from word j on is in place j.
    runs = np.zeros(max(ngrams - 1, 1), np.uint64)
    for d in range(len(offsets) - 1):
        if skip[d]:
            continue
        for c in range(columns):
            sums[c] = 0.0
        rows = 0
        n = 0
        at, end = offsets[d], offsets[d + 1]
        more = True
        while more:
            while at < end and _separates(text[at]):
                at += 1
            begin = at
            while at < end and not _separates(text[at]):
                at += 1
            more = at > begin and not (at - begin == len(_EOS) and _is(text, begin, at, _EOS))
            if more:
                h = hash_word(text, begin, at)
                entry = find_word(text, begin, at, h, words, word_offsets, slots)
                if entry >= n_words or (entry < 0 and _is(text, begin, at, _PREFIX)):
                    continue
            else:
                h = hash_word(_EOS, 0, len(_EOS))
                entry = eos
            if entry >= 0:
                for c in range(columns):
                    sums[c] += table[entry * columns + c]
                rows += 1
            if more and longest > 0:
                size = at - begin + 2
                for i in range(size):
                    if _bracketed(text, begin, at, i) & 0xC0 == 0x80:
                        continue
                    g = np.uint32(_SEED)
                    j, length = i, 1
                    while j < size and length <= longest:
                        g = _hashed(g, _bracketed(text, begin, at, j))
                        j += 1
                        while j < size and _bracketed(text, begin, at, j) & 0xC0 == 0x80:
                            g = _hashed(g, _bracketed(text, begin, at, j))
                            j += 1
                        if length >= shortest and not (length == 1 and (i == 0 or j == size)):
                            row = _row_of(np.int64(g) % buckets, n_words, pruned, pruned_from, pruned_to)
                            if row >= 0:
                                for c in range(columns):
                                    sums[c] += table[row * columns + c]
                                rows += 1
                        length += 1
            if ngrams > 1:
                signed = np.uint64(np.int64(np.int32(h)))
                for k in range(min(n, ngrams - 1)):
                    runs[k] = runs[k] * np.uint64(_ADDED) + signed
                    row = _row_of(np.int64(runs[k] % np.uint64(buckets)), n_words, pruned, pruned_from, pruned_to)
                    if row >= 0:
                        for c in range(columns):
                            sums[c] += table[row * columns + c]
                        rows += 1
                runs[n % (ngrams - 1)] = signed
                n += 1
        if rows == 0:
            continue
        highest = -np.inf
        for k in range(labels):
            logit = 0.0
            for c in range(columns):
                logit += sums[c] / rows * output[k * columns + c]
            logits[k] = logit
            highest = max(highest, logit)
        found = 0.0
        if loss == SOFTMAX:
            total = 0.0
            for k in range(labels):
                p = exponential(logits[k] - highest)
                total += p
                found += values[k] * p
            found /= total
        else:
            for k in range(labels):
                if values[k] == 0.0:
                    continue
                if loss == HIERARCHICAL:
                    p = 1.0
                    for i in range(path_offsets[k], path_offsets[k + 1]):
                        right = _sigmoid(logits[path_nodes[i]])
                        p *= right if path_right[i] else 1.0 - right
                else:
                    p = _sigmoid(logits[k])
                found += values[k] * p
        out[d] = found

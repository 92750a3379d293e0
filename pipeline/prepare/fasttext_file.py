"""A fastText file (.bin, .ftz) to a `Classifier`: read once, checked, and no larger than what scoring needs.

    magic, version | arguments | dictionary: entries, pruned buckets | quantised? | input matrix | quantised? | output matrix

Files are of others: every count is checked against the bytes that are left, and against what fits into memory, before anything
of that size is taken. The input matrix, which is nearly all of the file, goes by in blocks: multiplied by the output matrix if
there are fewer labels than dimensions, else as it is. Quantised matrices are written out.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np
from numba import njit

from ...storage.reading import Misshapen
from ...storage.wording import printable
from ..signals.fasttext import (
    EOS,
    HIERARCHICAL,
    LABEL,
    MAX_CHARACTERS,
    MAX_NGRAMS,
    ONE_VS_ALL,
    Classifier,
    fill_slots,
    find_word,
    hash_word,
)

MAGIC, VERSIONS, SUPERVISED = 793_712_314, (11, 12), 3
MAX_DIM, MAX_LABELS = 4096, 4096
MAX_TABLE = 1 << 30
"""Bytes of the rows that are kept: a worker maps them."""
MAX_WORD = 1 << 20
"""Bytes of an entry of a dictionary."""
MAX_ENTRIES = 30_000_000
"""fastText itself keeps no more."""
BLOCK = 8 << 20
CENTROIDS = 256
_ENTRY = 9
"""Bytes of an entry after its word: a count and whether it is a label."""
_COUNT = 10**15
"""fastText's own mark of a node of its tree that has no count yet."""


class FileReader:
    """A file from its begin, of known size."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size, self.at = file, size, 0

    @property
    def left(self) -> int:
        return self.size - self.at

    def need(self, size: int, what: str) -> None:
        """Raises Misshapen where the file does not hold so many more bytes."""
        if not 0 <= size <= self.left:
            raise Misshapen(f"its {what} would take {size:,} bytes, and {self.left:,} are left")

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        data = self.file.read(size)
        if len(data) != size:
            raise Misshapen(f"it ends within its {what}")
        self.at += size
        return data

    def unpack(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}"), what))

    def go(self, at: int) -> None:
        self.file.seek(at)
        self.at = at


class Arguments(NamedTuple):
    """What the file says of the training that scoring depends on."""

    dim: int
    ngrams: int
    loss: int
    buckets: int
    shortest: int
    longest: int


@dataclass(frozen=True)
class Dictionary:
    """Words, then labels."""

    words: np.ndarray
    """uint8."""
    offsets: np.ndarray
    """int64 [entries + 1]."""
    n_words: int
    counts: tuple[int, ...]
    """Of the labels."""
    pruned_from: np.ndarray
    pruned_to: np.ndarray
    pruned: bool
    rows: int
    """Of the input matrix that words and n-grams may name."""

    @property
    def labels(self) -> list[str]:
        bounds = self.offsets[self.n_words :].tolist()
        return [self.words[a:b].tobytes().decode(errors="replace") for a, b in itertools.pairwise(bounds)]


@dataclass(frozen=True)
class ReadClassifier:
    """A classifier of which no label counts yet."""

    classifier: Classifier
    labels: tuple[str, ...]
    dim: int

    def counting(self, wanted: tuple[tuple[str, float], ...]) -> Classifier:
        """The classifier with what its labels count.

        Args:
            wanted: (label, what it counts); `__label__` may be left out.

        Raises:
            Misshapen: it has no such label, or none is asked for.
        """
        known = f"its labels are {printable(', '.join(self.labels[:12]))}{', ...' if len(self.labels) > 12 else ''}"
        if not wanted:
            raise Misshapen(f"no `labels` say what its score is; {known}")
        values = np.zeros(len(self.labels))
        for name, value in wanted:
            found = next((n for n in (name, LABEL.decode() + name) if n in self.labels), None)
            if found is None:
                raise Misshapen(f"it has no label {name!r}; {known}")
            values[self.labels.index(found)] += value
        return self.classifier._replace(values=values)


def read_fasttext(file: IO[bytes], size: int) -> ReadClassifier:
    """Read a classifier.

    Args:
        file: at its begin; it can be read from anywhere.
        size: its bytes.

    Raises:
        Misshapen: it is none, is damaged, or is larger than what is read.
        OSError: the store cannot be read.
    """
    reader = FileReader(file, size)
    arguments = _arguments(reader)
    dictionary = _dictionary(reader, arguments)
    labels = dictionary.labels
    (quantised,) = reader.unpack("?", "kind of matrix")
    inputs = _matrix(reader, bool(quantised), arguments.dim, "input matrix")
    if inputs.rows < dictionary.rows:
        raise Misshapen(f"its input matrix has {inputs.rows:,} rows for {dictionary.rows:,} words and n-grams")
    after = reader.at
    (output_quantised,) = reader.unpack("?", "kind of matrix")
    outputs = _matrix(reader, bool(quantised and output_quantised), arguments.dim, "output matrix")
    if outputs.rows != len(labels):
        raise Misshapen(f"its output matrix has {outputs.rows:,} rows for {len(labels):,} labels")
    weights = np.concatenate([block.copy() for block in outputs.blocks(reader)]).reshape(len(labels), arguments.dim)
    reader.go(after)
    projects = len(labels) < arguments.dim
    columns = len(labels) if projects else arguments.dim
    if (bytes_ := dictionary.rows * columns * 4) > MAX_TABLE:
        raise Misshapen(
            f"{dictionary.rows:,} rows of {columns:,} numbers are {bytes_ >> 20:,} MiB, more than {MAX_TABLE >> 20:,}; "
            "quantise it with a cutoff"
        )
    table = np.empty((dictionary.rows, columns), np.float32)
    at = 0
    for block in inputs.blocks(reader):
        rows = block[: dictionary.rows - at]
        if projects:
            _project(rows, weights, table[at : at + len(rows)])
        else:
            table[at : at + len(rows)] = rows
        at += len(rows)
        if at == dictionary.rows:
            break
    if not (np.isfinite(table).all() and np.isfinite(weights).all()):
        raise Misshapen("it holds weights that are no numbers")
    classifier = _assembled(arguments, dictionary, table, np.eye(columns, dtype=np.float32) if projects else weights)
    return ReadClassifier(classifier, tuple(labels), arguments.dim)


def _arguments(reader: FileReader) -> Arguments:
    if reader.left < 8 or reader.unpack("i", "begin")[0] != MAGIC:
        raise Misshapen("it is no fastText model (.bin or .ftz)")
    (version,) = reader.unpack("i", "version")
    if version not in VERSIONS:
        raise Misshapen(f"it is of fastText's file version {version}; known are 11 and 12")
    dim, _, _, _, _, ngrams, loss, model, buckets, shortest, longest, _, _ = reader.unpack("12id", "arguments")
    if model != SUPERVISED:
        raise Misshapen("it holds word vectors, and no classifier")
    if version == 11:
        longest = 0  # as fastText reads them: these models had no n-grams of characters
    for name, value, least, most in (
        ("dimensions", dim, 1, MAX_DIM),
        ("words of an n-gram", ngrams, 0, MAX_NGRAMS),
        ("characters of an n-gram", longest, 0, MAX_CHARACTERS),
        ("characters of an n-gram", shortest, 0, (1 << 31) - 1),
        ("loss", loss, HIERARCHICAL, ONE_VS_ALL),
        ("buckets", buckets, 1 if longest or ngrams > 1 else 0, (1 << 31) - 1),
    ):
        if not least <= value <= most:
            raise Misshapen(f"its number of {name} is {value:,}, not {least:,} to {most:,}")
    return Arguments(dim, ngrams, loss, buckets, shortest, longest)


def _dictionary(reader: FileReader, arguments: Arguments) -> Dictionary:
    entries, n_words, n_labels, _, n_pruned = reader.unpack("3i2q", "dictionary")
    if not (1 <= n_labels <= MAX_LABELS and n_words >= 0 and n_words + n_labels == entries <= MAX_ENTRIES):
        raise Misshapen(
            f"its dictionary has {entries:,} entries, {n_words:,} words and {n_labels:,} labels; at most "
            f"{MAX_LABELS:,} labels and {MAX_ENTRIES:,} entries are read"
        )
    reader.need(entries * (_ENTRY + 1), "dictionary")
    offsets, counts, kinds = np.zeros(entries + 1, np.int64), np.empty(entries, np.int64), np.empty(entries, np.uint8)
    parts: list[np.ndarray] = []
    done, begin = 0, reader.at
    while done < entries:
        reader.go(begin)
        data = np.frombuffer(reader.take(min(BLOCK, reader.left), "dictionary"), np.uint8)
        words = np.empty(len(data), np.uint8)
        found, used, kept = _entries(data, words, offsets[done:], counts[done:], kinds[done:], int(offsets[done]))
        if not found or used > begin + len(data):
            raise Misshapen(f"entry {done:,} of its dictionary does not end")
        parts.append(words[:kept].copy())
        done, begin = done + found, begin + used
    reader.go(begin)
    if (sizes := np.diff(offsets)).max() > MAX_WORD or sizes.min() < 1:
        raise Misshapen("its dictionary has an entry without a word, or of more than a megabyte")
    if kinds[:n_words].any() or not (kinds[n_words:] == 1).all():
        raise Misshapen("the labels of its dictionary do not follow its words")
    of_labels = counts[n_words:]
    if arguments.loss == HIERARCHICAL and (of_labels.min() < 0 or of_labels.max() >= _COUNT):
        raise Misshapen("its labels have counts that are none")
    buckets = arguments.buckets if arguments.longest or arguments.ngrams > 1 else 0
    pairs = np.empty((0, 2), np.int32)
    if n_pruned > 0:
        reader.need(8 * n_pruned, "pruned n-grams")
        pairs = np.frombuffer(reader.take(8 * n_pruned, "pruned n-grams"), "<i4").reshape(-1, 2)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        if pairs.min() < 0 or (np.diff(pairs[:, 0]) < 1).any():
            raise Misshapen("it has a pruned n-gram twice, or one that is none")
    hashed = 1 + int(pairs[:, 1].max()) if len(pairs) else 0 if n_pruned >= 0 else buckets
    return Dictionary(
        np.concatenate(parts),
        offsets,
        n_words,
        tuple(of_labels.tolist()),
        np.ascontiguousarray(pairs[:, 0]),
        np.ascontiguousarray(pairs[:, 1]),
        n_pruned >= 0,
        n_words + hashed,
    )


@njit(cache=True, nogil=True)
def _entries(
    data: np.ndarray, words: np.ndarray, ends: np.ndarray, counts: np.ndarray, kinds: np.ndarray, end: int
) -> tuple[int, int, int]:
    """(whole entries in `data`, bytes of them, bytes of their words, which go to `words`)."""
    at = kept = found = 0
    while found < len(counts):
        stop = at
        while stop < len(data) and data[stop]:
            stop += 1
        if stop + 1 + _ENTRY > len(data):
            break
        for i in range(at, stop):
            words[kept] = data[i]
            kept += 1
        count = np.int64(0)
        for k in range(8):
            count |= np.int64(data[stop + 1 + k]) << (8 * k)
        counts[found], kinds[found] = count, data[stop + 9]
        found += 1
        ends[found] = end + kept
        at = stop + 1 + _ENTRY
    return found, at, kept


@dataclass(frozen=True)
class Matrix:
    """A matrix of a file, which its blocks read."""

    begin: int
    rows: int
    dim: int
    quantiser: Quantiser | None = None

    def blocks(self, reader: FileReader):  # type: ignore[no-untyped-def]
        """Yields float32 [rows, dim], some rows at a time."""
        step = max(1, BLOCK // (4 * self.dim))
        for first in range(0, self.rows, step):
            n = min(step, self.rows - first)
            if self.quantiser:
                yield self.quantiser.rows(first, n)
            else:
                reader.go(self.begin + 4 * self.dim * first)
                yield np.frombuffer(reader.take(4 * self.dim * n, "matrix"), "<f4").reshape(n, self.dim)


@dataclass(frozen=True)
class Quantiser:
    """The codes of a quantised matrix, and what they stand for."""

    codes: np.ndarray
    """uint8 [rows, parts]."""
    centroids: np.ndarray
    """float32 [parts, 256, values of a part]; of the last part fewer values may be used."""
    norms: np.ndarray
    """float32 [rows], or [0]: all are 1."""
    dim: int

    def rows(self, first: int, n: int) -> np.ndarray:
        """float32 [n, dim]."""
        codes = self.codes[first : first + n]
        parts = self.centroids[np.arange(codes.shape[1]), codes]
        found = parts.reshape(n, -1)[:, : self.dim]
        return found * self.norms[first : first + n, None] if len(self.norms) else np.ascontiguousarray(found)


def _matrix(reader: FileReader, quantised: bool, dim: int, what: str) -> Matrix:
    """A matrix; the reader stands behind it."""
    (normed,) = reader.unpack("?", what) if quantised else (False,)
    rows, columns = reader.unpack("2q", what)
    if columns != dim or not 0 < rows <= 1 << 32:
        raise Misshapen(f"its {what} has {rows:,} rows of {columns:,} numbers, where the model has {dim:,} dimensions")
    if not quantised:
        begin = reader.at
        reader.need(4 * rows * dim, what)
        reader.go(begin + 4 * rows * dim)
        return Matrix(begin, rows, dim)
    (size,) = reader.unpack("i", what)
    if size <= 0 or size % rows:
        raise Misshapen(f"its {what} has {size:,} codes for {rows:,} rows")
    codes = np.frombuffer(reader.take(size, what), np.uint8).reshape(rows, size // rows)
    centroids = _centroids(reader, dim, codes.shape[1], what)
    norms = np.empty(0, np.float32)
    if normed:
        of_norms = np.frombuffer(reader.take(rows, what), np.uint8)
        norms = _centroids(reader, 1, 1, what)[0, of_norms, 0]
    return Matrix(reader.at, rows, dim, Quantiser(codes, centroids, norms, dim))


def _centroids(reader: FileReader, dim: int, n_parts: int, what: str) -> np.ndarray:
    """float32 [parts, 256, values of a part]."""
    size, parts, of_part, of_last = reader.unpack("4i", what)
    if (
        (size, parts) != (dim, n_parts)
        or of_part < 1
        or (parts - 1) * of_part + of_last != dim
        or not 0 < of_last <= of_part
    ):
        raise Misshapen(f"its {what} is cut into {parts:,} parts of {of_part:,} numbers, which are not {dim:,} in all")
    stored = np.frombuffer(reader.take(4 * dim * CENTROIDS, what), "<f4")
    found = np.zeros((parts, CENTROIDS, of_part), np.float32)
    whole = (parts - 1) * CENTROIDS * of_part
    found[:-1] = stored[:whole].reshape(parts - 1, CENTROIDS, of_part)
    found[-1, :, :of_last] = stored[whole:].reshape(CENTROIDS, of_last)
    return found


@njit(cache=True, nogil=True)
def _project(rows: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """The product of rows and the transposed weights, in an order that is the same on every machine."""
    for i in range(len(rows)):
        for k in range(len(weights)):
            total = 0.0
            for c in range(rows.shape[1]):
                total += np.float64(rows[i, c]) * np.float64(weights[k, c])
            out[i, k] = total


def _assembled(arguments: Arguments, dictionary: Dictionary, table: np.ndarray, output: np.ndarray) -> Classifier:
    entries = len(dictionary.offsets) - 1
    slots = np.zeros(1 << max(4, math.ceil(math.log2(2 * entries))), np.uint64)
    if (twice := fill_slots(dictionary.words, dictionary.offsets, slots)) >= 0:
        word = dictionary.words[dictionary.offsets[twice] : dictionary.offsets[twice + 1]].tobytes()
        raise Misshapen(f"its dictionary has {printable(word.decode(errors='replace')[:200])} twice")
    mark = np.frombuffer(EOS, np.uint8)
    eos = find_word(mark, 0, len(mark), hash_word(mark, 0, len(mark)), dictionary.words, dictionary.offsets, slots)
    numbers = [
        dictionary.n_words,
        arguments.shortest,
        arguments.longest,
        arguments.ngrams,
        max(arguments.buckets, 1),
        int(dictionary.pruned),
        arguments.loss,
        eos if eos < dictionary.n_words else -1,
    ]
    paths = _paths(dictionary.counts) if arguments.loss == HIERARCHICAL else [[] for _ in dictionary.counts]
    return Classifier(
        np.array(numbers, np.int64),
        dictionary.words,
        dictionary.offsets,
        slots,
        dictionary.pruned_from,
        dictionary.pruned_to,
        table.ravel(),
        np.ascontiguousarray(output, np.float32).ravel(),
        np.cumsum([0, *map(len, paths)]).astype(np.int32),
        np.array([node for path in paths for node, _ in path], np.int32),
        np.array([right for path in paths for _, right in path], np.uint8),
        np.zeros(len(dictionary.counts)),
    )


def _paths(counts: tuple[int, ...]) -> list[list[tuple[int, bool]]]:
    """For every label (row of the output matrix, whether the path comes from its right) from its leaf to the root of the tree that
    fastText builds of the labels' counts, which are in descending order.
    """
    n = len(counts)
    count = [*counts, *[_COUNT] * (n - 1)]
    parent, right = [-1] * len(count), [False] * len(count)
    leaf, node = n - 1, n
    for made in range(n, len(count)):
        pair = []
        for _ in range(2):
            if leaf >= 0 and count[leaf] < count[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        count[made] = count[pair[0]] + count[pair[1]]
        parent[pair[0]] = parent[pair[1]] = made
        right[pair[1]] = True
    found = []
    for at in range(n):
        path = []
        while parent[at] >= 0:
            path.append((parent[at] - n, right[at]))
            at = parent[at]
        found.append(path)
    return found

"""Files of fastText classifiers with weights of choice, and what the package does with a text, in plain Python."""

from __future__ import annotations

import itertools
import math
import re
import struct
from dataclasses import dataclass, field

import numpy as np

MAGIC, VERSION = 793_712_314, 12
HS, NS, SOFTMAX, OVA = 1, 2, 3, 4


@dataclass(frozen=True)
class Model:
    """What stands in a file."""

    words: tuple[str, ...]
    labels: tuple[tuple[str, int], ...]
    """(label, how often it was seen), the most frequent one first."""
    inputs: np.ndarray
    """float32 [rows, dim]."""
    outputs: np.ndarray
    """float32 [labels, dim]."""
    ngrams: int = 1
    shortest: int = 0
    longest: int = 0
    buckets: int = 0
    loss: int = SOFTMAX
    pruned: tuple[tuple[int, int], ...] | None = None
    """(bucket, row after those of the words); None: every bucket has its row."""
    model: int = 3
    version: int = VERSION
    magic: int = MAGIC
    parts: int = 0
    """Quantise the inputs into so many parts of a row; 0: leave them."""
    normed: bool = field(default=False)

    @property
    def dim(self) -> int:
        return int(self.inputs.shape[1])

    def file(self) -> bytes:
        """The bytes of the file."""
        out = struct.pack("<2i", self.magic, self.version)
        numbers = [
            self.dim,
            5,
            5,
            1,
            5,
            self.ngrams,
            self.loss,
            self.model,
            self.buckets,
            self.shortest,
            self.longest,
            100,
        ]
        out += struct.pack("<12id", *numbers, 1e-4)
        entries = [(w, 3, 0) for w in self.words] + [(name, n, 1) for name, n in self.labels]
        n_pruned = -1 if self.pruned is None else len(self.pruned)
        out += struct.pack("<3i2q", len(entries), len(self.words), len(self.labels), 99, n_pruned)
        for word, count, kind in entries:
            out += word.encode() + b"\0" + struct.pack("<qb", count, kind)
        for pair in self.pruned or ():
            out += struct.pack("<2i", *pair)
        out += struct.pack("?", self.parts > 0)
        out += quantised(self.inputs, self.parts, self.normed) if self.parts else dense(self.inputs)
        return out + struct.pack("?", False) + dense(self.outputs)

    def features(self, text: str) -> list[int]:
        """The rows that stand for a text."""
        known = {word: i for i, word in enumerate([*self.words, *(name for name, _ in self.labels)])}
        tokens = [t for t in re.split("[ \n\r\t\v\f\0]+", text) if t]
        tokens = tokens[: tokens.index("</s>")] if "</s>" in tokens else tokens
        rows, hashes = [], []
        for token in [*tokens, "</s>"]:
            entry = known.get(token, -1)
            if entry >= len(self.words) or (entry < 0 and token.startswith("__label__")):
                continue
            if entry >= 0:
                rows.append(entry)
            if token != "</s>" and self.longest:
                rows += self._row(fnv(g) % self.buckets for g in characters(f"<{token}>", self.shortest, self.longest))
            hashes.append(signed(fnv(token.encode())))
        for i, h in enumerate(hashes):
            run = h
            for other in hashes[i + 1 : i + self.ngrams]:
                run = (run * 116_049_371 + other) % (1 << 64)
                rows += self._row([run % self.buckets])
        return rows

    def _row(self, buckets: object) -> list[int]:
        kept = None if self.pruned is None else dict(self.pruned)
        found = (b if kept is None else kept.get(b) for b in buckets)  # type: ignore[attr-defined]
        return [len(self.words) + b for b in found if b is not None]

    def probabilities(self, text: str) -> np.ndarray | None:
        """float64 [labels]; None where the text has no feature."""
        rows = self.features(text)
        if not rows:
            return None
        inputs = read_quantised(self.inputs, self.parts, self.normed) if self.parts else self.inputs
        hidden = inputs[rows].astype(np.float64).sum(axis=0) / len(rows)
        logits = self.outputs.astype(np.float64) @ hidden
        if self.loss == SOFTMAX:
            e = np.exp(logits - logits.max())
            return e / e.sum()
        right = 1 / (1 + np.exp(-logits))
        return np.array([tree_product(p, right) for p in tree(self.labels)]) if self.loss == HS else right


def fnv(data: bytes) -> int:
    h = 2_166_136_261
    for b in data:
        h = (h ^ (b | 0xFFFFFF00 if b > 127 else b)) * 16_777_619 % (1 << 32)
    return h


def signed(h: int) -> int:
    """A 32-bit number as a signed one, as it goes into one of 64 bits."""
    return (h - (1 << 32) if h >> 31 else h) % (1 << 64)


def characters(word: str, shortest: int, longest: int) -> list[bytes]:
    """The n-grams of a word in its brackets, without those of a bracket alone."""
    found = []
    for i in range(len(word)):
        for n in range(1, longest + 1):
            if i + n > len(word):
                break
            if n >= shortest and not (n == 1 and (i == 0 or i + n == len(word))):
                found.append(word[i : i + n].encode())
    return found


def tree(labels: tuple[tuple[str, int], ...]) -> list[list[tuple[int, bool]]]:
    """For every label (inner node, whether it lies to the right) of the tree of the two least counts at a time."""
    n = len(labels)
    nodes = [(count, [i]) for i, (_, count) in enumerate(labels)]
    paths: list[list[tuple[int, bool]]] = [[] for _ in labels]
    leaves, inner = list(range(n))[::-1], list[int]()
    for made in range(n, 2 * n - 1):
        pair = []
        for _ in range(2):
            if leaves and (not inner or nodes[leaves[0]][0] < nodes[inner[0]][0]):
                pair.append(leaves.pop(0))
            else:
                pair.append(inner.pop(0))
        for node, right in zip(pair, (False, True), strict=True):
            for leaf in nodes[node][1]:
                paths[leaf].append((made - n, right))
        nodes.append((nodes[pair[0]][0] + nodes[pair[1]][0], nodes[pair[0]][1] + nodes[pair[1]][1]))
        inner.append(made)
    return paths


def tree_product(path: list[tuple[int, bool]], right: np.ndarray) -> float:
    return math.prod(float(right[node]) if to_right else 1 - float(right[node]) for node, to_right in path)


def dense(matrix: np.ndarray) -> bytes:
    return struct.pack("<2q", *matrix.shape) + matrix.astype("<f4").tobytes()


def _codes(matrix: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(codes, centroids by part, values of a part, of the last one) of a matrix of at most 256 rows, each its own centroid."""
    rows, dim = matrix.shape
    of_part = -(-dim // parts)
    last = dim - (parts - 1) * of_part
    codes = np.repeat(np.arange(rows, dtype=np.uint8)[:, None], parts, axis=1)
    return codes, matrix, of_part, last


def quantised(matrix: np.ndarray, parts: int, normed: bool) -> bytes:
    """A quantised matrix of at most 256 rows, without a loss; or with norms that are 2."""
    rows, dim = matrix.shape
    codes, values, of_part, last = _codes(matrix, parts)
    out = struct.pack("<?2qi", normed, rows, dim, codes.size) + codes.tobytes()
    out += struct.pack("<4i", dim, parts, of_part, last)
    padded = np.zeros((256, dim), np.float32)
    padded[:rows] = values
    bounds = [*range(0, of_part * parts, of_part), dim]
    out += b"".join(padded[:, a:b].astype("<f4").tobytes() for a, b in itertools.pairwise(bounds))
    if normed:
        out += bytes(rows) + struct.pack("<4i", 1, 1, 1, 1) + np.full(256, 2.0, "<f4").tobytes()
    return out


def read_quantised(matrix: np.ndarray, parts: int, normed: bool) -> np.ndarray:
    """What such a matrix stands for."""
    return matrix * np.float32(2) if normed else matrix


def made_up(seed: int, **facts: object) -> Model:
    """A model of a few words with weights of chance."""
    rng = np.random.default_rng(seed)
    words = ("</s>", "the", "cat", "sat", "naïve", "日本語", "of")
    labels = facts.pop("labels", (("__label__good", 7), ("__label__bad", 5), ("__label__dull", 2)))
    dim = int(facts.pop("dim", 5))  # type: ignore[call-overload]
    pruned = facts.get("pruned")
    hashed = int(facts.get("buckets", 0)) if pruned is None else len(pruned)  # type: ignore[call-overload, arg-type]
    inputs = rng.normal(0, 2, (len(words) + hashed, dim)).astype(np.float32)
    outputs = rng.normal(0, 1, (len(labels), dim)).astype(np.float32)  # type: ignore[arg-type]
    return Model(words, labels, inputs, outputs, **facts)  # type: ignore[arg-type]

"""Quality score: a linear model over hashed word 1-2-grams, one per domain; and the formula for domains without one.

A model is trained (`train`) to tell documents of subsets that the recipe names as good from those it names as ordinary,
and ranks documents within its domain: across domains a score would only learn which corpus a text came from. Training
runs in a fixed order with additions and multiplications alone, and weights are stored as int16, so a model is the same
bytes on every machine and a score is an exact integer.

score = 32768 + (64 * sum of the weights of a document's n-grams) // (number of its n-grams), held to uint16.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from .hashing import mix64
from .segment import Segments

BUCKETS = 1 << 18
"""Hash buckets of n-grams: 512 KiB of weights, what a core's own cache holds."""
MIDDLE = 32_768
GAIN = 64
QUANTUM = 1 / 1024
"""A weight of 1 (in log-odds per n-gram) is stored as 1024."""


@dataclass(frozen=True)
class QualityModels:
    """Weights by domain."""

    domains: tuple[str, ...]
    weights: np.ndarray
    """int16 [domains, BUCKETS]."""


def score(s: Segments, models: QualityModels, domain: np.ndarray, formula: np.ndarray) -> np.ndarray:
    """uint16 [n]: higher is better.

    Args:
        domain: int64 [n], index into `models.domains`, -1 where the domain has no model.
        formula: uint16 [n] from `formula_score`, used for those.
    """
    sums = _sum_weights(s.word_offsets, s.word_hash, domain, models.weights)
    grams = np.maximum(2 * np.diff(s.word_offsets) - 1, 1)
    scores = np.clip(MIDDLE + (GAIN * sums) // grams, 0, 65_535)
    return np.where(domain >= 0, scores, formula).astype(np.uint16)


@njit(cache=True, nogil=True, inline="always")
def _bucket(h: np.uint64) -> np.int64:
    return np.int64(h >> np.uint64(46))


@njit(cache=True, nogil=True, inline="always")
def _pair(a: np.uint64, b: np.uint64) -> np.int64:
    return _bucket((a * np.uint64(0x9E3779B97F4A7C15)) ^ mix64(b + np.uint64(1)))


@njit(cache=True, nogil=True)
def _sum_weights(
    word_offsets: np.ndarray, word_hash: np.ndarray, domain: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    n = len(word_offsets) - 1
    out = np.zeros(n, np.int64)
    for d in range(n):
        if domain[d] < 0:
            continue
        own_weights = weights[domain[d]]
        total = np.int64(0)
        for w in range(word_offsets[d], word_offsets[d + 1]):
            h = word_hash[w]
            total += own_weights[_bucket(h)]
            if w > word_offsets[d]:
                total += own_weights[_pair(word_hash[w - 1], h)]
        out[d] = total
    return out


@dataclass(frozen=True)
class Trained:
    """A model of one domain, and how well it classifies documents that it has not seen."""

    weights: np.ndarray
    """int16 [BUCKETS]."""
    n_good: int
    n_ordinary: int
    held_out: int
    """Documents of both kinds held out of training."""
    correct: int
    """How many of these the stored weights classify correctly."""


def train(s: Segments, good: np.ndarray, held_out: np.ndarray, epochs: int = 5) -> Trained:
    """Train on the documents of a batch.

    Args:
        good: bool [n]: whether a document is from a good subset; the others are ordinary.
        held_out: bool [n]: held out of training, to measure the model.
    """
    weights = _train(s.word_offsets, s.word_hash, good, ~held_out, epochs)
    stored = np.clip(np.rint(weights / QUANTUM), -32_768, 32_767).astype(np.int16)
    domain = np.zeros(len(good), np.int64)
    positive = _sum_weights(s.word_offsets, s.word_hash, domain, stored.reshape(1, -1)) > 0
    return Trained(
        stored,
        int((good & ~held_out).sum()),
        int((~good & ~held_out).sum()),
        int(held_out.sum()),
        int((positive == good)[held_out].sum()),
    )


@njit(cache=True, nogil=True)
def _train(
    word_offsets: np.ndarray, word_hash: np.ndarray, good: np.ndarray, used: np.ndarray, epochs: int
) -> np.ndarray:
    """Averaged stochastic gradient descent on the squared hinge loss: no exponential, so no library's rounding.

    The margin is of the mean weight of a document's n-grams, so that length says nothing. Classes weigh the same.
    """
    n = len(word_offsets) - 1
    weights = np.zeros(BUCKETS, np.float64)
    mean = np.zeros(BUCKETS, np.float64)
    positive = negative = 0
    for d in range(n):
        if used[d]:
            positive += good[d]
            negative += not good[d]
    steps = 0
    for epoch in range(epochs):
        rate = 4.0 / (1 + epoch)
        for d in range(n):
            first, last = word_offsets[d], word_offsets[d + 1]
            if not used[d] or last == first:
                continue
            grams = 2 * (last - first) - 1
            total = 0.0
            for w in range(first, last):
                total += weights[_bucket(word_hash[w])]
                if w > first:
                    total += weights[_pair(word_hash[w - 1], word_hash[w])]
            label = 1.0 if good[d] else -1.0
            # Document lengths differ by orders: the square root keeps long ones from settling everything.
            norm = np.sqrt(np.float64(grams))
            gap = 1.0 - label * total / norm
            steps += 1
            if gap <= 0.0:
                continue
            balance = np.float64(positive + negative) / (2.0 * (positive if good[d] else negative))
            step = rate * min(gap, 2.0) * label * balance / grams
            for w in range(first, last):
                weights[_bucket(word_hash[w])] += step
                if w > first:
                    weights[_pair(word_hash[w - 1], word_hash[w])] += step
        for k in range(len(mean)):
            mean[k] += weights[k]
    for k in range(len(mean)):
        mean[k] /= epochs
    return mean


def formula_score(counts: dict[str, np.ndarray]) -> np.ndarray:
    """uint16 [n]: the score of domains without a model, an integer formula of the counts (higher is better).

    The sum of six parts of at most 10,000 each, so at most 60,000:
      words in sentences   lines that end in terminal punctuation of any script, of all lines
      language             distinct stop words, up to eight
      words                words with a letter, of all words
      letters              letters, of all characters without white space
      novelty              lines that are not repeats, of all lines
      length               log2 of the number of words, full at 4,096
    """
    c = counts

    def part(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.minimum(numerator * 10_000 // np.maximum(denominator, 1), 10_000)

    bits = np.zeros(len(c["n_words"]), np.int64)
    for k in range(1, 13):
        bits += c["n_words"] >> k > 0
    score = part(c["n_punctuated_lines"], c["n_lines"])
    score += np.minimum(c["n_distinct_stop_words"], 8) * 1_250
    score += part(c["n_alpha_words"], c["n_words"])
    score += part(c["n_letters"], c["n_chars"] - c["n_spaces"])
    score += part(c["n_lines"] - c["n_duplicate_lines"], c["n_lines"])
    score += bits * 10_000 // 12
    return np.clip(score, 0, 65_535).astype(np.uint16)


MODEL_SCHEMA = pa.schema(
    [
        pa.field("domain", pa.string(), nullable=False),
        pa.field("weights", pa.list_(pa.field("weight", pa.int16(), nullable=False), BUCKETS), nullable=False),
        pa.field("n_good", pa.int64(), nullable=False),
        pa.field("n_ordinary", pa.int64(), nullable=False),
        pa.field("n_held_out", pa.int64(), nullable=False),
        pa.field("n_correct", pa.int64(), nullable=False),
    ]
)
"""One row per domain with a model, by name; the last two measure it on documents it was not trained on."""


def models_table(trained: dict[str, Trained]) -> pa.Table:
    """`MODEL_SCHEMA`, as stored in the run."""
    rows = [trained[domain] for domain in sorted(trained)]
    weights = np.concatenate([r.weights for r in rows]) if rows else np.empty(0, np.int16)
    return pa.Table.from_arrays(
        [
            pa.array(sorted(trained), pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(weights), type=MODEL_SCHEMA.field("weights").type),
            *(
                pa.array([getattr(r, k) for r in rows], pa.int64())
                for k in ("n_good", "n_ordinary", "held_out", "correct")
            ),
        ],
        schema=MODEL_SCHEMA,
    )


def read_models(path: Path) -> QualityModels:
    """Read models that `models_table` made."""
    with pa.memory_map(os.fspath(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    domains = tuple(table.column("domain").to_pylist())
    weights = [chunk.flatten().to_numpy() for chunk in table.column("weights").chunks]
    flat = np.concatenate(weights) if weights else np.empty(0, np.int16)
    return QualityModels(domains, flat.reshape(len(domains), BUCKETS))

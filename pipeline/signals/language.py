"""Language with confidence: the naive Bayes model that ships inside py3langid, evaluated over Arrow buffers.

The model walks a byte automaton (features are byte n-grams) and adds, for every feature, log(1 + count) times its
log-probability by language; py3langid does the same on Python strings. Both factors are rounded to multiples of 2^-8,
so that every sum is exact and no byte of the output depends on the order of additions.

Of a longer document `PIECES` pieces of `PIECE_BYTES` bytes are looked at, spread from its beginning to its end: on real
documents that is as right as the first kilobyte, in half the time (benchmarks/bench_language.py).
"""

from __future__ import annotations

import functools
import lzma
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from io import BytesIO

import numpy as np
from numba import njit

from ...tokenize.vectors import prefetch
from .leaf import leaf
from .unpacked import unpacked

PIECES = 4
PIECE_BYTES = 96
LANGUAGE_BYTES = PIECES * (PIECE_BYTES + 1)
"""Most bytes that are looked at: the pieces, with a space after each."""
UNDETERMINED = "und"
"""The code (ISO 639-2) of a text that has no feature of the model, such as an empty one."""
ALIASES = {"wuu": "zh", "yue": "zh"}
"""In writing these are hardly distinct, so a mixture counts them as one language."""
_SCALE = 256
_ABREAST = 32
_AHEAD = 16
"""Features whose weights are fetched before they are added: a row is five cache lines, and comes from far away."""


@dataclass(frozen=True)
class LanguageModel:
    """The automaton and the tables, as flat arrays."""

    languages: tuple[str, ...]
    """Language of every column; some occur twice."""
    merged: np.ndarray
    """int64 [columns]: the first column with the same language."""
    next: np.ndarray
    """int32 [rows, 256]: next state."""
    state: np.ndarray
    """int32 [states, 2]: the row of a state in `next`, and the feature it completes or -1; side by side, for the cache."""
    weights: np.ndarray
    """int16 [features, columns], in 1/256."""
    prior: np.ndarray
    """int32 [columns], in 1/256 squared."""
    log1p: np.ndarray
    """int32 [LANGUAGE_BYTES + 1], in 1/256."""


@functools.cache
def load_model() -> LanguageModel:
    """The model of the installed py3langid; read as arrays, nothing is unpickled."""
    tables = unpacked(f"language-{model_version()}-{_SCALE}", _tables)
    names = tables["names"].tolist()
    log1p = np.rint(np.log1p(np.arange(LANGUAGE_BYTES + 1)) * _SCALE).astype(np.int32)
    return LanguageModel(
        tuple(names),
        np.array([names.index(name) for name in names]),
        tables["next"],
        tables["state"],
        tables["weights"],
        tables["prior"],
        log1p,
    )


def _tables() -> dict[str, np.ndarray]:
    """Fields of a `LanguageModel` by their names, and `names`: the language of every column."""
    data = lzma.decompress(resources.files("py3langid").joinpath("data/model.npz.xz").read_bytes())
    with np.load(BytesIO(data), allow_pickle=False) as model:
        return {
            "names": np.array([ALIASES.get(name, name) for name in model["classes"].tolist()]),
            "next": model["nextmove"].astype(np.int32).reshape(-1, 256),
            "state": np.column_stack([model["nextmove_row"], model["out_feat"]]).astype(np.int32),
            "weights": np.clip(np.rint(model["ptc"].astype(np.float64) * _SCALE), -32768, 32767).astype(np.int16),
            "prior": np.rint(model["pc"].astype(np.float64) * _SCALE**2).astype(np.int32),
        }


def model_version() -> str:
    """The version of the model, which is part of a task's key."""
    return version("py3langid")


def identify(text: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column of the language in `load_model().languages` or -1, int64 [n]; confidence uint16 [n] in 1/10,000)."""
    m = load_model()
    return _identify(text, offsets, m.merged, m.next, m.state, m.weights, m.prior, m.log1p)


@njit(cache=True, nogil=True, inline="always")
def _exp(x: float) -> float:
    """exp(x) for x <= 0 within 0.1 % where it matters, by multiplications alone: the same bits on every machine."""
    if x < -32.0:
        return 0.0
    y = 1.0 + x / 1024.0
    for _ in range(10):
        y *= y
    return y


@leaf
def _sample(text: np.ndarray, begin: int, end: int, out: np.ndarray) -> int:
    """Copy the parts of a document that are looked at; returns the bytes. A text in capitals is read in lower case."""
    size = end - begin
    n = 0
    if size <= PIECES * PIECE_BYTES:
        for i in range(begin, end):
            out[n] = text[i]
            n += 1
    else:
        for piece in range(PIECES):
            at = begin + (size - PIECE_BYTES) * piece // (PIECES - 1)
            stop = at + PIECE_BYTES
            while at < stop and text[at] & 0xC0 == 0x80:
                at += 1
            for i in range(at, stop):
                out[n] = text[i]
                n += 1
            out[n] = 32
            n += 1
    small = large = False
    for i in range(n):
        small |= (out[i] >= 97) & (out[i] <= 122)
        large |= (out[i] >= 65) & (out[i] <= 90)
    if large and not small:
        # The package does so too.
        for i in range(n):
            if 65 <= out[i] <= 90:
                out[i] += 32
    return n


@njit(cache=True, nogil=True)
def _identify(
    text: np.ndarray,
    offsets: np.ndarray,
    merged: np.ndarray,
    next_: np.ndarray,
    states: np.ndarray,
    weights: np.ndarray,
    prior: np.ndarray,
    log1p: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    columns = len(prior)
    best = np.full(n, -1, np.int64)
    confidence = np.zeros(n, np.uint16)
    none = len(weights)
    counts = np.zeros(none + 1, np.int32)
    touched = np.empty(LANGUAGE_BYTES + 4, np.int32)
    # Largest if all features differ: LANGUAGE_BYTES * log(2) * 16 * 2^16 < 2^31.
    scores = np.empty(columns, np.int32)
    shares = np.empty(columns, np.float64)
    found = np.empty((_ABREAST, LANGUAGE_BYTES), np.int32)
    state = np.zeros(_ABREAST, np.int64)
    length = np.zeros(_ABREAST, np.int64)
    read = np.empty((_ABREAST, LANGUAGE_BYTES), np.uint8)
    for group in range(0, n, _ABREAST):
        abreast = min(_ABREAST, n - group)
        longest = np.int64(0)
        for k in range(abreast):
            state[k] = 0
            length[k] = _sample(text, offsets[group + k], offsets[group + k + 1], read[k])
            longest = max(longest, length[k])
        # The automaton is larger than the caches: several documents walk it abreast, so that their misses overlap.
        for i in range(longest):
            for k in range(abreast):
                if i < length[k]:
                    s = next_[states[state[k], 0], read[k, i]]
                    state[k] = s
                    found[k, i] = states[s, 1]
        for k in range(abreast):
            # Without a branch: neither which bytes end a feature nor which features are new, anything could predict.
            n_touched = 0
            for i in range(length[k]):
                f = np.int64(found[k, i])
                g = np.uint64(none if f < 0 else f)
                touched[n_touched] = g
                n_touched += (f >= 0) & (counts[g] == 0)
                counts[g] += 1
            if n_touched == 0:
                continue
            for c in range(columns):
                scores[c] = prior[c]
            # The weights are larger than the caches as well: those of four features are read at once. What fills up the
            # last four has been counted, and counts 0.
            for t in range(n_touched, n_touched + 3):
                touched[t] = touched[0]
            for t in range(0, n_touched, 4):
                for ahead in range(t + _AHEAD, min(t + _AHEAD + 4, n_touched)):
                    for column in range(0, columns, 32):
                        prefetch(weights[touched[ahead]], column)
                f0, f1, f2, f3 = touched[t], touched[t + 1], touched[t + 2], touched[t + 3]
                a0 = log1p[counts[f0]]
                counts[f0] = 0
                a1 = log1p[counts[f1]]
                counts[f1] = 0
                a2 = log1p[counts[f2]]
                counts[f2] = 0
                a3 = log1p[counts[f3]]
                counts[f3] = 0
                w0, w1, w2, w3 = weights[f0], weights[f1], weights[f2], weights[f3]
                for c in range(columns):
                    scores[c] += np.int32(
                        a0 * np.int32(w0[c]) + a1 * np.int32(w1[c]) + a2 * np.int32(w2[c]) + a3 * np.int32(w3[c])
                    )
            top = 0
            for c in range(1, columns):
                if scores[c] > scores[top]:
                    top = c
            # The package's calibration: softmax at a temperature of the square root of the length.
            heat = np.sqrt(np.float64(length[k])) * 65536.0
            total = 0.0
            shares[:] = 0.0
            for c in range(columns):
                share = _exp((np.int64(scores[c]) - np.int64(scores[top])) / heat)
                shares[merged[c]] += share
                total += share
            first = 0
            for c in range(1, columns):
                if shares[c] > shares[first]:
                    first = c
            best[group + k] = first
            confidence[group + k] = np.uint16(shares[first] / total * 10000.0)
    return best, confidence

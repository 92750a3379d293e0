"""Language with confidence: the naive Bayes model that ships inside py3langid, evaluated over Arrow buffers.

The model walks a byte automaton (features are byte n-grams) and adds, for every feature, log(1 + count) times its
log-probability by language; py3langid does the same on Python strings. Both factors are rounded to multiples of 2^-8,
so that every sum is exact and no byte of the output depends on the order of additions.

Only the first `LANGUAGE_BYTES` of a document are looked at, which decides as well as the whole.
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

LANGUAGE_BYTES = 1024
UNDETERMINED = "und"
"""A text without a feature of the model, such as an empty one (ISO 639-2)."""
SCORE_ONE = 10_000
"""A confidence of 1 in the units of the column."""
_ALIASES = {"wuu": "zh", "yue": "zh"}
"""Scripts cannot tell these apart in written text of this kind: they are the same language for a mixture."""
_SCALE = 256
_ABREAST = 8


@dataclass(frozen=True)
class LanguageModel:
    """The automaton and the tables, as flat arrays."""

    languages: tuple[str, ...]
    """Of the columns; some twice."""
    merged: np.ndarray
    """int64 [columns]: the first column with the same language."""
    next: np.ndarray
    """int32 [rows, 256]: next state."""
    row: np.ndarray
    """int32 [states]: the row of a state."""
    feature: np.ndarray
    """int32 [states]: the feature a state completes, or -1."""
    weights: np.ndarray
    """int16 [features, columns], in 1/256."""
    prior: np.ndarray
    """int32 [columns], in 1/256 squared."""
    log1p: np.ndarray
    """int32 [LANGUAGE_BYTES + 1], in 1/256."""


@functools.cache
def load_model() -> LanguageModel:
    """The model of the installed py3langid; read as arrays, nothing is unpickled."""
    data = lzma.decompress(resources.files("py3langid").joinpath("data/model.npz.xz").read_bytes())
    with np.load(BytesIO(data), allow_pickle=False) as model:
        names = [_ALIASES.get(name, name) for name in model["classes"].tolist()]
        log1p = np.rint(np.log1p(np.arange(LANGUAGE_BYTES + 1)) * _SCALE).astype(np.int32)
        return LanguageModel(
            tuple(names),
            np.array([names.index(name) for name in names]),
            model["nextmove"].astype(np.int32).reshape(-1, 256),
            model["nextmove_row"].astype(np.int32),
            model["out_feat"].astype(np.int32),
            np.clip(np.rint(model["ptc"].astype(np.float64) * _SCALE), -32768, 32767).astype(np.int16),
            np.rint(model["pc"].astype(np.float64) * _SCALE**2).astype(np.int32),
            log1p,
        )


def model_version() -> str:
    """What changes when the model does: a task's key holds it."""
    return version("py3langid")


def identify(text: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column of the language in `load_model().languages` or -1, int64 [n]; confidence uint16 [n] in 1/10,000)."""
    m = load_model()
    return _identify(text, offsets, m.merged, m.next, m.row, m.feature, m.weights, m.prior, m.log1p)


@njit(cache=True, nogil=True, inline="always")
def _exp(x: float) -> float:
    """exp(x) for x <= 0 within 0.1 % where it matters, by multiplications alone: the same bits on every machine."""
    if x < -32.0:
        return 0.0
    y = 1.0 + x / 1024.0
    for _ in range(10):
        y *= y
    return y


@njit(cache=True, nogil=True)
def _identify(
    text: np.ndarray,
    offsets: np.ndarray,
    merged: np.ndarray,
    next_: np.ndarray,
    row: np.ndarray,
    feature: np.ndarray,
    weights: np.ndarray,
    prior: np.ndarray,
    log1p: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    columns = len(prior)
    best = np.full(n, -1, np.int64)
    confidence = np.zeros(n, np.uint16)
    counts = np.zeros(len(weights), np.int32)
    touched = np.empty(LANGUAGE_BYTES, np.int32)
    # Largest where every feature is another: LANGUAGE_BYTES * log(2) * 16 * 2^16 < 2^31.
    scores = np.empty(columns, np.int32)
    shares = np.empty(columns, np.float64)
    found = np.empty((_ABREAST, LANGUAGE_BYTES), np.int32)
    state = np.zeros(_ABREAST, np.int64)
    length = np.zeros(_ABREAST, np.int64)
    lower = np.zeros(_ABREAST, np.uint8)
    for group in range(0, n, _ABREAST):
        abreast = min(_ABREAST, n - group)
        longest = np.int64(0)
        for k in range(abreast):
            begin = offsets[group + k]
            end = min(offsets[group + k + 1], begin + LANGUAGE_BYTES)
            # A text in capitals is read in small letters, as the model's package does.
            small = large = False
            for i in range(begin, end):
                small = small or 97 <= text[i] <= 122
                large = large or 65 <= text[i] <= 90
            lower[k] = 32 if large and not small else 0
            state[k] = 0
            length[k] = end - begin
            longest = max(longest, length[k])
        # The automaton is larger than the caches: several documents walk it abreast, so that their misses overlap.
        for i in range(longest):
            for k in range(abreast):
                if i < length[k]:
                    b = text[offsets[group + k] + i]
                    if 65 <= b <= 90:
                        b |= lower[k]
                    state[k] = next_[row[state[k]], b]
                    found[k, i] = feature[state[k]]
        for k in range(abreast):
            n_touched = 0
            for i in range(length[k]):
                f = found[k, i]
                if f >= 0:
                    if counts[f] == 0:
                        touched[n_touched] = f
                        n_touched += 1
                    counts[f] += 1
            if n_touched == 0:
                continue
            for c in range(columns):
                scores[c] = prior[c]
            for t in range(n_touched):
                f = touched[t]
                factor = log1p[counts[f]]
                counts[f] = 0
                line = weights[f]
                for c in range(columns):
                    scores[c] += np.int32(factor * np.int32(line[c]))
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

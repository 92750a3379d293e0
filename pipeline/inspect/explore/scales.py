"""Where the bins of a signal lie. They are the same for every run, so that two runs can be laid side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit

from ...signals.scores import is_score

FRACTIONS = ("quality", "language_confidence", "symbol_word_ratio")
"""Signals between 0 and 1, besides those whose names end in `_fraction`."""
FRACTION_BINS = 50
LARGEST = 40
"""Counts from two to this power on share a bin."""


@dataclass(frozen=True)
class Scale:
    """The bins of a signal: bin 0 lies below `lows[0]`, bin k from `lows[k - 1]` on, the last one has no end."""

    kind: str
    """`count` (two bins each time a count doubles), `fraction` or `linear`."""
    lows: tuple[float, ...]

    @property
    def bins(self) -> int:
        return len(self.lows) + 1

    def codes(self, values: np.ndarray, out: np.ndarray) -> None:
        """Write the bin of each value, uint8."""
        bin_values(np.ascontiguousarray(values, np.float64), np.array(self.lows), out)


@cache
def scale_of(signal: str) -> Scale:
    """The bins of a signal."""
    if signal in FRACTIONS or signal.endswith("_fraction"):
        # The last bin holds what is 1, which for many signals is most of the documents.
        return Scale("fraction", tuple(round(k / FRACTION_BINS, 4) for k in range(1, FRACTION_BINS + 1)))
    if is_score(signal):
        # Probabilities, and grades from 0 to 5.
        return Scale("linear", tuple(round(k / 20, 4) for k in range(1, 101)))
    if signal == "mean_word_length":
        return Scale("linear", tuple(k / 4 for k in range(1, 81)))
    if signal == "newline_word_ratio":
        return Scale("linear", tuple(round(k / 25, 4) for k in range(1, 51)))
    steps = sorted({int(np.ceil(2 ** (k / 2))) for k in range(2 * LARGEST + 1)})
    return Scale("count", tuple(float(step) for step in steps))


@njit(cache=True, nogil=True)
def bin_values(values: np.ndarray, lows: np.ndarray, out: np.ndarray) -> None:
    """How many of `lows`, which ascend, each value reaches.

    Args:
        values, lows: float64.
        out: uint8, of the size of `values`.
    """
    for i in range(len(values)):
        first, left = 0, len(lows)
        # Halving without a branch: nothing could predict it.
        while left > 1:
            half = left // 2
            first += half * (lows[first + half - 1] <= values[i])
            left -= half
        out[i] = first + (lows[first] <= values[i])

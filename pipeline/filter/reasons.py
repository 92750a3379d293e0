"""What stands behind a reason: the signal that a failed rule bounds, with its value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..signals.ratios import SIGNALS
from ..signals.scores import is_score
from ..sources.extracted import DROPPED_BY, DROPPED_WHY
from .judge import signal_of


def value_behind(batch: pa.RecordBatch, i: int, reason: str) -> str:
    """The signal behind a reason with its value, or what a step of `before_scan` said, of row i of a batch of signals; empty
    where there is none."""
    if DROPPED_BY in batch.schema.names and batch.column(DROPPED_BY)[i].as_py() == reason:
        return str(batch.column(DROPPED_WHY)[i].as_py())
    if reason == "languages":
        return f"language {batch.column('language')[i]}"
    signal = signal_of(reason)
    if not signal:
        return ""
    if is_score(signal):
        score = batch.column(signal)[i].as_py() if signal in batch.schema.names else None
        return f"{signal} {'none' if score is None else format(score, '.4g')}"
    return f"{signal} {SIGNALS[signal](_Counts(batch, i))[0]:.4g}"


class _Counts(dict[str, np.ndarray]):
    """The counts of a row, as far as they are asked for: of a hundred, a signal needs two."""

    def __init__(self, batch: pa.RecordBatch, i: int) -> None:
        super().__init__()
        self._batch, self._row = batch, i

    def __missing__(self, name: str) -> np.ndarray:
        # Not `to_numpy`, which imports pandas: see `run.parquet_rows.uint64s`.
        return np.array([self._batch.column(name)[self._row].as_py()])

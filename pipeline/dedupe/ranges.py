"""How the decision is spread over tasks: ranges of the total order, and a number for every document.

A range holds about as many documents as another one, by a sample of them; what is sorted by the order is sorted range
by range. Numbers run through the files in the order of their hashes, so that a document's state takes two bits of one
array, wherever the document lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import njit

from ..engine.shuffle import Records, distinct, read_ahead, sort_records
from ..run.artifacts import Artifact, publish
from ..run.file_sets import FileSet
from ..run.identity import ROW_BITS
from ..signals.hashing import mix_array
from .order import NODE, Plan

SPAN = np.dtype([("first", "<u8"), ("last", "<u8")])
"""The smallest and the largest id of some documents of one file."""
SAMPLED = 64
"""Documents of every range that are sampled to find its bounds."""


def sample(order: np.ndarray, ids: np.ndarray, documents: int, ranges: int) -> np.ndarray:
    """`NODE` of about `SAMPLED` documents of every range, chosen by their ids; none where there is one range.

    Args:
        documents: of the run.
    """
    chosen = np.zeros(len(ids), bool)
    if ranges > 1:
        chosen = mix_array(ids, 0) < np.uint64(min((SAMPLED * ranges << 64) // max(documents, 1), (1 << 64) - 1))
    nodes = np.empty(int(chosen.sum()), NODE)
    nodes["order"], nodes["id"] = order[chosen], ids[chosen]
    return nodes


def whole_files(spans: np.ndarray) -> np.ndarray:
    """Sorted spans, those of one file together as one."""
    if not len(spans):
        return spans
    first = np.flatnonzero(np.r_[True, np.diff(spans["first"] >> np.uint64(ROW_BITS)) > 0])
    files = np.empty(len(first), SPAN)
    files["first"], files["last"] = spans["first"][first], np.maximum.reduceat(spans["last"], first)
    return files


SPANS = Records(SPAN, ("first", "last"), whole_files)
SAMPLES = Records(NODE, ("order", "id"), distinct)


@dataclass(frozen=True)
class Layout:
    """The ranges and the numbers, as every task finds them in files."""

    bounds: Artifact
    """`NODE`, ascending: the first place of every range but the first one."""
    spans: Artifact
    """`SPAN` of every file, ascending."""
    ranges: int
    numbers: int
    """Documents have numbers below this one."""

    def range_of(self, order: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """int64: the range of every document."""
        bounds = _read(self.bounds, NODE)
        return _range_of(bounds["order"], bounds["id"], order, ids)

    def number_of(self, ids: np.ndarray) -> np.ndarray:
        """uint64: the number of every document."""
        first, base = _numbering(self.spans)
        at = np.searchsorted(first, ids, "right") - 1
        return base[at] + (ids - first[at])


def lay_out(spans: FileSet, samples: FileSet, ranges: int, plan: Plan, stem: Path) -> Layout:
    """Cut the order into ranges, and number the documents.

    Args:
        spans: `SPAN` of all documents.
        samples: `NODE`.
    """
    files = whole_files(sort_records(np.concatenate([np.empty(0, SPAN), *read_ahead(spans, 0, SPAN)]), SPANS.by))
    nodes = distinct(sort_records(np.concatenate([np.empty(0, NODE), *read_ahead(samples, 0, NODE)]), SAMPLES.by))
    bounds = distinct(nodes[np.arange(1, ranges) * len(nodes) // ranges]) if len(nodes) else nodes
    count = int((files["last"] - files["first"] + 1).sum())
    return Layout(
        _publish(stem.with_name(f"{stem.name}.bounds"), bounds),
        _publish(stem.with_name(f"{stem.name}.spans"), files),
        ranges,
        count,
    )


def _publish(path: Path, rows: np.ndarray) -> Artifact:
    with publish(path, rows=len(rows)) as out:
        out.write(rows.tobytes())
    return out.artifact


@lru_cache(maxsize=4)
def _read(artifact: Artifact, dtype: np.dtype) -> np.ndarray:
    return np.fromfile(artifact.file, dtype)


@lru_cache(maxsize=2)
def _numbering(spans: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """(first id, number of that document) of every file."""
    files = _read(spans, SPAN)
    base = np.zeros(len(files), np.uint64)
    base[1:] = np.cumsum(files["last"] - files["first"] + 1)[:-1]
    return np.ascontiguousarray(files["first"]), base


@njit(cache=True, nogil=True)
def _range_of(bound_order: np.ndarray, bound_id: np.ndarray, order: np.ndarray, ids: np.ndarray) -> np.ndarray:
    out = np.zeros(len(order), np.int64)
    for i in range(len(order)):
        low, high = 0, len(bound_order)
        while low < high:
            middle = (low + high) // 2
            before = bound_order[middle] < order[i] or (bound_order[middle] == order[i] and bound_id[middle] <= ids[i])
            if before:
                low = middle + 1
            else:
                high = middle
        out[i] = low
    return out

"""Filter: thresholds over `signals/` -> kept, or the first rule that failed and all that did. No text is read.

A rule bounds one signal for some domains or subsets; rules stand in the recipe's order and each has a name, which is
the reason a user sees. The licence policy comes first: what may not be used at all is not judged on its quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .artifacts import RunPaths, parquet_writer
from .engine import TaskResult
from .identity import Group
from .signals.counts import COUNTS

VERSION = 1

FILTERED_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.field("reason", pa.string(), nullable=False)), nullable=False),
    ]
)
"""One row per document of a group, in file and row order; `reason` is empty where it is kept."""

Columns = Mapping[str, np.ndarray]


def _ratio(numerator: str, denominator: str) -> Callable[[Columns], np.ndarray]:
    return lambda c: c[numerator] / np.maximum(c[denominator], 1)


def _visible(c: Columns) -> np.ndarray:
    return np.maximum(c["n_chars"] - c["n_spaces"], 1)


SIGNALS: dict[str, Callable[[Columns], np.ndarray]] = {
    **{name: itemgetter(name) for name in (*COUNTS, "quality", "contaminated")},
    "mean_word_length": _ratio("n_word_chars", "n_words"),
    "symbol_word_ratio": _ratio("n_symbols", "n_words"),
    "alpha_word_fraction": _ratio("n_alpha_words", "n_words"),
    "bullet_line_fraction": _ratio("n_bullet_lines", "n_lines"),
    "ellipsis_line_fraction": _ratio("n_ellipsis_lines", "n_lines"),
    "terminal_line_fraction": _ratio("n_terminal_lines", "n_lines"),
    "short_line_fraction": _ratio("n_short_lines", "n_lines"),
    "duplicate_line_fraction": _ratio("n_duplicate_lines", "n_lines"),
    "duplicate_line_char_fraction": lambda c: c["duplicate_line_chars"] / _visible(c),
    "letter_fraction": lambda c: c["n_letters"] / _visible(c),
    "digit_fraction": lambda c: c["n_digits"] / _visible(c),
    "mean_line_length": lambda c: (c["n_chars"] - c["n_lines"]) / np.maximum(c["n_lines"], 1),
    "newline_word_ratio": _ratio("n_lines", "n_words"),
}
"""Every signal a rule may bound: the stored counts and the ratios formed from them."""


@dataclass(frozen=True)
class Rule:
    """Keep a document only if ``min <= signal <= max``."""

    name: str
    signal: str
    min: float | None = None
    max: float | None = None
    domains: tuple[str, ...] = ()
    """Judge only documents of these domains; empty: of all."""
    except_domains: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    """Judge only these subsets, each as `corpus/subset`; empty: all."""


@dataclass(frozen=True)
class Exclusion:
    """A subset that may not be used, and why."""

    corpus: str
    subset: str
    why: str = ""


@dataclass(frozen=True)
class FilterSettings:
    rules: tuple[Rule, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    """The licence policy: these subsets are dropped with the reason `licence`."""


SIGNAL_COLUMNS = ["doc_id", "subset", "domain", "quality", "contaminated", *COUNTS]


def filter_group(group: Group, settings: FilterSettings, paths: RunPaths) -> TaskResult:
    """Judge every document of a group into ``filtered/``. Counts are by `<corpus>/<subset>|<reason>`."""
    counts: dict[str, int] = {}
    with parquet_writer(paths.filtered(group.name), FILTERED_SCHEMA) as out:
        for file in group.files:
            for batch in signal_batches(paths.signals(file.corpus, file.path), SIGNAL_COLUMNS):
                failed = judge(batch, group.corpus, settings)
                reasons = [[name for name, hit in failed if hit[i]] for i in range(batch.num_rows)]
                first = [r[0] if r else "" for r in reasons]
                for subset, reason in zip(batch.column("subset").to_pylist(), first, strict=True):
                    key = f"{group.corpus}/{subset}|{reason}"
                    counts[key] = counts.get(key, 0) + 1
                columns = [batch.column("doc_id"), pa.array(first, pa.string()), pa.array(reasons)]
                arrays = [c.cast(f.type) for c, f in zip(columns, FILTERED_SCHEMA, strict=True)]
                out.write(pa.RecordBatch.from_arrays(arrays, schema=FILTERED_SCHEMA))
    return TaskResult((out.artifact,), counts)


def judge(batch: pa.RecordBatch, corpus: str, settings: FilterSettings) -> list[tuple[str, np.ndarray]]:
    """(reason, bool [n]: whether the document fails) for every rule, in the recipe's order, the licence first."""
    subset = batch.column("subset").to_numpy(zero_copy_only=False)
    domain = batch.column("domain").to_numpy(zero_copy_only=False)
    columns = {name: batch.column(name).to_numpy() for name in (*COUNTS, "quality", "contaminated")}
    excluded = [e.subset for e in settings.excluded if e.corpus == corpus]
    failed = [("licence", np.isin(subset, excluded))]
    for rule in settings.rules:
        value = SIGNALS[rule.signal](columns)
        bad = np.zeros(batch.num_rows, np.bool_)
        if rule.min is not None:
            bad |= value < rule.min
        if rule.max is not None:
            bad |= value > rule.max
        if rule.domains:
            bad &= np.isin(domain, rule.domains)
        if rule.except_domains:
            bad &= ~np.isin(domain, rule.except_domains)
        if rule.subsets:
            mine = [s.split("/", 1)[1] for s in rule.subsets if s.split("/", 1)[0] == corpus]
            bad &= np.isin(subset, mine)
        failed.append((rule.name, bad))
    return failed


def signal_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Row groups of a Parquet file of ours, with some of its columns; empty ones are left out."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns).combine_chunks().to_batches()

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

from .artifacts import RunPaths, merge_counts, parquet_writer
from .engine import TaskResult
from .identity import Group
from .signals.counts import COUNTS
from .signals.gopher import DUPLICATE_NGRAMS, TOP_NGRAMS
from .signals.segment import MAX_LINES

VERSION = 2

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


def _of_lines(numerator: str) -> Callable[[Columns], np.ndarray]:
    # Line signals look at the first `MAX_LINES` lines of a document.
    return lambda c: c[numerator] / np.clip(c["n_lines"], 1, MAX_LINES)


def _symbols(c: Columns) -> np.ndarray:
    """Gopher's two symbol ratios, the larger: hashes by words, ellipses by words."""
    return np.maximum(c["n_hashes"], c["n_ellipses"]) / np.maximum(c["n_words"], 1)


def _visible(c: Columns) -> np.ndarray:
    return np.maximum(c["n_chars"] - c["n_spaces"], 1)


SIGNAL_COUNTS = ("quality", "language_score", "raw_bytes", "url_blocked", "contaminated", *COUNTS)
"""The stored integers that rules and ratios rest on."""

SIGNALS: dict[str, Callable[[Columns], np.ndarray]] = {
    **{name: itemgetter(name) for name in SIGNAL_COUNTS},
    "mean_word_length": _ratio("n_word_chars", "n_words"),
    "symbol_word_ratio": _symbols,
    "alpha_word_fraction": _ratio("n_alpha_words", "n_words"),
    "bullet_line_fraction": _of_lines("n_bullet_lines"),
    "ellipsis_line_fraction": _of_lines("n_ellipsis_lines"),
    "terminal_line_fraction": _of_lines("n_terminal_lines"),
    "punctuated_line_fraction": _of_lines("n_punctuated_lines"),
    "short_line_fraction": _of_lines("n_short_lines"),
    "duplicate_line_fraction": _of_lines("n_duplicate_lines"),
    "duplicate_line_char_fraction": _ratio("duplicate_line_chars", "n_chars"),
    "duplicate_paragraph_fraction": _ratio("n_duplicate_paragraphs", "n_paragraphs"),
    "duplicate_paragraph_char_fraction": _ratio("duplicate_paragraph_chars", "n_chars"),
    **{f"top_{n}gram_fraction": _ratio(f"top_{n}gram_chars", "n_chars") for n in TOP_NGRAMS},
    **{f"duplicate_{n}gram_fraction": _ratio(f"duplicate_{n}gram_chars", "n_chars") for n in DUPLICATE_NGRAMS},
    "alphanumeric_fraction": lambda c: (c["n_letters"] + c["n_digits"]) / np.maximum(c["n_chars"], 1),
    "encoded_fraction": _ratio("encoded_chars", "n_chars"),
    "latex_fraction": _ratio("latex_chars", "n_chars"),
    "math_symbol_fraction": _ratio("n_math_symbols", "n_chars"),
    "language_confidence": lambda c: c["language_score"] / 10_000,
    "letter_fraction": lambda c: c["n_letters"] / _visible(c),
    "digit_fraction": lambda c: c["n_digits"] / _visible(c),
    "mean_line_length": lambda c: (c["n_chars"] - c["n_line_ends"]) / np.maximum(c["n_raw_lines"], 1),
    "newline_word_ratio": _ratio("n_line_ends", "n_words"),
}
"""Every signal a rule may bound: the stored counts and the ratios formed from them."""


@dataclass(frozen=True)
class Rule:
    """Keep a document only if ``min <= signal <= max``, or only if its language is one of `languages`."""

    name: str
    signal: str = ""
    min: float | None = None
    max: float | None = None
    domains: tuple[str, ...] = ()
    """Judge only documents of these domains; empty: of all."""
    except_domains: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    """Keep only documents in one of these languages; empty: in any."""
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
    drop_contaminated: bool = False
    """Drop documents that hold an item of a benchmark, with the reason `contaminated`."""
    plugins: tuple[str, ...] = ()
    """Plug-ins whose verdicts drop documents, each with its name as the reason."""


SIGNAL_COLUMNS = ["doc_id", "subset", "domain", "language", *SIGNAL_COUNTS]


def filter_group(group: Group, settings: FilterSettings, paths: RunPaths) -> TaskResult:
    """Judge every document of a group into ``filtered/``. Counts are by `<corpus>/<subset>|<reason>`."""
    counts: dict[str, int] = {}
    with parquet_writer(paths.filtered(group.name), FILTERED_SCHEMA) as out:
        for file in group.files:
            for batch in signal_batches(
                paths.signals(file.corpus, file.path), [*SIGNAL_COLUMNS, *(f"plugin_{p}" for p in settings.plugins)]
            ):
                failed = judge(batch, group.corpus, settings)
                first, reasons = _reasons(failed)
                tally = pa.table({"subset": batch.column("subset"), "reason": first})
                for row in tally.group_by(["subset", "reason"]).aggregate([([], "count_all")]).to_pylist():
                    merge_counts(counts, {f"{group.corpus}/{row['subset']}|{row['reason']}": row["count_all"]})
                out.write(pa.RecordBatch.from_arrays([batch.column("doc_id"), first, reasons], schema=FILTERED_SCHEMA))
    return TaskResult((out.artifact,), counts)


def judge(batch: pa.RecordBatch, corpus: str, settings: FilterSettings) -> list[tuple[str, np.ndarray]]:
    """(reason, bool [n]: whether the document fails) for every rule, in the recipe's order, the licence first."""
    subset = batch.column("subset").to_numpy(zero_copy_only=False)
    domain = batch.column("domain").to_numpy(zero_copy_only=False)
    columns = {name: batch.column(name).to_numpy() for name in SIGNAL_COUNTS}
    excluded = [e.subset for e in settings.excluded if e.corpus == corpus]
    language = batch.column("language").to_numpy(zero_copy_only=False)
    failed = [("licence", np.isin(subset, excluded)), ("url", columns["url_blocked"] > 0)]
    if settings.drop_contaminated:
        failed.append(("contaminated", columns["contaminated"] > 0))
    for name in settings.plugins:
        verdicts = batch.column(f"plugin_{name}").to_numpy(zero_copy_only=False)
        failed.append((name, verdicts != ""))
    for rule in settings.rules:
        bad = np.zeros(batch.num_rows, np.bool_)
        if rule.languages:
            bad |= ~np.isin(language, rule.languages)
        value = SIGNALS[rule.signal](columns) if rule.signal else bad
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


def _reasons(failed: list[tuple[str, np.ndarray]]) -> tuple[pa.StringArray, pa.ListArray]:
    """(first reason or empty, all reasons) of every document."""
    hits = np.stack([hit for _, hit in failed], axis=1)
    names = pa.array(["", *(name for name, _ in failed)], pa.string())
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    offsets = np.append(0, np.cumsum(hits.sum(axis=1))).astype(np.int32)
    every = names.take(pa.array(np.nonzero(hits)[1] + 1))
    type_ = FILTERED_SCHEMA.field("reasons").type
    return names.take(pa.array(first)), pa.ListArray.from_arrays(pa.array(offsets), every, type=type_)


def signal_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Row groups of a Parquet file of ours, with some of its columns; empty ones are left out."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns).combine_chunks().to_batches()

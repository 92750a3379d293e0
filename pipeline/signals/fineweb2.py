"""Thresholds and stop words by language as FineWeb-2 has them (Penedo et al. 2025), by the codes of the language model.

The file is made by `benchmarks/fineweb2_rules.py` from the configurations in https://github.com/huggingface/fineweb-2
(revision d0defb2, Apache License 2.0; numbers and words as they stand there). What they are thresholds of is in words of
segmenters, which count punctuation; `recipes/multilingual.py` says which signals of ours stand for them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("fineweb2.json")


@dataclass(frozen=True)
class LanguageRules:
    """What FineWeb-2 asks of documents of one language; names are those of its configurations."""

    dup_line_frac: float
    line_punct_thr: float
    max_avg_word_length: int
    max_non_alpha_words_ratio: float
    """At least this share of the words has a letter, whatever the name says."""
    min_avg_word_length: int
    new_line_ratio: float
    top_n_grams: tuple[float, float, float]
    """Of 2-, 3- and 4-grams."""
    dup_n_grams: tuple[float, float, float, float, float, float]
    """Of 5- to 10-grams."""
    stopwords: tuple[str, ...]


SHARES = ("top_n_grams", "dup_n_grams")
THRESHOLDS = tuple(f.name for f in fields(LanguageRules) if f.name not in (*SHARES, "stopwords"))


@functools.cache
def language_rules() -> Mapping[str, LanguageRules]:
    """Language code -> its rules. English, which FineWeb-2 leaves to FineWeb, has none, and no text without words."""
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, LanguageRules])

"""Rules of datatrove's filters beside the signals of fox1 that stand for them, at any threshold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datatrove.utils.word_tokenizers import WordTokenizer, load_word_tokenizer
from fox1.benchmarks.peers import whitespace_words
from fox1.pipeline.signals.ratios import SIGNALS

Columns = dict[str, np.ndarray]
QUALITY, REPETITION, C4, FINEWEB = "gopher quality", "gopher repetition", "c4", "fineweb"
FAMILIES = (QUALITY, REPETITION, C4, FINEWEB)


@dataclass(frozen=True)
class Rule:
    """A rule of one of datatrove's filters."""

    family: str
    name: str
    bound: str
    """`min` or `max`."""
    signal: str
    """What fox1 bounds."""
    paper: float
    """The published threshold."""
    arguments: Callable[[float], Mapping[str, Any]]
    """Of datatrove's filter, for a threshold. Values that are tuples add up."""

    @property
    def key(self) -> str:
        """The threshold's key in a recipe."""
        return f"{self.bound}_{self.signal}"

    def drops(self, columns: Columns, limit: float) -> np.ndarray:
        """bool [n]: whom fox1 drops."""
        value = SIGNALS[self.signal](columns)
        return value < limit if self.bound == "min" else value > limit


def _rules() -> Iterator[Rule]:
    def of(family: str, name: str, key: str, paper: float, argument: str, whole: bool = False) -> Rule:
        bound, _, signal = key.partition("_")
        return Rule(family, name, bound, signal, paper, lambda v: {argument: int(v) if whole else v})

    quality = (
        ("at least 50 words", "min_words", 50, "min_doc_words", True),
        ("word length from 3", "min_mean_word_length", 3, "min_avg_word_length", False),
        ("word length to 10", "max_mean_word_length", 10, "max_avg_word_length", False),
        ("symbols by words", "max_symbol_word_ratio", 0.1, "max_symbol_word_ratio", False),
        ("bullet lines", "max_bullet_line_fraction", 0.9, "max_bullet_lines_ratio", False),
        ("ellipsis lines", "max_ellipsis_line_fraction", 0.3, "max_ellipsis_lines_ratio", False),
        ("words with a letter", "min_alpha_word_fraction", 0.8, "max_non_alpha_words_ratio", False),
        ("two stop words", "min_distinct_stop_words", 2, "min_stop_words", True),
    )
    yield from (of(QUALITY, *facts) for facts in quality)
    repetition = (
        ("duplicate lines", "max_duplicate_line_fraction", 0.3, "dup_line_frac"),
        ("their characters", "max_duplicate_line_char_fraction", 0.2, "dup_line_char_frac"),
        ("duplicate paragraphs", "max_duplicate_paragraph_fraction", 0.3, "dup_para_frac"),
        ("characters of paragraphs", "max_duplicate_paragraph_char_fraction", 0.2, "dup_para_char_frac"),
    )
    yield from (of(REPETITION, *facts) for facts in repetition)
    for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16)):
        signal = f"top_{n}gram_fraction"
        yield Rule(REPETITION, f"top {n}-gram", "max", signal, limit, lambda v, n=n: {"top_n_grams": ((n, v),)})  # type: ignore[misc]
    for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        signal = f"duplicate_{n}gram_fraction"
        yield Rule(REPETITION, f"duplicate {n}-grams", "max", signal, limit, lambda v, n=n: {"dup_n_grams": ((n, v),)})  # type: ignore[misc]
    yield Rule(C4, "lorem ipsum", "max", "lorem_ipsum", 0, lambda v: {"filter_lorem_ipsum": True})
    yield Rule(C4, "curly braces", "max", "curly_braces", 0, lambda v: {"filter_curly_bracket": True})
    lines = {"filter_no_terminal_punct": True, "min_words_per_line": 5, "max_word_length": 1000}
    lines |= {"filter_javascript": True, "filter_policy": True}
    yield Rule(
        C4, "five sentences in good lines", "min", "c4_sentences", 5, lambda v: {"min_num_sentences": int(v), **lines}
    )
    web = (
        ("punctuated lines", "min_punctuated_line_fraction", 0.12, "line_punct_thr"),
        ("short lines", "max_short_line_fraction", 0.67, "short_line_thr"),
        ("duplicate characters", "max_duplicate_line_char_fraction", 0.01, "char_duplicates_ratio"),
        ("line ends by words", "max_newline_word_ratio", 0.3, "new_line_ratio"),
    )
    yield from (of(FINEWEB, *facts) for facts in web)


RULES = tuple(_rules())
_QUALITY_RULES = (
    *("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio"),
    *("max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words"),
)
C4_OFF: dict[str, Any] = {
    **dict.fromkeys(("filter_no_terminal_punct", "filter_lorem_ipsum", "filter_javascript"), False),
    **dict.fromkeys(("filter_curly_bracket", "filter_policy"), False),
    **dict.fromkeys(("min_num_sentences", "min_words_per_line", "max_word_length"), -1),
}
_OFF: dict[str, dict[str, Any]] = {
    QUALITY: dict.fromkeys(_QUALITY_RULES),
    REPETITION: {
        **dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")),
        **dict.fromkeys(("top_n_grams", "dup_n_grams"), ()),
    },
    C4: C4_OFF,
    FINEWEB: {"line_punct_thr": 0.0, "short_line_thr": 2.0, "char_duplicates_ratio": 2.0, "new_line_ratio": 1e9},
}
"""Arguments with which a filter drops nothing."""


def arguments_of(family: str, limits: Mapping[Rule, float]) -> dict[str, Any]:
    """The arguments of one of datatrove's filters with these rules and no other."""
    found = dict(_OFF[family])
    for rule, limit in limits.items():
        for name, value in rule.arguments(limit).items():
            found[name] = found[name] + value if isinstance(value, tuple) else value
    return found


class KnownWords(WordTokenizer):
    """datatrove's English words and sentences, by spaCy: once for a text, since that takes nearly all of the filters' time."""

    def __init__(self) -> None:
        super().__init__("en")
        self.spacy = load_word_tokenizer("en")

    @functools.cache  # noqa: B019
    def word_tokenize(self, text: str) -> list[str]:
        return self.spacy.word_tokenize(text)

    @functools.cache  # noqa: B019
    def sent_tokenize(self, text: str) -> list[str]:
        return self.spacy.sent_tokenize(text)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return self.spacy.span_tokenize(text)


KNOWN_WORDS = KnownWords()


def filter_of(package: Any, family: str, limits: Mapping[Rule, float], words: Any = None) -> Any:
    """A filter with these rules and no other.

    Args:
        package: `datatrove.pipeline.filters`, or that of fox1.
        words: its word tokenizer; None: English words by spaCy, but for one rule alone that counts what white space separates.
    """
    kinds = ("GopherQualityFilter", "GopherRepetitionFilter", "C4QualityFilter", "FineWebQualityFilter")
    if words is None:
        alone = [r.name for r in limits] == ["words with a letter"]
        words = whitespace_words() if alone else KNOWN_WORDS
    asked = arguments_of(family, limits) | {"language": words}
    return getattr(package, kinds[FAMILIES.index(family)])(**asked)

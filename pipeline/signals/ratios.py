"""What filters bound: the stored counts, and the ratios formed from them as the papers define them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter

import numpy as np

from .counts import COUNTS
from .gopher import DUPLICATE_NGRAMS, TOP_NGRAMS
from .segment import MAX_LINES

Columns = Mapping[str, np.ndarray]


def _ratio(numerator: str, denominator: str) -> Callable[[Columns], np.ndarray]:
    return lambda c: c[numerator] / np.maximum(c[denominator], 1)


def _of_lines(numerator: str) -> Callable[[Columns], np.ndarray]:
    # Line signals cover the first `MAX_LINES` lines of a document.
    return lambda c: c[numerator] / np.clip(c["n_lines"], 1, MAX_LINES)


def _symbols(c: Columns) -> np.ndarray:
    """Gopher's two symbol ratios, the larger: hashes by words, ellipses by words."""
    return np.maximum(c["n_hashes"], c["n_ellipses"]) / np.maximum(c["n_words"], 1)


def _visible(c: Columns) -> np.ndarray:
    return np.maximum(c["n_chars"] - c["n_spaces"], 1)


SIGNAL_COUNTS = ("quality", "language_score", "raw_bytes", "url_blocked", "contaminated", *COUNTS)
"""The stored integers that rules and ratios are based on."""

_RENAMED = {"max_line_chars": "longest_line", "max_word_chars": "longest_word"}

SIGNALS: dict[str, Callable[[Columns], np.ndarray]] = {
    **{_RENAMED.get(name, name.removeprefix("n_")): itemgetter(name) for name in SIGNAL_COUNTS},
    "mean_word_length": _ratio("n_word_chars", "n_words"),
    "symbol_word_ratio": _symbols,
    "alpha_word_fraction": _ratio("n_alpha_split_words", "n_split_words"),
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
    **{f"repeated_{n}gram_fraction": _ratio(f"repeated_{n}gram_chars", "n_chars") for n in DUPLICATE_NGRAMS},
    "alphanumeric_fraction": lambda c: (c["n_letters"] + c["n_digits"]) / np.maximum(c["n_chars"], 1),
    "encoded_fraction": _ratio("encoded_chars", "n_chars"),
    "latex_fraction": _ratio("latex_chars", "n_chars"),
    "math_symbol_fraction": _ratio("n_math_symbols", "n_chars"),
    "language_confidence": lambda c: c["language_score"] / 10_000,
    "letter_fraction": lambda c: c["n_letters"] / _visible(c),
    "digit_fraction": lambda c: c["n_digits"] / _visible(c),
    "mean_line_length": lambda c: (c["n_chars"] - c["n_line_ends"]) / np.maximum(c["n_raw_lines"], 1),
    "newline_word_ratio": _ratio("n_line_ends", "n_words"),
    "newline_token_ratio": _ratio("n_line_ends", "n_tokens"),
    "alpha_token_fraction": _ratio("n_alpha_words", "n_tokens"),
}
"""Every signal a rule may bound: the stored counts, without their `n_`, and the ratios formed from them."""

"""`preset: multilingual` in a section of filters: thresholds for each of its languages, as FineWeb-2 sets them.

    filters:
      web: {preset: multilingual, languages: [de, fr, zh]}

stands for the sections `web/de`, `web/fr` and `web/zh`. What the recipe says itself of these is above the preset; what the
wider sections say and FineWeb-2 has its own number for, or leaves out since it is of English, is below. Languages without
rules of FineWeb-2, English among them, are judged as the section says. In `all` the sections are of languages: `de`.

    dup_line_frac                        max_duplicate_line_fraction
    char_duplicates_ratio (0.1)          max_duplicate_line_char_fraction
    top_n_grams                          max_top_2gram_fraction to 4
    dup_n_grams                          max_repeated_5gram_fraction to 10, the same count; duplicate_... are not bounded
    new_line_ratio                       max_newline_token_ratio, of words and symbols; newline_word_ratio is not bounded
    line_punct_thr                       min_punctuated_line_fraction
    max_non_alpha_words_ratio            min_alpha_token_fraction; alpha_word_fraction is not bounded
    min_, max_avg_word_length            min_, max_mean_word_length
    stopwords (at least 2)               min_distinct_stop_words
    at least 50 words, and its limits    min_words, max_symbol_word_ratio, max_bullet_line_fraction,
    on hashes, bullets and ellipses      max_ellipsis_line_fraction

Not taken over: `language_score`, which is of another language model, and `max_doc_words` (100,000), which would drop books.
"""

from __future__ import annotations

from typing import Any

from ..pipeline.filter.judge import ALL, LANGUAGES
from ..pipeline.signals.fineweb2 import language_rules
from ..pipeline.signals.gopher import DUPLICATE_NGRAMS, TOP_NGRAMS
from ..pipeline.signals.stop_words import languages_with_stop_words

PRESET = "preset"
MULTILINGUAL = "multilingual"


def multilingual_thresholds(language: str) -> dict[str, float | None]:
    """FineWeb-2's thresholds for a language as a section of filters; None lifts one of a wider section. Empty where
    FineWeb-2 has none.
    """
    rules = language_rules().get(language)
    if rules is None:
        return {}
    return {
        "min_words": 50,
        "min_mean_word_length": rules.min_avg_word_length or None,
        "max_mean_word_length": rules.max_avg_word_length,
        "max_symbol_word_ratio": 0.1,
        "max_bullet_line_fraction": 0.9,
        "max_ellipsis_line_fraction": 0.3,
        "min_alpha_word_fraction": None,
        "min_alpha_token_fraction": rules.max_non_alpha_words_ratio,
        "min_distinct_stop_words": 2 if language in languages_with_stop_words() else None,
        "max_duplicate_line_fraction": rules.dup_line_frac,
        "max_duplicate_line_char_fraction": 0.1,
        **{f"max_top_{n}gram_fraction": share for n, share in zip(TOP_NGRAMS, rules.top_n_grams, strict=True)},
        **{f"max_duplicate_{n}gram_fraction": None for n in DUPLICATE_NGRAMS},
        **{f"max_repeated_{n}gram_fraction": s for n, s in zip(DUPLICATE_NGRAMS, rules.dup_n_grams, strict=True)},
        "max_newline_word_ratio": None,
        "max_newline_token_ratio": rules.new_line_ratio,
        "min_punctuated_line_fraction": rules.line_punct_thr or None,
    }


def expand_sections(filters: Any) -> Any:
    """Sections as written, those with the preset without it and with a section for each of their languages.

    Raises:
        ValueError: the preset is another, or stands where it can set nothing.
    """
    if not isinstance(filters, dict):
        return filters
    expanded: dict[str, Any] = {}
    for section, thresholds in filters.items():
        if not isinstance(thresholds, dict) or PRESET not in thresholds:
            # A section of a language may stand above already.
            expanded.setdefault(section, thresholds)
            continue
        expanded[section] = {key: value for key, value in thresholds.items() if key != PRESET}
        for language in _languages(section, thresholds):
            name = language if section == ALL else f"{section}/{language}"
            written = filters.get(name)
            if below := multilingual_thresholds(language):
                expanded[name] = {**below, **(written if isinstance(written, dict) else {})}
    return expanded


def _languages(section: str, thresholds: dict[str, Any]) -> list[str]:
    """The languages of a section with a preset."""
    preset = thresholds[PRESET]
    if preset is None:
        return []
    if preset != MULTILINGUAL:
        raise ValueError(f"filters.{section}.{PRESET}: there is no {preset!r}; choose {MULTILINGUAL}")
    if section != ALL and ("/" in section or section in language_rules()):
        raise ValueError(f"filters.{section}.{PRESET}: it stands in `{ALL}` or the section of a domain")
    languages = thresholds.get(LANGUAGES)
    if languages is None:
        return [*language_rules()]
    # What is no list of codes is for the schema to refuse.
    return [code for code in languages if isinstance(code, str)] if isinstance(languages, list) else []

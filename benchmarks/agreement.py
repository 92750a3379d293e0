"""How often fox1's rules and datatrove's filters decide alike, rule by rule, at the same thresholds on the same documents.

    FOX1_DATA=... python -m benchmarks.agreement [--megabytes 15] [--recipe mini] [--out FILE.json]

Every datatrove rule is run alone, at its default threshold, on the raw text (English words by spaCy; for words with a
letter, what white space separates); fox1's is the threshold of `signals/ratios.py` that stands for it. Prints documents
both drop, only one drops, and the share decided alike.

Where they differ by definition: spaCy counts punctuation as words and splits at apostrophes, fox1's words are runs of
letters, digits and marks; datatrove's duplicate n-grams leave out first copies and what overlaps them, its repetition
joins words without spaces or takes an n-gram that occurs once for a top one; its lines are exact, fox1's stripped; its
C4 sentences are spaCy's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fox1.benchmarks.bench_scan import stratified
from fox1.benchmarks.peers import whitespace_words
from fox1.pipeline.signals import scan
from fox1.pipeline.signals.ratios import SIGNAL_COUNTS, SIGNALS
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings

Columns = dict[str, np.ndarray]
Ours = Callable[[Columns], np.ndarray]


def over(signal: str, limit: float) -> Ours:
    return lambda c: SIGNALS[signal](c) > limit


def under(signal: str, limit: float) -> Ours:
    return lambda c: SIGNALS[signal](c) < limit


def rules() -> dict[str, tuple[Any, Ours]]:
    """Rule -> (datatrove filter with that rule alone, fox1's verdict: True where it drops)."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    off = dict.fromkeys(
        "min_doc_words max_doc_words min_avg_word_length max_avg_word_length max_symbol_word_ratio max_bullet_lines_ratio "
        "max_ellipsis_lines_ratio max_non_alpha_words_ratio min_stop_words".split()
    )
    still = {"dup_line_frac": None, "dup_para_frac": None, "dup_line_char_frac": None, "dup_para_char_frac": None}
    quiet: dict[str, Any] = {**still, "top_n_grams": (), "dup_n_grams": ()}
    c4_off: dict[str, Any] = {
        "filter_no_terminal_punct": False, "min_num_sentences": -1, "min_words_per_line": -1, "max_word_length": -1,
        "filter_lorem_ipsum": False, "filter_javascript": False, "filter_curly_bracket": False, "filter_policy": False,
    }  # fmt: skip
    web = {"line_punct_thr": 0.0, "short_line_thr": 2.0, "char_duplicates_ratio": 2.0, "new_line_ratio": 1e9}

    def gopher(**on: Any) -> Any:
        return GopherQualityFilter(**{**off, **on})

    def repetition(**on: Any) -> Any:
        return GopherRepetitionFilter(**{**quiet, **on})

    found: dict[str, tuple[Any, Ours]] = {
        "gopher: at least 50 words": (gopher(min_doc_words=50), under("words", 50)),
        "gopher: word length from 3": (gopher(min_avg_word_length=3), under("mean_word_length", 3)),
        "gopher: word length to 10": (gopher(max_avg_word_length=10), over("mean_word_length", 10)),
        "gopher: symbols by words": (gopher(max_symbol_word_ratio=0.1), over("symbol_word_ratio", 0.1)),
        "gopher: bullet lines": (gopher(max_bullet_lines_ratio=0.9), over("bullet_line_fraction", 0.9)),
        "gopher: ellipsis lines": (gopher(max_ellipsis_lines_ratio=0.3), over("ellipsis_line_fraction", 0.3)),
        "gopher: words with a letter": (
            gopher(max_non_alpha_words_ratio=0.8, language=whitespace_words()),
            under("alpha_word_fraction", 0.8),
        ),
        "gopher: two stop words": (gopher(min_stop_words=2), under("distinct_stop_words", 2)),
        "gopher: duplicate lines": (repetition(dup_line_frac=0.3), over("duplicate_line_fraction", 0.3)),
        "gopher: their characters": (repetition(dup_line_char_frac=0.2), over("duplicate_line_char_fraction", 0.2)),
        "gopher: duplicate paragraphs": (repetition(dup_para_frac=0.3), over("duplicate_paragraph_fraction", 0.3)),
    }
    for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16)):
        found[f"gopher: top {n}-gram"] = (repetition(top_n_grams=((n, limit),)), over(f"top_{n}gram_fraction", limit))
    for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        theirs = repetition(dup_n_grams=((n, limit),))
        found[f"gopher: duplicate {n}-grams"] = (theirs, over(f"duplicate_{n}gram_fraction", limit))
    found |= {
        "c4: lorem ipsum": (C4QualityFilter(**{**c4_off, "filter_lorem_ipsum": True}), over("lorem_ipsum", 0)),
        "c4: curly braces": (C4QualityFilter(**{**c4_off, "filter_curly_bracket": True}), over("curly_braces", 0)),
        "c4: five sentences in good lines": (
            C4QualityFilter(filter_lorem_ipsum=False, filter_curly_bracket=False, min_words_per_line=5),
            under("c4_sentences", 5),
        ),
        "fineweb: punctuated lines": (
            FineWebQualityFilter(**{**web, "line_punct_thr": 0.12}),
            under("punctuated_line_fraction", 0.12),
        ),
        "fineweb: short lines": (
            FineWebQualityFilter(**{**web, "short_line_thr": 0.67}),
            over("short_line_fraction", 0.67),
        ),
        "fineweb: duplicate characters": (
            FineWebQualityFilter(**{**web, "char_duplicates_ratio": 0.01}),
            over("duplicate_line_char_fraction", 0.01),
        ),
        "fineweb: line ends by words": (
            FineWebQualityFilter(**{**web, "new_line_ratio": 0.3}),
            over("newline_word_ratio", 0.3),
        ),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from datatrove.data import Document

    recipe, _ = load_recipe(options.recipe)
    files = list_sources(curate_settings(recipe).sources)
    batches = stratified([(f, b) for f in files for b in read_rows(f, Quarantine(f))], options.megabytes, 2)
    settings = scan.ScanSettings()
    schema, nothing = scan.scanned_schema(settings), scan.Models.nothing()
    signals = [scan.scan_piece(p, f, settings, schema, nothing) for f, b in batches for p in scan.pieces(b)]
    columns = {name: np.concatenate([s.column(name).to_numpy() for s in signals]) for name in SIGNAL_COUNTS}
    texts = [t for _, b in batches for t in b.column("text").to_pylist()]
    documents = [Document(text=t, id=str(i)) for i, t in enumerate(texts) if t.strip()]
    there = np.array([bool(t.strip()) for t in texts])
    rows: list[dict[str, Any]] = []
    print(f"{len(documents):,} documents\n{'rule':34}{'both drop':>10}{'datatrove':>10}{'fox1':>8}{'alike':>9}")
    for name, (filter_, verdict) in rules().items():
        theirs = np.array([not _kept(filter_, d) for d in documents])
        ours = verdict(columns)[there]
        both, alike = int((theirs & ours).sum()), float((theirs == ours).mean())
        only_theirs, only_ours = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        rows.append({"rule": name, "both": both, "datatrove": only_theirs, "fox1": only_ours, "alike": round(alike, 4)})
        print(f"{name:34}{both:10,}{only_theirs:10,}{only_ours:8,}{100 * alike:8.2f} %", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps({"documents": len(documents), "least_alike": min(r["alike"] for r in rows)}))


def _kept(filter_: Any, document: Any) -> bool:
    try:
        result = filter_.filter(type(document)(text=document.text, id=document.id))
    except (ZeroDivisionError, ValueError):
        return False  # it divides by the words of a document that has none
    return bool(result[0] if isinstance(result, tuple) else result)


if __name__ == "__main__":
    main()

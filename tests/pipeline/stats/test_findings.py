"""Findings in sentences, from counts alone."""

from __future__ import annotations

from typing import Any

from fox1.pipeline.stats.findings import findings


def corpus(name: str, rows: int, kept: int, **dropped: int) -> dict[str, Any]:
    return {"corpus": name, "rows": rows, "kept": kept, "dropped": dropped}


def phase(name: str, wanted: int, tokens: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "wanted_tokens": wanted, "tokens": tokens, "pools": [], "given_away": [], **more}


def test_what_stands_out_is_said_in_sentences() -> None:
    corpora = [
        corpus("a", 1_000, 80, exact_duplicate=700, near_duplicate=120, min_words=100),
        corpus("b", 1_000, 900, min_words=95, languages=5),
    ]
    phases = [
        phase("phase1", 1_000, 1_000, pools=[{"pool": "web", "epochs": 2.5}]),
        phase("phase3", 1_000, 700, given_away=["dialogue"]),
    ]
    said = findings({"funnel": {"corpora": corpora}, "mixture": {"phases": phases}})
    assert said == [
        "49 % of 2,000 documents are kept",
        "41 % are duplicates (35 % exact copies, 6.0 % near copies)",
        "The rules that drop most: min_words 9.8 %",
        "a keeps 8.0 %: 70 % of it are dropped for exact duplicates",
        "phase1 reads documents more than once (web 2.5 times)",
        "phase3 lacks dialogue: nothing is kept of it",
        "phase3 reaches 70 % of its tokens",
    ]


def test_an_empty_run_has_no_findings() -> None:
    assert findings({"funnel": {"corpora": [corpus("a", 0, 0)]}, "mixture": {"phases": []}}) == []

"""What a summary warns of: said where it is so, and only there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from fox1.pipeline.stats.concerns import concerns

PHASE = {
    "name": "phase1",
    "tokens": 9_000,
    "lengths": {"web": {"3": [400, 9_000]}},
    "cells": [{"corpus": "pile", "tokens": 9_000}],
}
SOUND: dict[str, Any] = {
    "funnel": {
        "corpora": [
            {
                "corpus": "pile",
                "rows": 900,
                "quarantined": 1,
                "kept": 500,
                "dropped": {"min_words": 399},
                "subsets": {"Github": {"kept": 500, "dropped": {"min_words": 399}}},
            }
        ]
    },
    "languages": {"languages": {"en": {"rows": 800, "kept": 500}}},
    "mixture": {"phases": [PHASE], "unused": [{"corpus": "pile", "documents": 100}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The sound statistics with another value at a place."""
    values = copy.deepcopy(SOUND)
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    at: Any = values
    for part in above:
        at = at[part]
    at[last] = value
    return values


def test_a_sound_run_has_none() -> None:
    assert concerns(SOUND) == []


CORPUS = SOUND["funnel"]["corpora"][0]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "mixture.phases.0.lengths",
            {"web": {"3": [30, 1]}, "code": {"2": [1, 1]}},
            "phase1 trains on 31 documents only: is its budget of 9,000 tokens meant?",
        ),
        (
            "funnel.corpora.0",
            CORPUS | {"kept": 0, "dropped": {"min_words": 9, "languages": 890}},
            "pile: nothing is kept of 899 documents; 890 were dropped for languages",
        ),
        (
            "languages.languages",
            {"en": {"rows": 1, "kept": 1}, "de": {"rows": 7}, "fr": {"rows": 9, "kept": 0}},
            "nothing is kept of 2 languages (documents: fr 9, de 7)",
        ),
        ("mixture.phases.0.cells", [], "pile: no phase draws on any of its 500 kept documents"),
    ],
)
def test_what_is_unlikely_to_be_meant_is_one_line(path: str, value: Any, said: str) -> None:
    assert concerns(changed(path, value)) == [said]


def test_a_phase_of_few_documents_is_no_step_of_a_curriculum() -> None:
    values = copy.deepcopy(SOUND)
    few = {**PHASE, "name": "phase2", "lengths": {"web": {"12": [37, 9_000]}}}
    values["mixture"]["phases"] = [PHASE, few]
    assert concerns(values) == [
        "phase2 trains on 37 documents only (so few that which they are matters more than their order): "
        "is its budget of 9,000 tokens meant?"
    ]

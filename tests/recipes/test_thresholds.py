"""Thresholds by section: `recipe show` says where each comes from, `recipe check` what a narrower section overrides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fox1.recipes.load import load_recipe
from fox1.recipes.thresholds import counting, listing, overriding

from tests.conftest import run_command

FILTERS = (
    "filters={all: {min_words: 10, max_words: 1000000}, web: {min_words: 50, languages: [en, und]}, "
    "redpajama/c4: {min_words: null, languages: ['no'], max_mean_word_length: 12}, redpajama/arxiv: {min_words: 10}}"
)


def test_the_narrowest_section_counts_and_says_what_it_overrides() -> None:
    recipe = load_recipe("sample", [FILTERS], {"FOX1_DATA": "/data"})[0]
    assert [(t.key, str(t)) for t in counting(recipe, "redpajama/c4")] == [
        ("min_words", "none (from `redpajama/c4`, instead of 50 of `web`, 10 of `all`)"),
        ("max_words", "1000000 (from `all`)"),
        ("languages", "[no] (from `redpajama/c4`, instead of [en, und] of `web`)"),
        ("max_mean_word_length", "12 (from `redpajama/c4`)"),
    ]
    assert list(overriding(recipe)) == [
        "filters.web.min_words: 50 overrides 10 of `all`",
        "filters.redpajama/c4.min_words: null, which lifts 50 of `web`",
        "filters.redpajama/c4.languages: [no] overrides [en, und] of `web`",
        "filters.redpajama/arxiv.min_words: 10 overrides 10 of `all`",
    ]
    assert [line for line in listing(recipe) if not line.startswith(" ")] == [
        "all other documents",
        "web",
        "redpajama/c4",
        "redpajama/arxiv",
    ]


def test_a_recipe_without_thresholds_says_so() -> None:
    recipe = load_recipe("sample", ["filters={}"], {"FOX1_DATA": "/data"})[0]
    assert list(listing(recipe)) == ["all other documents", "  no threshold"] and not list(overriding(recipe))


def test_recipe_show_prints_a_recipe_that_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_DATA", str(tmp_path))
    shown = run_command("recipe", "show", "sample", "--set", FILTERS).stdout
    assert "#     min_words  50 (from `web`, instead of 10 of `all`)" in shown
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    before = load_recipe("sample", [FILTERS], {"FOX1_DATA": str(tmp_path)})[0]
    mapping = yaml.safe_load(shown)
    assert "extends" not in mapping and "${" not in json.dumps(mapping)
    assert load_recipe(str(again))[0].filters == before.filters


def test_recipe_check_says_what_is_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_DATA", str(tmp_path))
    said = run_command("recipe", "check", "sample", "--set", FILTERS).stdout
    assert "  filters.web.min_words: 50 overrides 10 of `all`\n" in said

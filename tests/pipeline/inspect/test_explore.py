"""Histograms over bytes: bins, whole files where there are too many documents, and runs of earlier versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.api import open_run
from fox1.pipeline.filter.judge import FilterSettings, Section, threshold_of
from fox1.pipeline.inspect.explore.codes import Codes, Labels
from fox1.pipeline.inspect.explore.explorer import Explorer
from fox1.pipeline.inspect.explore.scales import scale_of
from fox1.pipeline.inspect.explore.selection import Filter, Selection
from hypothesis import given, settings
from hypothesis import strategies as st


@contextmanager
def exploring(run: Path, **options: Any) -> Iterator[Explorer]:
    explorer = Explorer(open_run(run).finished, FilterSettings(), **options)
    explorer.start()
    try:
        yield explorer
    finally:
        explorer.close()


@pytest.mark.parametrize(
    "signal", ["words", "quality", "mean_word_length", "newline_word_ratio", "duplicate_line_fraction"]
)
@given(st.lists(st.floats(0, 1e13), max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_value_lies_in_the_bin_between_its_bounds(signal: str, values: list[float]) -> None:
    scale = scale_of(signal)
    codes = np.zeros(len(values), np.uint8)
    scale.codes(np.array(values), codes)
    lows = [0.0, *scale.lows]
    for value, code in zip(values, codes.tolist(), strict=True):
        assert lows[code] <= value and (code + 1 == scale.bins or value < lows[code + 1])


def test_counts_of_one_and_two_have_bins_of_their_own() -> None:
    codes = np.zeros(5, np.uint8)
    scale_of("words").codes(np.array([0, 1, 2, 3, 4]), codes)
    assert codes.tolist() == [0, 1, 2, 3, 4]


def test_a_run_of_too_many_documents_shows_whole_files(run: Path) -> None:
    with exploring(run) as whole, exploring(run, most=500) as part:
        assert 0 < part.codes.documents <= 500 < whole.codes.documents
        held = sum(own for own, _ in part.shares.values())
        assert held == part.codes.documents
        assert {c: n for c, (_, n) in part.shares.items()} == {c: n for c, (_, n) in whole.shares.items()}
        places = part.places(Selection())
        names = part.rows(places, ["document"]).column(0).to_pylist()
        files = {name.rpartition("#")[0] for name in names}
        every = whole.rows(whole.places(Selection()), ["document"]).column(0).to_pylist()
        assert names == [name for name in every if name.rpartition("#")[0] in files]


def test_a_run_of_an_earlier_version_is_shown_without_what_it_lacks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.inspect import documents

    class Earlier(documents.Columns):
        def __init__(self, signals: pa.Schema) -> None:
            for name in {"host", "n_hashes"} & set(signals.names):
                signals = signals.remove(signals.get_field_index(name))
            super().__init__(signals)

    monkeypatch.setattr(documents, "Columns", Earlier)
    with exploring(run) as explorer:
        names = explorer.table.columns.schema.names
        assert not explorer.facets()["hosts"] and not {"host", "hashes", "symbol_word_ratio"} & set(names)
        found = explorer.counts(Selection(), ["host", "hashes", *explorer.codes.signals])
        assert found.hosts == [] and set(found.columns) == set(explorer.codes.signals) and "words" in found.columns


def test_tables_with_fewer_rows_than_the_manifest_says_are_an_error(run: Path) -> None:
    with exploring(run) as explorer:
        one = explorer.codes.held[0]
        short = Codes(explorer.table, [type(one)(one.file, 0, one.documents + 1)])
        with pytest.raises(ValueError, match="fox1 verify"):
            short.want(["reason"])[0].result()
        short.close()


def test_a_selection_says_itself_in_sql(run: Path) -> None:
    with exploring(run) as explorer:
        explorer.counts(Selection(), ["words"])
        corpora = explorer.codes.labels["corpus"].texts()
        chosen = tuple(n for n, text in enumerate(corpora) if text in ("pile", "dolma"))
        filters = (Filter("words", 5, 12), Filter("corpus", values=chosen), Filter("quality", first=3))
        selection = Selection(filters, kept=False, where="row > 3 or row < 2")
        said = selection.said(explorer.codes)
        mine = explorer.rows(explorer.places(selection), ["document"]).column(0).to_pylist()
        assert mine and mine == open_run(run).documents(said, ["document"]).column(0).to_pylist()


def test_more_texts_than_a_byte_has_numbers_share_the_last_one() -> None:
    labels = Labels()
    numbers = labels.numbers(pa.array([f"t{k}" for k in range(300)]))
    assert numbers.max() == 255 and labels.texts()[255] == "(others)" and len(labels) == 256
    assert labels.numbers(pa.array(["t1", "t299"])).tolist() == [1, 255]


def test_the_narrowest_section_bounds_a_document() -> None:
    sections = (
        Section("pile/Books", (("min_words", 5),)),
        Section("all", (("min_words", 10), ("max_words", 99))),
        Section("web", (("min_words", 50), ("max_words", None))),
        Section("web", (("min_words", 30),), "de"),
    )
    found = FilterSettings(sections)
    assert threshold_of(found, "pile", "Books", "web", "en", "min_words") == 5
    assert threshold_of(found, "pile", "Other", "web", "en", "min_words") == 50
    assert threshold_of(found, "pile", "Other", "web", "en", "max_words") is None
    assert threshold_of(found, "pile", "Other", "code", "en", "max_words") == 99
    assert threshold_of(found, "pile", "Other", "web", "de", "min_words") == 30


def test_thresholds_are_named_as_the_recipe_names_their_section(run: Path) -> None:
    sections = (Section("web", (("min_words", 30),), "de"), Section("pile/Books", (("max_score_edu", 3.5),)))
    explorer = Explorer(open_run(run).finished, FilterSettings(sections))
    try:
        found = explorer.thresholds()
    finally:
        explorer.close()
    assert found["words"] == [{"key": "min_words", "section": "web/de", "value": 30}]
    assert found["score_edu"] == [{"key": "max_score_edu", "section": "pile/Books", "value": 3.5}]


def test_scores_of_others_have_bins_for_shares_and_grades() -> None:
    codes = np.zeros(5, np.uint8)
    scale_of("score_edu").codes(np.array([-1.0, np.nan, 0.52, 3.0, 99.0]), codes)
    assert codes.tolist() == [0, 0, 10, 60, 100]

"""`preset: multilingual`: FineWeb-2's thresholds by language, from a recipe of a few lines to what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.filter.judge import FilterSettings, judge
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.signals import language, stop_words
from fox1.pipeline.signals.fineweb2 import language_rules
from fox1.pipeline.signals.scan import Models, ScanSettings, scan_piece, signals_schema
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.pipeline.sources.text_schema import TEXT_SCHEMA
from fox1.recipes.load import RecipeError, load_recipe
from fox1.recipes.multilingual import multilingual_thresholds
from fox1.recipes.settings import curate_settings
from fox1.recipes.thresholds import counting, overriding

from tests.pipeline.signals.nine_languages import TEXTS
from tests.pipeline.signals.texts import folded_words, segments

NINE = [*TEXTS]


def scanned(texts: list[str]) -> pa.RecordBatch:
    n = len(texts)
    columns = [range(n), texts, ["Pile-CC"] * n, [""] * n, [""] * n, [0] * n]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)], schema=TEXT_SCHEMA
    )
    settings = ScanSettings()
    file = SourceFile("pile", "x.jsonl", "", 0, "", "pile", False, 1)
    return scan_piece(batch, file, settings, signals_schema(settings), Models.nothing())


def settings_of(filters: str) -> FilterSettings:
    return curate_settings(load_recipe("sample", [f"filters={filters}"], {"FOX1_DATA": "/data"})[0]).filter


def failed(texts: list[str], filters: str) -> list[list[str]]:
    judged = judge(scanned(texts), "pile", settings_of(filters))
    return [[name for name, hit in judged if hit[i]] for i in range(len(texts))]


PRESET = f"{{web: {{preset: multilingual, languages: [{', '.join(NINE)}]}}}}"


def test_a_text_of_each_language_is_kept_and_named() -> None:
    batch = scanned([*TEXTS.values()])
    assert batch.column("language").to_pylist() == NINE
    assert failed([*TEXTS.values()], PRESET) == [[]] * len(NINE)


@pytest.mark.parametrize("code", NINE)
def test_what_repeats_itself_or_is_no_prose_is_dropped_in_every_language(code: str) -> None:
    text = TEXTS[code].strip()
    repeated, short, lines = failed([f"{text[:60]} " * 30, text[:40], "\n".join(folded_words(text) * 2)], PRESET)
    assert "max_repeated_5gram_fraction" in repeated
    assert "min_words" in short and "max_newline_token_ratio" in lines


def test_stop_words_are_those_of_the_documents_language() -> None:
    columns = language.load_model().languages
    s = segments([*TEXTS.values(), TEXTS["de"]])
    of = [*NINE, "en"]
    documents, counts = stop_words.stop_word_counts(s, np.array([columns.index(code) for code in of]))
    assert documents.tolist() == [*range(len(NINE))]  # English is counted by Gopher's words
    for code, (total, distinct) in zip(NINE, counts.tolist(), strict=True):
        units = folded_words(TEXTS[code])
        listed = {tuple(folded_words(word)) for word in language_rules()[code].stopwords}
        runs = [tuple(units[i : i + k]) for k in range(1, 9) for i in range(len(units) - k + 1)]
        found = [run for run in runs if run in listed]
        assert (total, distinct) == (len(found), len({*found})) and distinct >= 2, code


def test_every_language_of_the_model_has_rules_or_is_judged_as_the_section_says() -> None:
    without = {*language.load_model().languages} - {*language_rules()}
    assert without == {"en", "zxx"}
    assert multilingual_thresholds("en") == {}
    for code, rules in language_rules().items():
        assert len(rules.stopwords) <= 64, code
        assert multilingual_thresholds(code)["max_duplicate_line_fraction"] == rules.dup_line_frac
    # Of Korean the list holds parts of words.
    assert multilingual_thresholds("ko")["min_distinct_stop_words"] is None


def test_the_preset_stands_below_what_the_recipe_says_of_a_language() -> None:
    filters = "{web: {preset: multilingual, languages: [de, en]}, web/de: {min_words: 20}}"
    recipe, value = load_recipe("sample", [f"filters={filters}"], {"FOX1_DATA": "/data"})
    assert [*value["filters"]] == ["web", "web/de"] and value["filters"]["web"] == {"languages": ["de", "en"]}
    german = {t.key: str(t) for t in counting(recipe, "web/de")}
    assert german["min_words"] == "20 (from `web/de`)" and german["max_mean_word_length"] == "15 (from `web/de`)"
    assert german["languages"] == "[de, en] (from `web`)"


def test_of_a_domain_and_a_language_the_language_counts() -> None:
    filters = (
        "{all: {min_words: 1}, web: {min_words: 1000}, de: {min_words: 60, max_words: 90}, web/de: {max_words: 80}, "
        "pile/Pile-CC: {max_digits: 0}}"
    )
    recipe = load_recipe("sample", [f"filters={filters}"], {"FOX1_DATA": "/data"})[0]
    german = {t.key: str(t) for t in counting(recipe, "web/de")}
    assert german == {
        "min_words": "60 (from `de`, instead of 1000 of `web`, 1 of `all`)",
        "max_words": "80 (from `web/de`, instead of 90 of `de`)",
    }
    told = [*overriding(recipe)]
    assert "filters.de: min_words overrides `web`; `fox1 recipe show` has the values" in told
    assert "filters.web/de: max_words overrides `de`; `fox1 recipe show` has the values" in told
    assert failed([TEXTS["de"], TEXTS["fr"], TEXTS["de"] * 2], filters) == [
        ["max_words"],
        ["min_words"],
        ["max_words"],
    ]
    narrow = "{de: {min_words: 1000}, pile/Pile-CC: {min_words: 5}}"
    assert failed([TEXTS["de"]], narrow) == [[]]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("{web: {preset: multilang}}", "filters.web.preset: there is no 'multilang'; choose multilingual"),
        ("{de: {preset: multilingual}}", "filters.de.preset: it stands in `all` or the section of a domain"),
        ("{web/ger: {min_words: 1}}", "no language 'ger' (did you mean `de`?)"),
        ("{german: {min_words: 1}}", "(did you mean `de`?)"),
        ("{web/en/x: {min_words: 1}}", "no language 'en/x'"),
    ],
)
def test_sections_that_mean_nothing_are_refused(filters: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe("sample", [f"filters={filters}"], {"FOX1_DATA": "/data"})
    assert message in str(error.value)


def test_a_recipe_of_a_few_lines_keeps_german_and_chinese(tmp_path: Path) -> None:
    texts = [TEXTS["de"], TEXTS["zh"], TEXTS["ru"], TEXTS["de"].replace("Fluss", "See"), TEXTS["zh"] * 3]
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    phase = "weights: [{corpus: many, weight: 1}], blocks: [{length: 256}]"
    (tmp_path / "own.yaml").write_text(
        "extends: sample.yaml\nname: own\nsources:\n"
        "  redpajama: null\n  slimpajama: null\n  dolma: null\n  pile: null\n  refinedweb: null\n"
        "  many: {root: many, domain: web}\ncontamination: {benchmarks: {sample: null}}\n"
        "filters:\n  web: {preset: multilingual, languages: [de, zh]}\n"
        f"phases: {{phase1: {{{phase}}}, phase2: {{{phase}}}, phase3: {{{phase}}}}}\n"
    )
    curate = curate_settings(load_recipe(str(tmp_path / "own.yaml"))[0])
    (file,) = list_sources(curate.sources)
    schema = signals_schema(curate.scan)
    kept = []
    for batch in read_rows(file, Quarantine(file)):
        signals = scan_piece(batch, file, curate.scan, schema, Models.nothing())
        judged = judge(signals, "many", curate.filter)
        kept += [not any(hit[i] for _, hit in judged) for i in range(batch.num_rows)]
    assert kept == [True, True, False, True, False]

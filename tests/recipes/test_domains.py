"""Domains of one's own: a source names one, and all parts of a recipe may name it then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fox1.pipeline.mix.budget import Cell
from fox1.pipeline.run.identity import file_table, files_of_table
from fox1.pipeline.sources.listing import list_sources
from fox1.recipes.load import RecipeError, load_recipe
from fox1.recipes.settings import curate_settings
from fox1.recipes.thresholds import counting

from tests.conftest import run_command

RECIPE = """
extends: sample
name: own
sources:
  redpajama: null
  slimpajama: null
  dolma: null
  pile: null
  refinedweb: null
  wards: {root: wards, domain: medicine, columns: {text: body}}
  notes: {root: notes}
contamination: {benchmarks: {sample: null}}
filters: {all: {min_words: 3}, medicine: {min_words: 9}, wards/default: {max_words: 90}}
edits: {lines: {medicine: [javascript]}}
phases:
  phase1: {tokens: 20K, weights: [{domain: medicine, weight: 1, max_epochs: 60}, {domain: other, weight: 1, max_epochs: 60}]}
  phase2: {tokens: 20K, weights: [{corpus: wards, weight: 1, max_epochs: 60, reuse: [phase3]}], blocks: [{length: 512}]}
  phase3:
    tokens: 20K
    weights: [{corpus: notes, weight: 1, max_epochs: 60}]
    blocks: [{length: 512, domains: [medicine]}, {length: 512}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(RECIPE)
    for corpus, key in (("wards", "body"), ("notes", "text")):
        (tmp_path / corpus).mkdir()
        rows = [{key: f"{corpus} {n} " + "one " * (n % 12)} for n in range(60)]
        (tmp_path / corpus / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_source_s_domain_goes_with_its_files_and_is_known_to_filters(folder: Path) -> None:
    recipe = load_recipe(str(folder / "own.yaml"))[0]
    files = list_sources(curate_settings(recipe).sources)
    assert [(f.corpus, f.domain) for f in files] == [("notes", ""), ("wards", "medicine")]
    stored = files_of_table(json.loads(json.dumps(file_table(files))))
    assert [f.domain for f in stored] == ["", "medicine"] and "domain" not in file_table(files)[0]
    assert Cell.of("wards", "default", files[1].format, files[1].domain).domain == "medicine"
    (least, _) = counting(recipe, "wards/default")
    assert (least.key, least.value, least.section) == ("min_words", 9, "medicine")


def test_its_documents_are_filtered_and_drawn_by_it(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = run_command(
        *("curate", folder / "own.yaml", "--out", run, "--in-process", "--stages", "scan,filter"),
        *("--set", "tokenizer.vocab_size=300"),
    )
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    signals = pq.read_table(run / "signals" / "wards" / "a.jsonl.parquet")
    assert set(signals["domain"].to_pylist()) == {"medicine"}
    # Words are the corpus's name, the number and up to eleven more.
    for corpus, dropped in (("wards", 35), ("notes", 5)):
        reasons = [
            r for p in (run / "filtered" / corpus).glob("*.parquet") for r in pq.read_table(p)["reason"].to_pylist()
        ]
        assert (len(reasons), reasons.count("min_words"), reasons.count("")) == (60, dropped, 60 - dropped)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sources.notes.domain='a b'", "'a b' cannot name a domain"),
        ("sources.notes.domain=all", "'all' cannot name a domain"),
        (
            "phases.phase1.weights=[{domain: medecine, weight: 1}]",
            "phases.phase1.weights.0.domain names the domain 'medecine', which no",
        ),
        (
            "phases.phase2.blocks=[{length: 512, domains: [law]}, {length: 512}]",
            "phases.phase2.blocks names the domain 'law'",
        ),
        ("edits.lines={law: [javascript]}", "edits.lines names the domain 'law'"),
        ("filters.law={min_words: 3}", "filters has the section 'law'; choose all, a domain \\(web, "),
        ("plugins.ours={target: a.b, domains: [law]}", "plugins.ours names the domain 'law'"),
    ],
)
def test_a_domain_that_no_source_has_is_refused_wherever_it_is_named(folder: Path, change: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(str(folder / "own.yaml"), [change])

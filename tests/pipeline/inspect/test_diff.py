"""Two runs beside each other: every document that changed is counted once, by what it was and what it is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fox1.pipeline.inspect import diff as module
from fox1.pipeline.inspect.diff import ABSENT, changed_keys, diff
from fox1.pipeline.run.paths import RunPaths

from tests.conftest import SMALL, MakeOnce, as_set, run_command


@pytest.fixture(scope="module")
def stricter(make_once: MakeOnce, run: Path, corpora: Path) -> Path:
    """The run with another threshold, up to its decisions, and without a file."""

    def make(folder: Path) -> None:
        changes = as_set(*SMALL, "filters.web.min_words=90", "sources.pile.files=['train/00*']")
        options = ["--in-process", "--stages", "dedupe", *changes]
        done = run_command("curate", "sample", "--from", run, "--out", folder / "run", *options, FOX1_DATA=str(corpora))
        assert done.returncode == 0, done.stderr

    return make_once("stricter", make) / "run"


def outcomes(run: Path) -> dict[str, str]:
    """Document -> `kept` or its reason, read all at once."""
    tables = [pq.read_table(p) for p in sorted((run / "decisions").rglob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    return {f"{r['corpus']}/{r['file']}#{r['row']}": r["reason"] or "kept" for r in rows}


@pytest.mark.parametrize("slice_rows", [7, 1 << 18])
def test_every_document_is_counted_once_by_what_it_was_and_is(
    run: Path, stricter: Path, monkeypatch: pytest.MonkeyPatch, slice_rows: int
) -> None:
    monkeypatch.setattr(module, "SLICE_ROWS", slice_rows)
    before, after = outcomes(run), outcomes(stricter)
    pairs = {name: (before.get(name, ABSENT), after.get(name, ABSENT)) for name in before | after}
    expected = Counter(pair for pair in pairs.values() if pair[0] != pair[1])
    found = diff(RunPaths(run), RunPaths(stricter), ({}, {}), examples=2)
    assert found.changes == expected and found.changes["kept", "min_words"] > 0
    assert found.unchanged == sum(a == b for a, b in pairs.values())
    for pair, names in found.examples.items():
        assert 0 < len(names) <= 2 and all(pairs[name] == pair for name in names)
    for side, said in enumerate((before, after)):
        counts = Counter((name.split("/")[0], outcome) for name, outcome in said.items())
        held = {(c, o): n[side] for c, by in found.outcomes.items() for o, n in by.items() if n[side]}
        assert held == counts


def test_the_command_tells_keys_rates_and_documents(run: Path, stricter: Path) -> None:
    done = run_command("diff", run, stricter)
    assert done.returncode == 0, done.stderr
    assert "filters.web.min_words: 50 -> 90" in done.stdout and "kept -> dropped: min_words" in done.stdout
    assert "the last `fox1 curate`" in done.stderr and str(stricter) in done.stderr
    assert max(len(line) for line in done.stdout.splitlines()[2:] if "#" not in line) <= 80
    said = json.loads(run_command("diff", run, stricter, "--json").stdout)
    assert {"key": "filters.web.min_words", "before": "50", "after": "90"} in said["settings"]
    assert sum(change["documents"] for change in said["changes"]) > 0
    same = run_command("diff", run, run)
    assert "The recipes are the same." in same.stdout and "0 documents changed" in same.stdout


def test_a_run_without_decisions_is_refused(run: Path, tmp_path: Path) -> None:
    done = run_command("diff", run, tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "is missing" in done.stderr


def test_keys_are_named_by_their_place_in_both_recipes() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "phases": [{"tokens": 5}], "gone": True}
    after = {"a": {"b": 2, "c": [1, 2]}, "phases": [{"tokens": 6}, {"tokens": 7}]}
    expected = [("a.b", "1", "2"), ("phases.0.tokens", "5", "6"), ("gone", "True", "-"), ("phases.1.tokens", "-", "7")]
    assert changed_keys(before, after) == expected

"""Filters: the first failing rule is the reason, all that failed are kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.filter.judge import Exclusion, FilterSettings, Section, judge
from fox1.pipeline.run.identity import SourceFile, file_hash
from fox1.pipeline.run.schemas import EDIT_TYPE
from fox1.pipeline.signals.ratios import SIGNALS
from fox1.pipeline.signals.scan import Models, ScanSettings, scan_piece, signals_schema
from fox1.pipeline.sources.text_schema import TEXT_SCHEMA
from fox1.pipeline.text.edits import apply_edits

from tests.conftest import run_command

FILE = SourceFile("pile", "x.jsonl", "", 0, "", "pile", False, file_hash("pile", "x.jsonl"))


def signals(*rows: tuple[str, str]) -> pa.RecordBatch:
    columns = [
        pa.array(range(len(rows)), pa.int64()),
        pa.array([t for t, _ in rows], pa.large_string()),
        pa.array([s for _, s in rows]),
        pa.array([""] * len(rows)),
        pa.array([""] * len(rows)),
        pa.array([0] * len(rows), pa.int64()),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=TEXT_SCHEMA)
    settings = ScanSettings()
    return scan_piece(batch, FILE, settings, signals_schema(settings), Models.nothing())


def failed(batch: pa.RecordBatch, settings: FilterSettings) -> list[list[str]]:
    verdicts = judge(batch, "pile", settings)
    return [[name for name, hit in verdicts if hit[i]] for i in range(batch.num_rows)]


RULES = FilterSettings(
    (
        Section("all", (("min_words", 5.0),)),
        Section("web", (("max_digit_fraction", 0.2), ("languages", ("en", "und")))),
        Section("code", (("min_words", None),)),
        Section("pile/Pile-CC", (("max_curly_braces", 0.0),)),
    ),
    (Exclusion("pile", "Books3"), Exclusion("dolma", "Github")),
)


def test_reasons_come_in_the_recipes_order_with_the_licence_first() -> None:
    batch = signals(
        ("1 2 {", "Pile-CC"),
        ("one", "Books3"),
        ("x", "Github"),
        ("one two three four five", "Pile-CC"),
        ("Der Hund und die Katze liegen in der Sonne und schlafen den ganzen Tag.", "Pile-CC"),
    )
    expected = [
        ["min_words", "max_digit_fraction", "languages", "max_curly_braces"],
        ["licence", "min_words"],
        [],
        [],
        ["languages"],
    ]
    assert failed(batch, RULES) == expected


def test_the_narrowest_section_counts() -> None:
    batch = signals(("one two three", "Pile-CC"), ("one two three", "Github"), ("one two three", "FreeLaw"))
    sections = (
        Section("pile/Pile-CC", (("min_words", 2.0),)),
        Section("all", (("min_words", 4.0),)),
        Section("code", (("min_words", None),)),
        Section("legal", (("min_words", 3.0),)),
    )
    assert failed(batch, FilterSettings(sections)) == [[], [], []]
    assert failed(batch, FilterSettings(sections[1:2])) == [["min_words"]] * 3


def test_every_signal_can_be_judged() -> None:
    batch = signals(("", "Pile-CC"), ("Some words. And more!\n", "Github"))
    for name in SIGNALS:
        sections = (Section("all", ((f"min_{name}", 0.0),)),)
        assert failed(batch, FilterSettings(sections)) == [[], []], name


def test_rules_and_their_overlaps_are_counted(run: Path) -> None:
    import json

    rules = json.loads((run / "stats" / "filter.json").read_text())
    reasons: dict[str, int] = {}
    both: dict[str, int] = {}
    for path in (run / "filtered").rglob("*.parquet"):
        for failed_rules in pq.read_table(path)["reasons"].to_pylist():
            for i, name in enumerate(failed_rules):
                reasons[name] = reasons.get(name, 0) + 1
                for other in failed_rules[:i]:
                    both[f"{other}|{name}"] = both.get(f"{other}|{name}", 0) + 1
    assert {k: v for k, v in rules["failed"].items() if v} == reasons
    assert rules["both"] == both
    assert all(rules["alone"][k] <= rules["failed"][k] for k in rules["failed"])


def test_decisions_of_the_run_agree_with_its_signals(run: Path) -> None:
    for path in (run / "decisions").rglob("*.parquet"):
        decisions = pq.read_table(path)
        facts = pq.read_table(
            run / "signals" / path.relative_to(run / "decisions"), columns=["doc_id", "row", "n_words"]
        )
        assert decisions.column("doc_id").equals(facts.column("doc_id"))
        assert decisions.column("row").equals(facts.column("row"))
        for reason, reasons, kept, words in zip(
            decisions["reason"].to_pylist(), decisions["reasons"].to_pylist(), decisions["kept"].to_pylist(),
            facts["n_words"].to_pylist(), strict=True,
        ):  # fmt: skip
            assert (reason == "") == kept == (not reasons)
            assert not reasons or reasons[0] == reason
            assert words >= 10 or not kept


def test_edits_replace_byte_spans() -> None:
    text = pa.array(["héllo world", "untouched", "ab"], pa.large_string())
    spans = [
        [{"start": 0, "end": 3, "kind": 1, "replacement": "HE"}, {"start": 6, "end": 12, "kind": 2, "replacement": ""}],
        [],
        [{"start": 2, "end": 2, "kind": 1, "replacement": "é"}],
    ]
    assert apply_edits(text, pa.array(spans, EDIT_TYPE)).to_pylist() == ["HEllo", "untouched", "abé"]


def test_no_edits_give_the_same_array() -> None:
    text = pa.array(["a", "b"], pa.large_string())
    assert apply_edits(text, pa.array([[], []], EDIT_TYPE)) is text


@pytest.mark.parametrize("signal", ["mean_word_length", "letter_fraction"])
def test_empty_documents_divide_by_nothing(signal: str) -> None:
    sections = (Section("all", ((f"min_{signal}", 0.5),)),)
    assert failed(signals(("", "Pile-CC")), FilterSettings(sections)) == [[f"min_{signal}"]]


def test_what_if_says_what_a_real_change_does(
    run: Path, corpora: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    from fox1.pipeline.curate import planned_files, planned_groups
    from fox1.pipeline.inspect.what_if import what_if
    from fox1.pipeline.run.paths import RunPaths

    now, then = settings_of(), settings_of("filters.web.min_words=300", "filters.code.max_mean_line_length=200")
    paths = RunPaths(run)
    groups = planned_groups(now, paths)
    said = what_if(groups, paths, now.filter, then.filter, lambda corpus: planned_files(now, paths, corpus))
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    _, engine = curate(then, copy, "scan", "filter")
    assert engine.reused["scan"][0] == engine.reused["scan"][1]

    def kept(folder: Path) -> dict[int, str]:
        rows: dict[int, str] = {}
        for path in (folder / "filtered").rglob("*.parquet"):
            table = pq.read_table(path)
            rows |= dict(zip(table["doc_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
        return rows

    before, after = kept(run), kept(copy)
    lost = [after[d] for d in before if not before[d] and after[d]]
    won = [before[d] for d in before if before[d] and not after[d]]
    assert said.documents == len(before) and sum(said.dropped.values()) == len(lost) > 0
    assert sum(said.restored.values()) == len(won)
    assert set(said.dropped) == set(lost) and set(said.restored) == set(won)
    assert said.examples and all(e.text and e.name.count("#") == 1 for e in said.examples)
    assert "words" in next(e.value for e in said.examples if e.reason == "min_words")


def test_what_if_other_lists_take_documents_out(run: Path, corpora: Path, tmp_path: Path) -> None:
    rows = [
        (f"{path.relative_to(run / 'signals').as_posix().removesuffix('.parquet')}#{row}", doc_id)
        for path in sorted((run / "signals").rglob("*.parquet"))
        for row, doc_id in zip(*(pq.read_table(path)[c].to_pylist() for c in ("row", "doc_id")), strict=True)
    ]
    passing = {
        doc_id
        for path in (run / "filtered").rglob("*.parquet")
        for doc_id, reason in zip(*(pq.read_table(path)[c].to_pylist() for c in ("doc_id", "reason")), strict=True)
        if not reason
    }
    named = [name for name, doc_id in rows if doc_id in passing][:3]
    (tmp_path / "gone.txt").write_text("\n".join(named) + "\n")
    ours = f"exclude.lists=[{tmp_path}/gone.txt]"
    done = run_command("filter", run, "--what-if", ours, "--examples", 3, FOX1_DATA=str(corpora))
    assert done.returncode == 0, done.stderr
    # Of a file two examples are shown.
    assert "  3 dropped for excluded" in done.stdout and sum(name in done.stdout for name in named) >= 2
    (tmp_path / "gone.txt").write_text("no entry\n")
    bad = run_command("filter", run, "--what-if", ours, FOX1_DATA=str(corpora))
    assert bad.returncode == 1 and "gone.txt, line 1: 'no entry' is no corpus/file#row" in bad.stderr


def test_what_if_on_the_command_line(run: Path, corpora: Path) -> None:
    data = str(corpora)
    done = run_command("filter", run, "--what-if", "filters.web.min_words=300", "--examples", 2, FOX1_DATA=data)
    assert done.returncode == 0, done.stderr
    assert "dropped for min_words" in done.stdout and "would reuse the scan" in done.stdout
    assert (
        "nothing would change"
        in run_command("filter", run, "--what-if", "filters.all.min_words=10", FOX1_DATA=data).stdout
    )
    for change, says in {
        "filters.web.min_wrds=3": "did you mean `min_words`",
        "dedupe.preset=zyda": "without a new scan",
        "signals.minhash.bands=9": "without a new scan",
        "contamination.action=drop": "cutting text needs a new scan",
        "filters.web": "write key=value",
    }.items():
        bad = run_command("filter", run, "--what-if", change, FOX1_DATA=data)
        assert bad.returncode == 1 and says in bad.stderr and len(bad.stderr.splitlines()) == 1, bad.stderr
    assert (
        "is this a finished run"
        in run_command("filter", corpora, "--what-if", "filters.web.min_words=3", FOX1_DATA=data).stderr
    )

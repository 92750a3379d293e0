"""Filters: the first failing rule is the reason, all that failed are kept."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from fox1.pipeline.artifacts import EDIT_TYPE
from fox1.pipeline.edits import apply_edits
from fox1.pipeline.filter import SIGNALS, Exclusion, FilterSettings, Rule, judge
from fox1.pipeline.identity import SourceFile, file_hash
from fox1.pipeline.signals.scan import Prepared, ScanSettings, scan_piece, signals_schema
from fox1.pipeline.sources.rows import TEXT_SCHEMA

FILE = SourceFile("pile", "x.jsonl", "", 0, "", "pile", False, file_hash("pile", "x.jsonl"))


def signals(*rows: tuple[str, str]) -> pa.RecordBatch:
    columns = [
        pa.array(range(len(rows)), pa.int64()),
        pa.array([t for t, _ in rows], pa.large_string()),
        pa.array([s for _, s in rows]),
        pa.array([""] * len(rows)),
        pa.array([""] * len(rows)),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=TEXT_SCHEMA)
    settings = ScanSettings()
    return scan_piece(batch, FILE, settings, signals_schema(settings), Prepared.nothing())


def failed(batch: pa.RecordBatch, settings: FilterSettings) -> list[list[str]]:
    verdicts = judge(batch, "pile", settings)
    return [[name for name, hit in verdicts if hit[i]] for i in range(batch.num_rows)]


RULES = FilterSettings(
    (
        Rule("short", "n_words", min=5, except_domains=("code",)),
        Rule("digits", "digit_fraction", max=0.2, domains=("web",)),
        Rule("braces", "n_curly_braces", max=0, subsets=("pile/Pile-CC",)),
    ),
    (Exclusion("pile", "Books3"), Exclusion("dolma", "Github")),
)


def test_reasons_come_in_the_recipes_order_with_the_licence_first() -> None:
    batch = signals(("1 2 {", "Pile-CC"), ("one", "Books3"), ("x", "Github"), ("one two three four five", "Pile-CC"))
    assert failed(batch, RULES) == [["short", "digits", "braces"], ["licence", "short"], [], []]


def test_every_signal_can_be_judged() -> None:
    batch = signals(("", "Pile-CC"), ("Some words. And more!\n", "Github"))
    for name in SIGNALS:
        assert len(failed(batch, FilterSettings((Rule("r", name, min=0),)))) == 2


def test_decisions_of_the_run_agree_with_its_signals(run: Path) -> None:
    import pyarrow.parquet as pq

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
    assert failed(signals(("", "Pile-CC")), FilterSettings((Rule("r", signal, min=0.5),))) == [["r"]]

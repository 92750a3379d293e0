"""What the page is told of a run: equal to what the run's tables hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.api import open_run
from fox1.commands.page.answers import Answers
from fox1.commands.page.asked import Asked
from fox1.pipeline.inspect.explore.scales import scale_of

from tests.conftest import run_command

from .conftest import FILE, SUBSET, Client

EVERY: dict[str, Any] = {}


@pytest.fixture(scope="module")
def rows(run: Path) -> list[dict[str, Any]]:
    """Every document of the run, read all at once."""
    found: list[dict[str, Any]] = open_run(run).sql("select * from documents").to_pylist()
    return found


def bin_of(signal: str, value: float) -> int:
    return sum(value >= low for low in scale_of(signal).lows)


def test_histograms_hold_every_document_once(page: Client, rows: list[dict[str, Any]]) -> None:
    facets = page.get("/api/facets")
    names = [signal["name"] for signal in facets["signals"]]
    found = page.get("/api/counts", {"selection": EVERY, "columns": names})
    assert len(names) > 60 and found["passed"] == len(rows) == facets["documents"]
    for name in names:
        expected = [[0] * scale_of(name).bins for _ in range(2)]
        for row in rows:
            expected[row["kept"]][bin_of(name, row[name])] += 1
        assert found["columns"][name] == expected, name


def test_a_histogram_follows_every_filter_but_its_own(page: Client, rows: list[dict[str, Any]]) -> None:
    facets = page.get("/api/facets")
    corpus = facets["categories"]["corpus"].index("redpajama")
    first, last = bin_of("words", 40), bin_of("words", 300)
    filters = [{"column": "words", "first": first, "last": last}, {"column": "corpus", "values": [corpus]}]
    selection = {"filters": filters, "where": "quality > 0.2"}

    def counted(name: str, own: bool) -> list[list[int]]:
        out = [[0] * scale_of(name).bins for _ in range(2)]
        for row in rows:
            inside = first <= bin_of("words", row["words"]) <= last or (name == "words" and not own)
            if inside and row["corpus"] == "redpajama" and row["quality"] > 0.2:
                out[row["kept"]][bin_of(name, row[name])] += 1
        return out

    found = page.get("/api/counts", {"selection": selection, "columns": ["words", "quality", "corpus"]})
    assert found["columns"]["words"] == counted("words", False)
    assert found["columns"]["quality"] == counted("quality", True)
    assert found["passed"] == sum(map(sum, counted("quality", True)))
    by_corpus = [sum(pair) for pair in zip(*found["columns"]["corpus"], strict=True)]
    assert sum(n > 0 for n in by_corpus) > 1
    # More than half of the documents: what is left out is counted instead.
    wide = {"filters": [{"column": "words", "first": 1, "last": 255}], "kept": None}
    found = page.get("/api/counts", {"selection": wide, "columns": ["quality", "words"]})
    expected = [[0] * scale_of("quality").bins for _ in range(2)]
    for row in rows:
        if row["words"] >= 1:
            expected[row["kept"]][bin_of("quality", row["quality"])] += 1
    assert found["columns"]["quality"] == expected
    assert sum(map(sum, found["columns"]["words"])) == len(rows)


def test_the_table_shows_the_documents_of_a_selection(page: Client, rows: list[dict[str, Any]]) -> None:
    selection = {"kept": False, "where": "reason = 'min_words'"}
    expected = {row["document"] for row in rows if row["reason"] == "min_words"}
    seen: list[str] = []
    for order in ("file", "mixed"):
        got: list[str] = []
        while len(got) < len(expected):
            asked = {"selection": selection, "first": len(got), "number": 7, "order": order}
            found = page.get("/api/rows", asked)
            assert found["documents"] == len(expected)
            got += [row[0] for row in found["table"]["rows"]]
        assert set(got) == expected and len(got) == len(expected)
        seen = got
    assert seen != sorted(seen) or len(seen) < 3


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "txt"])
def test_a_selection_is_exported_whole(
    page: Client, rows: list[dict[str, Any]], run: Path, tmp_path: Path, kind: str
) -> None:
    selection = {"where": "not kept and language = 'en'"}
    expected = [row for row in rows if not row["kept"] and row["language"] == "en"]
    address = page.get("/api/export", {"selection": selection, "format": kind})
    assert address["documents"] == len(expected)
    status, headers, data = page.ask(address["address"])
    assert status == 200 and "attachment" in headers["Content-Disposition"]
    if kind == "parquet":
        table = pq.read_table(io.BytesIO(data))
        assert table.column("document").to_pylist() == [row["document"] for row in expected]
        assert table.column("reasons").to_pylist() == [row["reasons"] for row in expected]
    elif kind == "jsonl":
        lines = [json.loads(line) for line in data.decode().splitlines()]
        assert [line["doc_id"] for line in lines] == [row["doc_id"] for row in expected]
    else:
        listed = tmp_path / "list"
        listed.write_bytes(data)
        entries = [line for line in data.decode().splitlines() if not line.startswith("#")]
        assert entries == [row["document"] for row in expected]
        tried = run_command("filter", run, "--what-if", f"exclude.lists=[{listed}]", "--examples", "0")
        assert tried.returncode == 0, tried.stderr
    assert "no longer offered" in page.error("/api/file?name=unknown")


def test_the_files_of_a_page_that_was_left_go(page: Client) -> None:
    first = page.get("/api/export", {"selection": EVERY, "format": "txt"})
    for _ in range(50):
        page.get("/api/export", {"selection": EVERY, "format": "txt"})
    assert "again" in page.error(first["address"])


@pytest.mark.parametrize(
    "selection",
    [
        {"filters": 3},
        {"filters": [{"column": "nothing"}]},
        {"filters": [{"column": "words"}, {"column": "words"}]},
        {"where": "words >"},
        {"where": "1 = 1) or (select count(*) from read_text('/etc/passwd')) > 0 or (1 = 1"},
        {"where": "true; drop table documents"},
        {"kept": "yes"},
        {"further": 1},
    ],
)
def test_what_is_no_selection_is_one_line(page: Client, selection: dict[str, Any]) -> None:
    page.error("/api/counts", {"selection": selection, "columns": ["words"]})
    page.error("/api/rows", {"selection": selection})


def test_sql_reads_the_documents_and_nothing_else(page: Client, rows: list[dict[str, Any]]) -> None:
    found = page.get("/api/sql", {"query": "select count(*) as n from documents"})
    assert found["table"] == {"columns": ["n"], "rows": [[len(rows)]]}
    for query in (
        "select * from read_text('/etc/passwd')",
        "create table x as select 1",
        "copy documents to '/tmp/x'",
        "",
    ):
        page.error("/api/sql", {"query": query})


def test_a_document_is_shown_with_what_its_rules_count(page: Client, rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["reason"] == "min_words")
    found = page.get(f"/api/document?name={row['doc_id']}")
    assert found["name"] == row["document"] and found["decision"]["reason"] == "min_words"
    assert "".join(piece["text"] for piece in found["pieces"]).strip()
    failed = found["failed"][0]
    assert (
        failed["rule"] == "min_words" and float(failed["bound"]) > row["words"] and str(row["words"]) in failed["value"]
    )
    assert found["signals"]["words"] == row["words"]
    assert page.get(f"/api/find?kind=hash&value={found['facts']['content_hash']}")[0]["name"]


def test_a_duplicate_is_shown_beside_its_kept_copy(page: Client, rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["kind"] == "near")
    found = page.get(f"/api/document?name={row['doc_id']}")
    kept = found["decision"]["duplicate_of"]
    both = page.get(f"/api/beside?name={row['doc_id']}&other={kept}")
    assert both["other"] == found["decision"]["duplicate_name"] and 0.5 < both["same"] <= 1
    for mine, theirs in (("pieces", "other_pieces"), ("other_pieces", "pieces")):
        assert [p["text"] for p in both[mine] if not p["differs"]] == [
            p["text"] for p in both[theirs] if not p["differs"]
        ]
    copies = page.get(f"/api/copies?id={kept}")
    expected = [r["document"] for r in rows if str(r["duplicate_of"]) == str(kept)]
    assert copies["number"] == len(expected) and row["document"] in [d["name"] for d in copies["documents"]]


def test_a_block_is_shown_token_by_token(page: Client) -> None:
    for one in page.get("/api/sets"):
        for split in one["splits"]:
            if not split["blocks"]:
                continue
            asked = f"/api/block?phase={one['name']}&length={split['length']}&number={split['blocks'] - 1}"
            found = page.get(asked)
            tokens = sum(len(segment["tokens"]) for segment in found["segments"])
            assert tokens + found["padding"] == split["length"] == found["length"]
            assert all(b <= len(s["tokens"]) for s in found["segments"] for _, b in s["trained"])
    assert "no block" in page.error("/api/block?phase=phase1&number=99999999&length=256")


def test_a_block_says_what_its_documents_say(page: Client) -> None:
    found = page.get("/api/block?phase=phase1&length=256&number=0")
    segment = max(found["segments"], key=lambda s: len(s["tokens"]))
    whole = page.get(f"/api/document?name={segment['doc_id']}")
    text = "".join(piece["text"] for piece in whole["pieces"])
    said = "".join(token for k, token in enumerate(segment["tokens"]) if k not in segment["special"])
    assert len(said) > 100 and said[:100] in text


def test_other_thresholds_are_judged_as_the_command_does(page: Client, run: Path) -> None:
    found = page.get("/api/what-if", {"changes": ["filters.web.min_words=200"], "examples": 2})
    told = open_run(run).what_if(["filters.web.min_words=200"], 2)
    assert found["dropped"] == told.dropped and found["dropped"]["min_words"] > 0
    assert "--what-if" in page.error("/api/what-if", {"changes": ["tokenizer.vocab_size=3"]})
    assert page.error("/api/what-if", {"changes": []})


def test_two_runs_are_compared_document_by_document(hostile_page: Client) -> None:
    found = hostile_page.get("/api/compare")
    gone = [change for change in found["changes"] if change["after"] == "not in the run"]
    assert sum(change["documents"] for change in gone) == 40 and found["unchanged"]
    assert any(FILE in name for change in gone for name in change["examples"])


def test_one_run_has_nothing_to_be_compared_with(page: Client) -> None:
    assert "RUN_B" in page.error("/api/compare")
    assert page.error("/api/document?name=1&run=1")


def test_names_and_texts_of_anybody_are_answered_as_text(hostile_page: Client) -> None:
    facets = hostile_page.get("/api/facets")
    hostile_page.get("/api/counts", {"selection": EVERY, "columns": ["subset"]})
    facets = hostile_page.get("/api/facets")
    code = facets["categories"]["subset"].index(f"dolma/{SUBSET}")
    selection = {"filters": [{"column": "subset", "values": [code]}]}
    found = hostile_page.get("/api/rows", {"selection": selection, "number": 100})
    assert found["documents"] == 40
    for row in found["table"]["rows"]:
        shown = hostile_page.get(f"/api/document?name={row[1]}")
        text = json.dumps(shown, ensure_ascii=False)
        assert FILE in shown["name"] and "\u202e" not in text and "\x1b" not in text


def test_hosts_are_counted_by_kept_and_dropped(page: Client, rows: list[dict[str, Any]]) -> None:
    selection = {"filters": [{"column": "words", "first": bin_of("words", 40), "last": 255}]}
    found = page.get("/api/counts", {"selection": selection, "columns": ["host"]})["hosts"]
    counted: dict[str, list[int]] = {}
    for row in rows:
        if row["host"] and bin_of("words", row["words"]) >= bin_of("words", 40):
            counted.setdefault(row["host"], [0, 0])[row["kept"]] += 1
    most = sorted((sum(pair) for pair in counted.values()), reverse=True)[:40]
    assert [dropped + kept for _, _, dropped, kept in found] == most and len(most) > 3
    assert all(counted[host] == [dropped, kept] for _, host, dropped, kept in found)
    # A chosen host leaves the bars of hosts as they are, and all else follows it.
    number, host, dropped, kept = found[1]
    chosen = {"filters": [*selection["filters"], {"column": "host", "values": [number]}]}
    both = page.get("/api/counts", {"selection": chosen, "columns": ["host", "quality"]})
    assert both["hosts"] == found and both["passed"] == dropped + kept
    assert sum(map(sum, both["columns"]["quality"])) == dropped + kept
    assert {row[0] for row in page.get("/api/rows", {"selection": chosen, "number": 100})["table"]["rows"]} <= {
        row["document"] for row in rows if row["host"] == host
    }


def test_losses_of_a_training_stand_beside_the_mixture(run: Path, tmp_path: Path) -> None:
    common = {"tokens": 1, "loss": 3.0, "tokens_per_second": 1.0}
    lines: list[dict[str, Any]] = [
        {"kind": "train", "step": k, "phase": "phase1", **common, "loss_by_corpus": {"pile": 9 - k, "dolma": None}}
        for k in range(8)
    ]
    held_out = {"kind": "held_out", "loss": 3.0, "unigram_entropy": 4.0}
    lines.append({**held_out, "step": 3, "bits_per_byte_items": 2.0, "bits_per_byte_by_half": {"kept": 1.5}})
    lines.append({**held_out, "step": 7, "bits_per_byte_items": 1.75, "bits_per_byte_by_half": {"kept": 1.25}})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = Answers([open_run(run)], training=tmp_path)
    try:
        losses = answers.run(Asked({}))["losses"]
        assert losses["phases"] == {"phase1": {"pile": [7.0, 4.0]}}
        assert losses["measured"] == {
            "bits per byte, mean of domains: kept": [1.5, 1.25],
            "bits per byte of right options, mean of benchmarks": [2.0, 1.75],
        }
    finally:
        answers.close()
    with pytest.raises(ValueError, match=r"no metrics\.jsonl"):
        Answers([open_run(run)], training=tmp_path / "nothing")

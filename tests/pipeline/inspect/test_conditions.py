"""Documents by a condition: those that meet it, with their text, by SQL that can reach nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.inspect import documents as documents_module
from fox1.pipeline.inspect.documents import DocumentTable
from fox1.pipeline.inspect.sql import Condition, matching, query
from fox1.pipeline.run.documents import RunDocuments
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.ratios import SIGNALS

from tests.conftest import run_command


@pytest.fixture(scope="module")
def documents(run: Path) -> DocumentTable:
    opened = RunDocuments(RunPaths(run))
    return DocumentTable(opened.paths, list(opened.files))


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, dict[str, Any]]:
    """Document -> its decision and signals, read all at once."""
    found = {}
    for path in sorted((run / "decisions").rglob("*.parquet")):
        signals = run / "signals" / path.relative_to(run / "decisions")
        for said, facts in zip(pq.read_table(path).to_pylist(), pq.read_table(signals).to_pylist(), strict=True):
            found[f"{said['corpus']}/{said['file']}#{said['row']}"] = facts | said
    return found


def signal(row: dict[str, Any], name: str) -> float:
    return float(SIGNALS[name]({k: np.array([v]) for k, v in row.items() if isinstance(v, int)})[0])


@pytest.mark.parametrize("batch_rows", [5, 1 << 16])
def test_a_condition_finds_the_documents_that_meet_it(
    documents: DocumentTable, rows: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(documents_module, "BATCH_ROWS", batch_rows)
    where = "not kept and words between 20 and 200 and Mean_Word_Length > 4 and list_contains(reasons, 'min_words')"
    expected = {
        name: signal(row, "mean_word_length")
        for name, row in rows.items()
        if "min_words" in row["reasons"] and 20 <= row["n_words"] <= 200 and signal(row, "mean_word_length") > 4
    }
    found = matching(documents, Condition(where), ["document", "mean_word_length"])
    assert expected and dict(zip(*(c.to_pylist() for c in found.columns), strict=True)) == expected
    assert matching(documents, Condition(where), ["row"], most=2).num_rows == 2
    assert matching(documents, Condition(""), ["row"]).num_rows == len(rows)


def test_a_query_sees_every_document_as_often_as_it_looks(
    documents: DocumentTable, rows: dict[str, dict[str, Any]]
) -> None:
    sums = "select corpus, count(*) as n, sum(quality) as q from documents group by corpus order by corpus"
    found = query(documents, sums).to_pylist()
    assert sum(row["n"] for row in found) == len(rows)
    quality = sum(row["quality"] for row in rows.values()) / 65_535
    assert sum(row["q"] for row in found) == pytest.approx(quality)
    twice = "select count(*) as n from documents a join documents b on a.duplicate_of = b.doc_id where b.kept"
    copies = sum(bool(row["duplicate_of"]) for row in rows.values())
    assert query(documents, twice).to_pylist() == [{"n": copies}] and copies
    everything = query(documents, "select * from documents limit 3")
    assert everything.column_names == documents.columns.schema.names and everything.num_rows == 3


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("words >", "syntax error"),
        ("n_words > 3", 'column "n_words" not found in FROM clause; docs/artifacts.md lists the columns'),
        ("count(*) > 1", "cannot contain aggregates"),
        ("row_number() over () < 3", "cannot contain window functions"),
        ("row in (select row from documents)", "documents does not exist"),
        ("corpus", "to BOOL"),
        ("true; drop view fox1_batch", "syntax error"),
        ("true) union all select (1", "write one condition, and nothing after it"),
        ("kept) union all select fox1_at from fox1_batch where (kept", "write one condition, and nothing after it"),
        ("exists (select * from read_text('{file}'))", "file system operations are disabled"),
        ("(select count(*) from '{file}') > 0", "does not exist"),
        ("(select count(*) from glob('/*')) > 0", "file system operations are disabled"),
    ],
)
def test_what_is_no_condition_over_documents_is_one_line(
    documents: DocumentTable, tmp_path: Path, sql: str, said: str
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    condition = Condition(sql.replace("{file}", str(tmp_path / "secret.txt")))
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        matching(documents, condition, ["row"])
    assert str(raised.value).startswith("condition ") and "\n" not in str(raised.value)


def test_a_query_reaches_no_file_no_setting_and_no_variable(documents: DocumentTable, tmp_path: Path) -> None:
    own = pa.table({"x": [1]})
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for sql in (
        f"copy documents to '{tmp_path}/out.csv'",
        f"attach '{tmp_path}/out.db'",
        f"select * from '{tmp_path}/secret.csv'",
        f"select * from read_csv('{tmp_path}/secret.csv')",
        "set enable_external_access = true",
        "set memory_limit = '90GB'",
        "install httpfs",
        "select * from own",
        "select 1; select 2",
    ):
        with pytest.raises(ValueError, match=r"^query: "):
            query(documents, sql)
    assert own.num_rows and sorted(p.name for p in tmp_path.iterdir()) == ["secret.csv"]


def dumped(folder: Path) -> dict[str, dict[str, Any]]:
    found = ds.dataset(sorted(p for p in folder.rglob("*.parquet"))).to_table().to_pylist()
    return {f"{row['corpus']}/{row['file']}#{row['row']}": row for row in found}


def test_dropped_documents_are_dumped_with_their_text_and_reasons(
    run: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    done = run_command("dump", run, tmp_path / "all", "--dropped", "--in-process")
    assert done.returncode == 0, done.stderr
    found = dumped(tmp_path / "all")
    held_out = {name for name in rows if name.startswith(("pile/test", "pile/val", "slimpajama/validation"))}
    assert held_out and found.keys() == {name for name, row in rows.items() if not row["kept"]} - held_out
    assert all(found[name][k] == rows[name][k] for name in found for k in ("reason", "reasons", "duplicate_of"))
    for name, row in found.items():
        assert len(row["text"].encode()) == (0 if row["reason"] == "licence" else rows[name]["n_bytes"])
    where = "words > 20 and domain = 'web'"
    options = ["--reason", "min_words", "--where", where, "--in-process"]
    assert not run_command("dump", run, tmp_path / "some", *options).returncode
    expected = {n for n, r in rows.items() if r["reason"] == "min_words" and r["n_words"] > 20 and r["domain"] == "web"}
    assert dumped(tmp_path / "some").keys() == expected != set()
    again = run_command("dump", run, tmp_path / "some", "--in-process")
    assert again.returncode == 1 and f"already holds a dump of --reason min_words --where {where!r}" in again.stderr


def test_kept_documents_are_dumped_by_a_condition_and_what_is_none_is_refused(
    run: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    assert not run_command("dump", run, tmp_path / "kept", "--where", "quality > 0.8", "--in-process").returncode
    found = dumped(tmp_path / "kept")
    assert found.keys() == {n for n, r in rows.items() if r["kept"] and r["quality"] / 65_535 > 0.8}
    for options, said in (
        (["--reason", "min_wrods"], "the run dropped nothing for it; it has "),
        (["--dropped", "--phase", "1"], "no phase has dropped documents"),
        (["--where", "nothing = 1"], 'column "nothing" not found'),
    ):
        done = run_command("dump", run, tmp_path / "refused", *options, "--in-process")
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1


def test_why_shows_the_text_and_what_the_edits_changed(run: Path, rows: dict[str, dict[str, Any]]) -> None:
    name = next(n for n, r in rows.items() if r["edits"] and any(e["replacement"] for e in r["edits"]))
    said = json.loads(run_command("why", run, name, "--text", "--json").stdout)
    raw = said["text"]
    for edit in reversed(said["edits"]):
        at = edit["start"] + sum(
            len(e["now"].encode()) - len(e["was"].encode()) for e in said["edits"] if e["end"] <= edit["start"]
        )
        data = raw.encode()
        assert data[at : at + len(edit["now"].encode())].decode() == edit["now"]
        raw = (data[:at] + edit["was"].encode() + data[at + len(edit["now"].encode()) :]).decode()
    assert len(raw.encode()) == rows[name]["raw_bytes"]
    shown = run_command("why", run, name, "--text").stdout
    assert said["text"].splitlines()[-1] in shown and f"  edit: {said['edits'][0]['kind']}, bytes " in shown
    assert json.loads(run_command("why", run, name, "--json").stdout)["text"] is None


def test_a_section_is_printed_alone_and_wide_tables_in_parts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.commands.show import stats as shown
    from fox1.commands.show.terminal import TextConsole

    alone = run_command("stats", run, "--section", "pools").stdout
    assert "\nPools" in f"\n{alone}" and "Funnel" not in alone
    wrong = run_command("stats", run, "--section", "pool")
    assert wrong.returncode == 1 and "the sections are funnel, reasons," in wrong.stderr
    monkeypatch.setattr(shown, "new_console", lambda: TextConsole(width=80))
    narrow = run_command("stats", run).stdout.splitlines()
    assert max(map(len, narrow)) <= 80 and not any("…" in line for line in narrow)
    allowed = [line.split() for line in narrow if line.startswith("phase1  web")]
    assert len(allowed) == 2 and allowed[0][2].replace(",", "").isdigit()

"""A run with steps before the scan: their texts are stored once and read by all else, and every row is accounted for."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fox1.api import open_run
from fox1.pipeline.extract import extract, stage
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.run import identity
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources import pieces, rows
from fox1.pipeline.sources.extracted import SCHEMA, extracted_row
from fox1.pipeline.text.binding import text_hashes

from tests.conftest import run_command
from tests.faults.promises import hashes

OURS = Path(__file__).with_name("made_steps.py")
RECIPE = f"""
extends: sample
name: own
sources:
  redpajama: null
  slimpajama: null
  dolma: null
  pile: null
  refinedweb: null
  pages: {{root: pages}}
  notes: {{root: notes}}
max_bad_rows: 5
contamination: {{benchmarks: {{sample: null}}}}
before_scan:
  bare: {{target: "{OURS}:Bare", sources: [pages]}}
  fewer: {{target: "{OURS}:Fewer"}}
filters: {{all: {{min_words: 12}}}}
edits: {{pii: {{email: "<email>"}}}}
dedupe: {{priority: [notes, pages]}}
tokenizer: {{vocab_size: 320}}
phases:
  phase1: {{tokens: 12K, weights: [{{weight: 1, max_epochs: 20}}]}}
  phase2: {{tokens: 9K, weights: [{{weight: 1, max_epochs: 20, reuse: [phase3]}}], blocks: [{{length: 512}}]}}
  phase3: {{tokens: 6K, weights: [{{weight: 1, max_epochs: 20}}], blocks: [{{length: 512}}]}}
"""
BROKEN, NOTHING, LOUD, SHORT = 7, 11, 13, 17
"""Rows of the first file on which `bare` fails, in which it finds nothing, which `fewer` drops, and which a filter drops."""


def page(number: int, say: str = "") -> str:
    draw = random.Random(number)
    words = ["".join(draw.choices("abcdefghiklmnoprstuvy", k=draw.randint(2, 9))) for _ in range(60)]
    return f"<html><nav>Home and more</nav><p>{' '.join(words)} {say}mail me{number}@example.org</p></html>"


def pages(first: int, count: int) -> list[dict[str, Any]]:
    said = {BROKEN: "<!broken", NOTHING: "", LOUD: "advertised advertised ", SHORT: ""}
    found = []
    for n in range(first, first + count):
        text = page(n, said.get(n, " advertised " if n % 5 == 0 else ""))
        text = {NOTHING: "<nav>Home</nav>", SHORT: "<p>too short</p>"}.get(n, text)
        found.append({"text": text, "id": f"p{n}", "url": f"https://example.org/{n}"})
    return found


def lines(values: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def expected(text: str) -> str:
    """What the steps make of a page that they keep."""
    text = re.sub("<[^>]*>", "", re.sub("<nav>.*?</nav>", "", text)).strip()
    return text.replace(" advertised", "")


def write(folder: Path) -> Path:
    """The recipe, with its data beside it."""
    for name in ("pages", "notes"):
        (folder / name).mkdir(parents=True)
    (folder / "pages" / "a.jsonl").write_bytes(lines(pages(0, 40)))
    (folder / "pages" / "b.jsonl.gz").write_bytes(gzip.compress(lines(pages(40, 20)), mtime=0))
    notes = [{"text": expected(page(n)).replace("mail", "note")} for n in range(100, 120)]
    (folder / "notes" / "n.jsonl").write_bytes(lines([*notes, {"text": ""}]))
    (folder / "own.yaml").write_text(RECIPE)
    return folder / "own.yaml"


def curated(recipe: Path, run: Path, *words: str) -> str:
    done = run_command("curate", recipe, "--out", run, "--in-process", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, recipe and `run`."""
    folder = tmp_path_factory.mktemp("extract")
    curated(write(folder), folder / "run")
    return folder


def test_the_texts_are_stored_in_the_order_of_the_rows_with_who_dropped_them(made: Path) -> None:
    table = pq.read_table(made / "run" / "extracted" / "pages" / "a.jsonl.parquet")
    assert table.schema.equals(SCHEMA)
    given = pages(0, 40)
    there = [n for n in range(40) if n != BROKEN]
    assert table["row"].to_pylist() == there
    for row in table.to_pylist():
        raw = given[row["row"]]["text"]
        dropped = {NOTHING: ("bare", "no text", raw), LOUD: ("fewer", "2 times", None)}.get(row["row"])
        assert (row["before_scan"], row["before_scan_reason"]) == (dropped[:2] if dropped else ("", ""))
        if not dropped:
            assert row["text"] == expected(raw)
        assert row["raw_bytes"] == len(raw) and row["url"] == f"https://example.org/{row['row']}"
    raw = pa.array([given[n]["text"] for n in there], pa.large_string())
    assert table["raw_hash"].combine_chunks().equals(text_hashes(raw))
    # What a step dropped stands here as it was given it.
    texts = dict(zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert texts[NOTHING] == "<nav>Home</nav>" and texts[LOUD].count("advertised") == 2 and "<" not in texts[LOUD]


def test_bytes_change_only_with_the_version_of_the_stage(made: Path) -> None:
    # By content, since the bytes of Parquet are those of the installed pyarrow.
    tables = [pq.read_table(p) for p in sorted((made / "run" / "extracted").rglob("*.parquet"))]
    said = json.dumps([row | {"raw_hash": row["raw_hash"].hex()} for t in tables for row in t.to_pylist()])
    assert (stage.VERSION, hashlib.blake2b(said.encode(), digest_size=8).hexdigest()) == (2, "4ecd7ee3d103511b")


def test_every_row_is_accounted_for_by_step_and_reason(made: Path) -> None:
    (notes, of_pages) = (json.loads((made / "run" / "stats" / "funnel.json").read_text()))["corpora"]
    assert (of_pages["rows"], of_pages["quarantined"]) == (60, 1)
    assert of_pages["dropped"] == {"bare": 1, "fewer": 1, "min_words": 1}
    assert of_pages["kept"] == 56
    assert (notes["rows"], notes["kept"], notes["dropped"]) == (21, 20, {"fewer": 1})
    steps = json.loads((made / "run" / "stats" / "funnel.json").read_text())["before_scan"]
    assert [s["step"] for s in steps["pages"]] == ["bare", "fewer"] and [s["step"] for s in steps["notes"]] == ["fewer"]
    assert steps["pages"][0] == {
        "step": "bare",
        "given": 60,
        "changed": 58,
        "failed": 1,
        "dropped": {"no text": 1},
    }
    assert steps["pages"][1]["dropped"] == {"2 times": 1} and steps["notes"][0]["dropped"] == {"no text": 1}
    (bad,) = (made / "run" / "quarantine" / "pages" / "a.jsonl.jsonl").read_text().splitlines()
    assert json.loads(bad)["row"] == BROKEN and "before_scan.bare failed: ValueError: this page is broken" in bad
    shown = run_command("stats", made / "run", "--section", "funnel").stdout
    assert "Before the scan" in shown and "fewer" in shown and "2 times" in shown
    # No other rule judges what is no text yet.
    decided = pq.read_table(made / "run" / "decisions" / "pages" / "a.jsonl.parquet").to_pylist()
    reasons = {d["row"]: d["reasons"] for d in decided}
    assert (reasons[NOTHING], reasons[LOUD], reasons[SHORT]) == (["bare"], ["fewer"], ["min_words"])


def test_what_is_kept_is_the_text_of_the_steps_with_edits_upon_it(made: Path, tmp_path: Path) -> None:
    run = made / "run"
    done = run_command("dump", run, tmp_path / "kept", "--in-process")
    assert done.returncode == 0, done.stderr
    kept = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "kept").rglob("*.parquet"))]).to_pylist()
    raw = {f"p{n}": p["text"] for n, p in enumerate(pages(0, 60))}
    own = [d for d in kept if d["corpus"] == "pages"]
    assert len(own) == 56
    for document in own:
        assert document["text"] == re.sub(r"\S+@example.org", "<email>", expected(raw[document["native_id"]]))
    done = run_command("dump", run, tmp_path / "dropped", "--in-process", "--reason", "fewer")
    assert done.returncode == 0, done.stderr
    dropped = pa.concat_tables(
        [pq.read_table(p) for p in sorted((tmp_path / "dropped").rglob("*.parquet"))]
    ).to_pylist()
    assert sorted((d["corpus"], d["row"], d["text"].count("advertised")) for d in dropped) == [
        ("notes", 20, 0),
        ("pages", LOUD, 2),
    ]
    # The tokenizer has seen no markup.
    opened = open_run(run)
    found = opened.sql("select before_scan, before_scan_reason, count(*) as n from documents group by all order by all")
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("", "", 77),
        ("bare", "no text", 1),
        ("fewer", "2 times", 1),
        ("fewer", "no text", 1),
    ]


def test_a_look_names_the_step_and_its_reason_and_the_raw_row(made: Path) -> None:
    run = made / "run"
    why = run_command("why", run, f"pages/a.jsonl#{LOUD}", "--text").stdout
    assert "dropped: fewer" in why and "fails fewer: 2 times" in why and "advertised advertised" in why
    raw = pages(0, 40)[LOUD]["text"]
    row = extracted_row(
        FinishedRun(RunPaths(run))._with_extracted(open_run(run).why(f"pages/a.jsonl#{LOUD}").doc_id).extracted, LOUD
    )  # type: ignore[arg-type]
    assert row is not None and f"from a row of {len(raw)} bytes (blake3 {row['raw_hash'][0].as_py().hex()})" in why
    found = open_run(run).why("pages/a.jsonl#0", text=True)
    assert found.text == re.sub(r"\S+@example.org", "<email>", expected(pages(0, 1)[0]["text"]))
    (edit,) = found.edits
    assert edit.was == "me0@example.org"


def test_another_filter_is_tried_on_what_the_steps_left(made: Path) -> None:
    found = run_command("filter", made / "run", "--what-if", "filters.all.min_words=70", "--examples", "1").stdout
    # What the steps dropped stays dropped.
    assert "80 documents, 76 pass the filters now; 76 more would be dropped, 0 would pass again" in found


def test_a_trace_goes_back_to_the_raw_row_and_notices_another_one(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    run, data = tmp_path / "made" / "run", tmp_path / "made" / "pages"
    stored = run / "recipe.yaml"
    stored.write_text(stored.read_text().replace(str(made), str(tmp_path / "made")))
    traced = run_command("trace", run, "phase1", "0", "--source")
    assert traced.returncode == 0, traced.stderr
    assert "of the extracted text" in traced.stdout and "bytes (blake3" in traced.stdout
    for file in ("a.jsonl", "b.jsonl.gz"):
        text = (data / file).read_bytes() if file == "a.jsonl" else gzip.decompress((data / file).read_bytes())
        text = text.replace(b"Home and more", b"Home and less")
        (data / file).write_bytes(text if file == "a.jsonl" else gzip.compress(text, mtime=0))
    traced = [run_command("trace", run, "phase1", str(block), "--source") for block in range(4)]
    wrong = next(t for t in traced if t.returncode)
    assert "no longer holds the text that the steps of `before_scan` were given" in wrong.stderr
    # Without --source nothing is asked of the source, not even whether it is there.
    shutil.rmtree(data)
    assert run_command("trace", run, "phase1", "0").returncode == 0
    assert "mail" in run_command("why", run, "pages/a.jsonl#0", "--text").stdout


def test_texts_are_artifacts_of_the_run(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    listed = read_manifest(RunPaths(run))["artifacts"]
    names = list(listed.below("extracted/"))
    assert names == [
        "extracted/notes/n.jsonl.parquet",
        "extracted/pages/a.jsonl.parquet",
        "extracted/pages/b.jsonl.gz.parquet",
    ]
    assert run_command("verify", run).returncode == 0
    with open(run / names[1], "r+b") as file:
        file.seek(100)
        file.write(b"changed")
    assert run_command("verify", run).returncode == 1


def test_the_same_recipe_runs_nothing_and_a_changed_step_what_it_changes(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made, data, copy_function=shutil.copy2)
    run, recipe = data / "run", data / "own.yaml"
    before = hashes(run)
    curated(recipe, run)
    log = [json.loads(line) for line in (run / "timings" / "tasks.jsonl").read_text().splitlines()]
    done = len(log)
    curated(recipe, run)
    assert len((run / "timings" / "tasks.jsonl").read_text().splitlines()) == done and hashes(run) == before
    # `fewer` alone is changed, and drops nothing more: texts are made again, to the same bytes, and nothing else runs.
    recipe.write_text(RECIPE.replace('Fewer"', 'Fewer", arguments: {most: 1}'))
    curated(recipe, run)
    log = [json.loads(line) for line in (run / "timings" / "tasks.jsonl").read_text().splitlines()][done:]
    assert Counter(entry["stage"] for entry in log if entry["stage"].startswith(("scan", "filter", "token"))) == {
        "scan.extract": 3
    }
    recipe.write_text(RECIPE.replace('Fewer"', 'Fewer", arguments: {most: 0}'))
    curated(recipe, run, "--stages", "filter")
    log = [json.loads(line) for line in (run / "timings" / "tasks.jsonl").read_text().splitlines()][done + len(log) :]
    scanned = [entry["task"] for entry in log if entry["stage"] == "scan"]
    # Every fifth page is dropped now; the notes are what they were.
    assert sorted(scanned) == ["pages/a.jsonl", "pages/b.jsonl.gz"]
    recipe.write_text(RECIPE.replace("  fewer:", "  other:").replace('"{OURS}', '"'))
    # Without steps nothing reads the texts, and they are deleted as all that a run no longer uses.
    stored = yaml.safe_load(RECIPE)
    del stored["before_scan"]
    recipe.write_text(yaml.safe_dump(stored, sort_keys=False))
    curated(recipe, run)
    assert not list(read_manifest(RunPaths(run))["artifacts"].below("extracted/"))
    assert run_command("gc", run).returncode == 0
    assert not [p for p in (run / "extracted").rglob("*") if p.is_file()]


def test_texts_of_cut_files_are_those_of_whole_ones(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "MOST_TEXT", 6_000)
    monkeypatch.setattr(pieces, "ROWS_TEXT", 4_000)
    monkeypatch.setattr(identity, "GROUP_TEXT", 3_000)
    monkeypatch.setattr(rows, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(extract, "GROUP_ROWS", 3)
    run = tmp_path / "run"
    curated(made / "own.yaml", run)
    names = list(read_manifest(RunPaths(run))["artifacts"].below("extracted/pages/"))
    assert len([n for n in names if "a.jsonl" in n]) > 2 and len([n for n in names if "b.jsonl.gz" in n]) > 1
    for name in ("a.jsonl", "b.jsonl.gz"):
        parts = [pq.read_table(run / n) for n in names if f"/{name}/" in n]
        assert max(pq.ParquetFile(run / n).metadata.row_group(0).num_rows for n in names) == 3
        whole = pq.read_table(made / "run" / "extracted" / "pages" / f"{name}.parquet")
        assert pa.concat_tables(parts).combine_chunks().equals(whole.combine_chunks())
    kinds = ("phases", "held_out", "index")
    before, after = ({n: h for n, h in hashes(r).items() if n.split("/")[0] in kinds} for r in (made / "run", run))
    assert before == after
    funnels = [json.loads((r / "stats" / "funnel.json").read_text()) for r in (made / "run", run)]
    assert funnels[0] == funnels[1]
    assert "dropped: fewer" in run_command("why", run, f"pages/a.jsonl#{LOUD}", "--text").stdout
    assert run_command("trace", run, "phase1", "0", "--source").returncode == 0


def test_processes_of_a_pool_make_the_same_bytes(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = run_command("curate", made / "own.yaml", "--out", run, "--workers", "2", "--stages", "scan")
    assert done.returncode == 0, done.stderr
    whole = hashes(made / "run")
    found = {n: h for n, h in hashes(run).items() if n.split("/")[0] in ("extracted", "signals", "signatures")}
    assert found and found == {n: whole[n] for n in found}


def test_damage_is_named_and_weighed_as_without_steps(made: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path / "data")
    packed = tmp_path / "data" / "pages" / "b.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:-300])
    done = run_command("curate", recipe, "--out", tmp_path / "run", "--in-process", "--stages", "scan")
    assert done.returncode and "b.jsonl.gz: the last gzip member is incomplete" in done.stderr, done.stderr
    table = pq.read_table(tmp_path / "run" / "extracted" / "pages" / "b.jsonl.gz.parquet")
    assert 0 < table.num_rows < 20

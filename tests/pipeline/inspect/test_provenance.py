"""`fox1 why` and `fox1 trace`: from a document to its blocks, and from a block back to raw bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from fox1.commands.app import app
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.engine.records import write_record
from fox1.pipeline.inspect.dump import STATE, DumpedGroup
from fox1.pipeline.inspect.lookup import find
from fox1.pipeline.inspect.provenance import placed, trace, why
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import MAX_ROWS, SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import EDIT_TYPE
from fox1.pipeline.signals.content import written
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.pipeline.text.edits import apply_edits, raw_span
from fox1.recipes.load import stored_recipe
from fox1.recipes.settings import curate_settings
from fox1.tokenize.encode import Encoder
from fox1.tokenize.shards import read_set, token_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def made_with(run: Path) -> CurateSettings:
    return curate_settings(stored_recipe(RunPaths(run).recipe)[0])


@pytest.fixture(scope="module")
def opened(run: Path, made_with: CurateSettings) -> FinishedRun:
    return FinishedRun(RunPaths(run), lambda _: list_sources(made_with.sources, made_with.id_salt))


def decisions(run: Path) -> list[dict[str, Any]]:
    return [r for p in sorted((run / "decisions").rglob("*.parquet")) for r in pq.read_table(p).to_pylist()]


@pytest.mark.slow
def test_every_block_comes_from_the_bytes_that_its_trace_names(
    run: Path, opened: FinishedRun, made_with: CurateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: dict[int, pa.LargeStringArray] = {}
    read = FinishedRun.text
    monkeypatch.setattr(FinishedRun, "text", lambda self, i: texts.setdefault(i, read(self, i)))
    edited = 0
    for phase in ("phase1", "phase2", "phase3", "held_out"):
        folder = run / phase if phase == "held_out" else run / "phases" / phase
        for split in read_set(folder).splits:
            for block in range(split.blocks):
                segments = trace(opened, phase, block, split.block_length, source=True)
                assert segments
                # The token shards tell the same without the source.
                assert trace(FinishedRun(opened.paths), phase, block, split.block_length) == segments
                for s in segments:
                    raw = texts[opened.doc_id(s.name)][0].as_py().encode()
                    if s.edits:
                        edited += 1
                    else:
                        assert raw[slice(*s.raw)].decode(errors="replace") == s.text
                        assert s.raw[1] - s.raw[0] == s.edited[1] - s.edited[0]
    assert edited


def test_a_kept_document_is_where_its_blocks_say(run: Path, opened: FinishedRun, made_with: CurateSettings) -> None:
    shown = 0
    for row in decisions(run):
        if not row["kept"] or not (places := placed(opened, row["doc_id"])):
            continue
        found = why(opened, f"{row['corpus']}/{row['file']}#{row['row']}")
        assert found.doc_id == row["doc_id"] and found.blocks == places and not found.failed
        for p in places:
            if p.phase == "held_out":
                continue
            segments = trace(opened, p.phase, p.block, p.block_length)
            assert (found.name, (p.doc_start, p.doc_start + p.length)) in [(s.name, s.tokens) for s in segments]
        shown += 1
        if shown == 10:
            return
    raise AssertionError("hardly a document reached a phase")


def test_why_names_the_duplicate_the_rule_and_what_it_does_not_know(
    run: Path, opened: FinishedRun, made_with: CurateSettings
) -> None:
    rows = decisions(run)
    near = next(r for r in rows if r["kind"] == "near")
    found = why(opened, str(near["doc_id"]))
    assert found.duplicate_of == opened.name(near["duplicate_of"]) and not found.blocks
    short = next(r for r in rows if r["reason"] and not r["duplicate_of"])
    found = why(opened, str(short["doc_id"]))
    assert [rule for rule, _ in found.failed] == short["reasons"]
    with pytest.raises(ValueError, match=r"nowhere#1: write corpus/file#row"):
        why(opened, "nowhere#1")
    with pytest.raises(ValueError, match="the scan found no such document"):
        why(opened, f"{near['corpus']}/{near['file']}#60000000")
    with pytest.raises(ValueError, match=r"phase1 has no block 99999 of 256 tokens"):
        trace(opened, "phase1", 99_999, 0)
    with pytest.raises(ValueError, match=r"no phase phase9; it has phase1, phase2, phase3, by number"):
        trace(opened, "phase9", 0, 0)
    with pytest.raises(ValueError, match=r"choose one with --length"):
        trace(opened, "phase2", 0, 0)


def test_the_commands_show_it(run: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    near = next(r for r in decisions(run) if r["kind"] == "near")
    result = CliRunner().invoke(app, ["why", str(run), f"{near['corpus']}/{near['file']}#{near['row']}"])
    assert result.exit_code == 0 and "near copy of" in result.output and "n_words" in result.output
    assert re.search(r"quality +0\.\d{4}\n +language +[a-z]+ \(confidence [01]\.\d{4}\)\n", result.output)
    assert re.search(r"none or 0 +\d+ more, which --json shows\n$", result.output)
    alone = next(r for r in decisions(run) if r["kept"] and r["cluster_size"] == 1)
    assert "kept; it has no duplicates" in CliRunner().invoke(app, ["why", str(run), str(alone["doc_id"])]).output
    assert CliRunner().invoke(app, ["why", str(run), str(near["doc_id"]), "--json"]).output.startswith("{")
    result = CliRunner().invoke(app, ["trace", str(run), "phase1", "0", "--full"])
    assert result.exit_code == 0 and "of the raw text" in result.output


def test_a_look_at_a_run_loads_little(run: Path) -> None:
    """What would take longer than the answer is not imported: pandas by `to_numpy`, Ray, torch, the stages."""
    code = (
        "import sys; from fox1.commands.app import app; from typer.testing import CliRunner; "
        "done = CliRunner().invoke(app, sys.argv[1:]); "
        "loaded = {'pandas', 'ray', 'torch', 'datasets', 'fox1.pipeline.curate'} & {*sys.modules}; "
        "sys.exit(done.output if done.exit_code else ' '.join(loaded) or 0)"
    )
    dropped = next(r for r in decisions(run) if r["reasons"] and r["kind"] == "")
    for words in (["why", str(run), str(dropped["doc_id"])], ["trace", str(run), "1", "0"], ["stats", str(run)]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)


def test_a_document_is_found_by_url_id_hash_and_text(run: Path, opened: FinishedRun) -> None:
    """Every row of the signals that has a key is found by it, with its decision; what is not there is not."""
    seen = {"url": 0, "id": 0}
    for path in sorted((run / "signals").rglob("*.parquet")):
        columns = ["doc_id", "url_hash", "native_id_hash", "content_hash"]
        for row in pq.read_table(path, columns=columns).slice(0, 2).to_pylist():
            found = find(opened, "hash", written(row["content_hash"]))
            assert row["doc_id"] in [f.doc_id for f in found]
            corpus, file, number = opened.name(row["doc_id"]).partition("#")[0].split("/", 1) + [
                row["doc_id"] % MAX_ROWS
            ]
            source = next(f for f in list_files(opened) if (f.corpus, f.path) == (corpus, file))
            batch = next(iter(read_rows(source, Quarantine(source))))
            facts = batch.slice(batch.column("row").to_pylist().index(number), 1).to_pylist()[0]
            assert row["doc_id"] in [f.doc_id for f in find(opened, "text", facts["text"])]
            for kind, name in (("url", "url"), ("id", "native_id")):
                if facts[name]:
                    seen[kind] += 1
                    assert row["doc_id"] in [f.doc_id for f in find(opened, kind, facts[name])]
    assert min(seen.values()) > 3
    assert find(opened, "url", "https://nowhere.example/x") == []
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        find(opened, "hash", "abc")
    with pytest.raises(ValueError, match=r"is a content hash of an earlier version of fox1"):
        find(opened, "hash", "0x" + "0a" * 16)


def list_files(opened: FinishedRun) -> list[SourceFile]:
    return list(opened._listed(""))


def test_what_a_copy_stands_for_is_trained_on(run: Path, opened: FinishedRun) -> None:
    near = [r for r in decisions(run) if r["kind"] == "near"]
    results = []
    for row in near[:50]:
        path = run / "signals" / row["corpus"] / f"{row['file']}.parquet"
        signals = pq.read_table(path, columns=["doc_id", "content_hash"]).to_pylist()
        content = next(s["content_hash"] for s in signals if s["doc_id"] == row["doc_id"])
        mine = next(f for f in find(opened, "hash", written(content)) if f.doc_id == row["doc_id"])
        assert not mine.blocks and mine.copy == opened.name(row["duplicate_of"])
        assert mine.copy_blocks == placed(opened, row["duplicate_of"])
        results.append(mine.trained_on)
    assert any(results)


def test_a_dump_is_what_the_phases_were_made_of(run: Path, corpora: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    # The parts of a large index are listed for the tasks.
    monkeypatch.setattr("fox1.pipeline.engine.lists.MOST_FILES", 0)
    invoke = CliRunner().invoke
    out = invoke(app, ["dump", str(run), str(tmp_path / "all"), "--in-process"])
    assert out.exit_code == 0, out.output
    rows = [r for p in sorted((tmp_path / "all").rglob("*.parquet")) for r in pq.read_table(p).to_pylist()]
    held_out = {f["corpus"] + "/" + f["path"] for f in FinishedRun(RunPaths(run)).manifest["files"] if f["held_out"]}
    kept = {r["doc_id"] for r in decisions(run) if r["kept"] and f"{r['corpus']}/{r['file']}" not in held_out}
    assert {r["doc_id"] for r in rows} == kept and len(rows) == len(kept)
    index = [r for p in (run / "index").glob("blocks-*") for r in pq.read_table(p).to_pylist()]
    phases: dict[int, set[str]] = {}
    for r in index:
        phases.setdefault(r["doc_id"], set()).add(f"phase{r['phase']}")
    assert all(set(r["phases"]) == phases.get(r["doc_id"], set()) for r in rows)
    assert invoke(app, ["dump", str(run), str(tmp_path / "three"), "--phase", "3", "--in-process"]).exit_code == 0
    third = [r for p in sorted((tmp_path / "three").rglob("*.parquet")) for r in pq.read_table(p).to_pylist()]
    assert third == [r for r in rows if "phase3" in r["phases"]]
    other = invoke(app, ["dump", str(run), str(tmp_path / "three"), "--phase", "phase1", "--in-process"])
    assert "holds a dump of phase3" in str(other.exception)
    # Into the folder of a dump that had more groups.
    stale, record = (
        tmp_path / "three" / "old" / "web.parquet",
        tmp_path / "three" / "__fox1" / "records" / "dump" / "old.json",
    )
    half = tmp_path / "three" / f".{'0' * 32}.tmp"
    stale.parent.mkdir()
    for path in (stale, tmp_path / "three" / "mine.parquet", half):
        path.write_bytes(b"x")
    dumped = DumpedGroup(Artifact(str(stale), 1, 0, ""), 0)
    write_record(RunPaths(tmp_path / "three", STATE), "dump", "old", "key", dumped)
    assert record.exists()
    assert invoke(app, ["dump", str(run), str(tmp_path / "three"), "--phase", "3", "--in-process"]).exit_code == 0
    assert not stale.exists() and not record.exists() and not half.exists()
    assert (tmp_path / "three" / "mine.parquet").exists()
    (tmp_path / "three" / "mine.parquet").unlink()
    assert pyarrow.dataset.dataset(str(tmp_path / "three"), format="parquet").count_rows() == len(third)
    loaded = datasets.load_dataset(str(tmp_path / "three"), cache_dir=str(tmp_path / "cache"), split="train")
    assert sorted(loaded["doc_id"]) == sorted(r["doc_id"] for r in third)
    texts = {r["doc_id"]: r["text"] for r in rows}
    for path in sorted((run / "tokens").rglob("*.arrow"))[:4]:
        encoder = Encoder(run / "prepare" / "tokenizer.model")
        for batch in token_batches(path):
            for r in batch.slice(0, 20).to_pylist():
                if r["doc_id"] in texts:
                    assert (
                        encoder.encode(pa.array([texts[r["doc_id"]]], pa.large_string())).ids.tolist() == r["input_ids"]
                    )
    assert "has no phase 9" in str(
        invoke(app, ["dump", str(run), str(tmp_path / "x"), "--phase", "9", "--in-process"]).exception
    )


SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "x", "[mail]"])), max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30).map(lambda b: bytes(97 + c % 26 for c in b)), SPANS)
def test_every_edited_byte_maps_to_what_it_was_made_of(text: bytes, spans: list[tuple[int, int, str]]) -> None:
    edits, at = [], 0
    for gap, size, replacement in spans:
        start = at + gap
        if start + size > len(text):
            break
        edits.append({"start": start, "end": start + size, "kind": 1, "replacement": replacement})
        at = start + size
    final = apply_edits(pa.array([text.decode()], pa.large_string()), pa.array([edits], EDIT_TYPE))[0].as_py().encode()
    replaced = sum(len(e["replacement"]) for e in edits)
    same = 0
    for i in range(len(final)):
        first, end = raw_span(edits, i, i + 1)
        if any((first, end) == (e["start"], e["end"]) and e["replacement"] for e in edits) and end - first != 1:
            continue
        if end - first == 1 and text[first] == final[i]:
            same += 1
    assert same >= len(final) - replaced
    if final:
        first, end = raw_span(edits, 0, len(final))
        assert 0 <= first <= end <= len(text)

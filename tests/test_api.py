"""fox1 from Python, and the commands that look after a run and a machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fox1
import pytest
import torch
from fox1.commands.app import app
from fox1.commands.doctor import check_machine
from fox1.pipeline.run.checksums import verify
from fox1.pipeline.run.garbage import collect
from fox1.pipeline.run.paths import RunPaths
from typer.testing import CliRunner

from tests.conftest import SMALL
from tests.faults.promises import hashes


def test_a_run_is_made_opened_and_loaded_from_python(
    tmp_path: Path, corpora: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    summary = fox1.curate("sample", tmp_path / "run", overrides=SMALL, in_process=True)
    assert hashes(tmp_path / "run") == hashes(run)
    assert sum(f.kept for f in summary.funnels) > 0 and set(summary.seconds) == set(summary.stages)

    opened = fox1.open_run(tmp_path / "run")
    assert opened.phases == ["phase1", "phase2", "phase3"] and "phase2" in repr(opened)
    rows = opened.decisions().to_table(columns=["doc_id", "kept", "reason"]).to_pylist()
    funnel = opened.stats["funnel"]["corpora"]
    assert len(rows) + sum(c["quarantined"] for c in funnel) == sum(c["rows"] for c in funnel)
    assert opened.signals().count_rows() == len(rows)
    kept = next(r["doc_id"] for r in rows if r["kept"])
    assert opened.why(str(kept)).decision["kept"]

    blocks = fox1.load_phase(opened, "phase1")
    length = next(iter(blocks))
    assert len(blocks[length][0]["input_ids"]) == int(length)
    found = opened.trace("phase1", 0)
    assert found and opened.why(found[0].name).blocks[0].phase == "phase1"
    content = opened.why(found[0].name).signals["content_hash"]
    assert any(f.name == found[0].name and f.trained_on for f in opened.find(hash=content))

    with pytest.raises(ValueError, match="no phase phase9; it has phase1"):
        fox1.load_phase(opened, "phase9")
    with pytest.raises(ValueError, match="exactly one of url, id, hash, text; given: none"):
        opened.find()
    with pytest.raises(ValueError, match="exactly one of url, id, hash, text; given: url and hash"):
        opened.find(url="https://a.org", hash=content)
    with pytest.raises(ValueError, match=r"manifest.json is missing"):
        fox1.open_run(tmp_path / "nothing")
    with pytest.raises(AttributeError, match="no attribute 'curat'"):
        fox1.curat  # noqa: B018


def test_the_package_lists_its_api_without_importing_it() -> None:
    code = "import fox1, sys; print(*dir(fox1)); assert 'fox1.api' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Run", "__version__", "curate", "load_phase", "open_run"]
    assert all(hasattr(fox1, name) for name in dir(fox1))


def test_a_run_shows_its_phases_and_what_it_kept(tmp_path: Path, run: Path) -> None:
    opened = fox1.open_run(run)
    funnel, mixture = opened.stats["funnel"]["corpora"], opened.stats["mixture"]["phases"]
    kept = f"{sum(c['kept'] for c in funnel):,} of {sum(c['rows'] for c in funnel):,} documents kept"
    assert (
        repr(opened)
        == f"Run('{run}': {kept}; " + ", ".join(f"{p['name']} {p['tokens']:,} tokens" for p in mixture) + ")"
    )
    page = opened._repr_html_()
    assert kept in page and all(f"<th>{p['name']}</th><td>{p['tokens']:,}</td>" in page for p in mixture)


def test_a_run_in_a_notebook_is_text_whatever_its_names_hold(tmp_path: Path, run: Path) -> None:
    out = tmp_path / "<b>run"
    shutil.copytree(run / "stats", out / "stats")
    shutil.copy(run / "manifest.json", out)
    mixture = json.loads((out / "stats" / "mixture.json").read_text())
    mixture["phases"][0]["name"] = "<script>"
    (out / "stats" / "mixture.json").write_text(json.dumps(mixture))
    page = fox1.open_run(out)._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;run" in page and "<script>" not in page and "&lt;script&gt;" in page

    (out / "stats" / "mixture.json").unlink()
    unfinished = fox1.open_run(out)
    assert repr(unfinished) == f"Run('{out}': not finished)" and "not finished" in unfinished._repr_html_()


def test_gc_deletes_what_no_stage_names_and_leaves_the_run_whole(tmp_path: Path, run: Path, corpora: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    before = hashes(out)
    stale = out / "decisions" / "pile" / "gone.jsonl.parquet"
    shutil.copy(next((out / "decisions").rglob("*.parquet")), stale)
    record = out / "records" / "dedupe.decisions" / "99999.json"
    record.write_text(json.dumps({"outputs": [{"path": "decisions/pile/gone.jsonl.parquet"}], "key": "x"}))
    (out / "notes.txt").write_text("mine")

    listed = CliRunner().invoke(app, ["gc", str(out), "--dry-run"])
    assert listed.exit_code == 0 and "decisions/pile/gone.jsonl.parquet" in listed.output and stale.exists()
    files, size = collect(RunPaths(out))
    assert set(files) == {"decisions/pile/gone.jsonl.parquet", "records/dedupe.decisions/99999.json"} and size > 0
    assert not stale.exists() and not record.exists() and (out / "notes.txt").exists()
    assert hashes(out) == before and collect(RunPaths(out)) == ([], 0)

    files, size = collect(RunPaths(out), intermediate=True)
    assert any(f.startswith("mix/") for f in files) and not list((out / "dedupe").rglob("*.0"))
    assert hashes(out) == before and verify(RunPaths(out))[2] == []
    assert fox1.open_run(out).trace("phase1", 0)


def test_gc_refuses_a_run_that_is_not_finished(tmp_path: Path, run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["artifacts"] = [each for each in manifest["artifacts"] if each["folder"] == "signals"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is not finished"):
        collect(RunPaths(tmp_path))


def test_doctor_says_what_is_missing_and_what_to_do(
    tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fox1.commands import doctor

    # A Ray session of its own is what `curate`'s tests start often enough.
    monkeypatch.setattr(doctor, "_ray", lambda address: doctor.Check("ray", "ok", "not asked"))
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    monkeypatch.setenv("FOX1_TOKENIZER", str(tmp_path / "none.model"))
    found = {c.name: c for c in check_machine()}
    assert found["data"].state == "ok" and found["packages"].state == "ok" and "torch" in found["packages"].found
    assert found["tokenizer"].state == "missing" and "none.model" in found["tokenizer"].found
    assert all(c.remedy for c in found.values() if c.state != "ok")
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1 and "missing tokenizer" in shown.output and "-> set FOX1_TOKENIZER" in shown.output

    monkeypatch.setenv("FOX1_DATA", str(tmp_path))
    monkeypatch.delenv("FOX1_TOKENIZER")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/none")
    found = {c.name: c for c in check_machine()}
    assert "refinedweb" in found["data"].found and found["data"].state == found["kernels"].state == "missing"


def test_a_machine_without_a_gpu_says_so_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.trainer.checks import device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = device.Finding("attention", True, "is right")
    monkeypatch.setattr(device, "check_device", lambda *arguments: iter([finding]))
    shown = CliRunner().invoke(app, ["doctor", "--gpu"])
    lines = shown.output.splitlines()
    assert (
        shown.exit_code == 1
        and lines[0].startswith("missing gpu           none (")
        and "says nothing of a GPU" in lines[1]
    )
    assert lines[2].split() == ["ok", "attention", "cpu:", "is", "right"]


def test_doctor_says_that_a_cluster_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from fox1.commands import doctor
    from fox1.pipeline.engine import on_ray

    @contextmanager
    def unreachable(address: str | None, cpus: int | None) -> object:
        raise ConnectionError(f"cannot reach {address}\nmore")
        yield

    monkeypatch.setattr(on_ray, "ray_session", unreachable)
    found = doctor._ray("ray://nowhere:10001")
    assert (
        found.state == "missing"
        and found.found == "cannot reach ray://nowhere:10001"
        and "check that the cluster" in found.remedy
    )


def test_documents_and_queries_are_arrow_tables(run: Path) -> None:
    opened = fox1.open_run(run)
    kept = opened.documents("kept and quality > 0.5", columns=("document", "words", "corpus"))
    assert kept.schema.names == ["document", "words", "corpus"] and kept.num_rows
    counts = "select corpus, count(*) as n from documents where kept and quality > 0.5 group by corpus"
    by_corpus = {row["corpus"]: row["n"] for row in opened.sql(counts).to_pylist()}
    assert by_corpus == Counter(kept.column("corpus").to_pylist())
    assert opened.documents(most=2).num_rows == 2 and "mean_word_length" in opened.columns.names
    assert opened.why(kept.column("document")[0].as_py()).decision["kept"]
    with pytest.raises(ValueError, match=r"a document has no column n_words; Run.columns lists them"):
        opened.documents(columns=["n_words"])
    with pytest.raises(ValueError, match="file system operations are disabled"):
        opened.sql(f"select * from read_text('{run}/recipe.yaml')")

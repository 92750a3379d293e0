"""`fox1 verify` and `fox1 tokenizer`: what a user runs beside a curation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sentencepiece
from fox1.commands.app import app
from fox1.pipeline.run.checksums import verify
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.stats.tokenizer_figures import subset_tokens
from typer.testing import CliRunner


def test_a_whole_run_is_as_written(run: Path) -> None:
    files, size, problems = verify(RunPaths(run))
    assert problems == []
    assert files == len(read_manifest(RunPaths(run))["artifacts"]) > 100 and size > 1_000_000
    card = (run / "phases" / "phase1" / "README.md").read_text()
    assert "| domain | 256 | share |" in card and "load_from_disk" in card


def test_every_damaged_file_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shards = sorted((tmp_path / "run" / "phases").rglob("*.arrow"))
    data = bytearray(shards[0].read_bytes())
    data[len(data) // 2] ^= 1
    shards[0].write_bytes(data)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    (tmp_path / "run" / "decisions" / "pile").rename(tmp_path / "gone")
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "run")])
    assert result.exit_code == 1 and "do not match their checksums" in result.output
    _, _, problems = verify(RunPaths(tmp_path / "run"))
    assert f"{shards[0].relative_to(tmp_path / 'run')} does not match its checksum" in problems
    assert any(str(shards[1].relative_to(tmp_path / "run")) in p and "bytes" in p for p in problems)
    assert any(p.startswith("decisions/pile/") and p.endswith("is missing") for p in problems)


def test_the_tokenizer_of_a_run_is_measured_on_its_text(run: Path) -> None:
    rows = subset_tokens(RunPaths(run))
    assert {r.corpus for r in rows} <= {"redpajama", "slimpajama", "dolma", "pile", "refinedweb"}
    assert all(0 < r.seen <= r.tokens and 1 < r.bytes / r.tokens < 12 for r in rows)
    assert all(r.unknown == 0 for r in rows) and any(r.byte_fallback for r in rows)
    shown = CliRunner().invoke(app, ["tokenizer", "inspect", str(run)])
    assert shown.exit_code == 0 and "0 <pad>, 1 <eos>, 2 <bos>, 3 <unk>" in shown.output


def test_a_tokenizer_is_trained_on_what_a_run_kept(
    run: Path, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    arguments = ["tokenizer", "train", str(run), "--vocab-size", "700", "--sample-bytes", "200K"]
    for name in ("one", "two"):
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "one")).vocab_size() == 700

"""What a training has on disk, and what it prints, when disks fail or processes are killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from fox1.trainer.checkpoints.checkpoint import (
    Checkpointer,
    CheckpointManifest,
    TrainingProgress,
    newest_whole,
    read_manifest,
)
from fox1.trainer.launch import run_processes
from fox1.trainer.train import read_settings
from fox1.trainer.watch.curves import read_metrics
from fox1.trainer.watch.metrics import Metrics
from torch.distributed.checkpoint.api import CheckpointException

MANIFEST = CheckpointManifest(
    TrainingProgress(phase=1, units=72, step=9, tokens=18432), {"seed": 1}, 1024, {"phase1": "x"}
)


def checkpoint(root: Path, step: int = 9) -> Path:
    folder = root / f"step-{step:08d}"
    folder.mkdir()
    manifest = replace(MANIFEST, progress=replace(MANIFEST.progress, step=step))
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_manifest(checkpoint(tmp_path)) == MANIFEST


@pytest.mark.parametrize(("old", "new"), [('"units": 72', '"units": 76'), ("checksum", "chdcksum"), ("{", "[")])
def test_a_manifest_with_another_byte_is_no_checkpoint(tmp_path: Path, old: str, new: str) -> None:
    before = checkpoint(tmp_path, 6)
    damaged = checkpoint(tmp_path, 9)
    text = (damaged / "manifest.json").read_text()
    assert old in text
    (damaged / "manifest.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="step-00000009 is not a whole checkpoint"):
        read_manifest(damaged)
    found, wrong = newest_whole(tmp_path)
    assert found == before and len(wrong) == 1 and not damaged.exists()


def test_where_no_checkpoint_is_whole_the_error_says_what_to_do(tmp_path: Path) -> None:
    (checkpoint(tmp_path) / "manifest.json").write_text("")
    with pytest.raises(
        ValueError, match=r"is whole: .*step-00000009 .*; remove its checkpoints to start over, or choose"
    ):
        newest_whole(tmp_path)


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), r"\(No space left on device\); make room, and run the same"),
        (
            RuntimeError("unexpected pos 7\nmore"),
            r"\(RuntimeError: unexpected pos 7\); is the disk full\? Make room, and run the same",
        ),
    ],
)
def test_a_disk_without_room_for_a_checkpoint_is_named_in_one_line(tmp_path: Path, cause: Exception, says: str) -> None:
    written: Future[None] = Future()
    written.set_exception(CheckpointException("write", {0: (cause, None)}))  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=rf"^{tmp_path}/step-9 cannot be written {says} command again$"):
        Checkpointer._finish_part(written, tmp_path / "step-9")


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"model": {')
    with pytest.raises(ValueError, match=r"/training.json is damaged .*; run `fox1 curate` again to rewrite it"):
        read_settings(tmp_path)


def test_a_killed_process_of_a_training_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    die = "import os, signal, time; time.sleep(30 * (os.environ['RANK'] == '0')); os.kill(os.getpid(), signal.SIGKILL)"
    assert run_processes([sys.executable, "-c", die], 2) == signal.SIGKILL
    said = capfd.readouterr().err.strip()
    assert said == (
        "error: one of the 2 training processes was killed (SIGKILL); run the same command again to resume from the last "
        "checkpoint"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_the_processes_of_a_killed_launcher_receive_sigterm(tmp_path: Path) -> None:
    rank = (
        "import os, pathlib, signal, sys, time\n"
        f"file = pathlib.Path({str(tmp_path)!r}, os.environ['RANK'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (file.with_suffix('.stopped').touch(), sys.exit()))\n"
        "file.touch()\n"
        "time.sleep(60)\n"
    )
    start = (
        f"import sys; from fox1.trainer.launch import run_processes; run_processes([sys.executable, '-c', {rank!r}], 2)"
    )
    with subprocess.Popen([sys.executable, "-c", start]) as launcher:
        wait_for(lambda: {p.name for p in tmp_path.iterdir()} == {"0", "1"})
        launcher.kill()
    wait_for(lambda: {p.name for p in tmp_path.iterdir()} == {"0", "1", "0.stopped", "1.stopped"})


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def test_a_disk_without_room_for_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    metrics = Metrics(tmp_path)
    with pytest.raises(OSError, match=r"metrics.jsonl cannot be written \(No space left on device\); make room"):
        metrics.write("train", 1, {"loss": 1.0})
    metrics.close()


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    drawn = {"phase": "phase1", "tokens": 1024, "tokens_per_second": 10.0}
    line = {"kind": "train", "step": 1, "loss": 2.0, **drawn}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + '\n{"kind": "tra')
    metrics = Metrics(tmp_path)
    metrics.write("train", 2, {"loss": 1.5, **drawn})
    metrics.close()
    found = [m for m in read_metrics(tmp_path) if m["kind"] == "train"]
    assert [(m["step"], m["loss"]) for m in found] == [(1, 2.0), (2, 1.5)]

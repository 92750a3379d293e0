"""Training end to end: phases in a row, resuming bit for bit, the same run on several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from fox1.tokenize.encode import Encoder
from fox1.trainer.checkpoint import checkpoints, read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's run with settings that train in seconds."""
    out = tmp_path_factory.mktemp("train") / "run"
    out.mkdir()
    for part in ("phases", "held_out", "prepare"):
        (out / part).symlink_to(run / part)
    settings = json.loads((run / "training.json").read_text())
    settings["checkpoint_every"] = 5
    settings["evaluate_blocks"] = 8
    settings["micro_batch_tokens"] = 1024
    settings["model"] |= {"layers": 2, "hidden": 64, "intermediate": 96, "heads": 2, "kv_heads": 1}
    (out / "training.json").write_text(json.dumps(settings))
    return out


def train(run: Path, out: Path, *options: str, nproc: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fox1", "train", str(run), "--out", str(out), "--nproc", str(nproc), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def losses(out: Path, kind: str = "train") -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == kind}


@pytest.fixture(scope="module")
def whole(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "checkpoints"
    done = train(small, out)
    assert done.returncode == 0, done.stderr
    return out


def test_three_phases_train_in_a_row(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    phases = [line["phase"] for line in lines if line["kind"] == "held_out"]
    assert phases == ["phase1", "phase2", "phase3"]
    held_out = [line["loss"] for line in lines if line["kind"] == "held_out"]
    assert held_out[-1] < held_out[0]
    assert any(line.get("loss_by_corpus") for line in lines)
    last = [line for line in lines if line["kind"] == "held_out"][-1]
    for part in ("loss_by_corpus", "loss_by_domain"):
        assert min(last[part].values()) <= last["loss"] <= max(last[part].values())
    for part in ("bits_per_byte_by_corpus", "bits_per_byte_by_domain"):
        assert min(last[part].values()) <= last["bits_per_byte"] <= max(last[part].values())
    manifest = read_manifest(checkpoints(whole)[-1])
    assert (manifest.progress.phase, manifest.progress.phase_done) == (2, True)


def test_bits_per_byte_are_the_loss_over_the_bytes_of_what_was_predicted(run: Path) -> None:
    """A piece's bytes sum to those of the text, so nats per token become bits per byte exactly."""
    sizes = np.load(run / "prepare" / "piece_bytes.npy")
    encoder = Encoder(run / "prepare" / "tokenizer.model")
    text = "Ein naïver Fuchs – 狐 – says:\n\n\tnothing  123"
    ids = encoder.encode(pa.array([text], pa.large_string())).ids
    assert sizes[ids].sum() == len(text.encode()) and sizes[[0, 1, 2]].sum() == 0


def test_curves_are_drawn_of_what_was_measured(whole: Path, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    done = subprocess.run(
        [sys.executable, "-m", "fox1", "curves", str(whole), str(whole), "--out", str(tmp_path / "c.svg")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    drawing = ElementTree.parse(tmp_path / "c.svg").getroot()
    lines = [e for e in drawing.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 7 and all(len(e.attrib["points"].split()) >= 2 for e in lines)
    texts = "".join(drawing.itertext())
    assert "phase2" in texts and "held out" in texts and "unigram entropy" in texts
    nothing = subprocess.run(
        [sys.executable, "-m", "fox1", "curves", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert nothing.returncode == 1 and "has no metrics.jsonl" in nothing.stderr


def test_phase_ends_and_the_last_two_checkpoints_are_kept(whole: Path) -> None:
    kept = [read_manifest(c).progress for c in checkpoints(whole)]
    assert [p.phase for p in kept if p.phase_done] == [0, 1, 2]
    assert len(kept) <= 5


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    file = checkpoint.parent / f"{checkpoint.name}.pt"
    dcp_to_torch_save(checkpoint, file)
    state = torch.load(file, weights_only=True)["model"]
    file.unlink()
    return state


def test_a_killed_training_resumes_with_the_same_weights_bit_for_bit(small: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not checkpoints(out) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert checkpoints(out) and read_manifest(checkpoints(out)[-1]).progress.phase < 2
    done = train(small, out)
    assert done.returncode == 0 and "resumed from" in done.stderr, done.stderr
    mine, theirs = weights(checkpoints(out)[-1]), weights(checkpoints(whole)[-1])
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def test_two_processes_give_the_losses_of_one_and_reshard(small: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    first = train(small, out, "--phase", "1", nproc=2)
    assert first.returncode == 0, first.stderr
    rest = train(small, out)
    assert rest.returncode == 0, rest.stderr
    mine, theirs = losses(out), losses(whole)
    assert mine.keys() == theirs.keys()
    for step, loss in mine.items():
        assert loss == pytest.approx(theirs[step], rel=1e-4), step


def test_replicas_of_shards_give_the_losses_of_one_process(small: Path, tmp_path: Path) -> None:
    """HSDP: two copies of parameters sharded over two processes each; a checkpoint that one process goes on from."""
    run = tmp_path / "run"
    run.mkdir()
    for part in ("phases", "held_out", "prepare"):
        (run / part).symlink_to((small / part).resolve())
    settings = json.loads((small / "training.json").read_text())
    for phase in settings["phases"]:
        phase["batch_tokens"] = 4 * settings["micro_batch_tokens"]

    def trained(out: str, stop: int, nproc: int, replicas: int) -> subprocess.CompletedProcess[str]:
        (run / "training.json").write_text(json.dumps(settings | {"replicas": replicas}))
        return train(run, tmp_path / out, "--phase", "1", "--stop-after", str(stop), nproc=nproc)

    alone = trained("one", 14, 1, 1)
    assert alone.returncode in (0, 75), alone.stderr
    four = trained("four", 3, 4, 2)
    assert four.returncode == 75, four.stderr
    rest = trained("four", 14, 1, 1)
    assert rest.returncode == alone.returncode, rest.stderr
    # The same weights at the end: what they make of the held-out documents tells.
    mine, theirs = (losses(tmp_path / name, "held_out") for name in ("four", "one"))
    assert mine.keys() == theirs.keys() and len(mine) == 1
    for step, loss in mine.items():
        assert loss == pytest.approx(theirs[step], rel=1e-5), step
    refused = trained("five", 3, 2, 3)
    assert refused.returncode and "does not divide 2 processes" in refused.stderr


@pytest.mark.parametrize("choice", ["selective", "full"])
def test_activation_checkpointing_changes_no_loss(small: Path, whole: Path, tmp_path: Path, choice: str) -> None:
    import shutil

    other = tmp_path / "run"
    shutil.copytree(small, other, symlinks=True)
    settings = json.loads((other / "training.json").read_text()) | {"activation_checkpointing": choice}
    (other / "training.json").write_text(json.dumps(settings))
    done = train(other, tmp_path / "out", "--phase", "1")
    assert done.returncode == 0, done.stderr
    expected = losses(whole)
    for step, loss in losses(tmp_path / "out").items():
        assert loss == pytest.approx(expected[step], rel=1e-6), step


def stop_at_the_first_report(command: list[str]) -> str:
    """SIGTERM once a training has reported a step; what it says afterwards. Its status must be 75."""
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if " step " in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait() == 75, rest
    return rest


def test_sigterm_saves_and_leaves_with_its_own_status(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out)]
    rest = stop_at_the_first_report(command)
    assert "run again to go on" in rest
    assert checkpoints(out)


def test_several_processes_stop_together_and_go_on(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "together"
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out), "--nproc", "2"]
    stop_at_the_first_report(command)
    assert checkpoints(out)
    again = train(small, out, "--phase", "1", nproc=2)
    assert again.returncode == 0 and "resumed from" in again.stderr


def test_another_batch_size_mid_phase_uses_every_unit_once(small: Path, tmp_path: Path) -> None:
    import shutil

    other, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(small, other, symlinks=True)
    settings = json.loads((other / "training.json").read_text())
    settings["phases"][0]["batch_tokens"] = 4096
    (other / "training.json").write_text(json.dumps(settings))
    assert train(other, out, "--phase", "1", "--stop-after", "3").returncode == 75
    stopped = read_manifest(checkpoints(out)[-1]).progress
    done = train(small, out, "--phase", "1")
    assert done.returncode == 0, done.stderr
    end = read_manifest(checkpoints(out)[-1]).progress
    units = json.loads((small / "phases" / "phase1" / "fox1.json").read_text())["splits"][0]["blocks"]
    assert stopped.units == 3 * 16
    assert end.phase_done and units - 8 < end.units <= units


def test_one_training_writes_a_folder(small: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lease", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = train(small, tmp_path / "out")
    assert done.returncode == 1 and "is being written by another training" in done.stderr


def test_phases_start_only_from_the_end_of_the_one_before(small: Path, tmp_path: Path) -> None:
    done = train(small, tmp_path / "skip", "--phase", "2")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: phase 2 starts from the end of phase 1; train that first"


def test_a_damaged_checkpoint_is_named(small: Path, whole: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "damaged"
    shutil.copytree(whole, out)
    file = next(checkpoints(out)[-1].glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = train(small, out)
    assert done.returncode == 1
    assert file.name in done.stderr and "damaged" in done.stderr


def test_other_data_is_refused(small: Path, whole: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "run"
    shutil.copytree(small, other)
    path = other / "phases" / "phase1" / "fox1.json"
    path.write_text(path.read_text().replace('"data_identity": "', '"data_identity": "other'))
    out = tmp_path / "checkpoints"
    shutil.copytree(whole, out)
    done = train(other, out)
    assert done.returncode == 1 and "was trained on another phase1" in done.stderr
    assert "documents may be seen twice or never" in done.stderr
    forced = train(other, out, "--force")
    assert forced.returncode == 0 and "forced: phase1 is not the data" in forced.stderr, forced.stderr

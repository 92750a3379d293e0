"""Training end to end: phases in a row, resuming bit for bit, the same run on several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.storage import lease
from fox1.tokenize.encode import Encoder
from fox1.tokenize.shards import SetInfo
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest
from fox1.trainer.checks.held_out_loss import _macro

from tests.conftest import TWO_LAYERS, MakeOnce, run_command, run_to_train
from tests.faults.processes import is_loopback, listening

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's run with settings that train in seconds."""
    out = tmp_path_factory.mktemp("train") / "run"
    run_to_train(run, out, TWO_LAYERS, checkpoint_every=5, evaluate_blocks=8, micro_batch_tokens=1024)
    return out


def train(run: Path, out: Path, *options: str, nproc: int = 1) -> subprocess.CompletedProcess[str]:
    words = ["train", str(run), "--out", str(out), "--nproc", str(nproc), *options]
    if nproc == 1:
        return run_command(*words)
    return subprocess.run([sys.executable, "-m", "fox1", *words], capture_output=True, text=True, timeout=300)


def losses(out: Path, kind: str = "train") -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == kind}


@pytest.fixture(scope="module")
def whole(small: Path, make_once: MakeOnce) -> Path:
    """The checkpoints of a training through all phases. Tests only read them."""

    def make(folder: Path) -> None:
        done = train(small, folder / "checkpoints")
        assert done.returncode == 0, done.stderr

    return make_once("whole-training", make) / "checkpoints"


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
    domains = last["bits_per_byte_by_domain"].values()
    assert last["bits_per_byte_macro"] == pytest.approx(sum(domains) / len(domains))
    for part in ("bits_per_byte_by_corpus", "bits_per_byte_by_domain"):
        assert min(last[part].values()) <= last["bits_per_byte"] <= max(last[part].values())
    manifest = read_manifest(checkpoints(whole)[-1])
    assert (manifest.progress.phase, manifest.progress.phase_done) == (2, True)


def test_of_what_is_set_apart_each_domain_counts_alike_and_each_half_is_told() -> None:
    table = (("a", "s", "web"), ("a", "s", "web"), ("b", "s", "code"), ("a", "s", "web"), ("b", "s", "code"))
    info = SetInfo("held_out", (), table, {}, 10, 0, 1, 2, "", carved=(("kept", (1, 2)), ("unfiltered", (3, 4))))
    bits = np.array([[900.0, 10, 40, 20, 8], [100.0, 10, 10, 10, 4]])
    # Code is 48 bits of 14 bytes, web 30 of 20: the first source, of held-out files, counts in neither.
    found = _macro(bits, info)
    assert found["bits_per_byte_macro"] == pytest.approx((48 / 14 + 30 / 20) / 2)
    assert found["bits_per_byte_by_half"] == {"kept": pytest.approx(2.5), "unfiltered": pytest.approx(2.0)}
    files = _macro(bits, replace(info, carved=()))
    assert files == {"bits_per_byte_macro": pytest.approx((930 / 120 + 48 / 14) / 2)}
    assert "carved" not in replace(info, carved=()).to_json() and "carved" in info.to_json()


def test_bits_per_byte_are_the_loss_over_the_bytes_of_what_was_predicted(run: Path) -> None:
    """A piece's bytes sum to those of the text, so nats per token become bits per byte exactly."""
    sizes = np.load(run / "prepare" / "piece_bytes.npy")
    encoder = Encoder(run / "prepare" / "tokenizer.model")
    text = "Ein naïver Fuchs – 狐 – says:\n\n\tnothing  123"
    ids = encoder.encode(pa.array([text], pa.large_string())).ids
    assert sizes[ids].sum() == len(text.encode()) and sizes[[0, 1, 2]].sum() == 0


def test_curves_are_drawn_of_what_was_measured(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import xml.etree.ElementTree as ElementTree

    monkeypatch.chdir(tmp_path)
    done = run_command("curves", whole, whole, "--out", "c.svg")
    assert done.returncode == 0, done.stderr
    drawing = (tmp_path / "c.svg").read_bytes()
    lines = {e.attrib.get("id"): e for e in ElementTree.fromstring(drawing).iter() if e.tag.endswith("}g")}
    name = whole.name
    for line in (f"{name}, training", f"{name}, held out", "unigram entropy", name):
        (path,) = [e for e in lines[line].iter() if e.tag.endswith("}path")]
        # Points of a line: one that is moved to, the others drawn to.
        assert path.attrib["d"].count("L") >= 1
    texts = "".join(ElementTree.fromstring(drawing).itertext())
    assert "phase2" in texts and "tokens per second" in texts
    assert run_command("curves", whole, whole, "--out", "again.svg").returncode == 0
    assert (tmp_path / "again.svg").read_bytes() == drawing
    assert run_command("curves", whole, "--out", "c.png").returncode == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert run_command("curves", whole, "--out", "c.pdf").returncode == 1
    nothing = run_command("curves", tmp_path)
    assert nothing.returncode == 1 and "has no metrics.jsonl" in nothing.stderr


def test_phase_ends_and_the_last_two_checkpoints_are_kept(whole: Path) -> None:
    kept = [read_manifest(c).progress for c in checkpoints(whole)]
    assert [p.phase for p in kept if p.phase_done] == [0, 1, 2]
    assert len(kept) <= 5


@pytest.mark.long
def test_replicas_of_shards_give_the_losses_of_one_process(small: Path, tmp_path: Path) -> None:
    """HSDP: two copies of parameters sharded over two processes each; a checkpoint that one process resumes from."""
    run = tmp_path / "run"
    settings = run_to_train(small, run, batch_tokens=4 * 1024)

    def trained(out: str, stop: int, nproc: int, replicas: int) -> subprocess.CompletedProcess[str]:
        (run / "training.json").write_text(json.dumps(settings | {"replicas": replicas}))
        return train(run, tmp_path / out, "--phase", "1", "--stop-after", str(stop), nproc=nproc)

    alone = trained("one", 14, 1, 1)
    assert alone.returncode in (0, 75), alone.stderr
    four = trained("four", 3, 4, 2)
    assert four.returncode == 75, four.stderr
    rest = trained("four", 14, 1, 1)
    assert rest.returncode == alone.returncode, rest.stderr
    # The same weights at the end: their held-out losses tell.
    found, expected = (losses(tmp_path / name, "held_out") for name in ("four", "one"))
    assert found.keys() == expected.keys() and len(found) == 1
    for step, loss in found.items():
        assert loss == pytest.approx(expected[step], rel=1e-5), step
    refused = trained("five", 3, 2, 3)
    assert refused.returncode and "does not divide the number of processes (2)" in refused.stderr


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


def stop_at_the_first_report(command: list[str], number: int) -> str:
    """A signal once a training has reported a step; what it says afterwards. Its status must be 75.

    All that listens meanwhile must be reached from this machine only.
    """
    # What started the suite may ignore the signal, and its children inherit that.
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    )
    assert process.stderr
    for line in process.stderr:
        if " step " in line:
            break
    addresses = listening(process.pid)
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait() == 75, rest
    assert addresses and all(map(is_loopback, addresses)), addresses
    return rest


def test_sigterm_saves_and_leaves_with_its_own_status(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out)]
    rest = stop_at_the_first_report(command, signal.SIGTERM)
    assert "run the same command again to continue" in rest
    assert checkpoints(out)


@pytest.mark.early
def test_several_processes_stop_together_and_resume(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "together"
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out), "--nproc", "2"]
    stop_at_the_first_report(command, signal.SIGHUP)
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


@pytest.mark.parametrize(("before", "after"), [(1024, 4096), (4096, 1024)])
def test_another_batch_size_leaves_the_rate_where_it_was(small: Path, tmp_path: Path, before: int, after: int) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shape = {"optimizer": {"learning_rate": 1e-3}, "schedule": {"warmup_steps": 2, "decay_from": "phase2"}}
    settings = run_to_train(small, run, batch_tokens=before, micro_batch_tokens=1024, **shape)
    assert train(run, out, "--stop-after", "3").returncode == 75
    for phase in settings["phases"]:
        phase["batch_tokens"] = after
    (run / "training.json").write_text(json.dumps(settings))
    done = train(run, out)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = {line["phase"]: line["learning_rate"] for line in lines if line["kind"] == "train"}
    assert rates["phase1"] == 1e-3 and 0 < rates["phase3"] < rates["phase2"] < 0.3e-3, rates
    # Warm-up was over after two batches of the first size, and counts of steps add up.
    at_peak = [line["learning_rate"] for line in lines if line["kind"] == "train" and line["phase"] == "phase1"]
    assert set(at_peak) == {1e-3}
    last = [line for line in done.stderr.splitlines() if line.startswith("phase3 step ")][-1].split()[2]
    assert len(set(last.split("/"))) == 1, last


def test_one_training_writes_a_folder(small: Path, tmp_path: Path) -> None:
    with lease.held(tmp_path / "out"):
        done = train(small, tmp_path / "out")
    assert done.returncode == 1 and "is being written by process" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".lease"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    done = train(small, tmp_path / "run")
    assert (
        done.returncode == 1 and "is a run of `fox1 curate`; give the checkpoints a folder of their own" in done.stderr
    )


def test_phases_start_only_from_the_end_of_the_one_before(small: Path, tmp_path: Path) -> None:
    done = train(small, tmp_path / "skip", "--phase", "2")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: phase 2 starts from the end of phase 1; train that first"


def test_other_data_is_refused(small: Path, whole: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "run"
    shutil.copytree(small, other)
    path = other / "phases" / "phase1" / "fox1.json"
    path.write_text(path.read_text().replace('"data_identity": "', '"data_identity": "other'))
    out = tmp_path / "checkpoints"
    shutil.copytree(whole, out)
    done = train(other, out)
    assert done.returncode == 1 and "was trained on different phase1 data. Choose another --out" in done.stderr
    assert "documents may repeat or be missed" in done.stderr
    forced = train(other, out, "--force")
    assert forced.returncode == 0 and "--force: continuing although step-" in forced.stderr, forced.stderr


def test_a_training_whose_data_changes_saves_its_state_and_says_so(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from fox1.trainer.loop import Trainer

    other, out = tmp_path / "run", tmp_path / "checkpoints"
    shutil.copytree(small, other)
    described = other / "phases" / "phase1" / "fox1.json"
    step = Trainer._step

    def then_curated_again(trainer: Trainer, *arguments: Any) -> bool:
        taken = step(trainer, *arguments)
        if trainer.progress.step == 3:
            described.write_text(described.read_text().replace('"data_identity": "', '"data_identity": "other'))
        return taken

    monkeypatch.setattr(Trainer, "_step", then_curated_again)
    done = train(other, out)
    assert done.returncode == 1 and checkpoints(out)[-1].name == "step-00000005"
    assert done.stderr.strip().splitlines()[-1] == (
        f"error: {described.parent} has changed since this training opened it, and is not read on; put the data back to "
        "continue, or train in another --out. Step 5 is saved"
    )


def test_nobody_curates_what_a_training_reads(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the run, nor the one that its phases are linked from."""
    from fox1.trainer import train as module

    folders = module._read_folders(small)
    assert folders == sorted({small.resolve(), (small / "phases").resolve().parent}) and len(folders) == 2

    def probe(*arguments: Any) -> bool:
        for folder in folders:
            with pytest.raises(ValueError, match="is being read by a training or by"), lease._without_readers(folder):
                pass
        return True

    monkeypatch.setattr(module, "_run_phases", probe)
    monkeypatch.setattr(module, "checkpoints", lambda out: ["none"])
    done = train(small, tmp_path / "out")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard", "tokenizer.model", "step-00000005", ".lease"])
def test_a_training_writes_through_no_link(name: str, small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".fox1.json").write_text('{"kind": "training"}')
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "manifest.json").write_text("mine")
    (tmp_path / "out" / name).symlink_to(victim)
    done = train(small, tmp_path / "out")
    assert done.returncode == 1 and f"out/{name} is a symbolic link" in done.stderr, done.stderr
    assert [p.name for p in victim.iterdir()] == ["manifest.json"] and (victim / "manifest.json").read_text() == "mine"


def test_a_trace_of_some_steps_is_written(small: Path, tmp_path: Path) -> None:
    import gzip

    out = tmp_path / "out"
    done = train(small, out, "--profile", "2", "--stop-after", "6")
    assert done.returncode == 75, done.stderr
    path = out / "profile" / "trace-rank0.json.gz"
    assert f"trace written to {path}; open it in" in done.stderr
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = [e["name"] for e in events if str(e.get("name", "")).startswith("ProfilerStep#")]
    assert len(set(steps)) == 2
    assert any("scaled_dot_product" in str(e.get("name")) for e in events)


def test_a_terminal_shows_one_live_line_and_what_is_said_above_it(small: Path, tmp_path: Path) -> None:
    import pty

    out = tmp_path / "out"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out), "--stop-after", "10"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(command, env=environment, stderr=theirs, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    assert process.wait() == 75
    text = shown.decode()
    assert "phase1 step 9/" in text and "stopped at step 10; run the same command again to continue" in text
    # Steps are drawn over each other on the terminal; the log has a line for each.
    assert "\x1b[2K" in text
    assert [line for line in (out / "train.log").read_text().splitlines() if line.startswith("phase1 step 9/")]


@pytest.mark.long
def test_weights_and_biases_gets_the_metrics_where_it_is_asked_for(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    out = tmp_path / "out"
    asked = {"WANDB_PROJECT": "fox1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", "fox1", "train", str(small), "--out", str(out), "--stop-after", "10"]
    environment = {**os.environ, **asked}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 75, done.stderr
    (record,) = out.glob("wandb/offline-run-*/run-*.wandb")
    assert (out / "wandb-id").read_text() in record.name
    assert b"train/tokens_per_second" in record.read_bytes()


def test_a_node_that_is_about_to_be_reclaimed_saves_a_checkpoint(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fox1.trainer import loop
    from fox1.trainer.settings import Options
    from fox1.trainer.train import train as train_here

    asked: list[int] = []

    def ask(values: dict[str, object]) -> bool:
        asked.append(int(str(values["step"])))
        if asked[-1] == 10:
            assert not [c for c in checkpoints(tmp_path / "out") if c.name == "step-00000010"]
        return asked[-1] == 10

    monkeypatch.setattr(loop, "LOG_SECONDS", 1e9)
    run = tmp_path / "run"
    run_to_train(small, run, checkpoint_every=1000)
    assert train_here(run, tmp_path / "out", [0, 1], Options(stop_after=14), ask) == 75
    assert asked == [9, 10, 14]
    assert [c.name for c in checkpoints(tmp_path / "out")] == ["step-00000009", "step-00000010", "step-00000014"]
    assert "a node is about to be reclaimed; saving a checkpoint" in (tmp_path / "out" / "train.log").read_text()


def test_a_process_that_lost_another_says_so_in_one_line(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fox1.trainer import train

    def fail(*_: object) -> int:
        raise RuntimeError(said)

    monkeypatch.setattr(train, "train", fail)
    monkeypatch.setattr(sys, "argv", ["train", str(small), str(tmp_path)])
    monkeypatch.setenv("RANK", "1")
    said = "[/build/third_party/gloo/transport/tcp/pair.cc:5] Connection closed by peer [127.0.0.1]:4. Check the logs"
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 1
    expected = "error: process 1 lost another one that it trains with (Connection closed by peer [127.0.0.1]:4)\n"
    assert capsys.readouterr().err == expected
    said = "a size that is wrong"
    with pytest.raises(RuntimeError, match=said):
        train.main()

"""The same training whatever happens to its processes: their number, kills, damaged and half-written checkpoints."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fox1.pipeline.sample import write_sample
from fox1.trainer.checkpoints.checkpoint import checkpoints, read_manifest
from fox1.trainer.launch import run_processes

from tests.conftest import ONE_LAYER, MakeOnce, curate_sample, run_to_train
from tests.trainer.ranks import losses, stopped_server, token_ids, train  # noqa: F401  a fixture

pytestmark = pytest.mark.slow
STEPS = 20


@pytest.fixture(scope="module")
def small(make_once: MakeOnce) -> Path:
    """A run of which 20 steps are the first phase and some of the second, which has blocks of two lengths. Tests only
    read it."""

    def make(folder: Path) -> None:
        write_sample(folder / "corpora", megabytes=4.0)
        changes = ("scale=0.22", "tokenizer.vocab_size=1024", "tokenizer.sample_bytes=1Mi")
        curate_sample(folder / "run", folder / "corpora", *changes)
        paces = {"checkpoint_every": 5, "evaluate_blocks": 4, "micro_batch_tokens": 1024}
        run_to_train(folder / "run", folder / "smaller", ONE_LAYER, 4096, **paces)

    return make_once("elastic", make) / "smaller"


@pytest.fixture(scope="module")
def alone(small: Path, make_once: MakeOnce) -> Path:
    """The checkpoints of one process after those steps. Tests only read them."""

    def make(folder: Path) -> None:
        assert train(small, folder / "ckpt", 1, f"--stop-after={STEPS}") == 75

    return make_once("elastic-alone", make) / "ckpt"


def test_twenty_steps_pass_into_the_second_phase(alone: Path) -> None:
    progress = read_manifest(checkpoints(alone)[-1]).progress
    assert progress.step == STEPS and progress.phase == 1 and len(token_ids(alone, 1)) == STEPS


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.long)])
def test_any_number_of_processes_trains_on_the_same_ids_with_the_same_losses(
    small: Path, alone: Path, tmp_path: Path, world: int
) -> None:
    out = tmp_path / "ckpt"
    assert train(small, out, world, f"--stop-after={STEPS}") == 75
    assert token_ids(out, world) == token_ids(alone, 1)
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)


@pytest.mark.parametrize(("before", "after"), [(2, 3)])
def test_killed_after_eleven_steps_and_finished_on_another_number_of_processes(
    small: Path, alone: Path, tmp_path: Path, before: int, after: int
) -> None:
    out = tmp_path / "ckpt"
    assert train(small, out, before, die="step:12") not in (0, 75)
    assert 5 <= read_manifest(checkpoints(out)[-1]).progress.step <= 10
    killed = token_ids(out, before)
    for rank in range(before):
        Path(f"{out}.record.{rank}").unlink(missing_ok=True)
    assert train(small, out, after, f"--stop-after={STEPS}") == 75
    expected, rest = token_ids(alone, 1), token_ids(out, after)
    assert {**killed, **rest} == expected and len(killed) == 11
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)


def state(checkpoint: Path) -> dict[str, torch.Tensor]:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    file = checkpoint.parent / "state.pt"
    dcp_to_torch_save(checkpoint, file)
    value = torch.load(file, weights_only=True)
    file.unlink()
    return {f"{part}.{k}": v for part in ("model", "guard", "rng") for k, v in value[part].items()}


def test_killed_and_finished_on_as_many_processes_is_equal_bit_for_bit(
    small: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ckpt"
    assert train(small, out, 1, die="step:12") not in (0, 75)
    assert train(small, out, 1, f"--stop-after={STEPS}") == 75
    resumed, uninterrupted = state(checkpoints(out)[-1]), state(checkpoints(alone)[-1])
    assert resumed.keys() == uninterrupted.keys() and "rng.cpu" in resumed
    for name, value in resumed.items():
        assert torch.equal(value.nan_to_num(), uninterrupted[name].nan_to_num()), name
    assert {k: v for k, v in losses(out).items() if k > 15} == {k: v for k, v in losses(alone).items() if k > 15}


def test_a_crash_in_the_middle_of_a_checkpoint_never_loses_the_one_before(
    small: Path, alone: Path, tmp_path: Path
) -> None:
    out, world = tmp_path / "ckpt", 2
    assert train(small, out, world, die="publish:2") not in (0, 75)
    (left,) = checkpoints(out)
    assert read_manifest(left).progress.step == 5
    assert any(p.name == ".step-00000010" for p in out.iterdir())
    assert train(small, out, world, f"--stop-after={STEPS}") == 75
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    assert not any(p.name.startswith(".step") for p in out.iterdir())


def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_used(small: Path, alone: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "ckpt"
    shutil.copytree(alone, out)
    newest, before = checkpoints(out)[-1], checkpoints(out)[-2]
    file = next(newest.glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert train(small, out, 2, f"--stop-after={STEPS}") == 75
    said = (out / "train.log").read_text()
    assert f"{file.name} is damaged" in said and "moved aside, resuming from the previous checkpoint" in said
    assert f"resumed from {before}" in said
    assert (out / f".damaged-{newest.name}").exists()
    assert checkpoints(out)[-1].name == newest.name and losses(out) == pytest.approx(losses(alone), rel=2e-5)


def test_nothing_is_trained_from_nothing_where_all_checkpoints_are_damaged(
    small: Path, alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    out = tmp_path / "ckpt"
    shutil.copytree(alone, out)
    for path in checkpoints(out):
        next(path.glob("*.distcp")).write_bytes(b"")
    assert run_processes([sys.executable, "-m", "fox1.trainer.train", str(small), str(out)], 1) == 1
    assert f"error: no checkpoint in {out} is whole" in capfd.readouterr().err


def test_a_training_begins_from_a_checkpoint_of_another(small: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "ckpt"
    start = checkpoints(alone)[-2]
    assert train(small, out, 2, f"--resume={start}", f"--stop-after={STEPS}") == 75
    assert f"resumed from {start}" in (out / "train.log").read_text()
    last = {STEPS: losses(alone)[STEPS]}
    assert losses(out) == pytest.approx(last, rel=2e-5)
    # Called again, it resumes from its own.
    assert train(small, out, 1, f"--resume={start}", f"--stop-after={STEPS + 1}") == 75
    assert f"resumed from {checkpoints(out)[0]}" in (out / "train.log").read_text()


@pytest.mark.long
def test_torchrun_starts_it_as_well(small: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "ckpt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "fox1.trainer.train", str(small), str(out), "--phases=1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = {step: loss for step, loss in losses(out).items() if step <= 10}
    assert first == pytest.approx({step: losses(alone)[step] for step in first}, rel=2e-5)


@pytest.mark.long
def test_two_agents_of_torchrun_meet_and_train_as_one_process(small: Path, alone: Path, tmp_path: Path) -> None:
    """As on two nodes, which docs/several-nodes.md describes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    out = tmp_path / "ckpt"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
               f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=fox1", "--shutdown-timeout=300", "-m", "fox1.trainer.train",
               str(small), str(out), "--phases=1"]  # fmt: skip
    agents = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "2 processes on cpu" in "".join(said)
    first = {step: loss for step, loss in losses(out).items() if step <= 10}
    assert first == pytest.approx({step: losses(alone)[step] for step in first}, rel=2e-5)


def test_ranks_that_drifted_apart_are_found_before_a_checkpoint(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two replicas (HSDP), one of which changes one of its weights."""
    script = tmp_path / "drifted.py"
    script.write_text(
        "import os\n"
        "from fox1.trainer import loop, train\n"
        "step = loop.Trainer._step\n"
        "def drift(self, *a):\n"
        "    taken = step(self, *a)\n"
        "    if os.environ['RANK'] == '1' and self.progress.step == 7:\n"
        "        next(p for n, p in self.model.named_parameters() if 'mlp.down' in n).to_local().data[0, 0] += 1\n"
        "    return taken\n"
        "loop.Trainer._step = drift\n"
        "train.main()\n"
    )
    run = tmp_path / "run"
    run_to_train(small, run, replicas=2)
    out = tmp_path / "ckpt"
    assert run_processes([sys.executable, str(script), str(run), str(out)], 2) == 1
    error = capfd.readouterr().err
    assert "step 10: rank" in error and "differs from the others in blocks.0.mlp.down.weight" in error
    assert [read_manifest(c).progress.step for c in checkpoints(out)] == [5]

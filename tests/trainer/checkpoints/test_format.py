"""The format of a checkpoint: its names and its manifest, so that checkpoints of earlier versions are read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.distributed as dist
from fox1.trainer.checkpoints.checkpoint import (
    Checkpointer,
    CheckpointManifest,
    TrainingProgress,
    checkpoints,
    load_weights,
    read_manifest,
    verify,
)
from fox1.trainer.checkpoints.export import FACTS, keep_tokenizer
from fox1.trainer.checkpoints.reader import contents
from fox1.trainer.checkpoints.tokenizer_facts import TokenizerFacts
from fox1.trainer.checks.stability import Guard
from fox1.trainer.model.model import Fox1
from fox1.trainer.parallel import build, build_optimizer, start_processes
from fox1.trainer.settings import TrainSettings

SETTINGS = {
    "model": {"layers": 1, "hidden": 8, "intermediate": 8, "heads": 1, "kv_heads": 1, "head_dim": 8},
    "phases": [{"name": "phase1", "tokens": 64, "batch_tokens": 16, "number": 1}],
    "micro_batch_tokens": 16,
    "optimizer": {"learning_rate": 1e-3, "betas": [0.9, 0.95]},
    "schedule": {"warmup_steps": 1},
}
WEIGHTS = {
    "embedding",
    "norm.weight",
    "blocks.0.attention.out.weight",
    "blocks.0.attention.qkv.weight",
    "blocks.0.attention_norm.weight",
    "blocks.0.mlp.down.weight",
    "blocks.0.mlp.gate_up.weight",
    "blocks.0.mlp_norm.weight",
}
MANIFEST = """{
 "progress": {
  "phase": 1,
  "units": 72,
  "step": 9,
  "tokens": 18432,
  "phase_done": false
 },
 "settings": {
  "seed": 1
 },
 "vocab_size": 1024,
 "data": {
  "phase1": "x"
 },
 "files": {
  "__0_0.distcp": "aa"
 },
 "checksum": "39e58f376004a874fe647a6f9a62ab12dc7808b0a62c984a6ddb566bafc24bce"
}"""


def test_a_manifest_of_the_first_version_is_read_and_written_alike(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(MANIFEST)
    manifest = read_manifest(tmp_path)
    progress = TrainingProgress(phase=1, units=72, step=9, tokens=18432)
    assert manifest == CheckpointManifest(progress, {"seed": 1}, 1024, {"phase1": "x"}, {"__0_0.distcp": "aa"})
    assert manifest.to_json() == MANIFEST


def test_the_names_in_a_checkpoint_are_those_of_the_first_version(tmp_path: Path) -> None:
    device = start_processes()
    try:
        settings = TrainSettings.from_json(SETTINGS)
        model = build(settings, 32, device)
        optimizer = build_optimizer(model, settings)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        checkpointer = Checkpointer(tmp_path, 2, 0)
        guard = Guard(6.0, 4, device)
        checkpointer.save(model, optimizer, CheckpointManifest(TrainingProgress(), {}, 32, {}), guard.state())
        checkpointer.finish()
    finally:
        dist.destroy_process_group()
    (folder,) = checkpoints(tmp_path)
    verify(folder, read_manifest(folder))
    names = contents(folder).names
    assert {n.removeprefix("model.") for n in names if n.startswith("model.")} == WEIGHTS
    moments = {n.removeprefix("optimizer.state.") for n in names if n.startswith("optimizer.state.")}
    assert moments == {f"{w}.{part}" for w in WEIGHTS for part in ("exp_avg", "exp_avg_sq", "step")}
    others = {n for n in names if not n.startswith(("model.", "optimizer."))}
    statistics = {f"guard.{name}" for name in ("values", "counts", "skipped", "levels")}
    assert others == {*statistics, "rng.cpu", *(["rng.cuda"] if device.type == "cuda" else [])}
    load_weights(folder, Fox1(settings.model, 32))
    # torch pickles its metadata: a class of ours in it would pin the places of our modules.
    assert b"fox1" not in (folder / ".metadata").read_bytes().replace(str(tmp_path).encode(), b"")


def test_the_facts_beside_the_checkpoints_have_their_names(tmp_path: Path) -> None:
    keep_tokenizer(tmp_path, tmp_path, TokenizerFacts(0, 1, 2, (("user", "a", "b"),)))
    facts = {"pad": 0, "eos": 1, "bos": 2, "chat": [["user", "a", "b"]], "add_bos": True}
    assert json.loads((tmp_path / FACTS).read_text()) == facts

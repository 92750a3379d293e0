"""Where a training continues: at which checkpoint, on which data, and with which settings.

A changed setting is printed as old -> new, recorded in metrics.jsonl and in every later checkpoint, and applies from the
next step on; one that cannot change in the middle of a training is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ..storage import store
from .checkpoints.checkpoint import checkpoints, load, newest_whole, read_manifest, verify
from .loop import WARMUP, Trainer
from .parallel import on_rank_zero, set_optimizer
from .schedule import LearningRateSchedule, warmup_tokens
from .settings import Options

FIXED = {
    "model": "its weights belong to the old one",
    "seed": "its weights and the order of its data began with the old one",
    "phases.order": "its place in the data is counted by the old one",
    "optimizer.name": "the state of its optimizer belongs to the old one",
}
"""Settings that cannot change between two calls, and why."""
SHOWN = 80
"""Characters that are shown of a value."""


def _find_start(root: Path, asked: str, say: Callable[[str], None]) -> Path | None:
    """The verified checkpoint to continue from: the newest whole one of `root`, else what `--resume` names."""
    path, problems = newest_whole(root)
    if path is None and asked != "auto":
        path = store.open_root(asked)
        if checkpoints(path):
            path, problems = newest_whole(path)
        else:
            verify(path, read_manifest(path))
    for problem in problems:
        say(f"{problem}; moved aside, resuming from the previous checkpoint")
    return path


def resume(root: Path, trainer: Trainer, options: Options) -> dict[str, tuple[Any, Any]]:
    """Continue from the newest checkpoint of `root`, or from the one that the options name.

    Returns:
        Key -> (old, new) of the settings that changed since.

    Raises:
        ValueError: it is damaged, was trained on other data, or with a setting that cannot change.
    """
    found = [on_rank_zero(lambda: _find_start(root, options.resume, trainer.say))]
    # One rank reads every byte to verify it; the others take its word.
    dist.broadcast_object_list(found)
    start = found[0]
    if start is None:
        return {}
    manifest, expected = read_manifest(start), trainer.manifest()
    if manifest.vocab_size != expected.vocab_size:
        raise ValueError(
            f"{start} holds a model of {manifest.vocab_size:,} pieces, and the run has {expected.vocab_size:,}; choose another "
            "--out"
        )
    # An imported model was trained with settings that are not known, but for its shape.
    old = manifest.settings if manifest.data else {"model": manifest.settings["model"]}
    if "optimizer" in old:
        # Of a version that had no other.
        old = old | {"optimizer": {"name": "adamw"} | old["optimizer"]}
    changed = changes(old, expected.settings)
    for key, (before, now) in changed.items():
        if why := next((w for name, w in FIXED.items() if f"{key}.".startswith(f"{name}.")), ""):
            raise ValueError(
                f"{start} was trained with {key} {shown(before)}, and now it is {shown(now)}: {why}; put it back, or choose "
                "another --out"
            )
    for name in [p.name for p in trainer.settings.phases][: manifest.progress.phase + 1]:
        # An imported model has seen no data of ours.
        if not manifest.data or manifest.data.get(name) == expected.data[name]:
            continue
        if not options.force:
            raise ValueError(
                f"{start} was trained on different {name} data. Choose another --out, or pass --force to continue at the "
                "same position in the new data (documents may repeat or be missed)"
            )
        trainer.say(f"--force: continuing although {start.name} was trained on different {name} data")
    if load(start, trainer.model, trainer.optimizer, trainer.guard.state()):
        set_optimizer(trainer.optimizer, trainer.settings.optimizer)
        trainer.schedule = _with_old_warmup(trainer, manifest.settings)
        trainer.progress = trainer.saved = manifest.progress
        trainer.levels = int(trainer.guard.levels[0])
        trainer.say(f"resumed from {start}")
        for key, (before, now) in changed.items():
            trainer.say(f"changed since {start.name}: {key} {shown(before)} -> {shown(now)}")
        return changed
    trainer.say(f"starting from the weights of {start}")
    return {}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> (old, new) of settings that differ; those that the old ones lack are of a later version."""
    before, now = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
    before.pop(WARMUP, None)
    return {key: (value, now.get(key)) for key, value in before.items() if value != now.get(key)}


def _flat(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Settings by their dotted keys; phases by their names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "phases" and isinstance(value, list):
            found["phases.order"] = [phase.get("name") for phase in value]
            value = {
                phase.get("name"): {k: v for k, v in phase.items() if k not in ("name", "number")} for phase in value
            }
        if isinstance(value, dict):
            found |= _flat(value, f"{where}{key}.")
        else:
            found[f"{where}{key}"] = value
    return found


def shown(value: Any) -> str:
    """A value of a setting as it is printed."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _with_old_warmup(trainer: Trainer, old: dict[str, Any]) -> LearningRateSchedule:
    """The schedule with the warm-up of the checkpoint: in a batch of another size its steps would be other tokens."""
    schedule, settings = trainer.schedule, trainer.settings.schedule
    stated = {name: old.get("schedule", {}).get(name) for name in ("warmup_steps", "warmup_tokens")}
    if stated != {name: getattr(settings, name) for name in stated}:
        return schedule
    warmup = old.get(WARMUP)
    if not isinstance(warmup, int):  # an earlier version counted steps
        batches = {p["name"]: p["batch_tokens"] for p in old["phases"]}
        spans = [replace(p, batch_tokens=batches.get(p.name, p.batch_tokens)) for p in schedule.phases]
        warmup = warmup_tokens(spans, settings)
    return replace(schedule, warmup=min(warmup, schedule.total))

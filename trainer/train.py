"""Training, from what a run and a folder of checkpoints hold to the last checkpoint: one process, torchrun or Ray Train.

    python -m fox1.trainer.train RUN CKPT [--phases 1,2,3]
    torchrun --nproc-per-node 2 -m fox1.trainer.train ...

Needs torch, numpy and pyarrow only. On CUDA: bf16 compute over fp32 master weights, blocks compiled; on the CPU fp32,
eager. Every phase starts from where the checkpoint stands; a finished phase is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..storage import lease, store
from .checkpoints.checkpoint import (
    Checkpointer,
    TrainingProgress,
    checkpoints,
    load,
    newest_whole,
    read_manifest,
    verify,
)
from .checkpoints.export import TokenizerFacts, keep_tokenizer
from .checks.held_out_loss import open_held_out
from .checks.stability import Guard
from .data.order import PhaseData
from .loop import Stop, Trainer
from .parallel import build, build_optimizer, start_processes
from .schedule import schedule_over
from .settings import STOPPED, Options, TrainSettings
from .watch.metrics import Metrics
from .watch.profile import Profiler

T = TypeVar("T")


def read_settings(run: Path) -> TrainSettings:
    """The training settings of a run.

    Raises:
        ValueError: it has none, or those of another version.
    """
    try:
        return TrainSettings.from_json(json.loads((run / "training.json").read_text()))
    except FileNotFoundError:
        raise ValueError(f"{run} has no training.json; `fox1 curate RECIPE --out {run}` writes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{run}/training.json is damaged ({error}); run `fox1 curate` again to rewrite it") from None


def phase_numbers(settings: TrainSettings, phase: str) -> list[int]:
    """Phases from 0 that `all`, a number from 1 or a name, or some with commas tell.

    Raises:
        ValueError: no such phase.
    """
    count = len(settings.phases)
    if phase == "all":
        return list(range(count))
    names = [p.name for p in settings.phases]
    words = [str(names.index(word) + 1) if word in names else word for word in phase.split(",")]
    if not all(word.isdigit() and 1 <= int(word) <= count for word in words):
        raise ValueError(f"--phase {phase}: give a number from 1 to {count}, {', '.join(names)}, or all")
    return [int(word) - 1 for word in words]


def open_phases(run: Path, settings: TrainSettings) -> list[PhaseData]:
    """The phase sets of a run; their vocabularies agree.

    Raises:
        ValueError: a set is missing, or its shapes do not fit the settings.
    """
    phases = [PhaseData(run / "phases" / p.name, settings.seed) for p in settings.phases]
    for phase, data in zip(settings.phases, phases, strict=True):
        unit, micro = data.unit_tokens, settings.micro_batch_tokens
        if phase.batch_tokens % micro or micro % unit:
            raise ValueError(
                f"{phase.name}: a batch of {phase.batch_tokens} tokens does not split into micro-batches of {micro} "
                f"tokens (units of {unit})"
            )
        if unit > settings.model.max_positions:
            raise ValueError(
                f"{phase.name}: blocks of {unit} exceed the model's {settings.model.max_positions} positions"
            )
        if data.units * unit < phase.batch_tokens:
            raise ValueError(f"{phase.name} holds less than one batch of {phase.batch_tokens} tokens")
    return phases


def _by_rank_zero(work: Callable[[], T]) -> T | None:
    """What rank 0 makes of `work`, there only; what it finds wrong is raised on every rank.

    Raises:
        ValueError: rank 0 raised it, or an OSError.
    """
    made, wrong = None, [""]
    if dist.get_rank() == 0:
        try:
            made = work()
        except (ValueError, OSError) as error:
            wrong = [str(error)]
    dist.broadcast_object_list(wrong)
    if wrong[0]:
        raise ValueError(wrong[0])
    return made


def _start(root: Path, asked: str, say: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from, verified."""
    path, wrong = newest_whole(root)
    if path is None and asked != "auto":
        path = store.open_root(asked)
        if checkpoints(path):
            path, wrong = newest_whole(path)
        else:
            verify(path, read_manifest(path))
    for problem in wrong:
        say(f"{problem}; it was set aside, and training goes on from the one before")
    return path


def resume(root: Path, trainer: Trainer, options: Options) -> None:
    """Go on from the newest checkpoint, or begin from the one that the options name.

    Raises:
        ValueError: it is damaged, or of another model or other data.
    """
    found = [_by_rank_zero(lambda: _start(root, options.resume, trainer.say))]
    # One rank reads every byte to verify it; the others take its word.
    dist.broadcast_object_list(found)
    chosen = found[0]
    if chosen is None:
        return
    manifest, mine = read_manifest(chosen), trainer.manifest()
    if manifest.settings["model"] != mine.settings["model"] or manifest.vocab_size != mine.vocab_size:
        raise ValueError(f"{chosen} holds another model shape; choose another --out")
    for name in [p.name for p in trainer.settings.phases][: manifest.progress.phase + 1]:
        # A model that was imported has seen no data of ours.
        if not manifest.data or manifest.data.get(name) == mine.data[name]:
            continue
        if not options.force:
            raise ValueError(
                f"{chosen} was trained on another {name} than the run holds now; choose another --out, or --force to go "
                "on: blocks are then counted on from where the old data stood, so documents may be seen twice or never"
            )
        trainer.say(f"forced: {name} is not the data that {chosen.name} was trained on")
    if load(chosen, trainer.model, trainer.optimizer, trainer.guard.state()):
        trainer.progress = manifest.progress
        trainer.say(f"resumed from {chosen}")
    else:
        trainer.say(f"begins with the weights of {chosen}")


def train(
    run: Path,
    out: Path,
    numbers: list[int],
    options: Options | None = None,
    ask: Callable[[dict[str, Any]], bool] | None = None,
) -> int:
    """Train the phases `numbers` (from 0) of a run; the exit status.

    Args:
        ask: called on every rank with what is logged; True: save now, the machine is about to go.

    Raises:
        ValueError: the run, a checkpoint or the options do not fit; on every rank.
    """
    options = options or Options()
    settings = read_settings(run)
    if bad := [n + 1 for n in numbers if not 0 <= n < len(settings.phases)]:
        raise ValueError(f"no phase {bad[0]}; the run has phases 1 to {len(settings.phases)}")
    torch.manual_seed(settings.seed)
    standing = dist.is_initialized()
    device = start_processes()
    first = dist.get_rank() == 0
    metrics: Metrics | None = None
    lock = ExitStack()
    profiler: Profiler | None = None
    try:
        # Before anything of another training in the folder is touched, its log for one.
        _by_rank_zero(lambda: lock.enter_context(lease.held(out)))
        metrics = Metrics(out) if first else None
        stop = Stop()
        stop.install()
        phases = open_phases(run, settings)
        facts = phases[0].info
        model = build(settings, facts.vocab_size, device)
        batches = [p.batch_tokens // d.unit_tokens for p, d in zip(settings.phases, phases, strict=True)]
        checkpointer = Checkpointer(out, settings.keep_last, settings.keep_every)
        profiler = Profiler(out / "profile", options.profile, metrics.say if metrics else lambda text: None)
        trainer = Trainer(
            settings=settings,
            model=model,
            optimizer=build_optimizer(model, settings),
            phases=phases,
            held_out=open_held_out(run, settings),
            schedule=schedule_over([d.units for d in phases], batches, settings.schedule),
            checkpointer=checkpointer,
            metrics=metrics,
            device=device,
            stop=stop,
            progress=TrainingProgress(),
            guard=Guard(settings.skip_sigma, settings.skip_window, device),
            profiler=profiler,
            stop_after=options.stop_after,
            ask=ask,
        )
        if first:
            keep_tokenizer(run, out, TokenizerFacts(facts.pad, facts.eos, facts.bos, settings.chat, settings.add_bos))
        resume(out, trainer, options)
        parameters = sum(p.numel() for p in model.parameters())
        trainer.say(
            f"{parameters:,} parameters, {trainer.schedule.total} steps, {dist.get_world_size()} process(es) on {device.type}"
        )
        if not _run_phases(trainer, numbers):
            checkpointer.finish()
            trainer.say(f"stopped at step {trainer.progress.step}; run again to go on")
            return STOPPED
        checkpointer.finish()
        if metrics:
            metrics.say(f"last checkpoint: {checkpoints(out)[-1]}")
        return 0
    finally:
        if profiler:
            profiler.close()
        if metrics:
            metrics.close()
        lock.close()
        if not standing:
            dist.destroy_process_group()


def _run_phases(trainer: Trainer, numbers: list[int]) -> bool:
    """Train what is left of some phases; False if asked to stop before their end.

    Raises:
        ValueError: one comes before the end of the phase it starts from.
    """
    for number in numbers:
        at = trainer.progress
        if number < at.phase or (number == at.phase and at.phase_done):
            trainer.say(f"{trainer.settings.phases[number].name} is done")
            continue
        if not (number == 0 or number == at.phase or (number == at.phase + 1 and at.phase_done)):
            raise ValueError(f"phase {number + 1} starts from the end of phase {number}; train that first")
        if trainer.stops() or not trainer.run_phase(number):
            return False
    return True


def main() -> None:
    """Command of one process (torchrun starts several)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=store.open_root)
    parser.add_argument("out", type=store.open_root)
    parser.add_argument("--phases", default="all", help="all, or numbers from 1 with commas")
    parser.add_argument("--resume", default="auto", help="auto, or a checkpoint to begin from where OUT has none")
    parser.add_argument("--stop-after", type=int, default=0, help="leave after this step")
    parser.add_argument("--force", action="store_true", help="go on although the data has changed")
    parser.add_argument("--profile", type=int, default=0, help="steps to trace")
    a = parser.parse_args()
    try:
        numbers = phase_numbers(read_settings(a.run), a.phases)
        sys.exit(train(a.run, a.out, numbers, Options(a.resume, a.stop_after, a.force, a.profile)))
    except (ValueError, OSError) as error:
        # What every rank finds wrong is said once.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, ValueError):
            print(f"error: {store.shown(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Trains the phases of a run: from its shard sets and the newest checkpoint of a folder to the folder's last checkpoint.

    python -m fox1.trainer.train RUN CKPT [--phases 1,2,3]
    torchrun --nproc-per-node 2 -m fox1.trainer.train ...

Needs torch, numpy and pyarrow only. On CUDA: bf16 compute over fp32 master weights, blocks compiled; on the CPU fp32,
eager. Every phase starts where the checkpoint left off; a finished phase is skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .. import __version__
from ..storage import lease, store
from ..storage.inside import refuse_links
from ..storage.reading import Misshapen, read_json
from ..storage.wording import one_line, say
from .checkpoints.checkpoint import Checkpointer, TrainingProgress, checkpoints, remove_partial
from .checkpoints.export import FACTS, TOKENIZER, keep_tokenizer
from .checkpoints.tokenizer_facts import TokenizerFacts
from .checks.held_out_loss import open_held_out
from .checks.stability import Guard
from .data.order import PhaseData, open_set
from .loop import Trainer
from .memory import settle
from .overrides import override
from .parallel import build, build_optimizer, is_of_others, on_rank_zero, start_processes
from .resume import changes, resume, shown
from .schedule import LearningRateSchedule, PhaseSpan, schedule_over
from .settings import STOPPED, Options, TrainSettings
from .stopping import Stop
from .watch.metrics import LOG, NAME, Metrics
from .watch.profile import Profiler

WRITTEN = ("metrics.jsonl", LOG, NAME, "tensorboard", "wandb-id", "profile", TOKENIZER, FACTS)
"""What a training writes into its folder besides checkpoints."""


def read_settings(run: Path) -> TrainSettings:
    """The training settings of a run.

    Raises:
        ValueError: the run has no training.json, or one that is damaged or of another version.
    """
    path = run / "training.json"
    refuse_links(run, path)
    try:
        return TrainSettings.from_json(read_json(path))
    except FileNotFoundError:
        raise ValueError(f"{run} has no training.json; `fox1 curate RECIPE --out {run}` writes it") from None
    except Misshapen as error:
        raise ValueError(f"{path} is damaged ({error}); run `fox1 curate` again to rewrite it") from None


def phase_numbers(settings: TrainSettings, phase: str) -> list[int]:
    """The phases, counted from 0, that `--phase` asks for: `all`, or numbers from 1 and names, separated by commas.

    Raises:
        ValueError: the run has no such phase.
    """
    count = len(settings.phases)
    if phase == "all":
        return list(range(count))
    names = [p.name for p in settings.phases]
    words = [str(names.index(word) + 1) if word in names else word for word in phase.split(",")]
    if not all(word.isdigit() and 1 <= int(word) <= count for word in words):
        raise ValueError(f"--phase {phase}: choose a number from 1 to {count}, a name ({', '.join(names)}), or all")
    return [int(word) - 1 for word in words]


def open_phases(run: Path, settings: TrainSettings) -> list[PhaseData]:
    """The phase sets of a run, checked against the settings.

    Raises:
        ValueError: a set is missing, or its block lengths or its size do not fit the settings.
    """
    phases = [open_set(run, f"phases/{p.name}", settings.seed) for p in settings.phases]
    micro, positions = settings.micro_batch_tokens, settings.model.max_positions
    for phase, data in zip(settings.phases, phases, strict=True):
        unit = data.unit_tokens
        if phase.batch_tokens % micro or micro % unit:
            raise ValueError(
                f"{phase.name}: a batch of {phase.batch_tokens} tokens must be a whole number of micro-batches of {micro} "
                f"tokens, and a micro-batch a whole number of blocks of {unit}; change the sizes in `training` of the recipe"
            )
        if unit > positions:
            raise ValueError(
                f"{phase.name}: blocks of {unit} tokens are longer than the {positions} positions of the model; choose "
                "shorter blocks for the phase, or a model with more `max_positions`, in the recipe"
            )
        if data.units * unit < phase.batch_tokens:
            raise ValueError(
                f"{phase.name} holds {data.units * unit:,} tokens, less than one batch of {phase.batch_tokens:,}; curate "
                "more tokens for it, or choose a smaller batch in the recipe"
            )
    return phases


def make_schedule(settings: TrainSettings, phases: Sequence[PhaseData]) -> LearningRateSchedule:
    """The learning rate over the whole batches of some phases.

    Raises:
        ValueError: the decay is to begin with a phase that there is not.
    """
    spans = [
        PhaseSpan(p.name, d.units * d.unit_tokens // p.batch_tokens * p.batch_tokens, p.batch_tokens)
        for p, d in zip(settings.phases, phases, strict=True)
    ]
    return schedule_over(spans, settings.schedule)


def train(
    run: Path,
    out: Path,
    numbers: list[int],
    options: Options | None = None,
    ask: Callable[[dict[str, Any]], bool] | None = None,
    stop: Stop | None = None,
) -> int:
    """Train the phases `numbers` (from 0) of a run; the exit status.

    Args:
        ask: called on every rank with what is logged; returns True where the node is about to be reclaimed, so that a
            checkpoint is saved now.
        stop: what else than a signal may ask the training to stop.

    Raises:
        ValueError: the run, a checkpoint or the options do not fit; on every rank.
    """
    options, stop = options or Options(), stop or Stop()
    stored = read_settings(run)
    settings = override(stored, options)
    if absent := [n + 1 for n in numbers if not 0 <= n < len(settings.phases)]:
        raise ValueError(f"there is no phase {absent[0]}; the run has phases 1 to {len(settings.phases)}")
    torch.manual_seed(settings.seed)
    joined = dist.is_initialized()
    device = start_processes()
    with ExitStack() as closing:
        if not joined:
            closing.callback(dist.destroy_process_group)
        # Before anything of another training in the folder is touched, its log for one.
        on_rank_zero(lambda: closing.enter_context(lease.held(out, lease.TRAINING)))
        on_rank_zero(lambda: [closing.enter_context(lease.reading(folder)) for folder in _read_folders(run)])
        on_rank_zero(lambda: _refuse_written_links(out))
        metrics = Metrics(out, options.name) if dist.get_rank() == 0 else None
        if metrics:
            closing.callback(metrics.close)
        profiler = Profiler(out / "profile", options.profile, metrics.say if metrics else lambda text: None)
        closing.callback(profiler.close)
        closing.enter_context(stop.listening())
        trainer = _make_trainer(run, out, settings, options, device, metrics, profiler, stop, ask)
        for line in on_rank_zero(lambda: remove_partial(out)) or ():
            trainer.say(line)
        changed = resume(out, trainer, options)
        if metrics:
            metrics.begin(trainer.progress.step, _facts(run, trainer))
            if changed:
                metrics.write("settings", trainer.progress.step, {"changed": changed})
        parameters, world = sum(p.numel() for p in trainer.model.parameters()), dist.get_world_size()
        trainer.say(
            f"{parameters:,} parameters, {trainer.total_steps} steps, {world} process{'es' if world > 1 else ''} on "
            f"{device.type}"
        )
        for key, (before, now) in changes(asdict(stored), asdict(settings)).items():
            trainer.say(f"for this call: {key} {shown(before)} -> {shown(now)}")
        trainer.say(f"rate {settings.optimizer.learning_rate:.2e}: {trainer.schedule.describe()}")
        finished = _run_phases(trainer, numbers)
        trainer.checkpointer.finish()
        if not finished:
            how = f", without --stop-after {options.stop_after}" if trainer.is_far_enough else ""
            trainer.say(f"stopped at step {trainer.progress.step}; run the same command again to continue{how}")
            return STOPPED
        if metrics:
            metrics.say(f"last checkpoint: {checkpoints(out)[-1]}")
        return 0


def _facts(run: Path, trainer: Trainer) -> dict[str, Any]:
    """How a call trains: on what, with which settings, where."""
    manifest, cuda = trainer.manifest(), trainer.device.type == "cuda"
    return {
        "run": store.shown(str(run)),
        "settings": manifest.settings,
        "data": manifest.data,
        "vocab_size": manifest.vocab_size,
        "processes": dist.get_world_size(),
        "device": torch.cuda.get_device_name(trainer.device) if cuda else "cpu",
        "attention": trainer.model.kernel,
        "torch": torch.__version__,
        "fox1": __version__,
    }


def _refuse_written_links(out: Path) -> None:
    """Raise ValueError where a training would write through a symbolic link."""
    for name in WRITTEN:
        refuse_links(out, out / name)


def _read_folders(run: Path) -> list[Path]:
    """The folders of the runs whose data is read: this one's, and where its phases are a link, the other one's."""
    if isinstance(run, store.Mirrored):
        return [run]
    return sorted({run.resolve(), (run / "phases").resolve().parent})


def _make_trainer(
    run: Path,
    out: Path,
    settings: TrainSettings,
    options: Options,
    device: torch.device,
    metrics: Metrics | None,
    profiler: Profiler,
    stop: Stop,
    ask: Callable[[dict[str, Any]], bool] | None,
) -> Trainer:
    """A training at its very beginning: data opened, model initialised, the run's tokenizer copied beside the checkpoints."""
    phases = open_phases(run, settings)
    facts = phases[0].info
    built, of_memory = settle(settings, facts.vocab_size, device)
    model = build(built, facts.vocab_size, device)
    trainer = Trainer(
        settings=settings,
        model=model,
        optimizer=build_optimizer(model, settings),
        phases=phases,
        held_out=open_held_out(run, settings),
        schedule=make_schedule(settings, phases),
        checkpointer=Checkpointer(out, settings.keep_last, settings.keep_every),
        metrics=metrics,
        device=device,
        stop=stop,
        progress=TrainingProgress(),
        guard=Guard(settings.skip_sigma, settings.skip_window, device, settings.max_skipped),
        profiler=profiler,
        stop_after=options.stop_after,
        ask=ask,
    )
    if metrics:
        keep_tokenizer(run, out, TokenizerFacts(facts.pad, facts.eos, facts.bos, settings.chat, settings.add_bos))
    if of_memory:
        trainer.say(of_memory)
    return trainer


def _run_phases(trainer: Trainer, numbers: list[int]) -> bool:
    """Train what is left of some phases; False if asked to stop before their end.

    Raises:
        ValueError: a phase is asked for before the one it starts from is finished.
    """
    for number in numbers:
        at = trainer.progress
        if number < at.phase or (number == at.phase and at.phase_done):
            trainer.say(f"{trainer.settings.phases[number].name} is already trained")
            continue
        if not (number == 0 or number == at.phase or (number == at.phase + 1 and at.phase_done)):
            raise ValueError(f"phase {number + 1} starts from the end of phase {number}; train that first")
        if trainer.is_far_enough or trainer.stops() or not trainer.run_phase(number):
            return False
    return True


def main() -> None:
    """The command of one process (torchrun starts several)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=store.open_root, help="folder or URL of a finished run")
    parser.add_argument("out", type=store.open_root, help="folder or URL of the checkpoints; resumes from the newest")
    parser.add_argument("--phases", default="all", help="all, or numbers (from 1) and names separated by commas")
    parser.add_argument("--resume", default="auto", help="checkpoint to start from if OUT has none (default: none)")
    parser.add_argument("--stop-after", type=int, default=0, help="stop after this step (default: train to the end)")
    parser.add_argument("--force", action="store_true", help="continue although the data has changed")
    parser.add_argument("--profile", type=int, default=0, help="number of steps to trace into OUT/profile")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of this call; repeatable"
    )
    parser.add_argument("--log-every", type=int, help="steps between reports (default: the setting)")
    parser.add_argument("--name", default="", help="what reports call the training (default: as its folder)")
    parser.add_argument("--checkpoint-minutes", type=float, help="minutes between checkpoints (default: the setting)")
    arguments = parser.parse_args()
    try:
        numbers = phase_numbers(read_settings(arguments.run), arguments.phases)
        options = Options(
            resume=arguments.resume,
            stop_after=arguments.stop_after,
            force=arguments.force,
            profile=arguments.profile,
            set=tuple(arguments.set),
            log_every=arguments.log_every,
            checkpoint_minutes=arguments.checkpoint_minutes,
            name=arguments.name,
        )
        sys.exit(train(arguments.run, arguments.out, numbers, options))
    except (ValueError, OSError) as error:
        # A ValueError is raised on every rank; only rank 0 prints it.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, ValueError):
            say(f"error: {store.shown(one_line(str(error)))}", sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if not is_of_others(error):
            raise
        rank, why = os.environ.get("RANK", "0"), re.sub(r"^\[[^]]*\] ", "", one_line(str(error))).partition(". ")[0]
        say(f"error: process {rank} lost another one that it trains with ({why[:200]})", sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

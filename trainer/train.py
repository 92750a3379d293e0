"""Training, from the first step to the last checkpoint, on one process or under torchrun.

    python -m fox1.trainer.train RUN CKPT [--phases 1,2,3]
    torchrun --nproc-per-node 2 -m fox1.trainer.train ...

Needs torch, numpy and pyarrow only. On CUDA: bf16 compute over fp32 master weights, blocks compiled; on the CPU fp32,
eager. Every phase starts from where the checkpoint stands; a finished phase is skipped.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

import torch
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from .checkpoint import Checkpointer, Manifest, Progress, checkpoints, load, read_manifest, verify
from .data import Loader, MicroBatch, PhaseData
from .export import TokenizerFacts, keep_tokenizer
from .held_out import HeldOut, open_held_out
from .loss import CHUNK
from .metrics import Metrics, peak_flops
from .model import Fox1, flops_per_token
from .schedule import Plan, plan_steps
from .settings import STOPPED, TrainSettings
from .sources import CORPUS, means, sums_by_source
from .stability import Guard

LOG_EVERY = 10


@dataclass
class Stop:
    """Set by a signal; ranks agree on it before they act."""

    asked: bool = False

    def install(self) -> None:
        def handle(number: int, frame: FrameType | None) -> None:
            self.asked = True

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)

    def agreed(self) -> bool:
        flag = torch.tensor([int(self.asked)])
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())


def start_processes() -> torch.device:
    """Join the process group: torchrun's, or one of this process alone."""
    cuda = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if not cuda:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def build(settings: TrainSettings, vocab_size: int, device: torch.device) -> Fox1:
    """The sharded model: one FSDP group per block, one for the tied embedding and the final norm (the root)."""
    model = Fox1(settings.model, vocab_size)
    model.initialise(settings.seed)
    model.to(device)
    world, replicas = dist.get_world_size(), settings.replicas
    if world % replicas:
        raise ValueError(f"training.replicas is {replicas}, which does not divide {world} processes")
    # With replicas, parameters are sharded within each and gradients summed across: less traffic between machines.
    mesh = (
        init_device_mesh(device.type, (replicas, world // replicas), mesh_dim_names=("replicate", "shard"))
        if replicas > 1
        else init_device_mesh(device.type, (world,))
    )
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if device.type == "cuda"
        else MixedPrecisionPolicy()
    )
    for i, block in enumerate(model.blocks):
        # Recomputed in the backward pass: every block, or every second one.
        if settings.activation_checkpointing == "full" or (settings.activation_checkpointing == "selective" and i % 2):
            model.blocks[i] = checkpoint_wrapper(block)
    for block in model.blocks:
        if device.type == "cuda":
            block.compile(fullgraph=True)
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are summed over the global count of targets, so gradients are summed too, on every backend.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def build_optimizer(model: Fox1, settings: TrainSettings) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    o = settings.optimizer
    groups = [{"params": matrices, "weight_decay": o.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=o.learning_rate, betas=o.betas, eps=o.eps, fused=True)


@dataclass
class Trainer:
    """A training under way."""

    settings: TrainSettings
    model: Fox1
    optimizer: torch.optim.AdamW
    phases: list[PhaseData]
    held_out: HeldOut | None
    plan: Plan
    checkpointer: Checkpointer
    metrics: Metrics | None
    device: torch.device
    stop: Stop
    progress: Progress
    guard: Guard
    stop_after: int = 0

    def manifest(self) -> Manifest:
        data = {p.name: d.info.data_identity for p, d in zip(self.settings.phases, self.phases, strict=True)}
        return Manifest(self.progress, asdict(self.settings), self.model.vocab_size, data)

    def save(self) -> None:
        self.checkpointer.save(self.model, self.optimizer, self.manifest(), self.guard.state())

    def run_phase(self, number: int) -> bool:
        """Train phase `number` (from 0) to its end; False if asked to stop before it."""
        phase, data = self.settings.phases[number], self.phases[number]
        batch_units = phase.batch_tokens // data.unit_tokens
        rest = data.units % batch_units
        if self.progress.phase != number or self.progress.phase_done:
            self.progress = Progress(number, 0, self.progress.step, self.progress.tokens)
        self._say(
            f"{phase.name}: {data.units} units of {data.unit_tokens:,} tokens, {self.plan.steps[number]} steps of "
            f"{phase.batch_tokens:,}; {rest} units beyond the last whole batch are not used"
        )
        world, rank = dist.get_world_size(), dist.get_rank()
        micro_units = self.settings.micro_batch_tokens // data.unit_tokens
        with Loader(data, self.progress.units, batch_units, micro_units, rank, world, self.device) as loader:
            return self._run_steps(phase.name, data, batch_units, loader)

    def _run_steps(self, phase: str, data: PhaseData, batch_units: int, loader: Loader) -> bool:
        window = _Window(self.device, len(data.info.sources))
        # Bounded by units, not steps: the batch may have changed since a checkpoint.
        while self.progress.units + batch_units <= data.units:
            self._step(data, batch_units, loader, window)
            step = self.progress.step
            done = self.progress.units + batch_units > data.units
            if step % LOG_EVERY == 0 or done:
                self._log(phase, data, window)
            if self.settings.evaluate_every and step % self.settings.evaluate_every == 0 and not done:
                self.evaluate(phase)
            self.stop.asked |= bool(self.stop_after) and step >= self.stop_after
            if self.stop.agreed() and not done:
                self.save()
                return False
            if step % self.settings.checkpoint_every == 0 and not done:
                if window.targets:
                    self._log(phase, data, window)  # refuses a training that skips step after step before it is saved
                self.save()
        self.progress = replace(self.progress, phase_done=True)
        self.evaluate(phase)
        self.save()
        return True

    def _step(self, data: PhaseData, batch_units: int, loader: Loader, window: _Window) -> None:
        """One optimizer step over the next `batch_units` units."""
        began = time.monotonic()
        batches = loader.next_step()
        valid = torch.tensor([sum(b.valid for b in batches)])
        dist.all_reduce(valid)
        window.data_seconds += time.monotonic() - began
        rate = self.settings.optimizer.learning_rate * self.plan.factor(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        summed = torch.zeros((), device=self.device)
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
            z_loss = self.settings.z_loss
            loss, losses = self.model(batch.tokens, batch.documents, batch.targets, CHUNK, z_loss)
            (loss / valid.item()).backward()
            summed = summed + loss.detach()
            # What is reported is the cross-entropy, so that trainings with and without z-loss compare.
            window.add(losses.sum(), losses, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.optimizer.clip_norm)
        window.norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # The fused optimizer reads this flag on the device, as it does that of a gradient scaler.
        self.optimizer.found_inf = self.guard.judge(summed / valid.item(), window.norm)  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        window.targets += int(valid.item())
        window.rate = rate
        tokens = batch_units * data.unit_tokens
        window.tokens += tokens
        self.progress = replace(
            self.progress,
            units=self.progress.units + batch_units,
            step=self.progress.step + 1,
            tokens=self.progress.tokens + tokens,
        )

    def _log(self, phase: str, data: PhaseData, window: _Window) -> None:
        """Report the steps since the last report: the only place where losses leave the device."""
        sums = torch.stack([window.loss_sum, *window.by_source.reshape(-1)])
        sums = sums.cpu()
        dist.all_reduce(sums)
        loss = float(sums[0]) / window.targets
        skipped, in_a_row = self.guard.counts[1:].tolist()
        if in_a_row >= self.settings.max_skipped:
            raise ValueError(
                f"{in_a_row} steps in a row had a loss or gradient norm that is no number or a spike (step "
                f"{self.progress.step}); lower the learning rate, or raise `training.skip_sigma`; the last checkpoint is "
                "from before"
            )
        by_source = sums[1:].reshape(2, -1).numpy()
        seconds = time.monotonic() - window.began
        rate = window.tokens / seconds
        values = {
            "phase": phase,
            "loss": loss,
            "loss_by_corpus": means(by_source, data.info, CORPUS),
            "learning_rate": window.rate,
            "gradient_norm": float(window.norm),
            "tokens": self.progress.tokens,
            "units": self.progress.units,
            "tokens_per_second": rate,
            "data_wait": window.data_seconds / seconds,
            "skipped_steps": skipped,
        }
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
            values["device"] = name
            values["memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
            peak = peak_flops(name)
            if peak:
                world = dist.get_world_size()
                useful = flops_per_token(
                    self.settings.model, self.model.vocab_size, window.squares / window.local_tokens
                )
                palm = flops_per_token(self.settings.model, self.model.vocab_size, 2 * data.unit_tokens)
                values["mfu"] = rate * useful / peak / world
                values["mfu_palm"] = rate * palm / peak / world
        window.reset()
        if self.metrics:
            self.metrics.write("train", self.progress.step, values)
            self.metrics.say(
                f"{phase} step {self.progress.step}/{self.plan.total} loss {loss:.3f} "
                f"rate {values['learning_rate']:.2e} norm {values['gradient_norm']:.2f} {rate:,.0f} tokens/s"
            )

    def evaluate(self, phase: str) -> None:
        """Report the held-out loss."""
        if self.held_out is None:
            return
        values = {"phase": phase, **self.held_out.measure(self.model, self.device)}
        if self.metrics:
            bits = f", {values['bits_per_byte']:.3f} bits/byte" if "bits_per_byte" in values else ""
            self.metrics.write("held_out", self.progress.step, values)
            self.metrics.say(
                f"{phase} step {self.progress.step}: held-out loss {values['loss']:.3f} nats/token{bits} "
                f"(unigram entropy of the same tokens: {values['unigram_entropy']:.3f})"
            )

    def _say(self, text: str) -> None:
        if self.metrics:
            self.metrics.say(text)


class _Window:
    """Sums since the last report; tensors stay on the device."""

    def __init__(self, device: torch.device, sources: int) -> None:
        self._device, self._sources = device, sources
        self.rate = 0.0
        self.norm = torch.zeros(())
        self.reset()

    def reset(self) -> None:
        # In fp64: counts of tokens pass 2^24 within a window, where fp32 stops counting.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self.by_source = torch.zeros(2, self._sources, dtype=torch.float64, device=self._device)
        self.targets = self.tokens = self.local_tokens = self.squares = 0
        self.data_seconds = 0.0
        self.began = time.monotonic()

    def add(self, loss: torch.Tensor, losses: torch.Tensor, batch: MicroBatch) -> None:
        # A skipped step's loss may be no number; it would hide those of all others.
        self.loss_sum += loss.nan_to_num(0.0, 0.0, 0.0)
        self.by_source += sums_by_source(losses, batch, self._sources).nan_to_num(0.0, 0.0, 0.0)
        self.squares += batch.square_lengths
        self.local_tokens += len(batch.tokens)


def open_phases(run: Path, settings: TrainSettings) -> list[PhaseData]:
    """The phase sets of a run; their vocabularies agree.

    Raises:
        ValueError: a set is missing, or its shapes do not fit the settings.
    """
    phases = [PhaseData(run / "phases" / p.name, settings.seed) for p in settings.phases]
    world = dist.get_world_size()
    for phase, data in zip(settings.phases, phases, strict=True):
        unit, micro = data.unit_tokens, settings.micro_batch_tokens
        if phase.batch_tokens % micro or micro % unit or (phase.batch_tokens // micro) % world:
            raise ValueError(
                f"{phase.name}: a batch of {phase.batch_tokens} tokens does not split into micro-batches of {micro} "
                f"tokens (units of {unit}) for {world} processes"
            )
        if unit > settings.model.max_positions:
            raise ValueError(
                f"{phase.name}: blocks of {unit} exceed the model's {settings.model.max_positions} positions"
            )
        if data.units * unit < phase.batch_tokens:
            raise ValueError(f"{phase.name} holds less than one batch of {phase.batch_tokens} tokens")
    return phases


def resume(root: Path, trainer: Trainer, force: bool) -> None:
    """Go on from the newest checkpoint, if there is one.

    Args:
        force: also where the data is not what it was trained on.

    Raises:
        ValueError: it is damaged, or of another model or other data.
    """
    found = checkpoints(root)
    if not found:
        return
    manifest = read_manifest(found[-1])
    verify(found[-1], manifest)
    mine = trainer.manifest()
    if manifest.settings["model"] != mine.settings["model"] or manifest.vocab_size != mine.vocab_size:
        raise ValueError(f"{found[-1]} holds another model shape; choose another --out")
    for name in [p.name for p in trainer.settings.phases][: manifest.progress.phase + 1]:
        if manifest.data.get(name) == mine.data[name]:
            continue
        if not force:
            raise ValueError(
                f"{found[-1]} was trained on another {name} than the run holds now; choose another --out, or --force to go "
                "on: blocks are then counted on from where the old data stood, so documents may be seen twice or never"
            )
        if trainer.metrics:
            trainer.metrics.say(f"forced: {name} is not the data that {found[-1].name} was trained on")
    load(found[-1], trainer.model, trainer.optimizer, trainer.guard.state())
    trainer.progress = manifest.progress
    if trainer.metrics:
        trainer.metrics.say(f"resumed from {found[-1]}")


def one_trainer(out: Path) -> IO[str]:
    """Hold the folder of checkpoints until the file is closed.

    Raises:
        ValueError: another training writes it.
    """
    file = open(out / ".lease", "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(f"{out} is being written by another training; wait for it, or choose another --out") from None
    return file


def train(run: Path, out: Path, numbers: list[int], stop_after: int = 0, force: bool = False) -> int:
    """Train the phases `numbers` (from 0) of a run; the exit status."""
    try:
        settings = TrainSettings.from_json(json.loads((run / "training.json").read_text()))
    except FileNotFoundError:
        raise ValueError(f"{run} has no training.json; `fox1 curate RECIPE --out {run}` writes it") from None
    if bad := [n + 1 for n in numbers if not 0 <= n < len(settings.phases)]:
        raise ValueError(f"no phase {bad[0]}; the run has phases 1 to {len(settings.phases)}")
    torch.manual_seed(settings.seed)
    device = start_processes()
    metrics = Metrics(out) if dist.get_rank() == 0 else None
    lock = one_trainer(out) if dist.get_rank() == 0 else None
    try:
        stop = Stop()
        stop.install()
        phases = open_phases(run, settings)
        vocab_size = phases[0].info.vocab_size
        model = build(settings, vocab_size, device)
        batches = [p.batch_tokens // d.unit_tokens for p, d in zip(settings.phases, phases, strict=True)]
        plan = plan_steps([d.units for d in phases], batches, settings.schedule)
        checkpointer = Checkpointer(out, settings.keep_last, settings.keep_every)
        optimizer = build_optimizer(model, settings)
        trainer = Trainer(
            settings,
            model,
            optimizer,
            phases,
            open_held_out(run, settings),
            plan,
            checkpointer,
            metrics,
            device,
            stop,
            Progress(),
            Guard(settings.skip_sigma, settings.skip_window, device),
            stop_after,
        )
        if dist.get_rank() == 0:
            facts = phases[0].info
            keep_tokenizer(run, out, TokenizerFacts(facts.pad, facts.eos, facts.bos, settings.chat))
        resume(out, trainer, force)
        if metrics:
            parameters = sum(p.numel() for p in model.parameters())
            metrics.say(
                f"{parameters:,} parameters, {plan.total} steps, {dist.get_world_size()} process(es) on {device.type}"
            )
        for number in numbers:
            at = trainer.progress
            if number < at.phase or (number == at.phase and at.phase_done):
                if metrics:
                    metrics.say(f"{settings.phases[number].name} is done")
                continue
            ready = number == 0 or number == at.phase or (number == at.phase + 1 and at.phase_done)
            if not ready:
                raise ValueError(f"phase {number + 1} starts from the end of phase {number}; train that first")
            if stop.agreed() or not trainer.run_phase(number):
                checkpointer.finish()
                if metrics:
                    metrics.say(f"stopped at step {trainer.progress.step}; run again to go on")
                return STOPPED
        checkpointer.finish()
        if metrics:
            metrics.say(f"last checkpoint: {checkpoints(out)[-1]}")
        return 0
    finally:
        if metrics:
            metrics.close()
        if lock:
            lock.close()
        dist.destroy_process_group()


def main() -> None:
    """Command of one process (torchrun starts several)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phases", default="", help="numbers from 1, comma-separated; default: all")
    parser.add_argument("--stop-after", type=int, default=0)
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.phases:
            numbers = [int(n) - 1 for n in arguments.phases.split(",")]
        else:
            numbers = list(range(len(json.loads((arguments.run / "training.json").read_text())["phases"])))
        sys.exit(train(arguments.run, arguments.out, numbers, arguments.stop_after, arguments.force))
    except (ValueError, OSError) as error:
        # What every rank finds wrong is said once.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, ValueError):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

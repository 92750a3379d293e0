"""The loop over phases and steps, from the first step of a training to its last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from .checkpoints.checkpoint import Checkpointer, CheckpointManifest, TrainingProgress
from .checks.held_out_loss import HeldOutLoss, Stopped
from .checks.sanity import check_weights
from .checks.stability import Guard
from .data.order import Loader, MicroBatch, PhaseData
from .data.source_losses import CORPUS, means, shares
from .model.model import Fox1, flops_per_token
from .parallel import begin_micro_batch, give_up_gathered, on_rank_zero
from .schedule import LearningRateSchedule
from .settings import TrainSettings
from .stopping import Stop
from .watch.metrics import Metrics, peak_flops
from .watch.profile import Profiler
from .watch.window import Window

LOG_SECONDS = 30.0
"""A report is due after so long, however few steps there were."""
WARMUP = "warmup_tokens"
"""Key of a checkpoint's settings: the tokens of its warm-up, which may be stated in steps."""


class DataLost(ValueError):
    """The data of a training cannot be read on. Raised on every rank alike, between two steps."""


@dataclass
class Trainer:
    """A training: its model, its data, and how far it has come."""

    settings: TrainSettings
    model: Fox1
    optimizer: torch.optim.AdamW
    phases: list[PhaseData]
    held_out: HeldOutLoss | None
    schedule: LearningRateSchedule
    checkpointer: Checkpointer
    metrics: Metrics | None
    """None on every rank but 0."""
    device: torch.device
    stop: Stop
    progress: TrainingProgress
    guard: Guard
    profiler: Profiler
    saved: TrainingProgress = field(default_factory=TrainingProgress)
    """How far the newest checkpoint is."""
    saved_at: float = field(default_factory=time.monotonic)
    logged_at: float = field(default_factory=time.monotonic)
    """When a checkpoint was last saved, and when steps were last reported, on this rank's clock."""
    levels: int = 0
    """Levels that the guard had learned when it was last reported."""
    stop_after: int = 0
    ask: Callable[[dict[str, Any]], bool] | None = None
    """Called on every rank alike with what is logged; returns True where a node is about to be reclaimed: save now."""

    def manifest(self) -> CheckpointManifest:
        """What a checkpoint of the present state says of itself."""
        data = {p.name: d.info.data_identity for p, d in zip(self.settings.phases, self.phases, strict=True)}
        settings = asdict(self.settings) | {WARMUP: self.schedule.warmup}
        return CheckpointManifest(self.progress, settings, self.model.vocab_size, data)

    @property
    def is_far_enough(self) -> bool:
        """Whether the step was reached after which this call is to stop."""
        return bool(self.stop_after) and self.progress.step >= self.stop_after

    @property
    def total_steps(self) -> int:
        """Steps at the end of all phases: those taken, and those left in batches of the present size."""
        at = self.progress
        left = sum(p.steps for p in self.schedule.phases[at.phase + 1 :])
        if not at.phase_done:
            unit = self.phases[at.phase].unit_tokens
            left += (self.phases[at.phase].units - at.units) * unit // self.settings.phases[at.phase].batch_tokens
        return at.step + left

    def stops(self) -> bool:
        """Whether any rank was asked to stop, agreed by all. Also publishes a checkpoint that all have finished writing."""
        return self._agree()[0]

    def _agree(self) -> tuple[bool, bool, bool]:
        """Whether to stop, to report, to save a checkpoint, agreed by all ranks: the last two by the clock of rank 0."""
        log_due = save_due = False
        if dist.get_rank() == 0:
            now, minutes = time.monotonic(), self.settings.checkpoint_minutes
            log_due = now - self.logged_at >= LOG_SECONDS
            save_due = minutes > 0 and now - self.saved_at >= 60 * minutes
        flags = torch.tensor([self.stop.asked, self.checkpointer.writing, log_due, save_due], dtype=torch.int64)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        asked, writing, log_due, save_due = map(bool, flags.tolist())
        if not writing:
            self.checkpointer.publish()
        return asked, log_due, save_due

    def save(self) -> None:
        """Start saving a checkpoint, once it is known that all ranks hold the same weights."""
        check_weights(self.model, self.progress)
        self.saved, self.saved_at = self.progress, time.monotonic()
        self.checkpointer.save(self.model, self.optimizer, self.manifest(), self.guard.state())

    def _leave(self, phase: str, data: PhaseData, window: Window) -> bool:
        """Report and save what was trained since the last checkpoint; False, since the phase is not at its end."""
        self._log(phase, data, window)
        if self.progress.step > self.saved.step:
            self.save()
        return False

    def run_phase(self, number: int) -> bool:
        """Train phase `number` (from 0) to its end; False if asked to stop before it."""
        try:
            return self._train_phase(number)
        except DataLost as error:
            saved = self.progress.phase == number and self.progress.units
            if saved:
                self.save()
            self.checkpointer.finish()
            raise ValueError(f"{error}. Step {self.progress.step} is saved" if saved else str(error)) from error

    def _check(self, data: PhaseData) -> None:
        """Is a set still the one that was opened?

        Raises:
            DataLost: it is not.
        """
        try:
            on_rank_zero(data.check)
        except ValueError as error:
            raise DataLost(str(error)) from error

    def _train_phase(self, number: int) -> bool:
        phase, data = self.settings.phases[number], self.phases[number]
        self._check(data)
        batch_units = phase.batch_tokens // data.unit_tokens
        unused = data.units % batch_units
        if self.progress.phase != number or self.progress.phase_done:
            self.progress = TrainingProgress(number, 0, self.progress.step, self.progress.tokens)
            self.guard.begin()
        line = (
            f"{phase.name}: {data.units} units of {data.unit_tokens:,} tokens, {self.schedule.phases[number].steps} steps of "
            f"{phase.batch_tokens:,} tokens"
        )
        if unused:
            line += f"; {unused} unit{'s' if unused > 1 else ''} left over after the last whole batch"
        self.say(line)
        world, rank = dist.get_world_size(), dist.get_rank()
        micro_units = self.settings.micro_batch_tokens // data.unit_tokens
        with Loader(data, self.progress.units, batch_units, micro_units, rank, world, self.device) as loader:
            return self._run_steps(phase.name, data, batch_units, loader)

    def _run_steps(self, phase: str, data: PhaseData, batch_units: int, loader: Loader) -> bool:
        window = Window(self.device, len(data.info.sources))
        # Bounded by units, not steps: the batch may have changed since a checkpoint.
        while self.progress.units + batch_units <= data.units:
            if not self._step(data, batch_units, loader, window):
                return self._leave(phase, data, window)
            self.profiler.step()
            step = self.progress.step
            done = self.progress.units + batch_units > data.units
            asked, log_due, save_due = self._agree()
            if step % self.settings.log_every == 0 or done or log_due:
                self._log(phase, data, window)
            if self.settings.evaluate_every and step % self.settings.evaluate_every == 0 and not (done or asked):
                self._log(phase, data, window)
                asked = not self.evaluate(phase)
                window.reset()
            if (self.is_far_enough or asked) and not done:
                return self._leave(phase, data, window)
            if (step % self.settings.checkpoint_every == 0 or save_due) and not done:
                self._log(phase, data, window)  # refuses a training that skips step after step before it is saved
                self._check(data)
                self.save()
        if not self.evaluate(phase):
            # The phase is not marked as done, so that it is evaluated again.
            return self._leave(phase, data, window)
        self.progress = replace(self.progress, phase_done=True)
        self.save()
        return True

    def _step(self, data: PhaseData, batch_units: int, loader: Loader, window: Window) -> bool:
        """One optimizer step over the next `batch_units` units; False if asked to stop before its end: it was not taken.

        Raises:
            DataLost: a rank could not read its part; no rank has taken the step.
        """
        began, problem = time.monotonic(), ""
        batches: list[MicroBatch] = []
        try:
            batches = loader.next_step()
        except ValueError as error:
            problem = str(error)
        sums = torch.tensor([sum(b.valid for b in batches), int(bool(problem))])
        dist.all_reduce(sums)
        valid, lost = sums.tolist()
        if lost:
            problems = [""] * dist.get_world_size()
            dist.all_gather_object(problems, problem)
            raise DataLost(next(filter(None, problems)))
        window.data_seconds += time.monotonic() - began
        consumed = self.progress.units * data.unit_tokens
        rate = self.settings.optimizer.learning_rate * self.schedule.factor(self.progress.phase, consumed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        summed = torch.zeros((), device=self.device)
        for i, batch in enumerate(batches):
            if i and self.stops():
                give_up_gathered(self.model)
                window.begin_step()
                return False
            begin_micro_batch(self.model, last=i == len(batches) - 1)
            z_loss = self.settings.z_loss
            loss, losses = self.model(batch.tokens, batch.documents, batch.targets, 0, z_loss, self.settings.fp8_head)
            (loss / valid).backward()
            summed = summed + loss.detach()
            # What is reported is the cross-entropy, so that trainings with and without z-loss compare.
            window.add(losses, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.optimizer.clip_norm)
        window.norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # The fused optimizer reads this flag on the device, as it does that of a gradient scaler.
        skipped = self.guard.judge(summed / valid, window.norm)
        self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        window.rate = rate
        tokens = batch_units * data.unit_tokens
        window.end_step(skipped, valid, tokens)
        self.progress = replace(
            self.progress,
            units=self.progress.units + batch_units,
            step=self.progress.step + 1,
            tokens=self.progress.tokens + tokens,
        )
        return True

    def _log(self, phase: str, data: PhaseData, window: Window) -> None:
        """Report the steps since the last report, if any: the only place where losses leave the device."""
        if not window.steps:
            return
        sums = torch.stack([window.loss_sum, *window.by_source.reshape(-1)]).cpu()
        dist.all_reduce(sums)
        targets = float(window.targets)
        skipped, in_a_row, levels = (*self.guard.counts[1:].tolist(), int(self.guard.levels[0]))
        if levels > self.levels:
            self.levels = levels
            self.say(
                f"{phase} step {self.progress.step}: the loss or gradient norm has settled at a higher level; spikes are now "
                "judged by it"
            )
        if in_a_row >= self.settings.max_skipped:
            raise ValueError(
                f"skipped {in_a_row} steps in a row, up to step {self.progress.step}: loss or gradient norm was NaN, infinite "
                "or a spike. The last checkpoint predates them. Lower the learning rate, or raise `training.skip_sigma` (0 skips "
                "only what is not finite)"
            )
        by_source = sums[1:].reshape(2, -1).numpy()
        seconds = time.monotonic() - window.began
        values = {
            "phase": phase,
            # None where every step was skipped.
            "loss": float(sums[0]) / targets if targets else None,
            "loss_by_corpus": means(by_source, data.info, CORPUS),
            "share_by_corpus": shares(by_source, data.info, CORPUS),
            "learning_rate": window.rate,
            "gradient_norm": float(window.norm),
            "tokens": self.progress.tokens,
            "units": self.progress.units,
            "tokens_per_second": window.tokens / seconds,
            "data_wait": window.data_seconds / seconds,
            "skipped_steps": skipped,
            **self._device_values(data, window, window.tokens / seconds),
        }
        window.reset()
        self.logged_at = time.monotonic()
        if self.metrics:
            self.metrics.write("train", self.progress.step, values)
            self.metrics.show_step(self.progress.step, self.total_steps, values)
        if self.ask and self.ask({"step": self.progress.step, **values}):
            self.say(f"step {self.progress.step}: a node is about to be reclaimed; saving a checkpoint")
            self.save()
            self.checkpointer.finish()

    def _device_values(self, data: PhaseData, window: Window, rate: float) -> dict[str, Any]:
        """Memory and utilisation of a GPU: by the FLOPs that documents take, and by those of full blocks (PaLM)."""
        if self.device.type != "cuda":
            return {}
        name = torch.cuda.get_device_name(self.device)
        values: dict[str, Any] = {"device": name, "memory_bytes": torch.cuda.max_memory_allocated(self.device)}
        # Of the steps since the last report, not of the first one, which compiled.
        torch.cuda.reset_peak_memory_stats(self.device)
        peak = peak_flops(name)
        if peak:
            shape, vocabulary = self.settings.model, self.model.vocab_size
            each = rate / peak / dist.get_world_size()
            values["mfu"] = each * flops_per_token(shape, vocabulary, window.squares / window.local_tokens)
            values["mfu_palm"] = each * flops_per_token(shape, vocabulary, 2 * data.unit_tokens)
        return values

    def evaluate(self, phase: str) -> bool:
        """Report the held-out loss, where the run has held-out data; False if asked to stop before its end."""
        if self.held_out is None:
            return True
        for data in filter(None, (self.held_out.data, self.held_out.items)):
            self._check(data)
        try:
            measured = self.held_out.measure(self.model, self.device, self.stops)
        except Stopped:
            self.say(
                f"{phase} step {self.progress.step}: asked to stop; the held-out loss of this step is not measured"
            )
            return False
        values = {"phase": phase, **measured}
        if self.metrics:
            bits = f", {values['bits_per_byte']:.3f} bits/byte" if "bits_per_byte" in values else ""
            if halves := values.get("bits_per_byte_by_half"):
                own = ", ".join(f"{half} {value:.3f}" for half, value in halves.items())
                bits += f", mean of domains set apart {values['bits_per_byte_macro']:.3f} ({own})"
            if "bits_per_byte_items" in values:
                bits += f", right options of benchmark items {values['bits_per_byte_items']:.3f}"
            self.metrics.write("held_out", self.progress.step, values)
            self.say(
                f"{phase} step {self.progress.step}: held-out loss {values['loss']:.3f} nats/token{bits} "
                f"(unigram entropy of the same tokens: {values['unigram_entropy']:.3f})"
            )
        return True

    def say(self, text: str) -> None:
        """Print a line for the user, on rank 0 only."""
        if self.metrics:
            self.metrics.say(text)

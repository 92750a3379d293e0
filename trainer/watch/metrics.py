"""Metrics as JSON lines, a log, TensorBoard and W&B if installed, and a live line on a terminal. Nothing here touches the
device."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ...storage import store
from ...storage.disk import writing
from ...storage.reading import Misshapen, read_bounded
from ...storage.wording import first_line, printable, say
from .live import LiveLine

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by a part of the device's name. For other devices no MFU is reported, rather than a wrong one."""

LOG = "train.log"
"""File in the folder of checkpoints: every line that was printed, by all calls."""
NAME = "name"
"""File in the folder of checkpoints: what the training is called where it is not called as the folder."""
NAME_BYTES = 400
NAMES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}
SHOWN = 200
"""Characters that are shown of an error."""
UPLOAD_SECONDS = 10
"""Seconds between uploads of the files that are appended to, where the folder lies in a store."""


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a device by its name; None for an unknown device."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


def training_name(root: Path) -> str:
    """What a training is called: as the first call with `--name` said, else as its folder."""
    try:
        named = read_bounded(root / NAME, NAME_BYTES).decode(errors="replace").strip()
    except (OSError, Misshapen):
        named = ""
    return printable(named or root.resolve().name)


class Metrics:
    """Writes what rank 0 reports.

    W&B is used only if `WANDB_PROJECT` is set: nothing leaves the machine unasked.

    Args:
        name: what the training is called from now on; empty: what it was called before.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        self._root, self._uploaded = root, time.monotonic()
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            self._file = _appended(root / "metrics.jsonl")
            self._log = _appended(root / LOG)
            if name:
                (root / NAME).write_bytes(name.encode()[:NAME_BYTES])
        self.name = training_name(root)
        self._begun = False
        self._run: tuple[int, dict[str, Any]] | None = None
        """The step that this call begins after, and how it trains, until something is reported."""
        self._board: Any = None
        self._wandb: Any = None
        self._live: LiveLine | None = None
        if sys.stderr.isatty():
            self._live = LiveLine(sys.stderr)

    def begin(self, step: int, facts: Mapping[str, Any] | None = None) -> None:
        """Open TensorBoard and W&B after step `step`: what TensorBoard holds of later ones is replaced.

        Args:
            facts: how this call trains, with the whole configuration; goes into all of them.
        """
        self._begun = True
        facts = {"name": self.name, **(facts or {})}
        self._run = (step, facts)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            pass
        else:
            # Before its thread starts: it may fail at the first byte.
            threading.excepthook = _silence_tensorboard
            folder = str(self._root / "tensorboard")
            with self._dispensable("tensorboard"), writing(self._root / "tensorboard"):
                self._board = SummaryWriter(folder, purge_step=step + 1)
                # Indented, as Markdown has what is to be shown as it stands.
                text = json.dumps(_as_json(facts), indent=1).replace("\n", "\n    ")
                self._board.add_text("run", f"    {text}", step)
        if os.environ.get("WANDB_PROJECT"):
            try:
                import wandb
            except ImportError:
                self.say("WANDB_PROJECT is set, but wandb is not installed: pip install wandb")
                return
            with self._dispensable("wandb"):
                # One W&B run for one folder of checkpoints, however often it is resumed.
                identity = _wandb_id(self._root)
                run = self._wandb = wandb.init(dir=str(self._root), name=self.name, id=identity, resume="allow")
                # A resumed run may have other settings, which W&B refuses unless it is allowed.
                run.config.update(_as_json(facts), allow_val_change=True)

    @contextmanager
    def _dispensable(self, name: str) -> Iterator[None]:
        """A block that writes to TensorBoard or W&B: if it fails, nothing more goes there, and the training continues."""
        try:
            yield
        except Exception as error:
            if name == "wandb":
                self._wandb = None
            else:
                self._board = None
            self.say(
                f"warning: {NAMES[name]} failed, and gets no more metrics ({printable(first_line(error))[:SHOWN]}); the training "
                "continues, and metrics.jsonl has them all"
            )

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append one record; nested mappings become `a/b` in TensorBoard and W&B."""
        if not self._begun:
            self.begin(step - 1)
        if self._run:
            self._append_record("run", *self._run)
            self._run = None
        self._append_record(kind, step, values)
        numbers = {}
        for name, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                if isinstance(number, int | float) and math.isfinite(number):
                    numbers[f"{kind}/{name}{'/' if part else ''}{part}"] = number
        if self._board is not None:
            with self._dispensable("tensorboard"), writing(self._root / "tensorboard"):
                for name, number in numbers.items():
                    self._board.add_scalar(name, number, step)
        if self._wandb is not None:
            with self._dispensable("wandb"):
                self._wandb.log(numbers, step=step)

    def show_step(self, step: int, total: int, values: dict[str, Any]) -> None:
        """Show the state of the training: in place on a terminal, else as a line."""
        shown = (
            f"loss {_shown(values['loss'], '.3f')} rate {values['learning_rate']:.2e} "
            f"norm {_shown(values['gradient_norm'], '.2f')} "
            f"{values['tokens_per_second']:,.0f} tokens/s"
        )
        if "mfu" in values:
            shown += f" MFU {values['mfu']:.1%}"
        if values["skipped_steps"]:
            shown += f" {values['skipped_steps']} skipped"
        line = f"{values['phase']} step {step}/{total} {shown}"
        if self._live is None:
            self.say(line)
        else:
            self._append(self._log, line)
            self._live.update(values["phase"], step, total, shown)

    def _append_record(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        line = _as_json({"kind": kind, "step": step, "time": time.time(), **values})
        self._append(self._file, json.dumps(line, allow_nan=False))

    @staticmethod
    def _append(file: IO[bytes], line: str) -> None:
        """Append a line, unbuffered.

        Raises:
            OSError: the file cannot be written.
        """
        with writing(Path(file.name)):
            rest = memoryview(f"{line}\n".encode())
            while rest:
                rest = rest[file.write(rest) :]

    def say(self, text: str) -> None:
        """Print a line for the user, and append it to the log beside the checkpoints."""
        text = printable(store.shown(text))
        self._append(self._log, text)
        if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self.upload()
        if self._live is None:
            say(text, sys.stderr)
        else:
            self._live.print(text)

    def upload(self) -> None:
        """Upload the files that are appended to, if the folder lies in a store."""
        self._uploaded = time.monotonic()
        if isinstance(self._root, store.Mirrored):
            for path in self._root.local.rglob("*"):
                if path.name in ("metrics.jsonl", LOG) or "tensorboard" in path.parts:
                    store.upload(store.as_path(path), grows=True)

    def close(self) -> None:
        """Close the files and upload them."""
        # Why a training ends must not be replaced by what fails here, the log included.
        if self._board is not None:
            with suppress(OSError), self._dispensable("tensorboard"):
                self._board.close()
        if self._wandb is not None:
            with suppress(OSError), self._dispensable("wandb"):
                self._wandb.finish()
        self._file.close()
        self._log.close()
        if self._live is not None:
            self._live.close()
        self.upload()


def _as_json(value: Any) -> Any:
    """A value with null for numbers that JSON does not have: NaN and the infinite ones."""
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(number: float | None, form: str) -> str:
    """A number as it is shown; `-` where there is none."""
    return "-" if number is None or not math.isfinite(number) else f"{number:{form}}"


def _silence_tensorboard(error: threading.ExceptHookArgs) -> None:
    """Print no traceback of TensorBoard's thread: its error is raised again where the next value is added."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(error)


def _appended(path: Path) -> IO[bytes]:
    """A file to append lines to, unbuffered; a last line that a full disk cut off is ended first."""
    file = open(path, "a+b", buffering=0)
    os.utime(file.fileno())  # what the store has of it is soon not all
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return file


def _wandb_id(root: Path) -> str:
    """The id of the W&B run, kept beside the checkpoints so that a resumed training continues it."""
    path = root / "wandb-id"
    if not path.exists():
        path.write_text(os.urandom(4).hex())
    return path.read_text()

"""Checkpoints: distributed, asynchronous, with checksums, and either complete or absent.

    CKPT/step-00000120/   distributed checkpoint files, and manifest.json, written last
    CKPT/.step-00000120/  being written; never read

The state is (phase, units consumed, step); nothing is kept per rank, so batch and world size may change anywhere. The
manifest names the data that each phase was trained on, and has a checksum of every file.

Saving runs on a gloo group of its own: on the training group it can interleave with collectives and hang.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from ...storage import store
from ...storage.disk import refusal, writing
from ...storage.inside import named, refuse_links
from ...storage.lease import allow_write
from ...storage.reading import Misshapen, open_regular, read_json, typed
from ...storage.wording import first_line, printable
from ..parallel import on_rank_zero
from .reader import DATA_FILE, METADATA, METADATA_BYTES, contents, load_state

MANIFEST_BYTES = 16 << 20
"""A manifest names a few files for each process."""

ASIDE = "damaged-manifest.json"
"""In a store, the manifest of a checkpoint that was moved aside."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training has come."""

    phase: int = 0
    """Counted from 0: the phase that the next step belongs to, or that was just finished."""
    units: int = 0
    """Units of the phase that were consumed."""
    step: int = 0
    """Steps over all phases: what names a checkpoint."""
    tokens: int = 0
    """Tokens over all phases."""
    phase_done: bool = False


@dataclass(frozen=True)
class CheckpointManifest:
    """`manifest.json`: what a checkpoint is."""

    progress: TrainingProgress
    settings: dict[str, Any]
    vocab_size: int
    data: dict[str, str]
    """Phase -> data identity of the set that it was (or is being) trained on; empty for an imported model."""
    files: dict[str, str] = field(default_factory=dict)
    """File name -> SHA-256."""

    def to_json(self) -> str:
        value = asdict(self)
        return json.dumps({**value, "checksum": _checksum(value)}, indent=1)


def _checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest's contents: a wrong digit in it would resume from somewhere else, unnoticed."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _folder(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def read_manifest(checkpoint: Path) -> CheckpointManifest:
    """The manifest of a checkpoint folder.

    Raises:
        ValueError: the folder is not a whole checkpoint.
    """
    try:
        value = read_json(checkpoint / "manifest.json", MANIFEST_BYTES)
        if not isinstance(value, dict) or value.pop("checksum", "") != _checksum(value):
            raise ValueError("manifest.json does not match its checksum")
        manifest = typed(CheckpointManifest, value)
        progress = manifest.progress
        if min(manifest.vocab_size, progress.phase, progress.units, progress.step, progress.tokens) < 0:
            raise ValueError("manifest.json has a negative number")
        return manifest
    except (OSError, ValueError) as error:
        raise ValueError(f"{checkpoint} is not a whole checkpoint ({error})") from None


def refuse_run(folder: Path) -> None:
    """Raise ValueError for a run of `fox1 curate` where a folder of checkpoints is wanted."""
    if (folder / "recipe.yaml").exists():
        raise ValueError(f"{folder} is a run, not a folder of checkpoints; give the --out of `fox1 train` instead")


def verify(checkpoint: Path, manifest: CheckpointManifest) -> None:
    """Raise ValueError naming the first file that does not match its checksum.

    No more is read than the metadata accounts for, and no file outside the checkpoint.
    """
    for name in manifest.files:
        if name != METADATA and not DATA_FILE.fullmatch(name):
            raise ValueError(
                f"{checkpoint} is damaged: {printable(name[:100])} is not the name of a file that it can have"
            )
    sizes = {METADATA: METADATA_BYTES}
    # The metadata first: it says how long the others are.
    for name in sorted(manifest.files, key=lambda n: n != METADATA):
        path = named(checkpoint, name)
        if not _matches(path, sizes.get(name, 0), manifest.files[name]):
            raise ValueError(f"{path} is damaged: it is missing, or does not match its checksum")
        if name == METADATA:
            sizes |= contents(checkpoint).file_bytes


def _matches(path: Path, most: int, expected: str) -> bool:
    """Whether a file has at most `most` bytes and this SHA-256."""
    try:
        return path.stat().st_size <= most and _sha256(path) == expected
    except (FileNotFoundError, Misshapen):
        return False


def checkpoints(root: Path) -> list[Path]:
    """Finished checkpoints, oldest first.

    Raises:
        ValueError: one of them is a symbolic link.
    """
    found = sorted(root.glob("step-*"))
    for path in found:
        refuse_links(root, path / "manifest.json")
    return [path for path in found if (path / "manifest.json").exists()]


def newest_whole(root: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and what is wrong with newer ones.

    Newer ones are moved aside as `.damaged-step-N`; training repeats what they held.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    problems: list[str] = []
    found = checkpoints(root)
    for path in reversed(found):
        try:
            verify(path, read_manifest(path))
        except ValueError as error:
            problems.append(str(error))
        else:
            for damaged in found[found.index(path) + 1 :]:
                _move_aside(damaged)
            return path, problems
    if problems:
        raise ValueError(
            f"no checkpoint in {root} is whole: {problems[0]}; remove its checkpoints to start over, or choose another --out"
        )
    return None, []


def remove_partial(root: Path) -> list[str]:
    """Remove what killed calls left of checkpoints that they were writing; a line for each. None may be being written now.

    Raises:
        ValueError: one of them is a symbolic link.
    """
    # In a store, where nothing can be renamed, they lack a manifest; of one that was moved aside, something is kept.
    marks = ("manifest.json", ASIDE)
    found = (
        [p for p in root.glob("step-*") if not any((p / name).exists() for name in marks)]
        if isinstance(root, store.Mirrored)
        else sorted(root.glob(".step-*"))
    )
    for path in found:
        refuse_links(root, path)
        allow_write(path)
        store.remove_tree(path)
    return [f"removed {path.name}, a checkpoint that was not finished" for path in found]


def _move_aside(checkpoint: Path) -> None:
    """Make a damaged checkpoint invisible, without losing what is left of it."""
    allow_write(checkpoint)
    if isinstance(checkpoint, store.Mirrored):
        (checkpoint / ASIDE).write_bytes((checkpoint / "manifest.json").read_bytes())
        (checkpoint / "manifest.json").unlink()
        return
    aside = checkpoint.with_name(f".damaged-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Checkpointer:
    """Saves at most one checkpoint at a time; keeps the last few, every n-th, and those at the end of a phase.

    Neither writing nor publishing holds up the training: each rank writes and hashes its files in a thread; once all have
    written, rank 0 writes the manifest and gives the checkpoint its name, in a thread as well.
    """

    def __init__(self, root: Path, keep_last: int, keep_every: int) -> None:
        self._root, self._keep_last, self._keep_every = root, keep_last, keep_every
        self._group = dist.new_group(backend="gloo")
        # From a GPU the state is copied into pinned memory, which is kept for the next save.
        self._stager = BlockingAsyncStager(cache_staged_state_dict=True) if torch.cuda.is_available() else None
        self._pending: tuple[Any, CheckpointManifest] | None = None
        self._thread = ThreadPoolExecutor(1, "publish")
        self._published: Future[None] | None = None

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        manifest: CheckpointManifest,
        guard: dict[str, torch.Tensor],
    ) -> None:
        """Start saving; the state is copied before this returns. Waits for an earlier save that is still running."""
        self.finish()
        folder = _working(_folder(self._root, manifest.progress.step))
        on_rank_zero(lambda: allow_write(folder))
        # What a killed attempt left; on nodes that share no disk each removes its own.
        if dist.get_rank() == 0:
            shutil.rmtree(str(folder), ignore_errors=True)
        dist.barrier(self._group)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        state = {**_state(model, optimizer), "guard": guard, "rng": _rng()}
        written = dcp.async_save(state, checkpoint_id=str(folder), process_group=self._group, async_stager=self._stager)
        self._pending = (self._thread.submit(self._finish_part, written, folder), manifest)

    @staticmethod
    def _finish_part(written: Any, folder: Path) -> dict[str, str]:
        """Checksums of what this rank wrote, once it is written; runs in a thread.

        Raises:
            ValueError: a disk cannot be written; on every rank alike.
        """
        try:
            written.result()
        except CheckpointException as error:
            raise ValueError(_why_not_written(folder, next(iter(error.failures.values()))[0])) from error
        rank = dist.get_rank()
        return _finished(folder, (f"__{rank}_", ".metadata") if rank == 0 else (f"__{rank}_",))

    @property
    def writing(self) -> bool:
        """Whether this rank is still writing its part of a checkpoint."""
        return self._pending is not None and not self._pending[0].done()

    def publish(self) -> None:
        """Start publishing what is written, if anything is: manifest, then name. No rank may be `writing`."""
        if self._pending is None:
            return
        future, manifest = self._pending
        self._pending = None
        parts: list[dict[str, str]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, future.result(), group=self._group)
        if dist.get_rank() == 0:
            files = {name: value for part in parts for name, value in sorted(part.items())}
            self._published = self._thread.submit(self._give_name, replace(manifest, files=files))

    def finish(self) -> None:
        """Wait for a save that is still running, and publish it."""
        if self._pending is not None:
            self._pending[0].result()
            self.publish()
        if self._published is not None:
            self._published.result()
            self._published = None
        dist.barrier(self._group)

    def _give_name(self, manifest: CheckpointManifest) -> None:
        _publish(_folder(self._root, manifest.progress.step), manifest)
        self._prune()

    def _prune(self) -> None:
        every = checkpoints(self._root)
        phase_ends = {p for p in every if _ends_a_phase(p)}
        for path in every[: -self._keep_last]:
            step = int(path.name.removeprefix("step-"))
            if path not in phase_ends and not (self._keep_every and step % self._keep_every == 0):
                # The manifest first, so that a reader never finds half a checkpoint.
                allow_write(path / "manifest.json")
                (path / "manifest.json").unlink()
                store.remove_tree(path)


def _why_not_written(folder: Path, error: BaseException) -> str:
    """Why a checkpoint could not be written, in one line; for a full disk `torch.save` may give a wrong file position only."""
    if isinstance(error, OSError) and (reason := refusal(folder, error)):
        return reason
    line = f"{type(error).__name__}: {first_line(error)}"
    return f"{folder} cannot be written ({line}); is the disk full? Make room, and run the same command again"


def _ends_a_phase(checkpoint: Path) -> bool:
    """Whether a checkpoint ends a phase. Also true for an unreadable one, so that it is not removed for its age."""
    try:
        return read_manifest(checkpoint).progress.phase_done
    except ValueError:
        return True


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, guard: dict[str, torch.Tensor]) -> bool:
    """Load weights, optimizer state, statistics of skipped steps and random state, saved by any number of processes.

    Returns:
        False if the checkpoint holds only a model (an imported one): then only the weights are loaded.
    """
    if dist.get_node_local_rank(0) == 0:
        store.fetch_tree(checkpoint)
    dist.barrier()
    held = contents(checkpoint)
    names = held.names
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    state: dict[str, Any] = _state(model, optimizer)
    whole = any(name.startswith("optimizer.") for name in names)
    if whole:
        # What an earlier version did not save, or saved of a window of another length, begins again.
        fitting = {k: v for k, v in guard.items() if held.shapes.get(f"guard.{k}") == tuple(v.shape)}
        # Only for devices that the checkpoint has a state of: one saved on a CPU has none of a GPU.
        state |= {"guard": fitting, "rng": {k: v for k, v in _rng().items() if f"rng.{k}" in names}}
        load_state(checkpoint, state)
        set_state_dict(
            model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=options
        )
        _set_rng(state["rng"])
    else:
        load_state(checkpoint, {"model": state["model"]})
        set_model_state_dict(model, state["model"])
    return whole


def _rng() -> dict[str, torch.Tensor]:
    """States of the random generators, by device; alike on all ranks, which start from one seed."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_rng(states: dict[str, torch.Tensor]) -> None:
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    weights, moments = get_state_dict(model, optimizer, options=options)
    return {"model": weights, "optimizer": moments}


def write_whole(
    root: Path, model: nn.Module, progress: TrainingProgress, settings: dict[str, Any], vocab_size: int
) -> Path:
    """Write a model without optimizer state as a checkpoint, from this process alone; the folder."""
    final = _folder(root, progress.step)
    folder = _working(final)
    allow_write(folder)
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    with alone():
        dcp.save({"model": model.state_dict()}, checkpoint_id=str(folder), no_dist=True)
    _publish(final, CheckpointManifest(progress, settings, vocab_size, {}, _finished(folder, ("__", ".metadata"))))
    return final


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Load only the weights of a checkpoint, in this process alone."""
    store.fetch_tree(checkpoint)
    state = {"model": model.state_dict()}
    with alone():
        load_state(checkpoint, state, no_dist=True)
    model.load_state_dict(state["model"])


@contextmanager
def alone() -> Iterator[None]:
    """Without torch's warning that only a single process takes part: that is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _working(final: Path) -> Path:
    """Where a checkpoint is written. A store has no rename: there the manifest, written last, completes it."""
    return final if isinstance(final, store.Mirrored) else final.with_name(f".{final.name}")


def _publish(final: Path, manifest: CheckpointManifest) -> None:
    """Write the manifest of a checkpoint whose files are all written, and give the folder its name."""
    folder = _working(final)
    allow_write(final)
    with writing(final):
        (folder / "manifest.json").write_text(manifest.to_json())
        if folder != final:
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)


def _finished(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Upload what this node wrote of a checkpoint (files whose names begin so), if it goes to a store; their checksums."""
    written = sorted(store.as_path(p) for p in Path(str(folder)).iterdir() if p.name.startswith(names))
    for path in written:
        store.upload(path)
    return {path.name: _sha256(path) for path in written}

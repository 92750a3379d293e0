"""fox1 from Python: curate a recipe, open a run, load a phase. The commands of the same names call these.

summary = fox1.curate("mini", "/runs/mini", changes=["scale=0.001"])
run = fox1.open_run("/runs/mini")
run.stats["mixture"], run.why("pile/train/00.jsonl.zst#12"), run.decisions().to_table(columns=["reason"])
blocks = fox1.load_phase(run, "phase1")            # a datasets.DatasetDict, a split per block length
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands.show.stats import read_stats
from .pipeline.engine.on_ray import ray_session
from .pipeline.engine.records import record_run
from .pipeline.engine.tasks import Engine, Executor, InProcess, Progress, Silent
from .pipeline.inspect import lookup, provenance
from .pipeline.inspect.run import FinishedRun, phase_names, shard_set
from .pipeline.mix.lookup_index import KINDS
from .pipeline.run.artifacts import STAGES, RunPaths
from .pipeline.run.identity import SourceFile
from .pipeline.sources.listing import list_sources
from .storage import store

if TYPE_CHECKING:
    import datasets
    import pyarrow.dataset

    from .pipeline.curate import Summary

LEAST_MEMORY = 512 << 20
"""Bytes that a task needs."""


def session(address: str | None, workers: int | None, in_process: bool) -> AbstractContextManager[Executor]:
    """Where tasks run: a cluster (or one of this machine for as long as the block), or this process."""
    return nullcontext(InProcess()) if in_process else ray_session(address, workers)


def curate(
    recipe: str | Path,
    out: str | Path,
    *,
    changes: Sequence[str] = (),
    stages: Sequence[str] = (),
    limit: float = 1.0,
    address: str | None = None,
    workers: int | None = None,
    in_process: bool = False,
    against: str | Path | None = None,
    memory: int = 1 << 30,
    progress: Progress | None = None,
) -> Summary:
    """Run the stages of a recipe that are not finished in a run's folder.

    Args:
        recipe: a YAML file, or the name of one of the package (`fox1`, `mini`, `sample`).
        out: folder or URL of the run; an unfinished one is resumed.
        changes: `key=value`, as `--set` takes them.
        stages: up to these; none: all.
        limit: share of whole source files to use, by seed.
        address: of a running Ray cluster; None: one of this machine.
        workers: local processes; None: one per core.
        in_process: one process, without Ray. The bytes are the same.
        against: a finished run; documents that duplicate its are dropped.
        memory: bytes that a task of dedupe may take; no result depends on it.
        progress: what is told of stages and tasks; None: nothing is.

    Raises:
        ValueError: a bad recipe, bad input, a budget that cannot be met or a failed task; one line.
        OSError: the folder of the run cannot be written.
    """
    # Here, so that a look at a run does not wait for the stages and the schema of recipes.
    from .pipeline.curate import curate as run_stages
    from .pipeline.run.manifest import run_files
    from .recipes.load import load_recipe
    from .recipes.settings import curate_settings, training_json

    parsed, resolved = load_recipe(str(recipe), changes)
    settings = curate_settings(parsed, limit)
    if against:
        settings = replace(settings, against=str(store.open_root(against)))
    if memory < LEAST_MEMORY:
        raise ValueError(f"{memory >> 20} MiB of memory are less than the 512 MiB that a task needs")
    paths, chosen, began = RunPaths(store.open_root(out)), tuple(stages) or STAGES, time.time()
    for source in settings.sources:
        root = Path(source.root).absolute() if source.root and "://" not in source.root else None
        if root and root in (paths.root, *paths.root.parents):
            raise ValueError(
                f"--out {paths.root} lies in the data of {source.corpus} ({root}): give the run another folder"
            )
    with session(address, workers, in_process) as executor:
        engine = Engine(paths, executor, progress or Silent(), memory)
        cores = executor.cores
        summary = run_stages(settings, engine, chosen, run_files(paths, resolved, training_json(parsed)))
    reused = sum(n for n, _ in summary.reused.values())
    record_run(paths, began, cores, summary.seconds, reused, set(chosen) == set(STAGES))
    return summary


class Run:
    """A finished run: its statistics and tables, and what became of each document and token."""

    def __init__(self, root: Path) -> None:
        self.paths = RunPaths(root)
        self._opened = FinishedRun(self.paths, self._listed)

    def __repr__(self) -> str:
        return f"Run({store.shown(self.paths.root)!r}: {', '.join(self.phases)})"

    def _listed(self) -> list[SourceFile]:
        from .recipes.load import stored_recipe
        from .recipes.settings import curate_settings

        settings = curate_settings(stored_recipe(self.paths.recipe)[0])
        return list_sources(settings.sources, settings.id_salt)

    @property
    def phases(self) -> list[str]:
        """Names of the phases, in order."""
        return phase_names(self.paths)

    @cached_property
    def stats(self) -> dict[str, Any]:
        """What `fox1 stats --json` prints: funnel, filter, overlap, dedupe, mixture and more, by name."""
        return read_stats(self.paths.root)

    def decisions(self) -> pyarrow.dataset.Dataset:
        """One row per document: kept, reason, reasons, duplicate_of, similarity, kind, cluster_size."""
        return self._table("decisions")

    def signals(self) -> pyarrow.dataset.Dataset:
        """One row per document: hashes, language, quality and every signal that the scan took."""
        return self._table("signals")

    def _table(self, part: str) -> pyarrow.dataset.Dataset:
        import pyarrow.dataset

        names = sorted(n for n in self._opened.manifest["artifacts"] if n.startswith(f"{part}/"))
        return pyarrow.dataset.dataset([os.fspath(self.paths.root / n) for n in names], format="parquet")

    def why(self, document: str) -> provenance.Why:
        """Signals, failed rules, decision and blocks of a document, named `corpus/file#row` or by its id.

        Raises:
            ValueError: the run has no such document.
        """
        return provenance.why(self._opened, document)

    def trace(self, phase: str | int, block: int, length: int = 0, source: bool = False) -> list[provenance.Traced]:
        """The documents of a block with the bytes it was made of; see `pipeline.provenance.trace`."""
        return provenance.trace(self._opened, phase, block, length, source)

    def find(self, **by: str) -> list[lookup.Found]:
        """Documents by one of `url`, `id`, `hash` or `text`, and whether they were trained on.

        Raises:
            ValueError: not one of these is given.
        """
        if len(by) != 1 or not set(by) <= {*KINDS, "text"}:
            raise ValueError(f"find takes one of {', '.join(KINDS)} and text")
        return lookup.find(self._opened, *next(iter(by.items())))

    def find_listed(self, exclude: str) -> lookup.Listed:
        """The documents that an exclude list names, and their copies."""
        return lookup.find_listed(self._opened, exclude)


def open_run(run: str | Path) -> Run:
    """Open a finished run, in a folder or a store.

    Raises:
        ValueError: there is none.
    """
    return Run(store.open_root(run))


def load_phase(run: str | Path | Run, phase: str | int) -> datasets.DatasetDict:
    """The shard set of a phase by name or number, or `held_out`, memory-mapped: a split per block length, rows in training order.

    Raises:
        ValueError: the run has no such phase.
    """
    from datasets import DatasetDict

    opened = run if isinstance(run, Run) else open_run(run)
    folder = shard_set(opened.paths, phase)
    store.fetch_tree(folder)
    return DatasetDict.load_from_disk(str(folder))

"""fox1 from Python: curate a recipe, open a run, load a phase. The commands of the same names call these.

summary = fox1.curate("mini", "/runs/mini", overrides=["scale=0.001"])
run = fox1.open_run("/runs/mini")
run.stats["mixture"], run.why("pile/train/00.jsonl.zst#12"), run.decisions().to_table(columns=["reason"])
run.documents("not kept and words > 900"), run.sql("select reason, count(*) from documents group by all")
blocks = fox1.load_phase(run, "phase1")            # a datasets.DatasetDict, a split per block length
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pipeline.engine.engine import Engine
from .pipeline.engine.fork_server import Server, runs_here
from .pipeline.engine.on_ray import ray_session
from .pipeline.engine.origin import origin_of
from .pipeline.engine.pool import pool_session
from .pipeline.engine.records import record_run
from .pipeline.engine.tasks import Executor, InProcess, Progress, Silent
from .pipeline.inspect import lookup, provenance, sql
from .pipeline.inspect.documents import DocumentTable
from .pipeline.inspect.run import FinishedRun, phase_names, shard_set
from .pipeline.run.artifacts import read_json
from .pipeline.run.identity import SourceFile, group_files
from .pipeline.run.paths import RunPaths
from .pipeline.run.schemas import STAGES
from .pipeline.stats.stored import read_stats
from .storage import lease, store
from .tokenize.shards import check_descriptions

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.dataset

    from .pipeline.curate import CurateSettings, Summary
    from .pipeline.inspect.what_if import WhatIf
    from .pipeline.inspect.what_if_mixture import MixtureWhatIf
    from .recipes.resolve import ResolvedRecipe

TRIED = ("filters", "exclude", "dedupe")
"""Sections of a recipe whose changes `Run.what_if` judges."""
LEAST_MEMORY = 512 << 20
"""Bytes that a task needs at least."""


def session(
    address: str | None = None,
    workers: int | None = None,
    in_process: bool = False,
    ray: bool = False,
    server: Server | None = None,
) -> AbstractContextManager[Executor]:
    """Where tasks run: a Ray cluster (that of `address`, or the one that a job runs on), a Ray session of this machine for
    as long as the block, this process alone, or else a pool of processes of this machine.

    Args:
        server: what a pool is forked from, if it was started before; see `runs_here`.

    Raises:
        ValueError: two of these are asked for.
    """
    named = [name for name, given in (("--address", address), ("--in-process", in_process), ("--ray", ray)) if given]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} exclude each other; leave out one")
    if in_process:
        return nullcontext(InProcess())
    if not runs_here(address, in_process, ray):
        return ray_session("local" if ray else address, workers)
    return pool_session(workers, server=server)


def curate(
    recipe: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    stages: Sequence[str] = (),
    limit: float = 1.0,
    address: str | None = None,
    workers: int | None = None,
    in_process: bool = False,
    ray: bool = False,
    against: str | Path | None = None,
    from_run: str | Path | None = None,
    memory: int = 1 << 30,
    allow_private_hosts: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Run the stages of a recipe that are not finished in a run's folder.

    Args:
        recipe: a YAML file, or the name of one of the package (`fox1`, `mini`, `sample`).
        out: folder or URL of the run; an unfinished one is resumed.
        overrides: `key=value`, as `--set` takes them.
        stages: the stages to run, and those before that they need; none: all.
        limit: share of whole source files to use, by seed.
        address: of a running Ray cluster; None: a pool of processes of this machine.
        workers: local processes; None: one per core.
        in_process: run in one process. The bytes are the same.
        ray: run on Ray on this machine, in place of the pool.
        against: a finished run; documents that duplicate one of its are dropped.
        from_run: another run; what it has finished and still holds for this one is taken from it, which leaves it as it is.
        memory: bytes that one task of dedupe may use; no result depends on it.
        allow_private_hosts: URL lists and redirects may lead to addresses that are not public.
        progress: receives the begin and end of stages and tasks; None: nothing does.

    Raises:
        ValueError: a bad recipe, bad input, a budget that cannot be met or a failed task; one line.
        OSError: the folder of the run cannot be written.
    """
    # Here, so that a look at a run does not wait for the stages and the schema of recipes.
    from .recipes.resolve import resolve

    return curate_resolved(
        resolve(recipe, overrides, limit),
        out,
        stages=stages,
        address=address,
        workers=workers,
        in_process=in_process,
        ray=ray,
        against=against,
        from_run=from_run,
        memory=memory,
        allow_private_hosts=allow_private_hosts,
        progress=progress,
    )


def curate_resolved(
    recipe: ResolvedRecipe,
    out: str | Path,
    *,
    stages: Sequence[str] = (),
    address: str | None = None,
    workers: int | None = None,
    in_process: bool = False,
    ray: bool = False,
    against: str | Path | None = None,
    from_run: str | Path | None = None,
    memory: int = 1 << 30,
    allow_private_hosts: bool = False,
    progress: Progress | None = None,
    server: Server | None = None,
) -> Summary:
    """`curate` with a recipe that was resolved before; `server` as `session` takes it."""
    from .pipeline.curate import curate as run_stages
    from .pipeline.run.manifest import run_files
    from .recipes.travel import keep_lists

    settings = recipe.settings.reaching(allow_private_hosts)
    if against:
        settings = replace(settings, against=str(store.open_root(against)))
    if memory < LEAST_MEMORY:
        raise ValueError(f"{memory >> 20} MiB of memory are too little: a task needs at least 512 MiB")
    paths, chosen, began = RunPaths(store.open_root(out)), tuple(stages) or STAGES, time.time()
    for source in settings.sources:
        root = Path(source.root).absolute() if source.root and "://" not in source.root else None
        if root and root in (paths.root, *paths.root.parents):
            raise ValueError(
                f"--out {paths.root} lies within the data of {source.corpus} ({root}); give the run another folder"
            )
    other = origin_of(store.open_root(from_run), paths.root) if from_run else nullcontext()
    with other as origin, session(address, workers, in_process, ray, server) as executor:
        lease.claim(paths.root, lease.RUN)
        engine = Engine(paths, executor, progress or Silent(), memory, origin)
        cores = executor.cores
        keep_lists(recipe.mapping, paths.root)
        summary = run_stages(settings, engine, chosen, run_files(paths, recipe.mapping, recipe.training))
    reused = sum(n for n, _ in summary.reused.values())
    asked = {
        "recipe": recipe.name,
        "set": list(recipe.overrides),
        "limit": settings.limit,
        "from": store.shown(store.open_root(from_run)) if from_run else "",
        "against": store.shown(settings.against),
    }
    record_run(paths, began, cores, summary.seconds, reused, set(chosen) == set(STAGES), asked)
    return summary


@dataclass(frozen=True)
class _Overview:
    """What a run shows of itself."""

    kept: int
    rows: int
    """Documents read, damaged ones included."""
    corpora: list[tuple[str, int, int]]
    """(corpus, rows, kept documents)."""
    phase_tokens: list[tuple[str, int]]


def _html_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, the first column of which says what a row is."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Run:
    """A finished run: its statistics and tables, and what became of each document and token."""

    def __init__(self, root: Path, trust: bool = False, moves: Sequence[str] = ()) -> None:
        self.paths = RunPaths(root)
        self._trust, self._moves = trust, moves
        self._opened = FinishedRun(self.paths, self._listed)

    def __repr__(self) -> str:
        overview = self._overview()
        if overview is None:
            return f"Run({self._place!r}: not finished)"
        phases = ", ".join(f"{name} {tokens:,} tokens" for name, tokens in overview.phase_tokens)
        return f"Run({self._place!r}: {overview.kept:,} of {overview.rows:,} documents kept; {phases})"

    def _repr_html_(self) -> str:
        """Two small tables, for notebooks: corpora and phases."""
        overview = self._overview()
        if overview is None:
            return f"<p>Run <code>{escape(self._place)}</code>: not finished</p>"
        corpora = [
            (c, f"{rows:,}", f"{kept:,}", f"{100 * kept / max(rows, 1):.1f} %") for c, rows, kept in overview.corpora
        ]
        phases = [(name, f"{tokens:,}") for name, tokens in overview.phase_tokens]
        return (
            f"<p>Run <code>{escape(self._place)}</code>: {overview.kept:,} of {overview.rows:,} documents kept</p>"
            + _html_table(("corpus", "rows", "kept", "share"), corpora)
            + _html_table(("phase", "tokens"), phases)
        )

    @property
    def finished(self) -> FinishedRun:
        """The run as the functions of `pipeline.inspect` take it."""
        return self._opened

    def settings(self) -> CurateSettings:
        """What the run was curated with, as far as its recipe says.

        Raises:
            ValueError: the recipe is missing or damaged, or names what runs code and was not trusted to.
        """
        from .recipes.load import stored_settings

        return stored_settings(self.paths.recipe, self._trust, self._moves)

    def what_if(self, changes: Sequence[str], examples: int = 5) -> WhatIf:
        """What other thresholds, exclude lists or settings of dedupe would change. The stored signals are judged again, and
        documents deduplicated again if a change is of dedupe, on a pool of this machine; nothing is written to the run.

        Args:
            changes: `key=value`, as `fox1 filter --what-if` takes them.
            examples: documents to show of those that would be dropped, and of those that would be kept.

        Raises:
            ValueError: a change is of something that needs another read of the text, or is none.
        """
        from .pipeline.curate import planned_files
        from .pipeline.filter.exclude import excluded_by, read_lists
        from .pipeline.inspect.what_if import what_if
        from .pipeline.inspect.what_if_dedupe import Decisive, what_if_dedupe
        from .recipes.load import change_filters
        from .recipes.settings import curate_settings

        recipes = change_filters(self.paths.recipe, changes, self._trust, self._moves)
        now, then = (curate_settings(recipe).reaching(private_hosts=self._trust) for recipe in recipes)
        groups = group_files(list(self._opened.files))
        corpora = sorted({group.corpus for group in groups})
        sources = lambda corpus: planned_files(now, self.paths, corpus)  # noqa: E731
        if then.dedupe != now.dedupe:
            entries = read_lists(then.exclude_lists, corpora, now.id_salt)
            with tempfile.TemporaryDirectory(prefix="fox1-what-if-") as folder, session() as executor:
                engine = Engine(RunPaths(Path(folder)), executor)
                decisive = Decisive(then.filter, then.dedupe, bool(then.ranking))
                return what_if_dedupe(
                    groups, self.paths, engine, decisive, now.scan.minhash, sources, entries, examples
                )
        taken_out = None
        if then.exclude_lists != now.exclude_lists:
            taken_out = excluded_by(read_lists(then.exclude_lists, corpora, now.id_salt))
        return what_if(groups, self.paths, now.filter, then.filter, sources, examples, taken_out)

    def what_if_mixture(self, changes: Sequence[str], engine: Engine | None = None) -> MixtureWhatIf:
        """What other weights, budgets or rules of the phases would change: the mixture is planned again over the run's tokens, and
        nothing is packed or written to the run.

        Args:
            changes: `key=value`, as `fox1 filter --what-if` takes them: `phases.phase1.weights.0.weight=60`.
            engine: of a folder of its own; one that was used before counts only what a change moves. None: a pool of this machine.

        Raises:
            ValueError: a change is of something else, or is none.
        """
        from .pipeline.inspect.what_if_mixture import what_if_mixture
        from .pipeline.mix.stored import stored_tokens
        from .recipes.load import change_mixture
        from .recipes.settings import curate_settings

        then = curate_settings(change_mixture(self.paths.recipe, changes, self._trust, self._moves)[1])
        tokens = stored_tokens(self._opened)
        if engine:
            return what_if_mixture(self.paths, engine, tokens, then.mix)
        with tempfile.TemporaryDirectory(prefix="fox1-what-if-") as folder, session() as executor:
            return what_if_mixture(self.paths, Engine(RunPaths(Path(folder)), executor), tokens, then.mix)

    @property
    def _place(self) -> str:
        return store.shown(self.paths.root)

    def _overview(self) -> _Overview | None:
        """Read from two small files; None where the run has not come as far as its statistics."""
        try:
            corpora = read_json(self.paths.stats("funnel"))["corpora"]
            phases = read_json(self.paths.stats("mixture"))["phases"]
        except ValueError:
            return None
        kept, rows = (sum(corpus[name] for corpus in corpora) for name in ("kept", "rows"))
        by_corpus = [(corpus["corpus"], corpus["rows"], corpus["kept"]) for corpus in corpora]
        return _Overview(kept, rows, by_corpus, [(phase["name"], phase["tokens"]) for phase in phases])

    def _listed(self, corpus: str) -> list[SourceFile]:
        from .pipeline.curate import planned_files

        return planned_files(self.settings(), self.paths, corpus)

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

        names = self._opened.manifest["artifacts"].below(f"{part}/")
        return pyarrow.dataset.dataset([os.fspath(self.paths.named(n)) for n in names], format="parquet")

    @cached_property
    def _documents(self) -> DocumentTable:
        return DocumentTable(self.paths, list(self._opened.files))

    @property
    def columns(self) -> pyarrow.Schema:
        """The columns of the table of documents, which docs/artifacts.md explains."""
        return self._documents.columns.schema

    def documents(
        self,
        where: str = "",
        columns: Sequence[str] = ("document", "subset", "language", "kept", "reason"),
        most: int = 0,
    ) -> pyarrow.Table:
        """Documents by what was decided of them and by their signals, a row each, by file and row. The table is in memory:
        `.to_pandas()` and polars take it.

        Args:
            where: what they have to meet, as SQL over `columns`: `"not kept and words > 900"`; empty: all documents.
            columns: of the table of documents; see `Run.columns`.
            most: rows at most; 0: all.

        Raises:
            ValueError: it is no condition, or a column is none.
        """
        if unknown := [name for name in columns if name not in self.columns.names]:
            raise ValueError(f"a document has no column {', '.join(unknown)}; Run.columns lists them")
        return sql.matching(self._documents, sql.Condition(where), list(columns), most)

    def sql(self, query: str) -> pyarrow.Table:
        """The answer to a query over the table `documents`, a row for each document: `"select corpus, count(*) from documents
        where kept group by corpus"`. It can reach nothing else, no file either, and takes one thread and bounded memory.

        Raises:
            ValueError: it is not one SELECT, or names what is not there.
        """
        return sql.query(self._documents, query)

    def why(self, document: str, text: bool = False) -> provenance.Why:
        """Signals, failed rules, decision and blocks of a document, named `corpus/file#row` or by its id.

        Args:
            text: also read its text from the source, with what the edits changed in it.

        Raises:
            ValueError: the run has no such document, or its source no longer gives its text.
        """
        return provenance.why(self._opened, document, text)

    def trace(self, phase: str | int, block: int, length: int = 0, source: bool = False) -> list[provenance.Traced]:
        """The documents of a block with the bytes it was made of; see `pipeline.inspect.provenance.trace`."""
        return provenance.trace(self._opened, phase, block, length, source)

    def find(
        self, *, url: str | None = None, id: str | None = None, hash: str | None = None, text: str | None = None
    ) -> list[lookup.Found]:
        """Documents by exactly one of these, and whether they were trained on.

        Args:
            url: of the page; compared after normalisation.
            id: the id that the source gives the document.
            hash: content hash, as `why` shows it.
            text: the whole text of the document.

        Raises:
            ValueError: none of these is given, or several are.
        """
        given = {"url": url, "id": id, "hash": hash, "text": text}
        named = [(kind, value) for kind, value in given.items() if value is not None]
        if len(named) != 1:
            count = "none" if not named else " and ".join(kind for kind, _ in named)
            raise ValueError(f"find takes exactly one of {', '.join(given)}; given: {count}")
        return lookup.find(self._opened, *named[0])

    def find_listed(self, exclude: str) -> lookup.Listed:
        """The documents that an exclude list names, and their copies."""
        return lookup.find_listed(self._opened, exclude)


def open_run(run: str | Path, trust: bool = False, moves: Sequence[str] = ()) -> Run:
    """Open a finished run, in a folder or a store.

    Args:
        trust: where a text is read from the sources, the run's recipe may name readers, which are code.
        moves: `OLD=NEW` for data that lies elsewhere than when the run read it.

    Raises:
        ValueError: there is none.
    """
    return Run(store.open_root(run), trust, moves)


def load_phase(run: str | Path | Run, phase: str | int) -> datasets.DatasetDict:
    """The shard set of a phase by name or number, or `held_out`, memory-mapped: a split per block length, rows in training order.

    Raises:
        ValueError: the run has no such phase, or its set is damaged.
    """
    from datasets import DatasetDict

    opened = run if isinstance(run, Run) else open_run(run)
    folder = shard_set(opened.paths, phase)
    store.fetch_tree(folder)
    check_descriptions(folder)
    return DatasetDict.load_from_disk(str(folder))

"""The steps between filter and dedupe that set documents apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..engine.engine import Engine
from ..engine.tasks import Task, portions
from ..engine.tree import add_up
from ..filter.judge import FilteredGroup, signal_batches
from ..filter.stage import TASK_TEXT
from ..prepare.tokenizer import PreparedTokenizer
from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from ..run.identity import ROW_BITS, Group
from ..signals.scan import FileSignals
from ..sources.domains import CHAT
from . import VERSION
from .choose import BARRED, CHOSEN, SMALLEST, choose, find_candidates, join_candidates, mark, read_chosen, write_chosen
from .settings import CARVED, Carve


@dataclass(frozen=True)
class SetApart:
    """The documents that are set apart, unless dedupe finds them to be copies of better ones."""

    filtered: Mapping[str, FilteredGroup]
    """What the filters say, by name of the group, with the reason `carved` of such documents."""
    chosen: np.ndarray = field(default_factory=lambda: np.empty(0, CHOSEN))
    """`CHOSEN`, by id."""
    groups: tuple[Group, ...] = ()
    """Those that may hold any."""

    @property
    def ids(self) -> np.ndarray:
        """uint64, ascending."""
        found: np.ndarray = self.chosen["id"].copy()
        return found


def set_apart(
    engine: Engine,
    groups: Sequence[Group],
    signals: Mapping[str, FileSignals],
    filtered: Mapping[str, FilteredGroup],
    carve: Carve | None,
    steps: Sequence[str],
    tokenizer: PreparedTokenizer,
    seed: int,
) -> SetApart:
    """Choose the documents that are measured on and never trained on.

    Conversations are never: only their answers would count.

    Args:
        signals: by `SourceFile.table`.
        filtered: by name of the group.
        carve: None: nothing is set apart.
        steps: of `before_scan`, which may have dropped documents before they were text.
        tokenizer: says how many tokens text has.

    Raises:
        ValueError: no domain has documents enough.
    """
    if not carve:
        return SetApart(filtered)
    most = max(SMALLEST, 2 * carve.documents)
    asked = [g for g in groups if not g.held_out and g.format != CHAT]
    sizes = [max(1, g.text) for g in asked]
    together = portions(range(len(asked)), sizes.__getitem__, sum(sizes), least=TASK_TEXT)
    folder, barred = engine.paths.dedupe("carve"), (*BARRED, *steps)
    tasks = [
        Task(
            asked[some[0]].name,
            find_candidates,
            (
                [asked[i] for i in some],
                [[signals[f.table].signals for f in asked[i].files] for i in some],
                [filtered[asked[i].name].filtered for i in some],
                *(barred, seed, most, folder / "candidates" / asked[some[0]].name),
            ),
            weight=sum(sizes[i] for i in some),
        )
        for some in together
    ]
    files = [found.file for found in engine.run("dedupe.carve", VERSION, tasks)]
    files = add_up(engine, "dedupe.carve_join", VERSION, files, join_candidates, folder / "joined", (most,))
    text = tokenizer.measured_bytes, tokenizer.measured_tokens
    task = Task("carve", choose, (FileSet.of(files), carve, text, most, folder / "chosen"), unweighed=True)
    chosen: Artifact = engine.run("dedupe.carve_choose", VERSION, [task])[0].file
    return _marked(engine, asked, filtered, chosen)


def set_apart_again(
    engine: Engine,
    groups: Sequence[Group],
    filtered: Mapping[str, FilteredGroup],
    decisions: Mapping[str, Artifact],
) -> SetApart:
    """What a finished run has set apart, whatever other settings would choose.

    Args:
        filtered: by name of the group, as the documents are to be judged now.
        decisions: of the run, by `SourceFile.table`.
    """
    parts = [np.empty(0, np.uint64)]
    for artifact in decisions.values():
        for batch in signal_batches(artifact.file, ["doc_id", "reason"]):
            carved = batch.column("reason").to_numpy(zero_copy_only=False) == CARVED
            parts.append(batch.column("doc_id").to_numpy()[carved])
    ids = np.sort(np.concatenate(parts))
    if not len(ids):
        return SetApart(filtered)
    rows = np.zeros(len(ids), CHOSEN)
    rows["id"] = ids
    return _marked(engine, groups, filtered, write_chosen(rows, engine.paths.dedupe("carve/chosen")).file)


def _marked(
    engine: Engine, groups: Sequence[Group], filtered: Mapping[str, FilteredGroup], chosen: Artifact
) -> SetApart:
    rows = read_chosen(chosen.file)
    holding = set(np.unique(rows["id"] >> np.uint64(ROW_BITS)).tolist())
    of_chosen = tuple(g for g in groups if any(f.file_hash in holding for f in g.files))
    folder = engine.paths.dedupe("carve/marked")
    tasks = [Task(g.name, mark, (filtered[g.name].filtered, chosen, folder / g.name)) for g in of_chosen]
    marked = engine.run("dedupe.carve_mark", VERSION, tasks)
    changed = {
        g.name: replace(filtered[g.name], filtered=found.filtered) for g, found in zip(of_chosen, marked, strict=True)
    }
    return SetApart({**filtered, **changed}, rows, of_chosen)

"""What would other settings of dedupe change? Filters and dedupe are run again over the stored signals and signatures, in a folder
that is removed afterwards, and the decisions compared with the run's.

No text is read but the examples'. So of a run that cuts passages the decisions on whole documents are compared, those before
passages are cut. What a change of a threshold alone does to verdicts takes less: `what_if.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...storage.store import shown
from ..carve.stage import set_apart_again
from ..dedupe.order import DedupeSettings
from ..dedupe.stage import dedupe
from ..engine.engine import Engine
from ..filter.exclude import Entry, PreparedExclude, prepare_exclude
from ..filter.judge import FilterSettings, signal_batches
from ..filter.scores import Joined
from ..filter.stage import filter_documents
from ..passages.settings import REASON as PASSAGES_CUT
from ..prepare.stage import VERSION as PREPARE_VERSION
from ..run.artifacts import Artifact, merge_counts
from ..run.identity import Group, SourceFile
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..signals.minhash import MinHashSettings
from ..signals.scan import FileSignals
from ..text.survivors import DecidedFile, listed_artifact
from .run import FinishedRun
from .what_if import Found, WhatIf, add_examples

_DECIDED = ["doc_id", "row", "kept", "reason", "duplicate_of", "similarity"]


@dataclass(frozen=True)
class Decisive:
    """The settings that decisions depend on, besides the signals."""

    filter: FilterSettings
    dedupe: DedupeSettings
    ranked: bool
    """A score of others is the quality of a domain."""


def what_if_dedupe(
    groups: Sequence[Group],
    run: RunPaths,
    engine: Engine,
    then: Decisive,
    shape: MinHashSettings,
    sources: Callable[[str], Sequence[SourceFile]],
    taken_out: Sequence[Entry],
    examples: int = 5,
) -> WhatIf:
    """Decide a run's documents again, and compare.

    Args:
        engine: of a folder of its own, which nobody needs afterwards.
        shape: of the run's signatures.
        taken_out: the entries of the exclude lists that would hold.
        sources, examples: as `what_if` takes them.

    Raises:
        ValueError: the run is not finished, or was compared with another one.
    """
    manifest = read_manifest(run)
    if manifest.get("against"):
        raise ValueError(
            f"{shown(run.root)} was curated --against another run, which its decisions depend on; curate a variant instead: "
            "`fox1 curate RECIPE --out NEW --from RUN --against OLD --set ...`"
        )
    listed = manifest["artifacts"]
    stored = {file.table: DecidedFile.of_run(file, run, listed) for group in groups for file in group.files}
    signals = {table: _signals(file, run, listed) for table, file in stored.items()}
    joined = Joined({table: file.scores for table, file in stored.items() if file.scores})
    exclude = _exclude(engine, taken_out)
    filtered = filter_documents(engine, groups, signals, then.filter, exclude, joined)
    ranked = joined.files if then.ranked else {}
    decisions = {table: file.decisions for table, file in stored.items()}
    apart = set_apart_again(engine, groups, filtered.groups, decisions)
    decided = dedupe(engine, groups, signals, apart.filtered, then.dedupe, shape, scores=ranked, carved=apart.ids)
    result = WhatIf(groups=len(groups), decided=True, before_passages="cuts" in listed.folders)
    found: Found = {True: [], False: []}
    names = FinishedRun(run)
    for group in groups:
        changed = False
        for file in group.files:
            before = stored[file.table].decisions
            changed |= _compare(file, before, decided.decisions[file.table], signals[file.table], names, result, found)
        result.changed_groups += changed
    add_examples(result, found, run, sources, examples)
    return result


def _signals(file: DecidedFile, run: RunPaths, listed: Mapping[str, object]) -> FileSignals:
    signatures = listed_artifact(run.signatures(file.source.corpus, file.source.part), run, listed)
    # The bytes of the text only say how the work is cut.
    return FileSignals(file.signals, signatures, None, file.signals.rows, max(file.source.text, 1), 0, 0)


def _exclude(engine: Engine, taken_out: Sequence[Entry]) -> PreparedExclude | None:
    from ..engine.tasks import Task

    if not taken_out:
        return None
    task = Task("exclude", prepare_exclude, (list(taken_out), engine.paths))
    return engine.run("prepare", PREPARE_VERSION, [task])[0]


def _compare(
    file: SourceFile,
    before: Artifact,
    after: Artifact,
    signals: FileSignals,
    names: FinishedRun,
    result: WhatIf,
    found: Found,
) -> bool:
    """Add what changes in a file to `result` and `found`; returns whether anything does."""
    old, new, facts = (
        pa.Table.from_batches(batches).combine_chunks() if (batches := list(signal_batches(a.file, columns))) else None
        for a, columns in (
            (before, _DECIDED),
            (after, _DECIDED),
            (signals.signals, ["subset", "n_bytes"]),
        )
    )
    if old is None or new is None or facts is None:
        return False
    kept = [table.column("kept").to_numpy(zero_copy_only=False) for table in (old, new)]
    # What was too short after its passages were cut had been kept as a whole document.
    kept[0] = kept[0] | pc.equal(old.column("reason"), PASSAGES_CUT).to_numpy(zero_copy_only=False)
    result.documents += len(kept[0])
    result.kept += int(kept[0].sum())
    taken = {True: 0, False: 0}
    changed = np.flatnonzero(kept[0] != kept[1]).tolist()
    for i in changed:
        dropped = bool(kept[0][i])
        said = (new if dropped else old).slice(i, 1).to_pylist()[0]
        merge_counts(result.dropped if dropped else result.restored, {said["reason"]: 1})
        cell = f"{file.corpus}/{facts.column('subset')[i]}"
        lost, won = result.by_subset.get(cell, (0, 0))
        result.by_subset[cell] = (lost + dropped, won + (not dropped))
        size = facts.column("n_bytes")[i].as_py()
        result.bytes += -size if dropped else size
        if taken[dropped] < 2:
            taken[dropped] += 1
            copy = said["duplicate_of"]
            value = f"copy of {names.name(copy)}, similarity {said['similarity']:.3f}" if copy else ""
            found[dropped].append((file, said["row"], said["reason"], value))
    return bool(changed)

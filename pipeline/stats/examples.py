"""Examples of what was kept and dropped, and why: a few documents of a few files, chosen by hash.

They come from at most `FILES` files of a corpus and the first `BYTES` of text of each, so that the cost does not grow with
the corpora. What a dropped duplicate equals is read back from the run's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ...tokenize.chat import spoken
from ...tokenize.encode import Encoder
from ..engine.tasks import TaskResult
from ..filter.reasons import value_behind
from ..run.artifacts import RunPaths
from ..run.documents import Documents
from ..run.identity import ROW_BITS, SourceFile
from ..run.parquet_rows import row_of, take_rows
from ..signals.hashing import mix_array
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from ..text.edits import apply_edits

FILES = 2
BYTES = 16 << 20
EACH = 3
"""Examples of every reason."""
LETTERS = 600
"""Of an example's text."""
KEPT = "kept"


@dataclass(frozen=True)
class Example:
    """A document as `stats/examples.json` shows it."""

    order: int
    """Its hash: the least are shown."""
    name: str
    subset: str
    value: str
    """The signal behind the rule that dropped it, where there is one."""
    text: str
    """The beginning of its edited text."""
    duplicate_of: int
    similarity: float
    cluster_size: int


def pick_files(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files of a corpus that examples come from."""
    return sorted(files, key=lambda f: int(mix_array(np.array([f.file_hash], np.uint64), 5)[0]))[:FILES]


def gather_examples(file: SourceFile, paths: RunPaths) -> TaskResult:
    """Map: of one file, the `EACH` documents with the least hash for every reason, `kept` among them."""
    decisions = pq.read_table(paths.decisions(file.corpus, file.path)).combine_chunks()
    sizes = pq.read_table(paths.signals(file.corpus, file.path), columns=["raw_bytes"]).column(0).to_numpy()
    near = int(np.searchsorted(np.cumsum(sizes), BYTES, "right")) + 1
    decisions = decisions.slice(0, near)
    order = mix_array(decisions.column("doc_id").to_numpy(), 6)
    reasons = decisions.column("reason").to_pylist()
    chosen: dict[str, list[int]] = {}
    for i in np.argsort(order, kind="stable").tolist():
        mine = chosen.setdefault(reasons[i] or KEPT, [])
        if len(mine) < EACH:
            mine.append(i)
    rows = {decisions.column("row")[i].as_py(): i for mine in chosen.values() for i in mine}
    facts = take_rows(paths.signals(file.corpus, file.path), list(rows.values()))
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in read_rows(file, Quarantine(file)):
        for k, row in enumerate(batch.column("row").to_pylist()):
            if row not in rows:
                continue
            i = rows.pop(row)
            decided = decisions.slice(i, 1).to_pylist()[0]
            signals = facts[i]
            text = apply_edits(batch.column("text").slice(k, 1), signals.column("edits"))[0].as_py()
            example = Example(
                int(order[i]),
                f"{file.name}#{row}",
                signals.column("subset")[0].as_py(),
                value_behind(signals, 0, reasons[i]) if reasons[i] else "",
                # What may not be used is not shown either.
                "" if reasons[i] == "licence" else spoken(text[: 4 * LETTERS])[:LETTERS],
                decided["duplicate_of"],
                round(decided["similarity"], 4),
                decided["cluster_size"],
            )
            found.setdefault(reasons[i] or KEPT, []).append(vars(example))
        if not rows:
            break
    return TaskResult((), {}, {"examples": found})


def examples_json(results: Sequence[TaskResult], paths: RunPaths) -> dict[str, Any]:
    """`stats/examples.json`: reason -> documents, those with the least hash; duplicates with the copy that stays."""
    merged: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for reason, examples in result.data["examples"].items():
            merged.setdefault(reason, []).extend(examples)
    documents, encoder = Documents(paths), Encoder(paths.tokenizer, fast=False)
    for reason, examples in merged.items():
        # Kept documents of every corpus; of a rule those with the least hash.
        best = sorted(examples, key=lambda e: int(e["order"]))
        merged[reason] = best if reason == KEPT else best[:EACH]
        for example in merged[reason]:
            del example["order"]
            copy = example.pop("duplicate_of")
            if copy:
                example["stays"] = documents.name(copy)
                example["stays_text"] = _text(documents, encoder, copy)
    return {"reasons": dict(sorted(merged.items()))}


def _text(documents: Documents, encoder: Encoder, doc_id: int) -> str:
    """The beginning of a kept document by its tokens; empty where they cannot tell (another run's, conversations)."""
    if doc_id >> ROW_BITS not in documents.files:
        return ""
    file = documents.file(doc_id)
    signals = row_of(documents.paths.signals(file.corpus, file.path), doc_id, ["subset"])
    ids = documents.ids(doc_id, signals.column("subset")[0].as_py()) if signals else None
    if ids is None:
        return ""
    return encoder.decode(ids[:LETTERS]).decode(errors="replace")[:LETTERS]

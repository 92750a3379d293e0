"""Examples of what was kept and dropped, and why: a few documents of a few files, chosen by hash.

They come from at most `FILES` files of a corpus and the first `BYTES` of text of each, so that the cost does not grow with
the corpora. What a rule counts is marked. The kept copy of a dropped duplicate is read back from the run's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ...tokenize.chat import spoken
from ...tokenize.model import read_model
from ...tokenize.pieces import Pieces
from ..filter.causes import Marked, causes
from ..filter.judge import signal_batches
from ..filter.reasons import value_behind
from ..run.artifacts import Artifact
from ..run.columns import open_columns
from ..run.documents import RunDocuments
from ..run.identity import SourceFile
from ..run.parquet_rows import RowCursor, row_of, take_rows
from ..run.paths import RunPaths
from ..signals.hashing import mix_array
from ..sources.domains import CHAT
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from ..sources.some_rows import Wanted
from ..text.binding import TEXT_HASH, check_texts
from ..text.edits import apply_edits
from ..text.excerpts import around
from ..text.survivors import DecidedFile

FILES = 2
BYTES = 16 << 20
EACH = 3
"""Examples shown for every reason."""
LETTERS = 600
"""Most letters of an example's text."""
MOST_LETTERS = 1 << 18
"""Letters of a document that are searched for what a rule counts."""
KEPT = "kept"
DECIDED = ("doc_id", "row", "reason", "duplicate_of", "similarity", "cluster_size")
"""What is read of decisions."""


@dataclass(frozen=True)
class Example:
    """A document as `stats/examples.json` shows it."""

    order: int
    """The document's hash; those with the least are shown."""
    name: str
    subset: str
    value: str
    """The signal behind the rule that dropped it, if there is one."""
    text: str
    """Of its edited text the parts that the rule counts, with what is about them; its beginning where there are none."""
    marks: tuple[tuple[int, int], ...]
    """What the rule counts, in characters of `text`."""
    duplicate_of: int
    similarity: float
    cluster_size: int


def pick_files(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files of a corpus that examples come from; of one that was cut the first piece."""
    files = [f for f in files if not f.piece or not f.piece.number]
    # Not by a kernel: to load one takes a driver longer than all else that it does for a small run.
    return sorted(files, key=lambda f: xxhash.xxh3_64_intdigest(f.file_hash.to_bytes(8, "little")))[:FILES]


@dataclass(frozen=True)
class FileExamples:
    """Examples from one file, by reason."""

    examples: dict[str, tuple[Example, ...]]


def gather_examples(decided_file: DecidedFile, benchmarks: Sequence[Artifact] = ()) -> FileExamples:
    """Map: of one file, the `EACH` documents with the least hash for every reason, `kept` among them.

    Args:
        benchmarks: the three files of the index of benchmark items.
    """
    file = decided_file.source
    near = size = 0
    for batch in signal_batches(decided_file.signals.file, ["raw_bytes"]):
        ends = size + np.cumsum(batch.column(0).to_numpy())
        near += int(np.searchsorted(ends, BYTES, "right"))
        if (size := int(ends[-1])) > BYTES:
            break
    with open_columns(decided_file.decisions.file) as stored:
        decisions = RowCursor(stored, DECIDED).take(near + 1)
    order = mix_array(decisions.column("doc_id").to_numpy(), 6)
    reasons = decisions.column("reason").to_pylist()
    chosen: dict[str, list[int]] = {}
    for i in np.argsort(order, kind="stable").tolist():
        places = chosen.setdefault(reasons[i] or KEPT, [])
        if len(places) < EACH:
            places.append(i)
    shown = sorted(i for places in chosen.values() for i in places)
    decided = decisions.take(pa.array(shown, pa.int64())).to_pylist()
    facts = take_rows(decided_file.signals.file, shown)
    edits = (take_rows(decided_file.cuts.file, shown) if decided_file.cuts else facts).column("edits")
    subsets = facts.column("subset").to_pylist()
    place = {one["row"]: k for k, one in enumerate(decided)}
    found: dict[str, list[Example]] = {}
    wanted = Wanted(iter([np.sort(np.array(list(place), np.int64))]))
    for batch in read_rows(file, Quarantine(file), wanted=wanted):
        rows = batch.column("row").to_pylist()
        at = pa.array([place[row] for row in rows], pa.int64())
        scanned = facts.column(TEXT_HASH).take(at)
        check_texts(file, batch.column("row"), batch.column("text"), scanned, decided_file.signals.file)
        texts = apply_edits(batch.column("text"), edits.take(at)).to_pylist()
        for row, k, text in zip(rows, at.to_pylist(), texts, strict=True):
            one = decided[k]
            said, marks = _excerpt(text, one["reason"], file.format == CHAT, benchmarks)
            example = Example(
                int(order[shown[k]]),
                f"{file.name}#{row}",
                subsets[k],
                value_behind(facts, k, one["reason"]) if one["reason"] else "",
                said,
                tuple(marks),
                one["duplicate_of"],
                round(one["similarity"], 4),
                one["cluster_size"],
            )
            found.setdefault(one["reason"] or KEPT, []).append(example)
    return FileExamples({reason: tuple(examples) for reason, examples in found.items()})


def _excerpt(text: str, reason: str, chat: bool, benchmarks: Sequence[Artifact]) -> tuple[str, list[tuple[int, int]]]:
    """What is shown of an edited text, and what of that the reason counts."""
    if reason == "licence":
        # Text that may not be used is not shown either.
        return "", []
    if chat:
        return spoken(text[: 4 * LETTERS])[:LETTERS], []
    whole = Marked(text[:MOST_LETTERS])
    return around(whole.text, causes(whole, reason, [file.file for file in benchmarks]) if reason else [], LETTERS)


def examples_json(parts: Sequence[FileExamples], paths: RunPaths) -> dict[str, Any]:
    """`stats/examples.json`: reason -> documents, those with the least hash; duplicates with the copy that stays."""
    merged: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for reason, found in part.examples.items():
            merged.setdefault(reason, []).extend(map(asdict, found))
    documents, model = RunDocuments(paths), _Model(paths.tokenizer)
    for reason, examples in merged.items():
        # Kept documents of every corpus; of a rule those with the least hash.
        best = sorted(examples, key=lambda e: int(e["order"]))
        merged[reason] = best if reason == KEPT else best[:EACH]
        for example in merged[reason]:
            del example["order"]
            copy = example.pop("duplicate_of")
            if copy:
                example["stays"] = documents.name(copy)
                example["stays_text"] = _text(documents, model, copy)
    return {"reasons": dict(sorted(merged.items()))}


class _Model:
    """The run's tokenizer, as far as it decodes: an encoder of 256,000 pieces takes ten times as long to make as their texts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def pieces(self) -> Pieces:
        """Read when a text is first asked for."""
        return Pieces.read(read_model(self._path))


def _text(documents: RunDocuments, model: _Model, doc_id: int) -> str:
    """The beginning of a kept document from its tokens; empty if the run has none (another run's document)."""
    file = documents.files.get(doc_id)
    if file is None:
        return ""
    signals = row_of(documents.paths.signals(file.corpus, file.part), doc_id, ["subset"])
    ids = documents.ids(doc_id, signals.column("subset")[0].as_py()) if signals else None
    if ids is None:
        return ""
    return model.pieces.decode(ids[:LETTERS]).decode(errors="replace")[:LETTERS]

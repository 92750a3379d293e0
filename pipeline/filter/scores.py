"""Scores of others beside the signals: a file of `scores/` for every file of `signals/`, row by row.

    files of scores -> read -> [by native id -> match ->] by portions of the documents -> join -> scores/

Files may hold more rows than fit into memory, in any order, and rows of documents that this run does not have: they go through
the shuffle to the tasks that hold their documents, and each of these walks its signals and its scores side by side. What names a
document by the id that its source gives it meets the documents by that id first.

Where the recipe lets a score be the quality of a domain, the column `quality` stands here as well, and later stages read this
one. Nothing here reads a text, and scan knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ...storage.wording import counted
from ..engine.engine import Engine
from ..engine.shuffle import Cursor, Records, by_hash_range, distinct, lookup, merged, read_records, sort_records
from ..engine.shuffle_file import Levels
from ..engine.tasks import Task, portions
from ..engine.two_level import Partition, bring_together, plan_levels
from ..run.artifacts import Artifact, merge_counts, parquet_writer, publish, remove
from ..run.columns import open_columns
from ..run.identity import ROW_BITS, Group, SourceFile
from ..run.paths import RunPaths
from ..run.schemas import SIGNAL_GROUP_ROWS
from ..signals.scan import FileSignals
from ..signals.scores import ScoreSettings, as_quality
from ..sources.extracted import DROPPED_BY
from ..sources.listing import NamedFile
from .score_files import read_scores
from .score_settings import JoinSettings

SCORE = np.dtype([("key", "<u8"), ("value", "<u8")])
"""A score of a document or native id; `value` is the score's number << 32 | the bits of its float32."""
SCORES = Records(SCORE, ("key", "value"), distinct)
NATIVE = np.dtype([("key", "<u8"), ("id", "<u8")])
"""A document by its native id."""
NATIVES = Records(NATIVE, ("key", "id"))
PARTITION_BYTES = 64 << 20
LEAST_PARTITIONS = 64
"""Of native ids: files of scores may hold many more rows than the run has documents, and those of a partition are in memory."""
VERSION = 2
TASK_TEXT = 256 << 20
"""Bytes of text whose signals one task joins at least, if there are as many."""
LIMIT = 16 << 20
"""Bytes of records that a task holds at once of each of its inputs."""


@dataclass(frozen=True)
class Missing:
    """Training documents of a corpus that should have a score and have none."""

    score: str
    corpus: str
    documents: int
    example: int
    """Id of one of them."""


@dataclass(frozen=True)
class Joined:
    """The scores of every file."""

    files: Mapping[str, Artifact] = field(default_factory=dict)
    """By `SourceFile.table`; empty where the recipe has no such scores."""
    figures: dict[str, Any] = field(default_factory=dict)
    """`scores` of `stats/prepared.json`, by score: what it is from, rows of its files, documents that have it, and by corpus the
    training documents that should and do not."""

    @property
    def notes(self) -> list[str]:
        """What the recipe asked for and the data could not give."""
        found = []
        for name, figures in self.figures.items():
            if lost := sum(figures["missing"].values()):
                found.append(f"scores.{name}: {_lacking(lost)} ({_by_corpus(figures['missing'])})")
            if (rows := figures["rows"]) and not figures["matched"]:
                found.append(f"scores.{name}: none of its {rows:,} rows names a document of this run; is `key` right?")
        return found


def _lacking(documents: int) -> str:
    return f"{counted(documents, 'document')} {'has' if documents == 1 else 'have'} no score"


def _by_corpus(missing: Mapping[str, int]) -> str:
    return ", ".join(f"{corpus} {n:,}" for corpus, n in sorted(missing.items()))


@dataclass(frozen=True)
class Portions:
    """Which task holds which document, as tasks find it in a file."""

    path: Path
    layout: str
    """A digest of what it says."""
    count: int

    @classmethod
    def write(cls, portions: Sequence[Sequence[Group]], paths: RunPaths) -> Portions:
        """List the files of portions of groups."""
        rows = sorted((f.first_id, number) for number, groups in enumerate(portions) for g in groups for f in g.files)
        table = np.array(rows, np.uint64).reshape(-1, 2)
        layout = xxhash.xxh3_128_hexdigest(table.tobytes())
        path = paths.lists(f"portions-{layout}")
        with publish(path, len(table)) as out:
            out.write(table.tobytes())
        return cls(path, layout, len(portions))

    def identity(self) -> str:
        return self.layout

    def of(self, doc_ids: np.ndarray) -> np.ndarray:
        """int64: the portion of every document; -1 where no file of the run has the id."""
        table = _portion_table(self.path)
        at = np.searchsorted(table[:, 0], doc_ids, "right") - 1
        known = (at >= 0) & (table[at, 0] >> np.uint64(ROW_BITS) == doc_ids >> np.uint64(ROW_BITS))
        return np.where(known, table[at, 1].astype(np.int64), -1)


@lru_cache(maxsize=2)
def _portion_table(path: Path) -> np.ndarray:
    return np.fromfile(path, np.uint64).reshape(-1, 2)


@dataclass(frozen=True)
class ReadRows:
    """The scores of a file, shuffled."""

    files: tuple[Artifact, ...]
    rows: int
    strangers: int
    """Rows that name a document of no file of the run."""


def shuffle_scores(
    file: NamedFile, number: int, settings: ScoreSettings, salt: int, levels: Levels, portions: Portions, stem: Path
) -> ReadRows:
    """Map: the scores of a file, by ranges of the native ids that they are for, or by the portions of their documents.

    Args:
        number: of the score.
    """
    out = SCORES.writer(stem, levels)
    rows = strangers = 0
    for some in read_scores(file.url, settings, salt):
        rows += some.rows
        records = np.empty(len(some.keys), SCORE)
        records["key"] = some.keys
        records["value"] = np.uint64(number << 32) | some.scores.view(np.uint32).astype(np.uint64)
        if settings.key == "native_id":
            out.add(records, by_hash_range(some.keys, levels.partitions))
            continue
        where = portions.of(some.keys)
        out.add(records[where >= 0], where[where >= 0])
        strangers += int((where < 0).sum())
    return ReadRows(out.close(), rows, strangers)


@dataclass(frozen=True)
class NativeIds:
    """The documents of a portion by their native ids."""

    files: tuple[Artifact, ...]


def shuffle_natives(signals: Sequence[Artifact], levels: Levels, stem: Path) -> NativeIds:
    """Map: documents by ranges of the native ids that their sources give them."""
    out = NATIVES.writer(stem, levels)
    for scanned in signals:
        with open_columns(scanned.file) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, ["doc_id", "native_id_hash"])
                records = np.empty(table.num_rows, NATIVE)
                records["id"], records["key"] = (table.column(n).to_numpy() for n in ("doc_id", "native_id_hash"))
                records = records[records["key"] != 0]
                out.add(records, by_hash_range(records["key"], levels.partitions))
    return NativeIds(out.close())


@dataclass(frozen=True)
class Matched:
    """Scores by the portions of their documents."""

    files: tuple[Artifact, ...]


def match_natives(scores: Partition, natives: Partition, levels: Levels, portions: Portions, stem: Path) -> Matched:
    """Reduce: every score of a partition of native ids, for each document that has the id."""
    out = SCORES.writer(stem, levels)
    held = distinct(sort_records(read_records(scores.files, scores.place, SCORE), SCORES.by))
    for some in merged(natives.files, natives.place, NATIVE, NATIVES.by, LIMIT):
        first = np.searchsorted(held["key"], some["key"], "left")
        count = np.searchsorted(held["key"], some["key"], "right") - first
        ends = np.cumsum(count)
        records = np.empty(int(ends[-1]) if len(ends) else 0, SCORE)
        records["key"] = np.repeat(some["id"], count)
        records["value"] = held["value"][np.repeat(first - (ends - count), count) + np.arange(len(records))]
        out.add(records, portions.of(records["key"]))
    return Matched(out.close())


@dataclass(frozen=True)
class JoinedFiles:
    """The scores of the files of a portion."""

    files: tuple[Artifact, ...]
    """In their order."""
    missing: tuple[Missing, ...]
    matched: tuple[int, ...]
    """By score: documents that have it."""


def join_portion(
    groups: Sequence[Group],
    signals: Sequence[Artifact],
    scores: Sequence[Partition],
    settings: JoinSettings,
    paths: RunPaths,
) -> JoinedFiles:
    """Reduce: ``scores/`` of some groups.

    Args:
        signals: of all their files.
        scores: what read and match sent to this portion.

    Raises:
        ValueError: a document has two scores of one name; names it, and both.
    """
    files = [(file, group) for group in groups for file in group.files]
    # Both shuffles have the same levels, so the portion has one place in all files.
    stored = [path for part in scores for path in part.files]
    walk = Cursor(merged(stored, scores[0].place, SCORE, SCORES.by, LIMIT), "key", SCORE)
    missing: dict[tuple[str, str], Missing] = {}
    matched = [0] * len(settings.files)
    made: dict[str, Artifact] = {}
    # In the order of their ids, as the scores are.
    for (file, group), scanned in sorted(zip(files, signals, strict=True), key=lambda each: each[0][0].first_id):
        with parquet_writer(paths.scores(file.corpus, file.part), settings.schema, SIGNAL_GROUP_ROWS) as out:
            for batch in _signals(scanned, settings):
                columns = _columns(batch, walk, file, settings)
                for number, of in enumerate(settings.files):
                    has = np.isfinite(columns[of.settings.column])
                    matched[number] += int(has.sum())
                    lacks = np.flatnonzero(expected(of.settings, batch, group.corpus, group.held_out) & ~has)
                    if len(lacks):
                        at = (of.settings.name, group.corpus)
                        known = missing.get(at)
                        example = known.example if known else batch.column("doc_id")[int(lacks[0])].as_py()
                        missing[at] = Missing(*at, (known.documents if known else 0) + len(lacks), example)
                arrays = [_array(columns[f.name], f) for f in settings.schema]
                out.write(pa.RecordBatch.from_arrays(arrays, schema=settings.schema))
        made[file.table] = out.artifact
    return JoinedFiles(tuple(made[file.table] for file, _ in files), tuple(missing.values()), tuple(matched))


def _signals(scanned: Artifact, settings: JoinSettings) -> Iterator[pa.RecordBatch]:
    ranked = [settings.score(name) for _, name in settings.ranking]
    made = [s.column for s in ranked if s.fasttext]
    names = list(dict.fromkeys(["doc_id", "domain", "quality", DROPPED_BY, *made]))
    with open_columns(scanned.file) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, names).combine_chunks().to_batches()


def _columns(batch: pa.RecordBatch, walk: Cursor, file: SourceFile, settings: JoinSettings) -> dict[str, np.ndarray]:
    """The columns of `scores/` for a batch of signals, as numpy; scores with NaN where there is none."""
    ids = batch.column("doc_id").to_numpy()
    records = distinct(walk.take(int(ids[-1])))
    numbers = records["value"] >> np.uint64(32)
    values = (records["value"] & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    columns = {"doc_id": ids}
    for number, of in enumerate(settings.files):
        mine = numbers == number
        keys, own = records["key"][mine], values[mine]
        if len(twice := np.flatnonzero(keys[1:] == keys[:-1])):
            at = int(twice[0])
            row = int(keys[at]) & ((1 << ROW_BITS) - 1)
            raise ValueError(
                f"scores.{of.settings.name}: {file.name}#{row} has the scores {own[at]:g} and {own[at + 1]:g}; leave one in the "
                "files, or name documents by `key: doc_id`"
            )
        found = np.full(len(ids), np.nan, np.float32)
        if not of.settings.corpora or file.corpus in of.settings.corpora:
            at_ids, there = lookup(ids, keys)
            found[at_ids[there]] = own[there]
        columns[of.settings.column] = found
    if settings.ranking:
        columns["quality"] = _quality(batch, columns, settings)
    return columns


def _quality(batch: pa.RecordBatch, columns: Mapping[str, np.ndarray], settings: JoinSettings) -> np.ndarray:
    quality = batch.column("quality").to_numpy().copy()
    domain = batch.column("domain").to_numpy(zero_copy_only=False)
    for name, of in settings.ranking:
        score = settings.score(of)
        assert score.bounds
        values = columns[score.column] if score.files else batch.column(score.column).to_numpy(zero_copy_only=False)
        quality = np.where(domain == name, as_quality(values, score.bounds), quality)
    return quality.astype(np.uint16)


def _array(values: np.ndarray, field_: pa.Field) -> pa.Array:
    return pa.array(values, field_.type, mask=np.isnan(values) if field_.nullable else None)


def expected(score: ScoreSettings, batch: pa.RecordBatch, corpus: str, held_out: bool) -> np.ndarray:
    """bool [n]: the documents of a batch (with its `domain`) that should have a score. Held-out ones need none, nor do those
    that a step of `before_scan` dropped."""
    should = np.full(batch.num_rows, not held_out and (not score.corpora or corpus in score.corpora))
    if score.domains:
        should &= np.isin(batch.column("domain").to_numpy(zero_copy_only=False).astype(str), score.domains)
    if DROPPED_BY in batch.schema.names:
        should &= batch.column(DROPPED_BY).to_numpy(zero_copy_only=False) == ""
    return should


def join_scores(
    engine: Engine,
    groups: Sequence[Group],
    signals: Mapping[str, FileSignals],
    settings: JoinSettings,
    salt: int,
) -> Joined:
    """Write ``scores/`` of every file, where the recipe has scores that scan does not make, or lets one be a quality.

    Args:
        signals: by `SourceFile.table`.
        salt: the run's `id_salt`.

    Raises:
        ValueError: a file of scores cannot be read, a document has two scores, or documents have none and the recipe does not say
            what that means.
    """
    if not settings.asked:
        return Joined()
    parts = portions(groups, _text, sum(map(_text, groups)), least=TASK_TEXT)
    where = Portions.write(parts, engine.paths)
    try:
        return _join(engine, parts, signals, settings, salt, where)
    finally:
        remove(where.path)


def _text(group: Group) -> int:
    return max(group.text, 1)


def _join(
    engine: Engine,
    parts: Sequence[Sequence[Group]],
    signals: Mapping[str, FileSignals],
    settings: JoinSettings,
    salt: int,
    where: Portions,
) -> Joined:
    def place(name: str) -> Path:
        return engine.paths.counts(f"scores/{name}")

    documents = sum(signals[f.table].documents for groups in parts for g in groups for f in g.files)
    named = [(number, of.settings, file) for number, of in enumerate(settings.files) for file in of.files]
    scores = len(settings.files)
    by_native = any(of.settings.key == "native_id" for of in settings.files)
    partitions = max(LEAST_PARTITIONS, -(-documents * NATIVE.itemsize // PARTITION_BYTES))
    maps = max(len(named), partitions if by_native else 0)
    to_portions = plan_levels(documents * SCORE.itemsize * max(scores, 1), maps, where.count)
    to_natives = plan_levels(documents * NATIVE.itemsize, max(len(named), len(parts)), partitions)
    tasks = []
    for i, (number, score, file) in enumerate(named):
        levels = to_natives if score.key == "native_id" else to_portions
        arguments = (file, number, score, salt, levels, where, place(f"read/{i:05d}"))
        tasks.append(Task(f"{score.name}-{i:05d}", shuffle_scores, arguments, unweighed=True))
    read = engine.run("filter.scores_read", VERSION, tasks)

    def of_kind(native: bool) -> list[Artifact]:
        both = zip(named, read, strict=True)
        return [a for (_, s, _), r in both if (s.key == "native_id") == native for a in r.files if a.rows]

    sources = [
        bring_together(engine, "filter.scores_rows", VERSION, of_kind(False), to_portions, SCORES, place("rows"))
    ]
    if by_native:
        ids = [
            Task(
                f"{i:05d}",
                shuffle_natives,
                ([signals[f.table].signals for g in groups for f in g.files], to_natives, place(f"natives/{i:05d}")),
            )
            for i, groups in enumerate(parts)
        ]
        found = engine.run("filter.scores_natives", VERSION, ids)
        natives = bring_together(
            engine,
            "filter.scores_ids",
            VERSION,
            [a for f in found for a in f.files if a.rows],
            to_natives,
            NATIVES,
            place("ids"),
        )
        keyed = bring_together(engine, "filter.scores_keys", VERSION, of_kind(True), to_natives, SCORES, place("keys"))
        matching = [
            Task(f"{p:05d}", match_natives, (keyed.of(p), natives.of(p), to_portions, where, place(f"matched/{p:05d}")))
            for p in range(partitions)
        ]
        matched = engine.run("filter.scores_match", VERSION, matching)
        files = [a for m in matched for a in m.files if a.rows]
        sources.append(
            bring_together(engine, "filter.scores_matched", VERSION, files, to_portions, SCORES, place("of"))
        )
    joining = [
        Task(
            groups[0].name,
            join_portion,
            (
                groups,
                [signals[f.table].signals for g in groups for f in g.files],
                [source.of(i) for source in sources],
                settings,
                engine.paths,
            ),
        )
        for i, groups in enumerate(parts)
    ]
    joined = engine.run("filter.scores", VERSION, joining)
    figures: dict[str, Any] = {}
    for number, of in enumerate(settings.files):
        rows = [r for (n, _, _), r in zip(named, read, strict=True) if n == number]
        figures[of.settings.name] = {
            "source": of.source,
            "rows": sum(r.rows for r in rows),
            "matched": sum(j.matched[number] for j in joined),
            "missing": {},
        }
    for of_portion in joined:
        for lost in of_portion.missing:
            merge_counts(figures[lost.score]["missing"], {lost.corpus: lost.documents})
    _check_missing(
        settings, figures, [m for j in joined for m in j.missing], [f for p in parts for g in p for f in g.files]
    )
    tables = [f.table for groups in parts for g in groups for f in g.files]
    return Joined(dict(zip(tables, (a for j in joined for a in j.files), strict=True)), figures)


def _check_missing(
    settings: JoinSettings, figures: Mapping[str, Any], missing: Sequence[Missing], files: Sequence[SourceFile]
) -> None:
    """Raise ValueError for the first score that documents lack where the recipe does not say what that means."""
    for of in settings.files:
        name, found = of.settings.name, figures[of.settings.name]
        if of.settings.missing != "error" or not found["missing"]:
            continue
        one = next(m for m in missing if m.score == name)
        file = next(f for f in files if f.corpus == one.corpus and f.file_hash == one.example >> ROW_BITS)
        row = one.example & ((1 << ROW_BITS) - 1)
        raise ValueError(
            f"scores.{name}: {_lacking(sum(found['missing'].values()))} ({_by_corpus(found['missing'])}), e.g. "
            f"{file.name}#{row}; add them to the files, name the `corpora` and `domains` that have one, or set "
            f"`scores.{name}.missing` to keep or drop"
        )

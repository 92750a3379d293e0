"""Dedupe against its definition, on signals made up for it: every rule of who may stand for whom, any schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.dedupe import buckets, stage, steps
from fox1.pipeline.dedupe.order import DedupeSettings, Part, UrlSettings
from fox1.pipeline.dedupe.stage import OldRun
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.shuffle_file import Levels
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.filter.judge import FILTERED_SCHEMA, FilteredGroup, Verdict
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import ROW_BITS, Group, SourceFile, file_hash, group_files
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.minhash import MinHashSettings
from fox1.pipeline.signals.scan import FileSignals
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

BANDS = 3
K = 8
SHAPE = replace(MinHashSettings(), bands=BANDS, sketch_size=K)


@dataclass(frozen=True)
class Doc:
    """A document as dedupe sees it."""

    corpus: str
    file: str
    subset: str = "s"
    held_out: bool = False
    eligible: bool = True
    content: int = 0
    bands: tuple[int, ...] = (0,) * BANDS
    shingles: frozenset[int] = frozenset()
    quality: int = 0
    contaminated: bool = False
    size: int = 100
    url: int = 0
    timestamp: int = 0
    urls: frozenset[int] = frozenset()
    """URLs of all documents that go as this one goes, as far as they propose; only for the definition."""


@dataclass
class Stored:
    """What scan and filter leave of some documents, and, for a finished run, the decisions."""

    groups: list[Group] = field(default_factory=list)
    signals: dict[str, FileSignals] = field(default_factory=dict)
    filtered: dict[str, FilteredGroup] = field(default_factory=dict)
    decisions: dict[str, Artifact] = field(default_factory=dict)

    def write(self, table: pa.Table, path: Path, row_group_size: int | None = None) -> Artifact:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=row_group_size)
        return Artifact(str(path), 0, table.num_rows, path.name)

    def write_signals(self, table: pa.Table, paths: RunPaths, file: SourceFile, row_group_size: int) -> None:
        """Write a file's signals, and what is signatures of them beside."""
        wide = ["doc_id", "band_signature", "sketch"]
        signals = self.write(table.drop_columns(wide[1:]), paths.signals(file.corpus, file.path), row_group_size)
        signatures = self.write(table.select(wide), paths.signatures(file.corpus, file.path), row_group_size)
        self.signals[file.name] = FileSignals(signals, signatures, None, table.num_rows, 1000, 0, 0)

    def old_parts(self) -> tuple[Part, ...]:
        """The same as parts of a finished run."""
        return tuple(
            Part(
                g,
                tuple(self.signals[f.name].signals for f in g.files),
                tuple(self.signals[f.name].signatures for f in g.files),
                None,
                tuple(self.decisions[f.name] for f in g.files),
            )
            for g in self.groups
        )


def write_run(root: Path, docs: list[Doc], decided: dict[int, bool] | None = None) -> tuple[Stored, list[int]]:
    """Signals and filter results of documents, as scan and filter would leave them, and their ids in order of `docs`."""
    stored = Stored()
    paths = RunPaths(root)
    by_file: dict[tuple[str, str], list[int]] = {}
    for i, doc in enumerate(docs):
        by_file.setdefault((doc.corpus, doc.file), []).append(i)
    ids = [0] * len(docs)
    files = []
    for (corpus, name), members in by_file.items():
        number = file_hash(corpus, name)
        files.append(SourceFile(corpus, name, "", 1000, "", "pile", docs[members[0]].held_out, number))
        mine = [docs[i] for i in members]
        for row, i in enumerate(members):
            ids[i] = number << ROW_BITS | row
        sketches = [np.array(sorted(d.shingles), "<u4").tobytes() for d in mine]
        table = pa.table(
            {
                "doc_id": pa.array([ids[i] for i in members], pa.uint64()),
                "row": pa.array(range(len(mine)), pa.int64()),
                "subset": [d.subset for d in mine],
                "content_hash": pa.array([d.content.to_bytes(16, "little") for d in mine], pa.binary(16)),
                "url_hash": pa.array([d.url for d in mine], pa.uint64()),
                "timestamp": pa.array([d.timestamp for d in mine], pa.int64()),
                "quality": pa.array([d.quality for d in mine], pa.uint16()),
                "contaminated": pa.array([int(d.contaminated) for d in mine], pa.uint16()),
                "n_bytes": pa.array([d.size for d in mine], pa.int64()),
                "band_signature": pa.array([np.array(d.bands, "<u8").tobytes() for d in mine], pa.binary(8 * BANDS)),
                "n_shingles": pa.array([len(d.shingles) for d in mine], pa.uint32()),
                "sketch": pa.array(sketches, pa.binary()),
            }
        )
        stored.write_signals(table, paths, files[-1], 3)
        if decided is not None:
            kept = pa.table({"reason": ["" if decided[ids[i]] else "near_duplicate" for i in members]})
            stored.decisions[files[-1].name] = stored.write(kept, paths.decisions(corpus, name), 3)
    stored.groups = group_files(files)
    for group in stored.groups:
        eligible = [docs[i].eligible for f in group.files for i in by_file[f.corpus, f.path]]
        mine_ids = [ids[i] for f in group.files for i in by_file[f.corpus, f.path]]
        reason = ["" if e else "short" for e in eligible]
        reasons = [[r] if r else [] for r in reason]
        table = pa.table({"doc_id": mine_ids, "reason": reason, "reasons": reasons}, schema=FILTERED_SCHEMA)
        subsets = sorted({docs[i].subset for f in group.files for i in by_file[f.corpus, f.path]})
        verdicts = tuple(Verdict(group.corpus, subset, "", 1) for subset in subsets)
        filtered = stored.write(table, paths.filtered(group.name))
        stored.filtered[group.name] = FilteredGroup(filtered, verdicts, ())
    return stored, ids


def dedupe(
    root: Path, docs: list[Doc], options: DedupeSettings, old: list[Doc] | None = None
) -> tuple[list[dict[str, Any]], list[int], list[int], Any]:
    """(decisions in order of `docs`, their ids, ids of `old`, the stage's result)."""
    stored, ids = write_run(root / "run", docs)
    run, old_ids = stage.NO_RUN, list[int]()
    if old:
        decided = {file_hash(d.corpus, d.file) << ROW_BITS | r: True for d in old for r in range(len(old))}
        old_stored, old_ids = write_run(root / "old", old, decided)
        parts = old_stored.old_parts()
        run = OldRun(parts, ((1, 1),) * len(parts), tuple({f"{d.corpus}/{d.subset}" for d in old}))
    engine = Engine(RunPaths(root / "run"), InProcess())
    result = stage.dedupe(engine, stored.groups, stored.signals, stored.filtered, options, SHAPE, run)
    rows = {}
    for path in (root / "run" / "decisions").rglob("*.parquet"):
        rows |= {r["doc_id"]: r for r in pq.read_table(path).to_pylist()}
    return [rows[i] for i in ids], ids, old_ids, result


def order_key(doc: Doc, doc_id: int, options: DedupeSettings, corpora: list[str], old: bool) -> tuple[Any, ...]:
    names = [*options.priority, *sorted(set(corpora) - set(options.priority))]
    return (not old, not doc.held_out, names.index(doc.corpus), doc.contaminated, -doc.quality, -doc.size, doc_id)


def may(better: Doc, worse: Doc, options: DedupeSettings, worse_is_old: bool) -> bool:
    """Whether the scope lets `better` stand for `worse`."""
    if worse_is_old:
        return False
    if better.held_out or worse.held_out:
        return True
    exempt = [d.corpus in options.exempt for d in (better, worse)]
    if any(exempt):
        return False
    if options.scope == "all":
        return True
    return (better.corpus == worse.corpus) == (options.scope == "within")


def with_proposals(docs: list[Doc], old: list[Doc], options: DedupeSettings) -> tuple[list[Doc], list[Doc]]:
    """Documents with the URLs of all that go as they go: those of equal content that may not be told apart."""

    def node(doc: Doc, is_old: bool) -> tuple[int, str]:
        exempt = doc.corpus in options.exempt and not doc.held_out
        name = "exempt" if exempt else "" if options.scope == "all" or doc.held_out else doc.corpus
        return doc.content, name + ("old" if is_old and (exempt or (options.scope == "across" and name)) else "")

    urls: dict[tuple[int, str], set[int]] = {}
    for doc, is_old in [*((d, False) for d in docs), *((d, True) for d in old)]:
        if doc.eligible and doc.corpus in options.url.corpora and doc.url:
            urls.setdefault(node(doc, is_old), set()).add(doc.url)
    return tuple(  # type: ignore[return-value]
        [replace(d, urls=frozenset(urls.get(node(d, is_old), ()))) for d in those]
        for those, is_old in ((docs, False), (old, True))
    )


def similarity(a: Doc, b: Doc) -> float:
    """As sketches of at most K tell it: exact, since documents here have no more shingles."""
    union = sorted(a.shingles | b.shingles)[:K]
    return len(a.shingles & b.shingles & set(union)) / max(len(union), 1)


def verified(better: Doc, worse: Doc, options: DedupeSettings) -> bool:
    if better.content == worse.content:
        return True
    share = any(x == y for x, y in zip(better.bands, worse.bands, strict=True))
    share |= bool(better.urls & worse.urls)
    least = options.jaccard
    if better.held_out != worse.held_out:
        least = min(least, options.held_out_jaccard)
    return share and bool(better.shingles | worse.shingles) and similarity(better, worse) >= least


def expected(docs: list[Doc], ids: list[int], options: DedupeSettings, old: list[Doc], old_ids: list[int]) -> set[int]:
    """Ids of the documents that stay: the definition, pair by pair."""
    corpora = sorted({d.corpus for d in (*docs, *old)})
    every = [(d, i, False) for d, i in zip(docs, ids, strict=True) if d.eligible]
    every += [(d, i, True) for d, i in zip(old, old_ids, strict=True)]
    every.sort(key=lambda e: order_key(e[0], e[1], options, corpora, e[2]))
    kept: list[tuple[Doc, int, bool]] = []
    for worse, doc_id, is_old in every:
        if not any(may(k, worse, options, is_old) and verified(k, worse, options) for k, _, _ in kept):
            kept.append((worse, doc_id, is_old))
    return {i for _, i, is_old in kept if not is_old}


def corpus_of_documents(rng: random.Random, n: int, spread: int, held_out: bool = True, prefix: str = "") -> list[Doc]:
    """Documents in five corpora: families that share shingles, bands from a few values, some equal to others."""
    docs: list[Doc] = []
    for i in range(n):
        corpus = f"{prefix}{rng.choice('abcde')}"
        held = held_out and rng.random() < 0.1
        file = ("held" if held else "f") + str(rng.randrange(2))
        if docs and rng.random() < 0.25:
            other = rng.choice(docs)
            made = replace(other, corpus=corpus, file=file, held_out=held)
        else:
            family = rng.randrange(max(2, n // 10))
            base = random.Random(family).sample(range(1000), K)
            changes = rng.randrange(3)
            shingles = frozenset([*base[changes:], *(2000 + rng.randrange(50) for _ in range(changes))])
            bands = tuple(
                family * 100 + b if rng.random() < 0.5 else rng.randrange(spread) * 100 + b for b in range(1, BANDS + 1)
            )
            made = Doc(corpus, file, held_out=held, content=i + 1, bands=bands, shingles=shingles)
        docs.append(
            replace(
                made,
                subset=rng.choice("st"),
                eligible=rng.random() < 0.9,
                quality=rng.randrange(3),
                contaminated=rng.random() < 0.2,
                size=rng.randrange(90, 110),
                url=rng.randrange(6),
            )
        )
    return docs


SCOPES = (
    DedupeSettings(jaccard=0.5, fan_out=1000),
    DedupeSettings(jaccard=0.5, fan_out=1000, scope="within"),
    DedupeSettings(jaccard=0.5, fan_out=1000, scope="across", priority=("c", "a")),
    DedupeSettings(jaccard=0.5, fan_out=1000, exempt=("b",), url=UrlSettings(("a", "c", "d"))),
    DedupeSettings(jaccard=0.5, fan_out=1000, scope="within", exempt=("b",), url=UrlSettings(("a", "c"))),
    DedupeSettings(jaccard=0.5, fan_out=1000, scope="across", exempt=("d",)),
    DedupeSettings(jaccard=0.9, held_out_jaccard=0.5, fan_out=1000),
    DedupeSettings(jaccard=0.9, held_out_jaccard=0.5, fan_out=1000, scope="within", exempt=("b",)),
    DedupeSettings(jaccard=0.5, held_out_jaccard=0.9, fan_out=1000),
)


def two_levels(size: int, maps: int, partitions: int, most_maps: int) -> Levels:
    """Two, also where one does."""
    return Levels(partitions, -(-partitions // 2), 2)


@pytest.mark.early
@settings(max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30), st.integers(1, 90), st.integers(1, 12), st.sampled_from(SCOPES), st.booleans())
# A held-out document goes for what an earlier run trained on; its copy in the training data stays, being less alike to that.
@example(seed=0, n=30, spread=1, options=SCOPES[6], with_old=True)
def test_the_result_is_the_first_independent_set(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, spread: int, options: DedupeSettings, with_old: bool
) -> None:
    rng = random.Random(seed)
    docs = corpus_of_documents(rng, n, spread)
    old = []
    if with_old:
        fresh = corpus_of_documents(rng, n // 3, spread, False)
        copies = [replace(d, held_out=False) for d in rng.sample(docs, n // 5)]
        fresh = [replace(d, content=d.content + 10_000) for d in fresh] + copies
        old = [
            replace(d, eligible=True, file="old", corpus="old" if options.scope == "all" else d.corpus) for d in fresh
        ]
    # In a finished run no document is a duplicate of another one.
    seen: dict[int, Doc] = {}
    old = [d for d in old if seen.setdefault(d.content, d) is d]
    with pytest.MonkeyPatch.context() as patch:
        if seed % 2:
            # Several ranges of the order, which one task or several walk.
            patch.setattr(steps, "partition_count", lambda *_, **__: 4)
            patch.setattr(stage, "EDGES_AT_ONCE", 40 * (seed % 50))
            patch.setattr(stage, "CHUNK_BYTES", seed % 500)
            # Of many edges, other tasks say what becomes of them than the one that walks them.
            patch.setattr(stage, "FEW_LINKS", 0)
            patch.setattr(steps, "PARTITION_BYTES", 1 + seed % 300)
        if seed % 4 > 1:
            patch.setattr(steps, "plan_levels", two_levels)
        rows, ids, old_ids, _ = dedupe(tmp_path_factory.mktemp("d"), docs, options, old)
    kept = {r["doc_id"] for r in rows if r["kept"]}
    docs, old = with_proposals(docs, old, options)
    assert kept == expected(docs, ids, options, old, old_ids)
    known = dict(zip([*ids, *old_ids], [*docs, *old], strict=True))
    for doc, row in zip(docs, rows, strict=True):
        if not doc.eligible:
            assert row["reason"] == "short"
        elif not row["kept"]:
            partner = known[row["duplicate_of"]]
            assert row["duplicate_of"] in kept or row["duplicate_of"] in old_ids
            assert verified(partner, doc, options) and may(partner, doc, options, False)
            assert row["reason"] == (
                "held_out" if partner.held_out and not doc.held_out else f"{row['kind']}_duplicate"
            )
    sizes = sum(r["cluster_size"] for r in rows if r["kept"])
    assert sizes == len(kept) + sum(r["duplicate_of"] in kept for r in rows)


@pytest.mark.parametrize("fan_out", [1, 2, pytest.param(5, marks=pytest.mark.long)])
def test_a_cap_keeps_and_counts_and_no_schedule_changes_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fan_out: int
) -> None:
    rng = random.Random(fan_out)
    docs = corpus_of_documents(rng, 400, 4)
    options = DedupeSettings(jaccard=0.5, fan_out=fan_out)
    rows, ids, _, result = dedupe(tmp_path / "a", docs, options)
    kept = {r["doc_id"] for r in rows if r["kept"]}
    full = expected(docs, ids, options, [], [])
    assert len(kept) > len(full)
    assert result.figures["kept_past_a_cap"] > 0
    for doc, row in zip(docs, rows, strict=True):
        if row["duplicate_of"]:
            partner = docs[ids.index(row["duplicate_of"])]
            assert row["duplicate_of"] in kept and verified(partner, doc, options)
    # Slices of some rows, ranges of some edges, all files in one task: the same decisions.
    build = stage.Chunks.build
    monkeypatch.setattr(stage.Chunks, "build", lambda groups, sizes, old: build(groups, sizes, old, at_least=1))
    monkeypatch.setattr(buckets, "MIN_SLICE", 24 * 7)
    monkeypatch.setattr(stage, "MIN_MEMORY", 4000)
    monkeypatch.setattr(stage, "BASE_MEMORY", 1 << 40)
    monkeypatch.setattr(stage.verify, "SLOT_PAIRS", 5)
    monkeypatch.setattr(steps, "partition_count", lambda *_, **__: 7)
    monkeypatch.setattr(stage, "EDGES_AT_ONCE", 40 * 100)
    monkeypatch.setattr(stage, "CHUNK_BYTES", 0)
    monkeypatch.setattr(stage, "FEW_LINKS", 0)
    monkeypatch.setattr(steps, "PARTITION_BYTES", 1000)
    monkeypatch.setattr(steps, "plan_levels", two_levels)
    again, _, _, other = dedupe(tmp_path / "b", docs, options)
    assert again == rows
    assert other.figures == result.figures
    assert len(list((tmp_path / "b" / "run" / "records" / "dedupe.settle00").iterdir())) > 1


def test_the_chain_a_b_c_d(tmp_path: Path) -> None:
    """A stands for B; C and D resemble B only, and each other: C stays, since B goes, and D goes for C."""
    a = frozenset(range(8))
    b = frozenset([*range(2, 8), 20, 21])
    c = frozenset([*range(4, 8), 20, 21, 30, 31])
    d = frozenset([*range(5, 8), 20, 21, 30, 31, 32])
    docs = [
        Doc("a", "f", content=i, bands=(7, i, i), shingles=s, quality=100 - i) for i, s in enumerate((a, b, c, d), 1)
    ]
    rows, ids, _, _ = dedupe(tmp_path, docs, DedupeSettings(jaccard=0.55))
    assert similarity(docs[0], docs[2]) < 0.55 <= similarity(docs[1], docs[2])
    assert [r["kept"] for r in rows] == [True, False, True, False]
    assert [r["duplicate_of"] for r in rows] == [0, ids[0], 0, ids[2]]


@pytest.mark.parametrize("size", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_documents_whose_better_partners_were_dropped_are_compared_again(tmp_path: Path, size: int) -> None:
    """A bucket whose first members fall to documents outside of it: those behind them come into the window."""
    docs = []
    for i in range(size):
        pair = frozenset(range(1000 * i, 1000 * i + 8))
        docs.append(Doc("a", "f", content=3 * i + 1, bands=(10 + i, 1, 2), shingles=pair, quality=9))
        docs.append(Doc("b", "f", content=3 * i + 2, bands=(10 + i, 7, 7), shingles=pair, quality=5))
    # These resemble each other, and share only the crowded bucket.
    twin = frozenset(range(5, 13))
    docs += [Doc("b", "f", content=5 * size + k, bands=(1, 9 + k, 7), shingles=twin, quality=1) for k in range(2)]
    docs = [
        replace(d, bands=(d.bands[0], i + 10_000_000, d.bands[2])) if d.corpus == "a" else d for i, d in enumerate(docs)
    ]
    docs = [replace(d, bands=(*d.bands[:2], 50_000_000 + i)) if d.corpus == "a" else d for i, d in enumerate(docs)]
    rows, ids, _, result = dedupe(tmp_path, docs, DedupeSettings(jaccard=0.9, fan_out=4))
    assert [r["kept"] for r in rows[:-2]] == [True, False] * size
    assert [r["kept"] for r in rows[-2:]] == [True, False]
    assert rows[-1]["duplicate_of"] == ids[-2]
    assert len(result.figures["rounds"]) >= 2


@pytest.mark.slow
def test_a_chain_of_5000_revisions(tmp_path: Path) -> None:
    """Every revision resembles its neighbours only: every other one stays."""
    docs = []
    for i in range(5000):
        bands = (2 + 2 * (i // 2), 3 + 2 * ((i + 1) // 2), 10**6 + i)
        revision = frozenset(range(i, i + 8))
        docs.append(Doc("a", "f", content=i + 1, bands=bands, shingles=revision, size=10**6 - i))
    rows, _, _, _ = dedupe(tmp_path, docs, DedupeSettings(jaccard=0.7))
    assert [r["kept"] for r in rows] == [i % 2 == 0 for i in range(5000)]


@pytest.mark.slow
def test_a_bucket_of_half_a_million_equal_documents(tmp_path: Path) -> None:
    stored = equal_documents(tmp_path / "run", 500_000)
    engine = Engine(RunPaths(tmp_path / "run"), InProcess(), memory=448 << 20)
    result = stage.dedupe(engine, stored.groups, stored.signals, stored.filtered, DedupeSettings(), SHAPE)
    # Half of them have one content, the other half differ in it and share bands and shingles.
    assert dict(result.verdicts) == {
        ("a", "s", ""): 1,
        ("a", "s", "exact_duplicate"): 249_999,
        ("a", "s", "near_duplicate"): 250_000,
    }


def equal_documents(root: Path, n: int) -> Stored:
    paths, stored = RunPaths(root), Stored()
    files = [SourceFile("a", f"f{k}", "", 1000, "", "pile", False, file_hash("a", f"f{k}")) for k in range(4)]
    sketch = np.arange(K, dtype="<u4").tobytes()
    for k, file in enumerate(files):
        rows = np.arange(n // 4)
        content = np.zeros((len(rows), 2), "<u8")
        if k % 2:
            content[:, 0], content[:, 1] = rows + 1, k
        fixed = pa.Array.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(content)])
        same = {"subset": "s", "url_hash": 0, "timestamp": 0, "quality": 1, "contaminated": 0, "n_bytes": 100}
        table = pa.table(
            {
                "doc_id": pa.array(np.uint64(file.file_hash << ROW_BITS) + rows.astype(np.uint64)),
                "row": rows,
                "content_hash": fixed,
                "band_signature": pa.repeat(pa.scalar(b"\1" * 8 * BANDS, pa.binary(8 * BANDS)), len(rows)),
                "n_shingles": pa.repeat(pa.scalar(K, pa.uint32()), len(rows)),
                "sketch": pa.repeat(pa.scalar(sketch, pa.binary()), len(rows)),
                **{name: pa.repeat(value, len(rows)) for name, value in same.items()},
            }
        )
        stored.write_signals(table, paths, file, 8192)
    stored.groups = group_files(files)
    for group in stored.groups:
        size = n // 4 * len(group.files)
        empty = pa.ListArray.from_arrays(
            pa.array(np.zeros(size + 1, np.int32)),
            pa.array([], pa.string()),
            type=FILTERED_SCHEMA.field("reasons").type,
        )
        columns = [pa.array(np.arange(size, dtype=np.uint64)), pa.repeat("", size), empty]
        filtered = stored.write(pa.Table.from_arrays(columns, schema=FILTERED_SCHEMA), paths.filtered(group.name))
        kept = (Verdict("a", "s", "", size),)
        stored.filtered[group.name] = FilteredGroup(filtered, kept, ())
    return stored

"""What a recipe sets apart: drawn by domain in two halves, never trained on, and no copy of it either."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.carve.choose import CANDIDATE, Carve, _smallest, choose, join_candidates, read_chosen, texts_of
from fox1.pipeline.carve.settings import CARVED, HALVES, LARGEST_PART, LEAST_DOCUMENTS
from fox1.pipeline.mix.held_out import _Piece, _windows
from fox1.pipeline.run.artifacts import publish
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.stats.outcomes import funnel
from fox1.tokenize.shards import block_batches, read_set, token_batches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SMALL, curate_sample, run_command
from tests.faults.promises import hashes

UNHURRIED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""For machines that do something else beside the tests."""
CARVE = "held_out.carve={documents: 8, tokens: 3K}"


@pytest.fixture(scope="module")
def carved(make_once: Callable[..., Path], corpora: Path) -> Path:
    """A run with documents set apart beside the held-out files."""
    return make_once("carved", lambda folder: curate_sample(folder / "run", corpora, *SMALL, CARVE)) / "run"


def decisions_of(run: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((run / "decisions").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def signals_of(run: Path, *columns: str) -> dict[int, tuple[Any, ...]]:
    found = {}
    for path in sorted((run / "signals").rglob("*.parquet")):
        for row in pq.read_table(path, columns=["doc_id", *columns]).to_pylist():
            found[row["doc_id"]] = tuple(row[name] for name in columns)
    return found


def segments_of(folder: Path) -> list[tuple[int, int, int]]:
    """(document, source, tokens) of every segment of a set."""
    found, info = [], read_set(folder)
    for split in info.splits:
        for name in split.files:
            for batch in block_batches(folder / str(split.block_length) / name, split.block_length, info.masked):
                for row in batch.to_pylist():
                    sizes = np.diff([0, *row["doc_ends"]]).tolist()
                    found += list(zip(row["doc_ids"], row["doc_sources"], sizes, strict=True))
    return found


def values_of(run: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (run / "stats").glob("*.json")}


def test_what_is_set_apart_is_in_the_held_out_set_alone(run: Path, carved: Path) -> None:
    apart = {row["doc_id"] for row in decisions_of(carved) if row["reason"] == CARVED}
    held = {doc for doc, _, _ in segments_of(carved / "held_out")}
    files = {doc for doc, _, _ in segments_of(run / "held_out")}
    assert apart and held - files == apart and files <= held
    trained = {doc for name in ("phase1", "phase2", "phase3") for doc, _, _ in segments_of(carved / "phases" / name)}
    shards = {
        d for p in (carved / "tokens").rglob("*.arrow") for b in token_batches(p) for d in b["doc_id"].to_pylist()
    }
    assert trained and not trained & held and not shards & apart


def test_no_copy_of_what_is_set_apart_is_kept(carved: Path) -> None:
    facts = signals_of(carved, "content_hash", "contaminated")
    decided = {row["doc_id"]: row for row in decisions_of(carved)}
    apart = {doc for doc, row in decided.items() if row["reason"] == CARVED}
    texts = {facts[doc][0] for doc in apart}
    assert len(texts) == len(apart) and not any(facts[doc][1] for doc in apart)
    kept = {doc for doc, row in decided.items() if row["kept"]}
    assert not texts & {facts[doc][0] for doc in kept}
    # Near copies go as well, whichever of them would be the better one among documents that are trained on.
    copies = [row for row in decided.values() if row["duplicate_of"] in apart]
    assert len(copies) > 5 and all(row["reason"] == "held_out" and not row["kept"] for row in copies)
    assert {"exact", "near"} == {row["kind"] for row in copies}


def test_one_half_is_drawn_of_what_the_filters_keep_and_one_of_all(carved: Path) -> None:
    info = read_set(carved / "held_out")
    halves = {half: set(codes) for half, codes in info.carved}
    assert set(halves) == set(HALVES) and not halves["kept"] & halves["unfiltered"]
    fails = {row["doc_id"]: [r for r in row["reasons"] if r != CARVED] for row in decisions_of(carved)}
    domains: dict[str, set[str]] = {}
    failing = dict.fromkeys(HALVES, 0)
    documents = {half: set[int]() for half in HALVES}
    for doc, source, _ in segments_of(carved / "held_out"):
        for half, codes in halves.items():
            if source in codes:
                documents[half].add(doc)
                domains.setdefault(half, set()).add(info.sources[source][2])
    failing = {half: sum(bool(fails[doc]) for doc in own) for half, own in documents.items()}
    assert failing["kept"] == 0 and failing["unfiltered"] > 0
    assert domains["kept"] == domains["unfiltered"] and len(domains["kept"]) > 3


def test_the_account_of_documents_closes(carved: Path) -> None:
    values = values_of(carved)
    lines = funnel(values)
    (apart,) = [line for line in lines if line.name == "set apart to measure on"]
    assert apart.documents == values["mixture"]["held_out"]["carved"]["documents"] > 10
    rows = lines[: next(i for i, line in enumerate(lines) if i and line.depth == 0)]
    assert rows[0].documents == sum(line.documents or 0 for line in rows if line.depth == 1)
    kept = next(line for line in lines if line.name == "kept")
    parts = lines[lines.index(kept) + 1 : lines.index(kept) + 4]
    assert kept.documents == sum(p.documents or 0 for p in parts) and kept.tokens == sum(p.tokens or 0 for p in parts)
    segments = segments_of(carved / "held_out")
    held = values["mixture"]["held_out"]
    assert held["documents"] == len({doc for doc, _, _ in segments}) and held["tokens"] == sum(
        n for _, _, n in segments
    )
    codes = {code for _, own in read_set(carved / "held_out").carved for code in own}
    assert held["carved"]["tokens"] == sum(n for _, source, n in segments if source in codes)


def test_what_is_set_apart_does_not_depend_on_the_phases(
    carved: Path, make_once: Callable[..., Path], corpora: Path
) -> None:
    more = (CARVE, "phases.phase3.prefer=any")
    other = make_once("carved-other", lambda f: curate_sample(f / "run", corpora, *SMALL, *more)) / "run"
    mine, others = ({k: v for k, v in hashes(r).items() if k.startswith("held_out/")} for r in (carved, other))
    assert mine and mine == others


def test_why_says_that_a_document_is_held_out_and_trace_finds_its_text(carved: Path) -> None:
    by_half = {h: set(codes) for h, codes in read_set(carved / "held_out").carved}
    failing = next(r for r in decisions_of(carved) if r["reason"] == CARVED and len(r["reasons"]) > 1)
    said = run_command("why", carved, f"{failing['corpus']}/{failing['file']}#{failing['row']}")
    assert "held out (carved)" in said.stdout and f"fails {failing['reasons'][1]}" in said.stdout
    assert "fails carved" not in said.stdout and by_half
    last = read_set(carved / "held_out").splits[0].blocks - 1
    traced = run_command("trace", carved, "held_out", str(last))
    assert traced.returncode == 0, traced.stderr


def test_other_settings_of_dedupe_leave_what_is_set_apart_where_it_is(carved: Path) -> None:
    from fox1.api import open_run

    found = open_run(carved).what_if(["dedupe.jaccard=0.81"], examples=0)
    assert CARVED not in found.dropped and CARVED not in found.restored
    assert sum(found.dropped.values()) < 20


def test_a_domain_of_few_documents_is_no_reason_to_stop_and_none_at_all_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no domain of the run has 10 documents"):
        chosen_of(tmp_path, [("web", h, r) for h in (0, 1) for r in range(LEAST_DOCUMENTS - 1)], Carve())


# --- choosing ---------------------------------------------------------------------------------------------------------


def candidates(rows: list[tuple[str, int, int]], size: int = 4_000) -> pa.Table:
    """Documents as (domain, half, rank); equal ranks are equal contents."""
    columns = [
        [r[0] for r in rows],
        [r[1] for r in rows],
        [r[2] for r in rows],
        [r[2] for r in rows],
        [1 + i for i in range(len(rows))],
        [size] * len(rows),
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, CANDIDATE, strict=True)], schema=CANDIDATE
    )


def written(table: pa.Table, path: Path) -> Any:
    with publish(path, table.num_rows) as out, pa.ipc.new_stream(out, CANDIDATE) as writer:
        writer.write_table(table)
    return out.artifact


def chosen_of(folder: Path, rows: list[tuple[str, int, int]], carve: Carve, size: int = 4_000) -> np.ndarray:
    file = written(candidates(rows, size), folder / "candidates")
    return read_chosen(choose(FileSet.of([file]), carve, (4, 1), 1024, folder / "chosen").file.file)


@UNHURRIED
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 30)), max_size=120),
    st.integers(1, 20),
    st.integers(0, 120),
)
def test_the_smallest_ranks_are_the_same_however_documents_are_split(
    rows: list[tuple[str, int, int]], most: int, cut: int
) -> None:
    table = candidates(rows)
    expected = [(d, h, r) for d in "ab" for h in (0, 1) for r in sorted({x[2] for x in rows if x[:2] == (d, h)})[:most]]
    whole = _smallest(table, most)
    assert [(r["domain"], r["half"], r["rank"]) for r in whole.to_pylist()] == expected
    parts = [_smallest(table.slice(*at), most) for at in ((0, cut), (cut,))]
    assert _smallest(pa.concat_tables(parts), most).equals(whole)
    firsts = {key: 1 + rows.index(key) for key in rows}
    assert all(r["doc_id"] == firsts[r["domain"], r["half"], r["rank"]] for r in whole.to_pylist())


def test_joined_files_are_those_of_one_task(tmp_path: Path) -> None:
    rows = [("web", i % 2, (i * 7919) % 1009) for i in range(500)]
    files = [written(candidates(rows[k::3]), tmp_path / str(k)) for k in range(3)]
    joined = join_candidates(FileSet.of(files), 40, tmp_path / "joined").file.file
    with pa.OSFile(str(joined)) as source:
        found = pa.ipc.open_stream(source).read_all()
    expected = _smallest(candidates(rows), 40)
    assert [r["rank"] for r in found.to_pylist()] == [r["rank"] for r in expected.to_pylist()]


@UNHURRIED
@given(st.integers(0, 5), st.integers(2_000, 60_000))
def test_how_many_texts_there_are_is_known_within_an_eighth(seed: int, texts: int) -> None:
    ranks = np.sort(np.random.default_rng(seed).integers(0, 1 << 64, texts, np.uint64))
    assert abs(texts_of(ranks[:1024], 1024) - texts) < texts / 8
    assert texts_of(ranks[:500], 1024) == 500


def test_of_short_documents_there_are_more_and_never_more_than_a_fifth(tmp_path: Path) -> None:
    many = [("web", h, 1 + i) for h in (0, 1) for i in range(900)]
    # 1,000 tokens each: 20 documents of a half are less than 30,000 tokens.
    long = chosen_of(tmp_path / "long", many, Carve(documents=40, tokens=60_000))
    assert np.bincount(long["half"]).tolist() == [30, 30]
    short = chosen_of(tmp_path / "short", many, Carve(documents=40, tokens=60_000), size=400)
    assert np.bincount(short["half"]).tolist() == [900 // 2 // LARGEST_PART] * 2
    assert len(set(long["id"].tolist())) == 60 and (np.diff(long["id"].astype(np.int64)) > 0).all()
    # Of the second half, none that the first one has: here all documents are in both.
    contents = {1 + i: r[2] for i, r in enumerate(many)}
    assert len({contents[doc] for doc in long["id"].tolist()}) == 60


def test_of_few_long_documents_each_is_measured_on_more(tmp_path: Path) -> None:
    books = [("books", h, 1 + i) for h in (0, 1) for i in range(30)]
    found = chosen_of(tmp_path, books, Carve(documents=40, tokens=60_000), size=500_000)
    assert np.bincount(found["half"]).tolist() == [3, 3] and set(found["most"].tolist()) == {10_000}


@UNHURRIED
@given(st.integers(1, 5_000), st.integers(2, 3_000), st.sampled_from([64, 256]))
def test_windows_lie_evenly_over_a_document(size: int, most: int, length: int) -> None:
    whole = _Piece(7, 1, 0, np.arange(size, dtype=np.int32), np.empty(0, np.int64))
    found = _windows(whole, most, length)
    assert found[0].start == 0 and all((w.stream == np.arange(w.start, w.start + len(w.stream))).all() for w in found)
    ends = [0, *(w.start + len(w.stream) for w in found)]
    assert all(w.start >= end and len(w.stream) for w, end in zip(found, ends, strict=False))
    measured = sum(len(w.stream) for w in found)
    if size <= most:
        assert measured == size
    else:
        assert (measured <= most + length and len(found) >= max(1, most // length - 1)) or measured == size
        gaps = np.diff([w.start for w in found])
        assert not len(gaps) or gaps.max() - gaps.min() <= min(length, most)


def test_a_tuning_has_none_of_it_in_its_pools(carved: Path) -> None:
    from fox1.tune.pools import open_source_run

    apart = {row["doc_id"] for row in decisions_of(carved) if row["reason"] == CARVED}
    shards = [shard.file.file for group in open_source_run(carved).groups for shard in group.shards]
    there = {doc for path in shards for batch in token_batches(path) for doc in batch["doc_id"].to_pylist()}
    assert len(there) > 100 and apart and not there & apart

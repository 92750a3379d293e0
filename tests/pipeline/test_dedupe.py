"""Dedupe: dropped only for a kept, verified duplicate; the best copy survives; the same answer for any schedule."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.dedupe import decide, near
from fox1.pipeline.dedupe.order import Chunks, DedupeSettings, ranks
from fox1.pipeline.identity import SourceFile, file_hash, group_files
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.sources.listing import SourceSettings
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.test_signals import shingles

ALL = Phase("p", 1000, (Weight(1.0),), (BlockRule(256),))


def write(root: Path, corpus: str, texts: list[str], name: str = "a") -> None:
    (root / corpus).mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"text": t, "meta": {"pile_set_name": "Pile-CC"}}) for t in texts]
    (root / corpus / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


def settings_for(root: Path, *corpora: str, held_out: str = "", **options: Any) -> CurateSettings:
    sources = [SourceSettings(c, "pile", str(root / c), ("a*",)) for c in corpora]
    if held_out:
        sources.append(SourceSettings(held_out, "pile", str(root / held_out), ("val*",), held_out=True))
    dedupe = DedupeSettings(priority=corpora, **options)
    from fox1.tokenize.model import TokenizerSettings

    return CurateSettings(
        tuple(sources), MixSettings((ALL,)), dedupe=dedupe, tokenizer=TokenizerSettings(vocab_size=300)
    )


def decisions(run: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted((run / "decisions").rglob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows


def sentence(rng: random.Random, n: int = 120) -> list[str]:
    return ["".join(rng.choices("abcdefghij", k=6)) for _ in range(n)]


def dedupe(root: Path, out: Path, curate: Callable[..., Any], *corpora: str, **options: Any) -> list[dict[str, Any]]:
    curate(settings_for(root, *corpora, **options), out, "prepare", "scan", "filter", "dedupe")
    return decisions(out)


def test_the_copy_of_the_best_corpus_survives(tmp_path: Path, curate: Callable[..., Any]) -> None:
    rng = random.Random(1)
    words = sentence(rng)
    exact, near_copy = " ".join(words), " ".join([*words[:-2], "changed", "end"])
    write(tmp_path, "low", [exact, near_copy, " ".join(sentence(rng))])
    write(tmp_path, "high", [exact.replace(" ", "\n")])
    rows = dedupe(tmp_path, tmp_path / "run", curate, "high", "low")
    kept = {r["doc_id"]: r for r in rows if r["kept"]}
    best = next(r for r in rows if r["corpus"] == "high")
    assert best["kept"] and best["cluster_size"] == 3
    low = [r for r in rows if r["corpus"] == "low"]
    assert [r["kind"] for r in low] == ["exact", "near", ""]
    assert [r["reason"] for r in low] == ["exact_duplicate", "near_duplicate", ""]
    assert all(r["duplicate_of"] in kept for r in rows if not r["kept"])
    assert low[0]["similarity"] == 1.0 and 0.78 <= low[1]["similarity"] < 1.0


def test_training_copies_of_held_out_documents_go(tmp_path: Path, curate: Callable[..., Any]) -> None:
    rng = random.Random(2)
    secret = " ".join(sentence(rng))
    write(tmp_path, "one", [secret, " ".join(sentence(rng))])
    write(tmp_path, "two", [secret], "val")
    write(tmp_path, "two", [secret, " ".join(sentence(rng))])
    rows = dedupe(tmp_path, tmp_path / "run", curate, "one", "two", held_out="two")
    reasons = {(r["corpus"], r["file"], r["row"]): r["reason"] for r in rows}
    assert reasons["two", "val.jsonl", 0] == ""
    assert reasons["one", "a.jsonl", 0] == reasons["two", "a.jsonl", 0] == "held_out"


def test_a_chain_of_revisions_keeps_what_no_kept_document_covers(tmp_path: Path, curate: Callable[..., Any]) -> None:
    """Every revision resembles its neighbours only: the transitive cluster would leave one document of all."""
    rng = random.Random(3)
    words = sentence(rng, 400)
    chain = []
    for _i in range(60):
        words = words[12:] + sentence(rng, 12)
        chain.append(" ".join(words))
    write(tmp_path, "c", chain)
    rows = dedupe(tmp_path, tmp_path / "run", curate, "c")
    text = {r["doc_id"]: chain[r["row"]] for r in rows}
    kept = {r["doc_id"] for r in rows if r["kept"]}
    assert len(kept) > 5
    for row in rows:
        if not row["kept"]:
            assert row["duplicate_of"] in kept
            a, b = shingles(text[row["doc_id"]]), shingles(text[row["duplicate_of"]])
            assert len(a & b) / len(a | b) > 0.6


@pytest.mark.slow
def test_planted_duplicates_are_found_with_the_recall_theory_promises(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(5)
    originals, copies, similar = [], [], []
    for _i in range(300):
        words = sentence(rng, 300)
        originals.append(" ".join(words))
        changed = words[: 300 - 12] + sentence(rng, 12)
        copies.append(" ".join(changed))
        # Half of it is the same: no duplicate.
        similar.append(" ".join(words[:170] + sentence(rng, 130)))
    write(tmp_path, "a", originals)
    write(tmp_path, "b", copies)
    write(tmp_path, "c", similar)
    rows = dedupe(tmp_path, tmp_path / "run", curate, "a", "b", "c")
    dropped = [sum(not r["kept"] for r in rows if r["corpus"] == c) for c in "abc"]
    assert dropped[0] == 0
    assert dropped[1] >= 0.97 * 300
    assert dropped[2] <= 3


EDGES = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)).filter(lambda e: e[0] != e[1]), max_size=40)


@settings(max_examples=200, deadline=None)
@given(EDGES)
def test_the_decision_is_the_lexicographically_first_independent_set(pairs: list[tuple[int, int]]) -> None:
    edges = sorted({(max(a, b), min(a, b)) for a, b in pairs})
    chosen = decide._first_independent_set(
        np.array([a for a, _ in edges], np.int64), np.array([b for _, b in edges], np.int64), 15
    )
    kept: set[int] = set()
    for document in range(15):
        if not any((document, better) in edges and better in kept for better in range(document)):
            kept.add(document)
    assert {i for i in range(15) if chosen[i] < 0} == kept
    for document in set(range(15)) - kept:
        worse, better = edges[chosen[document]]
        assert worse == document and better in kept


def test_a_bucket_is_compared_with_its_best_members_only() -> None:
    worse, better = near._pairs(np.array([0, 5]), np.array([5, 3]), 2)
    pairs = set(zip(worse.tolist(), better.tolist(), strict=True))
    assert pairs == {(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (6, 5), (7, 5), (7, 6)}


def test_chunks_follow_bytes_of_text_and_many_groups_need_few_ranks() -> None:
    files = [SourceFile("c", f"{i}", "", 0, "", "pile", False, file_hash("c", f"{i}")) for i in range(400)]
    groups = group_files(files)
    chunks = Chunks.build(groups, [100 << 20] * len(groups))
    assert len(chunks.members) == -(-len(groups) * 100 // 2048)
    assert max(map(len, chunks.members)) <= 2 * min(map(len, chunks.members))
    assert ranks(DedupeSettings(), [g.corpus for g in groups]) == {"c": 0}


def test_every_drop_of_the_run_names_a_kept_document(run: Path) -> None:
    rows = decisions(run)
    kept = {r["doc_id"] for r in rows if r["kept"]}
    duplicates = [r for r in rows if r["duplicate_of"]]
    assert duplicates
    assert all(r["duplicate_of"] in kept and r["kind"] in ("exact", "near") for r in duplicates)
    size = sum(r["cluster_size"] for r in rows if r["kept"])
    assert size == len(kept) + len(duplicates)
    assert {r["corpus"] for r in rows} == {"redpajama", "slimpajama", "dolma", "pile", "refinedweb"}


def test_overlap_matrices_are_symmetric_where_they_must_be(run: Path) -> None:
    overlap = json.loads((run / "stats" / "overlap.json").read_text())
    matrix = np.array(overlap["overlap_exact_all"])
    assert matrix[overlap["corpora"].index("slimpajama"), overlap["corpora"].index("redpajama")] > 0
    # Whether two corpora share anything does not depend on the direction.
    assert ((matrix > 0) == (matrix.T > 0)).all()

"""Dedupe: dropped only for a kept, verified duplicate; the best copy survives; the same answer for any schedule."""

from __future__ import annotations

import json
import pickle
import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.dedupe.guard import NearLoss
from fox1.pipeline.dedupe.order import Chunks, DedupeSettings, Part, UrlSettings, ranks
from fox1.pipeline.inspect.lookup import find
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import Group, SourceFile, file_hash, group_files
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows

from tests.pipeline.signals.test_minhash import shingles

ALL = Phase("p", 1000, (Weight(1.0),), (BlockRule(256),))


def write(root: Path, corpus: str, texts: list[str], name: str = "a") -> None:
    (root / corpus).mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"text": t, "meta": {"pile_set_name": "Pile-CC"}}) for t in texts]
    (root / corpus / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


def settings_for(root: Path, *corpora: str, held_out: str = "", **options: Any) -> CurateSettings:
    sources = [SourceSettings(c, "pile", str(root / c), ("a*",)) for c in corpora]
    if held_out:
        sources.append(SourceSettings(held_out, "pile", str(root / held_out), ("val*",), held_out=True))
    near_limits = options.pop("near_limits", ())
    dedupe = DedupeSettings(priority=corpora, **options)
    from fox1.tokenize.model import TokenizerSettings

    return CurateSettings(
        tuple(sources),
        MixSettings((ALL,)),
        dedupe=dedupe,
        tokenizer=TokenizerSettings(vocab_size=300),
        near_limits=near_limits,
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


def dolma(root: Path, corpus: str, rows: list[tuple[str, str, str]]) -> SourceSettings:
    """A source of Dolma's format; rows are (text, URL, day)."""
    (root / corpus).mkdir(parents=True, exist_ok=True)
    lines = [
        {"id": str(i), "text": t, "source": "cc", "created": day, "metadata": {"url": url}}
        for i, (t, url, day) in enumerate(rows)
    ]
    (root / corpus / "a.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return SourceSettings(corpus, "dolma", str(root / corpus), ("a*",))


def test_of_one_address_the_newest_stays_and_names_what_stands_for_it(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(6)
    words = sentence(rng)
    texts = [" ".join(sentence(rng)) for _ in range(4)]
    near_copy = " ".join([*words[:-2], "changed", "end"])
    rows = [
        (texts[0], "http://www.Example.com/a/", "2020-01-01"),
        (texts[1], "https://example.com/a#top", "2021-01-01"),
        (near_copy, "https://example.com/b?utm_source=x", "2022-05-01"),
        (texts[2], "https://example.com/b", "2022-04-01"),
        (texts[3], "", "2022-04-01"),
    ]
    settings = settings_for(tmp_path, "best", "web")
    write(tmp_path, "best", [" ".join(words)])
    settings = replace(
        settings,
        sources=(settings.sources[0], dolma(tmp_path, "web", rows)),
        dedupe=replace(settings.dedupe, url=UrlSettings(("web",), "newest")),
    )
    curate(settings, tmp_path / "run", "prepare", "scan", "filter", "dedupe")
    by_row = {(r["corpus"], r["row"]): r for r in decisions(tmp_path / "run")}
    kept = {r["doc_id"] for r in by_row.values() if r["kept"]}
    assert [by_row["web", i]["reason"] for i in range(5)] == [
        "url_duplicate",
        "",
        "near_duplicate",
        "url_duplicate",
        "",
    ]
    assert by_row["web", 0]["duplicate_of"] == by_row["web", 1]["doc_id"]
    # The newest copy of b fell to a better document, which stands for the older one as well.
    assert by_row["web", 3]["duplicate_of"] == by_row["best", 0]["doc_id"] in kept
    assert by_row["web", 3]["kind"] == "url" and by_row["web", 3]["similarity"] == 0
    assert by_row["best", 0]["cluster_size"] == 3


def test_a_subset_that_loses_too_much_stops_the_run_and_shows_what_went(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(8)
    words = sentence(rng)
    texts = [" ".join([*words[:-2], f"copy\x1b[31m{i}", "end"]) for i in range(150)]
    write(tmp_path, "c", [*texts, *(" ".join(sentence(rng)) for _ in range(50))])
    limits = (("all", 1.0), ("c/Pile-CC", 0.7))
    with pytest.raises(NearLoss, match=r"drops 149 of 200 documents of c/Pile-CC \(74.5 %\).*limit of 70 %") as caught:
        dedupe(tmp_path, tmp_path / "run", curate, "c", near_limits=limits)
    assert "149 near copies of c/a.jsonl#" in caught.value.details[1] and words[0] in caught.value.details[1]
    assert "\x1b" not in "".join(caught.value.details)
    # A higher limit goes on from what was decided.
    _, engine = curate(
        settings_for(tmp_path, "c", near_limits=(("all", 0.8),)),
        tmp_path / "run",
        "prepare",
        "scan",
        "filter",
        "dedupe",
    )
    assert all(done == total for done, total in engine.reused.values())


def test_new_corpora_are_compared_with_a_finished_run_without_its_text(
    tmp_path: Path, curate: Callable[..., Any], settings_of: Callable[..., Any]
) -> None:
    rng = random.Random(9)
    texts = [" ".join(sentence(rng)) for _ in range(30)]
    write(tmp_path, "old", texts)
    settings = replace(settings_for(tmp_path, "old"), mix=MixSettings((ALL,)))
    curate(settings, tmp_path / "one")
    (tmp_path / "old").rename(tmp_path / "gone")
    before = (tmp_path / "one" / "decisions" / "old" / "a.jsonl.parquet").read_bytes()

    near_copies = [" ".join([*t.split()[:-2], "changed", "end"]) for t in texts[:10]]
    write(tmp_path, "new", [*near_copies, *texts[10:15], *(" ".join(sentence(rng)) for _ in range(20)), texts[20]])
    fresh = replace(settings_for(tmp_path, "new"), against=str(tmp_path / "one"))
    curate(fresh, tmp_path / "two", "prepare", "scan", "filter", "dedupe")
    rows = sorted(decisions(tmp_path / "two"), key=lambda r: r["row"])
    old = {r["row"]: r["doc_id"] for r in decisions(tmp_path / "one")}
    assert [r["duplicate_of"] for r in rows[:15]] == [old[i] for i in range(15)]
    assert [r["kind"] for r in rows] == ["near"] * 10 + ["exact"] * 5 + [""] * 20 + ["exact"]
    assert {r["corpus"] for r in rows} == {"new"}
    assert (tmp_path / "one" / "decisions" / "old" / "a.jsonl.parquet").read_bytes() == before
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["against"] == str(tmp_path / "one")

    other = replace(fresh, scan=replace(fresh.scan, minhash=replace(fresh.scan.minhash, bands=9)))
    with pytest.raises(ValueError, match="was scanned with a different band_signature"):
        curate(other, tmp_path / "three", "scan")
    signals = tmp_path / "one" / "signals" / "old" / "a.jsonl.parquet"
    table, stored = pq.read_table(signals), signals.read_bytes()
    at = table.schema.get_field_index("content_hash")
    murmur = table.schema.field(at).with_metadata({"encoding": "murmur3_x64_128 of NFC, white space collapsed; v1"})
    pq.write_table(table.cast(table.schema.set(at, murmur)), signals)
    with pytest.raises(ValueError, match=r"one was scanned by an earlier version of fox1, with other content hashes"):
        curate(fresh, tmp_path / "three", "scan")
    with pytest.raises(ValueError, match=r"has content hashes of murmur3_x64_128, not blake3; run `fox1 curate`"):
        find(FinishedRun(RunPaths(tmp_path / "one")), "text", texts[0])
    signals.write_bytes(stored)
    (tmp_path / "gone").rename(tmp_path / "old")
    both = replace(settings_for(tmp_path, "old", "new"), against=str(tmp_path / "one"))
    with pytest.raises(ValueError, match=r"old/a.jsonl has the id of old/a.jsonl in .*one"):
        curate(both, tmp_path / "three", "scan")
    with pytest.raises(ValueError, match=r"manifest.json is missing; is this a finished run\?"):
        curate(replace(fresh, against=str(tmp_path / "nowhere")), tmp_path / "three", "scan")


def test_every_dropped_document_resembles_the_one_that_stands_for_it(run: Path, corpora: Path) -> None:
    """By the text of all rows: equal where it says exact, alike where it says near."""
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import sources_of

    recipe, _ = load_recipe("sample", [], {"FOX1_DATA": str(corpora)})
    texts: dict[tuple[str, str, int], str] = {}
    for file in list_sources(sources_of(recipe)):
        for batch in read_rows(file, Quarantine(file)):
            for row, text in zip(batch.column("row").to_pylist(), batch.column("text").to_pylist(), strict=True):
                texts[file.corpus, file.path, row] = text
    rows = decisions(run)
    place = {r["doc_id"]: (r["corpus"], r["file"], r["row"]) for r in rows}
    checked = {"exact": 0, "near": 0}
    for r in rows:
        if not r["duplicate_of"]:
            continue
        mine, other = (unicodedata.normalize("NFC", texts[place[r[k]]]) for k in ("doc_id", "duplicate_of"))
        checked[r["kind"]] += 1
        if r["kind"] == "exact":
            assert mine.split() == other.split()
        else:
            a, b = shingles(mine), shingles(other)
            assert len(a & b) / len(a | b) >= 0.65, place[r["doc_id"]]
    assert min(checked.values()) > 20


def test_chunks_follow_bytes_of_text_and_many_groups_need_few_ranks() -> None:
    files = [SourceFile("c", f"{i}", "", 0, "", "pile", False, file_hash("c", f"{i}")) for i in range(400)]
    groups = group_files(files)
    chunks = Chunks.build(groups, [(100 << 20, 1000)] * len(groups))
    assert len(chunks.members) == -(-len(groups) * 100 // 2048)
    assert max(map(len, chunks.members)) <= 2 * min(map(len, chunks.members))
    assert ranks(DedupeSettings(), [g.corpus for g in groups]) == {"c": 1}


def test_chunks_of_many_small_files_have_less_text() -> None:
    def group(index: int, files: int) -> Group:
        some = [SourceFile("c", f"{index}-{i}", "", 0, "", "pile", False, index << 20 | i) for i in range(files)]
        return Group("c", index, False, tuple(some))

    groups = [group(i, 1 if i < 100 else 96) for i in range(200)]
    chunks = Chunks.build(groups, [(1 << 30, 1000)] * len(groups))
    large, small = (
        max(len(c) for c in chunks.members if kind(c)) for kind in (lambda c: c[-1] < 100, lambda c: c[0] >= 100)
    )
    assert len(chunks.members) == 100 and small <= large // 2


def test_every_drop_of_the_run_names_a_kept_document(run: Path) -> None:
    rows = decisions(run)
    kept = {r["doc_id"] for r in rows if r["kept"]}
    duplicates = [r for r in rows if r["duplicate_of"]]
    assert duplicates
    assert all(r["duplicate_of"] in kept and r["kind"] in ("exact", "near") for r in duplicates)
    size = sum(r["cluster_size"] for r in rows if r["kept"])
    assert size == len(kept) + len(duplicates)
    assert {r["corpus"] for r in rows} == {"redpajama", "slimpajama", "dolma", "pile", "refinedweb"}


def test_overlap_counts_what_holds_copies_of_what(run: Path) -> None:
    overlap = json.loads((run / "stats" / "overlap.json").read_text())
    cells = {(a, b): (n, size) for a, b, n, size in overlap["all_corpora"]}
    names = overlap["corpora"]
    assert cells[names.index("slimpajama"), names.index("redpajama")][0] > 0
    # Whether two corpora share anything does not depend on the direction.
    assert all((b, a) in cells for a, b in cells)
    rows = decisions(run)
    clusters: dict[int, list[str]] = {r["doc_id"]: [r["corpus"]] for r in rows if r["kept"]}
    for r in rows:
        if r["duplicate_of"]:
            clusters[r["duplicate_of"]].append(r["corpus"])
    near = {(a, b): n for a, b, n, _ in overlap["near_corpora"]}
    for a, one in enumerate(names):
        for b, other in enumerate(names):
            mates = [c.count(one) for c in clusters.values() if (other in c if a != b else c.count(one) > 1)]
            assert near.get((a, b), 0) == sum(mates), (one, other)
    figures = json.loads((run / "stats" / "dedupe.json").read_text())
    assert sum(figures["cluster_sizes"].values()) == sum(r["kept"] for r in rows)


def test_hundreds_of_files_travel_in_a_few_bytes() -> None:
    names = [f"train/chunk{i % 7}/example_train_{i}.jsonl.zst" for i in range(400)]
    files = tuple(
        SourceFile("web", n, f"s3://bucket/web/{n}", 50 << 20, "v", "pile", False, file_hash("web", n)) for n in names
    )
    made = [tuple(Artifact(f"/scratch/run/{k}/{n}", i, i, f"{i:032x}") for i, n in enumerate(names)) for k in "ab"]
    part = Part(Group("web", 0, False, files), made[0], made[1], made[0][0])
    packed = pickle.dumps(part)
    assert pickle.loads(packed) == part and len(packed) < 40_000

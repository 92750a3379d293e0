"""Scores of others: joined by any key, bounded by rules, ranked like our own quality, and never lost in silence."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.extract.settings import StepSettings
from fox1.pipeline.filter.judge import FilterSettings, Section
from fox1.pipeline.filter.score_files import read_scores
from fox1.pipeline.run.identity import ROW_BITS, file_hash
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.scan import EditSettings
from fox1.pipeline.signals.scores import ScoreSettings, as_quality
from fox1.pipeline.sources.listing import SourceSettings
from fox1.tokenize.shards import token_batches

from tests.conftest import run_command
from tests.pipeline.dedupe.test_dedupe import ALL, decisions, sentence, settings_for
from tests.pipeline.signals.fasttext_files import made_up

STAGES = ("prepare", "scan", "filter", "dedupe")
EDU = ScoreSettings("edu", files=("edu.*",), worst=0.0, best=5.0)


def write(root: Path, texts: list[str], name: str = "a", first: int = 0) -> None:
    (root / "dolma").mkdir(exist_ok=True)
    rows = [
        {"id": f"doc-{first + i}", "text": t, "source": "c4", "metadata": {"url": f"https://www.site{i}.org/x"}}
        for i, t in enumerate(texts)
    ]
    (root / "dolma" / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def asked(root: Path, *scores: ScoreSettings, held_out: bool = False, **thresholds: float) -> CurateSettings:
    """Settings with scores, whose files lie below `root`, and rules on them."""
    sources = [SourceSettings("dolma", "dolma", str(root / "dolma"), ("a*", "b*"))]
    if held_out:
        sources.append(SourceSettings("dolma", "dolma", str(root / "dolma"), ("val*",), held_out=True))
    placed = tuple(replace(s, files=tuple(str(root / f) for f in s.files)) for s in scores)
    rules = tuple(thresholds.items())
    bounded = tuple(s for s in placed if any(key.endswith(s.column) for key in thresholds))
    return replace(
        settings_for(root, "dolma"),
        sources=tuple(sources),
        scores=placed,
        filter=FilterSettings((Section("all", rules),) if rules else (), scores=bounded),
    )


def texts(n: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(sentence(rng)) for _ in range(n)]


def doc_id(row: int, name: str = "a") -> int:
    return file_hash("dolma", f"{name}.jsonl") << ROW_BITS | row


def by_doc_id(path: Path, scores: dict[tuple[str, int], float]) -> None:
    ids = [doc_id(row, name) for name, row in scores]
    pq.write_table(
        pa.table({"doc_id": pa.array(ids, pa.uint64()), "score": list(scores.values())}), path / "edu.parquet"
    )


def by_native_id(path: Path, scores: dict[tuple[str, int], float]) -> None:
    first = {"a": 0, "b": 100, "val": 200}
    lines = [
        "key,edu",
        *(f"doc-{first[name] + row},{score}" for (name, row), score in scores.items()),
        "doc-none,7",
        "doc-9,",
    ]
    (path / "edu.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


def by_row(path: Path, scores: dict[tuple[str, int], float]) -> None:
    rows = [
        {"corpus": "dolma", "file": f"{n}.jsonl", "row": r, "score": s, "more": [1]} for (n, r), s in scores.items()
    ]
    rows += [
        {"corpus": "dolma", "file": "other.jsonl", "row": 1, "score": 1},
        {"corpus": "dolma", "file": "a.jsonl", "row": 0},
    ]
    data = "\n".join(json.dumps(r) for r in rows).encode()
    (path / "edu.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(data))


WAYS: dict[str, tuple[Callable[[Path, dict[tuple[str, int], float]], None], dict[str, Any]]] = {
    "doc_id": (by_doc_id, {}),
    "native_id": (by_native_id, {"key": "native_id", "columns": (("native_id", "key"), ("score", "edu"))}),
    "row": (by_row, {"key": "row"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_column_file_joins_by_any_key(tmp_path: Path, curate: Callable[..., Any], way: str) -> None:
    write(tmp_path, texts(6))
    write(tmp_path, texts(5, 2), "b", 100)
    write(tmp_path, texts(2, 3), "val", 200)
    scores = {("a", i): float(i) for i in range(6)} | {("b", i): 4.5 - i for i in range(5)}
    write_file, facts = WAYS[way]
    write_file(tmp_path, scores)
    settings = asked(tmp_path, replace(EDU, **facts), held_out=True, min_score_edu=2.0, max_score_edu=4.0)
    curate(settings, tmp_path / "run", *STAGES)
    found = {(r["file"].removesuffix(".jsonl"), r["row"]): r["reasons"] for r in decisions(tmp_path / "run")}
    for key, score in scores.items():
        failed = [name for name, bad in (("min_score_edu", score < 2), ("max_score_edu", score > 4)) if bad]
        assert found[key] == failed, key
    # Held-out documents need no score.
    assert found["val", 0] == found["val", 1] == []
    stored = pq.read_table(tmp_path / "run/scores/dolma/b.jsonl.parquet")
    assert stored.column("score_edu").to_pylist() == [scores["b", i] for i in range(5)]
    assert stored.column("doc_id").to_pylist() == [doc_id(i, "b") for i in range(5)]
    assert f"by {way}" in stored.schema.field("score_edu").metadata[b"encoding"].decode()
    assert pq.read_table(tmp_path / "run/scores/dolma/val.jsonl.parquet")["score_edu"].to_pylist() == [None, None]


def test_documents_without_a_score_are_counted_and_the_recipe_says_what_they_are(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    write(tmp_path, texts(4))
    by_doc_id(tmp_path, {("a", 0): 3.0, ("a", 2): 1.0})
    settings = asked(tmp_path, EDU, min_score_edu=2.0)
    with pytest.raises(
        ValueError, match=r"scores.edu: 2 documents have no score \(dolma 2\), e.g. dolma/a.jsonl#1; add"
    ) as no:
        curate(settings, tmp_path / "run", *STAGES)
    assert "missing` to keep or drop" in str(no.value) and str(no.value).isprintable()
    expected = {
        "keep": [[], [], ["min_score_edu"], []],
        "drop": [[], ["min_score_edu"], ["min_score_edu"], ["min_score_edu"]],
    }
    for missing, reasons in expected.items():
        said = asked(tmp_path, replace(EDU, missing=missing), min_score_edu=2.0)  # type: ignore[arg-type]
        summary, engine = curate(said, tmp_path / "run", *STAGES)
        assert [r["reasons"] for r in decisions(tmp_path / "run")] == reasons
        assert "scores.edu: 2 documents have no score (dolma 2)" in summary.notes
        # Nothing is scanned again.
        assert engine.reused["scan"][0] == engine.reused["scan"][1]
    elsewhere = asked(tmp_path, replace(EDU, domains=("code",)), min_score_edu=2.0)
    curate(elsewhere, tmp_path / "run", *STAGES)
    assert [r["reasons"] for r in decisions(tmp_path / "run")] == [[], [], ["min_score_edu"], []]
    nobody, engine = curate(asked(tmp_path, min_words=1.0), tmp_path / "run", *STAGES)
    assert not list((tmp_path / "run/scores").rglob("*.parquet")) and not nobody.notes


def test_a_document_that_a_step_dropped_needs_no_score(tmp_path: Path, curate: Callable[..., Any]) -> None:
    whole = texts(4)
    write(tmp_path, [*whole[:3], f"advertised advertised {whole[3]}"])
    by_doc_id(tmp_path, {("a", 0): 3.0, ("a", 1): 3.0})
    steps = (StepSettings("fewer", f"{Path(__file__).parents[1] / 'extract' / 'made_steps.py'}:Fewer"),)
    settings = asked(tmp_path, replace(EDU, missing="drop"), min_score_edu=2.0)
    settings = replace(settings, before_scan=steps, filter=replace(settings.filter, steps=("fewer",)))
    summary, _ = curate(settings, tmp_path / "run", *STAGES)
    assert [r["reasons"] for r in decisions(tmp_path / "run")] == [[], [], ["min_score_edu"], ["fewer"]]
    assert "scores.edu: 1 document has no score (dolma 1)" in summary.notes


def test_a_changed_file_filters_again_without_a_scan(tmp_path: Path, curate: Callable[..., Any]) -> None:
    write(tmp_path, texts(4))
    settings = asked(tmp_path, EDU, min_score_edu=2.0)
    for scores, kept in (((3.0, 1.0, 3.0, 1.0), [True, False] * 2), ((1.0, 3.0, 1.0, 3.0), [False, True] * 2)):
        by_doc_id(tmp_path, {("a", i): s for i, s in enumerate(scores)})
        _, engine = curate(settings, tmp_path / "run", *STAGES)
        assert [r["kept"] for r in decisions(tmp_path / "run")] == kept
    assert engine.reused["scan"] == (1, 1) and engine.reused["filter"] == (0, 1)
    _, engine = curate(settings, tmp_path / "run", *STAGES)
    assert all(reused == tasks for reused, tasks in engine.reused.values())


def test_a_score_ranks_like_our_own_quality(tmp_path: Path, curate: Callable[..., Any]) -> None:
    """The better copy stays, a phase takes the best first, and floors are shares of the scale."""
    kept = texts(6)
    write(tmp_path, kept)
    write(tmp_path, [kept[0], kept[1]], "b", 100)
    scores = {("a", i): float(i) for i in range(6)} | {("b", 0): 4.0, ("b", 1): 0.5}
    by_doc_id(tmp_path, scores)
    settings = replace(asked(tmp_path, EDU), ranking=(("web", "edu"),))
    curate(settings, tmp_path / "run", *STAGES, "tokenize")
    found = {(r["file"], r["row"]): r["kept"] for r in decisions(tmp_path / "run")}
    assert found["b.jsonl", 0] and not found["a.jsonl", 0]
    assert found["a.jsonl", 1] and not found["b.jsonl", 1]
    tokens = [b for p in (tmp_path / "run/tokens").rglob("*.arrow") for b in token_batches(p)]
    quality = {
        d: q for b in tokens for d, q in zip(*(b.column(n).to_pylist() for n in ("doc_id", "quality")), strict=True)
    }
    assert len(quality) == 6
    for (name, row), score in scores.items():
        if found[f"{name}.jsonl", row]:
            assert quality[doc_id(row, name)] == as_quality(np.array([score], np.float32), (0.0, 5.0))[0]
    best = replace(ALL, tokens=200, prefer="quality")
    mixed = replace(settings, mix=replace(settings.mix, phases=(best,)))
    curate(mixed, tmp_path / "run")
    from fox1.pipeline.inspect.provenance import why
    from fox1.pipeline.inspect.run import FinishedRun

    run = FinishedRun(RunPaths(tmp_path / "run"))
    first = why(run, "dolma/a.jsonl#5")
    assert first.blocks and first.signals["score_edu"] == 5.0 and first.signals["quality"] == 65_535
    assert not why(run, "dolma/a.jsonl#1").blocks
    said = json.loads((tmp_path / "run/stats/prepared.json").read_text())["scores"]["edu"]
    assert (said["rows"], said["matched"], said["missing"]) == (8, 8, {})


def test_two_scores_of_a_document_are_refused(tmp_path: Path, curate: Callable[..., Any]) -> None:
    write(tmp_path, texts(3))
    rows = pa.table({"doc_id": pa.array([doc_id(i) for i in (0, 1, 2, 1)], pa.uint64()), "score": [1.0, 2.0, 3.0, 2.0]})
    pq.write_table(rows, tmp_path / "edu.parquet")
    settings = asked(tmp_path, EDU, min_score_edu=2.0)
    curate(settings, tmp_path / "run", *STAGES)  # equal ones are one
    pq.write_table(rows.set_column(1, "score", pa.array([1.0, 2.0, 3.0, 4.0])), tmp_path / "edu.parquet")
    with pytest.raises(ValueError, match=r"scores.edu: dolma/a.jsonl#1 has the scores 2 and 4"):
        curate(settings, tmp_path / "run", *STAGES)


def test_bytes_do_not_depend_on_the_order_or_number_of_files(tmp_path: Path, curate: Callable[..., Any]) -> None:
    write(tmp_path, texts(9))
    ids, scores = [f"doc-{i}" for i in range(9)], [i / 2 for i in range(9)]
    hashes = []
    for run, order, files in (("one", range(9), 1), ("three", range(8, -1, -1), 3)):
        for old in tmp_path.glob("edu.*"):
            old.unlink()
        for part in range(files):
            rows = [{"native_id": ids[i], "score": scores[i]} for i in list(order)[part::files]]
            (tmp_path / f"edu.{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        settings = asked(tmp_path, replace(EDU, key="native_id"), min_score_edu=2.0)
        curate(settings, tmp_path / run, *STAGES)
        stored = pq.read_table(tmp_path / run / "scores/dolma/a.jsonl.parquet")
        hashes.append(stored.column("score_edu").to_pylist())
    assert hashes[0] == hashes[1] == scores


def test_a_classifier_scores_the_edited_text_in_scan(tmp_path: Path, curate: Callable[..., Any]) -> None:
    model = made_up(5, shortest=2, longest=3, ngrams=2, buckets=64)
    (tmp_path / "hq.bin").write_bytes(model.file())
    rows = ["the cat sat of the cat", "the cat wrote to cat@sat.org, the naïve", "x y z " * 9, "of of"]
    write(tmp_path, rows)
    score = ScoreSettings("hq", fasttext=str(tmp_path / "hq.bin"), labels=(("__label__good", 1.0),))
    settings = asked(tmp_path, score)
    scan = replace(settings.scan, edits=EditSettings(pii=(("email", "EMAIL"),)))
    settings = replace(settings, scan=scan)
    _, engine = curate(settings, tmp_path / "run", "scan")
    stored = pq.read_table(tmp_path / "run/signals/dolma/a.jsonl.parquet")
    edited = [rows[0], rows[1].replace("cat@sat.org", "EMAIL"), *rows[2:]]
    expected = [model.probabilities(text)[0] for text in edited]  # type: ignore[index]
    np.testing.assert_allclose(stored.column("score_hq").to_numpy(), expected, atol=1e-6)
    said = stored.schema.field("score_hq").metadata[b"encoding"].decode()
    assert said.startswith("fastText hq.bin, ")
    cut = sorted(expected)[1]
    bounded = replace(
        settings, filter=FilterSettings((Section("all", (("min_score_hq", cut + 1e-5),)),), scores=(score,))
    )
    _, engine = curate(bounded, tmp_path / "run", "filter")
    assert engine.reused["scan"] == (1, 1)
    filtered = [
        r for p in (tmp_path / "run/filtered").rglob("*.parquet") for r in pq.read_table(p)["reason"].to_pylist()
    ]
    assert [not reason for reason in filtered] == [p > cut + 1e-5 for p in expected]
    (tmp_path / "hq.bin").write_bytes(replace(model, outputs=-model.outputs).file())
    _, engine = curate(bounded, tmp_path / "run", "filter")
    assert engine.reused["scan"] == (0, 1)


BAD = {
    "x.parquet": (pa.table({"doc_id": [1], "value": [1.0]}), "no column 'score'; name the columns"),
    "y.parquet": (pa.table({"doc_id": [-1], "score": [1.0]}), "document ids are no whole numbers from 0 on"),
    "z.parquet": (pa.table({"doc_id": pa.array([1 << 63], pa.uint64()), "score": [1.0]}), "beyond the last one"),
    "inf.parquet": (pa.table({"doc_id": [1, 2], "score": [1.0, float("inf")]}), "row 1: the score is infinite"),
    "list.parquet": (pa.table({"doc_id": [1], "score": [[1.0]]}), "of the type list"),
    "null.parquet": (pa.table({"doc_id": [1, None], "score": [1.0, 2.0]}), "a row with a score has no doc_id"),
    "a.csv": (b"doc_id,score\n1,2\n3,good\n", "row 1: 'good' is no number"),
    "b.csv": (b"doc_id,score\n1,2,3\n", "Expected 2 columns, got 3"),
    "c.csv": (b"doc_id,doc_id,score\n1,1,2\n", "column doc_id twice"),
    "a.jsonl": (b'{"doc_id": 1, "score": 2}\nnonsense\n', "row 1 is no JSON object"),
    "b.jsonl": (b"[1, 2]\n", "row 0 is no JSON object"),
    "c.jsonl.gz": (gzip.compress(b'{"doc_id": 1, "score": 2}\n' * 999)[:30], "cannot be read to its end"),
    "d.txt": (b"1 2", "its name says no format"),
    "e.parquet": (b"PAR1nothing", "cannot be read to its end"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_of_others_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, why = BAD[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(content, tmp_path / name)
    with pytest.raises(ValueError, match=r"scores\.edu: ") as refused:
        list(read_scores(str(tmp_path / name), replace(EDU, files=(name,)), 0))
    assert why in str(refused.value) and str(refused.value).isprintable()


def test_what_reads_scores_also_reads_their_absence(tmp_path: Path) -> None:
    lines = b'{"doc_id": "7", "score": null}\n\n{"doc_id": 8, "score": NaN}\n{"score": null}\n{"doc_id": "9", "score": "1.5"}\n'
    (tmp_path / "x.jsonl").write_bytes(lines)
    (some,) = read_scores(str(tmp_path / "x.jsonl"), replace(EDU, files=("x",)), 0)
    assert (some.keys.tolist(), some.scores.tolist(), some.rows) == ([9], [1.5], 4)


def test_recipes_name_scores_and_are_refused_where_they_cannot_be_meant(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / "edu.parquet").touch()
    good = f"scores.edu={{files: [{tmp_path}/edu.parquet], worst: 0, best: 5}}"
    for changes, says in {
        ("filters.web.min_score_edu=2",): "names the score 'edu', which does not exist",
        (good, "filters.web.min_score_edo=2"): "choose from edu",
        (good, "quality.web={score: edo}"): "choose from edu",
        ("scores.edu={files: [x.parquet]}", "quality.web={score: edu}"): "give scores.edu the scores",
        (good, "scores.edu.corpora=[nowhere]"): "names the corpus 'nowhere'",
        (good, "scores.edu.fasttext=x.bin"): "give `fasttext` or `files`",
        (good, "scores.edu.labels=hq"): "`labels` are those of a classifier",
        (good, "scores.edu.key=url"): "doc_id",
        ("quality.web={good: [dolma/c4]}",): "at least one subset",
        ("scores.1x={files: [a]}",): "cannot name a score",
    }.items():
        words = [w for change in changes for w in ("--set", change)]
        done = run_command("recipe", "check", "sample", *words, FOX1_DATA=str(corpora))
        assert done.returncode == 1 and says in done.stderr, (changes, done.stderr)

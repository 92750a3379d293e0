"""Passages of documents that are set apart to measure on: they go from training documents, and none goes from these."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.commands.page.elements import html
from fox1.commands.page.report.duplicates import _passages as passages_cards
from fox1.commands.show.documents import print_why
from fox1.commands.show.stats import _dedupe as dedupe_tables
from fox1.pipeline.carve.settings import CARVED, Carve
from fox1.pipeline.inspect.provenance import why
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.passages.settings import KINDS
from fox1.pipeline.run.paths import RunPaths

from tests.pipeline.dedupe.test_dedupe import decisions, settings_for, write
from tests.pipeline.passages.test_passages import final, sentence, with_letters, with_passages

PAIRS = 24


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, curate: Callable[..., Any]
) -> tuple[Path, dict[tuple[str, str, int], str], list[str]]:
    """(a run, its texts, the line that the documents i and i + PAIRS share); the rest of every document is its own."""
    root, rng = tmp_path_factory.mktemp("apart"), random.Random(5)
    lines = [sentence(rng, 60) for _ in range(PAIRS)]
    texts = [f"{sentence(rng, 150)}\n{lines[i % PAIRS]}\n{sentence(rng, 90)}" for i in range(2 * PAIRS)]
    write(root, "c", texts)
    settings = with_letters(settings_for(root, "c"))
    mix = MixSettings((Phase("p", 3000, (Weight(1.0),), (BlockRule(256),)),))
    settings = replace(
        with_passages(settings, cut=KINDS, min_left=0), mix=mix, carve=Carve(documents=8, tokens=4_000, unfiltered=0.5)
    )
    curate(settings, root / "run")
    return root / "run", {("c", "a.jsonl", i): t for i, t in enumerate(texts)}, lines


def test_no_line_of_a_document_that_is_set_apart_is_trained_on(made: Any) -> None:
    run, texts, lines = made
    apart = {d["row"] for d in decisions(run) if d["reason"] == CARVED}
    held = {row % PAIRS for row in apart}
    kept = {row: text for (_, _, row), text in final(run, texts).items()}
    partners = {row for row in kept if row % PAIRS in held}
    assert len(apart) > 3 and len(partners) > 3
    for i in set(range(PAIRS)) - held:
        assert sum(lines[i] in text for text in kept.values()) == 1
    for row in partners:
        assert lines[row % PAIRS] not in kept[row] and len(kept[row]) > 900


def test_what_is_set_apart_stays_whole_and_what_went_for_it_is_counted_apart(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made[0]
    by_row = {d["row"]: d for d in decisions(run)}
    apart = {row for row, d in by_row.items() if d["reason"] == CARVED}
    listed: dict[int, list[dict[str, Any]]] = {}
    for path in (run / "cuts").rglob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            listed[row["doc_id"]] = row["passages"]
    ids = {d["doc_id"]: row for row, d in by_row.items()}
    assert not any(listed[by_row[row]["doc_id"]] for row in apart)
    of_held = {doc: [p for p in found if p["held_out"]] for doc, found in listed.items()}
    of_held = {doc: found for doc, found in of_held.items() if found}
    assert all(ids[p["kept_in"]] in apart for found in of_held.values() for p in found)
    assert not any(ids[p["kept_in"]] in apart for found in listed.values() for p in found if not p["held_out"])
    figures = json.loads((run / "stats" / "dedupe.json").read_text())["passages"]
    passages = sum(map(len, of_held.values()))
    assert figures["of_held_out"]["documents"] == len(of_held) and figures["of_held_out"]["passages"] == passages
    assert passages < sum(kind["passages"] for kind in figures["kinds"].values())
    opened = FinishedRun(RunPaths(run))
    found = why(opened, str(min(of_held)))
    assert found.passages[0].held_out
    print_why(found)
    assert f"kept in {found.passages[0].kept_in}, which is held out" in capsys.readouterr().out
    went = f"passages ({figures['of_held_out']['bytes']:,} bytes) of {len(of_held)} documents went because"
    stored = json.loads((run / "stats" / "dedupe.json").read_text())
    assert went in " ".join(str(table.caption) for table in dedupe_tables(stored)).replace("None", "")
    card = html(*passages_cards(stored))
    assert went in card.replace(",", "") or went in card
    assert "lines" in card and passages_cards({}) == []

"""`--what-if` with settings of dedupe says what a real change does, and leaves the run as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.commands.show.runs import print_what_if
from fox1.pipeline.curate import CurateSettings, planned_files, planned_groups
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.filter.exclude import read_lists
from fox1.pipeline.filter.judge import FilterSettings, Section
from fox1.pipeline.inspect.what_if import WhatIf
from fox1.pipeline.inspect.what_if_dedupe import Decisive, what_if_dedupe
from fox1.pipeline.passages.settings import PassageSettings
from fox1.pipeline.run.paths import RunPaths

from tests.pipeline.dedupe.test_dedupe import decisions, sentence, settings_for, write


def changed(words: list[str], n: int) -> str:
    """A text with its last words replaced."""
    return " ".join([*words[:-n], *(f"other{i}" for i in range(n))])


def ask(run: Path, work: Path, now: CurateSettings, then: CurateSettings) -> WhatIf:
    paths = RunPaths(run)
    entries = read_lists(then.exclude_lists, [s.corpus for s in then.sources], 0)
    decisive = Decisive(then.filter, then.dedupe, False)
    engine = Engine(RunPaths(work), InProcess())
    groups = planned_groups(now, paths)
    return what_if_dedupe(
        groups, paths, engine, decisive, now.scan.minhash, lambda c: planned_files(now, paths, c), entries
    )


def test_of_a_run_that_cuts_passages_the_decisions_on_whole_documents_are_compared(
    tmp_path: Path, curate: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(8)
    texts = [sentence(rng) for _ in range(8)]
    notice = " ".join(sentence(rng, 40))
    write(tmp_path, "best", [f"{' '.join(t)}\n{notice}" for t in texts])
    low = [f"{changed(t, 4 + 4 * i)}\n{notice}" for i, t in enumerate(texts)]
    write(tmp_path, "low", [*low, f"{' '.join(sentence(rng, 8))}\n{notice}"])
    whole = settings_for(tmp_path, "best", "low", jaccard=0.8)
    now = replace(whole, passages=PassageSettings(("lines",), min_left=20))
    stages = ("prepare", "scan", "filter", "dedupe")
    curate(now, tmp_path / "run", *stages)
    assert sum(r["reason"] == "duplicate_passages" for r in decisions(tmp_path / "run")) == 1
    curate(whole, tmp_path / "whole", *stages)
    before = {r["doc_id"]: r["kept"] for r in decisions(tmp_path / "whole")}
    for jaccard in (0.8, 0.95, 0.5):
        then = replace(whole, dedupe=replace(now.dedupe, jaccard=jaccard))
        said = ask(tmp_path / "run", tmp_path / f"work {jaccard}", now, then)
        curate(then, tmp_path / f"then {jaccard}", *stages)
        after = {r["doc_id"]: r["kept"] for r in decisions(tmp_path / f"then {jaccard}")}
        assert said.kept == sum(before.values()) and said.before_passages
        assert sum(said.dropped.values()) == sum(before[d] and not after[d] for d in before)
        assert sum(said.restored.values()) == sum(after[d] and not before[d] for d in before)
        assert (jaccard == 0.8) == (not said.dropped and not said.restored)
    print_what_if(said, ["dedupe.jaccard=0.5"])
    assert "these are decisions on whole documents" in " ".join(capsys.readouterr().out.split())


def test_another_similarity_is_tried_without_a_scan(tmp_path: Path, curate: Callable[..., Any]) -> None:
    rng = random.Random(4)
    texts = [sentence(rng) for _ in range(12)]
    write(tmp_path, "best", [" ".join(t) for t in texts])
    write(tmp_path, "low", [changed(t, 2 + 3 * i) for i, t in enumerate(texts)] + [" ".join(texts[0])])
    now = settings_for(tmp_path, "best", "low", jaccard=0.8)
    stages = ("prepare", "scan", "filter", "dedupe")
    curate(now, tmp_path / "run", *stages)
    before = {r["doc_id"]: r for r in decisions(tmp_path / "run")}
    listed = tmp_path / "gone.txt"
    listed.write_text("best/a.jsonl#3\n")
    longer = FilterSettings((Section("all", (("max_words", 119.0),)),))
    variants = {
        "stricter": replace(now, dedupe=replace(now.dedupe, jaccard=0.95)),
        "looser": replace(now, dedupe=replace(now.dedupe, jaccard=0.5)),
        "within": replace(now, dedupe=replace(now.dedupe, scope="within")),
        "with a list": replace(now, dedupe=replace(now.dedupe, jaccard=0.95), exclude_lists=(str(listed),)),
        "with a rule": replace(now, dedupe=replace(now.dedupe, jaccard=0.95), filter=longer),
    }
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    for name, then in variants.items():
        said = ask(tmp_path / "run", tmp_path / f"work {name}", now, then)
        if name != "with a rule":  # which drops everything
            curate(then, tmp_path / name, *stages)
            after = {r["doc_id"]: r for r in decisions(tmp_path / name)}
            lost = [r["reason"] for d, r in after.items() if before[d]["kept"] and not r["kept"]]
            won = [before[d]["reason"] for d, r in after.items() if r["kept"] and not before[d]["kept"]]
            assert {r: lost.count(r) for r in lost} == said.dropped, name
            assert {r: won.count(r) for r in won} == said.restored, name
            assert lost or won
        else:
            assert said.dropped == {"max_words": sum(r["kept"] for r in before.values())}
        assert said.documents == 25 and said.kept == sum(r["kept"] for r in before.values())
        assert said.examples and all(e.text and "#" in e.name for e in said.examples)
    stricter = ask(tmp_path / "run", tmp_path / "again", now, variants["stricter"])
    assert any("copy of best/a.jsonl#" in e.value and "similarity 0." in e.value for e in stricter.examples)
    assert files == {p: p.stat().st_mtime_ns for p in files}
    assert pq.read_table(next((tmp_path / "run/decisions").rglob("*.parquet"))).num_rows

"""What other weights would change is what a curation with them reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fox1
import pytest
from fox1.commands.page import mixture
from fox1.commands.page.elements import html
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.inspect.what_if_mixture import MixtureWhatIf
from fox1.pipeline.run.paths import RunPaths

from tests.conftest import SMALL, curate_sample, list_files, run_command


def ask(run: Path, folder: Path, *changes: str) -> MixtureWhatIf:
    return fox1.open_run(run).what_if_mixture(changes, Engine(RunPaths(folder), InProcess()))


def test_no_change_plans_what_the_run_reached(run: Path, tmp_path: Path) -> None:
    before = list_files(run)
    found = ask(run, tmp_path, "scale=0.1")
    assert not found.short and found.before == found.after and found.unused[0] == found.unused[1]
    stored = json.loads((run / "stats" / "mixture.json").read_text())
    assert [phase.tokens for phase in found.before] == [phase["tokens"] for phase in stored["phases"]]
    assert list_files(run) == before


def test_other_weights_give_what_a_curation_with_them_gives(run: Path, corpora: Path, tmp_path: Path) -> None:
    changes = ("phases.phase1.weights.0.weight=40", "phases.phase1.weights.1.weight=30")
    found = ask(run, tmp_path / "work", *changes)
    assert not found.short
    phase1 = {pool.pool: pool.tokens for pool in found.after[0].pools}
    assert phase1["code"] > next(pool.tokens for pool in found.before[0].pools if pool.pool == "code")
    curate_sample(tmp_path / "run", corpora, *SMALL, *changes)
    again = ask(tmp_path / "run", tmp_path / "again", "scale=0.1")
    assert again.before == found.after and again.unused[0] == found.unused[1]
    # The engine of the page is used again: a second question counts only what it moves.
    asked = ask(run, tmp_path / "work", "phases.phase1.weights.0.weight=79")
    assert asked.after == found.before
    page = html(*mixture.cards(found))
    assert "phase1" in page and f"{phase1['code']:,}" in page


def test_documents_that_count_several_times_are_planned_as_the_run_mixed_them(corpora: Path, tmp_path: Path) -> None:
    pools = 'phases.phase1.weights=[{domain: web, weight: 3, max_epochs: 6, repeat: {"2": 2, "4": 3}}, {domain: code, weight: 1}]'
    curate_sample(tmp_path / "run", corpora, *SMALL, pools)
    found = ask(tmp_path / "run", tmp_path / "work", "scale=0.1")
    assert not found.short and found.before == found.after
    # The same run without: it has fewer tokens to give.
    plain = ask(tmp_path / "run", tmp_path / "work", pools.replace(', repeat: {"2": 2, "4": 3}', ""))
    assert plain.after[0].pools[0].available < found.after[0].pools[0].available


def test_what_a_run_sets_apart_is_in_no_phase_that_is_tried(corpora: Path, tmp_path: Path) -> None:
    curate_sample(tmp_path / "run", corpora, *SMALL, "held_out.carve={documents: 5, tokens: 2K}")
    found = ask(tmp_path / "run", tmp_path / "work", "scale=0.1")
    assert not found.short and found.before == found.after and found.unused[0] == found.unused[1]


def test_a_mixture_that_cannot_be_had_says_which_pools_are_short(run: Path, tmp_path: Path) -> None:
    found = ask(run, tmp_path, "phases.phase1.tokens=100M")
    assert not found.after and "budget short" in found.short and any("web" in line for line in found.details)
    assert "cannot be had" in html(*mixture.cards(found))


def test_the_command_prints_it_and_names_what_cannot_be_tried(run: Path) -> None:
    said = run_command("filter", run, "--what-if", "phases.phase1.weights.1.weight=30")
    assert said.returncode == 0 and "phase1" in said.stdout and "share now" in said.stdout
    short = run_command("filter", run, "--what-if", "phases.phase1.tokens=100M")
    assert short.returncode == 1 and "budget short" in short.stdout
    changes: dict[str, Any] = {
        "phases.phase1.weights.99.weight=1": "99",
        "phases.phase1.weights.0.weight=-1": "weight",
    }
    for change, names in changes.items():
        wrong = run_command("filter", run, "--what-if", change)
        assert wrong.returncode == 1 and names in wrong.stderr
    both = run_command("filter", run, "--what-if", "scale=0.1", "--what-if", "filters.all.min_words=60")
    assert both.returncode == 1 and "cannot be tried together" in both.stderr


@pytest.mark.parametrize("change", ["tokenizer.vocab_size=99", "seed=3"])
def test_what_needs_another_read_is_refused(run: Path, change: str) -> None:
    said = run_command("filter", run, "--what-if", change)
    assert said.returncode == 1 and "without a new scan" in said.stderr

"""`fox1 plan`: a small sample in the inputs' formats, rates of it, and a plan beside what a run took."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fox1.commands.app import app
from fox1.commands.show.plan import print_plan
from fox1.pipeline.capacity.estimate import TrainingWorkload, actual, as_json, corpora_of, make_plan, stored_rates
from fox1.pipeline.capacity.rates import PARTS, PASSAGES, Rates, measure
from fox1.pipeline.capacity.small_copy import copy_beginnings
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.passages.settings import NOTHING, PassageSettings
from fox1.pipeline.run.artifacts import write_json
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import STAGES
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of
from typer.testing import CliRunner

from tests.conftest import SMALL

TRAINING = TrainingWorkload((("phase1", 1000, 2e9),), 8, "H200", 989e12, 0.4)


def test_a_sample_is_the_beginning_of_its_files(settings_of: Callable[..., Any], tmp_path: Path) -> None:
    files = list_sources(settings_of().sources)
    written, there = copy_beginnings(files, 0.2, tmp_path)
    assert there == sum(f.size for f in files) and 0.1 < written / there < 0.6
    for file in files:
        copy = tmp_path / file.corpus / file.path
        if not copy.exists():
            continue
        whole = [r for b in read_rows(file, Quarantine(file)) for r in b.to_pylist()]
        taken = vars(file) | {"url": str(copy), "size": copy.stat().st_size}
        part = [r for b in read_rows(type(file)(**taken), Quarantine(file)) for r in b.to_pylist()]
        assert part and part == whole[: len(part)]


@pytest.fixture(scope="module")
def rates(settings_of: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Rates:
    settings = settings_of()
    files = list_sources(settings.sources)
    folder = tmp_path_factory.mktemp("rates")
    return measure(settings, files, 0.5, nullcontext(InProcess()), 1, folder, "half of it")


@pytest.mark.slow
def test_a_plan_grows_with_its_inputs_and_shrinks_with_cores(rates: Rates, settings_of: Callable[..., Any]) -> None:
    settings = settings_of()
    files = list_sources(settings.sources)
    corpora = corpora_of(files, rates)
    assert {c.name for c in corpora} == {f.corpus for f in files}
    one = make_plan(settings, corpora, rates, TRAINING, 1, 1, 1 << 30)
    assert [s.name for s in one.stages] == list(STAGES)
    assert one.cpu_seconds > 0 and one.disk_bytes > one.shuffle_bytes > 0 and one.objects > len(files)
    many = make_plan(settings, corpora, rates, TRAINING, 8, 16, 1 << 30)
    assert many.cpu_seconds == pytest.approx(one.cpu_seconds) and many.wall_seconds < one.wall_seconds
    # However many cores there are, one task reads the largest compressed file.
    whole = [c for c in corpora if c.longest_text]
    assert {"pile", "slimpajama"} <= {c.name for c in whole} and all(c.longest_text <= c.text_bytes for c in whole)
    # Of so little work the time is not promised, not even that it takes some.
    known = replace(rates, stages=rates.stages | {"scan": replace(rates.stages["scan"], per_unit=1e-7)}, prepare={})
    scan = make_plan(settings, corpora, known, TRAINING, 1000, 1000, 1 << 30).stages[STAGES.index("scan")]
    longest = max(c.longest_text for c in whole) * 1e-7
    assert scan.wall_seconds == pytest.approx(longest) and longest > scan.cpu_seconds / 1_000_000
    # Nor does the stage end before the tokenizer that is made beside it.
    known = replace(known, prepare={"tokenizer": 500.0, "quality": 40.0})
    prepared, scan = make_plan(settings, corpora, known, TRAINING, 1000, 1000, 1 << 30).stages[:2]
    assert prepared.wall_seconds == 40.0 and scan.wall_seconds >= 500.0
    # 1,000 tokens of 2 GFLOP on one GPU at 40 % of 989 TFLOP/s.
    assert one.phases[0].gpu_hours == pytest.approx(2e12 / (989e12 * 0.4) / 3600)


@pytest.mark.slow
def test_rates_are_kept_and_a_finished_run_is_compared(
    rates: Rates, run: Path, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "rates.json", rates.to_json())
    assert stored_rates(tmp_path / "rates.json") == rates
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    invoke = CliRunner().invoke
    changes = [part for change in SMALL for part in ("--set", change)]
    made = invoke(app, ["curate", "sample", "--out", str(tmp_path / "run"), "--in-process", *changes])
    assert made.exit_code == 0, made.output
    found = invoke(app, ["plan", str(tmp_path / "run"), "--rates", str(tmp_path / "rates.json"), "--json"])
    assert found.exit_code == 0, found.output
    value = json.loads(found.output)
    then = actual(RunPaths(tmp_path / "run"))
    assert value["actual"]["wall_seconds"] == then.wall_seconds > 0 and then.cores == 1
    assert set(then.stages) == set(STAGES)
    # The sample is half of two megabytes, with few of the copies: sizes are near, times of so little work are not promised.
    for folder in ("signals", "tokens"):
        assert 0.5 < value["folders"][folder] / then.folders[folder] < 2
    shown = invoke(app, ["plan", str(tmp_path / "run"), "--rates", str(tmp_path / "rates.json")])
    assert "times what the run took" in shown.output and "Assumptions" in shown.output
    assert "measure on more with --sample" in shown.output
    again = invoke(app, ["curate", "sample", "--out", str(tmp_path / "run"), "--in-process", *changes])
    assert again.exit_code == 0
    after = actual(RunPaths(tmp_path / "run"))
    assert (after.stages, after.wall_seconds) == (then.stages, then.wall_seconds)  # what was reused is no measure


@pytest.mark.slow
def test_passages_have_a_line_of_their_own_beside_what_they_took(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*SMALL, "dedupe.passages={cut: [lines, substrings], min_left: 0}"]
    settings = curate_settings(load_recipe("sample", asked, {"FOX1_DATA": str(corpora)})[0])
    assert settings.passages == PassageSettings(("lines", "substrings"), min_left=0)
    files = list_sources(settings.sources)
    with_passages = measure(settings, files, 0.5, nullcontext(InProcess()), 1, tmp_path / "rates", "half of it")
    sized = corpora_of(files, with_passages)
    plan = make_plan(settings, sized, with_passages, TRAINING, 1, 1, 1 << 30)
    assert [s.name for s in plan.stages] == list(PARTS)
    monkeypatch.setenv("FOX1_DATA", str(corpora))
    changes = [part for change in asked for part in ("--set", change)]
    made = CliRunner().invoke(app, ["curate", "sample", "--out", str(tmp_path / "run"), "--in-process", *changes])
    assert made.exit_code == 0, made.output
    then = actual(RunPaths(tmp_path / "run"))
    line = plan.stages[PARTS.index(PASSAGES)]
    tasks, cpu, wall = then.stages[PASSAGES]
    steps = [entry["stage"] for entry in task_times(RunPaths(tmp_path / "run"))]
    assert tasks == sum(step.startswith("dedupe.passage") for step in steps) > 10
    assert line.tasks == pytest.approx(tasks, rel=0.25) and line.cpu_seconds > 0
    assert 0 < wall < then.wall_seconds and then.stages["dedupe"][2] >= 0 and cpu > 0
    for folder in (PASSAGES, "cuts"):
        assert 0.3 < plan.folders[folder] / then.folders[folder] < 3
    shown = as_json(plan, then)
    assert shown["stages"][PASSAGES]["tasks"] == line.tasks
    assert shown["actual"]["stages"][PASSAGES]["tasks"] == tasks
    print_plan(plan, then)
    without = replace(with_passages, stages={k: v for k, v in with_passages.stages.items() if k != PASSAGES})
    with pytest.raises(ValueError, match="the rates were measured without passages"):
        make_plan(settings, sized, without, TRAINING, 1, 1, 1 << 30)
    never = make_plan(replace(settings, passages=NOTHING), sized, with_passages, TRAINING, 1, 1, 1 << 30)
    assert [s.name for s in never.stages] == list(STAGES)


def test_what_a_plan_cannot_be_made_of(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke = CliRunner().invoke
    monkeypatch.setenv("FOX1_DATA", str(tmp_path / "nowhere"))
    lost = invoke(app, ["plan", "mini"])
    assert isinstance(lost.exception, ValueError) and "does not exist" in str(lost.exception)
    monkeypatch.delenv("FOX1_DATA")
    for arguments, message in (
        ([str(run)], "was not made in one go"),
        (["mini"], "FOX1_DATA"),
        (["fox1", "--gpu", "T4", "--set", "tokenizer.model=x"], "the peak of this GPU is not known"),
        (["nosuch"], "no recipe nosuch"),
    ):
        found = invoke(app, ["plan", *arguments])
        assert isinstance(found.exception, ValueError) and message in str(found.exception), found.exception


def test_the_full_recipe_expects_what_it_wants() -> None:
    """By the survivors that fox1.yaml expects, every pool can give what its phase wants, and nobody repeats past four."""
    from fox1.pipeline.capacity.estimate import _needs
    from fox1.recipes.plan import _expected

    recipe, _ = load_recipe("fox1", ["tokenizer.model=x"])
    settings = curate_settings(recipe)
    assert set(recipe.expected) == set(recipe.sources) and sources_of(recipe)
    needs = _needs(settings, _expected(recipe))
    assert len(needs) == sum(len(p.pools) for p in settings.mix.phases) and not any(n.short for n in needs)
    natural: dict[str, float] = {}
    for corpus in recipe.expected.values():
        for domain, tokens in corpus.survivors.items():
            natural[domain] = natural.get(domain, 0.0) + tokens
    wanted: dict[str, float] = {}
    for need in needs:
        wanted[need.pool] = wanted.get(need.pool, 0.0) + need.wanted
    assert max(wanted[d] / natural[d] for d in wanted) < 4
    assert sum(p.tokens for p in settings.mix.phases) == 2_692_000_000_000


def test_of_files_that_cannot_be_cut_some_are_sampled_whole(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for n in range(8):
        (tmp_path / "corpus" / f"{n}.csv").write_text("text\n" + "a line of text\n" * (n + 1) * 50)
    reader = "datatrove.pipeline.readers.CSVReader"
    arguments = '{"limit": 2, "skip": 60}'
    source = SourceSettings("ours", "datatrove", str(tmp_path / "corpus"), reader=reader, arguments=arguments)
    files = list_sources([replace(source, arguments="{}")])
    written, there = copy_beginnings(files, 0.4, tmp_path / "sample")
    assert 0 < written <= 0.4 * there == 0.4 * sum(f.size for f in files)
    for copy in (tmp_path / "sample" / "ours").iterdir():
        assert copy.read_bytes() == (tmp_path / "corpus" / copy.name).read_bytes()
    copy_beginnings(files, 0.0, tmp_path / "rows")
    assert [p.name for p in (tmp_path / "rows" / "ours").iterdir()] == ["0.csv"]
    with pytest.raises(ValueError, match="cannot be sampled: it is no file of at most 256 MiB; plan with --rates"):
        copy_beginnings([replace(f, size=1 << 30) for f in files], 0.4, tmp_path / "large")

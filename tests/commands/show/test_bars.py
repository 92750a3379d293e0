"""What is shown of a run while it goes on."""

from __future__ import annotations

import pytest
from fox1.commands.show import bars as bars_module
from fox1.commands.show.bars import StageBars
from fox1.pipeline.engine import tasks as engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as its only entry."""
    now = [0.0]
    monkeypatch.setattr(bars_module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_says_how_far_a_long_stage_is(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with StageBars() as bars:
        progress: engine.Progress = bars
        progress.stage("scan", 4, 4_000_000, 2)
        for seconds in (20, 20, 20, 20):
            clock[0] += seconds
            progress.task_done("scan", 1_000_000)
        progress.stage_done("scan", 80.0)
        progress.stage("filter", 1, 1, 0)
        progress.task_done("filter", 1)
        progress.stage_done("filter", 0.0)
    # The second task ends 40 s after the stage began; the third 20 s after that line; after the last nothing is left.
    assert capsys.readouterr().err.splitlines() == [
        "scan: 2 of 4 tasks, 0.1 MB/s, 0:00:40 left",
        "scan          80.0 s  4 tasks, 2 reused",
        "filter         0.0 s  1 task",
    ]


def test_stages_side_by_side_are_each_told_of_once(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with StageBars() as bars:
        bars.stage("prepare", 2, 2, 0)
        clock[0] += 3
        bars.stage_done("prepare", 3.0)
        bars.stage("scan", 4, 4, 0)
        bars.stage("prepare.tokenizer", 1, 1, 0)
        clock[0] += 5
        bars.stage_done("scan", 5.0)
        clock[0] += 2
        bars.stage_done("prepare.tokenizer", 7.0)
        bars.stage("filter", 1, 1, 0)
        bars.stage_done("filter", 0.0)
    assert capsys.readouterr().err.splitlines() == [
        "scan           5.0 s  4 tasks",
        "prepare       10.0 s  3 tasks",
        "filter         0.0 s  1 task",
    ]


def test_the_time_of_the_whole_run_is_told_from_its_begin_and_then_by_what_it_took(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with StageBars() as bars:
        bars.run_begins(1_040_000_000, 2)
        bars.stage("prepare", 1, 1, 0)
        bars.task_done("prepare", 1)
        bars.stage_done("prepare", 0.0)
        bars.stage("scan", 4, 1_040_000_000, 0)
        for _ in range(2):
            clock[0] += 50
            bars.task_done("scan", 260_000_000)
    begin, *lines = capsys.readouterr().err.splitlines()
    assert begin == "1,040 MB of text on 2 cores: about 0:01:53 for the whole run"
    # Half of scan is 0.39 of a run, and took 100 s: the run is slower than was expected.
    first, second = lines[1:]
    assert first.startswith("scan: 1 of 4 tasks, 5.2 MB/s, 0:02:30 left, about 0:0")
    assert second.startswith("scan: 2 of 4 tasks, 5.2 MB/s, 0:01:40 left, about 0:01:4")


def test_a_terminal_names_steps_and_counts_tasks_from_the_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars_module.TextConsole, "is_terminal", True)
    with StageBars() as bars:
        assert bars._bars is not None
        assert [task.description for task in bars._bars.tasks] == ["starting"]
        bars.run_begins(52_000_000, 1)
        bars.stage("scan", 7, 70, 0)
        bars.task_done("scan", 10)
        whole, scan = bars._bars.tasks
        assert whole.description == "whole run" and 0 < whole.completed < 1 and whole.fields["ends"]
        assert (scan.description, scan.fields["count"]) == ("scan", "1 of 7")
    assert capsys.readouterr().err

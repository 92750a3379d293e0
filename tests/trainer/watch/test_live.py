"""The line of a training on a terminal."""

from __future__ import annotations

import io

import pytest
from fox1.trainer.watch import live
from fox1.trainer.watch.live import LiveLine


def test_a_line_is_redrawn_in_place_and_what_is_printed_scrolls_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("COLUMNS", "200")
    terminal = io.StringIO()
    line = LiveLine(terminal)
    line.update("phase1", 5, 20, "loss 9.0")
    clock[0] += 2
    line.update("phase1", 6, 20, "loss 8.5")
    line.print("saved step 6")
    line.close()
    shown = terminal.getvalue().split("\r\x1b[2K")[1:]
    bar = "━" * 7 + "─" * 17
    assert shown[0] == f"phase1 step 5/20 {'━' * 6}{'─' * 18} loss 9.0"  # one step tells no rate
    assert shown[1] == f"phase1 step 6/20 {bar} loss 8.5 0:00:28 left"
    assert shown[2:] == ["saved step 6\n", shown[1], ""]


def test_no_line_is_wider_than_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = io.StringIO()
    LiveLine(terminal).update("phase1", 1, 20, "loss 9.0 " * 9)
    assert len(terminal.getvalue().removeprefix("\r\x1b[2K")) == 39

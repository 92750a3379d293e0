"""Metrics that anyone may have written: drawn as text, or refused by their line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fox1.trainer.watch.curves import draw_curves

LINE: dict[str, Any] = {"kind": "train", "step": 1, "phase": "p", "tokens": 1, "loss": 1.5, "tokens_per_second": 9}


def draw(folder: Path, *lines: object) -> str:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_curves([folder], folder / "c.svg")
    return (folder / "c.svg").read_text()


def test_names_of_phases_are_text_in_a_drawing(tmp_path: Path) -> None:
    names = ("p", "$\\frac{a}{\\foo}$", "</text><script>alert(1)</script>\x1b[2J\u202e")
    drawn = draw(tmp_path, *({**LINE, "step": i, "tokens": i, "phase": name} for i, name in enumerate(names, 1)))
    assert "<script" not in drawn and "\\frac{a}" in drawn and not {"\x1b", "\u202e"} & set(drawn)


@pytest.mark.parametrize(
    "line",
    [[], {"kind": "train"}, {**LINE, "loss": "1"}, {**LINE, "phase": []}, {**LINE, "kind": []}, {**LINE, "step": "1"}],
)
def test_lines_of_another_shape_are_refused(line: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged \(line 2 is not a training's\)"):
        draw(tmp_path, LINE, line)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LINE) + "\n" + json.dumps(LINE)[:20])
    draw_curves([tmp_path], tmp_path / "c.svg")


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not a regular file"):
        draw_curves([tmp_path], tmp_path / "c.svg")

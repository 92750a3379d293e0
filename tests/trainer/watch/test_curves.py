"""Metrics that anyone may have written: drawn as text, or refused by their line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fox1.trainer.watch.curves import Series, draw_curves, read_curves

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
    [
        [],
        {"kind": "train"},
        {**LINE, "loss": "1"},
        {**LINE, "phase": []},
        {**LINE, "kind": []},
        {**LINE, "step": "1"},
        {**LINE, "loss_by_corpus": [1]},
        {**LINE, "share_by_corpus": {"pile": "all"}},
        {"kind": "held_out", "step": 1, "loss": 2.0, "unigram_entropy": 5.0, "bits_per_byte_macro": "1"},
        {"kind": "held_out", "step": 1, "loss": 2.0, "unigram_entropy": 5.0, "bits_per_byte_by_half": {"kept": "1"}},
        {"kind": "held_out", "step": 1, "loss": 2.0, "unigram_entropy": 5.0, "bits_per_byte_items": [1]},
    ],
)
def test_lines_of_another_shape_are_refused(line: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged \(line 2 is not a training's\)"):
        draw(tmp_path, LINE, line)


def points(series: tuple[Series, ...]) -> dict[str, tuple[tuple[float, float], ...]]:
    return {line.label: line.points for line in series}


def reported(phase: str, step: int, tokens: int, **values: Any) -> dict[str, Any]:
    return {**LINE, "phase": phase, "step": step, "tokens": tokens, **values}


def test_a_phase_begins_where_the_one_before_it_ended_however_seldom_steps_are_reported(tmp_path: Path) -> None:
    lines = [reported("one", 10, 100), reported("one", 13, 130), reported("two", 20, 270), reported("three", 21, 290)]
    draw(tmp_path, *lines)
    assert read_curves([tmp_path]).phases == (("one", 0.0), ("two", 130.0), ("three", 270.0))


def test_losses_by_corpus_stand_beside_the_mixture(tmp_path: Path) -> None:
    corpora = {f"c{n}": n / 28 for n in range(1, 8)}
    losses = {name: 3 + share for name, share in corpora.items()}
    held_out = {"kind": "held_out", "step": 2, "loss": 2.0, "unigram_entropy": 5.0, "loss_by_corpus": {"c7": 1.0}}
    lines = [reported("p", n, 10 * n, share_by_corpus=corpora, loss_by_corpus=losses) for n in (1, 2)]
    drawn = draw(
        tmp_path, *lines, held_out, reported("p", 3, 30, share_by_corpus={"c7": 1.0}, loss_by_corpus={"c7": None})
    )
    curves = read_curves([tmp_path])
    shares, found = points(curves.mixture), points(curves.by_corpus)
    # The six with the most tokens.
    assert list(shares) == [f"c{n}, share" for n in range(2, 8)]
    assert shares["c7, share"] == ((10, 0.25), (20, 0.25), (30, 1.0)) and len(shares["c2, share"]) == 2
    assert found["c7, training"] == ((10, 3.25), (20, 3.25)) and found["c7, held out"] == ((20, 1.0),)
    assert "share of the targets" in drawn and "loss by corpus" in drawn


def test_the_mean_of_domains_is_drawn_where_evaluations_report_it(tmp_path: Path) -> None:
    old, new = ({"kind": "held_out", "step": n, "loss": 2.0, "unigram_entropy": 5.0} for n in (1, 2))
    lines = [reported("p", n, 10 * n) for n in (1, 2)]
    assert "mean of domains" not in draw(tmp_path, *lines, old, new)
    assert "mean of domains" in draw(tmp_path, *lines, old, {**new, "bits_per_byte_macro": 1.25})
    (line,) = read_curves([tmp_path]).macro
    assert line.points == ((20, 1.25),)


def test_halves_and_items_are_lines_where_evaluations_report_them(tmp_path: Path) -> None:
    lines = [reported("p", n, 10 * n) for n in (1, 2)]
    bits = {"bits_per_byte_macro": 1.25, "bits_per_byte_by_half": {"kept": 1.0, "unfiltered": 1.5}}
    held_out = {"kind": "held_out", "step": 2, "loss": 2.0, "unigram_entropy": 5.0, **bits, "bits_per_byte_items": 0.75}
    drawn = draw(tmp_path, *lines, held_out)
    assert "right options" in drawn and "unfiltered" in drawn
    curves = read_curves([tmp_path])
    halves = {label.rpartition(", ")[2]: at for label, at in points(curves.macro).items()}
    assert halves["kept"] == ((20, 1.0),) and halves["unfiltered"] == ((20, 1.5),) and len(halves) == 3
    assert [line.points for line in curves.items] == [((20, 0.75),)]


def test_steps_that_a_later_call_took_again_are_drawn_once(tmp_path: Path) -> None:
    first = [reported("p", n, 10 * n, loss=float(n)) for n in (10, 20, 23)]
    call = {"kind": "run", "step": 15, "name": "again"}
    # With another batch, the steps after the checkpoint are other tokens, and reported at other steps.
    second = [reported("p", n, 150 + 40 * (n - 15), loss=9.0) for n in (16, 18)]
    draw(tmp_path, *first, call, *second)
    (line,) = [s for s in read_curves([tmp_path]).losses if s.label.endswith("training")]
    assert line.points == ((100, 10.0), (190, 9.0), (270, 9.0))


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LINE) + "\n" + json.dumps(LINE)[:20])
    draw_curves([tmp_path], tmp_path / "c.svg")


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not a regular file"):
        draw_curves([tmp_path], tmp_path / "c.svg")

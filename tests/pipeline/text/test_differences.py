"""Differences of texts as edits: exact for any texts, upon any edits, short where text is ordinary, bounded where it is not."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pyarrow as pa
import pytest
from fox1.pipeline.run.schemas import EDIT_TYPE
from fox1.pipeline.text import differences as module
from fox1.pipeline.text.differences import Change, differences, upon
from fox1.pipeline.text.edits import PLUGIN, apply_edits
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.sampled_from("ab \né漢🦊."), max_size=24)


def applied(raw: str, edits: list[dict[str, Any]]) -> str:
    return apply_edits(pa.array([raw], pa.large_string()), pa.array([edits], EDIT_TYPE))[0].as_py()


@settings(deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=4))
def test_edits_upon_edits_make_exactly_the_last_text(versions: list[str]) -> None:
    edits: list[dict[str, Any]] = []
    for old, new in itertools.pairwise(versions):
        edits = upon(edits, differences(old, new), old.encode(), PLUGIN)
        assert applied(versions[0], edits) == new
        spans = [(0, 0), *((e["start"], e["end"]) for e in edits), (len(versions[0].encode()),) * 2]
        assert all(a <= b for a, b in itertools.pairwise(itertools.chain.from_iterable(spans)))


def test_cut_lines_and_words_are_spans_of_their_own() -> None:
    lines = [f"Line {n} tells of the harbour and of ship {n * n}.\n" for n in range(2, 40)]
    old = "".join(lines)
    new = "".join(line for n, line in enumerate(lines) if n % 9)
    cut = differences(old, new)
    assert [(c.text, old[c.start : c.end]) for c in cut] == [("", line) for line in lines[::9]]
    assert differences("ein Bär und drei Füchse", "ein Bär und Füchse") == [Change(13, 18, "")]
    assert differences("船は朝に港を出た。灯台は静か。", "船は朝に港を出た。") == [Change(27, 45, "")]


def test_a_change_takes_in_only_replacements_that_it_reaches_into() -> None:
    raw = "write to a@b.example or c@d.example today"
    edits = [{"start": s, "end": s + 11, "kind": 3, "replacement": "<email>"} for s in (9, 24)]
    edited = applied(raw, edits)
    assert edited == "write to <email> or <email> today"
    made = upon(edits, [Change(20, 33, "")], edited.encode(), PLUGIN)
    assert [(e["start"], e["end"], e["kind"]) for e in made] == [(9, 20, 3), (24, 41, PLUGIN)]
    made = upon(edits, [Change(1, 2, "R"), Change(10, 15, "mail")], edited.encode(), PLUGIN)
    assert [e["replacement"] for e in made] == ["R", "<mail>", "<email>"]


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        differences("a", "\ud800")


@pytest.mark.parametrize("level", ["lines", "words"])
def test_texts_without_anything_in_common_or_of_too_many_parts_take_bounded_time(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 1 << 14)
    drawn = random.Random(5)
    alphabet = "ab\n" if level == "lines" else "ab "
    old, new = ("".join(drawn.choice(alphabet) for _ in range(400_000)) for _ in range(2))
    began = time.monotonic()
    assert applied(old, upon([], differences(old, new), old.encode(), PLUGIN)) == new
    assert time.monotonic() - began < 20

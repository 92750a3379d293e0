"""A document as a page shows it: pieces that add up to its text, and marks on what its rules count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.api import open_run
from fox1.pipeline.filter.causes import Marked, causes
from fox1.pipeline.inspect.document import _other_side, _pieces, _sides, by_words, show
from fox1.pipeline.signals.counts import TEXT_COUNTS, text_counts
from fox1.pipeline.signals.ratios import SIGNALS
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.text.differences import differences
from fox1.pipeline.text.edits import apply_edits
from fox1.tokenize.spans import text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

LINES = "A first line of words.\nthe same line\nthe same line\n- a point...\nthe same line\nAnother paragraph\n\nthe same line\n"


def marked(text: str, rule: str) -> list[str]:
    return [text.encode()[a:b].decode() for a, b in causes(Marked(text), rule)]


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("max_duplicate_line_fraction", LINES, ["the same line"] * 3),
        ("max_duplicate_line_char_fraction", LINES, ["the same line"] * 3),
        ("max_duplicate_paragraph_fraction", "one\ntwo\n\nthree\n\none\ntwo\n", ["one\ntwo"]),
        ("max_bullet_line_fraction", LINES, ["- a point..."]),
        ("max_ellipsis_line_fraction", LINES, ["- a point..."]),
        ("min_terminal_line_fraction", "It ends.\nit does not\n", ["it does not"]),
        ("max_short_line_fraction", f"short\n{'long words ' * 5}\n", ["short"]),
        ("max_top_2gram_fraction", "red fox sees a red fox and a blue fox", ["red fox", "red fox"]),
        ("max_duplicate_5gram_fraction", "a b c d e x a b c d e", ["a b c d e", "a b c d e"]),
        ("max_symbol_word_ratio", "# of\u2026 it...", ["#", "\u2026", "..."]),
        ("max_digit_fraction", "in 1999 or 7", ["1999", "7"]),
        ("min_alpha_word_fraction", "words ++ and <?> 12", ["++", "<?>", "12"]),
        ("max_longest_word", "a longest b", ["longest"]),
        ("max_longest_line", "a\nthe longest\nb", ["the longest"]),
        ("max_javascript_lines", "Turn on Javascript now.\nA line of five words here.", ["Turn on Javascript now."]),
        ("max_curly_braces", "f { g }", ["{", "}"]),
        ("min_words", "few", []),
        ("languages", "few", []),
        ("near_duplicate", "few", []),
    ],
)
def test_what_a_rule_counts_is_marked(rule: str, text: str, expected: list[str]) -> None:
    assert marked(text, rule) == expected


@pytest.mark.parametrize("n", [5, 7, 10])
@pytest.mark.parametrize(
    "text",
    [
        "the cat sat on the mat and it was " * 3 + "a different end " + "it was the cat sat on the mat and it was",
        "北京是中华人民共和国的首都和直辖市" * 3 + "其他内容" + "是中华人民共和国的首都和直辖市",
        "กระทรวงเกษตรสหกรณ์ประชาสัมพันธ์ขอความร่วมมือ" * 3 + "ลงท้าย" + "เกษตรสหกรณ์ประชาสัมพันธ์ขอความร่วมมือ",
        "แล้วเธอไม่ไปด้วยได้ไหมนะที่นี่ไม่มีใครรู้" * 3 + "ลงท้าย" + "เธอไม่ไปด้วยได้ไหมนะที่นี่ไม่มีใครรู้",
    ],
)
def test_marked_ngrams_are_as_many_characters_as_are_counted(text: str, n: int) -> None:
    counts = text_counts(segment(*text_buffers(pa.array([text], pa.large_string()))), np.full(1, -1))[0]
    counted = dict(zip(TEXT_COUNTS, counts.tolist(), strict=True))[f"duplicate_{n}gram_chars"]
    assert sum(len(part.replace(" ", "")) for part in marked(text, f"max_duplicate_{n}gram_fraction")) == counted > 0


@pytest.mark.parametrize(("repeated", "end"), [("北京是首都", "其"), ("ประชาสัมพันธ์", "เ"), ("ไม่ได้ไป", "ก")])
def test_the_most_frequent_ngrams_are_as_many_units_as_words_have(repeated: str, end: str) -> None:
    text = "".join(f"{repeated}{chr(ord(end) + i)}" for i in range(4))
    counts = text_counts(segment(*text_buffers(pa.array([text], pa.large_string()))), np.full(1, -1))[0]
    counted = dict(zip(TEXT_COUNTS, counts.tolist(), strict=True))["top_2gram_chars"]
    found = marked(text, "max_top_2gram_fraction")
    assert len(found) == 4 and sum(map(len, found)) + len(found) == counted


def test_pieces_hold_the_text_with_edits_and_marks_in_their_places() -> None:
    raw = "Mail a@b.com or \u00e9@c.de, cut this, and 12 end"
    data = raw.encode()

    def edit(was: str, now: str) -> dict[str, Any]:
        at = data.index(was.encode())
        return {"start": at, "end": at + len(was.encode()), "kind": 3, "replacement": now}

    edits = [edit("a@b.com", "<email>"), edit("\u00e9@c.de", "<email>"), edit(" cut this,", ""), edit(" end", "")]
    listed = pa.array(
        [edits],
        type=pa.list_(
            pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.uint8()), ("replacement", pa.string())])
        ),
    )
    edited = apply_edits(pa.array([raw], pa.large_string()), listed)[0].as_py()
    place = edited.encode().index(b"12")
    found = list(_pieces(edited.encode(), edits, [[(place, place + 2)], [(0, 4)]]))
    assert "".join(piece.text for piece in found) == edited
    assert [(p.edit, p.text) for p in found if p.edit >= 0] == [(0, "<email>"), (1, "<email>"), (2, ""), (3, "")]
    assert [(p.rules, p.text) for p in found if p.rules] == [((1,), "Mail"), ((0,), "12")]


WORDS = st.lists(
    st.sampled_from(["used", "employed", "use", "x", " ", "\n", ".", "\u00e9t\u00e9", "\u4e2d", "_a"]), max_size=14
)


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_both_sides_of_a_comparison_are_the_texts_themselves(old: list[str], new: list[str]) -> None:
    a, b = "".join(old), "".join(new)
    changes = by_words(a.encode(), differences(a, b))
    left, right = list(_sides(a.encode(), changes)), list(_other_side(a.encode(), changes))
    assert "".join(p.text for p in left) == a and "".join(p.text for p in right) == b
    assert [p.text for p in left if not p.differs] == [p.text for p in right if not p.differs]


def test_whole_words_differ() -> None:
    old, new = "it is used here", "it is employed here"
    changes = by_words(old.encode(), differences(old, new))
    assert [(old[c.start : c.end], c.text) for c in changes] == [("used", "employed")]


def test_every_kind_of_outcome_of_a_run_can_be_shown(run: Path) -> None:
    opened = open_run(run)
    rows = opened.sql("select reason, min(doc_id) as doc_id from documents group by reason").to_pylist()
    filters = opened.settings().filter
    for row in rows:
        shown = show(opened.finished, filters, str(row["doc_id"]))
        text = "".join(piece.text for piece in shown.pieces)
        assert text if row["reason"] != "licence" else shown.note and not text
        assert (row["reason"] in [rule.rule for rule in shown.failed]) == bool(row["reason"])


def test_a_document_whose_source_is_gone_is_shown_by_its_tokens(
    run: Path, monkeypatch: pytest.MonkeyPatch, settings_of: Callable[..., Any]
) -> None:
    opened = open_run(run)
    kept = opened.documents("kept and words > 50", ["doc_id"], 1).column(0)[0].as_py()
    dropped = opened.documents("not kept and words > 50", ["doc_id"], 1).column(0)[0].as_py()
    filters = settings_of().filter
    whole = "".join(piece.text for piece in show(opened.finished, filters, str(kept)).pieces)
    monkeypatch.setattr("fox1.pipeline.inspect.run.scanned_row", lambda *_: None)
    shown = show(opened.finished, filters, str(kept))
    assert "".join(piece.text for piece in shown.pieces) == whole and "tokens" in shown.note
    shown = show(opened.finished, filters, str(dropped))
    assert not shown.pieces and "put the file back" in shown.note


def test_signals_are_shown_as_rules_bound_them(run: Path) -> None:
    opened = open_run(run)
    row = opened.documents("words > 50", ["doc_id", "words", "quality", "mean_word_length"], 1).to_pylist()[0]
    signals = show(opened.finished, opened.settings().filter, str(row["doc_id"])).signals
    assert signals.keys() == SIGNALS.keys() and signals["words"] == row["words"]
    assert np.allclose(
        [signals["quality"], signals["mean_word_length"]], [row["quality"], row["mean_word_length"]], 1e-3
    )

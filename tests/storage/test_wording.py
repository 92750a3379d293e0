"""Words for a terminal."""

from __future__ import annotations

import sys

import pytest
from fox1.storage.wording import MARKS, counted, first_line, one_line, printable, say


def test_no_text_steers_a_terminal() -> None:
    assert printable("Zürich 日本\n\x1b[2J\x9b31m\ud800") == "Zürich 日本\ufffd\ufffd[2J\ufffd31m\ufffd"
    assert printable("a\tb\n\x07", "\n\t") == "a\tb\n\ufffd"


def test_an_error_is_named_in_one_line() -> None:
    assert first_line(ValueError("a\nb")) == "a" and first_line(MemoryError()) == "MemoryError"


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(n, "task") for n in (0, 1, 2000)] == ["0 tasks", "1 task", "2,000 tasks"]


@pytest.mark.parametrize(
    "unseen",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
        "\u00ad",
        "\U000e0041",
        "\U000e0001",
        "\u034f",
        "\u3164",
        "\ufe01",
        "\u2028",
        "\x85",
    ],
)
def test_what_nobody_sees_is_shown(unseen: str) -> None:
    assert printable(f"a{unseen}b") == "a\ufffdb"


def test_marks_are_not_piled_up() -> None:
    assert printable("e\u0301 \u0e01\u0e33\u0e49") == "e\u0301 \u0e01\u0e33\u0e49"
    assert len(printable("a" + "\u0301" * 500 + "b")) == 1 + MARKS + 1 + 1


def test_a_name_never_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nerror: b\r\x1b[2K", sys.stderr)
    say("c")
    assert capsys.readouterr() == ("c\n", "a\ufffderror: b\ufffd\ufffd[2K\n")
    assert one_line("a\n  b\n\n") == "a b"

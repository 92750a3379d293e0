"""Words for a terminal."""

from __future__ import annotations

from fox1.storage.wording import counted, first_line, printable


def test_no_text_steers_a_terminal() -> None:
    assert printable("Zürich 日本\n\x1b[2J\x9b31m\ud800") == "Zürich 日本\ufffd\ufffd[2J\ufffd31m\ufffd"
    assert printable("a\tb\n\x07", "\n\t") == "a\tb\n\ufffd"


def test_an_error_is_named_in_one_line() -> None:
    assert first_line(ValueError("a\nb")) == "a" and first_line(MemoryError()) == "MemoryError"


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(n, "task") for n in (0, 1, 2000)] == ["0 tasks", "1 task", "2,000 tasks"]

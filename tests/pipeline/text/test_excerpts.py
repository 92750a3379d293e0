"""Excerpts of a text around what is marked in it."""

from __future__ import annotations

from fox1.pipeline.text.excerpts import around
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    """A text of words, and some of these as spans of its bytes."""
    words = draw(st.lists(st.sampled_from(["a", "word", "längere", "x" * 90, "\n", "字"]), min_size=1, max_size=300))
    text, spans = "", list[tuple[int, int]]()
    for word in words:
        if word != "\n" and draw(st.booleans()):
            spans.append((len(text.encode()), len((text + word).encode())))
        text += word + " "
    return text, spans


@given(marked(), st.integers(20, 300))
def test_what_is_marked_in_an_excerpt_is_marked_in_the_text(
    case: tuple[str, list[tuple[int, int]]], letters: int
) -> None:
    text, spans = case
    said, marks = around(text, spans, letters)
    assert len(said) <= letters
    if not spans:
        assert (said, marks) == (text[:letters], [])
        return
    # The first stands in the excerpt, and none is left out between two that do.
    shown = [said[begin:end] for begin, end in marks]
    meant = [text.encode()[begin:end].decode() for begin, end in spans]
    assert shown and all(whole.startswith(part) for part, whole in zip(shown, meant, strict=False))
    assert all(part == whole for part, whole in zip(shown[:-1], meant, strict=False))

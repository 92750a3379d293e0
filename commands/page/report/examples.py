"""Documents that were kept or dropped, with what their reason counts marked, and what differs from the copy that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....pipeline.inspect.document import Piece, compared
from ..elements import Element, Node, h
from ..formats import percent

EACH = 3
"""Documents that are shown of a reason."""
LETTERS = 800
"""Of a document that are shown, at most."""


def documents(examples: Sequence[Mapping[str, Any]], rule: str = "") -> list[Element]:
    """Some documents of a reason."""
    return [_document(example, rule) for example in examples[:EACH]]


def _document(example: Mapping[str, Any], rule: str) -> Element:
    about = [example["subset"], example["value"]]
    head = h(
        "h4",
        {},
        h("code", {}, example["name"]),
        h("small", {}, " · ".join(part for part in about if part)),
    )
    if "stays" in example:
        return h("article", {"class": "example"}, head, *_beside(example))
    text = example["text"][:LETTERS]
    said = h("pre", {"class": "text"}, list(_marked(text, example.get("marks", []), rule))) if text else None
    return h("article", {"class": "example"}, head, said or h("p", {"class": "note"}, "Its text is not shown."))


def _marked(text: str, marks: Sequence[Sequence[int]], rule: str) -> Iterator[Node]:
    at = 0
    for begin, end in marks:
        yield text[at:begin]
        if inside := text[begin:end]:
            yield h("mark", {"class": "m0", "title": rule or None}, inside)
        at = max(at, end)
    yield text[at:]


def _beside(example: Mapping[str, Any]) -> Iterator[Element]:
    """A dropped document and the one that is kept in its place, with what differs."""
    old, new = example["text"][:LETTERS], example["stays_text"][:LETTERS]
    similar = f"{percent(example['similarity'], 1, 0)} similar to " if example["similarity"] else "a copy of "
    yield h("p", {"class": "note"}, similar, h("code", {}, example["stays"]), ", which is kept")
    left, right = compared(old, new) if new else ([Piece(old)], [])
    yield h(
        "div",
        {"class": "texts"},
        h("figure", {}, h("figcaption", {}, "dropped"), h("pre", {"class": "text"}, _differing(left, "del"))),
        h(
            "figure",
            {},
            h("figcaption", {}, "kept"),
            h("pre", {"class": "text"}, _differing(right, "ins") if new else "Its text is not in this run."),
        ),
    )


def _differing(pieces: Sequence[Piece], tag: str) -> list[Node]:
    return [h(tag, {}, piece.text) if piece.differs else piece.text for piece in pieces]

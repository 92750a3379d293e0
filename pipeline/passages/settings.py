"""What a recipe says of passages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ...storage.fields import Bounds

Kind = Literal["lines", "paragraphs", "sentences", "substrings"]
KINDS: tuple[Kind, ...] = ("lines", "paragraphs", "sentences", "substrings")
"""By their number, from 1."""
REASON = "duplicate_passages"
"""Of a decision: too little is left of the document after its passages were cut."""


@dataclass(frozen=True)
class PassageSettings:
    """Which passages are cut where they stand a second time."""

    cut: tuple[Kind, ...] = ()
    """Kinds of passages: lines, paragraphs, spans of sentences, substrings; empty: nothing is cut."""
    min_words: Annotated[int, Bounds(ge=1, le=1 << 20)] = 10
    """Lines, paragraphs and spans of sentences of fewer words stay."""
    any_numbers: bool = False
    """Lines, paragraphs and spans of sentences that differ in digits only are equal, too."""
    sentences: Annotated[int, Bounds(ge=1, le=1024)] = 3
    """Sentences of a span."""
    substring_words: Annotated[int, Bounds(ge=8, le=1024)] = 50
    """Words of the shortest substring that is cut; in scripts without spaces, characters."""
    min_left: Annotated[int, Bounds(ge=0, le=1 << 20)] = 50
    """A document that lost passages and has fewer words left is dropped, unless others lost theirs for it."""

    def __post_init__(self) -> None:
        if len(set(self.cut)) < len(self.cut):
            raise ValueError("`cut` names a kind of passage twice")

    @property
    def of_search(self) -> PassageSettings:
        """What the passages that are found depend on: not what becomes of documents."""
        return replace(self, min_left=0)

    @property
    def of_lines(self) -> tuple[Kind, ...]:
        """Kinds whose passages are compared by their words."""
        return tuple(kind for kind in KINDS[:3] if kind in self.cut)


NOTHING = PassageSettings()
"""No passage is cut."""

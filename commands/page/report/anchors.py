"""Where on the page a corpus, rule or other name of a run is shown: ids that a name cannot break, and what the search finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..formats import words


@dataclass
class Anchors:
    """Ids of the page by what they stand for."""

    key: str
    """Begins each id: of two runs, each has its own."""
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def id(self, kind: str, name: str) -> str:
        """The id of what is said of a name."""
        return f"{self.key}{kind}-{self.numbers.setdefault((kind, name), len(self.numbers))}"

    def place(self, kind: str, name: str) -> dict[str, Any]:
        """Attributes of the element that says it: the search leads there."""
        return {"id": self.id(kind, name), "data-kind": kind, "data-find": words(name) or "unknown"}

    def pick(self, kind: str, name: str, style: str) -> tuple[str, dict[str, Any]]:
        """A link to what more is said of a group."""
        return "a", {"class": style, "href": f"#{self.id(kind, name)}"}

"""How many documents are set apart to measure on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ...storage.fields import Bounds, Quantity, Share

CARVED = "carved"
"""The reason of their decisions."""
KEPT, UNFILTERED = HALVES = ("kept", "unfiltered")
"""Of what the filters keep; of all that dedupe alone would leave. So no half is what only one side calls good."""
LARGEST_PART = 5
"""A fifth of a domain's documents at most is set apart."""
LEAST_DOCUMENTS = 10
"""A domain with fewer is not measured: one document would be all that is known of it."""


@dataclass(frozen=True)
class Carve:
    """How many documents are set apart."""

    by: Literal["domain"] = "domain"
    """Of each domain alike."""
    documents: Annotated[int, Bounds(ge=1)] = 40
    """Documents of a domain; at most a fifth of those that it has."""
    tokens: Annotated[Quantity, Bounds(ge=2)] = 60_000
    """About so many tokens of a domain are measured: of short documents there are more, of long ones windows."""
    unfiltered: Share = 0.5
    """Part of them that is drawn whatever the filters say."""

    @property
    def parts(self) -> tuple[float, float]:
        """Share of each of `HALVES`."""
        return 1 - self.unfiltered, self.unfiltered

    @property
    def most_tokens(self) -> int:
        """Tokens of one document that are measured, where a domain has documents enough."""
        return max(2, -(-self.tokens // self.documents))

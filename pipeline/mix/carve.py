"""Documents that are set apart to measure on: of every domain, so many documents and tokens of those that survive.

A survivor stands for its whole cluster: copies of it were dropped for it, so none of them is trained on either. Documents that hold
a benchmark's item were dropped before, if the recipe drops them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ...storage.fields import Bounds, Quantity
from .budget import BlockRule, Cell, MixSettings, Phase, Weight
from .select import CellCount

CARVED = "held_out"
"""The name of the phase that claims them, before all others; its set is not one of the phases' but the held-out set."""
LARGEST_SHARE = 10
"""A tenth of a domain's tokens at most is set apart."""
LEAST_DOCUMENTS = 10
"""A domain with fewer is not measured: one document would be all that is known of it."""


@dataclass(frozen=True)
class Carve:
    """How many survivors are set apart."""

    by: Literal["domain"] = "domain"
    """Of each domain alike."""
    documents: Annotated[int, Bounds(ge=1)] = 40
    """Documents of a domain, of mean length."""
    tokens: Annotated[Quantity, Bounds(ge=2)] = 60_000
    """Tokens of a domain, if that is more; at most a tenth of it."""


def with_carved(
    settings: MixSettings, carve: Carve, cells: Sequence[Cell], counts: Sequence[CellCount], block_length: int
) -> MixSettings:
    """The settings with one more phase, the last, which claims before all others what is set apart.

    Conversations are never: only their answers would count.

    Args:
        counts: of every cell.

    Raises:
        ValueError: no domain has documents enough.
    """
    sums: dict[str, list[int]] = {}
    chats = {cell.domain for cell in cells if cell.chat}
    for cell, count in zip(cells, counts, strict=True):
        row = sums.setdefault(cell.domain, [0, 0])
        row[0] += count.documents
        row[1] += count.tokens
    sizes = {
        domain: tokens_set_apart(carve.documents, carve.tokens, documents, tokens)
        for domain, (documents, tokens) in sorted(sums.items())
        if documents >= LEAST_DOCUMENTS and domain not in chats
    }
    if not sizes:
        raise ValueError(
            f"held_out.carve: no domain of the run has {LEAST_DOCUMENTS} documents, so none can be set apart; curate more text"
        )
    weights = tuple(Weight(size, domain=domain) for domain, size in sizes.items())
    phase = Phase(CARVED, sum(sizes.values()), weights, (BlockRule(block_length),))
    order = (CARVED, *(settings.phases[number].name for number in settings.claiming))
    return replace(settings, phases=(*settings.phases, phase), claim_order=order)


def tokens_set_apart(documents: int, tokens: int, there: int, tokens_there: int) -> int:
    """Tokens of a domain that are set apart.

    Args:
        documents: wanted, of mean length.
        tokens: wanted, if that is more.
        there: documents of the domain.
        tokens_there: their tokens.
    """
    mean = -(-tokens_there // max(1, there))
    return max(2, min(max(tokens, documents * mean), tokens_there // LARGEST_SHARE))

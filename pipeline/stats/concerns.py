"""What whoever answers for a run would ask about, found in its statistics: each is a line of the summary, and no error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...storage.wording import counted
from .stored import documents_by_class

FEW_DOCUMENTS = 100
"""A phase of fewer documents trains on a handful of sources, however many tokens these have."""
NAMED = 5
"""Languages that a line names."""


def concerns(values: Mapping[str, Any]) -> list[str]:
    """Lines about what is unlikely to be meant.

    Args:
        values: what `stats/<name>.json` hold, by name: `funnel`, `languages` and `mixture`.
    """
    corpora, phases = values["funnel"]["corpora"], values["mixture"]["phases"]
    return [*_short_phases(phases), *_lost(corpora), *_lost_languages(values["languages"]), *_unused(corpora, values)]


def _short_phases(phases: list[dict[str, Any]]) -> Iterator[str]:
    for phase in phases:
        documents = sum(documents_by_class(phase["lengths"]).values())
        if documents < FEW_DOCUMENTS:
            tokens = f"{phase['tokens']:,} tokens"
            few = " (so few that which they are matters more than their order)" if len(phases) > 1 else ""
            yield f"{phase['name']} trains on {counted(documents, 'document')} only{few}: is its budget of {tokens} meant?"


def _lost(corpora: list[dict[str, Any]]) -> Iterator[str]:
    """Corpora of which nothing is kept."""
    for corpus in corpora:
        readable = corpus["rows"] - corpus["quarantined"]
        if readable and not corpus["kept"]:
            yield f"{corpus['corpus']}: nothing is kept of {counted(readable, 'document')}; {_most(corpus['dropped'])}"


def _most(dropped: Mapping[str, int]) -> str:
    reason, n = max(dropped.items(), key=lambda item: (item[1], item[0]))
    return f"{n:,} were dropped for {reason}" if n > 1 else f"1 was dropped for {reason}"


def _lost_languages(languages: Mapping[str, Any]) -> Iterator[str]:
    found = {name: n["rows"] for name, n in languages["languages"].items() if n.get("rows") and not n.get("kept")}
    if not found:
        return
    largest = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name or 'unknown'} {rows:,}" for name, rows in largest[:NAMED])
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    yield f"nothing is kept of {counted(len(found), 'language')} (documents: {named}{more})"


def _unused(corpora: list[dict[str, Any]], values: Mapping[str, Any]) -> Iterator[str]:
    """Corpora whose kept documents no phase trains on; those that only hold out documents have none to give."""
    mixture = values["mixture"]
    drawn = {cell["corpus"] for phase in mixture["phases"] for cell in phase["cells"] if cell["tokens"]}
    there = {cell["corpus"] for cell in mixture["unused"] if cell["documents"]}
    for corpus in corpora:
        if corpus["corpus"] in there - drawn:
            yield f"{corpus['corpus']}: no phase draws on any of its {counted(corpus['kept'], 'kept document')}"

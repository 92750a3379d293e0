"""What became of the documents of a run, counted once and under the same names wherever it is shown.

rows = unreadable + filtered + ... + near duplicates + kept              of a corpus, and of all
kept = held out for validation + not used + used by the phases           each document once
documents of the phases = used by the phases + used again                a phase counts each of its documents once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .stored import documents_by_class

UNREADABLE, FILTERED, KEPT = "unreadable", "filtered", "kept"
NAMES = {
    "excluded": "taken out on request",
    "licence": "licence",
    "url": "blocked URLs",
    "contaminated": "benchmark items",
    "held_out": "held-out copies",
    "exact_duplicate": "exact duplicates",
    "near_duplicate": "near duplicates",
    "url_duplicate": "older pages of a URL",
    "duplicate_passages": "repeated passages",
}
"""Reasons that are outcomes of their own; all others are rules, and what they drop is `FILTERED`."""
ORDER = (UNREADABLE, *list(NAMES.values())[:4], FILTERED, *list(NAMES.values())[4:], KEPT)


def outcomes(corpus: Mapping[str, Any]) -> dict[str, int]:
    """Outcome -> rows of a corpus of `stats/funnel.json`, those that occur; they add up to its rows."""
    sums = {UNREADABLE: corpus["quarantined"], KEPT: corpus["kept"]}
    for reason, n in corpus["dropped"].items():
        name = NAMES.get(reason, FILTERED)
        sums[name] = sums.get(name, 0) + n
    return {name: sums[name] for name in ORDER if sums.get(name)}


@dataclass(frozen=True)
class KeptDocuments:
    """Where the kept documents of a run went, with their tokens, BOS and EOS not included."""

    kept: int
    tokens: int
    held_out: int
    held_out_tokens: int
    unused: int
    unused_tokens: int
    phases: dict[str, int]
    """Name -> documents, each once for a phase, whatever its epochs."""

    @property
    def used(self) -> int:
        """Documents that one phase uses, or several."""
        return self.kept - self.held_out - self.unused

    @property
    def used_tokens(self) -> int:
        """Of these documents, each once and whole."""
        return self.tokens - self.held_out_tokens - self.unused_tokens

    @property
    def again(self) -> int:
        """How often a phase uses a document that an earlier one uses as well."""
        return sum(self.phases.values()) - self.used


def kept_documents(corpora: Sequence[Mapping[str, Any]], mixture: Mapping[str, Any], tokens: int) -> KeptDocuments:
    """Where the kept documents went.

    Args:
        corpora: of `stats/funnel.json`.
        mixture: `stats/mixture.json`, whose tokens have BOS and EOS among them.
        tokens: of all kept documents, without these.
    """
    held, unused = mixture["held_out"], mixture["unused"]
    kept, left = sum(c["kept"] for c in corpora), sum(c["documents"] for c in unused)
    training = sum(n for classes in mixture["survivors"]["lengths"].values() for _, n in classes.values())
    # Of every document as many: both, one of them or none.
    special = (training + held["tokens"] - tokens) // max(kept, 1)
    return KeptDocuments(
        kept,
        tokens,
        held["documents"],
        held["tokens"] - special * held["documents"],
        left,
        sum(c["tokens"] for c in unused) - special * left,
        {p["name"]: sum(documents_by_class(p["lengths"]).values()) for p in mixture["phases"]},
    )

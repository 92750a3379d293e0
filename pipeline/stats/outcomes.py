"""What became of the documents of a run, counted once and under the same names wherever it is shown.

rows = unreadable + filtered + ... + near duplicates + kept              of a corpus, and of all
kept = held out for validation + not used + used by the phases           each document once
documents of the phases = used by the phases + used again                a phase counts each of its documents once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..carve.settings import CARVED
from .stored import documents_by_class

UNREADABLE, FILTERED, KEPT = "unreadable", "filtered", "kept"
USED = "used in phases, each once and whole"
TRAINED, BY_PHASE = "trained, every pass counted", "trained, by phase"
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
    CARVED: "set apart to measure on",
}
"""Reasons that are outcomes of their own; all others are rules, and what they drop is `FILTERED`."""
ORDER = (UNREADABLE, *list(NAMES.values())[:4], FILTERED, *list(NAMES.values())[4:], KEPT)


def outcome(reason: str) -> str:
    """What became of a document, by `kept` or the reason of its decision."""
    return KEPT if reason == KEPT else NAMES.get(reason, FILTERED)


def by_outcome(reasons: Mapping[str, int], unreadable: int = 0) -> dict[str, int]:
    """Outcome -> documents, those that occur, in `ORDER`. `reasons`: `kept` or reason -> documents."""
    sums = {UNREADABLE: unreadable}
    for reason, n in reasons.items():
        name = outcome(reason)
        sums[name] = sums.get(name, 0) + n
    return {name: sums[name] for name in ORDER if sums.get(name)}


def outcomes(corpus: Mapping[str, Any]) -> dict[str, int]:
    """Outcome -> rows of a corpus of `stats/funnel.json`, those that occur; they add up to its rows."""
    return by_outcome({**corpus["dropped"], KEPT: corpus["kept"]}, corpus["quarantined"])


@dataclass(frozen=True)
class KeptDocuments:
    """Where the kept documents of a run went, with their tokens, BOS and EOS not included."""

    kept: int
    tokens: int
    held_out: int
    held_out_tokens: int
    unused: int
    unused_tokens: int
    special: int
    """BOS and EOS of a document: both, one of them or none."""
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
    unused = mixture["unused"]
    # Of a held-out set, what was set apart is not among what is kept.
    carved = mixture["held_out"].get("carved", {"documents": 0, "tokens": 0})
    held = {name: mixture["held_out"][name] - carved[name] for name in carved}
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
        special,
        {p["name"]: sum(documents_by_class(p["lengths"]).values()) for p in mixture["phases"]},
    )


@dataclass(frozen=True)
class FunnelLine:
    """A line of the funnel from rows to trained tokens."""

    name: str
    depth: int
    """A line is the sum of those after it that are one deeper, up to the next of its own depth or less."""
    documents: int | None
    tokens: int | None = None
    """None: nobody counted them; a document that is dropped is not tokenized."""
    bytes: int | None = None
    """Of raw text."""


def funnel(values: Mapping[str, Any]) -> list[FunnelLine]:
    """From the rows of the sources to the tokens that train: the lines of a depth add up to the one above them, and those of the
    documents that train to what the phases hold.

    Args:
        values: what `stats/<name>.json` hold, by name: `funnel`, `mixture`, `tokens` and, for bytes, `distributions`.
    """
    corpora, mixture = values["funnel"]["corpora"], values["mixture"]
    found = kept_documents(corpora, mixture, values["tokens"]["tokens"])
    sums: dict[str, int] = {}
    for corpus in corpora:
        for name, n in outcomes(corpus).items():
            sums[name] = sums.get(name, 0) + n
    sizes = _bytes_by_outcome(values)
    lines = [FunnelLine("rows", 0, sum(sums.values()), bytes=sum(sizes.values()) if sizes else None)]
    lines += [
        FunnelLine(name, 1, sums[name], bytes=sizes.get(name, 0) if sizes and name != UNREADABLE else None)
        for name in ORDER[:-1]
        if sums.get(name)
    ]
    lines.append(FunnelLine(KEPT, 1, found.kept, found.tokens, sizes.get(KEPT, 0) if sizes else None))
    lines.append(FunnelLine("held out for validation", 2, found.held_out, found.held_out_tokens))
    lines.append(FunnelLine("not used in any phase", 2, found.unused, found.unused_tokens))
    lines.append(FunnelLine(USED, 2, found.used, found.used_tokens))
    return lines + _trained(found, mixture["phases"])


def _trained(found: KeptDocuments, phases: Sequence[Mapping[str, Any]]) -> list[FunnelLine]:
    """From documents that train, each once and whole, to the tokens of the phases."""
    once = {p["name"]: sum(n for classes in p["lengths"].values() for _, n in classes.values()) for p in phases}
    epochs = sum(p["documents"] for p in phases) - sum(found.phases.values())
    more = cut = 0
    for p in phases:
        # A pool that gives more than it holds is read as a whole before anything of it is read again.
        again = sum(max(pool["tokens"] - pool["available_tokens"], 0) for pool in p["pools"])
        rest = p["tokens"] - once[p["name"]] - again
        # Where documents count several times in a pool, what is read again and what is cut cannot be told apart.
        several = any(pool.get("repeat") for pool in p["pools"])
        more, cut = more + again + (rest if several else 0), cut + (0 if several else rest)
    special = found.special * found.used
    others = sum(once.values()) - found.used_tokens - special
    trained = FunnelLine(TRAINED, 0, sum(p["documents"] for p in phases), sum(p["tokens"] for p in phases))
    return [
        trained,
        FunnelLine(USED, 1, found.used, found.used_tokens),
        FunnelLine("BOS and EOS of these", 1, None, special),
        *([FunnelLine("again in a further phase", 1, found.again, others)] if found.again else []),
        *([FunnelLine("further epochs of a phase", 1, epochs, more)] if epochs or more else []),
        *([FunnelLine("cut where a budget ends", 1, None, cut)] if cut else []),
        FunnelLine(BY_PHASE, 0, trained.documents, trained.tokens),
        *(FunnelLine(p["name"], 1, p["documents"], p["tokens"]) for p in phases),
    ]


def _bytes_by_outcome(values: Mapping[str, Any]) -> dict[str, int]:
    """Outcome -> bytes of raw text; empty where the run, of an earlier version, has not counted them."""
    sums: dict[str, int] = {}
    for reasons in values.get("distributions", {}).get("bytes", {}).values():
        for reason, n in reasons.items():
            sums[outcome(reason)] = sums.get(outcome(reason), 0) + n
    return sums

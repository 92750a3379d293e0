"""What stands out in a run, in sentences: what a reader would otherwise add up from tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...storage.wording import counted
from .concerns import concerns
from .outcomes import NAMES

SHORT_OF = 0.98
"""A phase that reaches less of the tokens that were wanted is worth a sentence."""
FAR_BELOW = 0.5
"""So is a corpus that keeps less than this part of what the run keeps of all rows."""
MUCH = 0.02
"""And a rule that drops more than this part of all rows."""
AGAIN = 1.05
"""And a pool that is read so often."""
NAMED = 3
"""Corpora, languages and rules that a sentence names."""


def findings(values: Mapping[str, Any]) -> list[str]:
    """Sentences about a run, the most important first.

    Args:
        values: what `stats/<name>.json` hold, by name: `funnel`, `languages` and `mixture`.
    """
    corpora, phases = values["funnel"]["corpora"], values["mixture"]["phases"]
    return [*_kept(corpora), *_duplicates(corpora), *_rules(corpora), *_corpora(corpora), *_phases(phases)]


@dataclass(frozen=True)
class Verdict:
    """What whoever answers for a run would say of it first."""

    level: Literal["ready", "look", "short"]
    """Ready to train; something stands out that may not be meant; phases lack tokens, or the run is not finished."""
    text: str


def verdict(values: Mapping[str, Any], finished: bool = True) -> Verdict:
    """One sentence of a run.

    Args:
        values: as `findings` takes them.
        finished: the last curation of the run came to its end.
    """
    phases = values["mixture"]["phases"]
    if not finished:
        return Verdict("short", "Not finished: later stages are missing or out of date.")
    short = [p for p in phases if p["tokens"] < SHORT_OF * p["wanted_tokens"]]
    if short:
        named = ", ".join(f"{p['name']} has {_percent(p['tokens'], p['wanted_tokens'])} of its tokens" for p in short)
        return Verdict("short", f"Short: {named}.")
    reached = f"{'The phase' if len(phases) == 1 else f'All {len(phases)} phases'} reached the tokens wanted"
    if asked := concerns(values):
        return Verdict("look", f"{reached}; {counted(len(asked), 'warning')} to look at before training.")
    return Verdict("ready", f"Ready to train: {reached[0].lower()}{reached[1:]}, and nothing asks for a second look.")


def _percent(part: float, whole: float) -> str:
    share = 100 * part / max(whole, 1)
    return f"{share:.0f} %" if share >= 10 or not share else f"{share:.1f} %" if share >= 0.1 else "under 0.1 %"


def _kept(corpora: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows, kept = (sum(c[name] for c in corpora) for name in ("rows", "kept"))
    if rows:
        yield f"{_percent(kept, rows)} of {rows:,} documents are kept"


def _duplicates(corpora: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = sum(c["rows"] for c in corpora)
    exact, near, pages = (
        sum(c["dropped"].get(f"{kind}_duplicate", 0) for c in corpora) for kind in ("exact", "near", "url")
    )
    if exact + near + pages:
        parts = [("exact copies", exact), ("near copies", near), ("older pages of a URL", pages)]
        named = ", ".join(f"{_percent(n, rows)} {name}" for name, n in parts if n)
        yield f"{_percent(exact + near + pages, rows)} are duplicates ({named})"


def _rules(corpora: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = sum(c["rows"] for c in corpora)
    sums: dict[str, int] = {}
    for corpus in corpora:
        for reason, n in corpus["dropped"].items():
            if not reason.endswith("_duplicate"):
                sums[reason] = sums.get(reason, 0) + n
    most = [(r, n) for r, n in sorted(sums.items(), key=lambda e: (-e[1], e[0])) if n > MUCH * rows][:NAMED]
    if most:
        yield "The rules that drop most: " + ", ".join(f"{NAMES.get(r, r)} {_percent(n, rows)}" for r, n in most)


def _corpora(corpora: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows, kept = (sum(c[name] for c in corpora) for name in ("rows", "kept"))
    for corpus in corpora:
        share, most = corpus["kept"] / max(corpus["rows"], 1), corpus["dropped"]
        if corpus["kept"] and share < FAR_BELOW * kept / max(rows, 1) and most:
            reason, n = max(most.items(), key=lambda e: (e[1], e[0]))
            yield (
                f"{corpus['corpus']} keeps {_percent(corpus['kept'], corpus['rows'])}: {_percent(n, corpus['rows'])} of it "
                f"are dropped for {NAMES.get(reason, reason)}"
            )


def _phases(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for phase in phases:
        if lacks := phase.get("given_away"):
            yield f"{phase['name']} lacks {', '.join(lacks)}: nothing is kept of it"
        if phase["tokens"] < SHORT_OF * phase["wanted_tokens"]:
            yield f"{phase['name']} reaches {_percent(phase['tokens'], phase['wanted_tokens'])} of its tokens"
        again = [p for p in phase["pools"] if p["epochs"] >= AGAIN]
        if again:
            named = ", ".join(f"{p['pool']} {p['epochs']:.1f} times" for p in again[:NAMED])
            yield f"{phase['name']} reads documents more than once ({named})"

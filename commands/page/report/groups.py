"""Drop rates by corpus, domain, language and subset: a row for each, divided by what became of its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....pipeline.stats.outcomes import KEPT, ORDER, by_outcome
from .. import charts
from ..elements import Element, Node, h
from ..formats import number, percent
from .anchors import Anchors
from .facts import Counts, RunFacts

MOST_ROWS = 200
"""Of a table; the largest groups are shown."""
SHOWN = 25
"""Rows of languages and subsets that are shown at once."""


def cards(run: RunFacts, anchors: Anchors) -> list[Element]:
    no_domain = "Rows that could not be read have no domain." if any(run.unreadable.values()) else ""
    of_languages = "Documents of each language that was found, the most frequent first."
    return [
        _card(run, anchors, "corpus", "Corpora", run.by_corpus, "", run.unreadable),
        _card(run, anchors, "domain", "Domains", run.by_domain, no_domain),
        _card(run, anchors, "language", "Languages", run.by_language, of_languages),
        _card(run, anchors, "subset", "Subsets", run.by_subset, "The largest first."),
    ]


def _card(
    run: RunFacts,
    anchors: Anchors,
    kind: str,
    title: str,
    groups: Mapping[str, Counts],
    lead: str,
    unreadable: Mapping[str, int] | None = None,
) -> Element:
    found = {name: _outcomes(counts, (unreadable or {}).get(name, 0)) for name, counts in groups.items()}
    if kind in ("language", "subset"):
        found = dict(sorted(found.items(), key=lambda e: (-sum(e[1].values()), e[0])))
    names = [name for name in (KEPT, *ORDER, "dropped") if any(name in counts for counts in found.values())]
    names = list(dict.fromkeys(names))
    rows = list(found.items())[:MOST_ROWS]
    left = len(found) - len(rows)
    said = f"{lead} {number(left)} more are in stats/." if left else lead
    heads: list[Node] = [kind, "", "documents", *names]

    def body(some: Sequence[tuple[str, Counts]]) -> Element:
        marks = [anchors.place(kind, name) for name, _ in some]
        return charts.table(heads, [_row(n, c, names) for n, c in some], title, (1,), True, marks)

    more = rows[SHOWN:]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, title),
        h("p", {"class": "lead"}, said) if said.strip() else None,
        body(rows[:SHOWN]),
        h("details", {}, h("summary", {}, f"{len(more)} more"), body(more)) if more else None,
    )


def _outcomes(counts: Counts, unreadable: int) -> Counts:
    if "dropped" in counts:
        return {name: n for name, n in counts.items() if n}
    return by_outcome(counts, unreadable)


def _row(name: str, counts: Counts, names: Sequence[str]) -> list[Node]:
    whole = sum(counts.values())
    parts = [charts.Part(n, counts[n], charts.outcome_colour(n)) for n in names if counts.get(n)]
    rates = [_rate(counts.get(n, 0), whole, n) for n in names]
    return [name or "unknown", charts.shares(parts, whole, name or "unknown", 0.15), number(whole), *rates]


def _rate(n: int, whole: int, name: str) -> Node:
    if not n:
        return h("span", {"class": "none"}, "·")
    if name == KEPT:
        return h("strong", {}, percent(n, whole))
    return charts.heat(n / whole, percent(n, whole), f"{number(n)} of {number(whole)}")

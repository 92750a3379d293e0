"""Rules and other reasons: what each drops, of which corpora and domains, beside examples with what it counts."""

from __future__ import annotations

from collections.abc import Mapping

from ....pipeline.stats.outcomes import KEPT, NAMES
from ..charts import legend, measure, table
from ..elements import Element, Node, h
from ..formats import number, percent, words
from .anchors import Anchors
from .examples import documents
from .facts import Counts, RunFacts

OTHERS = 3
"""Rules that are named as failed together with one."""


def cards(run: RunFacts, anchors: Anchors) -> list[Element]:
    most = max(run.dropped.values(), default=1)
    lead = (
        "A document that is dropped counts for the first rule that it fails, in the order of the recipe. Open a row for its "
        "thresholds, where it drops most, and documents with what it counts marked."
    )
    key = [("dropped for it", "o-dropped"), ("failed, but dropped for another", "o-ghost")]
    kept = run.examples.get(KEPT)
    return [
        h(
            "section",
            {"class": "card span"},
            h("h2", {}, "What drops documents"),
            h("p", {"class": "lead"}, lead),
            legend(key),
            h("div", {"class": "reasons"}, [_reason(run, anchors, name, most) for name in run.reasons]),
        ),
        h(
            "section",
            {"class": "card span"},
            h("h2", {}, "What is kept"),
            h("p", {"class": "lead"}, "Some kept documents, chosen by hash."),
            _kept(run),
        )
        if kept
        else h("section", {"class": "card span"}, h("h2", {}, "Nothing is kept")),
    ]


def _kept(run: RunFacts) -> list[Element]:
    """A few documents of each corpus."""
    by_corpus: dict[str, list[dict[str, object]]] = {}
    for example in run.examples.get(KEPT, []):
        by_corpus.setdefault(example["name"].partition("/")[0], []).append(example)
    return [
        h("details", {}, h("summary", {}, corpus), documents(examples))
        for corpus, examples in sorted(by_corpus.items())
    ]


def _reason(run: RunFacts, anchors: Anchors, name: str, most: int) -> Element:
    dropped = run.dropped.get(name, 0)
    failed = max(run.stats["filter"]["failed"].get(name, dropped), dropped)
    alone = run.stats["filter"]["alone"].get(name)
    label = NAMES.get(name, words(name))
    bar = h(
        "svg",
        {"class": "measure", "aria-hidden": "true"},
        h("rect", {"class": "ghost", "width": f"{100 * min(failed / max(most, 1), 1):.3f}%", "height": "100%"}),
        h("rect", {"class": "all", "width": f"{100 * dropped / max(most, 1):.3f}%", "height": "100%"}),
    )
    counts = [f"{percent(dropped, run.rows)} of all"] if dropped else []
    if name not in NAMES:
        counts.append(f"{number(failed)} fail it")
        counts.append(f"{number(alone or 0)} only it")
    summary = h(
        "summary",
        {},
        h("span", {"class": "label"}, label),
        bar,
        h("span", {"class": "count"}, number(dropped)),
        h("small", {}, " · ".join(counts)),
    )
    return h(
        "details",
        {**anchors.place("rule", name), "class": "reason"},
        summary,
        h("div", {"class": "inside"}, _inside(run, name)),
    )


def _inside(run: RunFacts, name: str) -> list[Element]:
    found = []
    if bounds := thresholds(run.settings, name):
        said = ", ".join(f"{value} ({section})" for section, value in bounds.items())
        found.append(h("p", {}, h("strong", {}, "Thresholds: "), said))
    if together := _together(run, name):
        said = ", ".join(f"{words(other)} {number(n)}" for other, n in together)
        found.append(h("p", {}, h("strong", {}, "Documents that also fail: "), said))
    found.append(
        h("div", {"class": "rates"}, _rates("corpora", run.by_corpus, name), _rates("domains", run.by_domain, name))
    )
    if examples := run.examples.get(name):
        found += documents(examples, words(name))
    elif run.dropped.get(name):
        found.append(h("p", {"class": "note"}, "None of its documents is among the examples of this run."))
    return found


def _rates(kind: str, groups: Mapping[str, Counts], name: str) -> Element | None:
    """What part of each group the reason drops, the largest first."""
    rates = [(group, counts.get(name, 0), sum(counts.values())) for group, counts in groups.items()]
    rates = sorted((r for r in rates if r[1]), key=lambda r: -r[1] / r[2])
    if not rates:
        return None
    most = max(n / whole for _, n, whole in rates)
    rows: list[list[Node]] = [
        [
            group,
            h("span", {"class": "fall"}, measure(1_000_000 * n / whole, 1_000_000 * most, 0)),
            percent(n, whole),
            number(n),
        ]
        for group, n, whole in rates
    ]
    return table([kind, "", "dropped for it", "documents"], rows, f"{kind} of {words(name)}", (1,))


def _together(run: RunFacts, name: str) -> list[tuple[str, int]]:
    """The rules that documents most often fail together with one."""
    found: dict[str, int] = {}
    for pair, n in run.stats["filter"]["both"].items():
        rules = pair.split("|")
        if name in rules and len(rules) == 2:
            found[rules[rules[0] == name]] = n
    return sorted(found.items(), key=lambda e: (-e[1], e[0]))[:OTHERS]


def thresholds(settings: Mapping[str, object], rule: str) -> dict[str, str]:
    """Section -> what the recipe sets a rule to there."""
    filters = settings.get("filters")
    found = {}
    for section, rules in filters.items() if isinstance(filters, Mapping) else ():
        if isinstance(rules, Mapping) and rules.get(rule) is not None:
            value = rules[rule]
            found[str(section)] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found

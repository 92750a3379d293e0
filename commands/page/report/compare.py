"""Two runs: their figures and mixtures with what changed, outcomes in percentage points, and which documents went from one outcome
to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pipeline.dedupe.order import DedupeSettings
from ....pipeline.inspect.diff import KEPT, RunDiff, changed_keys, diff
from ....pipeline.stats.outcomes import NAMES, outcome
from ....storage.fields import share
from ....storage.wording import counted
from .. import charts
from ..elements import Element, Node, h
from ..formats import number, percent, points, short, size, words
from .facts import RunFacts
from .groups import MOST_ROWS

EXAMPLES = 8
"""Documents that are named for a change."""
CHANGES = 30
"""Changes whose documents are named, those of most documents."""


def compare(runs: Sequence[RunFacts]) -> RunDiff | None:
    """What became of the same documents; None where a run has no decisions, as in a copy of a part of it."""
    a, b = runs
    try:
        return diff(a.paths, b.paths, (a.settings, b.settings), EXAMPLES)
    except ValueError:
        return None


def cards(runs: Sequence[RunFacts], found: RunDiff | None) -> list[Element]:
    return [_figures(runs), _keys(runs), *(_documents(runs, found) if found else [_missing()]), _mixture(runs)]


def _missing() -> Element:
    said = "The decisions of a run are not here, so what became of single documents cannot be compared."
    return h(
        "section", {"class": "card span"}, h("h2", {}, "From one outcome to another"), h("p", {"class": "lead"}, said)
    )


def _figures(runs: Sequence[RunFacts]) -> Element:
    a, b = (run.overview for run in runs)

    def tile(label: str, name: str, form: Any = number) -> Element:
        change = b[name] - a[name]
        if not change:
            return charts.tile(label, form(a[name]), "unchanged")
        sign = "+" if change > 0 else "−"
        of = f" ({sign}{percent(abs(change), a[name])})" if a[name] else ""
        return charts.tile(label, f"{form(a[name])} → {form(b[name])}", f"{sign}{form(abs(change))}{of}")

    return h(
        "section",
        {"class": "card span hero"},
        h("h2", {}, f"{runs[0].name} and {runs[1].name}"),
        [h("p", {"class": "warning", "role": "note"}, warning) for warning in other_thresholds(runs)],
        charts.tiles(
            tile("documents read", "rows"),
            tile("kept", "kept"),
            tile("text", "bytes", size),
            tile("tokens kept", "kept_tokens", short),
            tile("documents that train", "used"),
            tile("tokens trained on", "trained_tokens", short),
        ),
    )


def _keys(runs: Sequence[RunFacts]) -> Element:
    keys = changed_keys(runs[0].settings, runs[1].settings)
    rows: list[list[Node]] = [
        [h("code", {}, key), h("code", {}, old), h("code", {}, new)] for key, old, new in keys[:MOST_ROWS]
    ]
    said = charts.table(["key", runs[0].name, runs[1].name], rows, "Keys that differ", (1, 2)) if rows else None
    none = h("p", {"class": "lead"}, "The recipes say the same.")
    return h("section", {"class": "card span"}, h("h2", {}, "Keys of the recipes that differ"), said or none)


def _documents(runs: Sequence[RunFacts], found: RunDiff) -> list[Element]:
    return [_matrix(runs, found), *_changes(runs, found), _outcomes(runs, found)]


def _said(reason: str) -> str:
    return NAMES.get(reason, words(reason))


def _matrix(runs: Sequence[RunFacts], found: RunDiff) -> Element:
    lead = f"Rows: what became of a document in {runs[0].name}; columns: in {runs[1].name}. "
    changed = sum(found.changes.values())
    lead += f"{counted(changed, 'document')} changed, {number(found.unchanged)} did not."
    before = list(dict.fromkeys(a for a, _ in found.changes))[:CHANGES]
    after = list(dict.fromkeys(b for _, b in found.changes))[:CHANGES]
    most = max(found.changes.values(), default=1)
    numbers = {pair: i for i, pair in enumerate(found.changes)}

    def cell(pair: tuple[str, str]) -> Node:
        n = found.changes.get(pair, 0)
        if not n:
            return h("span", {"class": "none"}, "·")
        said = charts.heat(n / most, number(n), f"{_said(pair[0])} → {_said(pair[1])}")
        return h("a", {"href": f"#moved-{numbers[pair]}"}, said) if numbers[pair] < CHANGES else said

    rows = [[_said(a), *(cell((a, b)) for b in after)] for a in before]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "From one outcome to another"),
        h("p", {"class": "lead"}, lead),
        charts.table(["", *(_said(b) for b in after)], rows, "From one outcome to another") if rows else None,
    )


def _changes(runs: Sequence[RunFacts], found: RunDiff) -> list[Element]:
    listed = []
    for i, ((before, after), n) in enumerate(list(found.changes.items())[:CHANGES]):
        title = f"{_said(before)} → {_said(after)}"
        names = found.examples[before, after]
        summary = h("summary", {}, h("span", {"class": "label"}, title), h("span", {"class": "count"}, number(n)))
        place = {"id": f"moved-{i}", "data-kind": "change", "data-find": title, "class": "reason"}
        listed.append(
            h(
                "details",
                place,
                summary,
                h("ul", {"class": "list"}, [h("li", {}, h("code", {}, name)) for name in names]),
            )
        )
    if not listed:
        return []
    more = h("code", {}, "fox1 why RUN DOCUMENT")
    return [
        h(
            "section",
            {"class": "card span"},
            h("h2", {}, "Documents that changed"),
            h("p", {"class": "lead"}, "Some of each, spread over the files. ", more, " says more of one."),
            h("div", {"class": "reasons plain"}, listed),
        )
    ]


def _outcomes(runs: Sequence[RunFacts], found: RunDiff) -> Element:
    """Shares of outcomes of each corpus, with the change in percentage points."""
    by_corpus: dict[str, dict[str, tuple[int, int]]] = {}
    for corpus, reasons in found.outcomes.items():
        own = by_corpus.setdefault(corpus, {})
        for reason, (a, b) in reasons.items():
            had = own.get(outcome(reason), (0, 0))
            own[outcome(reason)] = had[0] + a, had[1] + b
    everything: dict[str, tuple[int, int]] = {}
    for own in by_corpus.values():
        for name, (a, b) in own.items():
            had = everything.get(name, (0, 0))
            everything[name] = had[0] + a, had[1] + b
    names = sorted(everything, key=lambda name: (name != KEPT, -max(everything[name])))
    corpora = [("all", everything), *sorted(by_corpus.items())]
    rows = [[name, *_pair(everything, name), *(_delta(own, name) for _, own in corpora)] for name in names]
    heads: list[Node] = ["outcome", runs[0].name, runs[1].name, *(corpus for corpus, _ in corpora)]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "Outcomes, in percentage points"),
        h(
            "p",
            {"class": "lead"},
            f"Shares of the documents that could be read, and by how many percentage points they differ: {runs[1].name} less "
            f"{runs[0].name}, of all documents and of each corpus.",
        ),
        charts.table(heads, rows, "Outcomes"),
    )


def _sums(own: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    return sum(a for a, _ in own.values()), sum(b for _, b in own.values())


def _pair(own: Mapping[str, tuple[int, int]], name: str) -> list[Node]:
    return [percent(n, whole) for n, whole in zip(own.get(name, (0, 0)), _sums(own), strict=True)]


def _delta(own: Mapping[str, tuple[int, int]], name: str) -> Node:
    if name not in own:
        return ""
    before, after = (n / max(whole, 1) for n, whole in zip(own[name], _sums(own), strict=True))
    # More that is kept, or less that is dropped.
    better, worse = ("delta up", "delta down") if name == KEPT else ("delta down", "delta up")
    said = points(before, after)
    return h("span", {"class": {"+": better, "−": worse}.get(said[0], "delta")}, said)


def _mixture(runs: Sequence[RunFacts]) -> Element:
    shares: list[dict[tuple[str, str], float]] = []
    for run in runs:
        phases = run.overview["phases"]
        shares.append({(p["name"], d): n / max(p["tokens"], 1) for p in phases for d, n in p["domains"].items()})
    rows: list[list[Node]] = []
    for phase, domain in list(dict.fromkeys([*shares[0], *shares[1]]))[:MOST_ROWS]:
        before, after = (own.get((phase, domain), 0.0) for own in shares)
        rows.append([f"{phase}: {domain}", percent(before, 1, 2), percent(after, 1, 2), _moved(before, after)])
    heads: list[Node] = ["phase and domain", runs[0].name, runs[1].name, "points"]
    lead = h("p", {"class": "lead"}, "Shares of the tokens of a phase.")
    return h("section", {"class": "card span"}, h("h2", {}, "Mixture"), lead, charts.table(heads, rows, "Mixture"))


def _moved(before: float, after: float) -> Element:
    said = points(before, after)
    return h("strong" if said[0] in "+−" else "span", {"class": "delta"}, said)


def other_thresholds(runs: Sequence[RunFacts]) -> list[str]:
    """A sentence for each threshold of near-dedupe that two runs do not share, whether their recipes write it or not.

    Raises:
        ValueError: a recipe says something else than a threshold.
    """
    found = []
    for run in runs:
        said = run.settings.get("dedupe")
        said = said if isinstance(said, Mapping) else {}
        try:
            names = ("jaccard", "held_out_jaccard")
            jaccard, held_out = (share(said[n]) if n in said else getattr(DedupeSettings, n) for n in names)
        except ValueError as error:
            raise ValueError(
                f"the recipe.yaml of {run.name} cannot be compared (dedupe: {error}); curate the run again"
            ) from None
        found.append(DedupeSettings(jaccard=jaccard, held_out_jaccard=held_out))
    a, b = found
    warnings = []
    if a.jaccard != b.jaccard:
        warnings.append(
            f"Other near duplicates: from a similarity of {a.jaccard:g} in {runs[0].name}, of {b.jaccard:g} in "
            f"{runs[1].name} (dedupe.jaccard). What is kept differs by more than what else was changed."
        )
    if a.of_held_out != b.of_held_out:
        warnings.append(
            f"Other copies of held-out documents: from a similarity of {a.of_held_out:g} in {runs[0].name}, of "
            f"{b.of_held_out:g} in {runs[1].name} (the lower of dedupe.jaccard and dedupe.held_out_jaccard). Losses on "
            "held-out documents cannot be compared: one run trains on nearer copies of them."
        )
    return warnings

"""Duplicates: what the corpora share, in shares of each, clusters by size, and dropped documents beside those that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pipeline.stats.outcomes import NAMES
from .. import charts
from ..elements import Element, Node, h
from ..formats import number, percent
from .examples import documents
from .facts import RunFacts

KINDS = (
    ("all", "All rows: exact copies"),
    ("kept", "What passes the filters: exact copies"),
    ("near", "What passes the filters: exact and near copies"),
)
EXAMPLES = ("near_duplicate", "exact_duplicate", "held_out", "url_duplicate")


def cards(run: RunFacts) -> list[Element]:
    stored = run.stats["dedupe"]
    return [*_overlap(run), _clusters(stored), _rounds(stored), *_passages(stored), *_examples(run)]


def _overlap(run: RunFacts) -> list[Element]:
    stored = run.stats["overlap"]
    corpora = stored["corpora"]
    readable = {c["corpus"]: c["rows"] - c["quarantined"] for c in run.corpora}
    found = []
    for kind, title in KINDS:
        cells = {(a, b): n for a, b, n, _ in stored[f"{kind}_corpora"]}
        # After the filters a document with no copy is in no cell: what passed is counted from what dedupe decided.
        whole = readable if kind == "all" else _passed(run)
        rows: list[list[Node]] = [
            [
                name,
                number(whole.get(name, 0)),
                *(_cell(cells.get((a, b), 0), whole.get(name, 0)) for b in range(len(corpora))),
            ]
            for a, name in enumerate(corpora)
        ]
        found.append(
            h(
                "section",
                {"class": "card span"},
                h("h2", {}, title),
                h(
                    "p",
                    {"class": "lead"},
                    "Which part of a row's documents the column's corpus has, too; within a corpus, more than once.",
                ),
                charts.table(["", "documents", *corpora], rows, title),
            )
        )
    return found


def _passed(run: RunFacts) -> dict[str, int]:
    """Documents of each corpus that dedupe decided on."""
    decided = [reason for reason in (*NAMES, "kept") if reason.endswith("_duplicate") or reason in ("held_out", "kept")]
    return {name: sum(counts.get(reason, 0) for reason in decided) for name, counts in run.by_corpus.items()}


def _cell(n: int, whole: int) -> Node:
    if not n:
        return h("span", {"class": "none"}, "·")
    return charts.heat(n / max(whole, 1), percent(n, whole), f"{number(n)} documents")


def _clusters(stored: Mapping[str, Any]) -> Element:
    sizes = sorted((int(size), n) for size, n in stored["cluster_sizes"].items())
    most = max((n for _, n in sizes), default=1)
    rows: list[list[Node]] = [
        [
            number(size) if size < 4 else f"{number(size)} to {number(2 * size - 1)}",
            h("span", {"class": "fall"}, charts.measure(n, most)),
            number(n),
        ]
        for size, n in sizes
    ]
    return h(
        "section",
        {"class": "card"},
        h("h2", {}, "Cluster sizes"),
        h("p", {"class": "lead"}, "Kept documents by how many they stand for, themselves included."),
        charts.table(["documents", "", "clusters"], rows, "Cluster sizes", (1,)),
    )


def _rounds(stored: Mapping[str, Any]) -> Element:
    rows: list[list[Node]] = [
        [str(i), *(number(r[name]) for name in ("window", "candidate_pairs", "verified_pairs", "dropped"))]
        for i, r in enumerate(stored["rounds"], 1)
    ]
    capped = stored.get("kept_past_a_cap", 0)
    return h(
        "section",
        {"class": "card"},
        h("h2", {}, "Rounds of near-dedupe"),
        h("p", {"class": "lead"}, "A document is dropped only when a kept one is its verified duplicate."),
        charts.table(["round", "window", "pairs compared", "verified", "dropped"], rows, "Rounds of near-dedupe"),
        h("p", {"class": "note"}, f"{number(capped)} documents were kept past the cap of a bucket.")
        if capped
        else None,
    )


def _passages(stored: Mapping[str, Any]) -> list[Element]:
    """What was cut of kept documents since others have it; none where a run cuts nothing."""
    figures = stored.get("passages")
    if not figures:
        return []
    rows: list[list[Node]] = [
        [kind, number(counts["passages"]), number(counts["bytes"])] for kind, counts in figures["kinds"].items()
    ]
    held_out = figures.get("of_held_out", {})
    return [
        h(
            "section",
            {"class": "card"},
            h("h2", {}, "Passages cut"),
            h("p", {"class": "lead"}, "What repeats in kept documents; those of several kinds may share bytes."),
            charts.table(["kind", "passages", "bytes"], rows, "Passages cut"),
            h(
                "p",
                {"class": "note"},
                f"{number(held_out['passages'])} passages ({number(held_out['bytes'])} bytes) of "
                f"{number(held_out['documents'])} documents went because they also stand in held-out documents.",
            )
            if held_out.get("passages")
            else None,
        )
    ]


def _examples(run: RunFacts) -> list[Element]:
    found = []
    for reason in EXAMPLES:
        if examples := run.examples.get(reason):
            title = f"{NAMES[reason][0].upper()}{NAMES[reason][1:]}, side by side"
            found.append(h("section", {"class": "card span"}, h("h2", {}, title), documents(examples)))
    return found

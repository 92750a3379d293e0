"""From the rows of the sources to the tokens that train, line by line: what is indented adds up to the line above it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ....pipeline.stats.outcomes import KEPT, TRAINED, USED, FunnelLine, funnel
from ..charts import outcome_colour, step, table
from ..elements import Element, Node, h
from ..formats import number, percent, size
from .facts import RunFacts


def cards(run: RunFacts) -> list[Element]:
    lines = funnel(run.stats)
    at = next(i for i, line in enumerate(lines) if line.name == TRAINED)
    return [
        h(
            "section",
            {"class": "card span"},
            h("h2", {}, "From rows to kept documents"),
            h("p", {"class": "lead"}, "What is indented adds up to the line above it, in documents and in tokens."),
            _documents(lines[:at]),
        ),
        h(
            "section",
            {"class": "card span"},
            h("h2", {}, "From used documents to trained tokens"),
            h(
                "p",
                {"class": "lead"},
                "A document that is used once counts once and whole. What the phases read is more: BOS and EOS, documents of "
                "several phases, further epochs; and less where a budget ends within a document.",
            ),
            _tokens(lines[at:]),
        ),
    ]


def _documents(lines: Sequence[FunnelLine]) -> Element:
    rows = lines[0].documents or 0
    kept = next(line.documents or 0 for line in lines if line.name == KEPT)
    # Each bar begins where the one before it ended: what is dropped eats up the rows, down to what is kept.
    ends = {0: rows, 1: rows, 2: kept}
    body: list[Sequence[Node]] = []
    for line in lines:
        n = line.documents or 0
        ends[line.depth] -= n
        first = 0 if line.name == KEPT else ends[line.depth]
        body.append(
            [
                _name(line),
                h("span", {"class": "fall"}, step(first, n, rows, _paint(line))),
                _said(line.documents),
                percent(n, rows),
                "" if line.bytes is None else size(line.bytes),
                _said(line.tokens),
            ]
        )
    return table(["", "", "documents", "of all rows", "text", "tokens"], body, "From rows to kept documents", (1,))


def _paint(line: FunnelLine) -> str:
    """The class of a line's colour: that of the outcome; what is kept in three shades."""
    if line.depth == 2:
        return "o-part" if line.name != USED else "o-kept"
    return outcome_colour(line.name) if line.depth else "o-rows"


def _tokens(lines: Sequence[FunnelLine]) -> Element:
    trained = lines[0].tokens or 0
    parts = [line.tokens or 0 for line in lines[1:] if line.depth == 1]
    most = max(trained, *accumulate(parts[: [line.depth for line in lines[1:]].index(0)]))
    # What is cut is taken from the end of what the lines before it come to.
    at = 0
    body: list[Sequence[Node]] = []
    for line in lines:
        n = line.tokens or 0
        if line.depth == 0:
            at = first = 0
        else:
            first, at = min(at, at + n), at + n
        paint = "o-rows" if line.depth == 0 else "o-dropped" if n < 0 else "o-kept"
        bar = h("span", {"class": "fall"}, step(first, abs(n), most, paint))
        body.append([_name(line), bar, _said(line.documents), _said(line.tokens), percent(n, trained)])
    heads = ["", "", "documents", "tokens", "of all trained"]
    return table(heads, body, "From used documents to trained tokens", (1,))


def _name(line: FunnelLine) -> Element:
    return h("span", {"class": f"depth{line.depth}"}, line.name)


def _said(value: int | None) -> str:
    return "" if value is None else number(value) if value >= 0 else f"−{number(-value)}"

"""Charts that both pages show: shares as a divided bar, measures, histograms, heat maps, tables.

Each says in words what it shows, for who does not see it. Colours are classes of `static/charts.css`, and follow the theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...pipeline.stats.outcomes import KEPT, ORDER
from .elements import Element, Node, flat, h
from .formats import number, percent

COLOURS = 11
"""Of names in their order; a twelfth is that of what has no place."""
LABELLED = 0.07
"""A part of a bar that is larger has its share written on it."""
HEATS = 10


@dataclass(frozen=True)
class Part:
    """A part of a whole."""

    name: str
    value: int
    colour: str
    """Its class."""


def colour(names: Sequence[str], name: str) -> str:
    """The class of a name's colour, the same wherever the name is shown."""
    return f"k{names.index(name) % COLOURS}" if name in names else f"k{COLOURS}"


def outcome_colour(name: str) -> str:
    """The class of the colour of an outcome."""
    return "o-kept" if name == KEPT else f"o{ORDER.index(name) % 10}" if name in ORDER else "o9"


def by_outcome(counts: Mapping[str, int]) -> list[Part]:
    """Outcomes of documents, what is kept first."""
    names = [KEPT, *(name for name in ORDER if name != KEPT)]
    return [Part(name, counts[name], outcome_colour(name)) for name in names if counts.get(name)]


def shares(parts: Sequence[Part], whole: int, label: str, labelled: float = LABELLED) -> Element:
    """A bar divided in shares. `labelled`: parts that are larger have their share written on them."""
    said, at = [], 0.0
    for part in parts:
        if part.value <= 0:
            continue
        share = part.value / max(whole, 1)
        title = h("title", {}, f"{part.name}: {number(part.value)} ({percent(part.value, whole)})")
        said.append(
            h(
                "rect",
                {"class": part.colour, "x": _of_100(at), "width": _of_100(share), "height": "100%"},
                title,
            )
        )
        if share > labelled:
            place = {"class": "on", "x": _of_100(at + share / 2), "y": "50%"}
            said.append(h("text", place, percent(part.value, whole, 0)))
        at += share
    words = ", ".join(f"{p.name} {percent(p.value, whole)}" for p in parts if p.value > 0)
    return h("svg", {"class": "shares", "role": "img", "aria-label": f"{label}: {words}"}, *said)


def _of_100(share: float) -> str:
    return f"{100 * share:.3f}%"


def measure(value: float, most: float, kept: float | None = None) -> Element:
    """A bar as long as a value, of which a part is kept; beside a number that says the same."""
    most = max(most, 1)
    colour = "all" if kept is not None else "kept"
    bars = [h("rect", {"class": colour, "width": _of_100(value / most), "height": "100%"})]
    if kept:
        bars.append(h("rect", {"class": "kept", "width": _of_100(kept / most), "height": "100%"}))
    return h("svg", {"class": "measure", "aria-hidden": "true"}, *bars)


def step(first: float, value: float, most: float, paint: str) -> Element:
    """A bar of a falling chart, from where the one before ended. `paint`: the class of its colour."""
    place = {"x": _of_100(first / max(most, 1)), "width": _of_100(value / max(most, 1)), "height": "100%"}
    return h("svg", {"class": "measure", "aria-hidden": "true"}, h("rect", {"class": paint, **place}))


def legend(entries: Sequence[tuple[str, str]]) -> Element:
    """(name, class of its colour) of what a chart divides."""
    return h(
        "ul",
        {"class": "legend"},
        [
            h("li", {}, h("svg", {"class": "dot", "aria-hidden": "true"}, _swatch(paint)), name)
            for name, paint in entries
        ],
    )


def _swatch(paint: str) -> Element:
    return h("rect", {"class": paint, "width": "100%", "height": "100%"})


def tile(label: str, value: str, more: str = "") -> Element:
    """A figure with what it is."""
    return h("div", {"class": "tile"}, h("dt", {}, label), h("dd", {}, value, h("small", {}, more) if more else None))


def tiles(*entries: Element) -> Element:
    return h("dl", {"class": "tiles"}, *entries)


def table(
    heads: Sequence[Node],
    rows: Sequence[Sequence[Node]],
    label: str,
    text: Sequence[int] = (),
    sortable: bool = False,
    attributes: Sequence[Mapping[str, str | None]] = (),
) -> Element:
    """A table whose first column says what a row is. Where it is narrow, a row is a card, and each cell has its column's name.

    Args:
        text: columns that hold no numbers.
        sortable: the script may offer other orders.
        attributes: of each row.
    """
    names = ["".join(t for t in flat([head]) if isinstance(t, str)) for head in heads]

    def cell(place: int, value: Node) -> Element:
        if place == 0:
            return h("th", {"scope": "row", "role": "rowheader"}, value)
        kind = "text" if place in text else None
        return h("td", {"class": kind, "data-label": names[place] or None, "role": "cell"}, value)

    body = [
        h("tr", {"role": "row", **(attributes[k] if attributes else {})}, *(cell(i, v) for i, v in enumerate(row)))
        for k, row in enumerate(rows)
    ]
    head = [
        h("th", {"scope": "col", "role": "columnheader", "class": "text" if i in text else None}, node)
        for i, node in enumerate(heads)
    ]
    # Roles, since a table whose rows are laid out as cards would not be one for a screen reader.
    return h(
        "div",
        {"class": "wide", "role": "region", "aria-label": label, "tabindex": 0},
        h(
            "table",
            {"class": "cards sortable" if sortable else "cards", "role": "table", "aria-label": label},
            h("thead", {"role": "rowgroup"}, h("tr", {"role": "row"}, *head)),
            h("tbody", {"role": "rowgroup"}, *body),
        ),
    )


def heat(share: float, text: str, title: str = "") -> Element:
    """A share as the colour of what says it: the root of it, so that small ones differ."""
    level = min(HEATS, round(HEATS * max(share, 0) ** 0.5)) if share else 0
    return h("span", {"class": f"heat h{level}", "title": title or None}, text)


def histogram(
    series: Sequence[tuple[str, str, Mapping[int, int]]], classes: Sequence[int], label: str, ends: tuple[str, str]
) -> Element:
    """Bars of classes, the series upon each other.

    Args:
        series: (name, class of its colour, documents by class), the lowest first.
        classes: in order, without gaps.
        ends: what the first class begins with and the last one ends with.
    """
    sums = {c: sum(counts.get(c, 0) for _, _, counts in series) for c in classes}
    most, whole = max(sums.values(), default=0) or 1, sum(sums.values())
    step, marks = 100 / max(len(classes), 1), []
    for i, c in enumerate(classes):
        top = 0.0
        for name, paint, counts in series:
            if not (n := counts.get(c, 0)):
                continue
            high = 100 * n / most
            place = {"x": f"{i * step + step * 0.06:.2f}%", "width": f"{step * 0.88:.2f}%"}
            size = {"y": f"{100 - top - high:.2f}%", "height": f"{high:.2f}%"}
            title = h("title", {}, f"{name}: {number(n)} of {number(sums[c])} here")
            marks.append(h("rect", {"class": paint, **place, **size}, title))
            top += high
    parts = ", ".join(f"{name} {percent(sum(counts.values()), whole)}" for name, _, counts in series)
    return h(
        "figure",
        {"class": "multiple"},
        h("figcaption", {}, label, h("small", {}, number(whole))),
        h(
            "svg",
            {"class": "bins", "role": "img", "aria-label": f"{label}: {number(whole)} documents, {parts}"},
            *marks,
        ),
        h("div", {"class": "ends", "aria-hidden": "true"}, h("span", {}, ends[0]), h("span", {}, ends[1])),
    )

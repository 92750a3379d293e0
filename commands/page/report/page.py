"""The frame of a report: its head with the policy, the tabs, the search; the tabs of two runs stand one after the other."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .... import __version__
from .. import overview
from ..elements import Element, Node, h, html
from ..server import STATIC
from . import compare, duplicates, funnel, groups, mixture, rules, shapes, sources
from .anchors import Anchors
from .facts import RunFacts

HERE = Path(__file__).parent
STYLES = (STATIC / "base.css", STATIC / "charts.css", HERE / "report.css")
SCRIPTS = (STATIC / "theme.js", HERE / "report.js")


@dataclass(frozen=True)
class Tab:
    """A part of the page that is shown by itself where its script runs."""

    id: str
    title: str
    cards: Sequence[Element]


def render(runs: Sequence[RunFacts]) -> str:
    """The page of a run, or of two."""
    style, script = ("\n".join(file.read_text(encoding="utf-8") for file in some) for some in (STYLES, SCRIPTS))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    names = " and ".join(run.name for run in runs)
    head = html(
        h("meta", {"charset": "utf-8"}),
        h("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        h("meta", {"name": "color-scheme", "content": "light dark"}),
        h("title", {}, f"{names} - fox1 report"),
    )
    body = html(*_body(runs, tabs(runs), names))
    # Both come from the package alone, and hold no end of their element.
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}<style>{style}</style>\n</head>\n<body>\n{body}\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def tabs(runs: Sequence[RunFacts]) -> list[Tab]:
    """The tabs of the page; of two runs each tab has both."""
    by_run = [_tabs_of(run) for run in runs]
    if len(runs) == 1:
        return by_run[0]
    found = [Tab("compare", "Compare", compare.cards(runs, compare.compare(runs)))]
    for of_a, of_b in zip(*by_run, strict=True):
        cards = [
            card
            for run, tab in zip(runs, (of_a, of_b), strict=True)
            for card in (h("h2", {"class": "span run-name"}, run.name), *tab.cards)
        ]
        found.append(Tab(of_a.id, of_a.title, cards))
    return found


def _tabs_of(run: RunFacts) -> list[Tab]:
    anchors = Anchors(run.key)
    return [
        Tab("overview", "Overview", overview.cards(run.overview, anchors.pick)),
        Tab("funnel", "Funnel", funnel.cards(run)),
        Tab("rules", "Rules", rules.cards(run, anchors)),
        Tab("groups", "Drop rates", groups.cards(run, anchors)),
        Tab("shapes", "Lengths and quality", shapes.cards(run)),
        Tab("mixture", "Mixture", mixture.cards(run, anchors)),
        Tab("duplicates", "Duplicates", duplicates.cards(run)),
        Tab("sources", "Sources and settings", list(sources.cards(run))),
    ]


def _body(runs: Sequence[RunFacts], found: Sequence[Tab], names: str) -> list[Node]:
    search = h(
        "div",
        {"class": "find", "role": "search", "hidden": True, "id": "find"},
        h("label", {"class": "hidden", "for": "find-value"}, "Find a rule, corpus, subset, domain, language or pool"),
        h(
            "input",
            {
                "id": "find-value",
                "type": "search",
                "placeholder": "Find a rule, corpus, subset …  ( / )",
                "autocomplete": "off",
                "spellcheck": "false",
                "aria-controls": "found",
            },
        ),
        h("ul", {"id": "found", "hidden": True, "aria-label": "What was found"}),
        h("span", {"id": "found-number", "class": "hidden", "role": "status"}),
    )
    top = h(
        "header",
        {"class": "top"},
        h("div", {"class": "brand"}, "fox1 report"),
        h("h1", {"class": "run"}, names),
        search,
        h(
            "button",
            {"type": "button", "class": "quiet", "id": "theme", "aria-label": "Dark or light", "hidden": True},
            "◐",
        ),
    )
    links = [
        h("a", {"href": f"#{tab.id}", "aria-keyshortcuts": str(i)}, tab.title, h("kbd", {"aria-hidden": "true"}, i))
        for i, tab in enumerate(found, 1)
    ]
    shown = [
        h(
            "section",
            {"class": "tab", "id": tab.id, "aria-label": tab.title, "tabindex": -1},
            h("h2", {"class": "tab-title"}, tab.title),
            h("div", {"class": "view"}, list(tab.cards)),
        )
        for tab in found
    ]
    footer = f"Written by fox1 {__version__}. Nothing on this page is fetched from a network."
    return [
        h("a", {"class": "skip", "href": "#main"}, "Skip to the figures"),
        top,
        h("nav", {"class": "tabs", "aria-label": "Parts of the report", "id": "tabs"}, links),
        h("main", {"id": "main", "tabindex": -1}, shown),
        h("footer", {}, h("p", {"class": "note"}, footer)),
    ]

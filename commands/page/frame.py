"""The frame of a page that is sent as one file: its head with the policy, the tabs, the search.

Nothing in it is fetched, and the policy allows its own script and style sheet by their hashes and nothing else: texts are escaped,
and could not run if they were not. It is readable without the script, one tab after another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from .elements import Element, Node, h, html
from .server import STATIC

HERE = Path(__file__).parent
STYLES = (STATIC / "base.css", STATIC / "charts.css", HERE / "frame.css")
SCRIPTS = (STATIC / "theme.js", HERE / "frame.js")


@dataclass(frozen=True)
class Tab:
    """A part of the page that is shown by itself where its script runs."""

    id: str
    title: str
    cards: Sequence[Element]


def page(about: str, names: str, tabs: Sequence[Tab]) -> str:
    """A page.

    Args:
        about: the command that writes it.
        names: of the runs or the tuning that it is about.
    """
    style, script = ("\n".join(file.read_text(encoding="utf-8") for file in some) for some in (STYLES, SCRIPTS))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    head = html(
        h("meta", {"charset": "utf-8"}),
        h("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        h("meta", {"name": "color-scheme", "content": "light dark"}),
        h("title", {}, f"{names} - {about}"),
    )
    body = html(*_body(about, names, tabs))
    # Both come from the package alone, and hold no end of their element.
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}<style>{style}</style>\n</head>\n<body>\n{body}\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _body(about: str, names: str, tabs: Sequence[Tab]) -> list[Node]:
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
        h("div", {"class": "brand"}, about),
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
        for i, tab in enumerate(tabs, 1)
    ]
    shown = [
        h(
            "section",
            {"class": "tab", "id": tab.id, "aria-label": tab.title, "tabindex": -1},
            h("h2", {"class": "tab-title"}, tab.title),
            h("div", {"class": "view"}, list(tab.cards)),
        )
        for tab in tabs
    ]
    footer = f"Written by fox1 {__version__}. Nothing on this page is fetched from a network."
    return [
        h("a", {"class": "skip", "href": "#main"}, "Skip to the figures"),
        top,
        h("nav", {"class": "tabs", "aria-label": "Parts of the page", "id": "tabs"}, links),
        h("main", {"id": "main", "tabindex": -1}, shown),
        h("footer", {}, h("p", {"class": "note"}, footer)),
    ]

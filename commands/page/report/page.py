"""The tabs of a report; of two runs they stand one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from .. import overview
from ..elements import Element, h
from ..frame import Tab, page
from . import compare, duplicates, funnel, groups, mixture, rules, shapes, sources
from .anchors import Anchors
from .facts import RunFacts


def render(runs: Sequence[RunFacts], tuning: Sequence[Element] = ()) -> str:
    """The page of a run, or of two.

    Args:
        tuning: cards of one, which have a tab of their own.
    """
    found = tabs(runs)
    if tuning:
        found.append(Tab("tuning", "Tuning", tuning))
    return page("fox1 report", " and ".join(run.name for run in runs), found)


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

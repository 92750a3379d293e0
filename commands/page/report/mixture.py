"""What each phase reads: by domain, corpus and subset; pools with what was wanted of them; the shard sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import charts, overview
from ..elements import Element, Node, h
from ..formats import number, percent, short
from .anchors import Anchors
from .facts import RunFacts
from .groups import MOST_ROWS


def cards(run: RunFacts, anchors: Anchors) -> list[Element]:
    return [
        _by(run, "domains", "By domain", overview.domains_of(run.overview)),
        _by(run, "corpora", "By corpus", [c["name"] for c in run.overview["corpora"]]),
        _pools(run, anchors),
        _sets(run),
        _subsets(run),
    ]


def _by(run: RunFacts, by: str, title: str, names: list[str]) -> Element:
    phases = run.overview["phases"]
    drawn = [name for name in names if any(name in p[by] for p in phases)]
    whole = {name: sum(p[by].get(name, 0) for p in phases) for name in drawn}
    tokens = sum(whole.values())
    everything = {"name": "all phases", "tokens": tokens, "wanted": sum(p["wanted"] for p in phases)}
    everything |= {by: whole, "documents": sum(p["documents"] for p in phases)}
    rows = [overview.phase_row(p, names, by) for p in (*phases, *([everything] if len(phases) > 1 else []))]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, title),
        h("div", {"class": "rows"}, rows),
        charts.legend([(name, charts.colour(names, name)) for name in drawn]),
    )


def _pools(run: RunFacts, anchors: Anchors) -> Element:
    rows: list[list[Node]] = []
    marks, notes = [], []
    for phase in run.phases:
        for pool in phase["pools"]:
            wanted, reached = pool["wanted_tokens"], pool["tokens"]
            off = percent(abs(reached - wanted), wanted, 2) if wanted else "–"
            rows.append(
                [
                    h("span", {}, pool["pool"], h("small", {}, f" {phase['name']}")),
                    h("span", {"class": "fall"}, charts.measure(reached, phase["tokens"])),
                    percent(reached, phase["tokens"], 2),
                    number(wanted),
                    number(reached),
                    f"{'+' if reached > wanted else '−' if reached < wanted else ''}{off}",
                    number(pool["available_tokens"]),
                    _epochs(pool),
                ]
            )
            marks.append(anchors.place("pool", f"{phase['name']}: {pool['pool']}"))
        if phase["given_away"]:
            notes.append(
                f"{phase['name']}: no documents for {', '.join(phase['given_away'])}; the other pools got the share."
            )
    heads: list[Node] = ["pool", "", "share of phase", "wanted", "reached", "off by", "available", "times read"]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "Wanted and reached"),
        h(
            "p",
            {"class": "lead"},
            "Tokens asked of each pool of a phase, those in its blocks, and how often its documents are read.",
        ),
        charts.table(heads, rows[:MOST_ROWS], "Pools", (1,), True, marks),
        [h("p", {"class": "note"}, note) for note in notes],
    )


def _epochs(pool: Mapping[str, Any]) -> str:
    return f"{pool['epochs']:.2f} of {pool['max_epochs']:g}"


def _sets(run: RunFacts) -> Element:
    rows = [
        [
            phase["name"],
            number(each["block_length"]),
            number(each["blocks"]),
            number(each["tokens"]),
            percent(each["padding"], each["padding"] + each["tokens"], 2),
            number(each["segments"]),
        ]
        for phase in run.phases
        for each in phase["sets"]
    ]
    heads: list[Node] = ["phase", "block length", "blocks", "tokens", "padding", "segments"]
    return h("section", {"class": "card span"}, h("h2", {}, "Shard sets"), charts.table(heads, rows, "Shard sets"))


def _subsets(run: RunFacts) -> Element:
    """Tokens of each subset by phase, with the bytes that a token stands for."""
    subsets = run.stats["tokens"]["subsets"]
    drawn: dict[str, dict[str, int]] = {}
    for phase in run.phases:
        for cell in phase["cells"]:
            drawn.setdefault(f"{cell['corpus']}/{cell['subset']}", {})[phase["name"]] = cell["tokens"]
    names = sorted({*subsets, *drawn}, key=lambda n: (-sum(drawn.get(n, {}).values()), n))[:MOST_ROWS]
    rows: list[list[Node]] = []
    for name in names:
        own = subsets.get(name, {"tokens": 0, "bytes": 0})
        rate = f"{own['bytes'] / own['tokens']:.2f}" if own["tokens"] else "–"
        of_phases = (drawn.get(name, {}).get(p["name"], 0) for p in run.phases)
        rows.append([name, short(own["tokens"]), rate, *(short(n) if n else "·" for n in of_phases)])
    heads: list[Node] = ["subset", "tokens kept", "bytes of a token", *(p["name"] for p in run.phases)]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "By subset"),
        charts.table(heads, rows, "Tokens of subsets", (), True),
    )

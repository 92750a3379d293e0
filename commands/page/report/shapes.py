"""Lengths and quality as small multiples, one for each domain, dropped documents included; and of kept ones by phase, in tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pipeline.stats.outcomes import FILTERED, KEPT, NAMES, outcome
from ....pipeline.stats.stored import documents_by_class
from ..charts import histogram, legend, outcome_colour
from ..elements import Element, h
from ..formats import short
from .facts import RunFacts

Classes = Mapping[int, int]
DUPLICATES = "duplicates"
OTHER = "for other reasons"
SERIES = (
    (KEPT, "o-kept"),
    (DUPLICATES, outcome_colour(NAMES["exact_duplicate"])),
    (FILTERED, outcome_colour(FILTERED)),
    (OTHER, outcome_colour(NAMES["licence"])),
)
"""What documents are divided by, from the bottom, with the class of its colour."""
MOST_DOMAINS = 24


def cards(run: RunFacts) -> list[Element]:
    stored = run.stats.get("distributions")
    found = []
    if stored:
        found = [
            _multiples(
                "Lengths of all documents",
                "Words, in powers of two. Each domain has its own height.",
                stored["words"],
                _words,
            ),
            _multiples(
                "Quality of all documents",
                "The score that ranks documents within their domain, from 0 to 1.",
                stored["quality"],
                _quality,
            ),
        ]
    mixture = run.stats["mixture"]
    said = "What is kept for training, and what each phase reads, each document once."
    found += [
        _by_phase("Lengths of kept documents", f"{said} Tokens, in powers of two.", mixture, "lengths", _tokens),
        _by_phase("Quality of kept documents", said, mixture, "quality", _quality),
    ]
    return found


def _multiples(title: str, lead: str, domains: Mapping[str, Mapping[str, Mapping[str, int]]], ends: Any) -> Element:
    by_domain = {domain: _series(reasons) for domain, reasons in domains.items()}
    sizes = {domain: sum(sum(c.values()) for c in series.values()) for domain, series in by_domain.items()}
    classes = _range([c for series in by_domain.values() for c in series.values()])
    shown = sorted(by_domain, key=lambda d: (-sizes[d], d))[:MOST_DOMAINS]
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, title),
        h("p", {"class": "lead"}, lead),
        legend(list(SERIES)),
        h(
            "div",
            {"class": "multiples"},
            [
                histogram(
                    [(n, paint, by_domain[d].get(n, {})) for n, paint in SERIES], classes, d, _ends(classes, ends)
                )
                for d in shown
            ],
        ),
    )


def _series(reasons: Mapping[str, Mapping[str, int]]) -> dict[str, dict[int, int]]:
    """Documents of a domain by class, under the names of `SERIES`."""
    found: dict[str, dict[int, int]] = {}
    for reason, classes in reasons.items():
        own = found.setdefault(_name(reason), {})
        for level, n in classes.items():
            own[int(level)] = own.get(int(level), 0) + n
    return found


def _name(reason: str) -> str:
    name = outcome(reason)
    if name in (KEPT, FILTERED):
        return name
    return DUPLICATES if reason.endswith("_duplicate") else OTHER


def _by_phase(title: str, lead: str, mixture: Mapping[str, Any], kind: str, ends: Any) -> Element:
    series = [("kept for training", documents_by_class(mixture["survivors"][kind]))]
    series += [(p["name"], documents_by_class(p[kind])) for p in mixture["phases"]]
    classes = _range([counts for _, counts in series])
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, title),
        h("p", {"class": "lead"}, lead),
        h(
            "div",
            {"class": "multiples"},
            [histogram([(KEPT, "o-kept", counts)], classes, name, _ends(classes, ends)) for name, counts in series],
        ),
    )


def _range(series: Sequence[Classes]) -> list[int]:
    levels = [level for counts in series for level, n in counts.items() if n]
    return list(range(min(levels), max(levels) + 1)) if levels else []


def _ends(classes: Sequence[int], ends: Any) -> tuple[str, str]:
    return ends(classes[0], classes[-1]) if classes else ("", "")


def _words(first: int, last: int) -> tuple[str, str]:
    return f"{short(2**first) if first else '0'} words", short(2 ** (last + 1))


def _tokens(first: int, last: int) -> tuple[str, str]:
    return f"{short(2**first)} tokens", short(2 ** (last + 1))


def _quality(first: int, last: int) -> tuple[str, str]:
    return f"{first / 20:.2f}", f"{(last + 1) / 20:.2f}"

"""What other weights of the phases would change, as cards: each phase now and then, by domain and by pool."""

from __future__ import annotations

from collections.abc import Sequence

from ...pipeline.inspect.what_if_mixture import MixtureWhatIf, PhaseMixture
from .charts import Part, colour, legend, shares, table, tile, tiles
from .elements import Element, Node, h
from .formats import number, percent, short


def cards(found: MixtureWhatIf, known: Sequence[str] = ()) -> list[Element]:
    """What would change, or why it cannot be had. `known`: domains in the order that decides their colours elsewhere."""
    if found.short:
        return [
            h(
                "section",
                {"class": "card hero"},
                h("h2", {}, "This mixture cannot be had"),
                h("p", {"class": "warning"}, found.short),
                h("pre", {}, "\n".join(found.details)),
            )
        ]
    names = list(dict.fromkeys([*known, *(d for p in (*found.before, *found.after) for d in p.domains)]))
    trained = [sum(p.tokens for p in phases) for phases in (found.before, found.after)]
    return [
        h(
            "section",
            {"class": "card hero"},
            tiles(
                tile("tokens trained on", short(trained[1]), f"{short(trained[0])} now"),
                tile("kept tokens not used", short(found.unused[1]), f"{short(found.unused[0])} now"),
                tile("most epochs of a pool", f"{_epochs(found.after):.2f}", f"{_epochs(found.before):.2f} now"),
            ),
        ),
        *(_phase(phase, found.before, names) for phase in found.after),
    ]


def _epochs(phases: Sequence[PhaseMixture]) -> float:
    return max((pool.epochs for phase in phases for pool in phase.pools), default=0.0)


def _phase(after: PhaseMixture, phases: Sequence[PhaseMixture], names: Sequence[str]) -> Element:
    before = next((phase for phase in phases if phase.name == after.name), None)
    had = {pool.pool: pool for pool in before.pools} if before else {}
    rows: list[list[Node]] = []
    for pool in after.pools:
        old = had.get(pool.pool)
        rows.append(
            [
                pool.pool,
                percent(old.tokens, before.tokens) if old and before else "–",
                percent(pool.tokens, after.tokens),
                number(pool.tokens),
                number(pool.available),
                f"{pool.epochs:.2f} of {pool.max_epochs:g}",
            ]
        )
    both = [("now", before), ("then", after)]
    given = (
        f"No documents for {', '.join(after.given_away)}: the other pools get the share." if after.given_away else ""
    )
    return h(
        "section",
        {"class": "card"},
        h("h2", {}, after.name),
        h("div", {"class": "rows"}, [_bar(label, phase, names) for label, phase in both if phase]),
        legend(
            [
                (name, colour(names, name))
                for name in names
                if name in after.domains or (before and name in before.domains)
            ]
        ),
        table(
            ["pool", "share now", "share then", "tokens then", "available", "times read"],
            rows,
            f"Pools of {after.name}",
        ),
        h("p", {"class": "note"}, given) if given else None,
    )


def _bar(label: str, phase: PhaseMixture, names: Sequence[str]) -> Element:
    parts = [
        Part(name, n, colour(names, name)) for name, n in sorted(phase.domains.items(), key=lambda e: (-e[1], e[0]))
    ]
    return h(
        "div",
        {"class": "row plain"},
        h("span", {"class": "name"}, label, h("small", {}, f"{number(phase.documents)} documents")),
        shares(parts, phase.tokens, f"{phase.name} {label}"),
        h("span", {"class": "figure"}, short(phase.tokens), h("small", {}, f"of {short(phase.wanted)} wanted")),
    )

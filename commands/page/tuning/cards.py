"""What a tuning found, as tabs of cards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import charts
from ..elements import Element, Node, h
from ..formats import number, short
from ..frame import Tab
from . import plots
from .facts import Facts, PoolRow


def tabs(facts: Facts) -> list[Tab]:
    """The tabs of a tuning, as far as it has come."""
    found = [Tab("weights", "Weights", [*_verdict(facts), _weights(facts), *_by_phase(facts)])]
    if facts.validation:
        found.append(Tab("validation", "Validation", [_validation(facts)]))
    if facts.placement:
        found.append(Tab("order", "Order", [_order(facts)]))
    if facts.scatter:
        found.append(Tab("fit", "Fit", [*_fit(facts), _responses(facts)]))
    return found


def _card(title: str, lead: str, *content: Node, wide: bool = True) -> Element:
    kind = "card span" if wide else "card"
    return h(
        "section", {"class": kind}, h("h2", {}, title), h("p", {"class": "lead"}, lead) if lead else None, *content
    )


def _verdict(facts: Facts) -> Iterator[Element]:
    tune = facts.tune
    lead = (
        f"{number(tune['proxies'])} {tune['kind']} trainings of {number(tune['proxy_tokens'])} tokens, "
        f"{number(tune['refined'])} more near the first choice; validated with {number(tune['validation_tokens'])} tokens and "
        f"{tune['seeds']} seeds. The whole training has {number(tune['total_tokens'])} tokens."
    )
    sign, level = ("✓", "ready") if facts.adopted else ("!", "look")
    mark = h("span", {"class": "sign", "aria-hidden": "true"}, sign)
    order = h("p", {"class": "note"}, facts.order_line) if facts.order_line else None
    yield h(
        "section",
        {"class": "card span hero"},
        h("h2", {}, "Tuning", h("small", {"class": "place"}, facts.name)),
        h("p", {"class": f"verdict {level}"}, mark, facts.line),
        order,
        h("p", {"class": "lead"}, lead),
    )


def _weights(facts: Facts) -> Element:
    rows: list[list[Node]] = [
        [
            p.name,
            short(p.tokens),
            _percent(p.natural),
            _percent(p.recipe),
            "" if p.found is None else h("strong", {}, _percent(p.found)),
            "" if p.cap is None else _percent(p.cap),
            p.note,
        ]
        for p in facts.pools
    ]
    return _card(
        "Weights",
        "Per cent of all trained tokens, beside the tokens that there are. A dashed line is a pool's cap: more would repeat it too "
        "often.",
        plots.weights(facts.pools),
        _legend(*plots.PAINTS),
        charts.table(["pool", "tokens", "natural", "recipe", "found", "cap", ""], rows, "Weights by pool", (6,), True),
    )


def _by_phase(facts: Facts) -> Iterator[Element]:
    if not (table := facts.by_phase):
        return
    heads: list[Node] = ["pool"]
    for phase in table.phases:
        heads += [phase, *([f"{phase}, new"] if table.after is not None else [])]
    rows: list[list[Node]] = []
    for k, pool in enumerate(facts.pools):
        row: list[Node] = [pool.name]
        for p in range(len(table.phases)):
            row.append(_percent(table.before[p][k]))
            if table.after is not None:
                row.append(h("strong", {}, _percent(table.after[p][k])))
        rows.append(row)
    lead: Node = (
        "Per cent of a phase's tokens: as the run had them, then as fox1 tune apply writes the weights that were found"
    )
    cannot = (
        ""
        if table.after is not None
        else ", which it cannot here: the phases that have a pool cannot hold as much of it"
    )
    yield _card("Weights by phase", f"{lead}{cannot}.", charts.table(heads, rows, "Weights by phase"))


def _validation(facts: Facts) -> Element:
    rows: list[list[Node]] = [[target, *(f"{value:.4f}" for value in values)] for target, values in facts.targets]
    return _card(
        "Validation",
        "Difference in bits per byte of the objective, on documents and items that no fit has seen; left of the line is better. "
        "Small marks are seeds.",
        plots.forest(facts.validation),
        charts.table(["bits per byte, mean of the seeds", *facts.arms], rows, "Validation by target"),
    )


def _order(facts: Facts) -> Element:
    assert facts.placement
    late = facts.placement["lateness"]
    rows: list[list[Node]] = [[p.name, *(f"{arm[k]:.3f}" for arm in late.values())] for k, p in enumerate(facts.pools)]
    return _card(
        "Order",
        "The same mixture, placed otherwise over the phases: how late each pool lies (0 is the beginning of the training, 1 its "
        "end), and what the validation says.",
        plots.forest(facts.placement_validation) if facts.placement_validation else None,
        charts.table(["pool", *late], rows, "How late each pool lies"),
    )


def _fit(facts: Facts) -> Iterator[Element]:
    assert facts.scatter
    yield _card(
        "Fit",
        "The objective of each training, and what was predicted of it by trainings on other mixtures.",
        plots.scatter(*facts.scatter),
        wide=False,
    )
    rows: list[list[Node]] = [
        [
            q["target"],
            *(f"{q[key]:.3f}" for key in ("spearman", "best_third")),
            *(f"{q[key]:.4f}" for key in ("regret", "rmse", "noise", "spread")),
        ]
        for q in facts.quality
    ]
    heads: list[Node] = ["target", "Spearman", "best third", "regret", "rmse", "noise", "spread"]
    predicted = [h("h3", {}, "Predicted, in bits per byte"), plots.forest(facts.predicted)] if facts.predicted else None
    yield _card(
        "How good the fit is",
        "Out of fold, in bits per byte. Regret: what the mixture that is predicted best loses against the best one.",
        charts.table(heads, rows, "Quality of the fit"),
        predicted,
        wide=False,
    )


def _responses(facts: Facts) -> Element:
    low, high = facts.response_range

    def curve(pool: PoolRow) -> Element:
        plot = plots.response(facts.response[pool.name], pool, low, high)
        return h("figure", {}, h("figcaption", {}, pool.name), plot)

    return _card(
        "What each pool does",
        "The predicted objective as one pool's share changes, the others keeping their proportions around the mixture that was "
        "found; lower is better.",
        h("div", {"class": "curves"}, [curve(pool) for pool in facts.pools if pool.name in facts.response]),
        _legend("recipe", "found"),
    )


def _legend(*kinds: str) -> Element:
    return charts.legend([(kind, plots.PAINTS[kind]) for kind in kinds])


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.2f}"

"""Plots of a tuning as SVG: colours are classes of `static/charts.css`, and every mark has a title."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..elements import Element, Node, h
from .facts import Interval, PoolRow

Shape = dict[str, str | int | float | None]

PAINTS = {"natural": "k11", "recipe": "k1", "found": "k0"}
"""The class of the colour of each kind of weights."""
NARROW = 400
"""A plot that is wider is scrolled on a narrow screen, where its texts would be too small to read."""
WORSE, OPEN = "k6", "k11"
"""Of a difference that speaks against what was found, and of one that says neither."""


def weights(pools: Sequence[PoolRow]) -> Element:
    """Bars for each pool: natural, the recipe's and what was found, and a line at its cap."""
    width, left, bar, gap = 720, 190, 11, 14
    most = max(max(p.natural, p.recipe, p.found or 0) for p in pools)
    scale = (width - left - 70) / most
    marks: list[Node] = []
    y = 6.0
    for pool in pools:
        top = y
        kinds = [("natural", pool.natural), ("recipe", pool.recipe)]
        kinds += [("found", pool.found)] if pool.found is not None else []
        for kind, share in kinds:
            size: Shape = {"width": _n(max(share * scale, 1)), "height": bar, "rx": 2}
            title = h("title", {}, f"{pool.name}, {kind}: {100 * share:.2f} %")
            marks.append(h("rect", {"class": PAINTS[kind], "x": left, "y": _n(y), **size}, title))
            marks.append(_tick(left + share * scale + 5, y + 9.5, f"{100 * share:.1f}", "start"))
            y += bar + 1
        marks.append(_text(left - 10, (top + y) / 2 + 4, pool.name, "end"))
        if pool.cap is not None and pool.cap <= most:
            title = h("title", {}, f"cap of {pool.name}: {100 * pool.cap:.2f} %")
            marks.append(_line("cap", left + pool.cap * scale, top - 2, left + pool.cap * scale, y + 1, title))
        y += gap
    return _plot(width, y, "Shares of all tokens by pool", marks)


def scatter(measured: np.ndarray, predicted: np.ndarray) -> Element:
    """What was measured of each training against what was predicted of it out of fold, float64 [N] each."""
    width, height, left, bottom = 460, 400, 62, 46
    low, high = float(min(measured.min(), predicted.min())), float(max(measured.max(), predicted.max()))
    pad = 0.05 * (high - low) or 0.01
    low, high = low - pad, high + pad
    x, y = _Axis(low, high, left, width - 12), _Axis(low, high, height - bottom, 12)
    marks: list[Node] = []
    for tick in np.linspace(low, high, 5):
        marks.append(_grid(left, width - 12, y(tick), f"{tick:.3f}"))
        marks.append(_tick(x(tick), height - bottom + 18, f"{tick:.3f}"))
    marks.append(_line("even", x(low), y(low), x(high), y(high)))
    for number, (m, p) in enumerate(zip(measured.tolist(), predicted.tolist(), strict=True)):
        title = h("title", {}, f"training {number}: measured {m:.4f}, predicted {p:.4f}")
        marks.append(h("circle", {"class": PAINTS["found"], "cx": _n(x(p)), "cy": _n(y(m)), "r": 4}, title))
    marks.append(_tick((left + width) / 2, height - 8, "predicted"))
    turned = {"class": "tick", "transform": f"translate(13 {height / 2}) rotate(-90)", "text-anchor": "middle"}
    marks.append(h("text", turned, "measured"))
    return _plot(width, height, "Measured against predicted objective of each training", marks)


def response(curve: Sequence[Sequence[float]], pool: PoolRow, low: float, high: float) -> Element:
    """The predicted objective along one pool's share; marks at the recipe's and the found share.

    Args:
        curve: (share, objective) in order of the share.
        low, high: of the objective, the same for all pools.
    """
    width, height, left, bottom = 260, 170, 46, 26
    shares, values = np.array([s for s, _ in curve]), np.array([v for _, v in curve])
    x, y = _Axis(float(shares[0]), float(shares[-1]), left, width - 10), _Axis(low, high, height - bottom, 10)
    marks: list[Node] = [_grid(left, width - 10, y(v), f"{v:.2f}") for v in np.linspace(low, high, 3)]
    points = " ".join(f"{_n(x(s))},{_n(y(min(v, high)))}" for s, v in zip(shares, values, strict=True))
    marks.append(h("polyline", {"class": "curve", "points": points}))
    for kind, share in (("recipe", pool.recipe), ("found", pool.found)):
        if share is None or share > shares[-1] + 1e-3:
            continue
        # Weights are rounded: one at its cap or floor may lie next to the curve's end.
        share = float(np.clip(share, shares[0], shares[-1]))
        value = float(np.interp(share, shares, values))
        title = h("title", {}, f"{pool.name}, {kind}: {100 * share:.2f} %, predicted {value:.4f}")
        place: Shape = {"cx": _n(x(share)), "cy": _n(y(min(value, high))), "r": 4}
        marks.append(h("circle", {"class": PAINTS[kind], **place}, title))
    for share, anchor in ((shares[0], "start"), (shares[-1], "end")):
        marks.append(_tick(x(share), height - 8, f"{100 * share:.1f} %", anchor))
    return _plot(width, height, f"Predicted objective by the share of {pool.name}", marks)


def forest(rows: Sequence[Interval]) -> Element:
    """Differences with their intervals; small marks are single seeds. Left of the line is better."""
    width, left, step = 720, 230, 34
    ends = [v for r in rows for v in (r.low, r.high, *r.seeds)]
    reach = 1.08 * max(max(map(abs, ends)), 1e-6)
    x = _Axis(-reach, reach, left, width - 34)
    bottom = 12 + step * len(rows)
    marks: list[Node] = [_line("even", x(0), 4, x(0), bottom)]
    for k, row in enumerate(rows):
        y = 12 + step * (k + 0.5)
        colour = PAINTS["found"] if row.high < 0 else WORSE if row.low > 0 else OPEN
        seeds = [h("circle", {"class": "seed", "cx": _n(x(s)), "cy": _n(y + 9), "r": 2.2}) for s in row.seeds]
        marks.append(_text(left - 12, y + 4, row.label, "end"))
        marks.append(
            h(
                "g",
                {"class": colour},
                h("title", {}, f"{row.label}: {row.middle:+.4f} ({row.low:+.4f} to {row.high:+.4f})"),
                # A thin box, since a line has no fill, and the colour is one.
                h("rect", {"x": _n(x(row.low)), "y": y - 1.25, "width": _n(x(row.high) - x(row.low)), "height": 2.5}),
                seeds,
                h("circle", {"cx": _n(x(row.middle)), "cy": y, "r": 5}),
            )
        )
    for tick in np.linspace(-reach, reach, 5):
        marks.append(_tick(x(tick), bottom + 16, f"{tick:+.3f}"))
    return _plot(width, bottom + 24, "Differences in bits per byte with their intervals", marks)


class _Axis:
    """A linear scale from values to places."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low, self._begin = low, begin
        self._step = (end - begin) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._begin + (value - self._low) * self._step


def _n(place: float) -> str:
    return f"{place:.1f}"


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Element:
    return h("text", {"class": kind, "x": _n(x), "y": _n(y), "text-anchor": anchor}, text)


def _tick(x: float, y: float, text: str, anchor: str = "middle") -> Element:
    return _text(x, y, text, anchor, "tick")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, title: Element | None = None) -> Element:
    return h("line", {"class": kind, "x1": _n(x1), "x2": _n(x2), "y1": _n(y1), "y2": _n(y2)}, title)


def _grid(left: float, right: float, y: float, label: str) -> Node:
    return [_line("grid", left, y, right, y), _tick(left - 6, y + 4, label, "end")]


def _plot(width: float, height: float, label: str, marks: Sequence[Node]) -> Element:
    shape: Shape = {"viewBox": f"0 0 {width} {height:.0f}", "width": width}
    plot = h("svg", {"class": "plot", "role": "img", "aria-label": label, **shape}, marks)
    return (
        h("div", {"class": "wide", "role": "region", "aria-label": label, "tabindex": 0}, plot)
        if width > NARROW
        else plot
    )

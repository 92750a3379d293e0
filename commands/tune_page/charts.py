"""Figures as SVG: colours come from the style sheet, so that they follow its theme; every mark has a title."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from markupsafe import escape as escape_markup

from ...storage.wording import printable
from .facts import Interval, PoolRow


def escape(text: str) -> Markup:
    """Text for a page: no mark-up, and no character that would turn the text around it."""
    return escape_markup(printable(text))


def weights(pools: Sequence[PoolRow]) -> Markup:
    """Bars for each pool: natural, the recipe's and what was found, and a line at its cap."""
    width, left, bar, gap = 720, 190, 11, 14
    most = max(max(p.natural, p.recipe, p.found or 0) for p in pools)
    scale = (width - left - 70) / most
    parts, y = [], 6.0
    for pool in pools:
        top = y
        kinds = [("natural", "c-natural", pool.natural), ("recipe", "c-recipe", pool.recipe)]
        kinds += [("found", "c-found", pool.found)] if pool.found is not None else []
        for kind, colour, share in kinds:
            title = escape(f"{pool.name}, {kind}: {100 * share:.2f} %")
            parts.append(
                f'<rect class="{colour}" x="{left}" y="{y:.1f}" width="{max(share * scale, 1):.1f}" height="{bar}" rx="2">'
                f"<title>{title}</title></rect>"
                f'<text class="tick" x="{left + share * scale + 5:.1f}" y="{y + 9.5:.1f}">{100 * share:.1f}</text>'
            )
            y += bar + 1
        middle = (top + y) / 2 + 4
        parts.append(f'<text x="{left - 10}" y="{middle:.1f}" text-anchor="end">{escape(pool.name)}</text>')
        if pool.cap is not None and pool.cap <= most:
            x = left + pool.cap * scale
            title = escape(f"cap of {pool.name}: {100 * pool.cap:.2f} %")
            parts.append(
                f'<line class="cap" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2:.1f}" y2="{y + 1:.1f}"><title>{title}</title></line>'
            )
        y += gap
    return _svg(width, y, "Shares of all tokens by pool", parts)


def scatter(measured: np.ndarray, predicted: np.ndarray) -> Markup:
    """What was measured of each training against what was predicted of it out of fold."""
    width, height, left, bottom = 460, 400, 62, 46
    low, high = float(min(measured.min(), predicted.min())), float(max(measured.max(), predicted.max()))
    pad = 0.05 * (high - low) or 0.01
    low, high = low - pad, high + pad
    x, y = _Axis(low, high, left, width - 12), _Axis(low, high, height - bottom, 12)
    parts = []
    for tick in np.linspace(low, high, 5):
        parts.append(_grid(left, width - 12, y(tick), f"{tick:.3f}"))
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{height - bottom + 18}" text-anchor="middle">{tick:.3f}</text>'
        )
    parts.append(f'<line class="even" x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"/>')
    for number, (m, p) in enumerate(zip(measured.tolist(), predicted.tolist(), strict=True)):
        title = f"training {number}: measured {m:.4f}, predicted {p:.4f}"
        parts.append(f'<circle class="c-found" cx="{x(p):.1f}" cy="{y(m):.1f}" r="4"><title>{title}</title></circle>')
    parts.append(f'<text class="tick" x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">predicted</text>')
    parts.append(
        f'<text class="tick" transform="translate(13 {height / 2}) rotate(-90)" text-anchor="middle">measured</text>'
    )
    return _svg(width, height, "Measured against predicted objective of each training", parts)


def response(curve: Sequence[Sequence[float]], pool: PoolRow, low: float, high: float) -> Markup:
    """The predicted objective along one pool's share; marks at the recipe's and the found share.

    Args:
        low, high: of the objective, the same for all pools.
    """
    width, height, left, bottom = 260, 170, 46, 26
    shares = np.array([s for s, _ in curve])
    values = np.array([v for _, v in curve])
    x, y = _Axis(float(shares[0]), float(shares[-1]), left, width - 10), _Axis(low, high, height - bottom, 10)
    parts = [_grid(left, width - 10, y(v), f"{v:.2f}") for v in np.linspace(low, high, 3)]
    points = " ".join(f"{x(s):.1f},{y(min(v, high)):.1f}" for s, v in zip(shares, values, strict=True))
    parts.append(f'<polyline class="curve" points="{points}"/>')
    marks = [("recipe", "c-recipe", pool.recipe), ("found", "c-found", pool.found)]
    for kind, colour, share in marks:
        if share is None or share > shares[-1] + 1e-3:
            continue
        # Weights are rounded: one at its cap or floor may lie next to the curve's end.
        share = float(np.clip(share, shares[0], shares[-1]))
        value = float(np.interp(share, shares, values))
        title = escape(f"{pool.name}, {kind}: {100 * share:.2f} %, predicted {value:.4f}")
        parts.append(
            f'<circle class="{colour}" cx="{x(share):.1f}" cy="{y(min(value, high)):.1f}" r="4"><title>{title}</title></circle>'
        )
    for share in (shares[0], shares[-1]):
        anchor = "start" if share == shares[0] else "end"
        parts.append(
            f'<text class="tick" x="{x(share):.1f}" y="{height - 8}" text-anchor="{anchor}">{100 * share:.1f} %</text>'
        )
    return _svg(width, height, f"Predicted objective by the share of {pool.name}", parts)


def forest(rows: Sequence[Interval]) -> Markup:
    """Differences with their intervals; small marks are single seeds. Left of the line is better."""
    width, left, step = 720, 230, 34
    ends = [v for r in rows for v in (r.low, r.high, *r.seeds)]
    reach = 1.08 * max(max(map(abs, ends)), 1e-6)
    x = _Axis(-reach, reach, left, width - 34)
    bottom = 12 + step * len(rows)
    parts = [f'<line class="even" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{bottom}"/>']
    for k, row in enumerate(rows):
        y = 12 + step * (k + 0.5)
        colour = "c-found" if row.high < 0 else "c-worse" if row.low > 0 else "c-open"
        title = escape(f"{row.label}: {row.middle:+.4f} ({row.low:+.4f} to {row.high:+.4f})")
        parts.append(f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(f'<g class="{colour}"><title>{title}</title>')
        parts.append(f'<line class="whisker" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>')
        parts += [f'<circle class="seed" cx="{x(s):.1f}" cy="{y + 9:.1f}" r="2.2"/>' for s in row.seeds]
        parts.append(f'<circle cx="{x(row.middle):.1f}" cy="{y}" r="5"/></g>')
    for tick in np.linspace(-reach, reach, 5):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:+.3f}</text>')
    return _svg(width, bottom + 24, "Differences in bits per byte with their intervals", parts)


class _Axis:
    """A linear scale from values to places."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low, self._begin = low, begin
        self._step = (end - begin) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._begin + (value - self._low) * self._step


def _grid(left: float, right: float, y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height:.0f}" style="max-width:{width}px" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )

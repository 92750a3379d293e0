"""Figures as SVG: colours come from the page's style sheet, so that they follow its theme; every mark has a title."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from markupsafe import escape as escape_markup

from ....storage.wording import printable
from ..stored import documents_by_class
from .facts import Link, RunFacts, shares_of

WIDTH = 1120
"""Width of the funnel, in units of its drawing."""


def escape(text: str) -> Markup:
    """Text for a page: no mark-up, and no character that would turn the text around it."""
    return escape_markup(printable(text))


def short(value: float) -> str:
    """A number in three digits: 12.3K, 4.56M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _colour(name: str, order: Sequence[str]) -> str:
    """The class of a name's colour: its place among its kind."""
    return f"c{order.index(name) % 12}" if name in order else "c-other"


def sankey(run: RunFacts) -> Markup:
    """The funnel: corpora, what became of their documents, and where those that stay went."""
    links = run.links
    columns = [
        [c for c in run.corpora if any(link.source == c for link in links)],
        list(
            dict.fromkeys([*(link.target for link in links if link.source != "kept" and link.target != "kept"), "kept"])
        ),
        [link.target for link in links if link.source == "kept"],
    ]
    columns[1].sort(key=lambda name: (name != "kept", -_into(links, name)))
    total = sum(link.value for link in links if link.source != "kept")
    gap, height, bar = 16.0, 520.0, 14.0
    scale = (height - gap * (max(map(len, columns)) - 1)) / max(total, 1)
    xs = (150.0, 560.0, WIDTH - 170.0)
    boxes: dict[str, tuple[float, float, float]] = {}
    for column, x in zip(columns, xs, strict=True):
        y = 24.0
        for name in column:
            size = max(_into(links, name), sum(link.value for link in links if link.source == name)) * scale
            boxes[name] = (x, y, size)
            y += max(size, 2) + gap
    bottom = max(y + size for _, y, size in boxes.values()) + 24
    parts = []
    leaving: dict[str, float] = {}
    arriving: dict[str, float] = {}
    order = [name for column in columns for name in column]
    for link in sorted(links, key=lambda k: (order.index(k.source), order.index(k.target))):
        x0, y0, _ = boxes[link.source]
        x1, y1, _ = boxes[link.target]
        thick = link.value * scale
        a = y0 + leaving.get(link.source, 0.0)
        b = y1 + arriving.get(link.target, 0.0)
        leaving[link.source] = leaving.get(link.source, 0.0) + thick
        arriving[link.target] = arriving.get(link.target, 0.0) + thick
        left, right, mid = x0 + bar, x1, (x0 + bar + x1) / 2
        path = (
            f"M{left:.1f},{a:.1f}C{mid:.1f},{a:.1f} {mid:.1f},{b:.1f} {right:.1f},{b:.1f}"
            f"V{b + thick:.1f}C{mid:.1f},{b + thick:.1f} {mid:.1f},{a + thick:.1f} {left:.1f},{a + thick:.1f}Z"
        )
        colour = _colour(link.source, run.corpora) if link.source != "kept" else "c-kept"
        title = escape(f"{link.source} to {link.target}: {link.value:,} documents")
        parts.append(f'<path class="flow {colour}" d="{path}"><title>{title}</title></path>')
    for name, (x, y, size) in boxes.items():
        # What leaves "kept" may be more than comes in: a document of two phases goes to both.
        n = _into(links, name) or sum(link.value for link in links if link.source == name)
        stays = "c-kept" if name in ("kept", *columns[2]) else "c-lost"
        colour = _colour(name, run.corpora) if name in columns[0] else stays
        title = escape(f"{name}: {n:,} documents, {100 * n / max(total, 1):.1f} % of all")
        parts.append(
            f'<rect class="node {colour}" x="{x}" y="{y:.1f}" width="{bar}" height="{max(size, 2):.1f}">'
            f"<title>{title}</title></rect>"
        )
        side, at = ("end", x - 8) if name in columns[0] else ("start", x + bar + 8)
        label = f"{escape(name)} <tspan class='count'>{n:,}</tspan>"
        parts.append(f'<text x="{at}" y="{y + max(size, 2) / 2 + 5:.1f}" text-anchor="{side}">{label}</text>')
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {bottom:.0f}" class="sankey" role="img" aria-label="Funnel from {total:,} documents '
        f'to the phases">{"".join(parts)}</svg>'
    )


def _into(links: Sequence[Link], name: str) -> int:
    return sum(link.value for link in links if link.target == name)


def stacked(run: RunFacts, by: str) -> Markup:
    """A bar for each phase, divided by domain or corpus in shares of its tokens."""
    order = run.domains if by == "domain" else run.corpora
    shares = shares_of(run, by)
    bars = []
    for phase in run.phases:
        parts = []
        for name in order:
            share = shares.get((phase["name"], name), 0.0)
            if not share:
                continue
            title = escape(f"{name}: {100 * share:.2f} % of {phase['name']}")
            label = f"<span>{100 * share:.0f}</span>" if share > 0.045 else ""
            parts.append(
                f'<div class="part {_colour(name, order)}" style="flex:{share:.6f}" title="{title}">{label}</div>'
            )
        summary = ", ".join(f"{n} {100 * shares.get((phase['name'], n), 0):.1f} %" for n in order)
        bars.append(
            f'<div class="row"><div class="name">{escape(phase["name"])}<small>{short(phase["tokens"])} tokens</small></div>'
            f'<div class="stack" role="img" aria-label="{escape(summary)}">{"".join(parts)}</div></div>'
        )
    legend = "".join(f'<li><i class="{_colour(n, order)}"></i>{escape(n)}</li>' for n in order)
    return Markup(f'<div class="stacks">{"".join(bars)}</div><ul class="legend">{legend}</ul>')


def histogram(run: RunFacts, kind: str) -> Markup:
    """Shares of documents by class of length or quality: what was kept, and each phase."""
    series = [("kept", documents_by_class(run.stats["mixture"]["survivors"][kind]))]
    series += [(p["name"], documents_by_class(p[kind])) for p in run.phases]
    classes = sorted({level for _, counts in series for level in counts})
    if not classes:
        return Markup("<p>No documents.</p>")
    classes = list(range(classes[0], classes[-1] + 1))
    shares = [(name, {c: n / max(sum(counts.values()), 1) for c, n in counts.items()}) for name, counts in series]
    most = max(share for _, by_class in shares for share in by_class.values())
    width, height, left, bottom = 640, 250, 44, 44
    step = (width - left - 8) / len(classes)
    scale = (height - bottom - 12) / most
    parts = []
    for tick in range(5):
        y = 12 + (height - bottom - 12) * (1 - tick / 4)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * most * tick / 4:.0f} %</text>'
        )
    bar = step * 0.84 / len(shares)
    for k, (name, by_class) in enumerate(shares):
        for i, level in enumerate(classes):
            share = by_class.get(level, 0.0)
            if not share:
                continue
            x = left + i * step + step * 0.08 + k * bar
            title = escape(f"{name}, {_class_name(kind, level)}: {100 * share:.1f} % of its documents")
            parts.append(
                f'<rect class="s{k}" x="{x:.1f}" y="{height - bottom - share * scale:.1f}" width="{bar:.1f}" '
                f'height="{share * scale:.1f}"><title>{title}</title></rect>'
            )
    every = max(1, len(classes) // 7)
    for i in range(0, len(classes), every):
        edge = short(2 ** classes[i]) if kind == "lengths" else f"{classes[i] / 20:.2f}"
        parts.append(
            f'<text class="tick" x="{left + i * step:.1f}" y="{height - bottom + 18}" text-anchor="middle">{edge}</text>'
        )
    axis = "tokens of a document" if kind == "lengths" else "quality, 0 to 1"
    parts.append(f'<text class="tick" x="{(width + left) / 2:.0f}" y="{height - 6}" text-anchor="middle">{axis}</text>')
    legend = "".join(f'<li><i class="s{k}"></i>{escape(name)}</li>' for k, (name, _) in enumerate(shares))
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Documents by {axis}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul>'
    )


def _class_name(kind: str, level: int) -> str:
    if kind == "lengths":
        return f"{2**level:,} to {2 ** (level + 1) - 1:,} tokens"
    return f"quality {level / 20:.2f} to {(level + 1) / 20:.2f}"


def heat(value: int, most: int) -> str:
    """How strongly a cell of a heat map is coloured, as a custom property of its style."""
    return f"--heat:{0 if not value or not most else 12 + 78 * (value / most) ** 0.5:.0f}%"

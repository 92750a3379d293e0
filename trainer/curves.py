"""`fox1 curves`: losses and throughput of trainings over their tokens, as one SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

COLOURS = ("#c2571a", "#1f6f8b", "#6a8f2d", "#7a4f9a", "#c99a1b", "#2f8f74")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 300, 70, 20, 34, 42


@dataclass(frozen=True)
class Series:
    """Points of one line."""

    label: str
    colour: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


def read_metrics(checkpoint: Path) -> list[dict[str, Any]]:
    """The metrics of a training; of steps that were repeated after a resume, the last.

    Raises:
        ValueError: there are none.
    """
    path = checkpoint / "metrics.jsonl"
    if not path.exists():
        raise ValueError(f"{checkpoint} has no metrics.jsonl; `fox1 train RUN --out {checkpoint}` writes it")
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        value = json.loads(line)
        last[value["kind"], value["step"]] = value
    return sorted(last.values(), key=lambda v: v["step"])


def draw_curves(trainings: Sequence[Path], out: Path) -> None:
    """Write loss (training, held-out, unigram entropy) and tokens per second of some trainings.

    Raises:
        ValueError: one has no metrics.
    """
    losses: list[Series] = []
    speeds: list[Series] = []
    phases: dict[str, float] = {}
    for number, folder in enumerate(trainings):
        colour, name = COLOURS[number % len(COLOURS)], folder.resolve().name
        lines = read_metrics(folder)
        train = [v for v in lines if v["kind"] == "train"]
        if not train:
            raise ValueError(f"{folder} has no step to draw yet")
        tokens = {v["step"]: v["tokens"] for v in train}
        steps = sorted(tokens)

        def at(step: int, steps: list[int] = steps, tokens: dict[int, int] = tokens) -> float:
            """Tokens at a step that may have no line of its own."""
            nearest = min(steps, key=lambda s: abs(s - step))
            return tokens[nearest] * step / max(nearest, 1)

        for v in train:
            phases.setdefault(v["phase"], float(v["tokens"]))
        held_out = [v for v in lines if v["kind"] == "held_out"]
        losses.append(Series(f"{name}, training", colour, tuple((v["tokens"], v["loss"]) for v in train)))
        losses.append(Series(f"{name}, held out", colour, tuple((at(v["step"]), v["loss"]) for v in held_out), True))
        speeds.append(Series(name, colour, tuple((v["tokens"], v["tokens_per_second"]) for v in train)))
        if held_out and not number:
            entropy = held_out[-1]["unigram_entropy"]
            ends = (train[0]["tokens"], train[-1]["tokens"])
            losses.append(Series("unigram entropy", "#77777f", tuple((float(t), entropy) for t in ends), True))
    parts = [_panel("Loss, nats per token", losses, phases, 0), _panel("Tokens per second", speeds, phases, HEIGHT)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, series: Sequence[Series], phases: dict[str, float], top: int) -> str:
    points = [p for s in series for p in s.points if math.isfinite(p[1])]
    x_most = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    pad = (high - low) * 0.05 or max(abs(high), 1.0) * 0.05
    low, high = max(0.0, low - pad), high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / max(x_most, 1)
        return across, top + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    parts = [f'<text x="{LEFT}" y="{top + 20}" font-weight="600">{escape(title)}</text>']
    for k in range(5):
        x, y = x_most * k / 4, low + (high - low) * k / 4
        across, down = place(x, y)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="#e3e1da"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{down + 4:.1f}" text-anchor="end" fill="#5a626a">{_short(y)}</text>')
        parts.append(
            f'<text x="{across:.1f}" y="{top + HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#5a626a">{_short(x)}</text>'
        )
    for name, begin in list(phases.items())[1:]:
        across, _ = place(begin, low)
        parts.append(
            f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{top + TOP}" y2="{top + HEIGHT - BOTTOM}" stroke="#9aa0a6" '
            f'stroke-dasharray="2 4"/><text x="{across + 4:.1f}" y="{top + TOP + 10}" fill="#5a626a">{escape(name)}</text>'
        )
    for number, s in enumerate(series):
        where = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*p) for p in s.points if math.isfinite(p[1])))
        dash = ' stroke-dasharray="5 4"' if s.dashed else ""
        parts.append(f'<polyline points="{where}" fill="none" stroke="{s.colour}" stroke-width="1.6"{dash}/>')
        y = top + TOP + 4 + 16 * number
        parts.append(
            f'<line x1="{WIDTH - 210}" x2="{WIDTH - 186}" y1="{y}" y2="{y}" stroke="{s.colour}" stroke-width="2"{dash}/>'
            f'<text x="{WIDTH - 180}" y="{y + 4}">{escape(s.label)}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{top + HEIGHT - 6}" text-anchor="middle" fill="#5a626a">tokens trained on</text>'
    )
    return "".join(parts)


def _short(value: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"

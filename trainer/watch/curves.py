"""`fox1 curves`: losses and throughput of trainings over the tokens trained on, as one drawing."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...storage.reading import Misshapen, read_bounded
from ...storage.wording import first_line, printable

COLOURS = ("#c2571a", "#1f6f8b", "#6a8f2d", "#7a4f9a", "#c99a1b", "#2f8f74")
GREY = "#77777f"
DRAWN = {"train": ("tokens", "loss", "tokens_per_second"), "held_out": ("loss", "unigram_entropy")}
"""Kind of a metric -> the numbers that are drawn of it."""
METRICS_BYTES = 1 << 30


@dataclass(frozen=True)
class Series:
    """One line of a drawing; its points are (tokens, value)."""

    label: str
    colour: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Curves:
    """The lines that are drawn of some trainings."""

    losses: tuple[Series, ...]
    """In nats per token: training loss, held-out loss, unigram entropy."""
    speeds: tuple[Series, ...]
    """In tokens per second."""
    phases: tuple[tuple[str, float], ...]
    """The phases of the first training, and the number of tokens at which each was first reported."""


def read_metrics(checkpoint: Path) -> list[dict[str, Any]]:
    """The metrics of a training; for steps that were repeated after a resume, the last ones.

    Raises:
        ValueError: the folder has no metrics.
    """
    path = checkpoint / "metrics.jsonl"
    if not path.exists():
        # Imported here, since drawing needs no torch.
        from ..checkpoints.checkpoint import refuse_run

        refuse_run(checkpoint)
        raise ValueError(f"{checkpoint} has no metrics.jsonl; `fox1 train RUN --out {checkpoint}` writes it")
    last: dict[tuple[str, int], dict[str, Any]] = {}
    try:
        for number, line in enumerate(read_bounded(path, METRICS_BYTES).splitlines(), 1):
            # A full disk cuts a line off; its step was repeated.
            with suppress(json.JSONDecodeError, UnicodeDecodeError):
                value = json.loads(line)
                if not _is_metric(value):
                    raise Misshapen(f"line {number} is not a training's")
                last[value["kind"], value["step"]] = value
    except (Misshapen, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({printable(first_line(error))}); take the line out") from None
    return sorted(last.values(), key=lambda v: v["step"])


def _is_metric(value: Any) -> bool:
    """Whether a value has what is drawn of its kind."""
    if not isinstance(value, dict) or type(value.get("step")) is not int or not isinstance(value.get("kind"), str):
        return False
    if value["kind"] == "train" and not isinstance(value.get("phase"), str):
        return False
    # Null: a loss that was NaN, or that of steps which were all skipped.
    return all(isinstance(value.get(name, ""), int | float | None) for name in DRAWN.get(value["kind"], ()))


def _line(
    tokens: Mapping[int, float], values: Sequence[Mapping[str, Any]], name: str
) -> tuple[tuple[float, float], ...]:
    """The points (tokens, number of this name) of reports, less those without a finite number."""
    found = ((tokens[v["step"]], v[name]) for v in values)
    return tuple((x, y) for x, y in found if y is not None and math.isfinite(y))


def read_curves(trainings: Sequence[Path]) -> Curves:
    """The lines to draw of some trainings.

    Raises:
        ValueError: a training has no metrics.
    """
    losses: list[Series] = []
    speeds: list[Series] = []
    phases: dict[str, float] = {}
    for number, folder in enumerate(trainings):
        colour, name = COLOURS[number % len(COLOURS)], printable(folder.resolve().name)
        lines = read_metrics(folder)
        train = [v for v in lines if v["kind"] == "train"]
        if not train:
            raise ValueError(f"{folder}/metrics.jsonl has no training step yet; wait for the first report")
        tokens = {v["step"]: float(v["tokens"]) for v in train}
        if not number:
            for v in train:
                phases.setdefault(printable(v["phase"]), v["tokens"])
        # An evaluation follows the report of its step.
        held_out = [v for v in lines if v["kind"] == "held_out" and v["step"] in tokens]
        losses.append(Series(f"{name}, training", colour, _line(tokens, train, "loss")))
        losses.append(Series(f"{name}, held out", colour, _line(tokens, held_out, "loss"), dashed=True))
        speeds.append(Series(name, colour, _line(tokens, train, "tokens_per_second")))
        if held_out and not number:
            entropy, ends = held_out[-1]["unigram_entropy"], (train[0]["tokens"], train[-1]["tokens"])
            points = tuple((float(t), entropy) for t in ends if entropy is not None)
            losses.append(Series("unigram entropy", GREY, points, dashed=True))
    return Curves(tuple(losses), tuple(speeds), tuple(phases.items()))


def draw_curves(trainings: Sequence[Path], out: Path) -> None:
    """Draw losses and tokens per second of some trainings, as an SVG or a PNG by the suffix of `out`.

    Raises:
        ValueError: a training has no metrics, or the suffix is neither.
    """
    if out.suffix not in (".svg", ".png"):
        raise ValueError(f"--out {out}: the name must end in .svg or .png")
    curves = read_curves(trainings)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # The same metrics give the same bytes: the drawing has no date, and its ids are not random.
    with plt.rc_context({"svg.hashsalt": "fox1", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(2, 1, figsize=(9, 6.4), sharex=True, layout="constrained")
        titles = ("loss, nats per token", "tokens per second")
        for axes, title, series in zip(panels, titles, (curves.losses, curves.speeds), strict=True):
            for line in series:
                x, y = zip(*line.points, strict=True) if line.points else ((), ())
                style = "--" if line.dashed else "-"
                axes.plot(x, y, style, color=line.colour, label=line.label, linewidth=1.4, gid=line.label)
            for name, begin in curves.phases[1:]:
                axes.axvline(begin, color=GREY, linewidth=0.8, linestyle=":")
                axes.annotate(name, (begin, 1), parse_math=False, xycoords=("data", "axes fraction"), xytext=(3, 3),
                              textcoords="offset points", color=GREY)  # fmt: skip
            axes.set_ylabel(title)
            axes.grid(alpha=0.25)
            for text in axes.legend(loc="best", frameon=False).get_texts():
                text.set_parse_math(False)
            axes.spines[["top", "right"]].set_visible(False)
        panels[1].set_ylim(bottom=0)
        panels[1].set_xlabel("tokens trained on")
        panels[1].xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        drawn = io.BytesIO()
        figure.savefig(drawn, format=out.suffix[1:], metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)
        plt.close(figure)
    # As bytes, because `out` may lie in a store.
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawn.getvalue())

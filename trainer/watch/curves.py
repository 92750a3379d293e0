"""`fox1 curves`: losses, also by corpus beside the mixture, and throughput of trainings over the tokens trained on, as one
drawing."""

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
from .metrics import training_name

COLOURS = ("#c2571a", "#1f6f8b", "#6a8f2d", "#7a4f9a", "#c99a1b", "#2f8f74")
GREY = "#77777f"
SHOWN = 6
"""Corpora that are drawn each by itself: those with the most tokens."""
BY_CORPUS = ("loss_by_corpus", "share_by_corpus")
MACRO = "bits_per_byte_macro"
HALVES = "bits_per_byte_by_half"
ITEMS = "bits_per_byte_items"
"""Numbers that evaluations have reported only since they are some of theirs."""
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
    by_corpus: tuple[Series, ...]
    """Of the first training, in nats per token: training loss and held-out loss of its corpora."""
    mixture: tuple[Series, ...]
    """Of the first training: share of the targets since the report before, of the same corpora."""
    speeds: tuple[Series, ...]
    """In tokens per second."""
    macro: tuple[Series, ...]
    """Held-out bits per byte, mean of the domains, over all and by halves; of trainings that report them."""
    items: tuple[Series, ...]
    """Bits per byte of the right options of benchmark items, mean of the benchmarks; likewise."""
    phases: tuple[tuple[str, float], ...]
    """The phases of the first training, and the number of tokens that came before each."""


def read_metrics(checkpoint: Path) -> list[dict[str, Any]]:
    """The metrics of a training, without what was reported of steps that a later call took again.

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
                if value["kind"] == "run":
                    # A call that begins at this step: what comes after it has not happened.
                    last = {key: v for key, v in last.items() if key[1] <= value["step"]}
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
    for name in BY_CORPUS:
        if not isinstance(parts := value.get(name, {}), dict) or not all(map(_is_number, parts.values())):
            return False
    if not isinstance(halves := value.get(HALVES, {}), dict):
        return False
    if not all(map(_is_number, (value.get(MACRO), value.get(ITEMS), *halves.values()))):
        return False
    # Null: a loss that was NaN, or that of steps which were all skipped.
    return all(_is_number(value.get(name, "")) for name in DRAWN.get(value["kind"], ()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | None)


def _line(
    tokens: Mapping[int, float], values: Sequence[Mapping[str, Any]], name: str, part: str = ""
) -> tuple[tuple[float, float], ...]:
    """The points (tokens, number of this name) of reports, less those without a finite number.

    Args:
        part: of the mapping of this name.
    """
    found = ((tokens[v["step"]], v.get(name, {}).get(part) if part else v[name]) for v in values)
    return tuple((x, y) for x, y in found if y is not None and math.isfinite(y))


def read_curves(trainings: Sequence[Path]) -> Curves:
    """The lines to draw of some trainings.

    Raises:
        ValueError: a training has no metrics.
    """
    losses: list[Series] = []
    speeds: list[Series] = []
    by_corpus: list[Series] = []
    mixture: list[Series] = []
    macro: list[Series] = []
    items: list[Series] = []
    phases: dict[str, float] = {}
    for number, folder in enumerate(trainings):
        colour, name = COLOURS[number % len(COLOURS)], training_name(folder)
        lines = read_metrics(folder)
        train = [v for v in lines if v["kind"] == "train"]
        if not train:
            raise ValueError(f"{folder}/metrics.jsonl has no training step yet; wait for the first report")
        tokens = {v["step"]: float(v["tokens"]) for v in train}
        if not number:
            # The last step of a phase is always reported: what comes after it is the next phase.
            for before, v in zip([None, *train[:-1]], train, strict=True):
                phases.setdefault(printable(v["phase"]), float(before["tokens"] if before else 0))
        # An evaluation follows the report of its step.
        held_out = [v for v in lines if v["kind"] == "held_out" and v["step"] in tokens]
        losses.append(Series(f"{name}, training", colour, _line(tokens, train, "loss")))
        losses.append(Series(f"{name}, held out", colour, _line(tokens, held_out, "loss"), dashed=True))
        speeds.append(Series(name, colour, _line(tokens, train, "tokens_per_second")))
        if with_bits := [v for v in held_out if MACRO in v]:
            macro.append(Series(name, colour, _line(tokens, with_bits, MACRO), dashed=True))
            for half in sorted({half for v in with_bits for half in v.get(HALVES, {})}):
                macro.append(Series(f"{name}, {printable(half)}", colour, _line(tokens, with_bits, HALVES, half)))
        if with_items := [v for v in held_out if ITEMS in v]:
            items.append(Series(name, colour, _line(tokens, with_items, ITEMS), dashed=True))
        for place, corpus in enumerate([] if number else _corpora(train)):
            hue, label = COLOURS[place], printable(corpus)
            trained, measured = (_line(tokens, v, "loss_by_corpus", corpus) for v in (train, held_out))
            by_corpus.append(Series(f"{label}, training", hue, trained))
            by_corpus.append(Series(f"{label}, held out", hue, measured, dashed=True))
            mixture.append(Series(f"{label}, share", hue, _line(tokens, train, "share_by_corpus", corpus)))
        if held_out and not number:
            entropy, ends = held_out[-1]["unigram_entropy"], (train[0]["tokens"], train[-1]["tokens"])
            points = tuple((float(t), entropy) for t in ends if entropy is not None)
            losses.append(Series("unigram entropy", GREY, points, dashed=True))
    return Curves(
        tuple(losses),
        tuple(by_corpus),
        tuple(mixture),
        tuple(speeds),
        tuple(macro),
        tuple(items),
        tuple(phases.items()),
    )


def _corpora(train: Sequence[Mapping[str, Any]]) -> list[str]:
    """The corpora with the most targets, in their alphabetical order."""
    total: dict[str, float] = {}
    for v in train:
        for corpus, share in v.get("share_by_corpus", {}).items():
            total[corpus] = total.get(corpus, 0.0) + (share if share and math.isfinite(share) else 0.0)
    return sorted(sorted(total, key=lambda name: (-total[name], name))[:SHOWN])


def draw_curves(trainings: Sequence[Path], out: Path) -> None:
    """Draw losses, mixture and tokens per second of some trainings, as an SVG or a PNG by the suffix of `out`.

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
        drawn_panels = [("loss, nats per token", curves.losses)]
        if curves.macro:
            drawn_panels.append(("held-out bits per byte, mean of domains", curves.macro))
        if curves.items:
            drawn_panels.append(("bits per byte of right options, mean of benchmarks", curves.items))
        if curves.mixture:
            drawn_panels += [("loss by corpus", curves.by_corpus), ("share of the targets", curves.mixture)]
        drawn_panels.append(("tokens per second", curves.speeds))
        figure, panels = plt.subplots(
            len(drawn_panels), 1, figsize=(9, 3.2 * len(drawn_panels)), sharex=True, layout="constrained"
        )
        for axes, (title, series) in zip(panels, drawn_panels, strict=True):
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
            columns = -(-len(series) // SHOWN)
            for text in axes.legend(loc="best", frameon=False, ncols=columns).get_texts():
                text.set_parse_math(False)
            axes.spines[["top", "right"]].set_visible(False)
        for axes, (_, series) in zip(panels, drawn_panels, strict=True):
            if series in (curves.mixture, curves.speeds):
                axes.set_ylim(bottom=0)
        panels[-1].set_xlabel("tokens trained on")
        panels[-1].xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        drawn = io.BytesIO()
        figure.savefig(drawn, format=out.suffix[1:], metadata={"Date": None} if out.suffix == ".svg" else None, dpi=150)
        plt.close(figure)
    # As bytes, because `out` may lie in a store.
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawn.getvalue())

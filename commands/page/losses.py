"""The losses of a training by corpus, to stand beside the mixture that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...storage.store import shown
from ...storage.wording import printable
from ...trainer.watch.curves import read_metrics

REPORTS = 5
"""Reports that a figure is the mean of: the losses of single steps go up and down."""


def losses_by_corpus(training: Path) -> dict[str, Any]:
    """The training's name, and phase -> corpus -> [loss of the first reports of the phase, loss of the last ones], in nats
    per token.

    Raises:
        ValueError: the folder has no metrics, or damaged ones.
    """
    found: dict[str, dict[str, list[float]]] = {}
    reports = [line for line in read_metrics(training) if line["kind"] == "train"]
    for phase in dict.fromkeys(line["phase"] for line in reports):
        own = [line.get("loss_by_corpus") or {} for line in reports if line["phase"] == phase]
        corpora = dict.fromkeys(corpus for line in own for corpus in line)
        both = {corpus: (_mean(own[:REPORTS], corpus), _mean(own[-REPORTS:], corpus)) for corpus in corpora}
        found[phase] = {corpus: [*pair] for corpus, pair in both.items() if not any(map(math.isnan, pair))}
    return {"training": shown(training), "phases": found, "measured": _measured(read_metrics(training))}


MEASURED = {
    "bits_per_byte_macro": "bits per byte, mean of domains",
    "bits_per_byte_by_half": "bits per byte, mean of domains",
    "bits_per_byte_by_domain": "bits per byte",
    "bits_per_byte_items": "bits per byte of right options, mean of benchmarks",
    "bits_per_byte_by_item": "bits per byte of right options",
}
"""Key of an evaluation -> what it is."""


def _measured(lines: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """What evaluations report of documents and items that are not trained on -> [the first one's, the last one's]."""
    found: dict[str, list[float]] = {}
    for line in (line for line in lines if line["kind"] == "held_out"):
        for key, what in MEASURED.items():
            value = line.get(key)
            parts = value if isinstance(value, dict) else {"": value}
            for part, number in parts.items():
                if isinstance(number, int | float) and math.isfinite(number):
                    had = found.setdefault(f"{what}: {printable(part)}" if part else what, [number, number])
                    had[1] = number
    return found


def _mean(reports: Sequence[dict[str, Any]], corpus: str) -> float:
    """NaN where no report has a finite loss of the corpus."""
    values = [v for report in reports if isinstance(v := report.get(corpus), int | float) and math.isfinite(v)]
    return sum(values) / len(values) if values else math.nan

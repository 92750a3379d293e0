"""The losses of a training by corpus, to stand beside the mixture that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...storage.store import shown
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
    return {"training": shown(training), "phases": found}


def _mean(reports: Sequence[dict[str, Any]], corpus: str) -> float:
    """NaN where no report has a finite loss of the corpus."""
    values = [v for report in reports if isinstance(v := report.get(corpus), int | float) and math.isfinite(v)]
    return sum(values) / len(values) if values else math.nan

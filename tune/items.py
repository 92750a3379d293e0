"""Benchmark items of which trainings are measured, some for the fit and others for the validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..pipeline.prepare.benchmarks import BenchmarkSettings
from ..pipeline.prepare.questions import Question, encode_questions, questions_of
from ..pipeline.run.artifacts import Artifact
from ..tokenize.encode import encoder_of
from .measured import MeasuredFile, write_sequences

ITEMS = 200
"""Items of a benchmark in the fit, and as many others in the validation."""


def questions(benchmarks: Sequence[BenchmarkSettings], names: Sequence[str]) -> list[Question]:
    """The items of some benchmarks that have a right answer.

    Args:
        names: what `tune.objective.items` says.

    Raises:
        ValueError: a name is no benchmark of the recipe, or its items have no right answers.
    """
    by_name = {b.name: b for b in benchmarks}
    found: list[Question] = []
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise ValueError(
                f"`tune.objective.items` names {name}, which is no benchmark of `contamination.benchmarks` ({known})"
            )
        own = questions_of(by_name[name])
        if not own:
            raise ValueError(
                f"the benchmark {name} has no items with a right answer; take it out of `tune.objective.items`"
            )
        found += own
    return found


def part_of(found: Sequence[Question], last: int) -> tuple[Question, ...]:
    """The items of the fit (`last` 0) or of the validation (1), at most `ITEMS` a benchmark."""
    chosen: list[Question] = []
    for name in dict.fromkeys(q.benchmark for q in found):
        own = sorted((q for q in found if q.benchmark == name and q.place & 1 == last), key=lambda q: q.place)
        chosen += own[:ITEMS]
    return tuple(chosen)


def measure_items(
    items: Sequence[Question], model: Artifact, reserved: tuple[str, ...], bos: int, longest: int, out: Path
) -> MeasuredFile:
    """Task: items as sequences.

    Args:
        model: the tokenizer.
        bos: id that a sequence begins with; -1: none.
        longest: tokens of a sequence; of a longer one, its end.
    """
    encoded = encode_questions(items, encoder_of(model.file, model.hash, reserved), bos, longest)
    return write_sequences([(e.question.benchmark, e.question.place, e.skip, e.bytes, e.ids) for e in encoded], out)

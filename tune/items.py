"""Benchmark items of which trainings are measured, some for the fit and others for the validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..pipeline.prepare.questions import Question, encode_questions, questions
from ..pipeline.run.artifacts import Artifact
from ..tokenize.encode import encoder_of
from .measured import MeasuredFile, write_sequences

__all__ = ["ITEMS", "Question", "measure_items", "part_of", "questions"]
ITEMS = 200
"""Items of a benchmark in the fit, and as many others in the validation."""


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

"""Benchmark items as token sequences: the question, and the right option, of which the bits are measured.

Bits per byte of the right option move smoothly with a model's quality at scales where accuracy is chance (Magnusson et al.
2025, arXiv 2504.11393).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from ..pipeline.prepare.benchmarks import BenchmarkSettings, read_items
from ..pipeline.run.artifacts import Artifact
from ..tokenize.encode import encoder_of
from .measured import MeasuredFile, write_sequences

ITEMS = 200
"""Items of a benchmark in the fit, and as many others in the validation."""


@dataclass(frozen=True)
class Question:
    """An item that is scored."""

    benchmark: str
    text: str
    answer: str

    @property
    def place(self) -> int:
        """A hash of what it says: half of the items are of the fit, by its last bit, in this order."""
        return xxhash.xxh3_64_intdigest(f"{self.text}\0{self.answer}".encode())


def questions(benchmarks: Sequence[BenchmarkSettings], names: Sequence[str]) -> list[Question]:
    """The items of some benchmarks that have a right answer.

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
        items = (i for i in read_items(by_name[name]) if i.questions and i.answers and i.answers[0].strip())
        own = dict.fromkeys(Question(name, i.questions[0].strip(), i.answers[0].strip()) for i in items)
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
    encoder = encoder_of(model.file, model.hash, reserved)
    asked = encoder.encode(pa.array([i.text for i in items], pa.large_string()))
    whole = encoder.encode(pa.array([f"{i.text} {i.answer}" for i in items], pa.large_string()))
    begin = np.array([bos] if bos >= 0 else [], np.int32)
    rows = []
    for k, item in enumerate(items):
        question = asked.ids[asked.offsets[k] : asked.offsets[k + 1]]
        ids = whole.ids[whole.offsets[k] : whole.offsets[k + 1]]
        # A tokenizer may join the end of the question with what follows: the option begins where the two differ.
        shared = min(len(question), len(ids))
        differs = np.flatnonzero(question[:shared] != ids[:shared])
        skip = int(differs[0]) if len(differs) else shared
        ids, skip = np.concatenate([begin, ids]), skip + len(begin)
        cut = max(0, len(ids) - longest)
        ids, skip = ids[cut:], max(1, skip - cut)
        size = int(encoder.piece_bytes[ids[skip:]].sum())
        if size:
            rows.append((item.benchmark, item.place, skip, size, ids))
    return write_sequences(rows, out)

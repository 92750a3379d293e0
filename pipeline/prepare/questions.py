"""Benchmark items as questions with their right option, and as token sequences of which the option is scored.

Bits per byte of the right option move smoothly with a model's quality at scales where accuracy is chance (Magnusson et al.
2025, arXiv 2504.11393).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from ...tokenize.encode import Encoder
from .benchmarks import BenchmarkSettings, read_items


@dataclass(frozen=True)
class Question:
    """An item that is scored."""

    benchmark: str
    text: str
    answer: str

    @property
    def place(self) -> int:
        """A hash of what it says: where some items of many are taken, they are the first in this order."""
        return xxhash.xxh3_64_intdigest(f"{self.text}\0{self.answer}".encode())


def questions_of(benchmark: BenchmarkSettings) -> list[Question]:
    """The items of a benchmark that have a right answer, each once; some benchmarks have none (Winogrande fills a gap)."""
    items = (i for i in read_items(benchmark) if i.questions and i.answers and i.answers[0].strip())
    return list(dict.fromkeys(Question(benchmark.name, i.questions[0].strip(), i.answers[0].strip()) for i in items))


@dataclass(frozen=True)
class EncodedQuestion:
    """An item as tokens."""

    question: Question
    skip: int
    """Tokens before the right option."""
    bytes: int
    """Of the option's text."""
    ids: np.ndarray
    """int32."""


def encode_questions(items: Sequence[Question], encoder: Encoder, bos: int, longest: int) -> list[EncodedQuestion]:
    """Items as sequences: the question, and the right option after a space. Those of which nothing would be scored are left out.

    Args:
        bos: id that a sequence begins with; -1: none.
        longest: tokens of a sequence; of a longer one, its end.
    """
    asked = encoder.encode(pa.array([i.text for i in items], pa.large_string()))
    whole = encoder.encode(pa.array([f"{i.text} {i.answer}" for i in items], pa.large_string()))
    begin = np.array([bos] if bos >= 0 else [], np.int32)
    found = []
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
        if size := int(encoder.piece_bytes[ids[skip:]].sum()):
            found.append(EncodedQuestion(item, skip, size, ids))
    return found

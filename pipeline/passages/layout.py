"""How much work passages are, known before any text is read: what the steps run, and what `fox1 plan` foresees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dedupe.steps import MOST_PARTITIONS, MOST_RUNS, PARTITION_BYTES
from ..engine.shuffle import partition_count
from ..engine.shuffle_file import Levels
from ..engine.two_level import merge_tasks, plan_levels
from .find import CUT, PASSAGE
from .settings import PassageSettings

CHUNK_BYTES = 512 << 20
"""Bytes of text that a task reads, where there is so much that these are not more than `MOST_CHUNKS`."""
MIN_CHUNKS, MOST_CHUNKS = 8, 2500
BYTES_PER_PASSAGE = {"lines": 120, "paragraphs": 240, "sentences": 100, "substrings": 80}
"""About so much text has one passage, of substrings one anchor: prose in English."""
BYTES_PER_RUN = 32
"""The same of the runs around anchors that repeat, if a fifth of the text does."""
STEP = "dedupe.passage"
"""What the names of the steps begin with."""


@dataclass(frozen=True)
class Search:
    """How the passages of one search go from chunks to the tasks that compare them, and what is cut back to chunks."""

    partitions: int
    levels: Levels
    to_chunks: Levels

    @classmethod
    def of(cls, expected: int, chunks: int) -> Search:
        """Of about so many passages."""
        size = expected * PASSAGE.itemsize
        target = max(PARTITION_BYTES, size // MOST_PARTITIONS)
        partitions = partition_count(size, min(chunks, MOST_RUNS), target)
        levels = plan_levels(size, chunks, partitions, MOST_RUNS)
        return cls(partitions, levels, plan_levels(expected * CUT.itemsize, partitions, chunks, MOST_RUNS))

    def tasks(self, chunks: int) -> int:
        """All of its tasks."""
        return (
            chunks
            + merge_tasks(self.levels, chunks)
            + self.partitions
            + 2 * merge_tasks(self.to_chunks, self.partitions)
        )


def searches(settings: PassageSettings, text: int, chunks: int) -> dict[str, Search]:
    """By name, in order.

    Args:
        text: bytes of the documents that are kept.
    """
    expected = text_per(settings, text, BYTES_PER_PASSAGE)
    found = {"passage": Search.of(expected, chunks)}
    if "substrings" in settings.cut:
        found["passage_run"] = Search.of(text // BYTES_PER_RUN, chunks)
    return found


def text_per(settings: PassageSettings, text: int, sizes: Mapping[str, int]) -> int:
    """About how many passages of all kinds the text has."""
    return sum(text // sizes[kind] for kind in settings.cut)


def least_chunk(text: int) -> int:
    """Bytes of text from which a chunk is one, of so much in all source files."""
    return min(CHUNK_BYTES, text // MIN_CHUNKS)


def planned_tasks(settings: PassageSettings, text: int, kept: int, parts: int) -> int:
    """Tasks of all steps.

    Args:
        text: bytes of all documents.
        kept: bytes of those that are kept.
        parts: groups of files that are read together; no chunk is less.
    """
    chunks = max(1, min(parts, MOST_CHUNKS, text // max(least_chunk(text), 1)))
    return chunks + sum(search.tasks(chunks) for search in searches(settings, kept, chunks).values())

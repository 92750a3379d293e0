"""datatrove's filters over batches: documents are judged together by kernels, and leave one by one as they do there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.typeshelper import StatHints

from ...kernels.batch import Texts

BATCH = 256
BATCH_CHARACTERS = 1 << 20
THEIRS = -1
"""The verdict of a document that datatrove's own filter is asked about."""


def batches(data: DocumentsPipeline, size: int) -> Iterator[list[Document]]:
    """Documents in lists of at most `size`, and of little more than `BATCH_CHARACTERS` of text."""
    batch: list[Document] = []
    characters = 0
    for document in data or ():
        batch.append(document)
        characters += len(document.text)
        if len(batch) == size or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class BatchedFilter(BaseFilter):
    """What the filters have in common; each stands before datatrove's class of its name, whose arguments it takes.

    The keep or drop of every document, its reason and the statistics are those of datatrove's filter. The time that is
    noted for a document is its share of the batch's.
    """

    reasons: tuple[str, ...] = ()
    """Reason k - 1 is that of verdict k."""

    def verdicts(self, batch: list[Document], texts: Texts) -> np.ndarray:
        """Integers [n]: 0 to keep a document, k to drop it for ``reasons[k - 1]``, or `THEIRS`."""
        raise NotImplementedError

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        try:
            texts = Texts.of([document.text for document in batch])
        except UnicodeEncodeError:
            # Half a surrogate pair stands in no UTF-8; such a document goes to datatrove's filter by itself.
            if len(batch) == 1:
                return [self.filter(batch[0])]
            return [result for document in batch for result in self.filter_batch([document])]
        outcomes: list[Any] = [True, *((False, reason) for reason in self.reasons)]
        found = self.verdicts(batch, texts).tolist()
        return [self.filter(document) if k == THEIRS else outcomes[k] for k, document in zip(found, batch, strict=True)]

    def count(self, label: str, times: int = 1) -> None:
        """`stat_update(label)`, so many times: of equal values only the first changes more than the sum and the number."""
        if not times:
            return
        stats = self.stats[label]
        if not stats.n:
            stats.update(1)
            times -= 1
        stats.total += times
        stats.n += times

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.exclusion_writer if self.exclusion_writer else contextlib.nullcontext() as writer:
            for batch in batches(data, self.batch_size):
                began = perf_counter()
                results = self.filter_batch(batch)
                note_time(self, perf_counter() - began, len(batch))
                for document, found in zip(batch, results, strict=True):
                    self.count(StatHints.total)
                    kept, reason = get_filter_result(found)
                    if kept:
                        self.count(StatHints.forwarded)
                        self.update_doc_stats(document)
                        yield document
                        continue
                    self.count(StatHints.dropped)
                    if reason:
                        self.count(f"dropped_{reason}")
                    if writer:
                        if reason:
                            document.metadata["filter_reason"] = reason
                        writer.write(document, rank)


def note_time(step: Any, seconds: float, documents: int) -> None:
    """Note the time of a batch as that of its documents, each with the same share."""
    stats, each = step.stats.time_stats, seconds / documents
    stats.update(each)
    others, before = documents - 1, stats.n
    away = each - stats.mean
    stats.n += others
    stats.total += others * each
    stats.mean += away * others / stats.n
    stats._running_variance += away * away * before * others / stats.n
    if stats.n_tasks == 1:
        stats.global_mean = stats.global_min = stats.global_max = stats.total


def first_broken(rules: list[np.ndarray]) -> np.ndarray:
    """int64 [n]: 0, or 1 + the place of the first rule that a document breaks.

    Args:
        rules: bool [n] each.
    """
    found = np.zeros(len(rules[0]), np.int64)
    for k, broken in enumerate(rules, 1):
        found[(found == 0) & broken] = k
    return found

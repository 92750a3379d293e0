"""E-mail and IP addresses replaced, as datatrove does: its patterns, tried only where one can match."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.formatters import pii as theirs
from datatrove.utils.typeshelper import StatHints

from ...kernels.batch import Texts
from ...kernels.spans import email_runs, ip_runs
from ..filters.base_filter import BATCH, batches, note_time


class PIIFormatter(theirs.PIIFormatter):
    """datatrove's `PIIFormatter` with its arguments, and `batch_size`: documents read at once."""

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size

    def format_batch(self, strings: list[str]) -> list[str]:
        """The texts with addresses replaced; replacements take turns over all texts, in order."""
        try:
            texts = Texts.of(strings)
        except UnicodeEncodeError:  # half a surrogate pair
            return [self.format(text) for text in strings]
        if self.remove_emails:
            texts = _replaced(texts, email_runs(texts), self.emails_replacer)
        if self.remove_ips:
            texts = _replaced(texts, ip_runs(texts), self.ip_replacer)
        return list(texts.strings)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for batch in batches(data, self.batch_size):
            began = perf_counter()
            texts = self.format_batch([document.text for document in batch])
            note_time(self, perf_counter() - began, len(batch))
            for document, text in zip(batch, texts, strict=True):
                self.stat_update(StatHints.total)
                document.text = text
                yield document


def _replaced(texts: Texts, runs: np.ndarray, replacer: theirs.PIIReplacer) -> Texts:
    """The texts with every match within some runs replaced."""
    edited: dict[int, list[str]] = {}
    written: dict[int, int] = {}
    for d, begin, end in runs.tolist():
        text = texts.strings[d]
        for match in replacer.regex.finditer(text, begin, end):
            if replacer.validator and not replacer.validator(match.group(0)):
                continue
            replacement = replacer.replacements[replacer._replace_i]
            replacer._replace_i = (replacer._replace_i + 1) % len(replacer.replacements)
            edited.setdefault(d, []).extend((text[written.get(d, 0) : match.start()], replacement))
            written[d] = match.end()
    if not edited:
        return texts
    strings = list(texts.strings)
    for d, parts in edited.items():
        strings[d] = "".join((*parts, strings[d][written[d] :]))
    return Texts.of(strings)

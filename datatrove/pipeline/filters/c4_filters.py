"""C4's quality rules with the lines they drop, as datatrove reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import c4_filters as theirs
from datatrove.utils.text import split_into_sentences
from datatrove.utils.word_tokenizers import load_word_tokenizer

from ...kernels import c4
from ...kernels.batch import Texts
from ...preload import share
from ...utils.word_tokenizers import WhiteSpaceWords
from .base_filter import BATCH, BatchedFilter

_LINE_STATISTICS = (
    (c4.TOTAL, "line-total"),
    (c4.LONG_WORD, "line-filter-too_long_word"),
    (c4.UNTERMINATED, "line-filter-no_terminal_punc"),
    (c4.FEW_WORDS, "line-filter-too_few_words"),
    (c4.JAVASCRIPT, "line-filter-javascript"),
    (c4.POLICY, "line-filter-policy"),
    (c4.KEPT_LINES, "line-kept"),
)


class C4QualityFilter(BatchedFilter, theirs.C4QualityFilter):
    """datatrove's `C4QualityFilter` with its arguments, and `batch_size`: documents judged at once.

    What is kept of a document becomes its text. The tokenizer of the language only splits lines into sentences where their
    number decides: a document with as many lines as it needs sentences has enough of both.
    """

    reasons = ("lorem_ipsum", "curly_bracket", "too_few_sentences")

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size
        share("quality_filters")
        self.rules = c4.LineRules(
            remove_citations=bool(self.remove_citations),
            terminal=bool(self.filter_no_terminal_punct),
            min_words=self.min_words_per_line,
            max_word=self.max_word_length,
            lorem_ipsum=bool(self.filter_lorem_ipsum),
            javascript=bool(self.filter_javascript),
            curly_bracket=bool(self.filter_curly_bracket),
            policy=tuple(theirs.POLICY_SUBSTRINGS) if self.filter_policy else (),
            joint="\n" if self.split_paragraph else " ",
        )

    def verdicts(self, batch: list[Document], texts: Texts) -> np.ndarray:
        if self.split_paragraph:
            cleaned = c4.clean(texts, *c4.lines_of(texts), self.rules)
        else:
            cleaned = c4.clean(*self._sentence_lines(texts), self.rules)
        sums = cleaned.counts.sum(axis=0).tolist()
        for column, label in _LINE_STATISTICS:
            self.count(label, sums[column])
        found = cleaned.verdict.astype(np.int64)
        found[(found == c4.KEPT) & ~self._has_sentences(cleaned, found == c4.KEPT)] = (
            self.reasons.index("too_few_sentences") + 1
        )
        kept = np.flatnonzero((found == c4.KEPT) & ~(cleaned.same & self.split_paragraph)).tolist()
        written, bounds = cleaned.text.tobytes() if kept else b"", cleaned.bounds.tolist()
        for d in kept:
            batch[d].text = written[bounds[d][0] : bounds[d][1]].decode()
        return found

    def _sentence_lines(self, texts: Texts) -> tuple[Texts, np.ndarray, np.ndarray]:
        """The sentences of the tokenizer as lines, as `c4.clean` takes them."""
        lists = [split_into_sentences(text, self.language) for text in texts.strings]
        sentences = Texts.of([sentence for each in lists for sentence in each])
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(each) for each in lists], out=offsets[1:])
        spans = np.column_stack([sentences.offsets[:-1], sentences.offsets[1:]])
        return Texts(texts.strings, sentences.data, sentences.offsets[offsets]), spans, offsets

    def _has_sentences(self, cleaned: c4.Cleaned, asked: np.ndarray) -> np.ndarray:
        """bool [n]: whether the lines kept hold as many sentences as are asked for; of documents not asked, anything."""
        least = self.min_num_sentences
        lines = np.diff(cleaned.line_offsets)
        if least == -1:
            return np.ones(len(lines), np.bool_)
        if not self.split_paragraph:
            return lines >= least
        if isinstance(load_word_tokenizer(self.language), WhiteSpaceWords):
            return c4.sentences(cleaned) >= least
        enough = lines >= least
        for d in np.flatnonzero(asked & ~enough & (lines > 0)).tolist():
            found = 0
            for begin, end in cleaned.lines[cleaned.line_offsets[d] : cleaned.line_offsets[d + 1]].tolist():
                found += len(split_into_sentences(cleaned.text[begin:end].tobytes().decode(), self.language))
                if found >= least:
                    enough[d] = True
                    break
        return enough

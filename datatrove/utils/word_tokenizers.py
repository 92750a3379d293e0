"""Rules by which a text is split into words and sentences, for datatrove's filters as for these.

Both take such a rule as `language`: datatrove calls it from Python, the filters here know it and split in a kernel.
"""

from __future__ import annotations

import re

import numpy as np
from datatrove.utils.word_tokenizers import WordTokenizer

_SENTENCE = re.compile(r"\S.*?(?:[.!?]+[\"')\]”’]*(?=\s|\Z)|\Z)", re.DOTALL)


class WhiteSpaceWords(WordTokenizer):
    """Words between white space, by `str.split`; a sentence ends at . ! ? and closing quotes before white space."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[begin:end].strip() for begin, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _SENTENCE.finditer(text)]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class Fox1Words(WhiteSpaceWords):
    """The words of fox1's own signals: runs of letters, digits and marks; each character of an unspaced script."""

    def word_tokenize(self, text: str) -> list[str]:
        from ...pipeline.signals.segment import segment

        data = text.encode()
        found = segment(np.frombuffer(data, np.uint8), np.array([0, len(data)]))
        return [data[begin:end].decode() for begin, end in zip(found.word_start, found.word_end, strict=True)]

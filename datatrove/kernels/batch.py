"""A batch of documents as UTF-8 in one array, and its words by the rule that a step was given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datatrove.utils.word_tokenizers import load_word_tokenizer
from numba import njit

from ...pipeline.signals.hashing import TOPS, bytes_before, word_at
from ...pipeline.signals.segment import segment
from ...pipeline.signals.unicode import decode
from ...tokenize.spans import text_array, text_buffers
from ..utils.word_tokenizers import Fox1Words, WhiteSpaceWords
from .characters import SIZE, SPACE, classes

KEPT_CHARACTERS = 4 << 20
"""Text whose words are kept for the next step: several steps ask the same tokenizer for the words of one document."""


@dataclass(frozen=True)
class Texts:
    """Document d is ``data[offsets[d]:offsets[d + 1]]``, valid UTF-8."""

    strings: Sequence[str]
    data: np.ndarray
    """uint8."""
    offsets: np.ndarray
    """int64 [n + 1]."""

    @classmethod
    def of(cls, strings: Sequence[str]) -> Texts:
        """Encode strings.

        Raises:
            UnicodeEncodeError: one holds half a surrogate pair, which UTF-8 cannot write.
        """
        return cls(strings, *text_buffers(text_array(strings)))

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Words:
    """Word w is ``data[start[w]:end[w]]``; those of document d are ``[offsets[d]:offsets[d + 1]]``."""

    data: np.ndarray
    """uint8: the text, or the words one after the other."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    start: np.ndarray
    """int64 [words]."""
    end: np.ndarray
    """int64 [words]."""


def words_of(texts: Texts, language: Any, asked: np.ndarray) -> Words:
    """The words of some documents of a batch; the others may have none.

    Args:
        language: a language of datatrove or one of its tokenizers.
        asked: bool [n].
    """
    tokenizer = load_word_tokenizer(language)
    if type(tokenizer) is WhiteSpaceWords:
        return Words(texts.data, *_split(texts.data, texts.offsets, classes()))
    if type(tokenizer) is Fox1Words:
        found = segment(texts.data, texts.offsets)
        return Words(texts.data, found.word_offsets, found.word_start, found.word_end)
    lists = [_tokenized(tokenizer, text) if wanted else [] for text, wanted in zip(texts.strings, asked, strict=True)]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(words) for words in lists], out=offsets[1:])
    data, bounds = text_buffers(text_array(word for words in lists for word in words))
    return Words(data, offsets, bounds[:-1], bounds[1:])


_kept: OrderedDict[tuple[Any, str], list[str]] = OrderedDict()
_kept_characters = 0


def _tokenized(tokenizer: Any, text: str) -> list[str]:
    global _kept_characters
    key = (tokenizer, text)
    words = _kept.get(key)
    if words is None:
        words = _kept[key] = tokenizer.word_tokenize(text)
        _kept_characters += len(text)
        while _kept_characters > KEPT_CHARACTERS and len(_kept) > 1:
            (_, old), _ = _kept.popitem(last=False)
            _kept_characters -= len(old)
    else:
        _kept.move_to_end(key)
    return words


FROM_9, FROM_14, FROM_28, FROM_33 = (np.uint64((0x80 - b) * 0x0101010101010101) for b in (9, 14, 28, 33))
"""Added to eight ASCII bytes, they set the highest bit of each that is at least so large."""


@njit(cache=True, nogil=True)
def _split(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of `str.split`."""
    n = len(offsets) - 1
    word_offsets = np.zeros(n + 1, np.int64)
    room = (offsets[n] - offsets[0] + n) // 2 + 1
    start, end = np.empty(room, np.int64), np.empty(room, np.int64)
    w = 0
    for d in range(n):
        i, last = offsets[d], offsets[d + 1]
        inside = False
        while i < last:
            if i + 8 <= last:
                eight = word_at(text, i, 8)
                # Bytes from 0 to 8 and from 14 to 27 are no white space; those from 33 on neither.
                odd = ~(eight + FROM_9) | ((eight + FROM_14) & ~(eight + FROM_28))
                if not (eight | odd) & TOPS:
                    spaces = ~(eight + FROM_33) & TOPS
                    before = spaces << np.uint64(8)
                    if not inside:
                        before |= np.uint64(0x80)
                    edges = spaces ^ before
                    while edges:
                        at = i + bytes_before(edges)
                        if inside:
                            end[w] = at
                            w += 1
                        else:
                            start[w] = at
                        inside = not inside
                        edges &= edges - np.uint64(1)
                    i += 8
                    continue
            b = text[i]
            if b < 0x80:
                after = i + 1
                space = (classes[b] & SPACE) != 0
            else:
                cp, after = decode(text, i)
                space = cp < SIZE and (classes[cp] & SPACE) != 0
            if space:
                if inside:
                    end[w] = i
                    w += 1
                    inside = False
            elif not inside:
                start[w] = i
                inside = True
            i = after
        if inside:
            end[w] = last
            w += 1
        word_offsets[d + 1] = w
    return word_offsets, start[:w], end[:w]

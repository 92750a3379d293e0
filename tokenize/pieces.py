"""The pieces of a SentencePiece model as arrays: a quarter of a million Python objects would take seconds to look at.

In: the bytes of a `ModelProto`. Out: texts, scores and kinds of its pieces, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from .spans import gather, taken

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of pieces."""
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""How protobuf writes the value of a field."""


@dataclass(frozen=True)
class Pieces:
    """The pieces of a model."""

    texts: pa.LargeStringArray
    """As the model has them: a space is U+2581."""
    scores: np.ndarray
    """float32 [n]."""
    kinds: np.ndarray
    """uint8 [n]."""

    @classmethod
    def read(cls, data: bytes) -> Pieces:
        """Those of a `ModelProto` that protobuf itself has read, or written.

        Raises:
            ValueError: it is none, or a piece is not UTF-8.
        """
        buffer = np.frombuffer(data, np.uint8)
        count = _find(buffer, np.empty((0, 2), np.int64))
        spans, scores = np.empty((max(count, 0), 2), np.int64), np.zeros(max(count, 0), np.uint32)
        kinds = np.full(len(spans), NORMAL, np.uint8)
        _find(buffer, spans)
        if count < 0 or _parts(buffer, spans, scores, kinds) < 0:
            raise ValueError("it is not a protobuf of pieces")
        text, offsets = gather(buffer, np.ascontiguousarray(spans[:, 0]), spans[:, 1] - spans[:, 0])
        texts = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))
        texts.validate(full=True)
        return cls(texts, scores.view(np.float32), kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def characters(self) -> np.ndarray:
        """int64 [n]: their lengths."""
        lengths = pc.utf8_length(self.texts)
        return np.frombuffer(lengths.buffers()[1], np.int64)[: len(lengths)]

    @cached_property
    def spelled(self) -> pa.LargeStringArray:
        """What each stands for in a text, with spaces; names of bytes and control pieces stay as they are."""
        return pc.replace_substring(self.texts, "\u2581", " ")

    def numbers(self, *kinds: int) -> list[int]:
        """Of all pieces of some kinds."""
        found: list[int] = np.flatnonzero(np.isin(self.kinds, kinds)).tolist()
        return found

    def named(self, numbers: list[int]) -> list[str]:
        """The texts of some."""
        return [self.texts[number].as_py() for number in numbers]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text of ids, of a model whose encoder `is_lossless`; invalid UTF-8 where a character is cut.

        Raises:
            IndexError: one is no piece's.
        """
        numbers = np.asarray(ids, np.int64)
        texts, kinds = taken(self.texts, numbers).to_pylist(), self.kinds[numbers].tolist()
        return b"".join(
            bytes([int(text[3:-1], 16)])
            if kind == BYTE
            else b""
            if kind == CONTROL
            else text.replace("\u2581", " ").encode()
            for text, kind in zip(texts, kinds, strict=True)
        )


@njit(cache=True, nogil=True)
def _varint(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends; -1: it does not)."""
    value = 0
    for k in range(10):
        if at + k >= end:
            break
        byte = int(data[at + k])
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    return 0, -1


@njit(cache=True, nogil=True)
def _field(data: np.ndarray, at: int, end: int) -> tuple[int, int, int, int]:
    """(number of a field, how it is written, where its value begins, where it ends; -1: it does not)."""
    tag, begin = _varint(data, at, end)
    written = tag & 7
    stop = -1
    if begin >= 0:
        if written == _VARINT:
            _, stop = _varint(data, begin, end)
        elif written == _EIGHT_BYTES:
            stop = begin + 8
        elif written == _FOUR_BYTES:
            stop = begin + 4
        elif written == _LENGTH:
            length, begin = _varint(data, begin, end)
            if begin >= 0 and 0 <= length <= end - begin:
                stop = begin + length
    return tag >> 3, written, begin, stop if stop <= end else -1


@njit(cache=True, nogil=True)
def _find(data: np.ndarray, spans: np.ndarray) -> int:
    """How many pieces there are; -1: this is no message.

    Args:
        spans: int64 [any, 2]: as many as there is room for become where pieces begin and end.
    """
    count, at = 0, 0
    while at < len(data):
        number, written, begin, end = _field(data, at, len(data))
        if end < 0:
            return -1
        if number == 1 and written == _LENGTH:
            if count < len(spans):
                spans[count] = begin, end
            count += 1
        at = end
    return count


@njit(cache=True, nogil=True)
def _parts(data: np.ndarray, spans: np.ndarray, scores: np.ndarray, kinds: np.ndarray) -> int:
    """Of each piece, put its text's span in the place of its own; 0, or -1 where one is no message.

    Args:
        scores: uint32 [n]: become the bits of the scores.
        kinds: uint8 [n].
    """
    for n in range(len(spans)):
        at, end = spans[n]
        spans[n] = at, at
        while at < end:
            number, written, first, last = _field(data, at, end)
            if last < 0:
                return -1
            if number == 1 and written == _LENGTH:
                spans[n] = first, last
            elif number == 2 and written == _FOUR_BYTES:
                bits = np.uint32(0)
                for k in range(4):
                    bits |= np.uint32(data[first + k]) << np.uint32(8 * k)
                scores[n] = bits
            elif number == 3 and written == _VARINT:
                kinds[n] = _varint(data, first, last)[0] & 0xFF
            at = last
    return 0

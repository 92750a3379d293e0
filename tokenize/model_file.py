"""What a SentencePiece `.model` file must be before a loader sees it: the loaders are C++, Rust and code that asserts.

In: the bytes of a protobuf that anyone may have made. Out: the same model, written anew in the one form that every loader
reads alike, without fields that are unknown here.
"""

from __future__ import annotations

import re

import numpy as np
from sentencepiece import sentencepiece_model_pb2 as proto

from ..storage.reading import Misshapen
from .shards import MOST_PIECES

MODEL_BYTES = 64 << 20
"""Gemma's model of 256,000 pieces takes 4 MiB."""
LONGEST_PIECE = 512
"""In characters: reading a model takes time by the square of it."""
MOST_CONTROL = 4096
"""Control pieces: every document is searched for the literals of all of them."""

_BYTE = re.compile("<0x[0-9A-F]{2}>")
_KIND = proto.ModelProto.SentencePiece


def parse_model(data: bytes) -> proto.ModelProto:
    """A model that all loaders can read, and that cannot make one of them crash.

    Raises:
        Misshapen: it is none.
    """
    model = proto.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own class, of a module that moved between its versions
        raise Misshapen("it is not a protobuf of pieces") from error
    model.DiscardUnknownFields()
    _check_pieces(model)
    if model.trainer_spec.model_type not in (1, 2, 3, 4):
        raise Misshapen("it is of no type that SentencePiece has")
    for spec in (model.normalizer_spec, model.denormalizer_spec):
        _check_charsmap(spec.precompiled_charsmap)
    return model


def _check_pieces(model: proto.ModelProto) -> None:
    if not 0 < len(model.pieces) <= MOST_PIECES:
        raise Misshapen(f"it has {len(model.pieces):,} pieces")
    texts = [piece.piece for piece in model.pieces]
    if not all(isinstance(text, str) for text in texts):
        raise Misshapen("a piece is not UTF-8")
    kinds = [piece.type for piece in model.pieces]
    lengths, scores = np.fromiter(map(len, texts), np.int64), np.array([piece.score for piece in model.pieces])
    odd = (lengths == 0) | (lengths > LONGEST_PIECE) | ~np.isfinite(scores)
    if "\0" in "".join(texts):
        odd |= np.array(["\0" in text for text in texts])
    if odd.any():
        raise Misshapen(
            f"piece {int(np.argmax(odd))} is empty, longer than {LONGEST_PIECE} characters, or without a finite score"
        )
    for number, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        named = text.startswith("<0x") and bool(_BYTE.fullmatch(text))
        if named != (kind == _KIND.BYTE) and kind in (_KIND.BYTE, _KIND.NORMAL):
            raise Misshapen(f"piece {number} is not the byte that it should be")
    if len(set(texts)) < len(texts):
        raise Misshapen("two of its pieces are equal")
    if kinds.count(_KIND.UNKNOWN) != 1:
        raise Misshapen("it has not exactly one unknown piece")
    if kinds.count(_KIND.CONTROL) > MOST_CONTROL:
        raise Misshapen(f"it has more than {MOST_CONTROL:,} control pieces")
    if kinds.count(_KIND.BYTE) != (256 if model.trainer_spec.byte_fallback else 0):
        raise Misshapen(f"it has {kinds.count(_KIND.BYTE)} pieces for bytes")


def _check_charsmap(blob: bytes) -> None:
    """The map of a normaliser: the length of a double-array trie, the trie, and the texts that its values point to.

    Not every release of its reader looks where the trie ends: every step from every unit must stay within it.
    """
    if not blob:
        return
    size = int.from_bytes(blob[:4], "little")
    if len(blob) <= 4 or size % 1024 or not 0 < size < len(blob) - 4 or blob[-1]:
        raise Misshapen("the map of its normaliser is damaged")
    units = np.frombuffer(blob, "<u4", size // 4, 4)
    # Layout of darts-clone: a value, or a label (8 bits), whether a value follows (1), and the offset of the next unit (22).
    is_value = units >> 31 == 1
    steps = (units >> 10) << ((units & 0x200) >> 6)
    next_unit = np.arange(len(units), dtype=np.uint32) ^ steps
    texts = len(blob) - 4 - size
    if ((next_unit | 0xFF) >= len(units))[~is_value].any() or ((units & 0x7FFFFFFF) >= texts)[is_value].any():
        raise Misshapen("the map of its normaliser leads outside it")

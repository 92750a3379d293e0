"""What a SentencePiece `.model` file must be before a loader sees it: the loaders are C++, Rust and code that asserts.

In: the bytes of a protobuf that anyone may have made. Out: the same model, written anew in the one form that every loader
reads alike, without fields that are unknown here.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from sentencepiece import sentencepiece_model_pb2 as proto

from ..storage.reading import Misshapen
from .pieces import BYTE, CONTROL, NORMAL, UNKNOWN, Pieces
from .shards import MOST_PIECES
from .spans import flags, taken

MODEL_BYTES = 64 << 20
"""Gemma's model of 256,000 pieces takes 4 MiB."""
LONGEST_PIECE = 512
"""In characters: reading a model takes time by the square of it."""
MOST_CONTROL = 4096
"""Control pieces: every document is searched for the literals of all of them."""


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
    try:
        pieces = Pieces.read(model.SerializeToString())
    except ValueError as error:
        raise Misshapen("a piece is not UTF-8") from error
    texts, kinds, lengths = pieces.texts, pieces.kinds, pieces.characters
    odd = (lengths == 0) | (lengths > LONGEST_PIECE) | ~np.isfinite(pieces.scores)
    odd |= flags(pc.match_substring(texts, "\0"))
    if odd.any():
        raise Misshapen(
            f"piece {int(np.argmax(odd))} is empty, longer than {LONGEST_PIECE} characters, or without a finite score"
        )
    named, six = np.zeros(len(texts), np.bool_), np.flatnonzero(lengths == 6)
    named[six] = flags(pc.match_substring_regex(taken(texts, six), "^<0x[0-9A-F]{2}>$"))
    wrong = (named != (kinds == BYTE)) & ((kinds == BYTE) | (kinds == NORMAL))
    if wrong.any():
        raise Misshapen(f"piece {int(np.argmax(wrong))} is not the byte that it should be")
    if pc.count_distinct(texts).as_py() < len(texts):
        raise Misshapen("two of its pieces are equal")
    count = np.bincount(kinds, minlength=BYTE + 1)
    if count[UNKNOWN] != 1:
        raise Misshapen("it has not exactly one unknown piece")
    if count[CONTROL] > MOST_CONTROL:
        raise Misshapen(f"it has more than {MOST_CONTROL:,} control pieces")
    if count[BYTE] != (256 if model.trainer_spec.byte_fallback else 0):
        raise Misshapen(f"it has {count[BYTE]} pieces for bytes")


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

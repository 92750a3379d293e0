"""Text to ids, exactly as `sentencepiece` gives them, except that a document can never spell a control or reserved id.

Where the pieces of a model allow it, the words of a text are encoded each by itself, by `bpe.py`, and most are not encoded
at all: `word_cache.py` knows their ids. Other models of BPE are encoded by gigatoken, from Arrow buffers, with the same ids
but for one thing: it maps literals of control pieces (`<eos>`, `<s>`) to their ids, while SentencePiece leaves them text.
SentencePiece in turn maps user-defined pieces, among them those of a chat template (`<start_of_turn>`). So documents that
hold such a literal are found first and encoded by SentencePiece; a `reserved` literal is split after its first character, so
that it is encoded as ordinary text.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

from ..storage.reading import read_bounded
from .bpe import WordEncoder, WordTables, serves
from .literals import Literals
from .model import check_specials, load, processor_of, specials
from .pieces import BYTE, CONTROL, UNKNOWN, Pieces
from .spans import gather, taken, text_buffers
from .word_cache import PART_SLOTS, Cuts, WordCache

CONVERTED_BYTES = 1 << 30
"""Of a converted model; that of 256,000 pieces takes 15 MB."""
SPELLS_CONTROL, SPELLS_RESERVED = 1, 2
"""Marks of a document that holds a literal of a control piece, or of a reserved one."""


@dataclass(frozen=True)
class Encoded:
    """Ids of a batch of documents, back to back."""

    ids: np.ndarray
    """int32 [total]."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    with_control: int = 0
    """Documents that held a literal of a control piece."""
    with_reserved: int = 0
    """Documents that held a literal of a reserved piece."""


@dataclass(frozen=True)
class EncoderTables:
    """What an encoder computes of a model's pieces: of 256,000 that takes half a second, or seconds by gigatoken."""

    model: bytes
    """As `parse_model` writes it."""
    control: tuple[str, ...]
    """Control pieces and unk."""
    line_feeds: bool
    """Of the `Cuts` of its words."""
    words: WordTables | None
    """None where words are not encoded each by itself."""
    converted: bytes | None
    """As `Encoder.converted`."""


class Encoder:
    """Encodes batches of documents; adds no BOS or EOS (packing does, at a document's ends).

    Args:
        model: the SentencePiece model.
        reserved: pieces that no document's text may become.
        fast: encode as fast as the model allows; SentencePiece itself encodes models of unigrams, those without byte fallback,
            and others that `bpe.serves` refuses.
        converted: what an encoder of the same model has as `converted`, which takes seconds to make.
        tables: what an encoder of the same model has as `tables`; the model itself is then not read.
    """

    def __init__(
        self,
        model: Path,
        reserved: Sequence[str] = (),
        fast: bool = True,
        converted: bytes | None = None,
        tables: EncoderTables | None = None,
    ) -> None:
        self._processor = processor_of(tables.model) if tables else load(model)
        self.specials = specials(self._processor)
        self.vocab_size = self._processor.vocab_size()
        self._control = tables.control if tables else self._find_control()
        present = [r for r in reserved if self._processor.piece_to_id(r) != self.specials.unk]
        self._literals = Literals(
            [(c.encode(), SPELLS_CONTROL) for c in self._control] + [(r.encode(), SPELLS_RESERVED) for r in present]
        )
        self._reserved = re.compile("|".join(map(re.escape, present))) if present else None
        self.reserved_ids = {r: self._processor.piece_to_id(r) for r in present}
        """Ids of the reserved pieces that the model has."""
        self.prefixed = "".join(self._processor.encode("a", out_type=str)).startswith("▁")
        self._words: WordCache | None = None
        self._fast: Any = None
        self._cuts: Cuts | None = None
        self._word_tables = tables.words if tables else None
        if tables and fast:
            self._cuts = Cuts(tables.line_feeds) if tables.words else None
            self._fast = _gigatoken(self._processor, tables.converted) if tables.converted else None
        elif fast and serves(self._model.trainer_spec, self._pieces):
            if self.is_lossless and (cuts := Cuts.of(self._pieces.texts)):
                self._cuts, self._word_tables = cuts, WordTables.of(self._pieces)
            else:
                self._fast = _gigatoken(self._processor, converted)
        if self._cuts and self._word_tables:
            encode = WordEncoder(self._word_tables, self._processor.encode).encode
            parts = WordCache(encode, self._word_tables.joined, PART_SLOTS)
            self._words = WordCache(parts.encode, self._cuts)

    @functools.cached_property
    def _pieces(self) -> Pieces:
        return Pieces.read(self._processor.serialized_model_proto())

    @functools.cached_property
    def _model(self) -> Any:
        """The `ModelProto` without its pieces."""
        model = proto.ModelProto.FromString(self._processor.serialized_model_proto())
        model.ClearField("pieces")
        return model

    def _find_control(self) -> tuple[str, ...]:
        return tuple(self._pieces.named(self._pieces.numbers(UNKNOWN, CONTROL)))

    @property
    def tables(self) -> EncoderTables:
        """What makes another encoder of the same model without its pieces."""
        model, line_feeds = self._processor.serialized_model_proto(), bool(self._cuts and self._cuts.line_feeds)
        return EncoderTables(model, self._control, line_feeds, self._word_tables, self.converted)

    def id_of(self, piece: str) -> int | None:
        """The id of a piece; None: the model has none such."""
        found = int(self._processor.piece_to_id(piece))
        return found if self._processor.id_to_piece(found) == piece else None

    @property
    def encodes_words(self) -> bool:
        """Whether kernels encode, each word once; they start no thread."""
        return self._words is not None

    @property
    def is_fast(self) -> bool:
        return bool(self._words or self._fast)

    @property
    def converted(self) -> bytes | None:
        """The model in the form that gigatoken loads; None where gigatoken does not encode."""
        data = self._fast._hf_json if self._fast else None
        return data.encode() if isinstance(data, str) else data

    def check_specials(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Raise ValueError where a special piece has another id than `wanted` says."""
        check_specials(self._processor, wanted)

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        """Encode documents in order, without making Python strings of them."""
        if not len(texts):
            return Encoded(np.empty(0, np.int32), np.zeros(1, np.int64))
        marks = self._literals.find(texts)
        if not self.is_fast:
            apart = np.arange(len(texts))
        else:
            apart = np.flatnonzero(marks & SPELLS_RESERVED if self._words else marks)
        counts = (int(np.count_nonzero(marks & SPELLS_CONTROL)), int(np.count_nonzero(marks & SPELLS_RESERVED)))
        if not len(apart):
            found, offsets = self._encode_fast(texts)
            return Encoded(found, offsets, *counts)
        slow = [self._encode_slow(texts[i].as_py(), bool(marks[i] & SPELLS_RESERVED)) for i in apart.tolist()]
        ids = [np.array([i for one in slow for i in one], np.int32)]
        lengths = np.zeros(len(texts), np.int64)
        lengths[apart] = [len(one) for one in slow]
        begins = np.zeros(len(texts), np.int64)
        begins[apart] = np.r_[0, np.cumsum(lengths[apart])[:-1]]
        rest = np.setdiff1d(np.arange(len(texts)), apart, assume_unique=True)
        if len(rest):
            found, offsets = self._encode_fast(taken(texts, rest))
            lengths[rest] = np.diff(offsets)
            begins[rest] = len(ids[0]) + offsets[:-1]
            ids.append(found)
        together, offsets = gather(np.concatenate(ids), begins, lengths)
        return Encoded(together, offsets, *counts)

    @functools.cached_property
    def piece_bytes(self) -> np.ndarray:
        """int64 [vocabulary]: UTF-8 bytes that a piece stands for, a space being one; 0 for control pieces and unk."""
        kinds, (_, bounds) = self._pieces.kinds, text_buffers(self._pieces.spelled)
        return np.where(kinds == BYTE, 1, np.where((kinds == CONTROL) | (kinds == UNKNOWN), 0, np.diff(bounds)))

    @functools.cached_property
    def is_lossless(self) -> bool:
        """Whether ids decode to the text they were made from (except for the character that stands for a space)."""
        spec = self._model.normalizer_spec
        return (
            spec.name == "identity"
            and not spec.precompiled_charsmap
            and not self.prefixed
            and not spec.remove_extra_whitespaces
            and spec.escape_whitespaces
        )

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text of ids, if the model `is_lossless`; invalid UTF-8 where a character is cut."""
        return self._pieces.decode(ids)

    def byte_bounds(self, text: bytes, ids: Sequence[int]) -> list[int]:
        """Where every token of a document's text begins in its UTF-8, and where the last one ends.

        Args:
            ids: what `encode` returns for it.
        """
        bounds, at = [], 0
        for number, i in enumerate(ids):
            bounds.append(at)
            if self._processor.is_byte(i):
                at += 1
                continue
            for k, character in enumerate(self._processor.id_to_piece(i)):
                if character != "▁":
                    at += len(character.encode())
                elif not (self.prefixed and number == k == 0):
                    # A space, unless the text itself contains the character that stands for one.
                    at += 3 if text.startswith(b"\xe2\x96\x81", at) else 1
        return [*bounds, at]

    def _encode_fast(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        if self._words:
            return self._words.encode(texts)
        import awkward

        assert self._fast is not None
        layout = self._fast.encode_batch(awkward.from_arrow(texts, generate_bitmasks=False), parallel=False).layout
        offsets = np.asarray(layout.offsets.data)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return ids.view(np.int32), offsets - offsets[0]

    def _encode_slow(self, text: str, split: bool) -> list[int]:
        if not split:
            ids: list[int] = self._processor.encode(text)
            return ids
        assert self._reserved
        if self.prefixed:
            raise ValueError(
                "reserved pieces need a tokenizer without a dummy prefix; name another one in `tokenizer.model`, or leave "
                "`tokenizer.reserved` empty"
            )
        cuts = [0, *(m.start() + 1 for m in self._reserved.finditer(text)), len(text)]
        return [i for a, b in itertools.pairwise(cuts) for i in self._processor.encode(text[a:b])]


_kept: dict[tuple[str, tuple[str, ...]], Encoder] = {}


def encoder_of(model: Path, model_hash: str, reserved: tuple[str, ...], converted: Path | None = None) -> Encoder:
    """The encoder of the model file with this hash. A process keeps the last one, since 256,000 pieces take a second to load.

    Args:
        converted: a file with what an `Encoder` of it has as `converted`; None: it has none.
    """
    key = (model_hash, reserved)
    if key not in _kept:
        _kept.clear()
        data = read_bounded(converted, CONVERTED_BYTES) if converted else None
        _kept[key] = Encoder(model, reserved, converted=data)
    return _kept[key]


def _gigatoken(processor: sentencepiece.SentencePieceProcessor, converted: bytes | None):  # type: ignore[no-untyped-def]
    """A gigatoken tokenizer for the same model; None where gigatoken is missing or cannot read the model."""
    try:
        import awkward  # noqa: F401
        import gigatoken
    except ImportError:
        return None
    try:
        if converted:
            return gigatoken.Tokenizer.from_json(converted)
        return gigatoken.Tokenizer.from_sentencepiece(processor.serialized_model_proto())
    except (ValueError, RuntimeError, NotImplementedError, KeyError):
        # A model that it cannot read (unigram, or without byte fallback): SentencePiece encodes everything.
        return None

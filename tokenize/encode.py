"""Text to ids, exactly as `sentencepiece` gives them, except that a document can never spell a control or reserved id.

SentencePiece itself never maps text to control pieces (`<eos>`, `<s>`). It does map user-defined pieces, so documents
that hold a literal of a `reserved` piece (those of the chat template) are found and encoded with the literal split
after its first character: it comes out as ordinary text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .model import load, specials


@dataclass(frozen=True)
class Encoded:
    """Ids of a batch of documents, back to back."""

    ids: np.ndarray
    """int32 [total]."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    with_reserved: int
    """Documents that held a reserved literal."""


class Encoder:
    """Encodes batches of documents; adds no BOS or EOS (packing does, at a document's ends)."""

    def __init__(self, model: Path, reserved: Sequence[str] = ()) -> None:
        self._processor = load(model)
        self.specials = specials(self._processor)
        self.vocab_size = self._processor.vocab_size()
        present = [r for r in reserved if self._processor.piece_to_id(r) != self.specials.unk]
        self._reserved = re.compile("|".join(map(re.escape, present))) if present else None
        self._prefixed = bool(self._processor.encode("a", out_type=str)[0].startswith("▁"))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode documents in order."""
        pattern = self._reserved
        split = [i for i, t in enumerate(texts) if pattern.search(t)] if pattern else []
        ids: list[list[int]] = self._processor.encode(list(texts), num_threads=1) if texts else []
        for i in split:
            ids[i] = self._encode_split(texts[i])
        offsets = np.zeros(len(ids) + 1, np.int64)
        offsets[1:] = np.cumsum([len(i) for i in ids])
        flat = np.empty(offsets[-1], np.int32)
        for k, values in enumerate(ids):
            flat[offsets[k] : offsets[k + 1]] = values
        return Encoded(flat, offsets, len(split))

    def _encode_split(self, text: str) -> list[int]:
        assert self._reserved
        if self._prefixed:
            raise ValueError("reserved pieces need a tokenizer without a dummy prefix; empty `tokenizer.reserved`")
        cuts = [0, *(m.start() + 1 for m in self._reserved.finditer(text)), len(text)]
        return [i for a, b in itertools.pairwise(cuts) for i in self._processor.encode(text[a:b])]

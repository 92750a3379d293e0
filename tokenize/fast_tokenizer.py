"""A SentencePiece model as `tokenizer.json`, the format of Hugging Face's `tokenizers`, with the same ids for every text.

In: a parsed model (`model_file.parse_model`) and its special ids. Out: a JSON object; `compare.py` checks it.

- **BPE**: every way to cut a piece into two others is a merge, in the order of scores; of equal ones the leftmost, whose left
  part is shorter.
- **Unigram**: pieces with their scores; those that a text never becomes (control, byte, unused) are made too dear to be taken.
- **User-defined pieces** are found before anything else, the longest first. They are added tokens, unless the model
  puts a space before a text or removes some: `tokenizers` would do so between two added tokens as well. Then they are cut
  out of the normalised text. Unigrams find them by scores that no other way to cut a text reaches.
- **Control pieces** are special tokens. `transformers` turns their literals in a text into their ids, as it does for every
  model, unless `split_special_tokens` is set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .normaliser import SPACE, normaliser_steps, replace

UNIGRAM, BPE, CHARACTER = 1, 2, 4
"""Types of models that can be written."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of pieces."""
_TOO_DEAR = 1000.0
"""How far the scores of pieces that no text becomes lie below all others."""


def fast_tokenizer(model: Any, bos: int | None) -> dict[str, Any]:
    """The contents of `tokenizer.json`.

    Args:
        model: a `ModelProto`.
        bos: the id that every text begins with; None: there is none.

    Raises:
        ValueError: the model splits text into words, which `tokenizers` does otherwise.
    """
    trainer, spec = model.trainer_spec, model.normalizer_spec
    if trainer.model_type not in (UNIGRAM, BPE, CHARACTER):
        raise ValueError("a SentencePiece model of whole words cannot be written as tokenizer.json")
    user_defined = [p.piece for p in model.pieces if p.type == _USER_DEFINED]
    # Between two added tokens, these would be done again.
    whole = spec.add_dummy_prefix or spec.remove_extra_whitespaces
    steps = normaliser_steps(spec, trainer.treat_whitespace_as_suffix)
    unigram = trainer.model_type == UNIGRAM
    cut = bool(user_defined and whole and not unigram)
    # By their scores unigrams find them as well, in a text that nothing has been done to.
    apart = not whole and not (unigram and not spec.precompiled_charsmap)
    added = [(i, p.piece, p.type != _USER_DEFINED) for i, p in enumerate(model.pieces) if _is_added(p, apart)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            # Where nothing but spaces is rewritten, a piece is found in the rewritten text, in which it may hold them.
            _added(i, text, special, not special and not spec.precompiled_charsmap)
            for i, text, special in added
        ],
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": _cutting(_literals(model) if unigram else _longest_first(user_defined) if cut else []),
        "post_processor": _opening(model.pieces[bos].piece, bos) if bos is not None else None,
        "decoder": _decoder(spec),
        "model": _unigram(model) if unigram else _bpe(model, cut),
    }


def _is_added(piece: Any, with_user_defined: bool) -> bool:
    return piece.type in (_CONTROL, _UNKNOWN) or (piece.type == _USER_DEFINED and with_user_defined)


def _added(number: int, text: str, special: bool, normalized: bool) -> dict[str, Any]:
    return {
        "id": number,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": normalized,
        "special": special,
    }


def _cutting(patterns: Sequence[str]) -> dict[str, Any] | None:
    """A pre-tokenizer that cuts what regular expressions match out of a text."""
    if not patterns:
        return None
    return {"type": "Split", "pattern": {"Regex": "|".join(patterns)}, "behavior": "Isolated", "invert": False}


def _longest_first(pieces: Sequence[str]) -> list[str]:
    return [re.escape(p) for p in sorted(pieces, key=lambda p: (-len(p), p))]


def _literals(model: Any) -> list[str]:
    """A character of every piece that no text becomes, in its literal, if the model has no piece for that character.

    To `tokenizers` a character without a piece is dearer than any piece, so that it would take the literal for the piece.
    """
    characters = {p.piece for p in model.pieces if p.type == _NORMAL and len(p.piece) == 1}
    found = []
    for p in model.pieces:
        at = next((k for k, c in enumerate(p.piece) if c not in characters), -1)
        if p.type not in (_NORMAL, _USER_DEFINED) and at >= 0:
            before, here, after = (re.escape(t) for t in (p.piece[:at], p.piece[at], p.piece[at + 1 :]))
            found.append(f"(?<={before}){here}(?={after})" if before else f"{here}(?={after})")
    return found


def _opening(piece: str, number: int) -> dict[str, Any]:
    """A post-processor that puts a special token before every text."""
    token = {"SpecialToken": {"id": piece, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": k}} for k, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [token, first],
        "pair": [token, first, {"SpecialToken": {"id": piece, "type_id": 1}}, second],
        "special_tokens": {piece: {"id": piece, "ids": [number], "tokens": [piece]}},
    }


def _decoder(spec: Any) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _bpe(model: Any, cut: bool) -> dict[str, Any]:
    character = model.trainer_spec.model_type == CHARACTER
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": next(p.piece for p in model.pieces if p.type == _UNKNOWN),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.trainer_spec.byte_fallback,
        # A user-defined piece that was cut out of a text is looked up as it is: no merges lead to it.
        "ignore_merges": cut,
        "vocab": {p.piece: i for i, p in enumerate(model.pieces)},
        "merges": [] if character else _merges(model.pieces),
    }


def _merges(pieces: Sequence[Any]) -> list[tuple[str, str]]:
    """Every two pieces that form a third one, best first."""
    known = {p.piece for p in pieces if p.type in (_NORMAL, _UNUSED)}
    by_score = sorted((p for p in pieces if p.type in (_NORMAL, _UNUSED)), key=lambda p: -p.score)
    return [
        (p.piece[:k], p.piece[k:])
        for p in by_score
        for k in range(1, len(p.piece))
        if p.piece[:k] in known and p.piece[k:] in known
    ]


def _unigram(model: Any) -> dict[str, Any]:
    scores = [p.score for p in model.pieces if p.type == _NORMAL]
    least, most = min(scores, default=0.0), max(scores, default=0.0)

    def score(piece: Any) -> float:
        if piece.type == _USER_DEFINED:
            return float(len(piece.piece.encode()) * most - 0.1)  # as SentencePiece does
        return float(piece.score) if piece.type == _NORMAL else least - _TOO_DEAR

    return {
        "type": "Unigram",
        "unk_id": next(i for i, p in enumerate(model.pieces) if p.type == _UNKNOWN),
        "vocab": [[p.piece, score(p)] for p in model.pieces],
        "byte_fallback": model.trainer_spec.byte_fallback,
    }

"""Ids are SentencePiece's, whatever the pieces: scores in no order, or equal ones, pieces that nothing forms, and long ones."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fox1.tokenize.bpe import _NEAR, LONGEST, WordTables
from fox1.tokenize.encode import Encoder
from fox1.tokenize.literals import Literals
from fox1.tokenize.pieces import Pieces
from fox1.tokenize.spans import text_array
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as proto

LETTERS = "abcé中"


def model_of(pieces: list[tuple[str, float]], defined: tuple[str, ...] = ()) -> proto.ModelProto:
    """A model of bytes, the characters of its pieces, and some pieces with their scores."""
    model = proto.ModelProto()
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = 2, True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = False
    model.pieces.add(piece="<unk>", type=2)
    for name in ("<s>", "</s>"):
        model.pieces.add(piece=name, type=3)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", type=6)
    for piece in defined:
        model.pieces.add(piece=piece, type=4)
    scores = dict(pieces) | {"\u2581": -1e6} | {character: -1e6 for piece, _ in pieces for character in piece}
    for piece, score in scores.items():
        if piece not in defined:
            model.pieces.add(piece=piece, score=score, type=1)
    return model


def check(model: proto.ModelProto, texts: list[str]) -> Encoder:
    """Whether the ids are SentencePiece's; the encoder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.model")
        path.write_bytes(model.SerializeToString())
        encoder = Encoder(path)
    assert encoder.encodes_words
    encoded = encoder.encode(text_array(texts))
    each = encoder._processor.encode(texts)
    assert encoded.ids.tolist() == [i for ids in each for i in ids]
    assert encoded.offsets.tolist() == np.cumsum([0, *map(len, each)]).tolist()
    return encoder


WORDS = st.text(LETTERS, min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.integers(-9, 0).map(float)), max_size=25, unique_by=lambda one: one[0]),
    st.lists(st.text(LETTERS + " x", max_size=40), max_size=5),
    st.lists(st.one_of(st.just("x"), st.text(LETTERS, min_size=2, max_size=5)), max_size=3, unique=True),
)
def test_ids_are_those_of_sentencepiece(pieces: list[tuple[str, float]], texts: list[str], defined: list[str]) -> None:
    check(model_of(pieces, tuple(defined)), texts)


def test_more_pieces_than_stand_in_the_first_slots() -> None:
    letters, rng = "abcdefghijklmnopqrstuvwxyz", random.Random(5)
    pieces = ["".join(p) for size in (2, 3) for p in itertools.product(letters, repeat=size)]
    rng.shuffle(pieces)
    assert len(pieces) > _NEAR // 2
    model = model_of([(piece, -float(number)) for number, piece in enumerate(sorted(pieces, key=len))])
    check(
        model, [" ".join("".join(rng.choices(letters, k=rng.randrange(1, 30))) for _ in range(300)) for _ in range(5)]
    )


def test_spaces_that_become_no_piece_of_their_own_are_left_to_sentencepiece(tmp_path: Path) -> None:
    without, kept = model_of([("ab", -1.0)]), model_of([("ab", -1.0)])
    del without.pieces[next(i for i, p in enumerate(without.pieces) if p.piece == "\u2581")]
    kept.normalizer_spec.escape_whitespaces = False
    texts = ["ab ab", " ", "a\u2581b"]
    for model in (without, kept):
        (tmp_path / "t.model").write_bytes(model.SerializeToString())
        encoder = Encoder(tmp_path / "t.model")
        assert not encoder.encodes_words
        each = encoder._processor.encode(texts)
        assert encoder.encode(text_array(texts)).ids.tolist() == [i for ids in each for i in ids]


def tables(pieces: list[tuple[str, float]]) -> tuple[WordTables, list[str]]:
    model = model_of(pieces)
    return WordTables.of(Pieces.read(model.SerializeToString())), [p.piece for p in model.pieces]


def test_a_piece_is_formed_by_the_one_pair_that_its_own_text_comes_to() -> None:
    ordered = [("ab", -1.0), ("bc", -2.0), ("abc", -3.0), ("cd", -4.0), ("abcd", -5.0), ("bcd", -6.0), ("acx", -7.0)]
    found, names = tables(ordered)
    formed = {}
    for entry in found.pairs[found.pairs != 0].tolist():
        first, second, piece = entry >> 42, entry >> 21 & (1 << 21) - 1, (entry & (1 << 21) - 1) - 1
        formed[names[piece]] = (names[first], names[second])
    # Each once, however a piece could be cut; nothing comes to "acx".
    assert formed == {
        "ab": ("a", "b"),
        "bc": ("b", "c"),
        "cd": ("c", "d"),
        "abc": ("ab", "c"),
        "abcd": ("abc", "d"),
        "bcd": ("bc", "d"),
    }
    check(model_of(ordered), ["abcd bcd acx aabcdd cdcdab"])


def test_ranks_are_kept_only_where_pieces_do_not_lie_in_their_order() -> None:
    descending = [("ab", -1.0), ("abc", -2.0)]
    model = model_of(descending)
    assert len(tables(descending)[0].rank) == 0
    assert len(tables([("ab", -1.0), ("abc", -1.0)])[0].rank) == len(model.pieces)
    assert len(tables([("abc", -2.0), ("ab", -1.0)])[0].rank) == len(model.pieces)


@pytest.mark.parametrize("length", [LONGEST // 2 - 1, LONGEST // 2, LONGEST // 2 + 1, 3 * LONGEST])
def test_long_words_and_pieces(length: int) -> None:
    doubled = ["a" * 2**k for k in range(1, 10)]
    pieces = [(piece, -float(k)) for k, piece in enumerate(doubled)]
    check(model_of(pieces), ["a" * length, "é" * length, "a" * (2 * length) + " " + "中" * length])


def test_literals_are_found_by_their_first_two_bytes_or_by_the_only_one() -> None:
    literals = Literals([(b"ab", 1), (b"abc", 2), (b"a", 4), (b"\n", 8), ("é".encode(), 16), (b"", 32)])
    texts = ["ab", "abc", "a", "xa", "ba\n", "é", "\u00e8", "", "bca"]
    assert literals.find(text_array(texts)).tolist() == [5, 7, 4, 4, 12, 16, 0, 0, 4]

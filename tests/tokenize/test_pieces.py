"""Pieces as arrays are those that protobuf reads, whatever else a model holds and however it is written."""

from __future__ import annotations

import numpy as np
import pytest
from fox1.tokenize.pieces import CONTROL, USER_DEFINED, Pieces
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as proto

PIECES = st.lists(
    st.fixed_dictionaries(
        {"piece": st.text(st.characters(exclude_categories=["Cs"]), max_size=9)},
        optional={"score": st.floats(width=32, allow_nan=False), "type": st.integers(1, 6)},
    ),
    max_size=20,
)


@given(PIECES, st.binary(max_size=40), st.integers(0, 2**31 - 1))
def test_they_are_what_protobuf_reads(pieces: list[dict[str, object]], charsmap: bytes, size: int) -> None:
    model = proto.ModelProto(
        pieces=pieces,
        trainer_spec={"vocab_size": size, "model_prefix": "\x0a\x03", "character_coverage": 0.5},
        normalizer_spec={"precompiled_charsmap": charsmap},
    )
    found = Pieces.read(model.SerializeToString())
    assert found.texts.to_pylist() == [p.piece for p in model.pieces]
    assert found.scores.tolist() == [p.score for p in model.pieces] and found.scores.dtype == np.float32
    assert found.kinds.tolist() == [p.type for p in model.pieces]
    assert found.characters.tolist() == [len(p.piece) for p in model.pieces]
    assert found.spelled.to_pylist() == [p.piece.replace("\u2581", " ") for p in model.pieces]
    numbers = found.numbers(CONTROL, USER_DEFINED)
    assert numbers == [i for i, p in enumerate(model.pieces) if p.type in (CONTROL, USER_DEFINED)]
    assert found.named(numbers) == [model.pieces[i].piece for i in numbers]


@given(PIECES, st.data())
def test_damage_is_an_error_or_what_protobuf_reads(pieces: list[dict[str, object]], data: st.DataObject) -> None:
    whole = proto.ModelProto(pieces=pieces).SerializeToString()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Pieces.read(bytes(damaged))
    except ValueError:
        return
    assert len(found) <= len(damaged) and len(found.texts) == len(found.kinds) == len(found.scores)


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0a\x02\x0a\x05", b"\xff" * 11, b"\x0b"],
)
def test_what_is_no_model_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no"):
        Pieces.read(data)


def test_half_a_character_is_an_error() -> None:
    with pytest.raises(ValueError, match="UTF8"):
        Pieces.read(b"\x0a\x03\x0a\x01\xc3")

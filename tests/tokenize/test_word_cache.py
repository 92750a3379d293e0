"""Words, each encoded by itself and then known: the ids of SentencePiece, whatever the text and wherever it is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.tokenize.bpe import WordEncoder, serves
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import TokenizerSettings, train
from fox1.tokenize.pieces import Pieces
from fox1.tokenize.spans import text_array
from fox1.tokenize.word_cache import Cuts, WordCache
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as proto

TEXT = ["The quick  brown fox\n\njumps over 12 lazy dogs;\n\tsaid he, being \u00e9l\u00e8ve\n"] * 200
WORDS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    "\t",
    "\u2581",
    "\u2581 ",
    "a\u2581",
    "\0",
    "a",
    "the",
    "quick",
    "<b>",
    "quui",
    "ex",
    "\u65e5\u672c\u8a9e",
    "\U0001f600",
]
WORDS += ["x" * n for n in (7, 8, 9, 14, 15, 16, 17, 63, 64, 65, 200)] + ["y" * 15 + "\0", "y" * 15]


@pytest.fixture(scope="module", params=["gemma", "no_line_feeds", "defined"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    data = train((f"{t}{i}" for i, t in enumerate(TEXT)), TokenizerSettings(vocab_size=400))
    model = proto.ModelProto()
    model.ParseFromString(data)
    if request.param == "no_line_feeds":
        # Line feeds that a merge may reach, and a piece that a cut before them would lose.
        for piece in model.pieces:
            piece.type = 1 if not piece.piece.strip("\n") else piece.type
        model.pieces.add(piece=";\n", score=-0.5, type=1)
        data = model.SerializeToString()
    if request.param == "defined":
        # Pieces that are found before anything is merged: runs of spaces, a tag, and some that overlap each other and words.
        for piece in ("\u2581\u2581", "\u2581\u2581\u2581\u2581", "<b>", "qu", "ui", "ex", "\u65e5"):
            if piece not in {p.piece for p in model.pieces}:
                model.pieces.add(piece=piece, type=4)
        data = model.SerializeToString()
    path.write_bytes(data)
    return Encoder(path)


def whole(encoder: Encoder, texts: pa.LargeStringArray) -> tuple[list[int], list[int]]:
    each = encoder._processor.encode(texts.to_pylist())
    return [i for ids in each for i in ids], np.cumsum([0, *map(len, each)]).tolist()


def test_pieces_say_where_a_text_may_be_cut() -> None:
    def cuts(*pieces: str) -> Cuts | None:
        return Cuts.of(text_array(pieces))

    assert cuts("\u2581the", "\u2581\u2581", "a", "\n", "\n\n") == Cuts(line_feeds=True)
    assert cuts("\u2581the", "a\n") == Cuts(line_feeds=False) == cuts("\n\u2581"[::-1])
    assert cuts("of\u2581the") is None and cuts("\u2581of\u2581") is None and cuts("of the") is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=9)), max_size=30).map("".join), max_size=6))
def test_ids_are_those_of_whole_texts(encoder: Encoder, texts: list[str]) -> None:
    array = pa.array(["before", *texts], pa.large_string())[1:]
    assert encoder._words is not None
    expected = whole(encoder, array) if texts else ([], [0])
    assert encoder._word_tables is not None
    words = WordEncoder(encoder._word_tables, encoder._processor.encode)
    parts = WordCache(words.encode, encoder._word_tables.joined, slots=16, segment=5)
    small = WordCache(parts.encode, encoder._cuts, slots=16, segment=5)
    for cache in (encoder._words, small, small):
        ids, offsets = cache.encode(array)
        assert (ids.tolist(), offsets.tolist()) == expected


def test_line_feeds_are_cut_only_where_no_piece_joins_them(encoder: Encoder) -> None:
    assert encoder._words is not None
    joins = any(
        p not in ("", "\n") and "\n" in p and p.strip("\n")
        for p in map(encoder._processor.id_to_piece, range(encoder.vocab_size))
    )
    assert encoder._cuts == Cuts(line_feeds=not joins)
    ids, _ = encoder._words.encode(pa.array(["dogs;\n said"], pa.large_string()))
    assert (encoder._processor.piece_to_id(";\n") in ids.tolist()) == joins


def test_words_are_cut_between_characters_that_no_piece_has_side_by_side(encoder: Encoder) -> None:
    assert encoder._words is not None and encoder._word_tables is not None
    joined = encoder._word_tables.joined
    pieces = Pieces.read(encoder._processor.serialized_model_proto())
    for first, second in ("th", "e,", " t", "s;", "12", "\n\n", "<b", ";\n"):
        held = [t for t, k in zip(pieces.spelled.to_pylist(), pieces.kinds, strict=True) if k in (1, 4)]
        assert joined[ord(first), ord(second)] == any(first + second in text for text in held)
    asked: list[str] = []

    def encode(words: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        asked.extend(words.to_pylist())
        return WordEncoder(tables, encoder._processor.encode).encode(words)

    tables = encoder._word_tables
    parts = WordCache(encode, joined)
    texts = pa.array(["dogs;", " dogs", "dogs;;", "dogs;\u00e9"], pa.large_string())
    ids, offsets = parts.encode(texts)
    assert (ids.tolist(), offsets.tolist()) == whole(encoder, texts)
    assert "dogs" in asked and asked.count("dogs") == len([a for a in asked if "dogs" in a and a[0] == "d"]) == 1


def test_words_that_were_met_again_are_not_forgotten(encoder: Encoder) -> None:
    assert encoder._words is not None
    asked: list[str] = []
    inner = encoder._words._encode

    def encode(words: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        asked.extend(words.to_pylist())
        return inner(words)

    cache = WordCache(encode, encoder._cuts, slots=256, segment=32)
    often = [" fox", f" {'long' * 7}", " 12"]
    texts = pa.array(["".join([*often, f" new{number}"]) for number in range(2000)], pa.large_string())
    ids, offsets = cache.encode(texts)
    assert (ids.tolist(), offsets.tolist()) == whole(encoder, texts)
    assert [asked.count(word) for word in often] == [1, 1, 1] and asked.count(" new7") == 1
    cache.encode(pa.array([" new7", " fox"], pa.large_string()))
    assert asked.count(" new7") == 2 and asked.count(" fox") == 1


def test_words_of_one_hash_are_told_apart_by_their_bytes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """All words of sixteen bytes and more are taken for one that was seen, unless their bytes are compared."""
    assert encoder._words is not None
    cache = WordCache(encoder._words._encode, encoder._cuts, slots=64, segment=16)
    cache.encode(pa.array(["z" * 20], pa.large_string()))
    used = np.flatnonzero(cache._table[2::3])
    other = WordCache(encoder._words._encode, encoder._cuts, slots=64, segment=16)
    other.encode(pa.array(["q" * 20], pa.large_string()))
    there = np.flatnonzero(other._table[2::3])
    # The other word's hash and slot, with the bytes of the first.
    cache._table[3 * there[0] : 3 * there[0] + 3] = cache._table[3 * used[0] : 3 * used[0] + 3]
    cache._table[3 * there[0]] = other._table[3 * there[0]]
    text = pa.array(["q" * 20, "z" * 20], pa.large_string())
    ids, offsets = cache.encode(text)
    assert (ids.tolist(), offsets.tolist()) == whole(encoder, text)


def test_a_model_whose_pieces_hold_spaces_has_no_cache(tmp_path: Path) -> None:
    model = proto.ModelProto()
    model.ParseFromString(train((f"{t}{i}" for i, t in enumerate(TEXT)), TokenizerSettings(vocab_size=400)))
    model.pieces.add(piece="of\u2581the", score=-9.0, type=1)
    (tmp_path / "t.model").write_bytes(model.SerializeToString())
    assert Encoder(tmp_path / "t.model")._words is None


def changed(path: Path, change: Callable[[Any], object]) -> Encoder:
    """An encoder of a model that was changed."""
    model = proto.ModelProto()
    model.ParseFromString(train((f"{t}{i}" for i, t in enumerate(TEXT)), TokenizerSettings(vocab_size=400)))
    assert serves(model.trainer_spec, Pieces.read(model.SerializeToString()))
    change(model)
    path.write_bytes(model.SerializeToString())
    return Encoder(path)


MIXED = pa.array(["the \u4e2d\u6587 fox", "  quick", ""], pa.large_string())


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.pieces.add(piece="\u4e2d\u6587", score=-9.0, type=1),
        lambda model: setattr(next(p for p in model.pieces if p.piece == "\u2581fox"), "type", 5),
    ],
    ids=["characters that are no pieces", "unused pieces"],
)
def test_what_only_sentencepiece_encodes_right_is_left_to_it(tmp_path: Path, change: Callable[[Any], object]) -> None:
    encoder = changed(tmp_path / "t.model", change)
    assert not encoder.is_fast
    encoded = encoder.encode(MIXED)
    assert (encoded.ids.tolist(), encoded.offsets.tolist()) == whole(encoder, MIXED)


def test_a_model_with_a_prefix_is_encoded_from_its_converted_form(tmp_path: Path) -> None:
    encoder = changed(tmp_path / "t.model", lambda model: setattr(model.normalizer_spec, "add_dummy_prefix", True))
    assert encoder._words is None and encoder.is_fast and encoder.converted
    for one in (encoder, Encoder(tmp_path / "t.model", converted=encoder.converted)):
        encoded = one.encode(MIXED)
        assert (encoded.ids.tolist(), encoded.offsets.tolist()) == whole(encoder, MIXED)

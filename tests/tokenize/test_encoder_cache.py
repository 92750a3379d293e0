"""Encoders from tables on disk: the ids are the same, and nothing is computed twice."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.tokenize import encode, encoder_cache
from fox1.tokenize.bpe import WordTables
from fox1.tokenize.encode import Encoder
from fox1.tokenize.encoder_cache import kept_encoder
from sentencepiece import sentencepiece_model_pb2 as proto

TEXTS = pa.array(
    ["What does the fox say?", "", " \n\n user 123 <eos>", "\u5317\u4eac \u2581 x", "<start_of_turn>user"],
    pa.large_string(),
)


@pytest.fixture(params=["words", "gigatoken", "slow"])
def model(
    request: pytest.FixtureRequest, chat_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A model of each way to encode, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoder_cache._of_file.cache_clear()
    changed = proto.ModelProto()
    changed.ParseFromString(chat_tokenizer.read_bytes())
    if request.param == "gigatoken":
        pytest.importorskip("gigatoken")
        changed.normalizer_spec.add_dummy_prefix = True
    if request.param == "slow":
        changed.pieces[-1].type = 5  # unused
    path = tmp_path / "tokenizer.model"
    path.write_bytes(changed.SerializeToString())
    encoder = Encoder(path)
    assert (bool(encoder._words), bool(encoder._fast)) == (request.param == "words", request.param == "gigatoken")
    return path


def ids(encoder: Encoder) -> list[int]:
    found: list[int] = encoder.encode(TEXTS).ids.tolist()
    return found


def test_an_encoder_from_its_tables_gives_the_same_ids(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, expected = kept_encoder(model), ids(Encoder(model))
    assert ids(made) == expected
    encoder_cache._of_file.cache_clear()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the pieces are read again")

    monkeypatch.setattr(WordTables, "of", refuse)
    monkeypatch.setattr(encode, "serves", refuse)
    monkeypatch.setattr(encode, "load", refuse)
    read = kept_encoder(model)
    assert read is not made and ids(read) == expected and read.is_fast == made.is_fast
    for a, b in (
        zip(*(vars(e.tables.words or object).values() for e in (read, made)), strict=True) if made._words else ()
    ):
        assert np.array_equal(a, b)
    assert [getattr(read.tables, f.name) for f in fields(read.tables) if f.name != "words"] == [
        getattr(made.tables, f.name) for f in fields(made.tables) if f.name != "words"
    ]
    assert (read.id_of("<eos>"), read.id_of("<none>"), read.vocab_size) == (1, None, made.vocab_size)


def test_damaged_tables_are_made_again_and_the_oldest_go(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ids(kept_encoder(model))
    (path,) = (tmp_path / "cache" / "fox1").rglob("*.npz")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"model.npy", b"other.npy")):
        path.write_bytes(damaged)
        encoder_cache._of_file.cache_clear()
        assert ids(kept_encoder(model)) == expected
        assert len(path.read_bytes()) == len(whole)
    monkeypatch.setattr(encoder_cache, "MOST_MODELS", 1)
    old = path.with_name("old.npz")
    path.rename(old)
    encoder_cache._of_file.cache_clear()
    assert ids(kept_encoder(model)) == expected
    assert len(list(path.parent.iterdir())) == 1


def test_where_nothing_can_be_kept_the_encoder_is_made(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_cache, "cache_folder", lambda name: "/dev/null")
    assert ids(kept_encoder(model)) == ids(Encoder(model))


def test_a_changed_file_is_another_model(chat_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tokenizer.model"
    path.write_bytes(chat_tokenizer.read_bytes())
    before = kept_encoder(path)
    assert kept_encoder(path) is before
    changed = proto.ModelProto()
    changed.ParseFromString(path.read_bytes())
    del changed.pieces[-1]
    path.write_bytes(changed.SerializeToString())
    assert kept_encoder(path).vocab_size == before.vocab_size - 1

"""A SentencePiece model of anyone is loaded, or refused in one line; no loader crashes on it."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sentencepiece
from fox1.storage.reading import Misshapen
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import count_pieces, load, specials
from fox1.tokenize.model_file import LONGEST_PIECE, MODEL_BYTES, MOST_CONTROL, parse_model
from sentencepiece import sentencepiece_model_pb2 as proto

from tests.fuzz.cases import damage

TEXT = ["Hello wörld ﬁ ½ \u3000 <eos> ▁ \u1100\u1161\u11a8 the fox and a hound", "", "\U0001f600" * 20]


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """Small models of two kinds and two normalisers."""
    rng, made = random.Random(1), {}
    words = "the fox and a hound that have been to the river with all of their friends".split()
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(60)]
    for kind, rule in (("bpe", "identity"), ("bpe", "nmt_nfkc"), ("unigram", "nmt_nfkc_cf")):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type=kind,
            vocab_size=300 if kind == "bpe" else 40,
            byte_fallback=kind == "bpe",
            normalization_rule_name=rule,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            minloglevel=2,
        )
        made[f"{kind} {rule}"] = out.getvalue()
    return made


def use(data: bytes, path: Path) -> None:
    """Do all that is done with a model."""
    path.write_bytes(data)
    processor = load(path)
    count_pieces(processor)
    specials(processor)
    encoder = Encoder(path)
    encoder.encode(pa.array(TEXT, pa.large_string()))
    ids = list(range(encoder.vocab_size))
    assert encoder.piece_bytes.shape == (len(ids),) and encoder.is_lossless is not None
    encoder.byte_bounds(encoder.decode(ids), ids)


def changed(data: bytes, change: Callable[[Any], object]) -> bytes:
    model = proto.ModelProto()
    model.ParseFromString(data)
    change(model)
    return bytes(model.SerializeToString())


def test_models_of_every_kind_are_read_as_they_are(models: dict[str, bytes], tmp_path: Path) -> None:
    for data in models.values():
        use(data, tmp_path / "m.model")
        plain = sentencepiece.SentencePieceProcessor(model_proto=data)
        assert load(tmp_path / "m.model").encode(TEXT) == plain.encode(TEXT)


def _map(model: Any) -> bytearray:
    return bytearray(model.normalizer_spec.precompiled_charsmap)


def _lead_outside(model: Any) -> None:
    blob = _map(model)
    blob[8:12] = b"\xff\xff\xff\x7f"  # a step of two million units
    model.normalizer_spec.precompiled_charsmap = bytes(blob)


def _point_outside(model: Any) -> None:
    blob = _map(model)
    blob[8:12] = b"\xff\xff\xff\xff"  # a text at two thousand million
    model.normalizer_spec.precompiled_charsmap = bytes(blob)


def _cut(model: Any) -> None:
    model.normalizer_spec.precompiled_charsmap = bytes(_map(model)[:-1])


HOSTILE: dict[str, tuple[Callable[[Any], object], str]] = {
    "a score that is no number": (lambda m: setattr(m.pieces[9], "score", float("nan")), "without a finite score"),
    "an empty piece": (lambda m: setattr(m.pieces[9], "piece", ""), "is empty"),
    "a long piece": (lambda m: setattr(m.pieces[9], "piece", "a" * (LONGEST_PIECE + 1)), "longer than"),
    "a piece with NUL": (lambda m: setattr(m.pieces[290], "piece", "a\0b"), "is empty"),
    "two equal pieces": (lambda m: setattr(m.pieces[290], "piece", m.pieces[291].piece), "two of its pieces are equal"),
    "two unknown pieces": (lambda m: setattr(m.pieces[290], "type", 2), "exactly one unknown"),
    "a byte that is none": (lambda m: setattr(m.pieces[9], "piece", "<0xZZ>"), "not the byte"),
    "255 bytes": (lambda m: setattr(m.pieces[9], "type", 4), "255 pieces for bytes"),
    "thousands of control pieces": (
        lambda m: [m.pieces.add(piece=f"<c{i}>", type=3) for i in range(MOST_CONTROL + 1)],
        "control pieces",
    ),
    "no pieces": (lambda m: m.ClearField("pieces"), "0 pieces"),
    "a map that leads outside itself": (_lead_outside, "leads outside"),
    "a map that points outside itself": (_point_outside, "leads outside"),
    "a map without an end": (_cut, "is damaged"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_model_is_refused_in_one_line(what: str, models: dict[str, bytes], tmp_path: Path) -> None:
    change, says = HOSTILE[what]
    (tmp_path / "m.model").write_bytes(changed(models["bpe nmt_nfkc"], change))
    with pytest.raises(ValueError, match=f"m.model is not a SentencePiece model .*{says}") as caught:
        load(tmp_path / "m.model")
    assert str(caught.value).isprintable()


def test_fields_that_loaders_read_differently_are_gone(models: dict[str, bytes]) -> None:
    """gigatoken reads the raw protobuf, and asserts where a field has another type."""
    data = models["bpe identity"]
    # A piece whose score is a varint, whose type is a text, and a field that nobody knows.
    extra = b"\x0a\x09\x0a\x02zz\x10\x01\x1a\x01x\xfa\x7f\x02hi"
    model = parse_model(data + extra)
    assert model.pieces[-1].piece == "zz" and len(model.SerializeToString()) < len(data + extra)


def test_no_file_that_is_no_model_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MODEL_BYTES + 1)
    for name, says in (("pipe", "not a regular file"), ("large", "larger than 64 MiB")):
        with pytest.raises(ValueError, match=f"cannot read the tokenizer model .*{name}: it is {says}"):
            load(tmp_path / name)


def test_damaged_models_are_used_or_refused(models: dict[str, bytes], tmp_path: Path) -> None:
    rng, refused = random.Random(5), 0
    for number in range(120):
        data = damage(rng.choice(list(models.values())), rng, 1 + number % 3)
        try:
            use(data, tmp_path / "m.model")
        except ValueError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1 and not isinstance(error, Misshapen)
    assert refused

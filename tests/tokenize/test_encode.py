"""Tokenizer: trained of Gemma's kind, encoding as sentencepiece does, control ids out of reach of any text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import sentencepiece
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import TokenizerSettings, check_specials, count_pieces, load, specials, train
from fox1.tokenize.pieces import Pieces
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = ["The quick brown fox jumps over the lazy dog 1234 times.\n\n    indented\tcode\n"] * 200
SETTINGS = TokenizerSettings(vocab_size=400)


def array(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    path.write_bytes(train((f"{t}{i}" for i, t in enumerate(TEXT)), SETTINGS))
    return path


def test_special_ids_are_gemmas(model: Path) -> None:
    found = specials(load(model))
    assert (found.pad, found.eos, found.bos, found.unk) == (0, 1, 2, 3)


def test_training_is_deterministic() -> None:
    assert train(TEXT, SETTINGS) == train(TEXT, SETTINGS)


def test_text_that_cannot_be_read_is_not_too_little_text() -> None:
    def texts() -> Iterator[str]:
        yield TEXT[0]
        raise PermissionError(13, "Permission denied", "a.jsonl")

    with pytest.raises(PermissionError, match=r"a\.jsonl"):
        train(texts(), SETTINGS)


def test_digits_are_split_and_white_space_is_kept(model: Path) -> None:
    processor = load(model)
    assert processor.decode(processor.encode("a  b\n\n\tc ")) == "a  b\n\n\tc "
    pieces = processor.encode("12345", out_type=str)
    assert [p for p in pieces if p.strip("▁")] == list("12345")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=60), max_size=5)
)
def test_ids_equal_sentencepiece_and_decode_to_the_text(model: Path, texts: list[str]) -> None:
    encoder, reference = Encoder(model), load(model)
    encoded = encoder.encode(array(texts))
    for i, text in enumerate(texts):
        ids = encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()
        assert ids == reference.encode(text)
        # SentencePiece writes a space as U+2581, and cannot tell the two apart again.
        assert reference.decode(ids) == text.replace("\u2581", " ")


HARD = [
    "",
    " ",
    "   leading and trailing   ",
    "\t\ttabs\t and \r\n line ends \r \n\n\n\n\n\n\n\n\n\n\n\n",
    "😀👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 é \u200b\u00a0\ufeff\u2028",
    "日本語のテキスト 中文 한국어 ไทย",
    "مرحبا بالعالم שלום עולם",
    "\x01\x02\x7f\ufffd\U0010ffff\U000e0001",
    "<0x41><0xFF> </s><s>[INST] <unused0> <pad >",
    "a\u2581b \u2581",
    "123456789012345678901234567890 3.14159 1e-5",
    "<<<<<<eos>>>>>> <eos<eos>> <e os>",
]


def test_ids_of_hard_texts_equal_sentencepiece(model: Path) -> None:
    encoder, reference = Encoder(model), load(model)
    assert encoder.is_fast
    encoded = encoder.encode(array(HARD * 3))
    for i, text in enumerate(HARD * 3):
        ids = encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()
        assert ids == reference.encode(text), text
        assert reference.decode(ids) == text.replace("\u2581", " ")
    assert encoded.with_control == 3 * sum("<eos>" in t for t in HARD)


@pytest.mark.slow
def test_a_line_of_50_megabytes_equals_sentencepiece(model: Path) -> None:
    unit, times = "The quick brown fox 1234, \u65e5\u672c ", 1_600_000
    encoded = Encoder(model).encode(array(["before", unit * times, "after"]))
    ids = encoded.ids[encoded.offsets[1] : encoded.offsets[2]]
    assert len(unit.encode()) * times > 50_000_000
    # No piece crosses a space, so the ids repeat as the text does; sentencepiece itself takes twenty seconds for the line.
    reference = load(model)
    first, three = reference.encode(unit), reference.encode(unit * 3)
    period = (len(three) - len(first)) // 2
    assert three == first + three[-period:] * 2
    assert ids[: len(first)].tolist() == first
    assert (ids[len(first) :].reshape(times - 1, period) == three[-period:]).all()


def test_a_slice_of_an_array_is_what_it_holds(model: Path) -> None:
    whole, part = array(["no", "one <eos>", "two", "three <start_of_turn>", "no"]), Encoder(model, SETTINGS.reserved)
    found, alone = part.encode(whole.slice(1, 3)), part.encode(array(whole.slice(1, 3).to_pylist()))
    assert found.ids.tolist() == alone.ids.tolist() and found.offsets.tolist() == alone.offsets.tolist()
    assert (found.with_control, found.with_reserved) == (1, 1)


def test_without_gigatoken_sentencepiece_encodes_all(model: Path) -> None:
    slow, fast = Encoder(model, SETTINGS.reserved, fast=False), Encoder(model, SETTINGS.reserved)
    assert not slow.is_fast
    assert slow.encode(array(HARD)).ids.tolist() == fast.encode(array(HARD)).ids.tolist()


def test_a_model_with_other_special_ids_is_refused(model: Path) -> None:
    check_specials(load(model), (("pad", 0), ("eos", 1), ("bos", 2), ("unk", 3)))
    with pytest.raises(ValueError, match="bos is 2, the recipe says 1; eos is 1, the recipe says 2"):
        check_specials(load(model), (("bos", 1), ("eos", 2)))


def test_the_kinds_of_pieces_are_counted(model: Path) -> None:
    found = count_pieces(load(model), 3)
    assert found.total == 400 and found.bytes == 256
    assert found.control == ((0, "<pad>"), (1, "<eos>"), (2, "<bos>"), (3, "<unk>"))
    assert found.user_defined == 10  # two of the chat template, eight runs of newlines
    assert len(found.longest) == 3 and len(found.longest[0][1]) >= len(found.longest[2][1])


@pytest.mark.parametrize(
    "literal", ["<eos>", "<bos>", "<pad>", "<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"]
)
def test_no_text_becomes_a_control_or_reserved_id(model: Path, literal: str) -> None:
    encoder = Encoder(model, SETTINGS.reserved)
    processor = load(model)
    barred = {0, 1, 2, 3, *(processor.piece_to_id(r) for r in SETTINGS.reserved)}
    encoded = encoder.encode(array([f"before {literal} after", literal * 3, "plain"]))
    assert not barred & set(encoded.ids.tolist())
    assert encoded.with_reserved == (2 if literal in SETTINGS.reserved else 0)
    ids = encoded.ids[: encoded.offsets[1]].tolist()
    assert processor.decode(ids) == f"before {literal} after"


def test_errors_are_plain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer model"):
        load(tmp_path / "none.model")
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        load(tmp_path / "bad.model")
    with pytest.raises(ValueError, match="vocab_size"):
        train(["ab"], TokenizerSettings(vocab_size=50_000))


def test_a_model_with_a_dummy_prefix_refuses_reserved_literals(tmp_path: Path) -> None:
    import io

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=out, vocab_size=300, model_type="bpe", byte_fallback=True,
        user_defined_symbols=["<start_of_turn>"], minloglevel=2,
    )  # fmt: skip
    (tmp_path / "prefix.model").write_bytes(out.getvalue())
    with pytest.raises(ValueError, match="dummy prefix"):
        Encoder(tmp_path / "prefix.model", ["<start_of_turn>"]).encode(array(["x <start_of_turn> y"]))


def test_every_id_decodes_to_what_sentencepiece_says_of_it_and_no_other_number_does(model: Path) -> None:
    reference, pieces = sentencepiece.SentencePieceProcessor(str(model)), Pieces.read(model.read_bytes())
    for i in range(reference.vocab_size()):
        text = "" if reference.is_control(i) else reference.id_to_piece(i).replace("\u2581", " ")
        assert pieces.decode([i]) == (bytes([int(text[3:-1], 16)]) if reference.is_byte(i) else text.encode())
    assert pieces.decode([]) == b""
    for wrong in (-1, len(pieces)):
        with pytest.raises(IndexError):
            pieces.decode([0, wrong])

"""`tokenizer.json`: for every kind of SentencePiece model, the ids that SentencePiece gives."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest
import sentencepiece
from fox1.tokenize.compare import first_difference, made_up_texts
from fox1.tokenize.fast_tokenizer import fast_tokenizer
from fox1.tokenize.model_file import parse_model
from fox1.tokenize.normaliser import MOST_STEPS, charsmap_steps, read_charsmap

tokenizers = pytest.importorskip("tokenizers")

KEPT = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
PLAIN = {**KEPT, "add_dummy_prefix": False}
TURNS = ["<start_of_turn>", "<end_of_turn>"]
KINDS: dict[str, dict[str, Any]] = {
    "bpe as fox1 trains it": {**PLAIN, "user_defined_symbols": [*TURNS, "\n", "\n\n", "\n\n\n", "\u2581\u2581"]},
    "bpe with a prefix": KEPT,
    "bpe with a prefix and pieces of its own": {**KEPT, "user_defined_symbols": TURNS},
    "bpe, all defaults": {"normalization_rule_name": "nmt_nfkc"},
    "bpe, pieces across words": {**PLAIN, "split_by_whitespace": False},
    "bpe without bytes": {**KEPT, "byte_fallback": False},
    "unigram": {**PLAIN, "model_type": "unigram", "user_defined_symbols": TURNS},
    "unigram, all defaults": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
    "characters": {**KEPT, "model_type": "char"},
}
SENTENCES = [
    "The ferry leaves at nine, and the harbour is cold.",
    "def area(w, h):\n    return w * h  # in metres",
    "caf\u00e9, \u6f22\u5b57, \u0440\u0435\u043a\u0430 and \u2116 7",
    "so so so soooo   and\tthen 1234567",
    "zzzz zzz zz z",
]


@functools.cache
def trained(kind: str) -> tuple[Any, sentencepiece.SentencePieceProcessor]:
    """(parsed model, processor)."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(f"{s} {n}" for n in range(60) for s in SENTENCES),
        model_writer=out,
        **{
            "model_type": "bpe", "vocab_size": 420, "byte_fallback": True, "hard_vocab_limit": False, "minloglevel": 2,
            "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "allow_whitespace_only_pieces": True, **KINDS[kind],
        },
    )  # fmt: skip
    model, processor = parse_model(out.getvalue()), sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(out.getvalue())
    return model, processor


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_gets_the_ids_of_sentencepiece(kind: str) -> None:
    model, processor = trained(kind)
    texts = list(made_up_texts(processor, 800))
    texts += [
        "a </s> b",
        "x<start_of_turn>y",
        "<start_of_turn>",
        " lead",
        "trail ",
        "   ",
        "",
        "<0x41>",
        "e\u0301 \u2460\r\n",
    ]
    assert first_difference(fast_tokenizer(model, 2), processor, texts, True) == (len(texts), None)


@pytest.mark.parametrize("kind", ["bpe as fox1 trains it", "bpe with a prefix", "unigram, all defaults"])
def test_ids_are_decoded_as_sentencepiece_decodes_them(kind: str) -> None:
    import json

    model, processor = trained(kind)
    fast = tokenizers.Tokenizer.from_str(json.dumps(fast_tokenizer(model, None)))
    for text in SENTENCES:
        ids = processor.encode(text)
        assert fast.decode(ids) == processor.decode(ids)
    assert fast.encode("The ferry").ids == processor.encode("The ferry")


def test_a_text_that_is_encoded_otherwise_is_found() -> None:
    model, processor = trained("bpe with a prefix")
    fast = fast_tokenizer(model, None)
    fast["model"]["merges"] = fast["model"]["merges"][1:]
    compared, found = first_difference(fast, processor, made_up_texts(processor, 200), True)
    assert found and found.ours == processor.encode(found.text) != found.theirs and compared < 400
    # Where literals of control pieces are ids, as `transformers` has it with a chat template, they are passed over.
    assert first_difference(fast_tokenizer(model, None), processor, ["a</s>b"], False) == (0, None)


def test_a_map_of_rules_is_a_unicode_form_with_some_texts_apart() -> None:
    blob = trained("bpe, all defaults")[0].normalizer_spec.precompiled_charsmap
    rules = read_charsmap(blob)
    assert (
        rules["\ufb01"] == "fi" and rules["\u200b"] == " " and rules["\uff76\uff9e"] == "\u30ac" and rules["\x07"] == ""
    )
    steps = charsmap_steps(blob)
    assert {"type": "NFKC"} in steps and len(steps) < MOST_STEPS
    assert charsmap_steps(b"") == []


def test_a_model_of_whole_words_is_refused() -> None:
    model = parse_model(trained("bpe with a prefix")[0].SerializeToString())
    model.trainer_spec.model_type = 3
    with pytest.raises(ValueError, match="of whole words"):
        fast_tokenizer(model, None)

"""The SentencePiece model: loading one, checking its special ids, training one of Gemma's kind.

Ids come from the model, never from a model config: Fox-1's released config says bos 1 and eos 2, but its (Gemma's)
tokenizer has pad 0, eos 1, bos 2, unk 3.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

TRAINING_THREADS = 2
"""A constant, because the trained model file records it."""
SENTENCE_BYTES = 4000
"""SentencePiece drops longer sentences; documents are cut below this at line ends or spaces."""


@dataclass(frozen=True)
class TokenizerSettings:
    """Which tokenizer a run uses."""

    model: str = ""
    """Path (or fsspec URL) of a `.model`; empty: `prepare` trains one."""
    vocab_size: int = 16_000
    sample_bytes: int = 32 << 20
    """Text that training sees, over all sources."""
    reserved: tuple[str, ...] = ("<start_of_turn>", "<end_of_turn>")
    """Pieces of the chat template: in a document's text they come out split, as ordinary text."""
    bos: bool = True
    """Open a document's first segment with BOS."""
    eos: bool = True
    """Close a document's last segment with EOS."""


@dataclass(frozen=True)
class Specials:
    """Ids that no document's text may become."""

    pad: int
    eos: int
    bos: int
    unk: int


def load(model: Path) -> sentencepiece.SentencePieceProcessor:
    """Load a `.model` file.

    Raises:
        ValueError: the file is missing or no SentencePiece model.
    """
    try:
        data = model.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"no tokenizer model at {model}; set `tokenizer.model` to a .model file") from None
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(data)
    except RuntimeError as error:
        raise ValueError(f"{model} is not a SentencePiece model: {error}") from None
    return processor


def specials(processor: sentencepiece.SentencePieceProcessor) -> Specials:
    """The special ids of a model; padding falls back to EOS where a model has none (Llama's)."""
    pad = processor.pad_id()
    found = Specials(
        pad if pad >= 0 else processor.eos_id(), processor.eos_id(), processor.bos_id(), processor.unk_id()
    )
    if found.eos < 0 or found.bos < 0:
        raise ValueError("the tokenizer model has no BOS or EOS piece; train it with both")
    return found


def sentences(document: str) -> Iterator[str]:
    """Cut a document into pieces SentencePiece accepts, at line ends or spaces where there are any."""
    start = 0
    while start < len(document):
        # Characters take up to four bytes.
        stop = min(len(document), start + SENTENCE_BYTES // 4)
        if stop < len(document):
            cut = max(document.rfind("\n", start, stop), document.rfind(" ", start, stop))
            stop = cut if cut > start else stop
        yield document[start:stop]
        start = stop


def train(documents: Iterable[str], settings: TokenizerSettings) -> bytes:
    """Train a BPE model with Gemma's settings: byte fallback, digits split, identity, white space kept.

    Returns:
        The model file's bytes: a function of the documents' order and the settings alone.

    Raises:
        ValueError: there is too little text for the vocabulary.
    """
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(piece for document in documents for piece in sentences(document)),
            model_writer=out,
            model_type="bpe",
            vocab_size=settings.vocab_size,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=SENTENCE_BYTES,
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            pad_piece="<pad>",
            eos_piece="<eos>",
            bos_piece="<bos>",
            unk_piece="<unk>",
            # Newlines never merge with words, so runs of them are pieces of their own, as in Gemma.
            user_defined_symbols=[*settings.reserved, *("\n" * k for k in range(1, 9))],
            num_threads=TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"cannot train a tokenizer of {settings.vocab_size} pieces: {str(error).strip().splitlines()[-1]}; "
            "give it more text (`tokenizer.sample_bytes`) or a smaller `tokenizer.vocab_size`"
        ) from None
    return out.getvalue()

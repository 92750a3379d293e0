"""The SentencePiece model: loading one, checking its special ids, and training one of Gemma's kind.

Special ids come from this model, never from the config of a language model: Fox-1's released config says bos 1 and eos 2,
but its tokenizer (Gemma's) has pad 0, eos 1, bos 2, unk 3.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sentencepiece

from ..storage.fields import Bounds, Derived, OneOf, Pairs, Quantity, Share
from ..storage.reading import Misshapen, read_bounded
from ..storage.web import http_options, naming_private_hosts
from ..storage.wording import first_line, printable
from .model_file import MODEL_BYTES, parse_model
from .pieces import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Pieces

TRAINING_THREADS = 2
"""A constant, because the trained model file records it."""
SENTENCE_BYTES = 4000
"""SentencePiece drops longer sentences; documents are cut below this at line ends or spaces."""
_NEWLINES = ["\n" * k for k in range(1, 9)]
"""They never merge with words, so runs of them are pieces of their own, as in Gemma."""


Special = Annotated[str, OneOf(("pad", "eos", "bos", "unk"))]


@dataclass(frozen=True)
class TokenizerSettings:
    """Which tokenizer a run uses, and what it adds to a document."""

    model: str = ""
    """Path (or fsspec URL) of a SentencePiece `.model`; empty: `prepare` trains one from the run's text."""
    vocab_size: Quantity = 16_000
    """Pieces of a model that is trained."""
    sample_bytes: Quantity = 32 << 20
    """Text that training sees, over all sources."""
    character_coverage: Annotated[Share, Bounds(ge=0.98)] = 0.9995
    """Share of the characters of that text that get pieces of their own; rarer ones are written in bytes."""
    reserved: tuple[str, ...] = ("<start_of_turn>", "<end_of_turn>")
    """Pieces of the chat template: in a document's text they come out split, as ordinary text."""
    chat: Annotated[tuple[tuple[str, str, str], ...], Derived()] = ()
    """The chat template: (role, before its turns, after them)."""
    bos: bool = True
    """Open a document's first segment with BOS."""
    eos: bool = True
    """Close a document's last segment with EOS."""
    specials: Annotated[tuple[tuple[Special, int], ...], Pairs()] = ()
    """Ids the model must have, by name (-1: none); a model with others is refused."""

    @property
    def of_model(self) -> TokenizerSettings:
        """What making the model acts on; the rest is as if nobody had chosen it."""
        settings = replace(self, chat=(), bos=True, eos=True)
        return replace(settings, vocab_size=0, sample_bytes=0, character_coverage=0.0) if self.model else settings

    def of_encoding(self, chat: bool) -> TokenizerSettings:
        """What encoding acts on besides the model's file.

        Args:
            chat: conversations, for which the template matters, or other text.
        """
        return TokenizerSettings(reserved=self.reserved, chat=self.chat if chat else ())

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TokenizerSettings:
        """Settings that went through JSON, where tuples are lists."""
        pairs = {name: tuple(tuple(pair) for pair in value[name]) for name in ("chat", "specials")}
        return cls(**{**value, **pairs, "reserved": tuple(value["reserved"])})


@dataclass(frozen=True)
class Specials:
    """Special ids, which no document's text may become."""

    pad: int
    eos: int
    bos: int
    unk: int


def read_model(model: Path | str) -> bytes:
    """The bytes of a `.model` file, by path or by any URL fsspec opens (`hf://google/gemma-2b/tokenizer.model`).

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    try:
        if isinstance(model, str) and "://" in model:
            import fsspec

            with naming_private_hosts(model), fsspec.open(model, "rb", **http_options(model)) as file:
                data: bytes = file.read(MODEL_BYTES + 1)
            if len(data) > MODEL_BYTES:
                raise Misshapen(f"it is larger than {MODEL_BYTES >> 20} MiB")
            return data
        return read_bounded(model if isinstance(model, Path) else Path(model), MODEL_BYTES)
    except FileNotFoundError:
        raise ValueError(f"no tokenizer model at {model}; set `tokenizer.model` to a .model file") from None
    except Exception as error:  # every store raises errors of its own kinds
        raise ValueError(f"cannot read the tokenizer model {model}: {first_line(error)}") from None


def load(model: Path | str) -> sentencepiece.SentencePieceProcessor:
    """Load a `.model` file.

    Raises:
        ValueError: the file is missing, or is not a SentencePiece model.
    """
    data = read_model(model)
    try:
        return processor_of(parse_model(data).SerializeToString())
    except (Misshapen, RuntimeError) as error:
        said = printable(first_line(error))
        raise ValueError(f"{model} is not a SentencePiece model ({said}); set `tokenizer.model` to one") from None


def processor_of(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """SentencePiece with a model that `parse_model` has written."""
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return processor


def specials(processor: sentencepiece.SentencePieceProcessor) -> Specials:
    """The special ids of a model; padding falls back to EOS where a model has no piece for it (Llama's).

    Raises:
        ValueError: the model has no BOS or no EOS.
    """
    pad = processor.pad_id()
    found = Specials(
        pad if pad >= 0 else processor.eos_id(), processor.eos_id(), processor.bos_id(), processor.unk_id()
    )
    if found.eos < 0 or found.bos < 0:
        raise ValueError("the tokenizer model lacks a BOS or EOS piece; name one that has both in `tokenizer.model`")
    return found


def check_specials(processor: sentencepiece.SentencePieceProcessor, wanted: Sequence[tuple[str, int]]) -> None:
    """Refuse a model whose special ids are not those that the recipe states.

    Raises:
        ValueError: naming every id that differs, and the remedy.
    """
    there = {"pad": processor.pad_id(), "eos": processor.eos_id(), "bos": processor.bos_id(), "unk": processor.unk_id()}
    differing = [f"{name} is {there[name]}, the recipe says {id_}" for name, id_ in wanted if there[name] != id_]
    if differing:
        raise ValueError(
            f"the tokenizer model has other special ids than the recipe: {'; '.join(differing)}. Name the right model in "
            "`tokenizer.model`, or correct `tokenizer.specials`"
        )


@dataclass(frozen=True)
class PieceCounts:
    """The pieces of a model, counted by kind."""

    total: int
    control: tuple[tuple[int, str], ...]
    """(id, piece) of control pieces and of unk."""
    user_defined: int
    bytes: int
    """Pieces of the byte fallback: 256, or 0 for a model without it."""
    longest: tuple[tuple[int, str], ...]
    """(id, piece) of the longest ordinary pieces, longest first."""


def count_pieces(processor: sentencepiece.SentencePieceProcessor, longest: int = 10) -> PieceCounts:
    """Count a model's pieces by kind."""
    found = Pieces.read(processor.serialized_model_proto())
    control, normal = found.numbers(UNKNOWN, CONTROL), np.array(found.numbers(NORMAL), np.int64)
    first = normal[np.argsort(-found.characters[normal], kind="stable")][:longest].tolist()
    return PieceCounts(
        len(found),
        tuple(zip(control, found.named(control), strict=True)),
        len(found.numbers(USER_DEFINED)),
        len(found.numbers(BYTE)),
        tuple(zip(first, found.named(first), strict=True)),
    )


def sentences(document: str) -> Iterator[str]:
    """Cut a document into sentences that SentencePiece accepts, at line ends or spaces where there are any."""
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
    """Train a BPE model with Gemma's settings: byte fallback, digits split, no normalisation, white space kept.

    Returns:
        The bytes of the model file, which depend on the documents, their order and the settings alone.

    Raises:
        ValueError: there is too little text for the vocabulary, or its alphabet is larger than that.
    """
    out, coverage = io.BytesIO(), settings.character_coverage
    # The model file records what was said: with the usual share unsaid, the file is the same as ever.
    chosen: dict[str, Any] = (
        {} if coverage == TokenizerSettings.character_coverage else {"character_coverage": coverage}
    )
    failed: list[BaseException] = []

    def all_sentences() -> Iterator[str]:
        try:
            for document in documents:
                yield from sentences(document)
        except GeneratorExit:
            raise
        except BaseException as error:  # an interruption, too: SentencePiece would report it as an error of its own
            failed.append(error)
            raise

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=all_sentences(),
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
            user_defined_symbols=[*settings.reserved, *_NEWLINES],
            num_threads=TRAINING_THREADS,
            minloglevel=2,
            **chosen,
        )
    except RuntimeError as error:
        if failed:
            raise failed[0] from None
        raise ValueError(_why_untrained(str(error), settings)) from None
    return out.getvalue()


_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_TOO_LARGE = re.compile(r"Please set it to a value <= (\d+)")


def _why_untrained(error: str, settings: TokenizerSettings) -> str:
    """What to say of an error of SentencePiece's trainer, whose own words name options that a recipe does not have."""
    begun = f"cannot train a tokenizer of {settings.vocab_size:,} pieces: "
    if found := _TOO_SMALL.search(error):
        bytes_and_specials = len(Specials.__annotations__) + 256 + len(_NEWLINES) + len(settings.reserved)
        rarer = (
            f", or lower `tokenizer.character_coverage` (now {settings.character_coverage:g}), so that rarer characters are "
            "written in bytes"
        )
        return (
            f"{begun}the characters of the sample, with bytes and special pieces, already take {int(found[1]):,}; choose a "
            f"larger `tokenizer.vocab_size`{rarer if settings.vocab_size > bytes_and_specials else ''}"
        )
    if found := _TOO_LARGE.search(error):
        why = f"the sample gives no more than {int(found[1]):,}"
    elif "sentences_.empty()" in error:
        why = "the sample holds no text"
    else:
        why = error.strip().splitlines()[-1]
    return f"{begun}{why}; give it more text (`tokenizer.sample_bytes`), or choose a smaller `tokenizer.vocab_size`"

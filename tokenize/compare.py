"""Does a `tokenizer.json` give the ids of its SentencePiece model? Found by trying: on texts of the model's own pieces, of
white space and of many scripts, and on texts that the caller has."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sentencepiece

TEXTS = 4000
"""Texts that are made up."""
_SPACES = (
    " ",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\u2581",
)
_WORDS = (
    "naïve re\u0301sume\u0301 Vie\u0323\u0302t tiếng e\u0302\u0301 Ångström Å oﬃce ﬁne ½ ² ①②Ⓐ ™\ufe0f … "
    "Οδύσσεια Жук שלום مرحبا नमस\u094dत\u0947 สว\u0e31สด\u0e35 狐狸 キツネ ｶﾞﾗｽ Ａｂ３ ～ 여우 한 \U0001f98a "
    "\U0001f469\u200d\U0001f52c \U0001f1eb\U0001f1f7 ©\ufe0f \ufeffx \x00 \x01 \x7f � 𝔄 ß İ ς x<0x0A>y "
    "x</s>y x<unk>y 3.14 1,000 x=y+1; {}[]() https://a.example/?q=1&r=%20"
).split(" ")


@dataclass(frozen=True)
class Difference:
    """A text that two tokenizers encode otherwise."""

    text: str
    ours: list[int]
    theirs: list[int]


def made_up_texts(processor: sentencepiece.SentencePieceProcessor, count: int = TEXTS) -> Iterator[str]:
    """Texts of pieces, white space and words of many scripts; the same ones for the same model."""
    drawn = random.Random(count)
    size = processor.vocab_size()
    ordinary = [
        i for i in range(size) if not (processor.is_byte(i) or processor.is_control(i) or processor.is_unknown(i))
    ]
    pieces = [processor.id_to_piece(i).replace("\u2581", " ") for i in ordinary]
    yield from ("", *_SPACES, *_WORDS, *(f" {w} " for w in _WORDS))
    yield from pieces[:: max(1, 4 * len(pieces) // count)]
    for _ in range(count // 2):
        parts = []
        for _ in range(drawn.randint(1, 24)):
            kind = drawn.random()
            source = pieces if kind < 0.55 else _SPACES if kind < 0.75 else _WORDS
            parts.append(drawn.choice(source))
        yield "".join(parts)
    for _ in range(count // 4):
        # Letters one by one: what no training text held.
        yield "".join(drawn.choice(drawn.choice(pieces)) for _ in range(drawn.randint(1, 40)))


def first_difference(
    tokenizer: dict[str, Any],
    processor: sentencepiece.SentencePieceProcessor,
    texts: Iterable[str],
    split_special: bool,
) -> tuple[int, Difference | None]:
    """(texts compared, the first one whose ids differ).

    Args:
        tokenizer: contents of a `tokenizer.json`.
        split_special: whether literals of control pieces are text; where not, texts that hold one are passed over.

    Raises:
        ImportError: `tokenizers` is not installed.
        ValueError: `tokenizers` cannot load it.
    """
    import tokenizers

    try:
        fast = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    except Exception as error:  # of a class of its own
        raise ValueError(f"tokenizers {tokenizers.__version__} cannot load the tokenizer ({error})") from None
    fast.encode_special_tokens = split_special
    special = [] if split_special else [t["content"] for t in tokenizer["added_tokens"] if t["special"]]
    compared = 0
    for text in texts:
        if any(literal in text for literal in special):
            continue
        ours, theirs = processor.encode(text), fast.encode(text, add_special_tokens=False).ids
        if ours != theirs:
            return compared, Difference(text, ours, theirs)
        compared += 1
    return compared, None

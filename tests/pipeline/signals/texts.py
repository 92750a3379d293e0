"""Generated text for the kernels over it, and the definition of words, in plain Python."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
from fox1.pipeline.signals import unicode as classes
from fox1.pipeline.signals.scan import text_buffers
from fox1.pipeline.signals.segment import Segments, segment
from hypothesis import strategies as st

WORDS = st.sampled_from(
    "the and Of with lorem ipsum JavaScript x1 42 été Straße naïve terms of use privacy policy use cookies a b a b".split()
)
GLUE = st.sampled_from(
    [
        " ",
        " ",
        "\n",
        "\n\n",
        ".\n",
        "...",
        "…\n",
        "#",
        " - ",
        "\n* ",
        "{",
        "}",
        "\t",
        "?\n",
        "。",
        "漢字",
        "ไทย",
        "\u3000",
    ]
    + ["\r\n", "\r", "\u2028", ". ", '."\n', "\\alpha", "$", "∑", "\\x41" * 8, "0x4f, ", "\\u00e9" * 8, "A1b2" * 16]
)
TEXT = st.lists(
    st.one_of(WORDS, GLUE, st.text(st.characters(exclude_categories=("Cs",)), max_size=4)), max_size=40
).map("".join)


def segments(texts: list[str]) -> Segments:
    return segment(*text_buffers(pa.array(texts, pa.large_string())))


def is_word(char: str) -> bool:
    known = unicodedata.category(char)
    if ord(char) >= classes.TABLE_SIZE:
        return True
    return known != "Cn" and (char.isalnum() or char == "_" or known[0] == "M")


def alone(char: str) -> bool:
    return is_word(char) and any(a <= ord(char) <= b for a, b in classes._UNSPACED)


def fold(char: str) -> str:
    folded = unicodedata.normalize("NFC", char.casefold())
    return folded[0] if folded else char


def words_of(text: str) -> list[str]:
    words, inside = [], False
    for char in text:
        if is_word(char):
            if not inside or alone(char):
                words.append("")
                inside = True
            words[-1] += char
        else:
            inside = False
    return words


def folded_words(text: str) -> list[str]:
    return ["".join(map(fold, w)) for w in words_of(text)]

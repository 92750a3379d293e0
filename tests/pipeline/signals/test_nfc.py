"""Form C against the interpreter's own."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
from fox1.pipeline.signals import nfc
from hypothesis import given, settings
from hypothesis import strategies as st

MARKS = "\u0301\u0323\u0345\u0344\u0f71\u0f72\u0f73\u0f75\u05b0\u3099\u0334\u09be\u1161\u11a8\u0338"
BASES = "aeo\u00e9\u1f82\uac00\u1100\u304b\u09c7\ufb2c\u212b \n\u05d0\U0001d15e\U0002f800\U000e0041"
CLUSTERED = st.lists(st.sampled_from(MARKS + BASES), max_size=40).map("".join)


def to_nfc(*texts: str) -> list[str]:
    return nfc.to_nfc(pa.array(texts, pa.large_string())).to_pylist()  # type: ignore[no-any-return]


@settings(max_examples=200, deadline=None)
@given(st.lists(CLUSTERED | st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=4))
def test_it_equals_the_interpreters(texts: list[str]) -> None:
    assert to_nfc(*texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_every_character_and_a_long_run_of_marks_are_normalised() -> None:
    whole = [chr(cp) for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
    texts = ["".join(whole[i : i + 4096]) for i in range(0, len(whole), 4096)]
    texts += [unicodedata.normalize("NFD", text) for text in texts] + ["a" + MARKS * 50]
    assert to_nfc(*texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_a_slice_of_an_array_is_what_it_holds() -> None:
    text = pa.array(["e\u0301", "plain", "a\u0301"], pa.large_string())
    assert nfc.to_nfc(text[1:]).to_pylist() == ["plain", "á"]

"""The collapsed form of a text and the notes of what that changed: together they are the text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from fox1.pipeline.signals.blake3 import hash_texts
from fox1.pipeline.signals.collapse import HASH_BYTES, _collapse_all, content_hashes, text_hashes
from fox1.pipeline.signals.unicode import tables
from fox1.tokenize.spans import text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

from .texts import TEXT

TEXTS = st.lists(
    TEXT | st.text(" !ab\n\t\u00a0\u3000éเ“の", max_size=40) | st.sampled_from((" " * 300, "a" * 300 + "\n", "\n a")),
    max_size=4,
)


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))


def numbers(notes: bytes, at: int) -> tuple[int, int]:
    """(a number with seven bits to a byte, the place after it)."""
    value = shift = 0
    while True:
        value |= (notes[at] & 127) << shift
        shift += 7
        at += 1
        if notes[at - 1] < 128:
            return value, at


def rebuilt(form: bytes, notes: bytes) -> bytes:
    """The text of a form and its notes."""
    text, at, place, read = b"", 0, 0, 0
    while at < len(notes):
        distance, at = numbers(notes, at)
        size, at = numbers(notes, at)
        place += distance
        text += form[read:place] + notes[at : at + size]
        at += size
        # A run between words has a space in the form, one at the ends has none.
        read = place + (0 < place < len(form))
    return text + form[read:]


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_the_content_hash_is_of_the_text_with_white_space_collapsed(texts: list[str]) -> None:
    collapsed = [" ".join(text.split()) for text in texts]
    both = [content_hashes(*buffers(some)) for some in (texts, collapsed)]
    assert both[0].tolist() == both[1].tolist() == hash_texts(*buffers(collapsed)).tolist()


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_form_and_notes_are_the_text(texts: list[str]) -> None:
    forms, bounds, notes, note_bounds = (part.tolist() for part in _collapse_all(*buffers(texts), tables()[0]))
    for d, text in enumerate(texts):
        form = bytes(forms[bounds[d] : bounds[d + 1]])
        assert rebuilt(form, bytes(notes[note_bounds[d] + HASH_BYTES : note_bounds[d + 1]])) == text.encode()


def test_the_hash_of_a_text_is_of_its_form_and_its_notes() -> None:
    texts = ["ab c", "ab\nc", " ab c", "ab c ", "a\nb c", "a b\nc", "", " ", "x" * 5000 + "\n\ny"]
    content, own = text_hashes(*buffers(texts))
    assert len(set(map(bytes, own))) == len(texts)
    assert len({bytes(content[k]) for k in (0, 1, 2, 3)}) == 1
    notes = {0: b"", 1: b"\2\1\n", 3: b"\4\1 ", 8: b"\x88\x27\2\n\n"}
    for k, noted in notes.items():
        data = bytes(content[k]) + noted
        assert bytes(own[k]) == bytes(hash_texts(np.frombuffer(data, np.uint8), np.array([0, len(data)]))[0])

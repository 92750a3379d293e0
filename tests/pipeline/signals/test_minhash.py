"""Hashes, band signatures and sketches against what they estimate, over generated text."""

from __future__ import annotations

import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fox1.pipeline.signals import minhash
from fox1.pipeline.signals.gopher import repetition_counts
from fox1.pipeline.signals.minhash import PRESETS, SPREAD, MinHashSettings, _sort_spread, common
from fox1.pipeline.signals.segment import segment
from fox1.tokenize.spans import text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import (
    TEXT,
    fold,
    folded_words,
    is_invisible,
    places_of,
    segments,
    signs_of,
    units_of_words,
    words_of,
)


def sign(texts: list[str], shape: MinHashSettings = MinHashSettings()) -> minhash.Signatures:
    text = pc.utf8_normalize(pa.array(texts, pa.large_string()), form="NFC")
    return minhash.sign(segment(*text_buffers(text)), shape)


def shingles(text: str, shape: MinHashSettings = MinHashSettings()) -> set[tuple[object, ...]]:
    text = unicodedata.normalize("NFC", text)
    units: list[object] = list(zip(folded_words(text), signs_of(text), strict=True))
    ngram = units_of_words(words_of(text), shape.ngram) if shape.unit == "word" else shape.ngram
    if shape.unit == "char":
        inside = {i for word in places_of(text) for i in word}
        characters = [fold(c) if i in inside else "" if is_invisible(c) else " " for i, c in enumerate(text)]
        units = list(re.sub(" +", " ", "".join(characters)).strip(" "))
    return {tuple(units[i : i + ngram]) for i in range(max(1, len(units) - ngram + 1))}


SHAPES = {**PRESETS, "short": MinHashSettings("word", 2, 4, 4), "wide": MinHashSettings("word", 13, 9, 13)}


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=80, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
def test_shingle_counts_and_short_sketches_are_exact(name: str, texts: list[str]) -> None:
    signed = sign(texts, SHAPES[name])
    for i, text in enumerate(texts):
        expected = len(shingles(text, SHAPES[name]))
        assert signed.n_shingles[i] == expected
        sketch = signed.sketch[signed.sketch_offsets[i] : signed.sketch_offsets[i + 1]]
        assert len(sketch) == min(expected, 128)
        assert (np.diff(sketch.astype(np.int64)) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(TEXT)
def test_both_ways_to_find_shingles_agree(text: str) -> None:
    """A signature is the same whether repeats are known from the n-grams or found in a set."""
    s = segments([unicodedata.normalize("NFC", text)])
    s.word_signs[:] = 0  # which a text that is read again has none of
    known = minhash.sign(s, MinHashSettings())
    s.word_offsets[1:] -= 1 if s.n_units[0] else 0  # fewer words than counted: read again by its text
    again = minhash.sign(s, MinHashSettings(), repetition_counts(s, 5)[1])
    assert (known.n_shingles == again.n_shingles).all()


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_white_space_and_unicode_form_do_not_change_the_content_hash(text: str) -> None:
    spaced = "  " + " \n".join(text.split()) + "\t"
    signed = sign([text, spaced, unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)])
    first = signed.content[0].tolist()
    assert signed.content[1].tolist() == first or " ".join(text.split()) != " ".join(spaced.split())
    assert signed.content[2].tolist() == signed.content[3].tolist() == first


def test_case_and_punctuation_do_not_change_the_signature() -> None:
    signed = sign(["The Quick, brown fox; jumps over.", "the quick brown FOX jumps - over"])
    assert (signed.bands[0] == signed.bands[1]).all()
    assert signed.content[0].tolist() != signed.content[1].tolist()


def same(first: str, second: str) -> bool:
    signed = sign([first, second])
    return bool((signed.bands[0] == signed.bands[1]).all())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = a + b", "x = a - b"),
        ("x = a * b", "x = a / b"),
        ("return a * b", "return a / b"),
        ("return a*b", "return a/b"),
        ("if (!found) return", "if (found) return"),
        ("if (p && q) return", "if (p || q) return"),
        ("Is it true that 3 < 5 holds? (p ∧ q)", "Is it true that 3 > 5 holds? (p ∨ q)"),
        ("∀x P(x)", "∃x P(x)"),
        ("while (i) { i++; }", "while (i) { i--; }"),
        ("x = a[0]", "x = a(0)"),
    ],
)
def test_code_and_formulas_that_differ_in_signs_alone_differ(first: str, second: str) -> None:
    assert not same(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('She said: "Go - now!" (and left).', "She said “Go – now”, and left"),
        ("Stop!Wait (they said), *wait*!", "Stop! Wait: they said, wait"),
        ("He was well-known and/or rich", "he was well known and or rich"),
        ("# A **bold** word\n* and an item\n-----\nend", "A bold word\nand an item\nend"),
        ("> a quoted line\n> (of a mail)", "a quoted line\nof a mail"),
        ("a mer\u3164chant and\u115f co", "a merchant and co"),
        ("a mer\u00adchant's zero\u200bwidth \ufe0fword\u2060", "a merchant's zerowidth word"),
    ],
)
def test_punctuation_markup_and_invisible_characters_of_prose_make_no_difference(first: str, second: str) -> None:
    assert same(first, second)


def test_documents_without_words_differ_by_content() -> None:
    signed = sign(["+++ ---", "=== !!!", "+++ ---"])
    assert (signed.bands[0] == signed.bands[2]).all()
    assert not (signed.bands[0] == signed.bands[1]).any()


def test_shingles_of_unspaced_scripts_are_as_many_characters_as_words_have() -> None:
    assert sign(["漢字仮名交じり文の例です"]).n_shingles[0] == 12 - 8


def pair(rng: random.Random, overlap: float) -> tuple[str, str]:
    base = [str(rng.getrandbits(40)) for _ in range(2000)]
    cut = int(len(base) * overlap)
    return " ".join(base), " ".join(base[:cut] + [str(rng.getrandbits(40)) for _ in range(len(base) - cut)])


@pytest.mark.parametrize("overlap", [0.95, 0.85, 0.7, 0.5])
def test_sketches_and_bands_estimate_jaccard(overlap: float) -> None:
    rng = random.Random(4)
    pairs = [pair(rng, overlap) for _ in range(60)]
    signed = sign([t for p in pairs for t in p])
    # Texts of digits and spaces, so that their words are those that split() finds.
    sets = [tuple({*zip(*(t.split()[k:] for k in range(5)), strict=False)} for t in p) for p in pairs]
    assert len(sets[0][0]) == len(shingles(pairs[0][0]))
    true = np.mean([len(a & b) / len(a | b) for a, b in sets])
    sketches = [signed.sketch[signed.sketch_offsets[i] : signed.sketch_offsets[i + 1]] for i in range(len(pairs) * 2)]
    estimates = [np.divide(*common(sketches[2 * i], sketches[2 * i + 1], 128)) for i in range(len(pairs))]
    # The mean of 60 estimates has a standard error below 0.006.
    assert np.mean(estimates) == pytest.approx(true, abs=0.02)
    hit = np.mean([(signed.bands[2 * i] == signed.bands[2 * i + 1]).any() for i in range(len(pairs))])
    expected = 1 - (1 - true**8) ** 14
    assert hit == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 60) ** 0.5 + 0.02)


def test_a_huge_document_is_signed_in_ranges_of_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(str(i) for i in range(20_000))
    whole = sign([text], PRESETS["slimpajama"])
    monkeypatch.setattr(minhash, "SET_SLOTS", 1 << 12)
    passes = sign([text], PRESETS["slimpajama"])
    assert (whole.bands == passes.bands).all()
    assert whole.n_shingles[0] == passes.n_shingles[0] == len(shingles(text, PRESETS["slimpajama"]))
    assert (whole.sketch == passes.sketch).all()


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 2**32 - 1), st.data())
def test_a_sketch_is_sorted_wherever_its_values_lie(bound: int, draw: st.DataObject) -> None:
    values = draw.draw(st.lists(st.integers(0, bound), max_size=300))
    out = np.zeros(len(values), np.uint32)
    _sort_spread(np.array(values, np.uint32), np.uint32(bound), np.empty(SPREAD + 1, np.int64), out)
    assert out.tolist() == sorted(values)

"""Signals against plain-Python references of the same definitions, over generated text."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.signals import unicode as classes
from fox1.pipeline.signals.counts import COUNTS, STOP_WORDS, count_batch, quality_of
from fox1.pipeline.signals.hashing import murmur3_128
from fox1.pipeline.signals.minhash import MinHashSettings, common, sign_batch
from fox1.pipeline.signals.scan import normalised, text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

WORDS = st.sampled_from(
    ["the", "and", "Of", "with", "lorem", "ipsum", "JavaScript", "x1", "42", "été", "Straße", "naïve"]
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
)
TEXT = st.lists(
    st.one_of(WORDS, GLUE, st.text(st.characters(blacklist_categories=("Cs",)), max_size=4)), max_size=40
).map("".join)


def count(texts: list[str]) -> np.ndarray:
    return count_batch(*text_buffers(pa.array(texts, pa.large_string())))


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


def reference(text: str) -> dict[str, int]:
    words = words_of(text)
    folded = ["".join(fold(c) for c in w) for w in words]
    lines = [line.strip() for line in text.split("\n")]
    full = [line for line in lines if line]
    seen: set[str] = set()
    repeats = []
    for line in full:
        key = " ".join(line.split())
        if key in seen:
            repeats.append(line)
        seen.add(key)
    ended = [line.endswith(("…", "...")) for line in full]
    return {
        "n_bytes": len(text.encode()),
        "n_chars": len(text),
        "n_words": len(words),
        "n_alpha_words": sum(any(unicodedata.category(c)[0] == "L" for c in w) for w in words),
        "n_word_chars": sum(map(is_word, text)),
        "n_letters": sum(unicodedata.category(c)[0] == "L" for c in text),
        "n_digits": sum(unicodedata.category(c) == "Nd" for c in text),
        "n_spaces": sum(c.isspace() for c in text),
        "n_lines": len(full),
        "n_stop_words": sum(w in STOP_WORDS for w in folded),
        "n_distinct_stop_words": len(set(folded) & set(STOP_WORDS)),
        "n_lorem_ipsum": folded.count("ipsum"),
        "n_javascript": folded.count("javascript"),
        "n_bullet_lines": sum(line[0] in "•‣●*-" for line in full),
        "n_ellipsis_lines": sum(ended),
        "n_terminal_lines": sum(line[-1] in '.!?"。' and not e for line, e in zip(full, ended, strict=True)),
        "n_short_lines": sum(len(line) < 30 for line in full),
        "max_line_chars": max(map(len, full), default=0),
        "n_curly_braces": text.count("{") + text.count("}"),
        "n_duplicate_lines": len(repeats),
        "duplicate_line_chars": sum(map(len, repeats)),
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_counts_equal_the_reference(texts: list[str]) -> None:
    # Marked words are counted where a separator follows, line strips are of white space: as the reference says.
    texts = [t + "\n" for t in texts]
    found = count(texts)
    for row, text in zip(found, texts, strict=True):
        got = dict(zip(COUNTS, row.tolist(), strict=True))
        for name, value in reference(text).items():
            assert got[name] == value, (name, text)


def test_a_document_does_not_change_its_neighbours() -> None:
    texts = ["one two\none two\n", "the the\n", "", "one two\n"]
    together = count(texts)
    for i, text in enumerate(texts):
        assert (count([text])[0] == together[i]).all()


def test_ellipses_and_hashes_are_symbols() -> None:
    row = dict(zip(COUNTS, count(["a... b.... # … c.."])[0].tolist(), strict=True))
    assert row["n_symbols"] == 4


def test_paragraphs_are_runs_of_lines() -> None:
    assert dict(zip(COUNTS, count(["a\nb\n\n\nc\n"])[0].tolist(), strict=True))["n_paragraphs"] == 2


def test_quality_is_higher_for_prose_than_for_noise() -> None:
    prose = "The fox and the hound have to be of one mind with that. " * 40 + "\n"
    noise = "#### 1234 %%%% 99 88 77\n" * 40
    high, low = quality_of(count([prose, noise]))
    assert high > 2 * low


MURMUR = {
    b"": "00000000000000000000000000000000",
    b"hello": "cbd8a7b341bd9b025b1e906a48ae1d19",
    b"The quick brown fox jumps over the lazy dog": "e34bbc7bbc071b6c7a433ca9c49a9347",
}


@pytest.mark.parametrize("data", MURMUR)
def test_murmur3_gives_the_published_vectors(data: bytes) -> None:
    h1, h2 = murmur3_128(np.frombuffer(data, np.uint8), 0, len(data))
    assert f"{int(h1):016x}{int(h2):016x}" == MURMUR[data]


def sign(texts: list[str], shape: MinHashSettings = MinHashSettings()):  # type: ignore[no-untyped-def]
    return sign_batch(*text_buffers(normalised(pa.array(texts, pa.large_string()))), shape)


def shingles(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = ["".join(fold(c) for c in w) for w in words_of(unicodedata.normalize("NFC", text))]
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5))
def test_shingle_counts_and_short_sketches_are_exact(texts: list[str]) -> None:
    signed = sign(texts)
    for i, text in enumerate(texts):
        expected = len(shingles(text))
        assert signed.n_shingles[i] == expected
        sketch = signed.sketch[signed.sketch_offsets[i] : signed.sketch_offsets[i + 1]]
        assert len(sketch) == min(expected, 128)
        assert (np.diff(sketch.astype(np.int64)) >= 0).all()


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


def test_documents_without_words_differ_by_content() -> None:
    signed = sign(["+++ ---", "=== !!!", "+++ ---"])
    assert (signed.bands[0] == signed.bands[2]).all()
    assert not (signed.bands[0] == signed.bands[1]).any()


def test_unspaced_scripts_are_shingled_by_character() -> None:
    assert sign(["漢字仮名交じり文の例です"]).n_shingles[0] == 12 - 4


def pair(rng: random.Random, overlap: float) -> tuple[str, str]:
    base = [str(rng.getrandbits(40)) for _ in range(2000)]
    cut = int(len(base) * overlap)
    return " ".join(base), " ".join(base[:cut] + [str(rng.getrandbits(40)) for _ in range(len(base) - cut)])


@pytest.mark.parametrize("overlap", [0.95, 0.85, 0.7, 0.5])
def test_sketches_and_bands_estimate_jaccard(overlap: float) -> None:
    rng = random.Random(4)
    pairs = [pair(rng, overlap) for _ in range(60)]
    signed = sign([t for p in pairs for t in p])
    true = np.mean([len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b)) for a, b in pairs])
    sketches = [signed.sketch[signed.sketch_offsets[i] : signed.sketch_offsets[i + 1]] for i in range(len(pairs) * 2)]
    estimates = [np.divide(*common(sketches[2 * i], sketches[2 * i + 1], 128)) for i in range(len(pairs))]
    # The mean of 60 estimates has a standard error below 0.006.
    assert np.mean(estimates) == pytest.approx(true, abs=0.02)
    hit = np.mean([(signed.bands[2 * i] == signed.bands[2 * i + 1]).any() for i in range(len(pairs))])
    expected = 1 - (1 - true**8) ** 14
    assert hit == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 60) ** 0.5 + 0.02)


def test_a_huge_document_is_signed_as_a_small_set_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.signals import minhash

    text = " ".join(str(i) for i in range(20_000))
    whole = sign([text])
    monkeypatch.setattr(minhash, "SET_SLOTS", 1 << 12)
    passes = sign([text])
    assert (whole.bands == passes.bands).all()
    assert whole.n_shingles[0] == passes.n_shingles[0] == 20_000 - 4
    assert (whole.sketch == passes.sketch).all()

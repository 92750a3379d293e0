"""Signals against plain-Python references of the same definitions, over generated text."""

from __future__ import annotations

import ipaddress
import random
import re
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fox1.pipeline.signals import c4, code, contamination, language, minhash, pii, quality, urls
from fox1.pipeline.signals import unicode as classes
from fox1.pipeline.signals.counts import TEXT_COUNTS, text_counts
from fox1.pipeline.signals.gopher import STOP_WORDS, repetition_counts
from fox1.pipeline.signals.hashing import murmur3_128
from fox1.pipeline.signals.minhash import PRESETS, MinHashSettings, common
from fox1.pipeline.signals.scan import text_buffers
from fox1.pipeline.signals.segment import Segments, segment
from hypothesis import given, settings
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


def counts_of(text: str) -> dict[str, int]:
    return dict(zip(TEXT_COUNTS, text_counts(segments([text]))[0].tolist(), strict=True))


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


def letters(text: str) -> int:
    return sum(unicodedata.category(c)[0] == "L" for c in text)


def duplicates(items: list[tuple[str, int]]) -> tuple[int, int]:
    seen: set[str] = set()
    count = chars = 0
    for key, size in items:
        count, chars = (count + 1, chars + size) if key in seen else (count, chars)
        seen.add(key)
    return count, chars


def top_ngram(words: list[str], n: int) -> int:
    """Gopher: characters of the most frequent n-gram, joined by spaces, times its occurrences."""
    folded = [w.lower() for w in words]
    found = Counter(tuple(folded[i : i + n]) for i in range(len(folded) - n + 1))
    best = max(((c, sum(map(len, g)) + n - 1) for g, c in found.items()), default=(1, 0))
    return best[0] * best[1] if best[0] > 1 else 0


def duplicate_ngrams(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    i = total = 0
    while i + n <= len(words):
        gram = tuple(words[i : i + n])
        if gram in seen:
            total += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return total


def sentences(line: str) -> int:
    ends = list(re.finditer(r"[.!?][.!?\"')\]”’]*(?=[ \t]|$)|[。！？]", line))
    rest = line[ends[-1].end() :] if ends else line
    return len(ends) + any(map(is_word, rest))


def reference(text: str) -> dict[str, int]:
    words = words_of(text)
    folded = folded_words(text)
    raw = text.splitlines()
    full = [line.strip() for line in raw if line.strip()]
    paragraphs: list[list[str]] = []
    empty = True
    for line in raw:
        if line.strip():
            if empty:
                paragraphs.append([])
            paragraphs[-1].append(line.strip())
        empty = not line.strip()
    ellipsis = [line.endswith(("…", "...")) for line in full]
    values = {
        "n_bytes": len(text.encode()),
        "n_chars": len(text),
        "n_words": len(words),
        "n_alpha_words": sum(letters(w) > 0 for w in words),
        "n_word_chars": sum(map(is_word, text)),
        "n_letters": letters(text),
        "n_digits": sum(unicodedata.category(c) == "Nd" for c in text),
        "n_spaces": sum(c.isspace() for c in text),
        "n_raw_lines": len(raw),
        "n_lines": len(full),
        "n_paragraphs": len(paragraphs),
        "max_line_chars": max(map(len, raw), default=0),
        "max_word_chars": max(map(len, words), default=0),
        "n_hashes": text.count("#"),
        "n_ellipses": text.count("...") + text.count("…"),
        "n_curly_braces": text.count("{") + text.count("}"),
        "n_math_symbols": sum(unicodedata.category(c) == "Sm" and c > "\x7f" for c in text),
        "latex_chars": text.count("$") + sum(map(len, re.findall(r"\\[A-Za-z]+", text))),
        "n_stop_words": sum(w in STOP_WORDS for w in folded),
        "n_distinct_stop_words": len(set(folded) & set(STOP_WORDS)),
        "n_bullet_lines": sum(line[0] in "•‣●*-" for line in full),
        "n_ellipsis_lines": sum(ellipsis),
        "n_terminal_lines": sum(
            line.endswith(tuple(".!?\"'”’。！？")) and not e for line, e in zip(full, ellipsis, strict=True)
        ),
        "n_few_word_lines": sum(len(words_of(line)) < 3 for line in full),
        "n_javascript_lines": sum("javascript" in folded_words(line) for line in full),
        "n_policy_lines": sum(has_policy(folded_words(line)) for line in full),
        "n_sentences": sum(map(sentences, full)),
        "n_punctuated_lines": sum(line[-1] in classes._STOPS for line in full),
        "n_short_lines": sum(len(line) <= 30 for line in full),
        "encoded_chars": encoded(text),
    }
    values["n_duplicate_lines"], values["duplicate_line_chars"] = duplicates([(x, len(x)) for x in full])
    grouped = [("\n".join(p), sum(map(len, p))) for p in paragraphs]
    values["n_duplicate_paragraphs"], values["duplicate_paragraph_chars"] = duplicates(grouped)
    for n in (5, 6, 7, 8, 9, 10):
        values[f"duplicate_{n}gram_chars"] = duplicate_ngrams(folded, n)
    for n in (2, 3, 4):
        values[f"top_{n}gram_chars"] = top_ngram(folded, n)
    return values


def has_policy(words: list[str]) -> bool:
    phrases = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
    return any(words[i : i + len(p.split())] == p.split() for p in phrases for i in range(len(words)))


def encoded(text: str) -> int:
    patterns = (
        r"[A-Za-z0-9+/=]{64,}",
        r"(?:(?:\\x|0x)[0-9A-Fa-f]{2}[ ,\t\n\v\f\r]*){7,}(?:\\x|0x)[0-9A-Fa-f]{2}",
        r"(?:\\u[0-9A-Fa-f]{4}){8,}",
    )
    return sum(len(m[0]) for p in patterns for m in re.finditer(p, text))


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_counts_equal_the_reference(text: str) -> None:
    got = counts_of(text)
    for name, value in reference(text).items():
        assert got[name] == value, (name, text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "C", "ddd"]), max_size=120))
def test_repetition_equals_the_reference(words: list[str]) -> None:
    got, text = counts_of(" ".join(words)), reference(" ".join(words))
    for name in (n for n in text if "gram" in n):
        assert got[name] == text[name], (name, words)


def test_the_reference_holds_on_large_text() -> None:
    rng = random.Random(5)
    vocabulary = ["".join(rng.choices("abcdeé漢", k=rng.randrange(1, 9))) for _ in range(400)]
    glue = [" "] * 20 + [". ", ".\n", "\n\n", "; ", "\r\n"]
    text = "".join(rng.choice(vocabulary) + rng.choice(glue) for _ in range(30_000))
    text += text[: len(text) // 3]
    got, expected = counts_of(text), reference(text)
    assert {name: got[name] for name in expected} == expected


def test_a_document_does_not_change_its_neighbours() -> None:
    texts = ["one two\none two\n", "the the\n", "", "one two\n", "漢字 " * 30]
    together = text_counts(segments(texts))
    for i, text in enumerate(texts):
        assert (text_counts(segments([text]))[0] == together[i]).all()


def test_counts_are_whole_where_the_arrays_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.signals import segment as module

    text = "one two three four five six\n" * 100
    monkeypatch.setattr(module, "MAX_WORDS", 50)
    monkeypatch.setattr(module, "MAX_LINES", 7)
    s = segments([text, "a b"])
    assert s.counts[0, module.WORDS] == 600 and s.counts[0, module.LINES] == 100
    assert np.diff(s.word_offsets).tolist() == [50, 2] and np.diff(s.line_offsets).tolist() == [7, 1]


@settings(max_examples=200, deadline=None)
@given(TEXT, st.sets(st.sampled_from(c4.LINE_RULES)))
def test_dropped_lines_are_whole_lines(text: str, rules: set[str]) -> None:
    s = segments([text])
    flags = c4.line_counts(s)[1]
    bits = sum(1 << c4.LINE_RULES.index(r) for r in rules)
    spans = c4.dropped_lines(s, flags, np.array([bits], np.uint8))
    data = text.encode()
    kept, at = b"", 0
    for _, start, end in spans.tolist():
        kept, at = kept + data[at:start], end
    left = iter((kept + data[at:]).decode().splitlines(keepends=True))
    judged = iter(flags.tolist())
    for line in text.splitlines(keepends=True):
        if not line.strip() or not next(judged) & bits:
            assert next(left) == line
    assert next(left, None) is None


MURMUR = {
    b"": "00000000000000000000000000000000",
    b"hello": "cbd8a7b341bd9b025b1e906a48ae1d19",
    b"The quick brown fox jumps over the lazy dog": "e34bbc7bbc071b6c7a433ca9c49a9347",
}


@pytest.mark.parametrize("data", MURMUR)
def test_murmur3_gives_the_published_vectors(data: bytes) -> None:
    h1, h2 = murmur3_128(np.frombuffer(data, np.uint8), 0, len(data))
    assert f"{int(h1):016x}{int(h2):016x}" == MURMUR[data]


def sign(texts: list[str], shape: MinHashSettings = MinHashSettings()) -> minhash.Signatures:
    text = pc.utf8_normalize(pa.array(texts, pa.large_string()), form="NFC")
    return minhash.sign(segment(*text_buffers(text)), shape)


def shingles(text: str, shape: MinHashSettings = MinHashSettings()) -> set[tuple[str, ...]]:
    units = folded_words(unicodedata.normalize("NFC", text))
    if shape.unit == "char":
        text = unicodedata.normalize("NFC", text)
        units = list(" ".join("".join(fold(c) if is_word(c) else " " for c in text).split(" ")).strip())
        units = list(re.sub(" +", " ", "".join(units)))
    return {tuple(units[i : i + shape.ngram]) for i in range(max(1, len(units) - shape.ngram + 1))}


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
    known = minhash.sign(s, MinHashSettings())
    s.word_offsets[1:] -= 1 if s.counts[0, 2] else 0  # fewer words than counted: read again by its text
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


def test_a_huge_document_is_signed_in_ranges_of_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(str(i) for i in range(20_000))
    whole = sign([text], PRESETS["slimpajama"])
    monkeypatch.setattr(minhash, "SET_SLOTS", 1 << 12)
    passes = sign([text], PRESETS["slimpajama"])
    assert (whole.bands == passes.bands).all()
    assert whole.n_shingles[0] == passes.n_shingles[0] == len(shingles(text, PRESETS["slimpajama"]))
    assert (whole.sketch == passes.sketch).all()


def identify(texts: list[str]) -> list[tuple[str, int]]:
    names = language.load_model().languages
    best, confidence = language.identify(*text_buffers(pa.array(texts, pa.large_string())))
    return [(names[b] if b >= 0 else "und", int(c)) for b, c in zip(best, confidence, strict=True)]


def test_language_is_what_the_package_says() -> None:
    import py3langid

    texts = [
        "The quick brown fox jumps over the lazy dog and runs into the forest.",
        "Der schnelle braune Fuchs springt über den faulen Hund und läuft in den Wald.",
        "Le renard brun rapide saute par-dessus le chien paresseux et court dans la forêt.",
        "Быстрая коричневая лиса прыгает через ленивую собаку и убегает в лес.",
        "敏捷的棕色狐狸跳过懒狗，跑进了森林里面去了。",
        "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS.",
    ] * 3
    found = identify(texts)
    assert [name for name, _ in found] == [language._ALIASES.get(n := py3langid.classify(t)[0], n) for t in texts]
    # Of a long text the same pieces are looked at, so its language is that of its parts.
    assert identify([texts[1] * 100])[0][0] == "de"
    assert all(confidence > 5_000 for _, confidence in found)


def test_a_text_without_features_has_no_language() -> None:
    assert identify(["", "1 2"])[0] == ("und", 0)


EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9\-])"
)
IPV4 = re.compile(
    r"(?<![A-Za-z0-9._\-])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    r"(?![A-Za-z0-9_])(?!\.[A-Za-z0-9])"
)


def found(text: str) -> dict[str, list[str]]:
    s = segments([text])
    counts, spans = pii.find_pii(s)
    out: dict[str, list[str]] = {kind: [] for kind in pii.KINDS}
    for _, start, end, kind in spans.tolist():
        out[pii.KINDS[kind]].append(bytes(s.text[start:end]).decode())
    assert counts[0].tolist() == [len(v) for v in out.values()]
    return out


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "joe", "@", "@", ".", "com", "x-y", "-", " ", "é", "9", "mail.org"]), max_size=14)
)
def test_email_equals_its_pattern(parts: list[str]) -> None:
    text = "".join(parts)
    assert found(text)["email"] == EMAIL.findall(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["1", "8", "25", "255", "256", "192", "168", "10", "0", "01", ".", ".", ".", " ", "a"]),
        max_size=16,
    )
)
def test_ipv4_equals_its_pattern_and_ipaddress(parts: list[str]) -> None:
    text = "".join(parts)
    public = [a for a in IPV4.findall(text) if ipaddress.ip_address(a).is_global and int(a.split(".")[0]) < 224]
    assert [a for a in found(text)["ip"] if "." in a] == [a for a in public if not a.startswith(("198.18.", "198.19."))]


@pytest.mark.parametrize(
    ("text", "kind", "spans"),
    [
        ("2a00:1450:4009:80b::200e, 2001:db8::1, fe80::1, std::vector, 12:30:45", "ip", ["2a00:1450:4009:80b::200e"]),
        ("pay 4111 1111 1111 1111 or 4111-1111-1111-1112 or 378282246310005.", "card", ["4111 1111 1111 1111", "378282246310005"]),
        ("call (212) 555-0123 or 212-555-0199 or +44 20 7946 0958.", "phone",
         ["(212) 555-0123", "212-555-0199", "+44 20 7946 0958"]),
        ("rows 212 555 0123 and 1-2-3 and 2024-10-11 12", "phone", []),
        ("key AKIAIOSFODNN7EXAMPLE here", "key", ["AKIAIOSFODNN7EXAMPLE"]),
        (f"ghp_{'a1B2' * 9} and ghp_short", "key", [f"ghp_{'a1B2' * 9}"]),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIC\n-----END RSA PRIVATE KEY-----\n", "key",
         ["-----BEGIN RSA PRIVATE KEY-----\nMIIC\n-----END RSA PRIVATE KEY-----"]),
        ("192.168.0.1 10.1.1.1 127.0.0.1 203.0.113.5 8.8.8.8", "ip", ["8.8.8.8"]),
        ("in brackets (8.8.8.8) and +9.9.9.9", "ip", ["8.8.8.8", "9.9.9.9"]),
    ],
)  # fmt: skip
def test_personal_data_is_found(text: str, kind: str, spans: list[str]) -> None:
    assert found(text)[kind] == spans


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | TEXT)
def test_spans_are_disjoint_and_whole_characters(text: str) -> None:
    s = segments([text, text])
    _, spans = pii.find_pii(s)
    last = 0
    for d, start, end, _ in spans.tolist():
        assert s.offsets[d] <= start < end <= s.offsets[d + 1] and start >= last
        bytes(s.text[start:end]).decode()
        last = end


def test_urls_are_blocked_by_domain_and_word() -> None:
    rules = urls.parse_rules(["# comment", "bad.com", "casino", ""])
    cases = {
        "https://bad.com/x": 1, "http://www.BAD.com:80/": 1, "http://notbad.com/": 0, "http://a.org/bad.com": 0,
        "http://u:p@bad.com/": 1, "http://a.org/best-CASINO-tips": 2, "http://casinos.org/": 0, "": 0, "bad.com/x": 1,
    }  # fmt: skip
    assert urls.blocked(pa.array(list(cases)), rules).tolist() == list(cases.values())
    with pytest.raises(ValueError, match="line 1"):
        urls.parse_rules(["no such/thing"])


def test_quality_learns_what_it_is_shown_and_repeats_itself() -> None:
    rng = random.Random(3)
    good = [" ".join(rng.choices("we found that the results show a clear effect of".split(), k=80)) for _ in range(200)]
    poor = [" ".join(rng.choices("buy now cheap click best deals the free of".split(), k=80)) for _ in range(200)]
    s = segments([t for p in zip(good, poor, strict=True) for t in p])
    label = np.arange(400) % 2 == 0
    held_out = np.arange(400) % 10 < 2
    first, second = (quality.train(s, label, held_out) for _ in range(2))
    assert (first.weights == second.weights).all() and first.correct == first.held_out == 80
    models = quality.QualityModels(("web",), first.weights.reshape(1, -1))
    scores = quality.score(s, models, np.zeros(400, np.int64), np.zeros(400, np.uint16))
    assert scores[label].min() > scores[~label].max()
    assert (quality.score(s, models, np.full(400, -1), np.full(400, 7, np.uint16)) == 7).all()


ITEM = "Mirela picks fourteen baskets of ripe apples in the old orchard and each basket holds twenty three apples"


def hits(documents: list[str], items: list[str], n: int = 13) -> contamination.Hits:
    grams = contamination.item_grams(items, n)
    index = contamination.make_index(n, grams.hashes, grams.text, grams.pairs)
    return contamination.find_hits(segments(documents), index)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=1, max_size=6), st.integers(2, 5))
def test_hits_are_the_shared_ngrams(texts: list[list[str]], n: int) -> None:
    *items, document = [" ".join(t) for t in texts]

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    h = hits([document], items, n)
    assert h.item.tolist() == [i for i, item in enumerate(items) if grams(item) & grams(document)]


def test_a_planted_item_is_found_whatever_its_case_and_punctuation() -> None:
    shouted = ITEM.upper().replace(" ", ", ")
    documents = ["Nothing here.", f"Before. {ITEM}! After", f"x {shouted} y", " ".join(ITEM.split()[:12])]
    h = hits(documents, ["another item of no interest to anyone at all that is long enough to have grams", ITEM])
    assert h.document.tolist() == [1, 2] and h.item.tolist() == [1, 1]
    data = "".join(documents).encode()
    assert [data[a:b].decode() for _, a, b in h.spans.tolist()] == [ITEM, shouted]


def test_an_ngram_of_several_items_counts_for_each() -> None:
    h = hits([f"{ITEM} today"], [f"{ITEM} today", f"{ITEM} tomorrow"])
    assert h.item.tolist() == [0, 1] and len(h.spans) == 1


def test_encoded_data_is_counted_as_its_patterns_say() -> None:
    blob = "QUJD" * 20
    text = f"x = '{blob}' # {', '.join(['0xfF'] * 9)} \\u00e9\\u00e9"
    assert code.encoded_counts(segments([text]))[0, 0] == encoded(text) == 80 + 9 * 4 + 8 * 2

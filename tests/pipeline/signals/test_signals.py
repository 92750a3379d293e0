"""Signals against plain-Python references of the same definitions, over generated text."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.prepare.benchmarks import Item
from fox1.pipeline.prepare.contamination import ContaminationSettings, build
from fox1.pipeline.signals import c4, code, contamination, language, quality, urls
from fox1.pipeline.signals import unicode as classes
from fox1.pipeline.signals.counts import TEXT_COUNTS, text_counts
from fox1.pipeline.signals.gopher import DUPLICATE_NGRAMS, REPETITION_COUNTS, STOP_WORDS, repetition_counts
from fox1.pipeline.signals.ratios import SIGNALS
from fox1.tokenize.spans import text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import (
    SOUTHEAST_TEXT,
    TEXT,
    counted_words,
    folded_words,
    is_invisible,
    joined_words,
    own_units_of_words,
    segments,
    southeast_symbols,
    tenths_of_word,
    words_of,
)

ENGLISH = np.array([language.load_model().languages.index("en")])


def counts_of(text: str) -> dict[str, int]:
    return dict(zip(TEXT_COUNTS, text_counts(segments([text]), ENGLISH)[0].tolist(), strict=True))


def letters(text: str) -> int:
    return sum(unicodedata.category(c)[0] == "L" and not is_invisible(c) for c in text)


def duplicates(items: list[tuple[str, int]]) -> tuple[int, int]:
    seen: set[str] = set()
    count = chars = 0
    for key, size in items:
        count, chars = (count + 1, chars + size) if key in seen else (count, chars)
        seen.add(key)
    return count, chars


def top_ngram(words: list[str], n: int) -> int:
    """Gopher: characters of the most frequent n-gram, joined by spaces, times its occurrences."""
    folded, size = [w.lower() for w in words], own_units_of_words(words, n)
    found = Counter(tuple(folded[i : i + size]) for i in range(len(folded) - size + 1))
    best = max(((c, sum(map(len, g)) + n - 1) for g, c in found.items()), default=(1, 0))
    return best[0] * best[1] if best[0] > 1 else 0


def duplicate_ngrams(words: list[str], n: int) -> int:
    """Gopher: characters of the words in any n-gram that occurs more than once, each once."""
    size = own_units_of_words(words, n)
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    found = Counter(grams)
    inside = {i + k for i, gram in enumerate(grams) if found[gram] > 1 for k in range(size)}
    return sum(len(words[i]) for i in inside)


def repeated_ngrams(words: list[str], n: int) -> int:
    """datatrove: from left to right, characters of n-grams that were seen before; their words are passed over."""
    size = own_units_of_words(words, n)
    seen: set[tuple[str, ...]] = set()
    chars = i = 0
    while i < len(words) - size + 1:
        gram = tuple(words[i : i + size])
        chars += sum(map(len, gram)) if gram in seen else 0
        i += size if gram in seen else 1
        seen.add(gram)
    return chars


def numbers_joined(words: list[str]) -> int:
    """Words that are one token with what they are joined to, since not both have a letter."""
    joined, lettered = 0, True
    for i, word in enumerate(words):
        both = lettered and letters(word) > 0
        first = i == 0
        joined += not both and not first
        lettered = letters(word) > 0 if first or both else lettered or letters(word) > 0
    return joined


CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")


def split_words(text: str) -> list[str]:
    return [t for t in text.split() if not all(map(is_invisible, t))]


def failed(line: str) -> set[str]:
    """The rules of C4 that a line fails, in the order of the code that made C4."""
    bare, words = CITATION.sub("", line), folded_words(line)
    rules = {
        "long_word": any(len(w) > 1000 for w in line.split()),
        "no_terminal_punctuation": not bare.endswith((".", "?", "!", '"')) or bare.endswith("..."),
        "few_words": len(split_words(bare)) < 5,
        "javascript": "javascript" in words,
        "policy": has_policy(words),
    }
    return {name for name, fails in rules.items() if fails}


def sentences(line: str) -> int:
    ends = list(re.finditer(r"[.!?][.!?\"')\]”’]*(?=[ \t]|$)|[。！？]", line))
    rest = line[ends[-1].end() :] if ends else line
    return len(ends) + bool(words_of(rest))


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
    failures = [failed(line) for line in full]
    n_sentences = [sentences(CITATION.sub("", line)) for line in full]
    ellipsis = [line.endswith(("…", "...")) for line in full]
    joined = joined_words(text)
    symbols = southeast_symbols(text) if tenths_of_word(words) > 18 else joined.count([])
    values = {
        "n_bytes": len(text.encode()),
        "n_chars": len(text),
        "n_words": counted_words(words),
        "n_alpha_words": max(counted_words(words) - sum(letters(w) == 0 for w in words), 0),
        "n_tokens": counted_words(words) - sum(map(numbers_joined, joined)) + symbols,
        "n_split_words": len(split_words(text)),
        "n_alpha_split_words": sum(letters(t) > 0 for t in split_words(text)),
        "n_word_chars": sum(map(len, words)),
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
        "n_terminal_lines": sum("no_terminal_punctuation" not in f for f in failures),
        "n_few_word_lines": sum("few_words" in f for f in failures),
        "n_javascript_lines": sum("javascript" in f for f in failures),
        "n_policy_lines": sum("policy" in f for f in failures),
        "n_sentences": sum(n_sentences),
        "n_c4_lines": failures.count(set()),
        "n_c4_sentences": sum(n for n, f in zip(n_sentences, failures, strict=True) if not f),
        "n_punctuated_lines": sum(line[-1] in classes._STOPS for line in full),
        "n_short_lines": sum(len(line) <= 30 for line in full),
        "encoded_chars": encoded(text),
    }
    values["n_duplicate_lines"], values["duplicate_line_chars"] = duplicates([(x, len(x)) for x in full])
    grouped = [("\n".join(p), sum(map(len, p))) for p in paragraphs]
    values["n_duplicate_paragraphs"], values["duplicate_paragraph_chars"] = duplicates(grouped)
    for n in (5, 6, 7, 8, 9, 10):
        values[f"duplicate_{n}gram_chars"] = duplicate_ngrams(folded, n)
        values[f"repeated_{n}gram_chars"] = repeated_ngrams(folded, n)
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
@given(TEXT | SOUTHEAST_TEXT)
def test_counts_equal_the_reference(text: str) -> None:
    got = counts_of(text)
    for name, value in reference(text).items():
        assert got[name] == value, (name, text)


def test_the_reference_holds_wherever_blocks_of_bytes_begin() -> None:
    rest = "a.b 1,000 ... .... x = y, don't 1-2-a\n\n> q \\beta{$2$} #\t'..' a*b !ok\r\nend... é ... word-" + "y" * 70
    for before in range(64):
        text = f"{'x ' * (before // 2)}{'-' * (before % 2)}{rest}"
        got, expected = counts_of(text), reference(text)
        assert {name: got[name] for name in expected} == expected, before


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "C", "ddd"]) | st.sampled_from("漢字かなไทยไ"), max_size=120))
def test_repetition_equals_the_reference(words: list[str]) -> None:
    got, text = counts_of(" ".join(words)), reference(" ".join(words))
    for name in (n for n in text if "gram" in n):
        assert got[name] == text[name], (name, words)


def test_first_copies_and_overlaps_are_of_duplicate_ngrams() -> None:
    once = "we sell fine red wine".split()
    assert counts_of(" ".join(once * 2))["duplicate_5gram_chars"] == 2 * len("".join(once))
    # Its 5-grams overlap, and all of them occur again.
    assert counts_of("a b a b a b a b a")["duplicate_5gram_chars"] == 9
    assert counts_of("a b c d e f g")["duplicate_5gram_chars"] == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["aa", "bb", "Cc"]), max_size=120))
def test_repeats_are_counted_as_datatrove_does(words: list[str]) -> None:
    from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate

    counts = dict(zip(REPETITION_COUNTS, repetition_counts(segments([" ".join(words)]))[0][0], strict=True))
    for n in DUPLICATE_NGRAMS:
        # It joins words without spaces, which is no matter where all are as long.
        assert counts[f"repeated_{n}gram_chars"] == find_all_duplicate([w.lower() for w in words], n)


def test_the_reference_holds_on_large_text() -> None:
    rng = random.Random(5)
    vocabulary = ["".join(rng.choices("abcdeé漢", k=rng.randrange(1, 9))) for _ in range(400)]
    glue = [" "] * 20 + [". ", ".\n", "\n\n", "; ", "\r\n"]
    text = "".join(rng.choice(vocabulary) + rng.choice(glue) for _ in range(12_000))
    text += text[: len(text) // 3]
    got, expected = counts_of(text), reference(text)
    assert {name: got[name] for name in expected} == expected


LINES_OF_C4 = [
    "The town was founded in 1523 by monks.[12]",
    "Its walls fell. [3]",
    "Nobody knows[citation needed] what came then.[edit][]",
    "We waited for the others...[1]",
    "We waited for the others..[1].",
    "It ends with a word [7] here and now[8]",
    "Four words stand here.",
    "Four words[1] [2] stand here.",
    "[edit] Five words stand here alone.",
    "He said: 'That is all there is.'",
    'He said: "That is all there is."',
    "She asked: “Is that all there is?”",
    "Is [[1]] what a reader would write?",
    "Are [Edit] and [citation  needed] markers of a page?",
    f"One {'x' * 1000} two three four.",
    f"One {'x/' * 501} two three four.",
    f"One {'é' * 1001}[1] two three four.",
    "x" * 999 + " " + "y" * 1001 + ".",
    "What follows is no digit [²] and this is one [٣].",
]


@pytest.mark.parametrize("line", LINES_OF_C4)
def test_lines_are_judged_as_by_the_code_that_made_c4(line: str) -> None:
    flag = c4.judge_lines(segments([line])).flags[0]
    assert {name for k, name in enumerate(c4.LINE_RULES) if flag >> k & 1} == failed(line)


def test_a_document_does_not_change_its_neighbours() -> None:
    texts = ["one two\none two\n", "the the\n", "", "one two\n", "漢字 " * 30]
    together = text_counts(segments(texts), np.repeat(ENGLISH, len(texts)))
    for i, text in enumerate(texts):
        assert (text_counts(segments([text]), ENGLISH)[0] == together[i]).all()


def test_tokens_are_words_and_symbols() -> None:
    counts = counts_of("L'eau, 1,000 km (ou 3.5) -- covid-19 and/or…\n")
    # L | eau | , | 1,000 | km | ( | ou | 3.5 | ) | - | - | covid-19 | and | or | …
    assert (counts["n_tokens"], counts["n_alpha_words"]) == (15, 7)
    assert counts_of("他说，今天很好。")["n_tokens"] == 4 + 2


def test_symbols_between_spaces_are_words_without_a_letter() -> None:
    counts = {name: np.array([value]) for name, value in counts_of("moon ++ sun # <!> star 7 \u200b ...\n").items()}
    assert SIGNALS["alpha_word_fraction"](counts)[0] == 3 / 8
    assert counts["n_words"] == 4 and counts["n_alpha_words"] == 3


def test_counts_are_whole_where_the_arrays_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.signals import characters
    from fox1.pipeline.signals import segment as module

    text = "one two three four five six\n" * 100
    monkeypatch.setattr(module, "MAX_WORDS", 50)
    monkeypatch.setattr(module, "MAX_LINES", 7)
    s = segments([text, "a b"])
    assert s.counts[0, characters.WORDS] == 600 and s.counts[0, characters.LINES] == 100
    assert np.diff(s.word_offsets).tolist() == [50, 2] and np.diff(s.line_offsets).tolist() == [7, 1]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(LINES_OF_C4) | TEXT, max_size=6).map("\n".join), st.sets(st.sampled_from(c4.LINE_EDITS))
)
def test_lines_are_dropped_whole_and_lose_their_markers(text: str, rules: set[str]) -> None:
    s = segments([text])
    judged = c4.judge_lines(s)
    bits = np.array([c4.bits_of(rules)], np.uint8)
    spans = [*c4.dropped_lines(s, judged.flags, bits).tolist(), *c4.kept_markers(s, judged, bits).tolist()]
    data = text.encode()
    kept, at = b"", 0
    for _, start, end in sorted(spans):
        assert at <= start
        kept, at = kept + data[at:start], end
    lines = [line for line in text.splitlines(keepends=True) if not line.strip() or not failed(line.strip()) & rules]
    if rules & {"citations", "no_terminal_punctuation", "few_words"}:
        lines = [CITATION.sub("", line) for line in lines]
    assert (kept + data[at:]).decode() == "".join(lines)


def test_markers_belong_to_their_documents() -> None:
    s = segments(["", "One two three four five.[1]\nNo end[2]", "", "One[3] two three four five."])
    judged = c4.judge_lines(s)
    rules = np.array([c4.bits_of(r) for r in ([], ["few_words"], [], ["javascript"])], np.uint8)
    spans = c4.kept_markers(s, judged, rules)
    assert [(d, bytes(s.text[a:b]).decode()) for d, a, b in spans.tolist()] == [(1, "[1]")]
    rules[3] = c4.bits_of(["citations"])
    spans = c4.kept_markers(s, judged, rules)
    assert [(d, bytes(s.text[a:b]).decode()) for d, a, b in spans.tolist()] == [(1, "[1]"), (3, "[3]")]


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
    assert [name for name, _ in found] == [language.ALIASES.get(n := py3langid.classify(t)[0], n) for t in texts]
    # Of a long text the same pieces are looked at, so its language is that of its parts.
    assert identify([texts[1] * 100])[0][0] == "de"
    assert all(confidence > 5_000 for _, confidence in found)


def test_a_text_without_features_has_no_language() -> None:
    assert identify(["", "1 2"])[0] == ("und", 0)


def test_urls_are_blocked_by_domain_and_word() -> None:
    rules = urls.parse_rules(["# comment", "bad.com", "casino", ""])
    cases = {
        "https://bad.com/x": 1, "http://www.BAD.com:80/": 1, "http://notbad.com/": 0, "http://a.org/bad.com": 0,
        "http://u:p@bad.com/": 1, "http://a.org/best-CASINO-tips": 2, "http://casinos.org/": 0, "": 0, "bad.com/x": 1,
    }  # fmt: skip
    assert urls.blocked(pa.array(list(cases)), rules).tolist() == list(cases.values())
    with pytest.raises(ValueError, match="line 1"):
        urls.parse_rules(["no such/thing"])


LINES = [
    "bad.com",
    " Casino\t",
    "# a comment",
    "\u00e9 # \u00e9",
    "x.org # \u00e9",
    "..",
    ".a.b.",
    "a\x0bb",
    "c\u2028d.e",
    "no such",
    "\u212a.com",
    "",
]


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(LINES), st.text("ab.-_# \t\x1c", max_size=6)), max_size=9),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_a_list_file_holds_the_rules_of_its_lines(lines: list[str], end: str) -> None:
    text = end.join(lines)
    try:
        expected = urls.merged([urls.parse_rules(text.splitlines())])
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error).split(": ", 1)[1])):
            urls.read_list(text.encode())
        return
    found = urls.read_list(text.encode())
    assert found.domains.tolist() == expected.domains.tolist() and found.words.tolist() == expected.words.tolist()


def test_rules_are_stored_and_mapped(tmp_path: Path) -> None:
    rules = urls.read_list(b"bad.com\ncasino\nworse.com\n")
    for some in (rules, urls.NO_RULES):
        table = urls.rules_table(some)
        with pa.OSFile(str(tmp_path / "urls.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
        again = urls.stored_rules(tmp_path / "urls.arrow")
        assert again.domains.tolist() == some.domains.tolist() and again.words.tolist() == some.words.tolist()
    with pytest.raises(ValueError, match="line 3: 'no such/thing'"):
        urls.read_list(b"bad.com\r\ncasino\r\nno such/thing\r\n")


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
    asked = [Item(questions=(item,), benchmark="b", file="f", row=i) for i, item in enumerate(items)]
    index, _ = build(asked, ContaminationSettings(ngram=n))
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


def test_an_ngram_of_very_many_items_names_the_first_of_them() -> None:
    h = hits([ITEM, f"{ITEM} x99"], [f"{ITEM} x{i}" for i in range(100)])
    assert h.item.tolist() == [*range(64), *range(64), 99]


def test_invisible_characters_part_no_words() -> None:
    hidden = (
        ITEM.replace("basket", "bas\u00adket")
        .replace("apples", "app\u200bles\u2060")
        .replace("orchard", "orch\U000e0041ard")
    )
    assert hits([hidden, f"\ufeff{hidden}"], [ITEM]).document.tolist() == [0, 1]
    fillers = (
        ITEM.replace("basket", "bas\u3164ket").replace("apples", "\u1160app\uffa0les\u206f").replace("old", "o\u2065ld")
    )
    assert hits([fillers, fillers.replace("\u3164", "\ufff9")], [ITEM]).document.tolist() == [0]
    counts = counts_of("می\u200cخواهم ❤\ufe0f co\u00adop 👨\u200d👩")
    assert counts["n_words"] == counts["n_alpha_words"] == 2 and counts["max_word_chars"] == 7


def test_a_mark_belongs_to_the_character_before_it() -> None:
    khmer = counts_of("ការប្រជុំនឹងធ្វើឡើង")
    assert khmer["n_letters"] == 11 and khmer["n_words"] == khmer["n_alpha_words"] == 4
    burmese = counts_of("အစည်းအဝေးကို")
    assert burmese["n_letters"] == 6 and burmese["n_words"] == burmese["n_alpha_words"] == 3
    assert counts_of(" \u0301 #\ufe0f\u20e3 か\u3099")["n_words"] == 1


def test_a_domain_of_a_list_is_no_longer_than_a_domain_can_be() -> None:
    name = ".".join(["a" * 49] * 5)
    rules = urls.parse_rules([name])
    assert urls.blocked(pa.array([f"http://{'b.' * 999}{name}/", f"http://{name}x/"]), rules).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"line 1: aaaa.a+[.]{3} has 254 characters; a domain has at most 253"):
        urls.parse_rules([f"aaaa.{name}"])


def test_encoded_data_is_counted_as_its_patterns_say() -> None:
    blob = "QUJD" * 20
    text = f"x = '{blob}' # {', '.join(['0xfF'] * 9)} \\u00e9\\u00e9"
    assert code.encoded_counts(segments([text]))[0, 0] == encoded(text) == 80 + 9 * 4 + 8 * 2


def test_encoded_data_is_counted_wherever_blocks_of_bytes_begin_and_end() -> None:
    parts = ["A" * 63 + " ", "A" * 64 + " ", "A" * 200 + "-", r"\x41" * 8 + " ", "0x41, " * 7 + "- ", r"\u00e9" * 9]
    for pad in range(70):
        texts = [f"{'.' * pad}{part}{'.' * (pad % 3)}{parts[pad % 6]}" for part in parts]
        assert code.encoded_counts(segments(texts))[:, 0].tolist() == [encoded(text) for text in texts]


def test_words_of_southeast_asia_are_counted_by_their_letters() -> None:
    for text, words in (
        ("ที่นี่ไม่มีใครรู้", 6),
        ("มหาวิทยาลัย", 1),
        ("ນີ້ແມ່ນ", 2),
        ("១៩៩៧", 1),
        ("ปี ๒๕๖๗", 2),
        ("၁၂၃", 1),
    ):
        assert abs(counts_of(text)["n_words"] - words) <= 1, text
    chat, news = "แล้วเธอไม่ไปด้วยได้ไหม " * 20, "กระทรวงเกษตรสหกรณ์ประชาสัมพันธ์ " * 20
    assert counts_of(chat)["n_words"] / counts_of(chat)["n_letters"] > 2 * (
        counts_of(news)["n_words"] / counts_of(news)["n_letters"]
    )


def test_a_letter_with_its_marks_is_one_word_at_most() -> None:
    marks = counts_of("ก" + "่" * 1000)
    assert marks["n_words"] == marks["n_letters"] == 1
    assert counts_of(("ខ្ញុំ " + "ំ" * 50) * 20)["n_words"] <= 40


def test_digits_of_every_script_make_numbers() -> None:
    for digits in ("๒๕๖๗", "២០២៤", "၂၀၂၄", "໒໐໒໔", "2024", "२०२४"):
        counts = counts_of(f"a {digits} b")
        assert counts["n_words"] == counts["n_tokens"] == 3 and counts["n_digits"] == 4


def test_symbols_side_by_side_are_one_token_in_southeast_asia() -> None:
    for text, symbols in (
        ("ไทย (19) ไทย", 0),
        ("ไทย --- ไทย", 1),
        ("พ.ศ. ไทย", 0),
        ("ไทย... ไทย\u200b. ไทย \u200b. ไทย .", 3),
        ('"ไทย" ไทย', 2),
        ("ไทย (COVID-19), ไทย", 0),
    ):
        counts = counts_of(text)
        words = sum(any(c.isalnum() for c in w) for w in re.findall(r"[A-Za-z]+-\d+|\d+", text))
        thai = counts_of(re.sub(r"[^\u0e00-\u0e7f ]", "", text))["n_words"]
        assert counts["n_tokens"] == thai + words + symbols, text
    assert counts_of("word --- word")["n_tokens"] == 5

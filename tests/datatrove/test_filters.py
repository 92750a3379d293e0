"""Filters at parity: of every document the decision, the reason, the text and the statistics of datatrove's filter."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline import filters as theirs
from fox1.datatrove.kernels import c4
from fox1.datatrove.kernels.batch import Texts
from fox1.datatrove.kernels.c4 import _lower
from fox1.datatrove.kernels.characters import DECIMAL, LETTER, LINE_END, PUNCTUATION, SIZE, SPACE, classes
from fox1.datatrove.pipeline import filters as ours
from fox1.datatrove.pipeline.filters import base_filter
from fox1.datatrove.utils.word_tokenizers import Fox1Words, WhiteSpaceWords
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = [
    *"the be to of and that have with a it stone river lantern Ünïcode naïve 北京 १२३ х́ 123 1,000".split(),
    *"e-mail ... … # ## - • -- — x".split(),
    *"[1] [23] [edit] [citation [४२] [] [1a] { } javascript JavaScript Lorem ipsum lorem-ipsum terms use Privacy policy".split(),
    "lorem ipsum", "[citation needed]", "terms of use", "Uses coo\u212aies", "use cookies", "JAVASCR\u0130PT", "foo.[2]",
    "w" * 40, "ab", "c", "a", "bc", "\U0001f600", "\U0002f800", "\u200b", "\u0301", "“so”", "end.\"", "what?!", "a.b", "'tis'",
]  # fmt: skip
JOINTS = [
    *" " * 12, "  ", "\n", "\n", "\n\n", "\n \n", ". ", ".\n", "! ", "...\n", "\t", "\r\n", "\r", "\x0b", "\x1c", "\x85",
    "\u2028", "\u3000", "\xa0", "",
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text of few different words, so that lines and n-grams repeat."""
    random_ = draw(st.randoms(use_true_random=False))
    words = random_.sample(WORDS, draw(st.integers(1, 20)))
    joints = random_.sample(JOINTS, draw(st.integers(1, 12)))
    parts = [random_.choice(words) + random_.choice(joints) for _ in range(draw(st.integers(0, 120)))]
    if parts and draw(st.booleans()):
        begin = random_.randrange(len(parts))
        parts += parts[begin : begin + random_.randrange(1, 40)]
    return random_.choice(["", "", "\n", " ", "\n\n"]) + "".join(parts)


def of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


SHARES = of(None, 0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 1.5)
GRAMS = st.lists(st.tuples(st.integers(1, 10), st.floats(0, 1.2)), max_size=5).map(tuple)
ARGUMENTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "GopherQualityFilter": st.fixed_dictionaries(
        {
            "min_doc_words": of(1, 3, 20, 50),
            "max_doc_words": of(None, 30, 100000),
            "min_avg_word_length": of(None, 2, 3),
            "max_avg_word_length": of(None, 4, 10),
            "max_symbol_word_ratio": SHARES,
            "max_bullet_lines_ratio": SHARES,
            "max_ellipsis_lines_ratio": SHARES,
            "max_non_alpha_words_ratio": SHARES,
            "min_stop_words": of(None, 0, 1, 2, 4),
            "stop_words": of(None, ["the", "naïve", "a", "..."], []),
        }
    ),
    "GopherRepetitionFilter": st.fixed_dictionaries(
        {
            "dup_line_frac": SHARES,
            "dup_para_frac": SHARES,
            "dup_line_char_frac": SHARES,
            "dup_para_char_frac": SHARES,
            "top_n_grams": of(((2, 0.2), (3, 0.18), (4, 0.16)), ()) | GRAMS,
            "dup_n_grams": of(((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))) | GRAMS,
        }
    ),
    "C4QualityFilter": st.fixed_dictionaries(
        {
            "split_paragraph": of(True, True, False),
            "remove_citations": st.booleans(),
            "filter_no_terminal_punct": st.booleans(),
            "min_num_sentences": of(-1, 1, 3, 5),
            "min_words_per_line": of(-1, 1, 3),
            "max_word_length": of(-1, 5, 1000),
            "filter_lorem_ipsum": st.booleans(),
            "filter_javascript": st.booleans(),
            "filter_curly_bracket": st.booleans(),
            "filter_policy": st.booleans(),
        }
    ),
    "FineWebQualityFilter": st.fixed_dictionaries(
        {
            "line_punct_thr": of(0.0, 0.12, 0.5),
            "line_punct_exclude_zero": st.booleans(),
            "stop_chars": of(None, (".", "x"), ("..", "?"), ()),
            "short_line_thr": of(0.5, 0.67, 1.0),
            "short_line_length": of(5, 30),
            "char_duplicates_ratio": of(0.0, 0.01, 0.3),
            "new_line_ratio": of(0.05, 0.3, 2.0),
        }
    ),
}


class Dropped(list[Any]):
    """A writer of excluded documents that keeps them."""

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Dropped:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, document: Document, rank: int) -> None:
        self.append((document.id, document.metadata.get("filter_reason"), document.text))


def run(step: Any, strings: list[str], metadata: list[dict[str, Any]] | None = None) -> tuple[Any, Any, Any]:
    """(id and text of every document kept, id, reason and text of every other, statistics)."""
    documents = [Document(text, str(k)) for k, text in enumerate(strings)]
    for document, facts in zip(documents, metadata or (), strict=False):
        document.metadata.update(facts)
    step.exclusion_writer = Dropped()
    kept = [(d.id, d.text) for d in step.run(iter(documents))]
    return kept, step.exclusion_writer, step.stats.stats.to_dict()


def both(name: str, strings: list[str], **arguments: Any) -> list[Any]:
    """What datatrove's filter and ours make of some texts."""
    return [run(getattr(module, name)(**copy.deepcopy(arguments)), strings) for module in (theirs, ours)]


@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_filter_decides_as_datatroves_does(name: str, data: st.DataObject) -> None:
    arguments = data.draw(st.just({}) | ARGUMENTS[name])
    strings = data.draw(st.lists(texts() | st.text(max_size=60), min_size=1, max_size=6))
    expected, found = both(name, strings, language=WhiteSpaceWords(), **arguments)
    assert found == expected


LONG = """The stone lay beside the river and nobody came to move it before winter?
A lantern hung over that door, with red glass around its small flame?
Have you seen how quietly the ferry turns when evening wind begins to fall?
My grandmother kept seven keys in one drawer, each of them for some lost lock?
Bread was baked on Mondays, while fish arrived only after long storms had passed?
Children counted swallows from the bridge until their teacher rang an iron bell?
Two old maps of this valley disagree about where its deepest well should be?"""
"""A text that every filter keeps."""
DROPPED = {
    "GopherQualityFilter": {
        "gopher_short_doc": "the end",
        "gopher_long_doc": "the " * 100_001,
        "gopher_below_avg_threshold": "it is a " * 20,
        "gopher_above_avg_threshold": "w" * 700 + " the of and" * 20,
        "gopher_too_many_hashes": LONG + "#" * 40,
        "gopher_too_many_ellipsis": LONG + "… ..." * 20,
        "gopher_too_many_bullets": "- " + LONG.replace("\n", "\n • "),
        "gopher_too_many_end_ellipsis": LONG.replace("?\n", "? ...\n"),
        "gopher_below_alpha_threshold": LONG + " 12345" * 60,
        "gopher_enough_stop_words": "stone river lantern " * 30,
    },
    "GopherRepetitionFilter": {
        "empty": "",
        "dup_para_frac": "so\n\nso\n\n" * 2,
        "dup_para_char_frac": LONG + ("\n\n" + "stone " * 40) * 2 + "".join(f"\n\n{k}" for k in range(6)),
        "dup_line_frac": "so\nso\n",
        "dup_line_char_frac": LONG + ("\n" + "stone " * 40) * 2,
        "top_2_gram": "stone river " * 20,
        "duplicated_7_n_grams": LONG + " So it goes, as " + LONG[:120],
    },
    "C4QualityFilter": {
        "lorem_ipsum": "A Lorem Ipsum stands here.",
        "curly_bracket": "What { is in braces.",
        "too_few_sentences": "Only one sentence stands here.",
    },
    "FineWebQualityFilter": {
        "empty": " \n",
        "line_punct_ratio": LONG.replace("?", ","),
        "short_line_ratio": "So it is.\n" * 3,
        "char_dup_ratio": LONG + "\n" + LONG,
        "list_ratio": "\n".join("stone" * 9 + f"{k}." for k in range(9)),
    },
}


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name in DROPPED for reason in DROPPED[name]])
def test_every_reason_is_given_where_datatrove_gives_it(name: str, reason: str) -> None:
    strings = [LONG, DROPPED[name][reason]]
    expected, found = both(name, strings, language=WhiteSpaceWords())
    assert found == expected
    assert [k for k, _ in found[0]] == ["0"] and [(k, why) for k, why, _ in found[1]] == [("1", reason)]


@pytest.mark.parametrize("name", DROPPED)
def test_words_and_sentences_of_datatroves_tokenizers_decide_as_there(name: str) -> None:
    pytest.importorskip("spacy")
    strings = [LONG, LONG[:300], "Mr. Smith's dog won't. It's 3.14, or so. " * 4, "Stone.", *DROPPED[name].values()]
    strings = [text for text in strings if len(text) < 5000]
    expected, found = both(name, strings)
    assert found == expected


@pytest.mark.parametrize("name", DROPPED)
def test_fox1s_words_decide_as_in_datatroves_filter(name: str) -> None:
    strings = [LONG, "北京 is the — capital. " * 30, *DROPPED[name].values()]
    expected, found = both(name, strings, language=Fox1Words())
    assert found == expected


@pytest.mark.parametrize("name", DROPPED)
def test_half_a_surrogate_pair_is_judged_as_there(name: str) -> None:
    expected, found = both(name, [LONG, LONG + "\nHere is a \ud800 in it.", LONG[:50]], language=WhiteSpaceWords())
    assert found == expected


def test_a_text_without_words_fails_as_there() -> None:
    for module in (theirs, ours):
        with pytest.raises(ZeroDivisionError), pytest.warns(RuntimeWarning):
            run(module.GopherQualityFilter(min_doc_words=None, language=WhiteSpaceWords()), ["\n"])


def test_batches_of_any_size_decide_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    strings = [LONG, *(text for each in DROPPED.values() for text in each.values())]
    for name in DROPPED:
        make = getattr(ours, name)
        expected = run(make(language=WhiteSpaceWords()), strings)
        assert run(make(language=WhiteSpaceWords(), batch_size=1), strings) == expected
        monkeypatch.setattr(base_filter, "BATCH_CHARACTERS", 100)
        assert run(make(language=WhiteSpaceWords(), batch_size=7), strings) == expected
        monkeypatch.undo()


@pytest.mark.parametrize("name", DROPPED)
def test_a_filter_travels_and_says_what_datatroves_says(name: str) -> None:
    step = getattr(ours, name)(language=WhiteSpaceWords())
    run(step, [LONG])
    step.exclusion_writer = None
    again = pickle.loads(pickle.dumps(copy.deepcopy(step)))
    assert [d.text for d in again.run(iter([Document(LONG, "0")]))] == [LONG]
    assert str(again) == str(getattr(theirs, name)()) and isinstance(again, getattr(theirs, name))


def test_the_table_of_characters_is_that_of_python() -> None:
    from datatrove.utils.text import PUNCTUATION_SET

    table = classes()
    for cp in range(SIZE):
        char = chr(cp)
        expected = (
            (SPACE if char.isspace() else 0)
            | (LINE_END if len(f"a{char}b".splitlines()) > 1 else 0)
            | (LETTER if char.isalpha() else 0)
            | (PUNCTUATION if char in PUNCTUATION_SET else 0)
            | (DECIMAL if char.isdecimal() else 0)
        )
        assert table[cp] == expected, hex(cp)
    beyond = map(chr, range(SIZE, 0x110000))
    assert not any(c.isspace() or c.isalpha() or c.isdecimal() or c in PUNCTUATION_SET for c in beyond)


def test_only_one_letter_beyond_ascii_becomes_a_letter_of_the_phrases() -> None:
    """The lower case of İ is an i with a dot above it, which stands in no phrase."""
    for cp in range(128, 0x110000):
        if 0xD800 <= cp < 0xE000:
            continue
        lower = chr(cp).lower()
        assert lower[-1] > "\x7f" or cp == 0x212A, hex(cp)
    data = np.frombuffer("coo\u212aies İ".encode(), np.uint8)
    out = np.empty(len(data), np.uint8)
    assert out[: _lower(data, 0, len(data), out)].tobytes().decode() == "cookies İ"


@given(text=texts() | st.text(alphabet=".!?\"') ax\n“”’]", max_size=30))
@settings(max_examples=300, deadline=None)
def test_the_kernel_counts_the_sentences_of_the_tokenizer(text: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    found = Texts.of(lines)
    spans = np.column_stack([found.offsets[:-1], found.offsets[1:]])
    rules = c4.LineRules(False, False, -1, -1, False, False, False, (), "\n")
    cleaned = c4.clean(found, spans, np.arange(len(lines) + 1), rules)
    assert c4.sentences(cleaned).tolist() == [len(WhiteSpaceWords().span_tokenize(line.strip())) for line in lines]


def test_n_grams_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one word, not 0"):
        ours.GopherRepetitionFilter(top_n_grams=((0, 0.1),))


def test_languages_are_noted_and_asked_for() -> None:
    german = "Der Fluss lag still im Licht des Abends, und niemand sprach ein Wort über das, was geschehen war."
    kept, dropped, stats = run(ours.LanguageFilter("en"), [LONG, german, "\ud800" + LONG])
    assert [k for k, _ in kept] == ["0", "2"] and [k for k, _, _ in dropped] == ["1"] and stats["dropped"] == 1
    documents = [Document(german, "0"), Document("", "1")]
    assert len(list(ours.LanguageFilter("en", label_only=True).run(iter(documents)))) == 2
    assert documents[0].metadata["language"] == "de" and documents[0].metadata["language_score"] > 0.65
    assert documents[1].metadata == {"language": "und", "language_score": 0.0}
    with pytest.raises(ValueError, match="backend"):
        ours.LanguageFilter(backend="ft176")
    with pytest.raises(ValueError, match="keep_top_pairs_threshold"):
        ours.LanguageFilter(keep_top_pairs_threshold=0.1)

"""What of a benchmark's items is found in documents, beside a reference in plain Python."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from fox1.pipeline.prepare.benchmarks import BenchmarkSettings, Item, read_items
from fox1.pipeline.prepare.contamination import ContaminationSettings, build, prepare_contamination
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals import contamination
from fox1.pipeline.signals.contamination import find_hits, read_index
from fox1.pipeline.signals.item_grams import words_of
from fox1.pipeline.signals.numerals import NUMBER_WORDS, NUMERAL
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import segments

QUESTION = (
    "Odalys stacks 18 crates of plums on a cart and each crate weighs 3.5 kg. On the way to the market she "
    "sells four crates to a baker. How many kilograms of plums does she bring to the market?"
)
SOLUTION = (
    "Odalys keeps 18 - 4 = <<18-4=14>>14 crates after the baker took his share. The crates on the cart weigh "
    "14 * 3.5 = <<14*3.5=49>>49 kg together, so she brings that many kilograms.\n#### 49"
)
BARE = re.sub(r"<<[^>]*>>", "", SOLUTION)


def item(question: str, benchmark: str = "b", row: int = 0, **texts: object) -> Item:
    return Item(questions=(question,), benchmark=benchmark, file="f", row=row, **texts)  # type: ignore[arg-type]


def found(documents: list[str], items: list[Item], asked: ContaminationSettings | None = None) -> list[list[int]]:
    """The items of every document."""
    hits = find_hits(segments(documents), build(items, asked or ContaminationSettings())[0])
    pairs = list(zip(hits.document.tolist(), hits.item.tolist(), strict=True))
    return [[i for document, i in pairs if document == d] for d in range(len(documents))]


def read(tmp_path: Path, format: str, *rows: object) -> list[Item]:
    path = tmp_path / f"{format}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_items(BenchmarkSettings("b", format, (str(path),))))


def words(text: str) -> list[str]:
    """Words of ASCII text with numbers as one, by the definition."""
    matches = list(re.finditer(r"\w+", text.lower()))
    made, i = [], 0
    while i < len(matches):
        word = matches[i][0]

        def joined(signs: str, i: int = i) -> bool:
            return (
                i + 1 < len(matches)
                and matches[i + 1].start() == matches[i].end() + 1
                and text[matches[i].end()] in signs
            )

        if word[0].isdigit():
            word = re.sub(r"\d+", "#", word)
            if word == "#" and joined(".,") and matches[i + 1][0][0].isdigit():
                i += 1
                continue
        elif word in NUMBER_WORDS:
            word = "#"
            if joined("-") and matches[i + 1][0] in NUMBER_WORDS:
                i += 1
                continue
        made.append(word)
        i += 1
    return made


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    w = words(text)
    every = {tuple(w[i : i + n]) for i in range(len(w) - n + 1)}
    return {gram for gram in every if len({word for word in gram if word[0] != "#"}) >= n // 3}


TOKENS = st.sampled_from(
    [
        "a",
        "b",
        "cat",
        "7",
        "12",
        "1,250.5",
        "3kg",
        "10am",
        "twenty-five",
        "one",
        "x9",
        "6x4",
        "one-way",
        "5,a",
        "2.",
        "9-3",
    ]
)
TEXTS = st.lists(TOKENS, max_size=14).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_words_with_numbers_as_one_are_those_of_the_definition(text: str) -> None:
    from fox1.pipeline.signals.word_hashes import word_hash

    made = words_of([text])
    assert [int(NUMERAL) == h for h in made.hashes.tolist()] == [w == "#" for w in words(text)]
    plain = [(h, w) for h, w in zip(made.hashes.tolist(), words(text), strict=True) if w[0] != "#"]
    assert [h for h, _ in plain] == [word_hash(w) for _, w in plain]
    assert made.numbers[-1] == sum(w[0] == "#" for w in words(text))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4),
    TEXTS,
    st.integers(4, 6),
    st.integers(4, 6),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_an_item_is_found_by_a_share_of_the_ngrams_of_one_of_its_passages(
    texts: list[tuple[str, str]], document: str, n: int, other: int, overlap: float
) -> None:
    # Wordings of a question are passages without any that cross; the second benchmark has an n of its own.
    items = [
        Item(questions=pair, benchmark="b" if i < 2 else "c", file="f", row=i) for i, pair in enumerate(sorted(texts))
    ]
    own = (BenchmarkSettings("b", "arc", ("x",)), BenchmarkSettings("c", "arc", ("x",), ngram=other, overlap=overlap))

    def holds(it: Item) -> bool:
        size, share = (n, 0.0) if it.benchmark == "b" else (other, overlap)
        for text in it.questions:
            wanted, held = grams(text, size), grams(document, size)
            if wanted and len(wanted & held) >= max(1, math.ceil(share * len(wanted))):
                return True
        return False

    asked = ContaminationSettings(benchmarks=own, ngram=n)
    assert found([document], items, asked) == [[i for i, it in enumerate(items) if holds(it)]]


def test_a_solution_is_found_alone_and_after_the_end_of_its_question(tmp_path: Path) -> None:
    items = read(tmp_path, "gsm8k", {"question": QUESTION, "answer": SOLUTION})
    tail = " ".join(QUESTION.split()[-8:])
    documents = [SOLUTION, BARE, f"{tail} {BARE}", f"{tail}\n{SOLUTION}", QUESTION, tail, "Odalys keeps 18 - 4 crates."]
    assert found(documents, items) == [[0], [0], [0], [0], [0], [], []]
    # Where neither is long enough alone.
    short = [item("What do badgers dig at night?", answers=("Long tunnels with several chambers",))]
    documents = [
        "What do badgers dig at night? Long tunnels with several chambers.",
        "Q: What do badgers dig at night?\nAnswer: Long tunnels with several chambers",
        "What do badgers dig at night?\nA: Long tunnels with several chambers",
        "badgers dig at night: long tunnels with several chambers",
        "Badgers dig long tunnels with several chambers, and so do some other animals of the wood.",
    ]
    assert found(documents, short, ContaminationSettings(ngram=9)) == [[0], [0], [0], [0], []]


def test_an_item_with_other_numbers_is_the_same_item(tmp_path: Path) -> None:
    items = read(tmp_path, "gsm8k", {"question": QUESTION, "answer": SOLUTION})
    other = {"18": "1,200", "3.5": "twenty-two", "four": "45", "4": "310", "14": "6", "49": "0.25"}

    def reworded(text: str) -> str:
        return re.sub(r"\d+(\.\d+)?|four", lambda m: other[m[0]], text)

    assert reworded(QUESTION) != QUESTION
    assert found([reworded(QUESTION), reworded(BARE), reworded(SOLUTION)], items) == [[0], [0], [0]]
    # What is no number still counts: another unit is another text.
    opens = "The library of our town opens at {} on all days but the last of a month"
    assert found([opens.format("10am"), opens.format("10pm")], [item(opens.format("9am"))]) == [[0], []]


def test_invisible_characters_hide_no_number() -> None:
    assert found([QUESTION.replace("18", "2\u200b1").replace("3.5", "4\u2060.\u200b2")], [item(QUESTION)]) == [[0]]
    assert found([QUESTION.replace("18", "\u0661\u0668").replace("3.5", "\uff13")], [item(QUESTION)]) == [[0]]


def test_ngrams_of_numbers_say_nothing() -> None:
    table = " ".join(f"x {i} {i + 1} y {i * i}" for i in range(20))
    index, listed = build([item(table), item("Add " + " ".join(map(str, range(30))))], ContaminationSettings())
    assert not len(index.grams) and listed.column("covered_by").to_pylist() == ["", ""]
    assert listed.column("uncovered").to_pylist() == ["mostly numbers", "mostly numbers"]
    assert not found([table], [item(table)])[0]


CHOICES = (
    "in the deep part of the lake",
    "under the old stone bridge",
    "near the mill",
    "on the far bank of the river",
)


def test_choices_count_only_after_the_question() -> None:
    items = [item("Where do the oldest of these herons sleep when it storms?", answers=CHOICES[:1], choices=CHOICES)]
    items += [item(f"Where does heron number {w} of them sleep?", row=1, choices=CHOICES) for w in ("ab", "cd")]
    listed = "\n".join(f"({letter}) {c}" for letter, c in zip("ABCD", CHOICES, strict=True))
    plain = "; ".join(CHOICES)
    documents = [f"sleep when it storms?\n{listed}", f"herons sleep when it storms? {plain}", listed, plain]
    assert found(documents, items) == [[0], [0], [], []]


def test_a_wrong_answer_is_matched_only_after_a_short_question() -> None:
    wrong = "They are born in the sky and fall to the ground with the first rain of the year"
    items = [item("Where do frogs come from?", answers=("From eggs",), wrong=(wrong,))]
    assert found([f"Where do frogs come from? {wrong}", wrong], items) == [[0], []]


def test_a_passage_of_others_is_matched_only_where_the_question_follows(tmp_path: Path) -> None:
    passage = (
        "The lantern fish lives at a depth of some hundred metres and rises to the surface at night in order to feed"
    )
    items = read(
        tmp_path, "boolq", {"question": "does the lantern fish hunt by day", "passage": passage, "answer": False}
    )
    assert found([passage, f"{passage}.\nDoes the lantern fish hunt by day? No"], items) == [[], [0]]


def test_an_item_is_listed_with_what_covers_it_or_why_nothing_does() -> None:
    long = "Which of the seven bridges of the town did the ferryman cross on his way home that evening"
    items = [
        item(long),
        item(
            "Who rang?", answers=("The sexton of the small church behind the hill, who had lost his keys in the snow",)
        ),
        item("Which two senses would best help a person measure hair length?", answers=("Touch and sight",)),
        item("Why not?", answers=("Never.",)),
        *(item(f"{long} x") for _ in range(contamination.MAX_PASSAGES)),
        item(f"{long} x"),
    ]
    _, listed = build(items, ContaminationSettings())
    covered, why = (listed.column(name).to_pylist() for name in ("covered_by", "uncovered"))
    assert covered[:4] == ["question", "answer", "question and answer", ""] and why[:4] == ["", "", "", "too short"]
    assert set(covered[4:-1]) == {"question"} and (covered[-1], why[-1]) == ("", "shared")


ROWS: dict[str, tuple[dict[str, object], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "arc": (
        {"query": "Question: Which?", "choices": ["a b", "c d"], "gold": 1},
        ("Which?",),
        ("c d",),
        ("a b",),
    ),
    "mmlu": (
        {"question": "Which?", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "C"},
        ("Which?",),
        ("y",),
        ("w", "x", "z"),
    ),
    "openbookqa": (
        {"question_stem": "The sun", "choices": {"text": ["sets", "sings"], "label": ["A", "B"]}, "answerKey": "A"},
        ("The sun",),
        ("sets",),
        ("sings",),
    ),
    "hellaswag": ({"ctx": "A man", "endings": ["eats.", "rains."], "label": "0"}, ("A man",), ("eats.",), ("rains.",)),
    "piqa": ({"goal": "Dry", "sol1": "Hang it.", "sol2": "Sing.", "label": 0}, ("Dry",), ("Hang it.",), ("Sing.",)),
    "humaneval": (
        {"task_id": "T/1", "prompt": "def f():", "canonical_solution": " return 2", "test": "assert"},
        ("def f():",),
        (" return 2",),
        (),
    ),
    "truthfulqa": (
        {
            "question": "Why?",
            "mc1_targets": {"choices": ["So.", "Not."], "labels": [1, 0]},
            "mc2_targets": {"choices": ["So.", "Not."], "labels": [1, 0]},
        },
        ("Why?",),
        ("So.", "So."),
        ("Not.", "Not."),
    ),
}


@pytest.mark.parametrize("format", ROWS)
def test_the_texts_of_an_item_are_those_of_its_format(tmp_path: Path, format: str) -> None:
    row, questions, answers, wrong = ROWS[format]
    (it,) = read(tmp_path, format, row)
    assert (it.questions, it.answers, it.wrong) == (questions, answers, wrong)


def test_a_label_that_names_no_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 0 of hellaswag.jsonl is not a hellaswag item .*label 7 names none of 2"):
        read(tmp_path, "hellaswag", {"ctx": "A man", "endings": ["eats.", "rains."], "label": 7})


def test_an_index_that_is_stored_finds_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": SOLUTION}) + "\n" for q in (QUESTION, "Why?")))
    benchmarks = (
        BenchmarkSettings("one", "gsm8k", (str(path),)),
        BenchmarkSettings("two", "gsm8k", (str(path),), ngram=8, overlap=0.9),
    )
    asked = ContaminationSettings(benchmarks)
    made = prepare_contamination(asked, (), RunPaths(tmp_path / "run"))
    assert made.benchmarks == {"one": {"items": 2, "uncovered": 0}, "two": {"items": 2, "uncovered": 0}}
    stored = read_index(made.index.file, made.passages.file, made.pairs.file)
    documents = segments([QUESTION, BARE, " ".join(BARE.split()[:18]), " ".join(QUESTION.split()[:9])])
    items = [it for b in benchmarks for it in read_items(b)]
    expected = find_hits(documents, build(items, asked)[0])
    hits = find_hits(documents, stored)
    assert hits.document.tolist() == expected.document.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert hits.item.tolist() == expected.item.tolist() == [0, 2, 0, 1, 2, 3, 0, 1]
    assert hits.spans.tolist() == expected.spans.tolist() and len(hits.spans) == 3


def test_spans_are_those_of_the_items_that_count() -> None:
    asked = ContaminationSettings((BenchmarkSettings("b", "arc", ("x",), overlap=0.8),), ngram=5)
    some = " ".join(QUESTION.split()[:12])
    hits = find_hits(
        segments([f"Before. {some} after.", f"Before. {QUESTION} After."]), build([item(QUESTION)], asked)[0]
    )
    assert hits.document.tolist() == [1] and len(hits.spans) == 1
    document, start, end = hits.spans[0].tolist()
    text = f"Before. {some} after.Before. {QUESTION} After."
    assert document == 1 and text.encode()[start:end].decode() == QUESTION.rstrip("?")

"""Kernels that look at eight bytes together count what plain Python counts, whatever stands at which byte."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from datatrove.data import Document
from datatrove.pipeline import filters as theirs
from datatrove.utils.text import PUNCTUATION_SET
from fox1.datatrove.kernels import c4
from fox1.datatrove.kernels.batch import Texts, words_of
from fox1.datatrove.kernels.characters import SIZE, characters, line_feed
from fox1.datatrove.kernels.lines import line_counts
from fox1.datatrove.kernels.quality import quality_counts
from fox1.datatrove.pipeline import filters as ours
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

EVERY = [*map(chr, range(0x86)), *"\x85\xa0é北\u2003\u2028\u2026\u2022\u3000😀"]
USUAL = [*"abTHE  \n.#-[1]{"]
STOPS = ["the", "a", "be", "another", "and", "notwithstanding"]


def batches(rounds: int, longest: int = 70) -> Iterator[Texts]:
    chosen = random.Random(5)
    for round_ in range(rounds):
        alphabet = USUAL if round_ % 2 else EVERY + 20 * USUAL if round_ % 3 else EVERY
        yield Texts.of(
            [
                "".join(
                    chosen.choice([*alphabet, chosen.choice(STOPS) + " "]) for _ in range(chosen.randrange(longest))
                )
                for _ in range(chosen.randrange(6))
            ]
        )


def test_characters_and_line_feeds_are_found_at_every_byte() -> None:
    for texts in batches(200):
        data = texts.data.tobytes()
        for begin, end in zip(texts.offsets[:-1].tolist(), texts.offsets[1:].tolist(), strict=True):
            assert characters(texts.data, begin, end) == len(data[begin:end].decode())
            at = data.find(b"\n", begin, end)
            assert line_feed(texts.data, begin, end) == (end if at < 0 else at)


def test_gophers_counts() -> None:
    for texts in batches(600):
        words = words_of(texts, WhiteSpaceWords(), np.ones(len(texts), np.bool_))
        expected = []
        for text in texts.strings:
            split, lines = text.split(), text.splitlines()
            plain = [word for word in split if any(char not in PUNCTUATION_SET for char in word)]
            expected.append(
                [
                    len(split),
                    len(plain),
                    sum(map(len, plain)),
                    sum(any(char.isalpha() for char in word) for word in split),
                    len({*STOPS} & {*split}),
                    text.count("#"),
                    text.count("...") + text.count("…"),
                    len(lines),
                    sum(line.lstrip().startswith(("•", "-")) for line in lines),
                    sum(line.rstrip().endswith(("...", "…")) for line in lines),
                ]
            )
        assert quality_counts(texts, words, STOPS).tolist() == expected


def test_finewebs_counts() -> None:
    stops = np.zeros(SIZE, np.bool_)
    stops[[ord(char) for char in ".…-"]] = True
    for texts in batches(600):
        expected = []
        for text in texts.strings:
            lines = [line for line in text.split("\n") if line.strip()]
            again = [line for k, line in enumerate(lines) if line in lines[:k]]
            expected.append(
                [
                    len(lines),
                    sum(line.endswith((".", "…", "-")) for line in lines),
                    sum(len(line) <= 5 for line in lines),
                    sum(map(len, again)),
                    len(text.replace("\n", "")),
                    text.count("\n"),
                ]
            )
        assert line_counts(texts, stops, 5).tolist() == expected


def test_the_lines_c4_keeps() -> None:
    arguments = {"language": WhiteSpaceWords(), "min_num_sentences": 1, "min_words_per_line": 1, "max_word_length": 12}
    phrases = [*STOPS, "Lorem Ipsum", "JavaScript", "coo\u212aie Policy", "Terms of use", "[edit]", "[citation needed]"]
    chosen = random.Random(7)
    outcomes = set()
    for texts in batches(400):
        strings = [f"{text} {chosen.choice(phrases)} {text[::-1]}." for text in texts.strings]
        found = []
        for module in (theirs, ours):
            step = module.C4QualityFilter(filter_no_terminal_punct=bool(len(strings) % 2), **arguments)
            kept = [(d.id, d.text) for d in step.run(Document(text, str(k)) for k, text in enumerate(strings))]
            counts = {label: value.total for label, value in step.stats.stats.items()}
            found.append((kept, counts))
        assert found[0] == found[1]
        outcomes |= {*found[0][1]}
    assert outcomes >= {"dropped_lorem_ipsum", "line-filter-javascript", "line-filter-policy", "line-kept"}


def test_lines_end_where_python_ends_them() -> None:
    for texts in batches(400):
        spans, offsets = c4.lines_of(texts)
        data = texts.data.tobytes()
        found = [[data[a:b].decode() for a, b in spans[offsets[d] : offsets[d + 1]]] for d in range(len(texts))]
        assert found == [text.splitlines() for text in texts.strings]


def test_n_grams_of_long_texts_are_judged_at_their_very_share() -> None:
    """Bounds by sums of hashes let none pass that a count would drop."""
    chosen = random.Random(9)
    words = ["stone", "river", "of", "notwithstanding", "été", "a", "北京"]
    dropped: set[str] = set()
    for size in (5, 40, 300):
        for _ in range(12):
            rare = ["".join(chosen.choices("abcdefghij", k=4)) for _ in range(size)]
            text = " ".join(chosen.choice(words if chosen.random() < 0.5 else rare) for _ in range(size))
            share = chosen.choice([0.01, 0.03, 0.05, 0.1, 0.2])
            rules = {"top_n_grams": ((2, share), (3, share), (4, share / 2)), "dup_n_grams": ((5, share), (6, 0.02))}
            results = [
                module.GopherRepetitionFilter(language=WhiteSpaceWords(), **rules).filter_batch([Document(text, "")])[0]
                for module in (theirs, ours)
            ]
            assert results[0] == results[1], text
            dropped.add(results[0][1] if isinstance(results[0], tuple) else "kept")
    assert dropped >= {"top_2_gram", "kept"}

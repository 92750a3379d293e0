"""Documents that no package holds: the shipped passages, arithmetic, and poor text that filters must drop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .extract import Document, Kind
from .passages import passages

PASSAGE_KINDS = {
    "benchmarks": Kind.BENCHMARK,
    "dialogues": Kind.DIALOGUE,
    "instructions": Kind.INSTRUCTION,
    "languages": Kind.LANGUAGES,
    "literature": Kind.BOOK,
    "personal": Kind.PERSONAL,
}
LATIN = """
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat
"""
LINES = (
    "Click here to read more",
    "Sign up for our newsletter today!",
    "Add to cart | Add to wish list | Compare",
    "JavaScript must be enabled to view this page.",
    "Best cheap watches online shop best price",
    "Home > Products > Offers > Home",
)


def shipped() -> Iterator[Document]:
    """Every passage of `passages/`."""
    for name, kind in PASSAGE_KINDS.items():
        for title, text in passages(name):
            # The title is part of what a page shows, but not of a log, a question or an instruction.
            shown = f"{title}\n\n{text}" if kind in (Kind.LANGUAGES, Kind.BOOK, Kind.PERSONAL) else text
            yield Document(kind, f"passages/{name}/{title}", title, shown)


def arithmetic(count: int) -> Iterator[Document]:
    """Pages of generated questions with their answers, as in the DeepMind mathematics data."""
    for page in range(count):
        dice = random.Random(f"arithmetic {page}")
        text = "\n".join(_question(dice) for _ in range(40))
        yield Document(Kind.ARITHMETIC, f"invented/arithmetic/{page}", f"Exercises {page}", text)


def _question(dice: random.Random) -> str:
    a, b, c = dice.randint(-999, 999), dice.randint(2, 999), dice.randint(2, 40)
    return dice.choice(
        [
            f"What is {a} plus {b}?\n{a + b}",
            f"Calculate {a} - {b} + {c}.\n{a - b + c}",
            f"Multiply {a} and {c}.\n{a * c}",
            f"What is the remainder when {b * c + a % c} is divided by {c}?\n{(b * c + a % c) % c}",
            f"Solve {c}*x = {b * c} for x.\n{b}",
            f"Is {b} a multiple of {c}?\n{b % c == 0}",
        ]
    )


def poor(count: int) -> Iterator[Document]:
    """Text of every sort that a quality filter exists for, `count` documents in all."""
    sorts = (_short, _numbers, _repeated, _latin, _symbols, _spam)
    for number in range(count):
        sort: Callable[[random.Random], str] = sorts[number % len(sorts)]
        text = sort(random.Random(f"poor {number}"))
        yield Document(Kind.POOR, f"invented/poor/{number}", f"Page {number}", text)


def _short(dice: random.Random) -> str:
    return dice.choice(("ok", "404 Not Found", "Page moved.", "no comments yet", "test", "Untitled document"))


def _numbers(dice: random.Random) -> str:
    return "\n".join("\t".join(str(dice.randint(0, 99_999)) for _ in range(8)) for _ in range(dice.randint(20, 120)))


def _repeated(dice: random.Random) -> str:
    return "\n".join([dice.choice(LINES)] * dice.randint(20, 90))


def _latin(dice: random.Random) -> str:
    words = LATIN.split()
    return "\n\n".join(
        " ".join(dice.choice(words) for _ in range(60)).capitalize() + "." for _ in range(dice.randint(2, 8))
    )


def _symbols(dice: random.Random) -> str:
    return "".join(dice.choice("#@$%^&*{}<>|~=+_-/\\;:!? \n…•→") for _ in range(dice.randint(300, 2_000)))


def _spam(dice: random.Random) -> str:
    return "\n".join(dice.choice(LINES) for _ in range(dice.randint(15, 60)))

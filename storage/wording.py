"""Text for a terminal: the first line of an error, and the one place where text is made unable to steer the terminal.

Names of files, subsets, models and runs, words of documents and messages of libraries may hold anything. `say` and the
tables of `commands/show` pass whatever they show through `printable`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TextIO

MARKS = 8
"""Combining marks that a character may bear: more are piled over the lines above and below it."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols that nobody sees, besides the format characters: fillers, joiners, variation selectors (but
those of text and emoji)."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(text: str) -> str:
    """A message on one line."""
    return " ".join(line.strip() for line in text.split("\n") if line.strip())


def counted(number: int, noun: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, besides: str = "") -> str:
    """Text that cannot steer a terminal, begin a line, or show something else than it is.

    Control characters (escapes among them), characters that set a direction, tags, and all others that nobody sees are shown
    as U+FFFD, as is a pile of combining marks.

    Args:
        besides: unprintable characters to keep.
    """
    if text.isascii() and text.isprintable():
        return text
    safe, marks = [], 0
    for c in _UNSEEN.sub("\ufffd", text):
        marks = marks + 1 if unicodedata.category(c)[0] == "M" else 0
        if marks <= MARKS:
            safe.append(c if c.isprintable() or c in besides else "\ufffd")
        elif marks == MARKS + 1:
            safe.append("\ufffd")
    return "".join(safe)


def say(text: str, out: TextIO | None = None, besides: str = "") -> None:
    """Print one line, as `printable` has it.

    Args:
        out: where to; None: standard output.
        besides: as for `printable`.
    """
    print(printable(text, besides), file=out or sys.stdout, flush=True)

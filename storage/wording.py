"""Words for a terminal: what an error says, in a line, and text that cannot steer the terminal."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, besides: str = "") -> str:
    """Text that cannot steer a terminal: control characters, escapes among them, are shown as U+FFFD.

    Args:
        besides: characters that stay although they are not printable.
    """
    return "".join(c if c.isprintable() or c in besides else "\ufffd" for c in text)

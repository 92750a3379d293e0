"""Text for a terminal: the first line of an error, and strings that cannot steer the terminal."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, besides: str = "") -> str:
    """Text that cannot steer a terminal: control characters, escapes among them, are shown as U+FFFD.

    Args:
        besides: unprintable characters to keep.
    """
    return "".join(c if c.isprintable() or c in besides else "\ufffd" for c in text)

"""Small passages that no installed package holds: other scripts, dialogue, benchmark-like items, personal data.

Each `<name>.txt` is a sequence of passages; a line `%% title` begins one. The literature and the articles of the
Universal Declaration of Human Rights are in the public domain; everything else was written for fox1. Every address,
number and key in `personal.txt` is invented or is a published test value.
"""

from __future__ import annotations

import re
from importlib.resources import files

NAMES = ("benchmarks", "dialogues", "instructions", "languages", "literature", "personal")


def passages(name: str) -> list[tuple[str, str]]:
    """(title, text) of every passage of one of `NAMES`, in the order of the file."""
    content = files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
    found = []
    for block in re.split(r"^%% ", content, flags=re.MULTILINE)[1:]:
        title, _, text = block.partition("\n")
        found.append((title.strip(), text.strip()))
    return found

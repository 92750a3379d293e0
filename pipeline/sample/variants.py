"""Light edits that turn a copy into a near-duplicate: what extraction, templates and people do to a page.

Every edit is a pure function of the text and a seed.
"""

from __future__ import annotations

import random
import re

LICENCE_HEADER = (
    "Copyright (c) {year} The authors of this file. All rights reserved.",
    "Use of this source code is governed by a license that can be found in the LICENSE file.",
    "Distributed on an AS IS basis, without warranties or conditions of any kind.",
)
PAGE_HEADER = ("Skip to content", "Home | Docs | Download | Community | {year}")
SYNONYMS = {
    "returns": "gives back",
    "used": "employed",
    "given": "provided",
    "must": "has to",
    "should": "ought to",
    "example": "instance",
    "because": "since",
    "large": "big",
    "begin": "start",
    "following": "next",
}
"""Replaced in prose only; chosen to be frequent in documentation."""
SWAPPED = re.compile(rf"\b({'|'.join(SYNONYMS)})\b")


def respaced(text: str, dice: random.Random) -> str:
    """Other white space: blank lines dropped, or spaces at the ends of lines."""
    if dice.random() < 0.5:
        return re.sub(r"\n{2,}", "\n", text)
    return "\n".join(line + " " if line else line for line in text.split("\n"))


def shortened(text: str, dice: random.Random) -> str:
    """Without one of its paragraphs; a text of one or two keeps them all."""
    paragraphs = text.split("\n\n")
    if len(paragraphs) > 2:
        del paragraphs[dice.randrange(1, len(paragraphs))]
    return "\n\n".join(paragraphs)


def headed(text: str, dice: random.Random, *, comment: str) -> str:
    """With a licence header (code) or the navigation of a web page (prose) before it."""
    year = dice.randint(2009, 2023)
    head = "\n".join(comment + line.format(year=year) for line in (LICENCE_HEADER if comment else PAGE_HEADER))
    return f"{head}\n\n{text}"


def reworded(text: str, dice: random.Random) -> str:
    """A few words replaced."""
    return SWAPPED.sub(lambda m: SYNONYMS[m[1]] if dice.random() < 0.7 else m[1], text)


def lowered(text: str, dice: random.Random) -> str:
    """In lower case, as some pipelines leave it."""
    return text.lower()


def edited(text: str, seed: int, *, comment: str = "") -> str:
    """The text after one edit chosen by the seed.

    Args:
        comment: how a comment begins if the text is source code, which keeps its case and its words.
    """
    dice = random.Random(seed)
    if dice.random() < 0.25:
        return headed(text, dice, comment=comment)
    edits = (respaced, shortened) if comment else (respaced, shortened, reworded, reworded, lowered)
    return dice.choice(edits)(text, dice)

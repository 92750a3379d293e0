"""Passages by their definition, in plain Python, for texts of ASCII without code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fox1.pipeline.passages.settings import PassageSettings


@dataclass(frozen=True)
class Passage:
    kind: str
    key: tuple[str, ...]
    first: int
    """The first word."""
    begin: int
    end: int

    @property
    def words(self) -> int:
        return len(self.key)


def passages(text: str, settings: PassageSettings) -> Iterator[Passage]:
    """All passages of a text that may be cut."""
    words = [(m.start(), m.end()) for m in re.finditer(r"\w+", text)]
    lowered = [text[a:b].lower() for a, b in words]
    if settings.any_numbers:
        lowered = [re.sub(r"\d", "0", word) for word in lowered]

    def passage(kind: str, begin: int, end: int) -> Iterator[Passage]:
        inside = [i for i, (a, b) in enumerate(words) if begin <= a and b <= end]
        if len(inside) >= settings.min_words:
            yield Passage(kind, tuple(lowered[i] for i in inside), inside[0], begin, end)

    lines, at = [], 0
    for line in text.splitlines(keepends=True):
        lines.append((at, at + len(line), at + len(line.rstrip())))
        at += len(line)
    full = [k for k, (a, b, _) in enumerate(lines) if text[a:b].strip()]
    if "lines" in settings.cut:
        for k in full:
            yield from passage("lines", *lines[k][:2])
    if "paragraphs" in settings.cut:
        opens = [k for k in full if k - 1 not in full]
        for k, after in itertools.zip_longest(opens, opens[1:]):
            last = max(m for m in full if after is None or m < after)
            yield from passage("paragraphs", lines[k][0], lines[last][1] if after is None else lines[after][0])
    if "sentences" in settings.cut:
        begins = []  # (byte, line)
        for k in full:
            own = [(a, b) for a, b in words if lines[k][0] <= a < lines[k][1]]
            if own:
                begins.append((lines[k][0], k))
            for (_, b), (c, _) in itertools.pairwise(own):
                if found := re.search(r"[.!?][\"')\]]*\s+", text[b:c]):
                    begins.append((b + found.end(), k))
        for i in range(len(begins) - settings.sentences + 1):
            (begin, line), last = begins[i], begins[i + settings.sentences - 1][1]
            after = begins[i + settings.sentences] if i + settings.sentences < len(begins) else None
            if after and after[1] == last:
                end = after[0]
            else:
                end = lines[last][1] if begin == lines[line][0] else lines[last][2]
            yield from passage("sentences", begin, end)
    if "substrings" in settings.cut:
        n = settings.substring_words
        starts = [a for a, _ in words] + [len(text)]
        exact = ["".join(text[a:b].split()) for a, b in itertools.pairwise(starts)]
        for i in range(len(words) - n + 1):
            yield Passage("substrings", tuple(exact[i : i + n]), i, starts[i], starts[i + n])


@dataclass(frozen=True)
class Cut:
    begin: int
    end: int
    kind: str
    by: int


def repeats(texts: list[str], settings: PassageSettings, held_out: frozenset[int] = frozenset()) -> list[list[Cut]]:
    """What is cut of each of some texts, the best first; held-out ones come before all others, and lose nothing."""
    kept: dict[tuple[str, tuple[str, ...]], tuple[int, Passage]] = {}
    cuts: list[list[Cut]] = [[] for _ in texts]
    for number in sorted(range(len(texts)), key=lambda i: i not in held_out):
        for p in sorted(passages(texts[number], settings), key=lambda p: (p.begin, p.end)):
            by, other = kept.setdefault((p.kind, p.key), (number, p))
            if other is p or number in held_out:
                continue
            begin = p.begin
            if by == number and p.first < other.first + other.words:
                begin = other.end
                if p.first + p.words <= other.first + other.words:
                    continue
            cuts[number].append(Cut(begin, p.end, p.kind, by))
    return cuts


def left(text: str, cuts: list[Cut]) -> str:
    """What is left of a text."""
    gone = {i for cut in cuts for i in range(cut.begin, cut.end)}
    return "".join(char for i, char in enumerate(text) if i not in gone)

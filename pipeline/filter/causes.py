"""Where in a text the cause of a failed rule stands: the lines, words and n-grams that its signal counts.

The kernels that counted them are asked again, so what is marked is what was counted. A rule about what is missing (too few words,
no stop words) marks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...tokenize.spans import text_buffers
from ..signals import c4, contamination, gopher
from ..signals.fineweb import SHORT_LINE
from ..signals.scripts import units_of
from ..signals.segment import Segments, segment
from ..signals.unicode import STOP, TABLE_SIZE, tables
from .judge import signal_of

Span = tuple[int, int]
"""First and end byte in the text."""
MOST_SPANS = 5_000
"""Spans of a rule that are marked."""


@dataclass(frozen=True)
class Marked:
    """A text of which parts are marked: the text by itself, segmented once for all rules."""

    text: str

    @cached_property
    def data(self) -> bytes:
        return self.text.encode()

    @cached_property
    def segments(self) -> Segments:
        return segment(*text_buffers(pa.array([self.text], pa.large_string())))

    @cached_property
    def lines(self) -> list[Span]:
        s = self.segments
        return list(zip(s.line_start.tolist(), s.line_end.tolist(), strict=True))

    @cached_property
    def line_flags(self) -> np.ndarray:
        return c4.judge_lines(self.segments).flags

    def line(self, span: Span) -> str:
        return self.data[span[0] : span[1]].decode(errors="replace")

    def found(self, pattern: str) -> Iterator[Span]:
        """Where a pattern of bytes stands."""
        return (match.span() for match in re.finditer(pattern.encode(), self.data))


def causes(text: Marked, rule: str, benchmarks: Sequence[Path] = ()) -> list[Span]:
    """What a failed rule of a recipe counts in a text, ascending and disjoint; nothing where it counts what is missing.

    Args:
        text: what the rule judged: the edited text.
        rule: a reason of a decision, such as `max_duplicate_line_fraction`.
        benchmarks: the three files of the index that says what is `contaminated`.
    """
    if rule == "contaminated":
        return _joined(_benchmark_items(text, *benchmarks)) if benchmarks else []
    signal, below = signal_of(rule), rule.startswith("min_")
    make = _MAKERS.get(re.sub(r"_(char_)?fraction$|_chars$", "", signal)) or _MAKERS.get(signal)
    return _joined(make(text, signal, below)) if make else []


def _joined(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > begin:
            found.append((begin, end))
    return found[:MOST_SPANS]


def _benchmark_items(text: Marked, grams: Path, passages: Path, pairs: Path) -> Iterator[Span]:
    index = contamination.read_index(grams, passages, pairs)
    for _, begin, end in contamination.find_hits(text.segments, index).spans.tolist():
        yield begin, end


def _repeated_lines(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    seen: set[bytes] = set()
    for begin, end in text.lines:
        line = text.data[begin:end]
        if line in seen:
            yield begin, end
        seen.add(line)


def _repeated_paragraphs(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    seen: set[tuple[bytes, ...]] = set()
    opens = np.flatnonzero(text.segments.line_opens).tolist()
    for first, last in zip(opens, [*opens[1:], len(text.lines)], strict=True):
        lines = text.lines[first:last]
        paragraph = tuple(text.data[begin:end] for begin, end in lines)
        if lines and paragraph in seen:
            yield lines[0][0], lines[-1][1]
        seen.add(paragraph)


def _marks(text: Marked, signal: str) -> tuple[np.ndarray, int]:
    """(places of units at which an n-gram begins that occurs more than once, units of such an n-gram)."""
    n, size = int(re.findall(r"\d+", signal)[0]), gopher.counted_units(text.segments)
    return np.flatnonzero(gopher.repetition_counts(text.segments, n, size)[1]), int(units_of(n, size[0]))


def _repeated_ngrams(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    s = text.segments
    marks, n = _marks(text, signal)
    for at in marks.tolist():
        yield int(s.word_start[at]), int(s.word_end[at + n - 1])


def _top_ngram(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    s = text.segments
    marks, n = _marks(text, signal)
    places: dict[tuple[int, ...], list[int]] = {}
    for at in marks.tolist():
        places.setdefault(tuple(s.word_hash[at : at + n].tolist()), []).append(at)
    if places:
        best = max(places.values(), key=lambda found: (len(found), int(s.word_chars[found[0] : found[0] + n].sum())))
        for at in best:
            yield int(s.word_start[at]), int(s.word_end[at + n - 1])


def _lines(test: Callable[[Marked, int], bool]) -> Callable[[Marked, str, bool], Iterator[Span]]:
    """Lines that a rule counts; of a rule that asks for more of them, the others."""

    def find(text: Marked, signal: str, below: bool) -> Iterator[Span]:
        return (span for i, span in enumerate(text.lines) if test(text, i) != below)

    return find


def _c4(rule: str) -> Callable[[Marked, int], bool]:
    bit = 1 << c4.LINE_RULES.index(rule)
    return lambda text, i: bool(text.line_flags[i] & bit)


def _is_bullet(text: Marked, i: int) -> bool:
    s = text.segments
    return bool(gopher.is_bullet(s.text, s.line_start[i], s.line_end[i]))


def _ends_in_ellipsis(text: Marked, i: int) -> bool:
    s = text.segments
    return bool(gopher.ends_in_ellipsis(s.text, s.line_start[i], s.line_end[i]))


def _terminal(text: Marked, i: int) -> bool:
    return not text.line_flags[i] & 1


def _punctuated(text: Marked, i: int) -> bool:
    last = ord(text.line(text.lines[i])[-1])
    return last < TABLE_SIZE and bool(tables()[0][last] & STOP)


def _short(text: Marked, i: int) -> bool:
    return bool(text.segments.line_chars[i] <= SHORT_LINE)


def _pattern(pattern: str) -> Callable[[Marked, str, bool], Iterator[Span]]:
    return lambda text, signal, below: text.found(pattern) if not below else iter(())


def _longest_line(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    sizes = text.segments.line_chars
    return iter([text.lines[int(np.argmax(sizes))]] if len(sizes) and not below else [])


def _longest_word(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    s = text.segments
    if len(s.word_chars) and not below:
        at = int(np.argmax(s.word_chars))
        yield int(s.word_start[at]), int(s.word_end[at])


def _without_letters(text: Marked, signal: str, below: bool) -> Iterator[Span]:
    """Words, as `str.split` finds them, that have no letter."""
    at = 0
    for part in re.split(r"(\s+)", text.text):
        size = len(part.encode())
        if part and not part.isspace() and not any(c.isalpha() for c in part):
            yield at, at + size
        at += size


_MAKERS: dict[str, Callable[[Marked, str, bool], Iterator[Span]]] = {
    "duplicate_line": _repeated_lines,
    "duplicate_lines": _repeated_lines,
    "duplicate_paragraph": _repeated_paragraphs,
    "duplicate_paragraphs": _repeated_paragraphs,
    **{f"duplicate_{n}gram": _repeated_ngrams for n in gopher.DUPLICATE_NGRAMS},
    **{f"top_{n}gram": _top_ngram for n in gopher.TOP_NGRAMS},
    **{f"bullet_line{s}": _lines(_is_bullet) for s in ("", "s")},
    **{f"ellipsis_line{s}": _lines(_ends_in_ellipsis) for s in ("", "s")},
    **{f"terminal_line{s}": _lines(_terminal) for s in ("", "s")},
    **{f"punctuated_line{s}": _lines(_punctuated) for s in ("", "s")},
    **{f"short_line{s}": _lines(_short) for s in ("", "s")},
    "few_word_lines": _lines(_c4("few_words")),
    "javascript_lines": _lines(_c4("javascript")),
    "policy_lines": _lines(_c4("policy")),
    "symbol_word_ratio": _pattern(r"#|\.\.\.|…"),
    "hashes": _pattern("#"),
    "ellipses": _pattern(r"\.\.\.|…"),
    "curly_braces": _pattern(r"[{}]"),
    "lorem_ipsum": _pattern(r"(?i)lorem ipsum"),
    "digit": _pattern(r"\d+"),
    "digits": _pattern(r"\d+"),
    "encoded": _pattern(r"[A-Za-z0-9+/=]{64,}|(?:(?:\\x|0x)[0-9a-fA-F]{2}[\s,]*){8,}|(?:\\u[0-9a-fA-F]{4}){8,}"),
    "latex": _pattern(r"\\[A-Za-z]+|\$"),
    "longest_line": _longest_line,
    "longest_word": _longest_word,
    "alpha_word": _without_letters,
}
"""Signal, without what it is divided by -> where it is counted."""

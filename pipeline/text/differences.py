"""What somebody else's code changed in a text, as edits: the spans that differ, and how they lie upon edits made before.

    common ends -> lines that stand once in both -> between them words that do -> what differs

Exact whatever the texts are: the new text is always what the spans make of the old one. How short they are depends on how much
stands once in both. Time grows as n log n; of a stretch of more than `MOST_PARTS` parts, what differs is one span.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LEVELS = (re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"[^\W\u2e80-\U0010ffff]+|.", re.DOTALL))
"""Parts that are compared: lines with their ends; words, and singly all other characters and those of scripts without spaces."""
MOST_PARTS = 1 << 18
"""Parts of a text that are held at once; each takes about a hundred bytes."""


class Change(NamedTuple):
    """A span of a text and what stands in its place."""

    start: int
    end: int
    text: str


def differences(old: str, new: str) -> list[Change]:
    """Sorted, disjoint spans of the UTF-8 of `old`, in bytes, that make `new` of it. A span that only inserts is empty.

    Raises:
        UnicodeEncodeError: `new` has a lone surrogate.
    """
    new.encode()
    found, at, size = list[Change](), 0, 0
    for start, end, text in _between(old, new, 0, LEVELS) if old != new else ():
        begin = size + len(old[at:start].encode())
        at, size = end, begin + len(old[start:end].encode())
        found.append(Change(begin, size, text))
    return found


def _between(old: str, new: str, at: int, levels: Sequence[re.Pattern[str]]) -> Iterator[Change]:
    """Changes, in characters, of a text that begins at `at`, by the levels that are left."""
    lines = levels == LEVELS
    head = _common(old, new)
    if lines:
        # Whole lines, so that a line that was cut is its own span, whatever it begins with.
        head = old.rfind("\n", 0, head) + 1
    old, new, at = old[head:], new[head:], at + head
    tail = _common(old, new, of_ends=True)
    if lines and tail < len(old):
        tail = len(old) - 1 - end if (end := old.find("\n", len(old) - tail - 1)) >= 0 else 0
    old, new = old[: len(old) - tail], new[: len(new) - tail]
    if not (old and new and levels):
        if old or new:
            yield Change(at, at + len(old), new)
        return
    first = second = 0
    for mine, theirs, size in _anchors(old, new, levels[0]):
        yield from _between(old[first:mine], new[second:theirs], at + first, levels[1:])
        first, second = mine + size, theirs + size
    yield from _between(old[first:], new[second:], at + first, levels[1:])


def _common(a: str, b: str, of_ends: bool = False) -> int:
    """How many characters two texts have in common at their beginning, or at their end."""
    same, most = 0, min(len(a), len(b))
    step = 64
    # Galloping, then halving: the cost follows what they have in common, not how long they are.
    while same < most and step:
        next_ = min(same + step, most)
        parts = (
            (a[len(a) - next_ : len(a) - same], b[len(b) - next_ : len(b) - same])
            if of_ends
            else (a[same:next_], b[same:next_])
        )
        if parts[0] == parts[1]:
            same, step = next_, 2 * step
        else:
            most, step = next_ - 1, (next_ - same) // 2
    return same


def _anchors(old: str, new: str, part: re.Pattern[str]) -> Iterator[tuple[int, int, int]]:
    """(place in the old text, place in the new one, size) of parts that stand once in both, as many as keep their order."""
    mine, theirs = _once(old, part), _once(new, part)
    shared = [(at, theirs[text], len(text)) for text, at in mine.items() if text in theirs]
    # The longest ascending run: of every length the least place it can end at, and what came before each.
    lasts, ends, before = list[int](), list[int](), list[int]()
    for i, (_, place, _) in enumerate(shared):
        k = bisect_left(lasts, place)
        if k == len(lasts):
            lasts.append(place)
            ends.append(i)
        else:
            lasts[k], ends[k] = place, i
        before.append(ends[k - 1] if k else -1)
    run, i = list[int](), ends[-1] if ends else -1
    while i >= 0:
        run.append(i)
        i = before[i]
    return (shared[i] for i in reversed(run))


def _once(text: str, part: re.Pattern[str]) -> dict[str, int]:
    """The parts that stand in a text once, with their places, in its order; none of a text of too many."""
    parts = [found[0] for found in itertools.islice(part.finditer(text), MOST_PARTS + 1)]
    if len(parts) > MOST_PARTS:
        return {}
    counts = Counter(parts)
    places = itertools.accumulate(map(len, parts), initial=0)
    return {text: at for text, at in zip(parts, places, strict=False) if counts[text] == 1}


def upon(
    edits: Sequence[Mapping[str, Any]], changes: Sequence[Change], edited: bytes, kind: int
) -> list[dict[str, Any]]:
    """Edits of a raw text, and changes of the edited text upon them, as edits that make at once what both make in turn.

    Args:
        edits: of one document, as `EDIT_TYPE` stores them.
        changes: as `differences` finds them in `edited`.
        edited: what the edits make of the raw text.
        kind: of every edit that holds a change. A replacement that a change reaches into becomes part of it.
    """
    placed, shift = list[tuple[int, int]](), 0
    for edit in edits:
        start, size = edit["start"] - shift, len(edit["replacement"].encode())
        placed.append((start, start + size))
        shift += edit["end"] - edit["start"] - size

    def meet(e: int, c: int) -> bool:
        return (
            e < len(placed) and c < len(changes) and placed[e][0] < changes[c].end and changes[c].start < placed[e][1]
        )

    made, shift, e, c = list[dict[str, Any]](), 0, 0, 0
    while e < len(edits) or c < len(changes):
        if c == len(changes) or (e < len(edits) and placed[e][1] <= changes[c].start):
            made.append(dict(edits[e]))
            shift = edits[e]["end"] - placed[e][1]
            e += 1
            continue
        # The run of changes and edits that meet each other.
        start, end, _ = changes[c]
        first, c = c, c + 1
        start = min(start, placed[e][0]) if meet(e, first) else start
        raw = start + shift
        while meet(e, c - 1) or (e and placed[e - 1][1] > start and meet(e - 1, c)):
            if meet(e, c - 1):
                end, shift = max(end, placed[e][1]), edits[e]["end"] - placed[e][1]
                e += 1
            else:
                end, c = max(end, changes[c].end), c + 1
        text, at = list[str](), start
        for change in changes[first:c]:
            text += [edited[at : change.start].decode(), change.text]
            at = change.end
        text.append(edited[at:end].decode())
        made.append({"start": raw, "end": end + shift, "kind": kind, "replacement": "".join(text)})
    return made

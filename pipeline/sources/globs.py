"""The one dialect of globs: `*` within a folder, `**` over any depth, `?` one character; all else is literal.

`[*]`, `[?]` and `[[]` stand for the character itself. The value of a variable is written so into a glob, which makes it
literal, whatever its characters.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from functools import lru_cache

_PIECES = re.compile(r"(\[[*?[]\]|\*\*/|\*\*|\*|\?)")
_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def escape(text: str) -> str:
    """A glob that matches only this text."""
    return re.sub(r"[*?[]", r"[\g<0>]", text)


def unescape(pattern: str) -> str:
    """The text that a glob without wildcards matches."""
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def standard(pattern: str) -> str:
    """The glob for readers that know classes of characters (`[ab]`), such as Python's and fsspec's."""
    return re.sub(r"\[[*?[]\]|\[", lambda bracket: bracket[0] if len(bracket[0]) == 3 else "[[]", pattern)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a relative path matches one of the globs."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def reaches(folder: str, patterns: Sequence[str]) -> bool:
    """Whether something below a folder, given by its relative path, could match one of the globs."""
    return any(_reaches(folder.split("/"), pattern.split("/")[:-1], "**" in pattern) for pattern in patterns)


def _reaches(names: Sequence[str], above: Sequence[str], deep: bool) -> bool:
    for name, part in zip(names, above, strict=False):
        if "**" in part:
            return True
        if not _compiled(part).fullmatch(name):
            return False
    return deep or len(names) <= len(above)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [_REGEX.get(piece) or re.escape(unescape(piece)) for piece in _PIECES.split(pattern)]
    return re.compile("".join(parts), re.DOTALL)


def local_paths(pattern: str) -> list[str]:
    """The local paths that match a glob, sorted. Leading parts that exist as they are written are those, `*` and all."""
    place = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part]
    while parts and os.path.lexists(os.path.join(place, unescape(parts[0]))):
        place = os.path.join(place, unescape(parts.pop(0)))
    if not parts:
        return [place]
    found = glob.glob(standard("/".join(parts)), root_dir=place or None, recursive=True)
    # A link to a folder above can be followed again and again: each file counts once.
    real: dict[str, str] = {}
    for path in sorted((os.path.join(place, name) for name in found), key=lambda path: (path.count("/"), path)):
        real.setdefault(os.path.realpath(path), path)
    return sorted(path for path in real.values() if not os.path.isdir(path))

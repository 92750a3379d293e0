"""Names that files and lists give to other files."""

from __future__ import annotations


def stays_below(name: str) -> bool:
    """Whether a name, with forward slashes, leads to something below the folder that it is relative to."""
    return not {"", ".", ".."}.intersection(name.split("/"))

"""`fox1 sample`: the five corpora, in their genuine formats, from text found on any machine with fox1 installed.

harvest     which files may be read: the standard library and fox1's own dependencies, never imported
extract     files -> documents: docstrings, reference pages, READMEs, licences, source code
invent      documents that no package holds: poor ones, arithmetic, and the shipped `passages/`
compose     documents -> rows of the corpora, which overlap, repeat and differ slightly as the real ones do
variants    light edits that turn a copy into a near-duplicate
corpora     rows -> files, laid out and encoded as each corpus is
write       all of these in order
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .write import SampleSummary, write_sample

__all__ = ["SampleSummary", "write_sample"]


def __getattr__(name: str) -> Any:
    """Import on first use: naming this package must not cost the import of pyarrow."""
    if name in __all__:
        from . import write

        return getattr(write, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

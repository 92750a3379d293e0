"""Bounded, seeded samples of the corpora: the only text that prepare reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import xxhash

from ..filter.judge import Exclusion
from ..run.identity import SourceFile, file_hash
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows

FILES = 64
"""Files of a corpus that a sample looks into, chosen by hash."""
DOCUMENT_CHARS = 100_000
"""A longer document gives its beginning: one book must not be a corpus's whole share."""


def chosen_files(files: Sequence[SourceFile], corpus: str, seed: int) -> list[SourceFile]:
    """At most `FILES` training files of a corpus, in an order given by hash."""
    mine = [f for f in files if f.corpus == corpus and not f.held_out]
    return sorted(mine, key=lambda f: file_hash(f.corpus, f.path, seed + 2))[:FILES]


def sample_text(
    files: Sequence[SourceFile], excluded: Sequence[Exclusion], sample_bytes: int, seed: int
) -> Iterator[str]:
    """Documents, of each corpus an equal share of `sample_bytes`, in file and row order.

    Held-out files and subsets the licence policy excludes are never in it.
    """
    barred = {(e.corpus, e.subset) for e in excluded}
    corpora = sorted({f.corpus for f in files if not f.held_out})
    for corpus in corpora:
        mine = chosen_files(files, corpus, seed)
        budget = sample_bytes // len(corpora)
        for left, file in zip(range(len(mine), 0, -1), mine, strict=True):
            used = 0
            for _, text in sampled_rows(file, seed, lambda subset, c=corpus: (c, subset) not in barred):  # type: ignore[misc]
                yield text
                used += len(text)
                if used >= budget // left:
                    break
            budget -= used


def sampled_rows(file: SourceFile, seed: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """(subset, text) of every other row of the wanted subsets, chosen by hash: neighbours in these corpora are often alike."""
    for batch in read_rows(file, Quarantine(file)):
        subsets = batch.column("subset").dictionary_encode()
        if not any(map(wanted, subsets.dictionary.to_pylist())):
            continue
        text: pa.LargeStringArray = batch.column("text")
        for i, (row, subset) in enumerate(
            zip(batch.column("row").to_pylist(), batch.column("subset").to_pylist(), strict=True)
        ):
            if wanted(subset) and xxhash.xxh3_64_intdigest(row.to_bytes(8, "little"), seed) & 1:
                yield subset, text[i].as_py()[:DOCUMENT_CHARS]

"""Bounded, seeded samples of the corpora: the only text that prepare reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import xxhash

from ..run.identity import SourceFile, file_hash
from ..sources.extracted import only_kept
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows

FILES = 64
"""Most files of a corpus that a sample reads from, chosen by hash."""
DOCUMENT_CHARS = 100_000
"""Of a longer document only the beginning is taken: one book must not be a corpus's whole share."""
BATCH_BYTES = 256 << 10
"""Text that is read at once: often the beginning of a file suffices."""


class SubsetName(NamedTuple):
    """A subset of a corpus, by name."""

    corpus: str
    name: str


def chosen_files(files: Sequence[SourceFile], corpus: str, seed: int) -> list[SourceFile]:
    """At most `FILES` training files of a corpus, in an order given by hash."""
    training = [f for f in files if f.corpus == corpus and not f.held_out]
    return sorted(training, key=lambda f: file_hash(f.corpus, f.path, seed + 2))[:FILES]


def files_read(files: Sequence[SourceFile], seeds: Sequence[int]) -> list[SourceFile]:
    """The files that samples with these seeds read, in their order: a task is sent no others."""
    corpora = sorted({f.corpus for f in files if not f.held_out})
    chosen = {f.name for corpus in corpora for seed in seeds for f in chosen_files(files, corpus, seed)}
    return [f for f in files if f.name in chosen]


def sample_text(
    files: Sequence[SourceFile], barred: Sequence[SubsetName], sample_bytes: int, seed: int
) -> Iterator[str]:
    """Documents in file and row order, with an equal share of `sample_bytes` from each corpus.

    Held-out files and subsets the licence policy excludes are never in it.
    """
    corpora = sorted({f.corpus for f in files if not f.held_out})
    for corpus in corpora:
        chosen = chosen_files(files, corpus, seed)
        budget = sample_bytes // len(corpora)
        for left, file in zip(range(len(chosen), 0, -1), chosen, strict=True):
            used = 0
            for _, text in sampled_rows(file, seed, lambda subset, c=corpus: SubsetName(c, subset) not in barred):  # type: ignore[misc]
                yield text
                used += len(text)
                if used >= budget // left:
                    break
            budget -= used


def sampled_rows(file: SourceFile, seed: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """(subset, text) of every other row of the wanted subsets, chosen by hash: neighbours in these corpora are often alike. What
    a step of `before_scan` dropped is left out."""
    for batch in map(only_kept, read_rows(file, Quarantine(file), BATCH_BYTES)):
        subsets = batch.column("subset").dictionary_encode()
        if not any(map(wanted, subsets.dictionary.to_pylist())):
            continue
        text: pa.LargeStringArray = batch.column("text")
        for i, (row, subset) in enumerate(
            zip(batch.column("row").to_pylist(), batch.column("subset").to_pylist(), strict=True)
        ):
            if wanted(subset) and xxhash.xxh3_64_intdigest(row.to_bytes(8, "little"), seed) & 1:
                yield subset, text[i].as_py()[:DOCUMENT_CHARS]

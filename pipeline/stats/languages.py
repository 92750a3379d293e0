"""Languages: rows and survivors by language, and trained tokens by phase and language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..mix.index import segments_between
from ..run.columns import each_open
from ..run.file_sets import FileSet
from ..run.parquet_rows import RowCursor
from ..signals.language import UNDETERMINED
from ..text.survivors import DecidedFile

SLICE_ROWS = 1 << 20


@dataclass(frozen=True)
class LanguageCounts:
    """What a group has of each language, by language."""

    rows: dict[str, int]
    kept: dict[str, int]
    """Documents that are kept."""
    tokens: dict[int, dict[str, int]]
    """By phase, from 1: tokens of its blocks."""


def count_languages(files: Sequence[DecidedFile], index: FileSet) -> LanguageCounts:
    """Map: the languages of some files.

    Args:
        index: of blocks by document.
    """
    rows, kept_rows, parts = Counter[str](), Counter[str](), tuple(index)
    tokens: dict[int, Counter[str]] = {}
    for ids, languages, kept in _slices(files):
        names, codes = languages.dictionary.to_pylist(), languages.indices.to_numpy()
        segments = segments_between(parts, *ids[[0, -1]].tolist())
        at = np.searchsorted(ids, segments["doc_id"])

        def add(into: Counter[str], values: np.ndarray, names: list[str] = names) -> None:
            into.update({name: int(v) for name, v in zip(names, values, strict=True) if v})

        add(rows, np.bincount(codes, minlength=len(names)))
        add(kept_rows, np.bincount(codes[kept], minlength=len(names)))
        for phase in np.unique(segments["phase"]).tolist():
            here = segments["phase"] == phase
            lengths = np.bincount(codes[at[here]], segments["length"][here], len(names)).astype(np.int64)
            add(tokens.setdefault(phase, Counter()), lengths)
    return LanguageCounts(dict(rows), dict(kept_rows), {phase: dict(counts) for phase, counts in tokens.items()})


def _slices(files: Sequence[DecidedFile]) -> Iterator[tuple[np.ndarray, pa.DictionaryArray, np.ndarray]]:
    """(ids, languages, whether they are kept) of the documents of some files, `SLICE_ROWS` of each at a time."""
    columns = ["doc_id", "language"], ["kept"]
    for signals, decisions in each_open(([[f.signals.file], [f.decisions.file]] for f in files), columns):
        facts, decided = RowCursor(signals, columns[0]), RowCursor(decisions, columns[1])
        while (rows := facts.take(SLICE_ROWS)).num_rows:
            languages = rows.column("language").combine_chunks().dictionary_encode()
            kept = decided.take(SLICE_ROWS).column("kept").to_numpy()
            yield rows.column("doc_id").to_numpy(), languages, kept


def languages_json(
    parts: Sequence[LanguageCounts], phases: Sequence[dict[str, Any]], given: Collection[str] = ()
) -> dict[str, Any]:
    """`stats/languages.json`.

    Args:
        phases: of `stats/mixture.json`.
        given: corpora whose documents came as token ids, whose language nobody looked for.

    Raises:
        ValueError: the tokens of a phase by language do not add up to its tokens.
    """
    found: dict[str, Counter[str]] = {}
    for part in parts:
        of_phases = {str(phase): tokens for phase, tokens in part.tokens.items()}
        for kind, counts in {"rows": part.rows, "kept": part.kept, **of_phases}.items():
            for language, n in counts.items():
                found.setdefault(language, Counter())[kind] += n
    for number, phase in enumerate(phases, 1):
        if unknown := sum(cell["tokens"] for cell in phase["cells"] if cell["corpus"] in given):
            found.setdefault(UNDETERMINED, Counter())[str(number)] += unknown
        tokens = sum(counts[str(number)] for counts in found.values())
        if tokens != phase["tokens"]:
            raise ValueError(
                f"the tokens of {phase['name']} by language add up to {tokens:,}, not {phase['tokens']:,}; "
                "please report this as a bug"
            )
    return {"languages": {language: dict(counts) for language, counts in found.items()}}

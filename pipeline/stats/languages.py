"""Languages: rows and survivors by language, and trained tokens by phase and language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..engine.tasks import TaskResult
from ..mix.index import segments_between
from ..run.artifacts import RunPaths, merge_counts
from ..run.identity import MAX_ROWS, ROW_BITS, Group


def count_languages(group: Group, parts: Sequence[Path], paths: RunPaths) -> TaskResult:
    """Map: `rows/<language>` and `kept/<language>`, documents; `<phase>/<language>`, tokens of its blocks.

    Args:
        parts: the index of blocks by document.
    """
    counts: dict[str, int] = {}
    for file in group.files:
        table = pq.read_table(paths.signals(file.corpus, file.path), columns=["doc_id", "language"])
        kept = pq.read_table(paths.decisions(file.corpus, file.path), columns=["kept"]).column("kept")
        languages = table.column("language").combine_chunks().dictionary_encode()
        names, codes = languages.dictionary.to_pylist(), languages.indices.to_numpy()
        segments = segments_between(parts, file.file_hash << ROW_BITS, (file.file_hash << ROW_BITS) + MAX_ROWS - 1)
        at = np.searchsorted(table.column("doc_id").to_numpy(), segments["doc_id"])
        per_kind = {
            "rows": np.bincount(codes, minlength=len(names)),
            "kept": np.bincount(codes[kept.to_numpy()], minlength=len(names)),
        }
        for phase in np.unique(segments["phase"]).tolist():
            in_phase = segments["phase"] == phase
            per_kind[str(phase)] = np.bincount(codes[at[in_phase]], segments["length"][in_phase], len(names)).astype(
                np.int64
            )
        for kind, values in per_kind.items():
            merge_counts(counts, {f"{kind}/{n}": int(v) for n, v in zip(names, values, strict=True) if v})
    return TaskResult((), {}, {"counts": counts})


def languages_json(results: Sequence[TaskResult], phases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`stats/languages.json`.

    Args:
        phases: of `stats/mixture.json`.

    Raises:
        ValueError: the tokens of a phase by language are not its tokens.
    """
    counts: dict[str, int] = {}
    for result in results:
        merge_counts(counts, result.data["counts"])
    found: dict[str, dict[str, int]] = {}
    for key, n in sorted(counts.items()):
        kind, language = key.split("/")
        found.setdefault(language, {})[kind] = n
    for number, phase in enumerate(phases, 1):
        tokens = sum(counted.get(str(number), 0) for counted in found.values())
        if tokens != phase["tokens"]:
            raise ValueError(
                f"accounting by language does not balance: {tokens} tokens of {phase['tokens']} in {phase['name']}; "
                "please report this"
            )
    return {"languages": found}

"""Limits on what near-dedupe may drop from a subset: beyond one, the run stops and shows what was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..run.identity import MAX_ROWS, FilesById, Group
from ..run.paths import RunPaths
from ..text.excerpts import beginning, edited_text
from .result import Cluster

AT_LEAST = 100
"""Fewer lost documents never stop a run, however large their share of a small subset."""


class NearLoss(ValueError):
    """A subset loses more to near-dedupe than the recipe allows. `details` are lines on its largest clusters."""

    def __init__(self, message: str, details: Sequence[str]) -> None:
        super().__init__(message)
        self.details = tuple(details)


def limit_of(cell: str, limits: Sequence[tuple[str, float]]) -> float:
    """The limit of a `corpus/subset`: its own, else its corpus's, else that of `all`, else 1."""
    known = dict(limits)
    return known.get(cell, known.get(cell.split("/", 1)[0], known.get("all", 1.0)))


def check_losses(
    kept: Mapping[str, int],
    lost: Mapping[str, int],
    largest: Mapping[str, Sequence[Cluster]],
    limits: Sequence[tuple[str, float]],
    groups: Sequence[Group],
    paths: RunPaths,
) -> None:
    """Raise if a subset lost more than its limit.

    Args:
        kept: `corpus/subset` -> documents of the training data that stay.
        lost: `corpus/subset` -> documents that near-dedupe dropped.

    Raises:
        NearLoss: naming the subset, the share and the remedy.
    """
    for cell in sorted(lost):
        share, limit = lost[cell] / (lost[cell] + kept.get(cell, 0)), limit_of(cell, limits)
        if share > limit and lost[cell] >= AT_LEAST:
            files = FilesById(f for g in groups for f in g.files)
            details = [line for cluster in largest.get(cell, []) for line in _describe(cluster, files, paths)]
            raise NearLoss(
                f"near-dedupe drops {lost[cell]:,} of {lost[cell] + kept.get(cell, 0):,} documents of {cell} "
                f"({100 * share:.1f} %), more than its limit of {100 * limit:g} %; look at its largest clusters "
                f"above, then raise dedupe.near_limits or dedupe.jaccard, or exempt the subset",
                [f"largest clusters of {cell}:", *details],
            )


def _describe(cluster: Cluster, files: FilesById, paths: RunPaths) -> list[str]:
    return [
        f"  {cluster.copies:,} near copies of {_document(cluster.leader, files, paths)}",
        f"      one of them: {_document(cluster.example, files, paths)}",
    ]


def _document(doc_id: int, files: FilesById, paths: RunPaths) -> str:
    file, row = files.get(doc_id), doc_id % MAX_ROWS
    if file is None:
        return f"document {doc_id} of the finished run"
    return f"{file.name}#{row}: {beginning(edited_text(paths, file, row), 100)}"

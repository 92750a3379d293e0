"""How many documents fail which rules: counted group by group into files, which further tasks add up.

Every two of some dozen rules have a count of their own: of ten thousands of groups, no driver could hold them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from ...storage import reading
from ..engine.engine import Engine
from ..engine.tree import add_up
from ..run.artifacts import Artifact, merge_counts, write_json
from ..run.file_sets import FileSet


@dataclass(frozen=True)
class RuleCounts:
    """How many documents fail which rules, whether or not a rule is the first that they fail."""

    failed: dict[str, int] = field(default_factory=dict)
    """By rule: documents that fail it at all."""
    alone: dict[str, int] = field(default_factory=dict)
    """By rule: documents that fail nothing else."""
    both: dict[str, int] = field(default_factory=dict)
    """`first|second`, in the order of the rules: documents that fail these two."""

    def add(self, failed: Sequence[tuple[str, np.ndarray]]) -> None:
        """Count some documents.

        Args:
            failed: every rule, in order, and whether each document fails it.
        """
        hits = np.stack([hit for _, hit in failed], axis=1).astype(np.int64)
        alone = hits[hits.sum(axis=1) == 1].sum(axis=0)
        together = hits.T @ hits
        names = [name for name, _ in failed]
        for i, name in enumerate(names):
            merge_counts(self.failed, {name: int(together[i, i])})
            merge_counts(self.alone, {name: int(alone[i])})
            merge_counts(self.both, {f"{names[k]}|{name}": int(n) for k, n in enumerate(together[i, :i]) if n})

    def include(self, more: RuleCounts) -> None:
        """Add the counts of other documents."""
        merge_counts(self.failed, more.failed)
        merge_counts(self.alone, more.alone)
        merge_counts(self.both, more.both)

    def write(self, path: Path) -> Artifact:
        """Publish them."""
        return write_json(path, asdict(self))


@dataclass(frozen=True)
class RulesFile:
    """`RuleCounts` as JSON."""

    file: Artifact


def add_rules(counted: FileSet, path: Path) -> RulesFile:
    """Reduce: the sum of several."""
    return RulesFile(_sum(counted).write(path))


def sum_rules(engine: Engine, version: int, counted: Sequence[Artifact]) -> RuleCounts:
    """The counts of all groups; by tasks where there are many.

    Args:
        version: of the stage.
    """
    few = add_up(engine, "filter.rules", version, counted, add_rules, engine.paths.counts("rules-sum"))
    return _sum(a.file for a in few)


def _sum(files: Iterable[Path]) -> RuleCounts:
    total = RuleCounts()
    for file in files:
        total.include(msgspec.convert(reading.read_json(file), RuleCounts))
    return total

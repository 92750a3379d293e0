"""What the mix reached beside what was wanted, for `stats/mixture.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.two_level import Partitioned
from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from .assign import ALL_SURVIVORS, ClassCount
from .blocks import PackedBlocks
from .budget import Cell, MixSettings
from .held_out import HeldOutSet
from .items import ItemSet
from .plan import MixPlan


@dataclass
class PackedSet:
    """A set once its blocks are packed, and, later, written."""

    number: int
    phase: int
    block_length: int
    masked: bool
    blocks: Partitioned
    """By ranges of their rank."""
    tokens: int
    segments: int
    cut_to_fill: int
    cells: dict[int, int]
    """Tokens by cell code."""
    folder: Path
    written: list[tuple[Artifact, ...]] = field(default_factory=list)
    """Files of the set, by the task that wrote them."""

    @classmethod
    def of(
        cls,
        number: int,
        phase: int,
        block_length: int,
        masked: bool,
        parts: Sequence[PackedBlocks],
        blocks: Partitioned,
        folder: Path,
    ) -> PackedSet:
        """A set from what was packed: of every pack task, then of what they left over; the last one knows of all cells."""
        tokens, segments = sum(part.tokens for part in parts), sum(part.segments for part in parts)
        cut = sum(part.cut_to_fill for part in parts)
        return cls(number, phase, block_length, masked, blocks, tokens, segments, cut, parts[-1].cells, folder)

    @property
    def files(self) -> list[Artifact]:
        """Of the set, once they are written."""
        return [file for files in self.written for file in files]

    @property
    def n_blocks(self) -> int:
        return sum(self.blocks.rows)

    @cached_property
    def _before(self) -> np.ndarray:
        """int64: blocks before those of each set of files, and all."""
        return np.r_[0, np.cumsum(self.blocks.rows)]

    def files_between(self, first: int, end: int) -> tuple[tuple[FileSet, ...], int]:
        """(the files that hold the blocks ``first <= rank < end`` of the set, blocks in them before those)."""
        low = int(np.searchsorted(self._before, first, "right")) - 1
        high = int(np.searchsorted(self._before, end, "left"))
        return self.blocks.files[low:high], first - int(self._before[low])


def mixture_json(
    settings: MixSettings,
    cells: Sequence[Cell],
    plan: MixPlan,
    packed: Sequence[PackedSet],
    held: HeldOutSet | None,
    items: ItemSet | None = None,
) -> dict[str, Any]:
    """Wanted and reached tokens of every phase, pool, cell and set, for the stats."""
    phases = []
    for number, phase in enumerate(settings.phases):
        sets = [p for p in packed if p.phase == number]
        pools = [n for n in plan.needs if n.phase == phase.name]
        by_cell: dict[int, list[int]] = {}
        by_pool = np.zeros((len(phase.pools), 2), np.int64)
        for count in plan.tally.sets:
            if count.phase == number:
                by_pool[count.pool] += (count.copies, count.tokens)
                by_cell.setdefault(count.cell, [0, 0])[0] += count.copies
        for packed_set in sets:
            for cell, tokens in packed_set.cells.items():
                by_cell[cell][1] += tokens
        phases.append(
            {
                "name": phase.name,
                "wanted_tokens": phase.tokens,
                "tokens": sum(p.tokens for p in sets),
                "documents": sum(c[0] for c in by_cell.values()),
                "pools": [
                    {
                        "pool": n.pool,
                        "wanted_tokens": n.wanted,
                        "tokens": int(by_pool[i][1]),
                        "documents": int(by_pool[i][0]),
                        "available_tokens": n.available,
                        "epochs": round(int(by_pool[i][1]) / max(n.available, 1), 4),
                        "max_epochs": n.max_epochs,
                        **({"repeat": dict(phase.pools[i].repeat)} if phase.pools[i].repeat else {}),
                    }
                    for i, n in enumerate(pools)
                ],
                "given_away": plan.given.get(phase.name, []),
                "cells": _by_cell(cells, by_cell),
                "sets": [
                    {
                        "block_length": p.block_length,
                        "blocks": p.n_blocks,
                        "tokens": p.tokens,
                        "padding": p.n_blocks * p.block_length - p.tokens,
                        "segments": p.segments,
                        "cut_to_fill": p.cut_to_fill,
                    }
                    for p in sets
                ],
                "lengths": _by_domain(plan.tally.lengths, number),
                "quality": _by_domain(plan.tally.quality, number),
            }
        )
    unused = {c.cell: [c.documents, c.tokens] for c in plan.tally.unused}
    survivors = {
        "lengths": _by_domain(plan.tally.lengths, ALL_SURVIVORS),
        "quality": _by_domain(plan.tally.quality, ALL_SURVIVORS),
    }
    return {
        "phases": phases,
        "survivors": survivors,
        "unused": _by_cell(cells, unused),
        **({"items": dict(zip(items.names, items.items, strict=True))} if items else {}),
        "held_out": {
            "tokens": held.tokens if held else 0,
            "blocks": held.blocks if held else 0,
            "documents": held.documents if held else 0,
            **({"carved": {"documents": held.carved, "tokens": held.carved_tokens}} if held and held.carved else {}),
        },
    }


def _by_cell(cells: Sequence[Cell], counts: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
    """Documents and tokens by cell code, with who the cells are."""
    return [
        {
            "corpus": cells[code].corpus,
            "subset": cells[code].subset,
            "domain": cells[code].domain,
            "documents": documents,
            "tokens": tokens,
        }
        for code, (documents, tokens) in sorted(counts.items())
    ]


def _by_domain(counts: Sequence[ClassCount], phase: int) -> dict[str, dict[str, list[int]]]:
    """Domain -> class -> (documents, tokens) of a phase's distribution."""
    found: dict[str, dict[str, list[int]]] = {}
    for count in counts:
        if count.phase == phase:
            found.setdefault(count.domain, {})[str(count.level)] = [count.documents, count.tokens]
    return found

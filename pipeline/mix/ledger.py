"""What the mix reached beside what was wanted, for `stats/mixture.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..run.artifacts import Artifact
from .assign import ALL_SURVIVORS, ClassCount
from .blocks import PackedBlocks
from .budget import Cell, MixSettings
from .held_out import HeldOutSet
from .plan import MixPlan


@dataclass
class PackedSet:
    """A set once its blocks are packed, and, later, written."""

    number: int
    phase: int
    block_length: int
    masked: bool
    parts: list[PackedBlocks]
    """Of every partition, then of what they left over."""
    folder: Path
    files: list[Artifact] = field(default_factory=list)
    """Of the set, once they are written."""

    @cached_property
    def bucket_sizes(self) -> list[int]:
        """Blocks in every bucket, over all parts."""
        return np.sum([part.buckets for part in self.parts], axis=0).tolist()

    @cached_property
    def n_blocks(self) -> int:
        return sum(self.bucket_sizes)

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


def mixture_json(
    settings: MixSettings, cells: Sequence[Cell], plan: MixPlan, packed: Sequence[PackedSet], held: HeldOutSet | None
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
        for part in (part for packed_set in sets for part in packed_set.parts):
            for cell, tokens in part.cells.items():
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
                        "segments": sum(part.segments for part in p.parts),
                        "cut_to_fill": sum(part.cut_to_fill for part in p.parts),
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
        "held_out": {
            "tokens": held.tokens if held else 0,
            "blocks": held.blocks if held else 0,
            "documents": held.documents if held else 0,
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

"""What the mix reached beside what was wanted, for `stats/mixture.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.tasks import TaskResult
from ..run.artifacts import Artifact
from .budget import Cell, MixSettings
from .plan import MixPlan


@dataclass
class PackedSet:
    """A set once its blocks are packed, and, later, written."""

    number: int
    phase: int
    block_length: int
    masked: bool
    results: list[TaskResult]
    bucket_sizes: list[int]
    folder: Path = Path()
    files: list[Artifact] = field(default_factory=list)

    @property
    def n_blocks(self) -> int:
        return sum(self.bucket_sizes)

    @property
    def tokens(self) -> int:
        return sum(r.counts["tokens"] for r in self.results)


def mixture_json(
    settings: MixSettings, cells: Sequence[Cell], plan: MixPlan, packed: Sequence[PackedSet], held: TaskResult | None
) -> dict[str, Any]:
    """Wanted and reached tokens of every phase, pool, cell and set, for the stats."""
    phases = []
    for number, phase in enumerate(settings.phases):
        mine = [p for p in packed if p.phase == number]
        pools = [n for n in plan.needs if n.phase == phase.name]
        by_cell: dict[int, list[int]] = {}
        by_pool = np.zeros((len(phase.pools), 2), np.int64)
        for key, value in plan.tally["sets"].items():
            p, pool, cell, _ = map(int, key.split("/"))
            if p == number:
                by_pool[pool] += value
                by_cell.setdefault(cell, [0, 0])[0] += int(value[0])
        for packed_set in mine:
            for result in packed_set.results:
                for code, tokens in result.data["cells"].items():
                    by_cell[int(code)][1] += tokens
        phases.append(
            {
                "name": phase.name,
                "wanted_tokens": phase.tokens,
                "tokens": sum(p.tokens for p in mine),
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
                        "segments": sum(r.counts["segments"] for r in p.results),
                        "cut_to_fill": sum(r.counts["cut_to_fill"] for r in p.results),
                    }
                    for p in mine
                ],
                "lengths": _by_domain(plan, "lengths", number),
                "quality": _by_domain(plan, "quality", number),
            }
        )
    unused = {int(code): value.tolist() for code, value in plan.tally["unused"].items()}
    held_out_tokens = held.counts["tokens"] if held else 0
    return {
        "phases": phases,
        "survivors": {"lengths": _by_domain(plan, "lengths", -1), "quality": _by_domain(plan, "quality", -1)},
        "unused": _by_cell(cells, unused),
        "held_out": {
            "tokens": held_out_tokens,
            "blocks": held.counts["blocks"] if held else 0,
            "documents": held.counts["documents"] if held else 0,
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


def _by_domain(plan: MixPlan, kind: str, phase: int) -> dict[str, dict[str, list[int]]]:
    """Domain -> class -> (documents, tokens) of a phase's distribution. A class of lengths is the power of two below a
    document's tokens; one of quality a twentieth of the scale."""
    found: dict[str, dict[str, list[int]]] = {}
    for key, value in sorted(plan.tally.get(kind, {}).items()):
        number, domain, level = key.split("/")
        if int(number) == phase:
            found.setdefault(domain, {})[level] = value.tolist()
    return found

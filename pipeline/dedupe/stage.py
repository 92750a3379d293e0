"""The dedupe stage: runs the steps of exact.py, near.py and decide.py and gathers their counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Engine, Task, TaskResult, task_key
from ..identity import Group
from ..shuffle import partition_count
from . import decide, exact, near
from .order import BAND, CONTENT, VERSION, Chunks, DedupeSettings, ranks


@dataclass(frozen=True)
class DedupeResult:
    """What the stage hands on: decisions per chunk, and figures for the stats."""

    decisions: list[TaskResult]
    figures: dict[str, Any]


def run_dedupe(
    engine: Engine,
    groups: Sequence[Group],
    sizes: Sequence[int],
    inputs: Mapping[str, Sequence[str]],
    settings: DedupeSettings,
    bands: int,
    sketch_size: int,
    documents: int,
) -> DedupeResult:
    """Decide every document of a run.

    Args:
        sizes: bytes of text of every group.
        inputs: group name -> hashes of its signals and its filter result: what every step's key rests on.
        documents: rows over all groups, to size the shuffles.
    """
    paths = engine.paths
    chunks = Chunks.build(groups, sizes)
    members = [[groups[g] for g in chunk] for chunk in chunks.members]
    rank = ranks(settings, [g.corpus for g in groups])
    # Chunk bounds are part of what a step's files hold, so they are part of every key.
    layout = [[g.name for g in chunk] for chunk in members]
    hashes = [[inputs[g.name] for g in chunk] for chunk in members]
    maps = len(members)
    held = np.array(sorted(f.file_hash for g in groups if g.held_out for f in g.files), np.uint64)

    def step(name: str, calls: Sequence[tuple[Any, tuple[Any, ...], list[object]]]) -> list[TaskResult]:
        tasks = [
            Task(f"{i:05d}", task_key(f"dedupe.{name}", VERSION, settings, [layout, i, *facts]), function, args)
            for i, (function, args, facts) in enumerate(calls)
        ]
        return engine.run(f"dedupe.{name}", tasks)

    def files(results: Sequence[TaskResult], named: str = "") -> tuple[list[Path], list[object]]:
        chosen = [a for r in results for a in r.outputs if named in Path(a.path).name]
        return [Path(a.path) for a in chosen], [a.hash for a in chosen]

    parts = partition_count(documents * CONTENT.itemsize, maps)
    contents = step(
        "contents",
        [
            (exact.shuffle_contents, (m, rank, parts, paths.dedupe(f"contents/{i:05d}"), paths), [parts, hashes[i]])
            for i, m in enumerate(members)
        ],
    )
    content_files, keys = files(contents)
    classes = step(
        "classes",
        [
            (exact.find_classes, (content_files, p, chunks, paths.dedupe(f"classes/{p:05d}")), [keys])
            for p in range(parts)
        ],
    )
    member_files, member_keys = files(classes, ".members.")
    leader_files, leader_keys = files(classes, ".leaders.")

    parts = partition_count(documents * bands * BAND.itemsize, maps)
    band_files, keys = files(
        banded := step(
            "bands",
            [
                (
                    near.shuffle_bands,
                    (m, member_files, i, rank, parts, paths.dedupe(f"bands/{i:05d}"), paths),
                    [parts, hashes[i], member_keys],
                )
                for i, m in enumerate(members)
            ],
        )
    )
    paired = step(
        "pairs",
        [
            (near.find_pairs, (band_files, p, settings, chunks, paths.dedupe(f"pairs/{p:05d}")), [keys])
            for p in range(parts)
        ],
    )
    pair_files, keys = files(paired)
    attached = step(
        "sketches",
        [
            (
                near.attach_sketches,
                (m, pair_files, i, sketch_size, chunks, paths.dedupe(f"sketches/{i:05d}"), paths),
                [keys, hashes[i]],
            )
            for i, m in enumerate(members)
        ],
    )
    sketched_files, keys = files(attached)
    verified = step(
        "verify",
        [
            (
                near.verify_pairs,
                (m, sketched_files, i, sketch_size, settings, paths.dedupe(f"edges/{i:05d}"), paths),
                [keys, hashes[i]],
            )
            for i, m in enumerate(members)
        ],
    )
    edge_files, keys = files(verified)
    decided = step("decide", [(decide.decide, (edge_files, chunks, paths.dedupe("near/00000")), [keys])])
    near_files, keys = files(decided)
    resolved = step(
        "resolve",
        [
            (
                decide.resolve,
                (near_files, leader_files, i, chunks, paths.dedupe(f"drops/{i:05d}")),
                [keys, leader_keys],
            )
            for i in range(maps)
        ],
    )
    drop_files, keys = files(resolved)
    decisions = step(
        "decisions",
        [
            (decide.write_decisions, (m, drop_files, i, held, paths), [keys, hashes[i], held.tolist()])
            for i, m in enumerate(members)
        ],
    )
    total: dict[str, int] = {}
    for result in (*classes, *banded, *paired, *attached, *verified, *decided):
        for key, value in result.counts.items():
            total[key] = total.get(key, 0) + value
    total["largest_bucket"] = max(r.data["largest_bucket"] for r in paired)
    figures = {
        "corpora": list(chunks.table.corpus_names),
        "overlap_exact_all": _sum(classes, "overlap_all"),
        "overlap_exact_kept": _sum(classes, "overlap_kept"),
        "overlap_near": decided[0].data["overlap_near"],
        **total,
    }
    return DedupeResult(decisions, figures)


def _sum(results: Sequence[TaskResult], name: str) -> list[list[int]]:
    return np.sum([r.data[name] for r in results], axis=0).tolist()

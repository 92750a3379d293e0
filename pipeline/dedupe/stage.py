"""The dedupe stage: plans the steps, repeats the rounds until nothing is open, and gathers the counts.

    contents -> classes                            exact; before it urls -> url classes, where the newest of a URL stays
    bands -> [walk -> gather -> answer -> verify -> decide -> tell] ...     rounds
    resolve -> decisions

The driver holds paths, keys and counts only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.shuffle import partition_count
from ..engine.tasks import Engine, Task, TaskResult, task_key
from ..run.artifacts import Artifact, content_key, merge_counts
from ..run.identity import Group
from . import buckets, decide, exact, result, verify
from .order import BAND, CONTENT, EXACT, URL, VERSION, Chunks, DedupeSettings, Part, Plan, ranks

MAX_ROUNDS = 100
"""After so many rounds what is still open is decided by what is known; only chains through capped buckets come near."""
MIN_MEMORY = 16 << 20
BASE_MEMORY = 384 << 20
"""What a worker takes before it holds a single record: the interpreter, compiled kernels, Arrow, open shuffle files."""


@dataclass(frozen=True)
class OldRun:
    """The finished run that new corpora are compared with."""

    parts: tuple[Part, ...]
    sizes: tuple[tuple[int, int], ...]
    """(bytes of text, documents) of every part."""
    hashes: tuple[str, ...]
    """Of every part's signals and decisions."""
    subsets: tuple[str, ...]
    """`corpus/subset`."""


NO_RUN = OldRun((), (), (), ())


@dataclass(frozen=True)
class DedupeResult:
    """What the stage hands on: decisions per chunk, and figures for the stats."""

    decisions: list[TaskResult]
    overlap: dict[str, Any]
    """`stats/overlap.json`."""
    figures: dict[str, Any]
    """`stats/dedupe.json`."""
    near_lost: dict[str, int]
    """`corpus/subset` -> training documents that near-dedupe dropped for others of the training data."""
    largest: dict[str, list[list[int]]]
    """`corpus/subset` -> its largest clusters, as `result.write_decisions` gives them."""


def run_dedupe(
    engine: Engine,
    groups: Sequence[Group],
    sizes: Sequence[tuple[int, int]],
    inputs: Mapping[str, Sequence[str]],
    subsets: Iterable[str],
    settings: DedupeSettings,
    bands: int,
    sketch_size: int,
    old: OldRun = NO_RUN,
) -> DedupeResult:
    """Decide every document of a run.

    Args:
        sizes: (bytes of text, documents) of every group.
        inputs: group name -> hashes of its signals and its filter result: what every step's key rests on.
        subsets: `corpus/subset` of all documents.
    """
    parts = [*(Part(g, engine.paths) for g in groups), *old.parts]
    is_old = [p.old for p in parts]
    chunks = Chunks.build([p.group for p in parts], [*sizes, *old.sizes], is_old)
    facts = [*([g.name, *inputs[g.name]] for g in groups), *(["old", h] for h in old.hashes)]
    plan = Plan(
        # Limits judge what was decided: they change no step.
        settings,
        chunks,
        ranks(settings, [p.group.corpus for p in parts]),
        tuple(sorted({*subsets, *old.subsets})),
        max(MIN_MEMORY, (engine.memory - BASE_MEMORY) // 2),
    )
    if len(plan.codes) > 65_535:
        raise ValueError(f"{len(plan.codes)} subsets are more than dedupe can tell apart (65,535)")
    documents = sum(n for _, n in (*sizes, *old.sizes))
    return _Dedupe(engine, parts, facts, plan, documents, bands, sketch_size).run()


Call = tuple[int, tuple[Any, ...], object]
"""(index, arguments, what the key holds besides); plan and stem are added to the arguments."""
Files = tuple[list[Path], list[str]]
"""Paths, which go to a task, and a digest of their hashes, which goes into its key: a key per task over thousands of hashes
would cost the driver more than the tasks."""


def _files(results: Iterable[TaskResult], named: str = "") -> Files:
    chosen: list[Artifact] = [a for r in results for a in r.outputs if named in a.file.name and a.rows]
    return [a.file for a in chosen], [content_key([a.hash for a in chosen])] if chosen else []


def _together(a: Files, b: Files) -> Files:
    return a[0] + b[0], a[1] + b[1]


class _Dedupe:
    def __init__(
        self,
        engine: Engine,
        parts: Sequence[Part],
        facts: Sequence[object],
        plan: Plan,
        documents: int,
        bands: int,
        sketch_size: int,
    ) -> None:
        self.engine, self.plan, self.documents = engine, plan, documents
        self.bands, self.sketch_size = bands, sketch_size
        self.parts = [[parts[i] for i in chunk] for chunk in plan.chunks.members]
        self.new = [i for i, chunk in enumerate(self.parts) if not chunk[0].old]
        # Chunk bounds are part of what a step's files hold, so they are part of every key.
        self.layout = content_key(plan.codes, [[facts[i] for i in chunk] for chunk in plan.chunks.members])
        self.counts: dict[str, int] = {}
        self.rounds: list[dict[str, int]] = []

    def step(
        self,
        name: str,
        run: Callable[..., TaskResult],
        calls: Sequence[Call],
        *counts: str,
        stem: bool = True,
    ) -> list[TaskResult]:
        """Run one task per call.

        Args:
            counts: which of the tasks' counts belong to the stage's.
            stem: whether the tasks write into `dedupe/`.
        """
        tasks = [
            Task(
                f"{i:05d}",
                task_key(f"dedupe.{name}", VERSION, self.plan.settings, [self.layout, i, facts]),
                run,
                (*args, self.plan, *([self.engine.paths.dedupe(f"{name}/{i:05d}")] if stem else [])),
                memory=self.engine.memory,
            )
            for i, args, facts in calls
        ]
        results = self.engine.run(f"dedupe.{name}", tasks)
        for key in counts:
            self.counts[key] = self.counts.get(key, 0) + sum(r.counts[key] for r in results)
        return results

    def run(self) -> DedupeResult:
        newest = self.newest_of_urls()
        gone, gone_keys = _files(newest, ".members.")
        classes = self.classes(gone, gone_keys)
        n_exact = sum(a.rows for r in classes for a in r.outputs if ".edges." in a.file.name)
        drops, capped = self.near(_files(classes, ".edges."), n_exact, *_files([*newest, *classes], ".members."))
        resolved = self.resolve("resolve", drops, _files(classes, ".leaders."), EXACT, True)
        if newest:
            moved = _files(resolved, ".drops.")
            resolved += self.resolve("resolve_urls", moved, _files(newest, ".leaders."), URL, False)
        return self.decisions(classes, resolved, capped)

    def newest_of_urls(self) -> list[TaskResult]:
        settings = self.plan.settings
        if settings.url.rule != "newest" or not settings.url.corpora:
            return []
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        calls: list[Call] = [(i, (p, n), n) for i, p in enumerate(self.parts)]
        mapped = self.step("urls", exact.shuffle_urls, calls)
        files, keys = _files(mapped)
        calls = [(p, (files, p, True), keys) for p in range(n)]
        return self.step("url_classes", exact.find_classes, calls, "url_duplicates")

    def classes(self, gone: list[Path], gone_keys: list[str]) -> list[TaskResult]:
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        calls: list[Call] = [(i, (p, gone, i, n), [n, gone_keys]) for i, p in enumerate(self.parts)]
        files, keys = _files(self.step("contents", exact.shuffle_contents, calls))
        calls = [(p, (files, p, False), keys) for p in range(n)]
        return self.step("classes", exact.find_classes, calls, "exact_duplicates")

    def near(
        self, exact_edges: Files, n_exact: int, followers: list[Path], follower_keys: list[str]
    ) -> tuple[Files, list[Files]]:
        """The rounds. Returns the drops, and by chunk the documents that a cap cut short."""
        n = partition_count(self.documents * self.bands * BAND.itemsize, len(self.parts))
        calls: list[Call] = [(i, (p, followers, i, n), [n, follower_keys]) for i, p in enumerate(self.parts)]
        live = [_files(self.step("bands", buckets.shuffle_bands, calls, "compared_documents"))] * n
        updates: Files = ([], [])
        membership: Files = ([], [])
        left, n_left, sample = exact_edges, n_exact, list[decide.Key]()
        drops: Files = ([], [])
        capped: list[Files] = [([], []) for _ in self.parts]
        for round_ in range(MAX_ROUNDS):
            at = f"{round_:02d}"
            calls = [
                (p, (live[p][0], updates[0], p, round_), [round_, live[p][1], updates[1]])
                for p in range(n)
                if round_ == 0 or live[p][0]
            ]
            walked = self.step(f"walk{at}", buckets.walk_buckets, calls, "capped_buckets")
            found = {p: r for (p, _, _), r in zip(calls, walked, strict=True)}
            live = [_files([found[p]], ".live.") if p in found else ([], []) for p in range(n)]
            if round_ == 0:
                membership = _files(walked, ".members.")
                self.counts["buckets"] = sum(r.counts["buckets"] for r in walked)
                self.counts["largest_bucket"] = max(r.data["largest_bucket"] for r in walked)
            files, keys = _files(walked, ".pairs.")
            if round_ and not files and not left[0]:
                break
            gathered = self.step(
                f"gather{at}", verify.gather_pairs, [(i, (files, i), keys) for i in range(len(self.parts))]
            )
            for i, r in enumerate(gathered):
                more = _files([r], ".capped.")
                capped[i] = _together(capped[i], more)
            verified = self.verify(at, gathered)
            opened: Files = _files(gathered, ".open.") if round_ < MAX_ROUNDS - 1 else ([], [])
            edges = _together(left, _files(verified))
            sample += [(a, b) for r in verified for a, b in r.data["sample"]]
            n_edges = n_left + sum(r.counts["verified_pairs"] for r in verified)
            decided = self.decide(at, edges, opened, decide.ranges(sample, n_edges, self.plan.memory))
            left, n_left = _files(decided, ".left."), sum(r.counts["open_pairs"] for r in decided)
            sample = [(a, b) for r in decided for a, b in r.data["sample"]]
            drops = _together(drops, _files(decided, ".drops."))
            self.rounds.append(
                {
                    "window": buckets.window_of(round_, self.plan.settings.fan_out),
                    "bucket_rows_walked_again": sum(r.counts["live_rows"] for r in walked),
                    "candidate_pairs": sum(r.counts["candidate_pairs"] for r in gathered),
                    "verified_pairs": sum(r.counts["verified_pairs"] for r in verified),
                    "dropped": sum(r.counts["near_duplicates"] for r in decided),
                }
            )
            if not any(paths for paths, _ in live):
                break
            updates = self.tell(at, decided, membership, n)
        return drops, capped

    def verify(self, at: str, gathered: Sequence[TaskResult]) -> list[TaskResult]:
        """Edges of a round; nothing runs where there is no pair."""
        asking = [i for i, r in enumerate(gathered) if r.counts["candidate_pairs"]]
        if not asking:
            return []
        files, keys = _files(gathered, ".requests.")
        size = self.sketch_size
        calls: list[Call] = [(i, (p, files, i, size), keys) for i, p in enumerate(self.parts)]
        answers, answer_keys = _files(self.step(f"answer{at}", verify.answer, calls))
        calls = []
        for i in asking:
            pairs, pair_keys = _files([gathered[i]], ".pairs.")
            calls.append((i, (self.parts[i], pairs, answers, i, size), [pair_keys, answer_keys]))
        return self.step(f"verify{at}", verify.verify, calls)

    def decide(self, at: str, edges: Files, opened: Files, bounds: list[decide.Key]) -> list[TaskResult]:
        """Range after range: each needs what those before it tell."""
        done: list[TaskResult] = []
        for k in range(len(bounds) + 1):
            told, told_keys = _files(done, ".messages.")
            args = (edges[0], opened[0], told, k, bounds)
            done += self.step(
                f"decide{at}.{k:03d}", decide.decide_range, [(k, args, [edges[1], opened[1], told_keys, bounds])]
            )
        return done

    def tell(self, at: str, decided: Sequence[TaskResult], membership: Files, partitions: int) -> Files:
        drops, unknown = _files(decided, ".drops."), _files(decided, ".unknown.")
        calls: list[Call] = [
            (i, (drops[0], unknown[0], membership[0], i, partitions), [drops[1], unknown[1], membership[1], partitions])
            for i in range(len(self.parts))
        ]
        return _files(self.step(f"tell{at}", decide.tell_buckets, calls))

    def resolve(self, name: str, drops: Files, followers: Files, kind: int, first: bool) -> list[TaskResult]:
        calls: list[Call] = [
            (i, (drops[0], followers[0], kind, i, first), [drops[1], followers[1]]) for i in range(len(self.parts))
        ]
        return self.step(name, result.resolve, calls)

    def decisions(self, classes: list[TaskResult], resolved: list[TaskResult], capped: list[Files]) -> DedupeResult:
        held = sorted(f.file_hash for chunk in self.parts for p in chunk if p.group.held_out for f in p.group.files)
        drops, clusters = _files(resolved, ".drops."), _files(resolved, ".members.")
        calls: list[Call] = [
            (
                i,
                (self.parts[i], drops[0], clusters[0], capped[i][0], i, np.array(held, np.uint64)),
                [drops[1], clusters[1], capped[i][1], held],
            )
            for i in self.new
        ]
        written = self.step("decisions", result.write_decisions, calls, stem=False)
        overlaps: dict[str, dict[tuple[int, int], list[int]]] = {}
        for r in (*classes, *written):
            for name, cells in r.data["overlaps"].items():
                total = overlaps.setdefault(name, {})
                for a, b, documents, size in cells:
                    cell = total.setdefault((a, b), [0, 0])
                    cell[0] += documents
                    cell[1] += size
        sizes: dict[str, int] = {}
        near_lost: dict[str, int] = {}
        kept_bytes: dict[str, int] = {}
        largest: dict[str, list[list[int]]] = {}
        for r in written:
            merge_counts(sizes, r.data["sizes"])
            merge_counts(near_lost, r.data["near_lost"])
            merge_counts(kept_bytes, r.data["kept_bytes"])
            for name, clusters_ in r.data["largest"].items():
                both = sorted([*largest.get(name, []), *clusters_], key=lambda c: (-c[1], c[0]))
                largest[name] = both[: result.LARGEST]
        return DedupeResult(
            written,
            {
                "corpora": list(self.plan.chunks.table.corpus_names),
                "subsets": list(self.plan.codes),
                **{name: [[a, b, *total[a, b]] for a, b in sorted(total)] for name, total in sorted(overlaps.items())},
            },
            {
                **self.counts,
                "near_duplicates": sum(r["dropped"] for r in self.rounds),
                "candidate_pairs": sum(r["candidate_pairs"] for r in self.rounds),
                "verified_pairs": sum(r["verified_pairs"] for r in self.rounds),
                "kept_past_a_cap": sum(r.data["capped"] for r in written),
                "rounds": self.rounds,
                "cluster_sizes": dict(sorted(sizes.items(), key=lambda e: int(e[0]))),
                "near_lost": dict(sorted(near_lost.items())),
                "kept_bytes": dict(sorted(kept_bytes.items())),
            },
            near_lost,
            largest,
        )

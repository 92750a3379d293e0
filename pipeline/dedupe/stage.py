"""The dedupe stage: plans the steps, repeats the rounds until nothing is open, and gathers the counts.

    contents -> classes                            exact; before it urls -> url classes, where the newest of a URL stays
    bands -> [walk -> gather -> answer -> verify -> decide -> tell] ...     rounds
    resolve -> decisions

The driver holds paths, digests and counts only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..engine.shuffle import Shuffled, partition_count
from ..engine.tasks import Engine, Task
from ..filter.judge import FilteredGroup, Verdicts
from ..run.artifacts import Artifact, FileSet, content_key, merge_counts
from ..run.identity import Group
from ..signals.minhash import MinHashSettings
from ..signals.scan import FileSignals
from . import buckets, decide, exact, result, verify
from .decide import DecidedRange
from .order import BAND, CONTENT, EXACT, URL, Chunks, DedupeSettings, Part, Place, Plan, ranks
from .verify import Gathered, Verified

VERSION = 4
MAX_SUBSETS = 2_048
"""Names come from the rows, and every two subsets have a cell in the overlap: a small file could make it gigabytes."""
MAX_ROUNDS = 100
"""After so many rounds what is still open is decided by what is known; only chains through capped buckets come near."""
MIN_MEMORY = 16 << 20
BASE_MEMORY = 384 << 20
"""What a worker takes before it holds a single record: the interpreter, compiled kernels, Arrow, open shuffle files."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class OldRun:
    """The finished run that new corpora are compared with."""

    parts: tuple[Part, ...]
    sizes: tuple[tuple[int, int], ...]
    """(bytes of text, documents) of every part."""
    subsets: tuple[str, ...]
    """`corpus/subset`."""


NO_RUN = OldRun((), (), ())


@dataclass(frozen=True)
class Decided:
    """The decision on every document, and what it means."""

    decisions: Mapping[str, Artifact]
    """By `SourceFile.table`."""
    verdicts: Verdicts
    kept_bytes: Mapping[str, int]
    """`corpus/subset` -> bytes of the training data that stay."""
    near_lost: Mapping[str, int]
    """`corpus/subset` -> training documents that near-dedupe drops for others of the training data."""
    largest: Mapping[str, Sequence[result.Cluster]]
    """`corpus/subset` -> its largest clusters."""
    overlap: dict[str, Any]
    """`stats/overlap.json`."""
    figures: dict[str, Any]
    """`stats/dedupe.json`."""


def dedupe(
    engine: Engine,
    groups: Sequence[Group],
    signals: Mapping[str, FileSignals],
    filtered: Mapping[str, FilteredGroup],
    settings: DedupeSettings,
    shape: MinHashSettings,
    old: OldRun = NO_RUN,
) -> Decided:
    """Decide every document of a run.

    Args:
        signals: by `SourceFile.table`.
        filtered: by name of the group.
        shape: of the signatures.
    """
    parts = [
        *(Part(g, tuple(signals[f.table].signals for f in g.files), filtered[g.name].filtered) for g in groups),
        *old.parts,
    ]
    scanned = [[signals[f.table] for f in g.files] for g in groups]
    sizes = [(sum(s.bytes for s in files), sum(s.documents for s in files)) for files in scanned]
    subsets = {f"{v.corpus}/{v.subset}" for g in filtered.values() for v in g.verdicts}
    chunks = Chunks.build([p.group for p in parts], [*sizes, *old.sizes], [p.old for p in parts])
    codes = tuple(sorted({*subsets, *old.subsets}))
    if len(codes) > MAX_SUBSETS:
        corpus, count = Counter(code.split("/", 1)[0] for code in codes).most_common(1)[0]
        raise ValueError(
            f"{len(codes):,} subsets, {count:,} of them in {corpus}, are more than a run can tell apart ({MAX_SUBSETS:,}); "
            "leave that corpus out, or name fewer subsets in its rows"
        )
    plan = Plan(
        settings,
        chunks,
        ranks(settings, [p.group.corpus for p in parts]),
        codes,
        max(MIN_MEMORY, (engine.memory - BASE_MEMORY) // 2),
        content_key(codes, [[parts[i].contents() for i in chunk] for chunk in chunks.members]),
    )
    documents = sum(n for _, n in (*sizes, *old.sizes))
    return _DedupeSteps(engine, [[parts[i] for i in chunk] for chunk in chunks.members], plan, documents, shape).run()


@dataclass
class _DedupeSteps:
    engine: Engine
    parts: list[list[Part]]
    """By chunk."""
    plan: Plan
    documents: int
    shape: MinHashSettings
    counts: dict[str, int] = field(default_factory=dict)
    """For `stats/dedupe.json`."""
    rounds: list[dict[str, int]] = field(default_factory=list)

    def step(
        self, name: str, run: Callable[..., Result], arguments: Mapping[int, tuple[Any, ...]], writes_here: bool = True
    ) -> list[Result]:
        """Run a task for each number of a chunk, partition or range.

        Args:
            arguments: by number; the plan follows them, and where to write.
            writes_here: whether the tasks write into `dedupe/`.
        """
        paths = self.engine.paths
        tasks = [
            Task(
                f"{i:05d}",
                run,
                (*given, self.plan, paths.dedupe(f"{name}/{i:05d}") if writes_here else paths),
                memory=self.engine.memory,
            )
            for i, given in arguments.items()
        ]
        return self.engine.run(f"dedupe.{name}", VERSION, tasks)

    def run(self) -> Decided:
        newest = self.newest_of_urls()
        classes = self.classes(_all(c.members for c in newest))
        followers = _all(c.members for c in [*newest, *classes])
        edges = [a for c in classes for a in c.edges]
        drops, capped = self.near(FileSet.filled(edges), sum(a.rows for a in edges), followers)
        resolved = self.resolve("resolve", drops, _all(c.leaders for c in classes), EXACT, True)
        if newest:
            moved = _all(r.drops for r in resolved)
            resolved += self.resolve("resolve_urls", moved, _all(c.leaders for c in newest), URL, False)
        return self.decisions(classes, resolved, capped)

    def newest_of_urls(self) -> list[exact.Classes]:
        settings = self.plan.settings
        if settings.url.rule != "newest" or not settings.url.corpora:
            return []
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        mapped = self.step("urls", exact.shuffle_urls, {i: (p, n) for i, p in enumerate(self.parts)})
        files = _files(mapped)
        found = self.step("url_classes", exact.find_classes, {p: (files, p, True) for p in range(n)})
        self.counts["url_duplicates"] = sum(c.duplicates for c in found)
        return found

    def classes(self, gone: FileSet) -> list[exact.Classes]:
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        mapped = self.step("contents", exact.shuffle_contents, {i: (p, gone, i, n) for i, p in enumerate(self.parts)})
        files = _files(mapped)
        found = self.step("classes", exact.find_classes, {p: (files, p, False) for p in range(n)})
        self.counts["exact_duplicates"] = sum(c.duplicates for c in found)
        return found

    def near(self, left: FileSet, n_left: int, followers: FileSet) -> tuple[FileSet, list[FileSet]]:
        """The rounds: what is dropped, and by chunk the documents that a cap cut short.

        Args:
            left: exact edges, and `n_left` how many.
            followers: documents that go as others go; nobody compares them.
        """
        n = partition_count(self.documents * self.shape.bands * BAND.itemsize, len(self.parts))
        bands = self.step("bands", buckets.shuffle_bands, {i: (p, followers, i, n) for i, p in enumerate(self.parts)})
        self.counts["compared_documents"] = sum(b.compared_documents for b in bands)
        live = dict.fromkeys(range(n), _all(b.files for b in bands))
        updates = membership = drops = FileSet()
        sample: list[Place] = []
        capped = [FileSet() for _ in self.parts]
        for round_ in range(MAX_ROUNDS):
            at = f"{round_:02d}"
            asked = {p: (files, updates, p, round_) for p, files in live.items() if round_ == 0 or files}
            walked = self.step(f"walk{at}", buckets.walk_buckets, asked)
            live = {p: FileSet.filled(w.live) for p, w in zip(asked, walked, strict=True)}
            if round_ == 0:
                membership = _all(w.members for w in walked)
                self.counts["buckets"] = sum(w.buckets for w in walked)
                self.counts["largest_bucket"] = max(w.largest_bucket for w in walked)
            capped_buckets = sum(w.capped_buckets for w in walked)
            self.counts["capped_buckets"] = self.counts.get("capped_buckets", 0) + capped_buckets
            pairs = _all(w.pairs for w in walked)
            if round_ and not pairs and not left:
                break
            gathered = self.step(f"gather{at}", verify.gather_pairs, {i: (pairs, i) for i in range(len(self.parts))})
            capped = [before + FileSet.filled(g.capped) for before, g in zip(capped, gathered, strict=True)]
            verified = self.verify(at, gathered)
            opened = _all(g.opened for g in gathered) if round_ < MAX_ROUNDS - 1 else FileSet()
            sample += [place for v in verified for place in v.sample]
            n_edges = n_left + sum(v.verified_pairs for v in verified)
            bounds = decide.ranges(sample, n_edges, self.plan.memory)
            decided = self.decide(at, left + _all(v.edges for v in verified), opened, bounds)
            left, n_left = _all(d.left for d in decided), sum(d.open_pairs for d in decided)
            sample = [place for d in decided for place in d.sample]
            drops = drops + _all(d.drops for d in decided)
            self.rounds.append(
                {
                    "window": buckets.window_of(round_, self.plan.settings.fan_out),
                    "bucket_rows_walked_again": sum(w.live_rows for w in walked),
                    "candidate_pairs": sum(g.candidate_pairs for g in gathered),
                    "verified_pairs": sum(v.verified_pairs for v in verified),
                    "dropped": sum(d.near_duplicates for d in decided),
                }
            )
            if not any(live.values()):
                break
            updates = self.tell(at, decided, membership, n)
        return drops, capped

    def verify(self, at: str, gathered: Sequence[Gathered]) -> list[Verified]:
        """Edges of a round; nothing runs where there is no pair."""
        asking = [i for i, g in enumerate(gathered) if g.candidate_pairs]
        if not asking:
            return []
        requests, size = _all(g.requests for g in gathered), self.shape.sketch_size
        answers = _files(
            self.step(f"answer{at}", verify.answer, {i: (p, requests, i, size) for i, p in enumerate(self.parts)})
        )
        return self.step(
            f"verify{at}",
            verify.verify,
            {i: (self.parts[i], FileSet.filled(gathered[i].pairs), answers, i, size) for i in asking},
        )

    def decide(self, at: str, edges: FileSet, opened: FileSet, bounds: list[Place]) -> list[DecidedRange]:
        """Range after range: each needs the messages of those before it."""
        done: list[DecidedRange] = []
        for k in range(len(bounds) + 1):
            messages = _all(d.messages for d in done)
            done += self.step(f"decide{at}.{k:03d}", decide.decide_range, {k: (edges, opened, messages, k, bounds)})
        return done

    def tell(self, at: str, decided: Sequence[DecidedRange], membership: FileSet, partitions: int) -> FileSet:
        drops, unknown = _all(d.drops for d in decided), _all(d.unknown for d in decided)
        arguments = {i: (drops, unknown, membership, i, partitions) for i in range(len(self.parts))}
        return _files(self.step(f"tell{at}", decide.tell_buckets, arguments))

    def resolve(self, name: str, drops: FileSet, followers: FileSet, kind: int, first: bool) -> list[result.Resolved]:
        return self.step(name, result.resolve, {i: (drops, followers, kind, i, first) for i in range(len(self.parts))})

    def decisions(
        self, classes: Sequence[exact.Classes], resolved: Sequence[result.Resolved], capped: Sequence[FileSet]
    ) -> Decided:
        held = sorted({f.file_hash for chunk in self.parts for p in chunk if p.group.held_out for f in p.group.files})
        drops, clusters = _all(r.drops for r in resolved), _all(r.members for r in resolved)
        written = self.step(
            "decisions",
            result.write_decisions,
            {
                i: (parts, drops, clusters, capped[i], i, np.array(held, np.uint64))
                for i, parts in enumerate(self.parts)
                if not parts[0].old
            },
            writes_here=False,
        )
        verdicts = Verdicts()
        kept_bytes: dict[str, int] = {}
        near_lost: dict[str, int] = {}
        largest: dict[str, list[result.Cluster]] = {}
        for chunk in written:
            verdicts.include(chunk.verdicts)
            merge_counts(kept_bytes, chunk.kept_bytes)
            merge_counts(near_lost, chunk.near_lost)
            for subset, found in chunk.largest.items():
                both = sorted([*largest.get(subset, []), *found], key=lambda c: (-c.copies, c.leader))
                largest[subset] = both[: result.LARGEST]
        overlap = {
            "corpora": list(self.plan.chunks.table.corpus_names),
            "subsets": list(self.plan.codes),
            **_summed([*(c.overlaps for c in classes), *(c.overlaps for c in written)]),
        }
        return Decided(
            {name: artifact for chunk in written for name, artifact in chunk.decisions.items()},
            verdicts,
            kept_bytes,
            near_lost,
            largest,
            overlap,
            self.figures(written, kept_bytes, near_lost),
        )

    def figures(
        self, written: Sequence[result.DecidedChunk], kept_bytes: dict[str, int], near_lost: dict[str, int]
    ) -> dict[str, Any]:
        """`stats/dedupe.json`."""
        sizes: dict[str, int] = {}
        for chunk in written:
            merge_counts(sizes, chunk.sizes)
        return {
            **self.counts,
            "near_duplicates": sum(r["dropped"] for r in self.rounds),
            "candidate_pairs": sum(r["candidate_pairs"] for r in self.rounds),
            "verified_pairs": sum(r["verified_pairs"] for r in self.rounds),
            "kept_past_a_cap": sum(chunk.capped for chunk in written),
            "rounds": self.rounds,
            "cluster_sizes": dict(sorted(sizes.items(), key=lambda e: int(e[0]))),
            "near_lost": dict(sorted(near_lost.items())),
            "kept_bytes": dict(sorted(kept_bytes.items())),
        }


def _all(outputs: Iterable[tuple[Artifact, ...]]) -> FileSet:
    """The files of several tasks that have rows."""
    return FileSet.filled(a for files in outputs for a in files)


def _files(results: Iterable[Shuffled]) -> FileSet:
    return _all(r.files for r in results)


def _summed(overlaps: Iterable[Mapping[str, Sequence[exact.OverlapCell]]]) -> dict[str, list[list[int]]]:
    """By kind of overlap, every cell over all tasks, as lists."""
    totals: dict[str, dict[tuple[int, int], list[int]]] = {}
    for found in overlaps:
        for kind, cells in found.items():
            total = totals.setdefault(kind, {})
            for cell in cells:
                sums = total.setdefault((cell.cell, cell.beside), [0, 0])
                sums[0] += cell.documents
                sums[1] += cell.bytes
    return {kind: [[a, b, *total[a, b]] for a, b in sorted(total)] for kind, total in sorted(totals.items())}

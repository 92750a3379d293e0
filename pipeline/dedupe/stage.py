"""The dedupe stage: plans the steps, repeats the rounds until nothing is open, and gathers the counts.

    contents -> layout -> classes        exact; before it urls -> url classes, where the newest of a URL stays
    bands -> [walk -> gather -> answer -> verify -> number -> decide -> settle -> tell] ...     rounds
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
from .decide import Settled, Told
from .order import BAND, CONTENT, EDGE, EXACT, URL, Chunks, DedupeSettings, Part, Plan, ranks
from .ranges import Layout, lay_out
from .verify import Gathered, Verified

VERSION = 5
MAX_SUBSETS = 2_048
"""Names come from the rows, and every two subsets have a cell in the overlap: a small file could make it gigabytes."""
MAX_ROUNDS = 100
"""After so many rounds what is still open is decided by what is known; only chains through capped buckets come near."""
MIN_MEMORY = 16 << 20
EDGES_AT_ONCE = 64 << 20
"""Bytes of edges whose ranges one task numbers or settles."""
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
    """By file name."""
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
        signals: by file name.
        filtered: by name of the group.
        shape: of the signatures.
    """
    parts = [
        *(Part(g, tuple(signals[f.name].signals for f in g.files), filtered[g.name].filtered) for g in groups),
        *old.parts,
    ]
    scanned = [[signals[f.name] for f in g.files] for g in groups]
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
        self,
        name: str,
        run: Callable[..., Result],
        arguments: Mapping[int, tuple[Any, ...]],
        writes_here: bool = True,
        memory: int = 0,
    ) -> list[Result]:
        """Run a task for each number of a chunk, partition or range.

        Args:
            arguments: by number; the plan follows them, and where to write.
            writes_here: whether the tasks write into `dedupe/`.
            memory: bytes that a task needs, if that may be more than tasks of dedupe do with.
        """
        paths = self.engine.paths
        tasks = [
            Task(
                f"{i:05d}",
                run,
                (*given, self.plan, paths.dedupe(f"{name}/{i:05d}") if writes_here else paths),
                memory=max(self.engine.memory, memory),
            )
            for i, given in arguments.items()
        ]
        return self.engine.run(f"dedupe.{name}", VERSION, tasks)

    def run(self) -> Decided:
        newest = self.newest_of_urls()
        layout, classes = self.classes(_all(c.members for c in newest))
        followers = _all(c.members for c in [*newest, *classes])
        drops, capped = self.near([a for c in classes for a in c.edges], followers, layout)
        leaders = _all(c.leaders for c in classes)
        resolved = self.resolve("resolve", [(files, 0) for files in drops], leaders, EXACT, True)
        if newest:
            moved, leaders = _all(r.drops for r in resolved), _all(c.leaders for c in newest)
            resolved += self.resolve("resolve_urls", [(moved, i) for i in range(len(drops))], leaders, URL, False)
        return self.decisions(classes, resolved, capped)

    def newest_of_urls(self) -> list[exact.Classes]:
        settings = self.plan.settings
        if settings.url.rule != "newest" or not settings.url.corpora:
            return []
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        mapped = self.step("urls", exact.shuffle_urls, {i: (p, n) for i, p in enumerate(self.parts)})
        files = _files(mapped)
        found = self.step("url_classes", exact.find_classes, {p: (files, p, None) for p in range(n)})
        self.counts["url_duplicates"] = sum(c.duplicates for c in found)
        return found

    def classes(self, gone: FileSet) -> tuple[Layout, list[exact.Classes]]:
        n = partition_count(self.documents * CONTENT.itemsize, len(self.parts))
        ranges = partition_count(self.documents * EDGE.itemsize, len(self.parts), at_least=1)
        mapped = self.step(
            "contents",
            exact.shuffle_contents,
            {i: (p, gone, i, n, self.documents, ranges) for i, p in enumerate(self.parts)},
        )
        spans, samples = _all(m.spans for m in mapped), _all(m.samples for m in mapped)
        layout = self.step("layout", lay_out, {0: (spans, samples, ranges)})[0]
        files = _all(m.files for m in mapped)
        found = self.step("classes", exact.find_classes, {p: (files, p, layout) for p in range(n)})
        self.counts["exact_duplicates"] = sum(c.duplicates for c in found)
        return layout, found

    def near(self, left: list[Artifact], followers: FileSet, layout: Layout) -> tuple[list[FileSet], list[FileSet]]:
        """The rounds: by chunk what is dropped, and the documents that a cap cut short.

        Args:
            left: exact edges.
            followers: documents that go as others go; nobody compares them.
        """
        n = partition_count(self.documents * self.shape.bands * BAND.itemsize, len(self.parts))
        bands = self.step("bands", buckets.shuffle_bands, {i: (p, followers, i, n) for i, p in enumerate(self.parts)})
        self.counts["compared_documents"] = sum(b.compared_documents for b in bands)
        live = dict.fromkeys(range(n), _all(b.files for b in bands))
        updates = membership = FileSet()
        drops = [FileSet() for _ in self.parts]
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
            if round_ and not pairs and not any(a.rows for a in left):
                break
            gathered = self.step(
                f"gather{at}", verify.gather_pairs, {i: (pairs, i, layout) for i in range(len(self.parts))}
            )
            capped = [before + FileSet.filled(g.capped) for before, g in zip(capped, gathered, strict=True)]
            verified = self.verify(at, gathered, layout)
            edges = [*left, *(a for v in verified for a in v.edges)]
            if round_ < MAX_ROUNDS - 1:
                edges += [a for g in gathered for a in g.opened]
            settled = self.decide(at, edges, layout)
            left = [a for s in settled for a in s.left]
            told = self.tell(at, settled, membership, n)
            drops = [before + FileSet.filled(t.drops) for before, t in zip(drops, told, strict=True)]
            self.rounds.append(
                {
                    "window": buckets.window_of(round_, self.plan.settings.fan_out),
                    "bucket_rows_walked_again": sum(w.live_rows for w in walked),
                    "candidate_pairs": sum(g.candidate_pairs for g in gathered),
                    "verified_pairs": sum(v.verified_pairs for v in verified),
                    "dropped": sum(t.near_duplicates for t in told),
                }
            )
            if not any(live.values()):
                break
            updates = _all(t.updates for t in told)
        return drops, capped

    def verify(self, at: str, gathered: Sequence[Gathered], layout: Layout) -> list[Verified]:
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
            {i: (self.parts[i], FileSet.filled(gathered[i].pairs), answers, i, size, layout) for i in asking},
        )

    def decide(self, at: str, edges: Sequence[Artifact], layout: Layout) -> list[Settled]:
        """What becomes of the documents of some edges: only the pass over all of them is one task."""
        count = sum(a.rows for a in edges)
        if not count:
            return []
        files = FileSet.filled(edges)
        # As many ranges together as have edges enough, if all have as many.
        several = max(1, layout.ranges * EDGES_AT_ONCE // (count * EDGE.itemsize))
        asked = [range(i, min(i + several, layout.ranges)) for i in range(0, layout.ranges, several)]
        links = self.step(
            f"number{at}", decide.number_edges, {i: (files, list(r), layout) for i, r in enumerate(asked)}
        )
        states = decide.BYTES_HELD + layout.numbers // 4
        walked = self.step(
            f"decide{at}",
            decide.decide,
            {0: (_all(x.links for x in links), layout.numbers)},
            memory=BASE_MEMORY + states,
        )
        starts = np.cumsum([0, *(sum(a.rows for a in x.links) for x in links)]).tolist()
        return self.step(
            f"settle{at}",
            decide.settle,
            {i: (files, walked[0].verdicts, starts[i], list(r), layout) for i, r in enumerate(asked)},
        )

    def tell(self, at: str, settled: Sequence[Settled], membership: FileSet, partitions: int) -> list[Told]:
        drops, unknown = _all(s.drops for s in settled), _all(s.unknown for s in settled)
        arguments = {i: (drops, unknown, membership, i, partitions) for i in range(len(self.parts))}
        return self.step(f"tell{at}", decide.tell_chunk, arguments)

    def resolve(
        self, name: str, drops: Sequence[tuple[FileSet, int]], followers: FileSet, kind: int, first: bool
    ) -> list[result.Resolved]:
        """Args:
        drops: files and partition of every chunk.
        """
        return self.step(name, result.resolve, {i: (*d, followers, kind, i, first) for i, d in enumerate(drops)})

    def decisions(
        self, classes: Sequence[exact.Classes], resolved: Sequence[result.Resolved], capped: Sequence[FileSet]
    ) -> Decided:
        held = sorted(f.file_hash for chunk in self.parts for p in chunk if p.group.held_out for f in p.group.files)
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

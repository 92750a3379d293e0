"""The dedupe stage: plans the steps, repeats the rounds until nothing is open, and gathers the counts.

    contents -> layout -> classes        exact; before it urls -> url classes, where the newest of a URL stays
    bands -> [walk -> gather -> answer -> verify -> number -> pass -> judge -> settle -> tell] ...     rounds
                                                       ('few' instead of pass and judge, in late rounds)
    resolve -> decisions

The driver holds paths, digests and counts only.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..engine.engine import Engine
from ..engine.shuffle import Records, read_records
from ..engine.shuffle_file import Levels
from ..engine.tasks import portions
from ..engine.tree import add_up, join_records
from ..engine.two_level import Partition, Partitioned
from ..filter.judge import FilteredGroup, Verdicts
from ..run.artifacts import Artifact, content_key, merge_counts, remove
from ..run.file_sets import FileSet
from ..run.identity import Group
from ..signals.minhash import MinHashSettings
from ..signals.scan import FileSignals
from . import VERSION, buckets, decide, exact, result, steps, verify
from .decide import OWN_DROPS, Judged, Links
from .order import (
    BAND,
    CONTENT,
    EDGE,
    EDGES,
    EXACT,
    FOLLOWER,
    FOLLOWERS,
    IDS,
    PAIR,
    REQUEST,
    UPDATE,
    URL,
    Chunks,
    DedupeSettings,
    Part,
    Plan,
    ranks,
)
from .ranges import SAMPLES, SPANS, Layout, lay_out
from .steps import Steps, all_of, nothing, sum_rows
from .verify import Gathered, Verified

NOBODY = np.empty(0, np.uint64)
MAX_SUBSETS = 2_048
"""Names come from the rows, and every two subsets have a cell in the overlap: a small file could make it gigabytes."""
MAX_ROUNDS = 100
"""After so many rounds what is still open is decided by what is known; only chains through capped buckets come near."""
MIN_MEMORY = 16 << 20
CHUNK_BYTES = 2 << 20
"""Bytes of pairs from which a chunk has a task of its own."""
TOLD_BYTES = 16 << 20
"""The same of news, for which nobody reads its documents."""
MOST_TOGETHER = 10
"""Chunks that one task handles, however little there is of each: it opens the files of every one."""
FEW_LINKS = 256 << 20
"""Bytes of edges that one task judges: in late rounds, where everything waits for it, the states of all documents are neither
written nor read."""
MOST_JUDGES = 96
"""About so many tasks at most read the states of all documents, to say what they make of their edges."""
EDGES_AT_ONCE = 64 << 20
"""Bytes of edges whose ranges one task numbers or settles."""
BASE_MEMORY = 384 << 20
"""What a worker takes before it holds a single record: the interpreter, compiled kernels, Arrow, open shuffle files."""


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
    scores: Mapping[str, Artifact] | None = None,
    first: bool = False,
    carved: np.ndarray = NOBODY,
) -> Decided:
    """Decide every document of a run.

    Args:
        first: somebody cuts passages afterwards, and decides again.
        signals: by `SourceFile.table`.
        filtered: by name of the group.
        shape: of the signatures.
        scores: by `SourceFile.table`; what of them says the quality of documents counts.
        carved: uint64, ascending: documents whose reason in `filtered` is `carved`.
    """
    beside = scores or {}
    scanned = [[signals[f.table] for f in g.files] for g in groups]
    parts = [
        *(
            Part(
                g,
                tuple(s.signals for s in of),
                tuple(s.signatures for s in of),
                filtered[g.name].filtered,
                scores=tuple(beside[f.table] for f in g.files if f.table in beside),
            )
            for g, of in zip(groups, scanned, strict=True)
        ),
        *old.parts,
    ]
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
    layout = content_key(codes, [[parts[i].contents() for i in chunk] for chunk in chunks.members])
    stored = chunks.store(engine.paths.lists(f"chunks-{layout}"))
    plan = Plan(
        settings,
        stored,
        ranks(settings, [p.group.corpus for p in parts]),
        codes,
        max(MIN_MEMORY, (engine.memory - BASE_MEMORY) // 2),
        layout,
    )
    documents = sum(n for _, n in (*sizes, *old.sizes))
    by_chunk = [[parts[i] for i in chunk] for chunk in chunks.members]
    try:
        names = chunks.table.corpus_names
        return _DedupeSteps(engine, by_chunk, plan, documents, names, shape, first, carved).run()
    finally:
        remove(stored.path)


@dataclass
class _DedupeSteps(Steps):
    """The steps of the stage, in order."""

    corpora: tuple[str, ...]
    shape: MinHashSettings
    first: bool
    """Others decide again."""
    carved: np.ndarray
    """Documents that are set apart to measure on, uint64, ascending."""
    counts: dict[str, int] = field(default_factory=dict)
    """For `stats/dedupe.json`."""
    rounds: list[dict[str, int]] = field(default_factory=list)

    def run(self) -> Decided:
        contents, ranges = self.partitions(CONTENT), self.partitions(EDGE, at_least=1)
        to_chunks = self.to_chunks(self.documents * FOLLOWER.itemsize, contents)
        newest = self.newest_of_urls(contents, to_chunks)
        gone = self.together("gone", (c.members for c in newest), to_chunks, FOLLOWERS)
        layout, classes = self.classes(contents, ranges, gone, to_chunks)
        led = self.engine.beside(lambda: self.together("leaders", (c.leaders for c in classes), to_chunks, FOLLOWERS))
        followers = self.together("followers", (c.members for c in [*newest, *classes]), to_chunks, FOLLOWERS)
        drops, capped = self.near([c.edges for c in classes], followers, layout)
        resolved = self.resolve("resolve", drops, led.result(), EXACT, to_chunks)
        if newest:
            moved = self.together("moved", (r.drops for r in resolved), to_chunks, OWN_DROPS)
            leaders = self.together("url_leaders", (c.leaders for c in newest), to_chunks, FOLLOWERS)
            moves = [(moved.of(i),) for i in range(len(self.parts))]
            resolved += self.resolve("resolve_urls", moves, leaders, URL, to_chunks)
        clusters, dropped = self.engine.side_by_side(
            lambda: self.together("clusters", (r.members for r in resolved), to_chunks, result.CLUSTERS),
            lambda: self.together("dropped", (r.drops for r in resolved), to_chunks, OWN_DROPS),
        )
        return self.decisions(classes, dropped, clusters, capped)

    def newest_of_urls(self, partitions: int, to_chunks: Levels) -> list[exact.Classes]:
        settings = self.plan.settings
        if settings.url.rule != "newest" or not settings.url.corpora:
            return []
        levels = self.levels(self.documents * CONTENT.itemsize, len(self.parts), partitions)
        mapped = self.step("urls", exact.shuffle_urls, {i: (p, levels) for i, p in enumerate(self.parts)})
        urls = self.together("urls_together", (m.files for m in mapped), levels, exact.CONTENTS)
        found = self.step(
            "url_classes", exact.find_classes, {p: (urls.of(p), None, to_chunks, Levels(1)) for p in range(partitions)}
        )
        self.counts["url_duplicates"] = sum(c.duplicates for c in found)
        return found

    def classes(
        self, partitions: int, ranges: int, gone: Partitioned, to_chunks: Levels
    ) -> tuple[Layout, list[exact.Classes]]:
        levels = self.levels(self.documents * CONTENT.itemsize, len(self.parts), partitions)
        mapped = self.step(
            "contents",
            exact.shuffle_contents,
            {i: (p, gone.of(i), levels, self.documents, ranges) for i, p in enumerate(self.parts)},
        )
        laid_out = self.engine.beside(partial(self.layout, mapped, ranges))
        contents = self.together("contents_together", (m.files for m in mapped), levels, exact.CONTENTS)
        layout = laid_out.result()
        to_ranges = self.to_ranges(layout)
        found = self.step(
            "classes",
            exact.find_classes,
            {p: (contents.of(p), layout, to_chunks, to_ranges) for p in range(partitions)},
        )
        self.counts["exact_duplicates"] = sum(c.duplicates for c in found)
        return layout, found

    def layout(self, mapped: Sequence[exact.Contents], ranges: int) -> Layout:
        """The ranges of the order and the numbers of the documents, by what the tasks saw of both."""

        def joined(name: str, found: Iterable[tuple[Artifact, ...]], rows: Records) -> FileSet:
            files, folder = [a for own in found for a in own if a.rows], self.engine.paths.dedupe(name)
            return FileSet.of(add_up(self.engine, f"dedupe.{name}", VERSION, files, join_records, folder, (rows,)))

        spans = joined("spans", (m.spans for m in mapped), SPANS)
        samples = joined("samples", (m.samples for m in mapped), SAMPLES)
        return self.step("layout", lay_out, {0: (spans, samples, ranges)})[0]

    def near(
        self, left: list[tuple[Artifact, ...]], followers: Partitioned, layout: Layout
    ) -> tuple[list[tuple[Partition, ...]], list[tuple[Partition, ...]]]:
        """The rounds: by chunk what is dropped, and the documents that a cap cut short.

        Args:
            left: exact edges.
            followers: documents that go as others go; nobody compares them.
        """
        settings, chunks = self.plan.settings, range(len(self.parts))
        n = self.partitions(BAND, self.shape.bands)
        size = self.documents * self.shape.bands * BAND.itemsize
        levels = self.levels(size, len(chunks), n)
        bands = self.step(
            "bands", buckets.shuffle_bands, {i: (p, followers.of(i), levels) for i, p in enumerate(self.parts)}
        )
        self.counts["compared_documents"] = sum(b.compared_documents for b in bands)
        together = self.together("bands_together", (b.files for b in bands), levels, buckets.bands_of(settings))
        live = [together.of(p) for p in range(n)]
        updates = nothing(n)
        to_ranges = self.to_ranges(layout)
        drops, capped = _ByChunk(len(chunks)), _ByChunk(len(chunks))
        expected = self.documents
        for round_ in range(MAX_ROUNDS):
            at = f"{round_:02d}"
            # About as many pairs are found, and documents stay in live buckets: of the bands of a document most are alone.
            to_chunks = self.to_chunks(expected * PAIR.itemsize, len(live))
            walked = self.step(
                f"walk{at}",
                buckets.walk_buckets,
                {t: (rows, updates.of(t), t, round_, to_chunks) for t, rows in enumerate(live)},
            )
            live_rows = sum(w.live_rows for w in walked)
            expected, size = live_rows, live_rows * BAND.itemsize
            # What is left of neighbouring partitions is walked together, as soon as it is little.
            several = steps.handled_together(len(walked), size, steps.PARTITION_BYTES)
            live = [
                Partition(all_of(w.live for w in walked[i : i + several]))
                for i in range(0, len(walked) if live_rows else 0, several)
            ]
            if round_ == 0:
                self.counts["buckets"] = sum(w.buckets for w in walked)
                self.counts["largest_bucket"] = max(w.largest_bucket for w in walked)
            capped_buckets = sum(w.capped_buckets for w in walked)
            self.counts["capped_buckets"] = self.counts.get("capped_buckets", 0) + capped_buckets
            found = sum_rows(w.pairs for w in walked)
            if round_ and not found and not sum_rows(left):
                break
            inside = self.engine.beside(partial(self.members, at, walked, to_chunks))
            pairs = self.together(f"pairs{at}", (w.pairs for w in walked), to_chunks, buckets.PAIRS)
            groups = self.groups(found * PAIR.itemsize, CHUNK_BYTES) if found else []
            asking = self.to_chunks(found * REQUEST.itemsize, len(groups))
            gathered = self.step(
                f"gather{at}",
                verify.gather_pairs,
                {g: (tuple(map(pairs.of, own)), own.start, layout, asking, to_ranges) for g, own in enumerate(groups)},
            )
            capped.add(groups, (g.capped for g in gathered))
            verified = self.verify(at, groups, gathered, asking, layout, to_ranges)
            edges = [*left, *(v.edges for v in verified)]
            if round_ < MAX_ROUNDS - 1:
                edges += [g.opened for g in gathered]
            left, going, waiting = self.decide(at, edges, layout, to_ranges)
            members = inside.result()
            groups = self.groups(live_rows * UPDATE.itemsize + sum_rows(edges) * EDGE.itemsize, TOLD_BYTES)
            to_buckets = self.levels(live_rows * UPDATE.itemsize, len(groups), max(1, len(live)))
            told = self.step(
                f"tell{at}",
                decide.tell_chunks,
                {
                    g: (*(tuple(map(s.of, own)) for s in (going, waiting, members)), several, to_buckets)
                    for g, own in enumerate(groups)
                },
            )
            drops.add(groups, (t.drops for t in told))
            self.rounds.append(
                {
                    "window": buckets.window_of(round_, settings.fan_out),
                    "bucket_rows_walked_again": live_rows,
                    "candidate_pairs": sum(g.candidate_pairs for g in gathered),
                    "verified_pairs": sum(v.verified_pairs for v in verified),
                    "dropped": sum(t.near_duplicates for t in told),
                }
            )
            if not live:
                break
            updates = self.together(f"updates{at}", (t.updates for t in told), to_buckets, decide.UPDATES)
        return drops.parts, capped.parts

    def members(self, at: str, walked: Sequence[buckets.Walked], to_chunks: Levels) -> Partitioned:
        """Who is in what must be walked again, by chunk."""
        return self.together(f"members{at}", (w.members for w in walked), to_chunks, buckets.MEMBERS)

    def groups(self, size: int, each: int) -> list[range]:
        """Consecutive chunks that one task handles, of `size` bytes in all: one alone, where it has `each` bytes."""
        n = len(self.parts)
        several = min(MOST_TOGETHER, max(1, n * each // max(size, 1)))
        return [range(i, min(i + several, n)) for i in range(0, n, several)]

    def verify(
        self,
        at: str,
        groups: Sequence[range],
        gathered: Sequence[Gathered],
        asking: Levels,
        layout: Layout,
        to_ranges: Levels,
    ) -> list[Verified]:
        """Edges of a round; nothing runs where there is no pair."""
        if not any(g.candidate_pairs for g in gathered):
            return []
        size = self.shape.sketch_size
        requests = self.together(f"requests{at}", (g.requests for g in gathered), asking, verify.REQUESTS)
        answers = verify.answers_of(size)
        total = sum_rows(g.requests for g in gathered) * answers.dtype.itemsize
        answering = self.to_chunks(total, len(groups))
        parts = [tuple(self.parts[i] for i in own) for own in groups]
        answered = self.step(
            f"answer{at}",
            verify.answer,
            {g: (parts[g], tuple(map(requests.of, own)), size, answering) for g, own in enumerate(groups)},
        )
        sketches = self.together(f"answers{at}", (a.files for a in answered), answering, answers)
        return self.step(
            f"verify{at}",
            verify.verify,
            {
                g: (
                    parts[g],
                    FileSet.filled(gathered[g].pairs),
                    tuple(map(sketches.of, own)),
                    size,
                    layout,
                    to_ranges,
                )
                for g, own in enumerate(groups)
                if gathered[g].candidate_pairs
            },
        )

    def decide(
        self, at: str, edges: list[tuple[Artifact, ...]], layout: Layout, to_ranges: Levels
    ) -> tuple[list[tuple[Artifact, ...]], Partitioned, Partitioned]:
        """What becomes of the documents of some edges (what is left of them; by chunk the drops, and who stays open): only
        the pass over all edges is one task.
        """
        count = sum_rows(edges)
        if not count:
            return [], nothing(len(self.parts)), nothing(len(self.parts))
        ranges = self.together(f"edges{at}", edges, to_ranges, EDGES)
        # As many ranges together as have edges enough, if all have as many.
        several = steps.handled_together(layout.ranges, count * EDGE.itemsize, EDGES_AT_ONCE)
        asked = [ranges.between(i, min(i + several, layout.ranges)) for i in range(0, layout.ranges, several)]
        links = self.step(f"number{at}", decide.number_edges, {i: (r, layout) for i, r in enumerate(asked)})
        rows = [sum_rows([x.links]) for x in links]
        judges, judged = self.judge(at, links, rows, layout)
        verdicts = [
            (found.verdicts, start)
            for own, found in zip(judges, judged, strict=True)
            for start in itertools.accumulate((rows[i] for i in own[:-1]), initial=0)
        ]
        to_chunks = self.to_chunks(count * EDGE.itemsize, len(asked))
        settled = self.step(
            f"settle{at}",
            decide.settle,
            {i: (r, *verdicts[i], layout, to_chunks, to_ranges) for i, r in enumerate(asked)},
        )
        drops, unknown = self.engine.side_by_side(
            lambda: self.together(f"drops{at}", (s.drops for s in settled), to_chunks, decide.DROPS),
            lambda: self.together(f"unknown{at}", (s.unknown for s in settled), to_chunks, IDS),
        )
        return [s.left for s in settled], drops, unknown

    def judge(
        self, at: str, links: Sequence[Links], rows: Sequence[int], layout: Layout
    ) -> tuple[list[list[int]], list[Judged]]:
        """The pass over all edges, and what comes of each: (places of the links of every task, its verdicts on them).

        Args:
            rows: of the links.
        """
        memory = BASE_MEMORY + decide.BYTES_HELD + layout.numbers // 4
        files, size = all_of(x.links for x in links), sum(rows) * decide.LINK.itemsize
        if size <= FEW_LINKS:
            together = {0: (files, layout.numbers)}
            return [list(range(len(links)))], self.step(f"few{at}", decide.judge_few, together, memory=memory + size)
        walked = self.step(f"pass{at}", decide.walk_edges, {0: (files, layout.numbers)}, memory=memory)
        judges = portions(range(len(links)), lambda i: rows[i], sum(rows), MOST_JUDGES)
        arguments = {j: (all_of(links[i].links for i in own), walked[0].states) for j, own in enumerate(judges)}
        return judges, self.step(f"judge{at}", decide.judge_edges, arguments, memory=memory)

    def resolve(
        self, name: str, drops: Sequence[tuple[Partition, ...]], leaders: Partitioned, kind: int, to_chunks: Levels
    ) -> list[result.Resolved]:
        """What becomes of those behind the leaders of every chunk; of these, too, where it is not handed on yet."""
        first = kind == EXACT
        return self.step(
            name, result.resolve, {i: (d, leaders.of(i), kind, first, to_chunks) for i, d in enumerate(drops)}
        )

    def decisions(
        self,
        classes: Sequence[exact.Classes],
        dropped: Partitioned,
        clusters: Partitioned,
        capped: Sequence[tuple[Partition, ...]],
    ) -> Decided:
        files = sorted({f.file_hash for chunk in self.parts for p in chunk if p.group.held_out for f in p.group.files})
        held = result.HeldOut(np.array(files, np.uint64), self.carved)
        place = result.DecisionFiles(self.engine.paths, self.first)
        written = self.step(
            "first_decisions" if self.first else "decisions",
            result.write_decisions,
            {
                i: (parts, dropped.of(i), clusters.of(i), capped[i], held, place)
                for i, parts in enumerate(self.parts)
                if not parts[0].old
            },
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
            "corpora": list(self.corpora),
            "subsets": list(self.plan.codes),
            **self.overlaps([*(c.overlaps for c in classes), *(c.overlaps for c in written)]),
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

    def overlaps(self, counted: Sequence[tuple[Artifact, ...]]) -> dict[str, list[list[int]]]:
        """By kind of overlap, every cell over all tasks, as lists."""
        files = [a for files in counted for a in files]
        folder = self.engine.paths.dedupe("overlap")
        (whole,) = add_up(self.engine, "dedupe.overlap", VERSION, files, join_records, folder, (exact.CELLS,), most=1)
        rows = read_records([whole.file], 0, exact.OVERLAP)
        kinds = ((k, rows[rows["kind"] == k]) for k in range(len(exact.OVERLAPS)))
        lists = {exact.OVERLAPS[k]: [list(cell)[1:] for cell in own.tolist()] for k, own in kinds}
        return dict(sorted(lists.items()))

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


class _ByChunk:
    """What tasks leave of each of their chunks, round by round."""

    def __init__(self, chunks: int) -> None:
        self.parts: list[tuple[Partition, ...]] = [() for _ in range(chunks)]

    def add(self, groups: Iterable[range], files: Iterable[tuple[Artifact, ...]]) -> None:
        """Add the files of a task for each group of chunks, which have these as partitions."""
        for own, written in zip(groups, files, strict=True):
            if any(a.rows for a in written):
                for place, chunk in enumerate(own):
                    self.parts[chunk] += (Partition(FileSet.of(written), place),)

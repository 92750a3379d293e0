"""The steps of the mix stage: documents are listed, phases planned, packed, shuffled and written, and the index after them.

Planning reads only 16 bytes per document; every shortage is known before a block is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...tokenize.shards import SetInfo, Split, dataset_card, file_name, rows_per_file, set_metadata
from ..carve.encode import CarvedShard
from ..carve.settings import HALVES
from ..engine.engine import Engine
from ..engine.rows import Rows
from ..engine.shuffle import Records
from ..engine.shuffle_file import Levels
from ..engine.tasks import MOST_EQUAL, Step, Task, portions
from ..engine.two_level import bring_together, plan_levels
from ..run.artifacts import Artifact, content_key, publish, remove, write_json
from ..run.file_sets import FileSet
from ..run.paths import RunPaths
from . import VERSION, assign, blocks, held_out, index, select
from .budget import Cell, MixSettings
from .items import BenchmarkItems, ItemSet, named_sources, write_items
from .ledger import PackedSet, mixture_json
from .plan import MixPlan, Planner

HELD_OUT = "held_out"
ITEMS = "items"
"""The folder of the set of benchmark items, below the held-out set's."""
BUCKET_TOKENS = 8 << 20
ENTRY_BYTES = 40
"""Of a document on its way to a partition, besides its tokens."""
INDEX_PART = 1 << 20
"""Segments of a part of the index."""
INDEX_MAPS = 2048
"""About so many tasks at most read the segments of all files."""
TAIL_PARTS = 256
"""What so many pack tasks leave over is packed by one: less than a block of each partition."""


@dataclass(frozen=True)
class Mixed:
    """The phases' shard sets."""

    mixture: dict[str, Any]
    """`stats/mixture.json`: what was reached beside what was wanted."""
    index: FileSet
    """The parts of the index from documents to blocks, in order."""


@dataclass(frozen=True)
class TokenGroup:
    """The token shards of one group."""

    name: str
    shards: tuple[select.CellShard, ...]
    held_out: bool
    decisions: tuple[Artifact, ...] = ()
    """On its documents, which say how many each represents."""

    @property
    def bytes(self) -> int:
        """Of the shards; at least 1."""
        return max(1, sum(shard.file.bytes for shard in self.shards))


@dataclass(frozen=True)
class Vocabulary:
    """Facts of the tokenizer that blocks depend on."""

    size: int
    pad: int
    eos: int
    bos: int
    add_bos: bool
    add_eos: bool

    @property
    def extra(self) -> int:
        return int(self.add_bos) + int(self.add_eos)


@dataclass
class MixSteps:
    """The steps of the stage, with what they all know."""

    engine: Engine
    settings: MixSettings
    vocabulary: Vocabulary
    cells: tuple[Cell, ...]
    groups: tuple[TokenGroup, ...]
    carved: tuple[tuple[Cell, CarvedShard], ...] = ()
    """What is set apart to measure on, in the held-out set after the documents of files."""
    items: BenchmarkItems | None = None
    """Benchmark items that are measured on."""

    @property
    def paths(self) -> RunPaths:
        return self.engine.paths

    def run(self) -> Mixed:
        training, documents, counts = self.list_documents()
        self.settings = self.settings.expanded(self.cells, [count.tokens for count in counts])
        asked = self.held_out_set()
        plan = Planner(self.engine, self.settings, self.cells, documents).plan()
        line = self.engine.beside(lambda: self.engine.run_beside([asked.step])[0][0]) if asked else None
        packed = self.pack(training, documents, plan)
        self.write(packed)
        held: held_out.HeldOutSet | None = None
        if asked and line:
            held = line.result()
            split = _WrittenSplit(self.held_out_length, held.tokens, held.files)
            self.describe(HELD_OUT, self.paths.held_out, [split], {}, asked.masked, self.of_halves())
        items = self.write_items(self.items) if self.items else None
        parts = self.write_index(packed)
        return Mixed(mixture_json(self.settings, self.cells, plan, packed, held, items), parts)

    def of_halves(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of each half of what is set apart; none where nothing is."""
        own = {h: tuple(dict.fromkeys(c for c, s in self.carved if s.half == h)) for h in HALVES}
        return {half: cells for half, cells in own.items() if cells}

    @property
    def held_out_length(self) -> int:
        """Tokens of a block of the held-out set."""
        return self.settings.held_out_block_length or min(length for _, length in self.settings.sets)

    def list_documents(self) -> tuple[list[TokenGroup], list[Artifact], list[select.CellCount]]:
        """(the groups that are trained on, those of a task together; the `DOC` files of their documents; what every cell has)."""
        training = _together([g for g in self.groups if not g.held_out])
        listed = self.engine.run(
            "mix.documents",
            VERSION,
            [
                Task(
                    g.name,
                    select.list_documents,
                    (
                        *(g.shards, self.vocabulary.extra, self.paths.mix(f"docs/{g.name}")),
                        *((g.decisions,) if self.settings.by_cluster else ()),
                    ),
                    weight=g.bytes,
                )
                for g in training
            ],
        )
        counts = [select.CellCount(cell, 0, 0) for cell in range(len(self.cells))]
        for more in (count for documents in listed for count in documents.cells):
            had = counts[more.cell]
            counts[more.cell] = select.CellCount(more.cell, had.documents + more.documents, had.tokens + more.tokens)
        return training, [group.file for group in listed], counts

    def shape(self, set_index: int, block_length: int, levels: Levels, masked: bool) -> blocks.SetShape:
        v = self.vocabulary
        return blocks.SetShape(
            block_length,
            self.settings.max_docs(block_length),
            self.settings.packing,
            levels,
            self.settings.seed * 1_000 + set_index,
            v.bos if v.add_bos else -1,
            v.eos if v.add_eos else -1,
            v.pad,
            masked,
        )

    def pack(
        self,
        groups: Sequence[TokenGroup],
        documents: Sequence[Artifact],
        plan: MixPlan,
    ) -> list[PackedSet]:
        """Documents to blocks, in no order yet."""
        layout = self.lay_out(plan, len(groups))
        moved = self.engine.run(
            "mix.shuffle",
            VERSION,
            [
                Task(
                    group.name,
                    assign.shuffle_documents,
                    (
                        group.shards,
                        facts,
                        self.settings,
                        self.cells,
                        plan.claims,
                        layout.partitions,
                        layout.epochs,
                        layout.levels,
                        self.paths.mix(f"documents/{group.name}"),
                    ),
                    weight=group.bytes,
                )
                for group, facts in zip(groups, documents, strict=True)
            ],
        )
        partitions = self.documents_of(layout, moved)
        packed = self.engine.run(
            "mix.pack",
            VERSION,
            [
                Task(
                    _set_name(s, numbers[0]),
                    blocks.pack_partitions,
                    (
                        tuple(partitions[layout.first(s) + p] for p in numbers),
                        numbers[0],
                        layout.shapes[s],
                        self.paths.mix(f"packed/{_set_name(s, numbers[0])}"),
                    ),
                )
                for s, numbers in layout.packs
            ],
        )
        parts: list[list[blocks.PackedBlocks]] = [[] for _ in layout.shapes]
        for (s, _), part in zip(layout.packs, packed, strict=True):
            parts[s].append(part)
        self.pack_tails(layout, parts)

        def order(s: int) -> PackedSet:
            phase, length = self.settings.sets[s]
            ordered = bring_together(
                self.engine,
                f"mix.blocks.{s:02d}",
                VERSION,
                [part.blocks for part in parts[s]],
                layout.shapes[s].levels,
                Rows(),
                self.paths.mix(f"blocks/{s:02d}"),
            )
            folder = self.paths.phase(self.settings.phases[phase].name) / str(length)
            return PackedSet.of(s, phase, length, layout.shapes[s].masked, parts[s], ordered, folder)

        orders: list[Callable[[], PackedSet]] = [partial(order, s) for s in range(len(layout.shapes))]
        return self.engine.side_by_side(*orders)

    def documents_of(
        self, layout: _Layout, moved: Sequence[assign.ShuffledDocuments]
    ) -> list[blocks.PartitionDocuments]:
        """The documents of every partition of all sets."""
        files = [shuffled.file for shuffled in moved]
        folder = self.paths.mix("documents-merged")
        whole = bring_together(self.engine, "mix.merge", VERSION, files, layout.levels, Rows(), folder)
        parts = [whole.of(p) for p in range(layout.levels.partitions)]
        by_map = FileSet.of(shuffled.digests for shuffled in moved if shuffled.digests)
        if not by_map:
            return [blocks.PartitionDocuments(part, f"{part.files.digest}/{part.place}") for part in parts]
        summed = self.engine.run(
            "mix.digests",
            VERSION,
            [Task("documents", assign.sum_digests, (by_map, self.paths.mix("documents/all")))],
        )
        digests = assign.read_digests(summed[0].file.file).tolist()
        return [blocks.PartitionDocuments(part, f"{digest:016x}") for part, digest in zip(parts, digests, strict=True)]

    def pack_tails(self, layout: _Layout, parts: Sequence[list[blocks.PackedBlocks]]) -> None:
        """Pack what the tasks of each set left over, until that is less than one block, and add that to its `parts`."""
        left = [[part.leftovers for part in of_set if part.leftovers] for of_set in parts]
        number = list(layout.partitions)
        level = ""
        while any(left):
            tasks, of_task = [], []
            for s, files in enumerate(left):
                several = [FileSet.of(files[at : at + TAIL_PARTS]) for at in range(0, len(files), TAIL_PARTS)]
                for group in several:
                    name = f"{s:02d}" if len(several) == 1 else f"{s:02d}-{number[s]:05d}"
                    stem = self.paths.mix(f"packed/{name}-tail{level}")
                    arguments = (group, number[s], layout.shapes[s], len(several) == 1, stem)
                    tasks.append(Task(name, blocks.pack_leftovers, arguments))
                    of_task.append(s)
                    number[s] += 1
            left = [[] for _ in parts]
            for s, tail in zip(of_task, self.engine.run(f"mix.tails{level}", VERSION, tasks), strict=True):
                parts[s].append(tail)
                left[s] += [tail.leftovers] if tail.leftovers else []
            level += ".sum"

    def lay_out(self, plan: MixPlan, maps: int) -> _Layout:
        """Into how many partitions each set falls, and what its blocks look like.

        Args:
            maps: tasks that the documents come from.

        Raises:
            ValueError: a set gets no document.
        """
        sets = self.settings.sets
        totals = np.zeros((len(sets), 2), np.int64)
        # All sets of a phase have the same columns, so that a loader can interleave them.
        masked = [False] * len(self.settings.phases)
        for count in plan.tally.sets:
            totals[count.set_index] += (count.copies, count.tokens)
            masked[count.phase] |= self.cells[count.cell].chat
        for (phase, length), (_, tokens) in zip(sets, totals, strict=True):
            if tokens == 0:
                raise ValueError(
                    f"{self.settings.phases[phase].name}: no document goes to blocks of {length}; "
                    "change its block rules or remove this length"
                )
        pools = {c.phase: self.settings.phases[c.phase].pools for c in plan.claims}
        copies = {
            c.phase: max(((1 + claim.epochs) * pools[c.phase][claim.pool].most_times for claim in c.claims), default=1)
            for c in plan.claims
        }
        epochs = [copies[phase] for phase, _ in sets]
        partitions = [
            times
            * max(1, -(-int(n) // times // assign.PARTITION_DOCUMENTS), -(-int(t) // times // assign.PARTITION_TOKENS))
            for times, (n, t) in zip(epochs, totals, strict=True)
        ]
        whole = 4 * int(totals[:, 1].sum()) + ENTRY_BYTES * int(totals[:, 0].sum())
        numbers = [(s, p) for s, count in enumerate(partitions) for p in range(count)]
        packs = [
            (s, [p for _, p in together])
            for s, of_set in itertools.groupby(numbers, key=lambda place: place[0])
            for together in portions(list(of_set), lambda _: 1, len(numbers), MOST_EQUAL)
        ]
        shapes = []
        for s, (phase, length) in enumerate(sets):
            tasks, (_, tokens) = sum(t == s for t, _ in packs), totals[s].tolist()
            levels = plan_levels(4 * tokens, tasks, max(1, tokens // BUCKET_TOKENS))
            shapes.append(self.shape(s, length, levels, masked[phase]))
        return _Layout(partitions, epochs, shapes, plan_levels(whole, maps, len(numbers)), packs)

    def write(self, packed: Sequence[PackedSet]) -> None:
        """Blocks in their order to the files of the phases' sets, and what describes these."""
        tasks: list[Task[blocks.BlockFiles]] = []
        of_task: list[PackedSet] = []
        rows = {s.number: rows_per_file(s.block_length) for s in packed}
        counts = {s.number: -(-s.n_blocks // rows[s.number]) for s in packed}
        for s in packed:
            phase = self.settings.phases[s.phase].name
            for numbers in portions(range(counts[s.number]), lambda _: 1, sum(counts.values()), MOST_EQUAL):
                first, end = numbers[0] * rows[s.number], min((numbers[-1] + 1) * rows[s.number], s.n_blocks)
                files, skip = s.files_between(first, end)
                paths = tuple(s.folder / file_name(number, counts[s.number]) for number in numbers)
                arguments = (files, skip, end - first, s.block_length, s.masked, paths)
                tasks.append(Task(f"{phase}-{s.block_length}-{numbers[0]:05d}", blocks.write_files, arguments))
                of_task.append(s)
        folders = {task.name: s.folder.parent for s, task in zip(of_task, tasks, strict=True)}

        def forget(todo: Sequence[Task[Any]]) -> None:
            # While files are replaced one by one, a set must not look whole under its old description.
            for folder in sorted({folders[task.name] for task in todo}):
                for name in ("fox1.json", "dataset_dict.json"):
                    remove(folder / name)

        found = self.engine.run_beside([Step("mix.write", VERSION, tasks, forget)])[0]
        for s, written in zip(of_task, found, strict=True):
            s.written.append(written.files)
        for number, phase_settings in enumerate(self.settings.phases):
            sets = [s for s in packed if s.phase == number]
            tokens = {s.block_length: s.cells for s in sets}
            splits = [_WrittenSplit(s.block_length, s.tokens, s.files) for s in sets]
            self.describe(phase_settings.name, self.paths.phase(phase_settings.name), splits, tokens, sets[0].masked)

    def describe(
        self,
        name: str,
        folder: Path,
        written: Sequence[_WrittenSplit],
        tokens: dict[int, dict[int, int]],
        masked: bool,
        halves: Mapping[str, tuple[Cell, ...]] | None = None,
        table: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """Write the JSON files and the card of a phase set.

        Args:
            tokens: by block length and source.
            halves: of what is set apart, with sources of their own after those of the run.
            table: of the set's sources, if they are not those of the run.
        """
        splits = tuple(
            Split(s.block_length, sum(f.rows for f in s.files), s.tokens, (), content_key([f.hash for f in s.files]))
            for s in written
        )
        v = self.vocabulary
        limits = {str(s.block_length): self.settings.max_docs(s.block_length) for s in splits}
        identity = content_key([[s.block_length, s.blocks, s.hash] for s in splits], v.size, v.pad, v.eos, v.bos)
        apart = [(half, cell) for half, cells in (halves or {}).items() for cell in cells]
        own = [(c.corpus, c.subset, c.domain) for c in (*self.cells, *(cell for _, cell in apart))]
        first = len(self.cells)
        codes = {h: tuple(first + i for i, (half, _) in enumerate(apart) if half == h) for h in halves or {}}
        carved = tuple(codes.items())
        info = SetInfo(name, splits, tuple(table or own), limits, v.size, v.pad, v.eos, v.bos, identity, masked, carved)
        sizes = {str(s.block_length): sum(f.bytes for f in s.files) for s in written}
        card = dataset_card(info, tokens)
        files = tuple(FileSet.of(s.files) for s in written)
        task = Task(name, describe_set, (info, files, sizes, card, folder))
        self.engine.run(f"mix.describe.{name}", VERSION, [task])

    def held_out_set(self) -> _HeldOut | None:
        """What is known of the held-out set before it is written; None where there are no such documents."""
        groups = sorted((g for g in self.groups if g.held_out), key=lambda g: g.name)
        shards = [s for g in groups for s in g.shards]
        if not shards and not self.carved:
            return None
        apart = [(half, cell) for half, cells in self.of_halves().items() for cell in cells]
        code = {key: len(self.cells) + i for i, key in enumerate(apart)}
        windows = [held_out.Windows(s.file, code[s.half, cell], s.most) for cell, s in self.carved]
        length = self.held_out_length
        masked = any(self.cells[shard.cell].chat for shard in shards)
        shape = self.shape(len(self.settings.sets), length, Levels(1), masked)
        arguments = (shards, shape, self.paths.held_out / str(length), *([windows] if windows else []))
        task = Task("held_out", held_out.write_held_out, arguments, unweighed=True)
        return _HeldOut(masked, Step("mix.held_out", VERSION, [task]))

    def write_items(self, asked: BenchmarkItems) -> ItemSet:
        """The set of benchmark items."""
        length, folder = self.held_out_length, self.paths.held_out / ITEMS
        shape = replace(self.shape(len(self.settings.sets) + 1, length, Levels(1), masked=True), eos=-1)
        task = Task(ITEMS, write_items, (asked, shape, folder / str(length)), unweighed=True)
        found = self.engine.run("mix.items", VERSION, [task])[0]
        split = _WrittenSplit(length, found.tokens, found.files)
        self.describe(ITEMS, folder, [split], {}, True, table=named_sources(found))
        return found

    def write_index(self, packed: Sequence[PackedSet]) -> FileSet:
        """From documents to blocks."""
        segments = sum(s.segments for s in packed)
        parts = max(1, segments // INDEX_PART)
        total = sum(len(s.written) for s in packed)
        together = {s.number: portions(s.written, lambda _: 1, total, INDEX_MAPS) for s in packed}
        levels = plan_levels(index.RECORD.itemsize * segments, sum(map(len, together.values())), parts)
        tasks = []
        for s in packed:
            first = number = 0
            for some in together[s.number]:
                files = [file for written in some for file in written]
                name = _set_name(s.number, number)
                arguments = (files, s.phase, s.block_length, first, levels, self.paths.mix(f"index/{name}"))
                tasks.append(Task(name, index.shuffle_segments, arguments))
                first += sum(file.rows for file in files)
                number += len(files)
        moved = [a for shuffled in self.engine.run("mix.index_shuffle", VERSION, tasks) for a in shuffled.files]
        folder = self.paths.mix("index-merged")
        whole = bring_together(self.engine, "mix.index_merge", VERSION, moved, levels, Records(index.RECORD), folder)
        written = self.engine.run(
            "mix.index",
            VERSION,
            [
                Task(
                    f"{p:05d}",
                    index.write_index,
                    (whole.of(p), self.paths.index(f"blocks-{p:05d}-of-{parts:05d}.parquet")),
                )
                for p in range(parts)
            ],
        )
        return FileSet.of(part.file for part in written)


def _together(groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    """Groups whose tokens a task reads together, named after the first."""
    return [
        TokenGroup(
            some[0].name,
            tuple(shard for group in some for shard in group.shards),
            False,
            tuple(file for group in some for file in group.decisions),
        )
        for some in portions(groups, lambda group: group.bytes, sum(group.bytes for group in groups), MOST_EQUAL)
    ]


@dataclass(frozen=True)
class _Layout:
    """How the documents of the sets are packed."""

    partitions: list[int]
    """By set."""
    epochs: list[int]
    """By set: copies of a document that it may hold; a divisor of its partitions."""
    shapes: list[blocks.SetShape]
    levels: Levels
    """Of the partitions of all sets."""
    packs: list[tuple[int, list[int]]]
    """(set, partitions) of every pack task."""

    def first(self, set_index: int) -> int:
        """Place of a set's first partition among those of all sets."""
        return sum(self.partitions[:set_index])


@dataclass(frozen=True)
class _HeldOut:
    """The held-out set that is to be written."""

    masked: bool
    step: Step
    """Of one task."""


@dataclass(frozen=True)
class _WrittenSplit:
    """The files of one block length of a phase set."""

    block_length: int
    tokens: int
    files: Sequence[Artifact]


def _set_name(set_index: int, number: int) -> str:
    return f"{set_index:02d}-{number:05d}"


@dataclass(frozen=True)
class Described:
    """What makes a folder of block files a `DatasetDict` and a phase set."""

    card: Artifact
    files: tuple[Artifact, ...]


def describe_set(info: SetInfo, files: Sequence[FileSet], sizes: dict[str, int], card: str, folder: Path) -> Described:
    """Write the card and the JSON files of a phase set; `files` are those of each split."""
    named = (replace(s, files=tuple(file.name for file in of)) for s, of in zip(info.splits, files, strict=True))
    info = replace(info, splits=tuple(named))
    with publish(folder / "README.md") as out:
        out.write(card.encode())
    written = tuple(write_json(folder / name, value) for name, value in set_metadata(info, sizes).items())
    return Described(out.artifact, written)

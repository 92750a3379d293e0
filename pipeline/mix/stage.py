"""The mix stage: plans each phase, then packs, shuffles and writes its shard sets.

Planning reads only 16 bytes per document; every shortage is known before a block is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import SetInfo, Split, dataset_card, file_names, rows_per_file, set_metadata
from ..engine.tasks import Engine, Task
from ..prepare.tokenizer import PreparedTokenizer
from ..run.artifacts import Artifact, FileSet, RunPaths, content_key, publish, remove, write_json
from ..run.identity import Group
from ..tokens.shards import GroupTokens
from . import VERSION, assign, blocks, held_out, index, select
from .budget import Cell, MixSettings
from .ledger import PackedSet, mixture_json
from .plan import MixPlan, Planner

BUCKET_TOKENS = 8 << 20
INDEX_PART = 1 << 20
"""Segments of a part of the index."""


@dataclass(frozen=True)
class Mixed:
    """The phases' shard sets."""

    mixture: dict[str, Any]
    """`stats/mixture.json`: what was reached beside what was wanted."""
    index: FileSet
    """The parts of the index from documents to blocks, in order."""


def mix(
    engine: Engine,
    groups: Sequence[Group],
    tokens: Mapping[str, GroupTokens],
    settings: MixSettings,
    tokenizer: TokenizerSettings,
    prepared: PreparedTokenizer,
) -> Mixed:
    """Plan, pack and write every phase, the held-out set and the index.

    Args:
        tokens: by name of the group.
        prepared: the tokenizer that the tokens are of.

    Raises:
        ValueError: a budget cannot be met, or a set would be empty.
    """
    formats = {g.corpus: g.format for g in groups}
    found = sorted({(g.corpus, shard.subset) for g in groups for shard in tokens[g.name].shards})
    code = {name: i for i, name in enumerate(found)}
    cells = tuple(Cell.of(corpus, subset, formats[corpus]) for corpus, subset in found)
    token_groups = tuple(
        TokenGroup(g.name, tuple(select.CellShard(s.shard, code[g.corpus, s.subset]) for s in shards), g.held_out)
        for g in groups
        if (shards := tokens[g.name].shards)
    )
    vocabulary = Vocabulary(prepared.vocab_size, prepared.pad, prepared.eos, prepared.bos, tokenizer.bos, tokenizer.eos)
    return _MixSteps(engine, settings, vocabulary, cells, token_groups).run()


@dataclass(frozen=True)
class TokenGroup:
    """The token shards of one group."""

    name: str
    shards: tuple[select.CellShard, ...]
    held_out: bool


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
class _MixSteps:
    """The steps of the stage, with what they all know."""

    engine: Engine
    settings: MixSettings
    vocabulary: Vocabulary
    cells: tuple[Cell, ...]
    groups: tuple[TokenGroup, ...]

    @property
    def paths(self) -> RunPaths:
        return self.engine.paths

    def run(self) -> Mixed:
        training = [g for g in self.groups if not g.held_out]
        listed = self.engine.run(
            "mix.documents",
            VERSION,
            [
                Task(
                    g.name,
                    select.list_documents,
                    (g.shards, self.vocabulary.extra, self.paths.mix(f"docs/{g.name}")),
                )
                for g in training
            ],
        )
        natural = [0] * len(self.cells)
        for count in (count for documents in listed for count in documents.cells):
            natural[count.cell] += count.tokens
        self.settings = self.settings.expanded(self.cells, natural)
        documents = [group.file for group in listed]
        plan = Planner(self.engine, self.settings, self.cells, documents).plan()
        packed = self.pack(training, documents, plan)
        self.write(packed)
        held = self.hold_out()
        parts = self.write_index(packed)
        return Mixed(mixture_json(self.settings, self.cells, plan, packed, held), parts)

    def shape(self, set_index: int, block_length: int, buckets: int, masked: bool) -> blocks.SetShape:
        v = self.vocabulary
        return blocks.SetShape(
            block_length,
            self.settings.max_docs(block_length),
            self.settings.packing,
            buckets,
            self.settings.seed * 1_000 + set_index,
            v.bos if v.add_bos else -1,
            v.eos if v.add_eos else -1,
            v.pad,
            masked,
        )

    def pack(self, groups: Sequence[TokenGroup], documents: Sequence[Artifact], plan: MixPlan) -> list[PackedSet]:
        """Documents to blocks, in no order yet."""
        layout = self.lay_out(plan)
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
                        self.paths.mix(f"documents/{group.name}"),
                    ),
                )
                for group, facts in zip(groups, documents, strict=True)
            ],
        )
        by_map = FileSet.of(shuffled.digests for shuffled in moved)
        summed = self.engine.run(
            "mix.digests",
            VERSION,
            [Task("documents", assign.sum_digests, (by_map, self.paths.mix("documents/all")))],
        )
        digests = assign.read_digests(summed[0].file.file).tolist()
        sources = FileSet.of(a for shuffled in moved for a in shuffled.files)
        places = [(s, p) for s, count in enumerate(layout.partitions) for p in range(count)]
        packed = self.engine.run(
            "mix.pack",
            VERSION,
            [
                Task(
                    _set_name(s, p),
                    blocks.pack_partition,
                    (
                        blocks.PartitionDocuments(sources, at, digests[at]),
                        p,
                        layout.shapes[s],
                        self.paths.mix(f"packed/{_set_name(s, p)}"),
                    ),
                )
                for at, (s, p) in enumerate(places)
            ],
        )
        by_set = [[r for (t, _), r in zip(places, packed, strict=True) if t == s] for s in range(len(layout.shapes))]
        tails = self.engine.run(
            "mix.tails",
            VERSION,
            [
                Task(
                    f"{s:02d}",
                    blocks.pack_leftovers,
                    (
                        FileSet.of(part.leftovers for part in by_set[s] if part.leftovers),
                        layout.partitions[s],
                        shape,
                        self.paths.mix(f"packed/{s:02d}-tail"),
                    ),
                )
                for s, shape in enumerate(layout.shapes)
            ],
        )
        return [
            PackedSet(
                s,
                phase,
                length,
                layout.shapes[s].masked,
                [*by_set[s], tails[s]],
                self.paths.phase(self.settings.phases[phase].name) / str(length),
            )
            for s, (phase, length) in enumerate(self.settings.sets)
        ]

    def lay_out(self, plan: MixPlan) -> _Layout:
        """Into how many partitions each set falls, and what its blocks look like.

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
        copies = {c.phase: 1 + max((claim.epochs for claim in c.claims), default=0) for c in plan.claims}
        epochs = [copies[phase] for phase, _ in sets]
        partitions = [
            times
            * max(1, -(-int(n) // times // assign.PARTITION_DOCUMENTS), -(-int(t) // times // assign.PARTITION_TOKENS))
            for times, (n, t) in zip(epochs, totals, strict=True)
        ]
        shapes = [
            self.shape(s, length, max(1, int(totals[s][1]) // BUCKET_TOKENS), masked[phase])
            for s, (phase, length) in enumerate(sets)
        ]
        return _Layout(partitions, epochs, shapes)

    def write(self, packed: Sequence[PackedSet]) -> None:
        """Blocks in their order to the files of the phases' sets, and what describes these."""
        tasks: list[Task[blocks.BlockFile]] = []
        of_task: list[PackedSet] = []
        for s in packed:
            found, sizes = FileSet.of(part.blocks for part in s.parts), s.bucket_sizes
            phase = self.settings.phases[s.phase].name
            for number, name in enumerate(file_names(-(-s.n_blocks // rows_per_file(s.block_length)))):
                arguments = (found, sizes, number, s.block_length, s.masked, s.folder / name)
                tasks.append(Task(f"{phase}-{s.block_length}-{number:05d}", blocks.write_file, arguments))
                of_task.append(s)
        for s, task in zip(of_task, tasks, strict=True):
            if not self.engine.is_finished("mix.write", VERSION, task):
                # While files are replaced one by one, the set must not look whole under its old description.
                for name in ("fox1.json", "dataset_dict.json"):
                    remove(s.folder.parent / name)
        for s, written in zip(of_task, self.engine.run("mix.write", VERSION, tasks), strict=True):
            s.files.append(written.file)
        for number, phase_settings in enumerate(self.settings.phases):
            sets = [s for s in packed if s.phase == number]
            tokens: dict[int, dict[int, int]] = {}
            for s in sets:
                by_source = tokens.setdefault(s.block_length, {})
                for part in s.parts:
                    for cell, n in part.cells.items():
                        by_source[cell] = by_source.get(cell, 0) + n
            splits = [_WrittenSplit(s.block_length, s.tokens, s.files) for s in sets]
            self.describe(phase_settings.name, self.paths.phase(phase_settings.name), splits, tokens, sets[0].masked)

    def describe(
        self,
        name: str,
        folder: Path,
        written: Sequence[_WrittenSplit],
        tokens: dict[int, dict[int, int]],
        masked: bool,
    ) -> None:
        """Write the JSON files and the card of a phase set. `tokens`: by block length and source."""
        splits = tuple(
            Split(
                s.block_length,
                sum(f.rows for f in s.files),
                s.tokens,
                tuple(f.file.name for f in s.files),
                content_key([f.hash for f in s.files]),
            )
            for s in written
        )
        v = self.vocabulary
        limits = {str(s.block_length): self.settings.max_docs(s.block_length) for s in splits}
        identity = content_key([[s.block_length, s.blocks, s.hash] for s in splits], v.size, v.pad, v.eos, v.bos)
        table = tuple((c.corpus, c.subset, c.domain) for c in self.cells)
        info = SetInfo(name, splits, table, limits, v.size, v.pad, v.eos, v.bos, identity, masked)
        sizes = {str(s.block_length): sum(f.bytes for f in s.files) for s in written}
        card = dataset_card(info, tokens)
        self.engine.run(f"mix.describe.{name}", VERSION, [Task(name, describe_set, (info, sizes, card, folder))])

    def hold_out(self) -> held_out.HeldOutSet | None:
        """The held-out documents, where there are any."""
        groups = sorted((g for g in self.groups if g.held_out), key=lambda g: g.name)
        shards = [s for g in groups for s in g.shards]
        if not shards:
            return None
        length = self.settings.held_out_block_length or min(length for _, length in self.settings.sets)
        masked = any(self.cells[shard.cell].chat for shard in shards)
        shape = self.shape(len(self.settings.sets), length, 1, masked)
        folder = self.paths.held_out / str(length)
        task = Task("held_out", held_out.write_held_out, (shards, shape, folder))
        written = self.engine.run("mix.held_out", VERSION, [task])[0]
        split = _WrittenSplit(length, written.tokens, written.files)
        self.describe("held_out", self.paths.held_out, [split], {}, masked)
        return written

    def write_index(self, packed: Sequence[PackedSet]) -> FileSet:
        """From documents to blocks."""
        parts = max(1, sum(part.segments for s in packed for part in s.parts) // INDEX_PART)
        tasks = []
        for s in packed:
            first = 0
            for number, file in enumerate(s.files):
                name = _set_name(s.number, number)
                arguments = (file, s.phase, s.block_length, first, parts, self.paths.mix(f"index/{name}"))
                tasks.append(Task(name, index.shuffle_segments, arguments))
                first += file.rows
        moved = self.engine.run("mix.index_shuffle", VERSION, tasks)
        files = FileSet.of(a for shuffled in moved for a in shuffled.files)
        written = self.engine.run(
            "mix.index",
            VERSION,
            [
                Task(
                    f"{p:05d}",
                    index.write_index,
                    (files, p, self.paths.index(f"blocks-{p:05d}-of-{parts:05d}.parquet")),
                )
                for p in range(parts)
            ],
        )
        return FileSet.of(part.file for part in written)


@dataclass(frozen=True)
class _Layout:
    """How the documents of the sets are packed."""

    partitions: list[int]
    """By set."""
    epochs: list[int]
    """By set: copies of a document that it may hold; a divisor of its partitions."""
    shapes: list[blocks.SetShape]


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


def describe_set(info: SetInfo, sizes: dict[str, int], card: str, folder: Path) -> Described:
    """Write the card and the JSON files of a phase set."""
    with publish(folder / "README.md") as out:
        out.write(card.encode())
    files = set_metadata(info, sizes)
    return Described(out.artifact, tuple(write_json(folder / name, value) for name, value in files.items()))

"""The mix stage: plans each phase, then packs, shuffles and writes its shard sets.

Planning reads only 16 bytes per document; every shortage is known before a block is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...tokenize.shards import SetInfo, Split, dataset_card, file_names, rows_per_file, set_metadata
from ..engine.tasks import Engine, Task, TaskResult, task_key
from ..run.artifacts import Artifact, RunPaths, content_key, publish, write_json
from . import assign, blocks, held_out, index, select
from .budget import Cell, MixSettings
from .ledger import PackedSet, mixture_json
from .plan import MixPlan, Planner
from .step import VERSION, run_step, step_tasks

BUCKET_TOKENS = 8 << 20


@dataclass(frozen=True)
class TokenGroup:
    """The token shards of one group, with the code of each shard's cell."""

    name: str
    shards: tuple[tuple[Path, int], ...]
    hashes: tuple[str, ...]
    held_out: bool

    @property
    def identity(self) -> object:
        return [list(self.hashes), [cell for _, cell in self.shards]]


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
class Mixer:
    """Runs the steps of the stage; keeps what one step learns for the next."""

    engine: Engine
    settings: MixSettings
    vocabulary: Vocabulary
    cells: tuple[Cell, ...]
    groups: tuple[TokenGroup, ...]

    @property
    def paths(self) -> RunPaths:
        return self.engine.paths

    def run(self) -> dict[str, Any]:
        """Plan and write everything; the mixture ledger for the stats."""
        training = [g for g in self.groups if not g.held_out]
        listed = run_step(
            self.engine,
            "mix.documents",
            training,
            lambda g: (select.list_documents, (g.shards, self.vocabulary.extra, self.paths.mix(f"docs/{g.name}"))),
            lambda g: (g.identity, self.vocabulary.extra),
        )
        documents = [r.outputs[0] for r in listed]
        natural = [0] * len(self.cells)
        for result in listed:
            for code, (_, tokens) in result.data["cells"].items():
                natural[int(code)] += tokens
        self.settings = self.settings.expanded(self.cells, natural)
        plan = Planner(self.engine, self.settings, self.cells, documents).plan()
        packed = self._pack(training, documents, plan)
        held = self._held_out()
        self._index(packed)
        return mixture_json(self.settings, self.cells, plan, packed, held)

    def _shape(self, set_index: int, block_length: int, buckets: int, masked: bool) -> blocks.SetShape:
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

    def _pack(
        self,
        groups: Sequence[TokenGroup],
        documents: Sequence[Artifact],
        plan: MixPlan,
    ) -> list[PackedSet]:
        sets, claims = self.settings.sets, plan.claims
        totals = np.zeros((len(sets), 2), np.int64)
        # All sets of a phase have the same columns, so that a loader can interleave them.
        masked = [False] * len(self.settings.phases)
        for key, value in plan.tally["sets"].items():
            phase, _, cell, set_index = map(int, key.split("/"))
            totals[set_index] += value
            masked[phase] |= self.cells[cell].chat
        for (phase, length), (_, tokens) in zip(sets, totals, strict=True):
            if tokens == 0:
                raise ValueError(
                    f"{self.settings.phases[phase].name}: no document goes to blocks of {length}; "
                    "change its block rules or remove this length"
                )
        copies = {c.phase: 1 + max((claim.epochs for claim in c.claims), default=0) for c in claims}
        epochs = [copies[phase] for phase, _ in sets]
        partitions = [
            times
            * max(1, -(-int(n) // times // assign.PARTITION_DOCUMENTS), -(-int(t) // times // assign.PARTITION_TOKENS))
            for times, (n, t) in zip(epochs, totals, strict=True)
        ]
        moved = run_step(
            self.engine,
            "mix.shuffle",
            list(zip(groups, documents, strict=True)),
            lambda g: (
                assign.shuffle_documents,
                (
                    g[0].shards,
                    g[1].file,
                    self.settings,
                    self.cells,
                    claims,
                    partitions,
                    epochs,
                    self.paths.mix(f"documents/{g[0].name}"),
                ),
            ),
            lambda g: (g[0].identity, g[1].hash, self.settings, self.cells, list(claims), partitions, epochs),
            name=lambda g: g[0].name,
        )
        sources = [a.file for r in moved for a in r.outputs[:-1]]
        by_map = [r.outputs[-1] for r in moved]
        summed = run_step(
            self.engine,
            "mix.digests",
            ["documents"],
            lambda _: (assign.sum_digests, ([a.file for a in by_map], self.paths.mix("documents/all"))),
            lambda _: ([a.hash for a in by_map],),
            name=str,
        )[0]
        digests = assign.read_digests(summed.outputs[0].file).tolist()
        shapes = [
            self._shape(s, length, max(1, int(totals[s][1]) // BUCKET_TOKENS), masked[phase])
            for s, (phase, length) in enumerate(sets)
        ]
        begin = np.r_[0, np.cumsum(partitions)].tolist()
        jobs = [(s, p) for s in range(len(sets)) for p in range(partitions[s])]
        results = run_step(
            self.engine,
            "mix.pack",
            jobs,
            lambda j: (
                blocks.pack_partition,
                (sources, begin[j[0]] + j[1], j[1], shapes[j[0]], self.paths.mix(f"packed/{_set_name(j[0], j[1])}")),
            ),
            # A partition is packed again where its documents changed, not where any did.
            lambda j: (digests[begin[j[0]] + j[1]], j[1], shapes[j[0]]),
            name=lambda j: _set_name(*j),
        )
        by_set = {s: [r for (t, _), r in zip(jobs, results, strict=True) if t == s] for s in range(len(sets))}
        tails = run_step(
            self.engine,
            "mix.tails",
            list(range(len(sets))),
            lambda s: (
                blocks.pack_leftovers,
                (
                    [r.outputs[1].file for r in by_set[s]],
                    partitions[s],
                    shapes[s],
                    self.paths.mix(f"packed/{s:02d}-tail"),
                ),
            ),
            lambda s: ([r.outputs[1].hash for r in by_set[s]], partitions[s], shapes[s]),
            name=lambda s: f"{s:02d}",
        )
        packed = []
        for s, (phase, length) in enumerate(sets):
            all_results = [*by_set[s], tails[s]]
            sizes = np.sum([r.data["buckets"] for r in all_results], axis=0).tolist()
            packed.append(PackedSet(s, phase, length, masked[phase], all_results, sizes))
        self._write(packed)
        return packed

    def _write(self, packed: Sequence[PackedSet]) -> None:
        jobs = []
        for p in packed:
            files = file_names(-(-p.n_blocks // rows_per_file(p.block_length)))
            p.folder = self.paths.phase(self.settings.phases[p.phase].name) / str(p.block_length)
            jobs += [(p, number, name) for number, name in enumerate(files)]
        tasks = step_tasks(
            "mix.write",
            jobs,
            lambda j: (
                blocks.write_file,
                (
                    [r.outputs[0].file for r in j[0].results],
                    j[0].bucket_sizes,
                    j[1],
                    j[0].block_length,
                    j[0].masked,
                    j[0].folder / j[2],
                ),
            ),
            lambda j: ([r.outputs[0].hash for r in j[0].results], j[1], j[0].block_length, j[0].phase, j[2]),
            name=lambda j: f"{j[0].folder.parent.name}-{j[0].block_length}-{j[1]:05d}",
        )
        for (p, _, _), task in zip(jobs, tasks, strict=True):
            if not self.engine.is_finished("mix.write", task):
                # While files are replaced one by one, the set must not look whole under its old description.
                for name in ("fox1.json", "dataset_dict.json"):
                    (p.folder.parent / name).unlink(missing_ok=True)
        results = self.engine.run("mix.write", tasks)
        for (p, _, _), result in zip(jobs, results, strict=True):
            p.files.append(result.outputs[0])
        for number, phase in enumerate(self.settings.phases):
            mine = [p for p in packed if p.phase == number]
            tokens: dict[int, dict[int, int]] = {}
            for p in mine:
                by_source = tokens.setdefault(p.block_length, {})
                for result in p.results:
                    for code, n in result.data["cells"].items():
                        by_source[int(code)] = by_source.get(int(code), 0) + n
            parts = [(p.block_length, p.tokens, p.files) for p in mine]
            self._describe(phase.name, self.paths.phase(phase.name), parts, tokens, mine[0].masked)

    def _describe(
        self,
        name: str,
        folder: Path,
        parts: Sequence[tuple[int, int, list[Artifact]]],
        tokens: dict[int, dict[int, int]],
        masked: bool,
    ) -> None:
        """Write the JSON files and the card of a phase set. `tokens`: by block length and source."""
        splits = tuple(
            Split(
                length,
                sum(f.rows for f in files),
                tokens,
                tuple(f.file.name for f in files),
                content_key([f.hash for f in files]),
            )
            for length, tokens, files in parts
        )
        v = self.vocabulary
        limits = {str(s.block_length): self.settings.max_docs(s.block_length) for s in splits}
        identity = content_key([[s.block_length, s.blocks, s.hash] for s in splits], v.size, v.pad, v.eos, v.bos)
        table = tuple((c.corpus, c.subset, c.domain) for c in self.cells)
        info = SetInfo(name, splits, table, limits, v.size, v.pad, v.eos, v.bos, identity, masked)
        sizes = {str(length): sum(f.bytes for f in files) for length, _, files in parts}
        card = dataset_card(info, tokens)
        key = task_key("mix.describe", VERSION, None, [info.to_json(), sizes, card])
        self.engine.run(f"mix.describe.{name}", [Task(name, key, describe_set, (info, sizes, card, folder))])

    def _held_out(self) -> TaskResult | None:
        groups = sorted((g for g in self.groups if g.held_out), key=lambda g: g.name)
        shards = [s for g in groups for s in g.shards]
        if not shards:
            return None
        length = self.settings.held_out_block_length or min(length for _, length in self.settings.sets)
        masked = any(self.cells[cell].chat for _, cell in shards)
        shape = self._shape(len(self.settings.sets), length, 1, masked)
        folder = self.paths.held_out / str(length)
        result = run_step(
            self.engine,
            "mix.held_out",
            ["held_out"],
            lambda _: (held_out.write_held_out, (shards, shape, folder)),
            lambda _: ([g.identity for g in groups], shape),
            name=str,
        )[0]
        parts = [(length, result.counts["tokens"], list(result.outputs))]
        self._describe("held_out", self.paths.held_out, parts, {}, masked)
        return result

    def _index(self, packed: Sequence[PackedSet]) -> None:
        total = sum(r.counts["segments"] for p in packed for r in p.results)
        partitions = max(1, total // (1 << 20))
        jobs = []
        for p in packed:
            first = 0
            for number, file in enumerate(p.files):
                jobs.append((p, number, file, first))
                first += file.rows
        moved = run_step(
            self.engine,
            "mix.index_shuffle",
            jobs,
            lambda j: (
                index.shuffle_segments,
                (
                    j[2].file,
                    j[0].phase,
                    j[0].block_length,
                    j[3],
                    partitions,
                    self.paths.mix(f"index/{_set_name(j[0].number, j[1])}"),
                ),
            ),
            lambda j: (j[2].hash, j[0].phase, j[0].block_length, j[3], partitions),
            name=lambda j: _set_name(j[0].number, j[1]),
        )
        files = [a.file for r in moved for a in r.outputs]
        hashes = [a.hash for r in moved for a in r.outputs]
        run_step(
            self.engine,
            "mix.index",
            list(range(partitions)),
            lambda p: (index.write_index, (files, p, self.paths.index(f"blocks-{p:05d}-of-{partitions:05d}.parquet"))),
            lambda p: (hashes, p, partitions),
            name=lambda p: f"{p:05d}",
        )


def _set_name(set_index: int, partition: int) -> str:
    return f"{set_index:02d}-{partition:05d}"


def describe_set(info: SetInfo, sizes: dict[str, int], card: str, folder: Path) -> TaskResult:
    """Write what makes a folder of block files a `DatasetDict` and a phase set."""
    with publish(folder / "README.md") as out:
        out.write(card.encode())
    files = set_metadata(info, sizes)
    return TaskResult((out.artifact, *(write_json(folder / name, value) for name, value in files.items())))

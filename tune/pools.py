"""The pools of a finished run, packed once, and the documents that are measured on and never trained on.

A pool is an entry of the phases' weights, by its domain, corpus and subset, over all phases, or a part of one by quality
(tiers.py). Mix's own code packs it, as a phase of one pool. Phases that claim before all pools take the documents to measure, for
the fit (`fit`) and, apart from them, for the validation (`check`): so no mixture can hold one. No text is read, only token shards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..pipeline.carve.settings import LEAST_DOCUMENTS
from ..pipeline.engine.engine import Engine
from ..pipeline.engine.tasks import Task
from ..pipeline.mix.budget import BlockRule, Cell, MixSettings, Phase, Weight, largest_remainder
from ..pipeline.mix.select import CellCount
from ..pipeline.mix.stage import Listed, list_training, pack_phases
from ..pipeline.mix.steps import TokenGroup, Vocabulary
from ..pipeline.mix.stored import stored_artifact, stored_tokens
from ..pipeline.prepare.tokenizer import PIECE_BYTES
from ..pipeline.run.artifacts import Artifact, read_json
from ..pipeline.run.documents import RunDocuments
from ..pipeline.run.paths import RunPaths
from ..tokenize.shards import read_set
from . import VERSION
from .measured import MeasuredFile, PackedSet, measure_documents
from .settings import TuneSettings
from .tiers import Held, count_tiers, divided, find_cuts, whole, whole_pools

POOL, FIT, CHECK = "pool", "fit", "check"
LARGEST_SHARE = 10
"""A tenth of a domain's tokens at most is measured on, in each of the two parts."""
SPARE = 2.0
"""Tokens that are packed of a pool, in those that the largest training uses: different draws take different documents."""


@dataclass(frozen=True)
class TunePaths(RunPaths):
    """Where everything of a tuning lies: pools and what is measured, in place of phases."""

    def phase(self, name: str) -> Path:
        kind, _, rest = name.partition(".")
        return self.named(f"pools/{rest}" if kind == POOL else f"measured/{kind}/{rest}")

    def measured(self, part: str, name: str) -> Path:
        return self.named(f"measured/{part}/{name}.arrow")

    def proxy(self, step: str, name: str) -> Path:
        return self.named(f"{step}/{name}.json")

    def described(self, name: str) -> Path:
        """`tune`, `design`, `fit`, `choice`, `verdict`."""
        return self.named(f"{name}.json")


@dataclass(frozen=True)
class SourceRun:
    """A finished run, as far as its pools need it."""

    cells: tuple[Cell, ...]
    groups: tuple[TokenGroup, ...]
    phases: tuple[str, ...]
    """Names."""
    vocabulary: Vocabulary
    piece_bytes: Artifact
    tokenizer: Artifact
    reserved: tuple[str, ...]
    trained: tuple[tuple[int, ...], ...]
    """Phase -> tokens of each cell that it holds."""

    @property
    def total(self) -> int:
        """Tokens of all phases."""
        return sum(map(sum, self.trained))


def open_source_run(run: Path) -> SourceRun:
    """What the manifest of a run says of its token shards.

    Raises:
        ValueError: it is not finished, or damaged.
    """
    paths = RunPaths(run)
    documents = RunDocuments(paths)
    artifacts, stored = documents.manifest["artifacts"], stored_tokens(documents)
    mixture = read_json(paths.stats("mixture"))
    trained = []
    for phase in mixture["phases"]:
        of_phase = {(cell["corpus"], cell["subset"]): cell["tokens"] for cell in phase["cells"]}
        trained.append(tuple(of_phase.get((cell.corpus, cell.subset), 0) for cell in stored.cells))
    return SourceRun(
        stored.cells,
        stored.groups,
        tuple(phase["name"] for phase in mixture["phases"]),
        stored.vocabulary,
        stored_artifact(paths, artifacts, f"prepare/{PIECE_BYTES}"),
        stored_artifact(paths, artifacts, "prepare/tokenizer.model"),
        documents.tokenizer.reserved,
        tuple(trained),
    )


@dataclass(frozen=True)
class Pool:
    """A pool before it is packed."""

    name: str
    weight: Weight
    """What it matches; its share says nothing."""
    tokens: int
    """That there are."""
    trained: tuple[int, ...]
    """Of it in each of the run's phases, repeats included."""

    @property
    def key(self) -> str:
        """Its name as that of a folder."""
        return quote(self.name, safe="")


def find_pools(
    engine: Engine, run: SourceRun, mix: MixSettings, listed: Listed, tiers: Mapping[str, Sequence[float]]
) -> list[Pool]:
    """The pools of all phases that hold documents. A cell belongs to the narrowest one that matches it.

    Args:
        tiers: `tune.tiers`.

    Raises:
        ValueError: a weight is a group of pools that differ, a tier is none, or there are fewer than two pools.
    """
    bases = whole_pools(mix.phases)
    there, trained = np.zeros(len(bases), np.int64), np.zeros((len(run.trained), len(bases)), np.int64)
    for code, cell in enumerate(run.cells):
        owner = next((k for k, base in enumerate(bases) if base.matches(cell)), None)
        if owner is not None:
            there[owner] += listed.cells[code].tokens
            trained[:, owner] += [phase[code] for phase in run.trained]
    selected = divided(bases, find_cuts(mix.phases, bases, tiers))
    if len(selected) > len(bases):
        mix = mix.expanded(run.cells, [count.tokens for count in listed.cells])
        held = count_tiers(engine, mix, run.cells, listed.files, selected)
        of_base = np.array([[b.name for b in bases].index(whole(s.weight).name) for s in selected])
        trained = _shared_out(trained, of_base, held)
        there = held.there
    pools = [
        Pool(s.name, s.weight, int(there[k]), tuple(trained[:, k].tolist())) for k, s in enumerate(selected) if there[k]
    ]
    if len(pools) < 2:
        raise ValueError("the phases have one pool with documents: there are no weights to find")
    return pools


def _shared_out(trained: np.ndarray, of_base: np.ndarray, held: Held) -> np.ndarray:
    """What phases have of every tier, int64 [P, K]: what the run's ledger says of whole pools ([P, bases]), as the tiers have it.

    Args:
        of_base: int64 [K]: the pool of every tier.
    """
    found = np.zeros_like(held.trained)
    for p, row in enumerate(trained):
        for base in np.unique(of_base):
            own = np.flatnonzero(of_base == base)
            parts = held.trained[p, own] if held.trained[p, own].any() else held.there[own]
            if row[base] and parts.any():
                found[p, own] = largest_remainder(int(row[base]), parts.tolist())
    return found


@dataclass(frozen=True)
class PackedPool:
    """A pool that trainings draw from."""

    name: str
    packed: PackedSet
    units: int
    tokens: int
    """Of the whole pool, packed or not."""
    by_phase: tuple[int, ...]
    """Of it in each of the run's phases, repeats included."""
    weight: Weight
    """What it matches; its share says nothing."""

    @property
    def trained(self) -> int:
        """Of it in all phases."""
        return sum(self.by_phase)


@dataclass(frozen=True)
class Packed:
    """All that trainings read."""

    pools: tuple[PackedPool, ...]
    block_length: int
    total: int
    """Tokens of the run's phases."""
    domains: tuple[tuple[str, int], ...]
    """Domain and its tokens in the pools."""
    fit: tuple[MeasuredFile, ...]
    check: tuple[MeasuredFile, ...]
    phases: tuple[str, ...] = ()
    """Names."""

    @property
    def table(self) -> np.ndarray:
        """float64 [P, K]: what the run's phases have of the pools, in shares of all."""
        tokens = np.array([p.by_phase for p in self.pools], np.float64).T
        return np.asarray(tokens / tokens.sum())

    @property
    def phase_shares(self) -> list[float]:
        """Of all tokens, by phase."""
        return [float(share) for share in self.table.sum(axis=1)]

    @property
    def natural(self) -> list[float]:
        whole = sum(p.tokens for p in self.pools)
        return [p.tokens / whole for p in self.pools]

    @property
    def recipe(self) -> list[float]:
        whole = sum(p.trained for p in self.pools)
        return [p.trained / whole for p in self.pools]


def pack_pools(engine: Engine, run: SourceRun, mix: MixSettings, settings: TuneSettings) -> Packed:
    """Pack the pools and what is measured; nothing is done where that is finished.

    Raises:
        ValueError: there are no pools to choose between, or a pool is too small for a block.
    """
    listed = list_training(engine, mix, run.vocabulary, run.cells, run.groups)
    pools = find_pools(engine, run, mix, listed, dict(settings.tiers))
    length = settings.proxy.block_length or min(n for p in mix.phases for n in p.block_lengths)
    domains = _domains(pools, run.cells, listed.cells)
    phases = _phases(pools, domains, length, settings, run.total)
    wanted = MixSettings(phases, tuple(p.name for p in phases), mix.packing, mix.tokens_per_segment, seed=mix.seed)
    pack_phases(engine, wanted, run.vocabulary, run.cells, run.groups)
    paths = engine.paths
    assert isinstance(paths, TunePaths)
    packed = []
    for pool in pools:
        folder = paths.phase(f"{POOL}.{pool.key}")
        units = sum(split.blocks for split in read_set(folder).splits)
        packed.append(PackedPool(pool.name, PackedSet.of(folder), units, pool.tokens, pool.trained, pool.weight))
    names = [d.name for d in domains]
    fit, check = (_measure(engine, paths, part, names, run.piece_bytes, settings) for part in (FIT, CHECK))
    named = tuple((d.name, d.tokens) for d in domains)
    return Packed(tuple(packed), length, run.total, named, fit, check, run.phases)


@dataclass(frozen=True)
class _Domain:
    name: str
    documents: int
    tokens: int


def _domains(pools: Sequence[Pool], cells: Sequence[Cell], counts: Sequence[CellCount]) -> list[_Domain]:
    """The domains of the pools' documents that are measured, by name.

    Raises:
        ValueError: none has documents enough.
    """
    sums: dict[str, list[int]] = {}
    for code, cell in enumerate(cells):
        if counts[code].tokens and any(p.weight.matches(cell) for p in pools):
            row = sums.setdefault(cell.domain, [0, 0])
            row[0] += counts[code].documents
            row[1] += counts[code].tokens
    found = [_Domain(name, *row) for name, row in sorted(sums.items()) if row[0] >= LEAST_DOCUMENTS]
    if not found:
        raise ValueError(
            f"no domain of the run has {LEAST_DOCUMENTS} documents, so nothing can be measured; curate more text"
        )
    return found


def _phases(
    pools: Sequence[Pool], domains: Sequence[_Domain], length: int, settings: TuneSettings, total: int
) -> tuple[Phase, ...]:
    """What is measured, then the pools, in the order in which they claim documents."""
    blocks, v = (BlockRule(length),), settings.validation
    phases = []
    for part in (FIT, CHECK):
        for d in domains:
            tokens = tokens_set_apart(v.documents, v.tokens, d.documents, d.tokens)
            phases.append(Phase(f"{part}.{quote(d.name, safe='')}", tokens, (Weight(1, domain=d.name),), blocks))
    largest = settings.proxy.tokens * v.times
    for pool in pools:
        share = cap_share(pool.tokens, total, settings)
        most = pool.tokens * largest / total if settings.repetition == "match" else share * largest
        tokens = max(length, min(pool.tokens, math.ceil(SPARE * most)))
        phases.append(Phase(f"{POOL}.{pool.key}", tokens, (pool.weight,), blocks))
    return tuple(phases)


def cap_share(tokens: int, total: int, settings: TuneSettings) -> float:
    """The largest share of the whole training that a pool of so many tokens can have."""
    return min(1.0, settings.constraints.max_epochs * tokens / total)


def tokens_set_apart(documents: int, tokens: int, there: int, tokens_there: int) -> int:
    """Tokens of a domain that are set apart.

    Args:
        documents: wanted, of mean length.
        tokens: wanted, if that is more.
        there: documents of the domain.
        tokens_there: their tokens.
    """
    mean = -(-tokens_there // max(1, there))
    return max(2, min(max(tokens, documents * mean), tokens_there // LARGEST_SHARE))


def _measure(
    engine: Engine, paths: TunePaths, part: str, domains: Sequence[str], sizes: Artifact, settings: TuneSettings
) -> tuple[MeasuredFile, ...]:
    v = settings.validation
    tasks = []
    for name in domains:
        key = quote(name, safe="")
        set_ = PackedSet.of(paths.phase(f"{part}.{key}"))
        tasks.append(
            Task(key, measure_documents, (set_, name, sizes, v.documents, v.tokens, paths.measured(part, key)))
        )
    return tuple(engine.run(f"tune.measured.{part}", VERSION, tasks))

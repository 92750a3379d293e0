"""Pools whose best mixture is known: Markov chains over pieces of their own.

What a model learns of a chain depends on that chain's tokens alone, so the objective is a sum of learning curves, one a pool. The
curves are measured here, each by itself, and the optimum of their sum is found on a grid: an oracle that no mixture was trained
for.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.mix.budget import Weight
from fox1.tokenize import shards
from fox1.trainer.data.order import UnitStream
from fox1.tune.measured import PackedSet, read_sequences, write_sequences
from fox1.tune.ngram import NgramModel
from fox1.tune.pools import Packed, PackedPool, TunePaths
from fox1.tune.settings import Anchors, Constraints, ProxySettings, TuneSettings, Validation
from fox1.tune.tune import Judged, Measures, importance_of, search

LENGTH = 64
DOCUMENTS = 40
VOCABULARY = 4096
TOTAL = 600_000
"""Tokens of the whole training that small ones stand for."""


@dataclass(frozen=True)
class Chain:
    """A first-order Markov chain over some pieces, each followed by a few."""

    pieces: np.ndarray
    follows: np.ndarray
    """int64 [pieces, branches]: indices of pieces."""

    @classmethod
    def over(cls, first: int, pieces: int, seed: int, branches: int = 6) -> Chain:
        rng = np.random.default_rng(seed)
        return cls(np.arange(first, first + pieces), rng.integers(0, pieces, (pieces, branches)))

    @classmethod
    def noise(cls, first: int, pieces: int) -> Chain:
        return cls(np.arange(first, first + pieces), np.tile(np.arange(pieces), (pieces, 1)))

    def draw(self, rows: int, seed: int) -> np.ndarray:
        """int32 [rows, LENGTH]: sequences."""
        rng = np.random.default_rng(seed)
        branches = self.follows.shape[1]
        # The first branch is the likeliest.
        likely = 1 / np.arange(1.0, branches + 1) if branches < 64 else np.ones(branches)
        at = rng.integers(0, len(self.pieces), rows)
        out = np.empty((rows, LENGTH), np.int64)
        chosen = rng.choice(branches, (rows, LENGTH), p=likely / likely.sum())
        for i in range(LENGTH):
            out[:, i] = at
            at = self.follows[at, chosen[:, i]]
        return self.pieces[out].astype(np.int32)


def write_pool(folder: Path, tokens: np.ndarray, vocabulary: int = VOCABULARY) -> PackedSet:
    """A packed set with a document in each block."""
    n = len(tokens)
    batch = shards.blocks_to_batch(
        tokens,
        np.arange(n + 1),
        np.arange(n, dtype=np.uint64),
        np.zeros(n, np.int64),
        np.full(n, LENGTH),
        np.zeros(n, np.uint16),
    )
    per_file = shards.rows_per_file(LENGTH)
    names = shards.file_names(-(-n // per_file))
    (folder / str(LENGTH)).mkdir(parents=True)
    for k, name in enumerate(names):
        with open(folder / str(LENGTH) / name, "wb") as out:
            table = pa.Table.from_batches([batch.slice(k * per_file, per_file)])
            shards.write_blocks(out, table, LENGTH)
    identity = f"{folder.name}-{zlib.crc32(tokens.tobytes()):x}"
    split = shards.Split(LENGTH, n, n * LENGTH, tuple(names), "x")
    info = shards.SetInfo(
        folder.name, (split,), (("c", folder.name, folder.name),), {str(LENGTH): 1}, vocabulary, 0, 1, 2, identity
    )
    for name, value in shards.set_metadata(info, {str(LENGTH): 1}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return PackedSet.of(folder)


@dataclass(frozen=True)
class PlantedPool:
    """A pool: its chain, its blocks, and what one has of it in the recipe."""

    name: str
    chain: Chain
    blocks: int
    recipe: float | tuple[float, ...]
    """Share of all tokens; several: in each phase."""
    measured: bool = True
    """Its chain is a target."""
    copy_of: str = ""
    """Another pool, whose blocks it has."""


@dataclass(frozen=True)
class Planted:
    """Packed pools with what is measured."""

    packed: Packed
    to_fit: Measures
    to_check: Measures


def plant(
    root: Path,
    pools: Sequence[PlantedPool],
    settings: TuneSettings,
    total: int,
    seed: int,
    vocabulary: int = VOCABULARY,
) -> Planted:
    """Write pools, and documents of their chains for the fit and, others, for the validation."""
    packed = []
    for k, pool in enumerate(pools):
        drawn = next((i for i, other in enumerate(pools) if other.name == pool.copy_of), k)
        set_ = write_pool(root / "pools" / pool.name, pool.chain.draw(pool.blocks, 1000 * seed + drawn), vocabulary)
        recipe = (pool.recipe,) if isinstance(pool.recipe, float) else pool.recipe
        by_phase = tuple(round(share * total) for share in recipe)
        packed.append(
            PackedPool(pool.name, set_, pool.blocks, pool.blocks * LENGTH, by_phase, Weight(1, domain=pool.name))
        )
    targets = [p for p in pools if p.measured]
    whole = Packed(tuple(packed), LENGTH, total, tuple((p.name, 1) for p in targets), (), ())
    parts = []
    for part in (0, 1):
        rows = [
            (pool.name, i, 1, 4 * (LENGTH - 1), row)
            for k, pool in enumerate(targets)
            for i, row in enumerate(pool.chain.draw(DOCUMENTS, 1000 * seed + 100 + 10 * k + part))
        ]
        file = write_sequences(rows, root / "measured" / f"{part}.arrow").file
        sequences = read_sequences([file.file])
        parts.append(Measures((file,), sequences, importance_of(sequences.targets, whole, settings)))
    return Planted(whole, *parts)


def small_settings(
    tokens: int,
    proxies: int = 40,
    times: float = 2.0,
    seeds: int = 5,
    floor: float = 0.01,
    max_epochs: float = 4.0,
    refine: int = 8,
    seed: int = 1,
) -> TuneSettings:
    return TuneSettings(
        proxies=proxies,
        refine=refine,
        proxy=ProxySettings("ngram", tokens),
        anchors=Anchors(3, 3, 1, 1),
        constraints=Constraints(floor, max_epochs, 0.0),
        validation=Validation(times, seeds),
        seed=seed,
    )


def run_search(root: Path, planted: Planted, settings: TuneSettings) -> Judged:
    engine = Engine(TunePaths(root), InProcess())
    return search(engine, planted.packed, planted.to_fit, planted.to_check, settings)


def learning_curve(
    pool: PlantedPool, planted: Planted, tokens: int, seed: int, points: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """(shares, bits per byte of the pool's own target in the fit's documents) of models of the pool alone."""
    s = planted.to_fit.sequences
    shares = np.geomspace(0.004, 1.0, points)
    found = []
    for share in shares:
        rows = pool.chain.draw(max(1, round(share * tokens / LENGTH)), 77_000 + seed)
        model = NgramModel(VOCABULARY)
        n = len(rows)
        model.train(
            UnitStream(rows.ravel(), np.arange(1, n + 1) * LENGTH, np.zeros(n, np.int64), np.zeros(n, np.bool_))
        )
        found.append(s.by_target(s.bits(model.bits))[s.targets.index(pool.name)])
    return shares, np.array(found)


def best_of_curves(curves: Sequence[tuple[np.ndarray, np.ndarray]], spare: float) -> tuple[np.ndarray, np.ndarray]:
    """(the shares that minimise the mean of learning curves, those losses), of what `spare` leaves: greedily, since the curves
    are convex."""
    step = 0.002
    shares = np.full(len(curves), 0.004)

    def loss(k: int, share: float) -> float:
        return float(np.interp(np.log(share), np.log(curves[k][0]), curves[k][1]))

    while shares.sum() < 1 - spare - step / 2:
        gains = [loss(k, s) - loss(k, s + step) for k, s in enumerate(shares)]
        shares[int(np.argmax(gains))] += step
    return shares, np.array([loss(k, s) for k, s in enumerate(shares)])

"""One training on one mixture, as a task: from packed pools and quotas to the bits of everything that is measured.

A task's key holds the pools' contents, the quotas, what it draws, and the settings that it acts on: a finished training is never
repeated, a design that grows trains only what is new. What it measures is published whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..pipeline.engine.engine import Engine
from ..pipeline.engine.tasks import Task
from ..pipeline.mix.budget import largest_remainder
from ..pipeline.run.artifacts import Artifact, publish, write_json
from ..trainer.data.mixture import MixtureData, Part
from ..trainer.data.order import PhaseData
from . import VERSION, verdict
from .measured import Measures, PackedSet, Sequences, read_sequences
from .ngram import NgramModel
from .pools import Packed, TunePaths
from .settings import ProxySettings, TuneSettings

PROCESS_BYTES = 768 << 20
"""Memory of a process that trains, without its model."""
NGRAM_BYTES = 64
"""Memory of an n-gram model for each token of a training, about: its tables may double while they grow."""
MODEL_MEMORY = 2 << 30


@dataclass(frozen=True)
class PoolPart:
    """What a training takes of one pool."""

    packed: PackedSet
    quota: int | tuple[int, ...]
    """Units; several: in each phase."""
    cap: int
    """Units that are used, and repeated."""

    @property
    def units(self) -> int:
        """Units in all phases."""
        return sum(self.quota) if isinstance(self.quota, tuple) else self.quota


def parts_of(weights: Sequence[float], packed: Packed, tokens: int, settings: TuneSettings) -> list[PoolPart]:
    """What a training of so many tokens takes of every pool.

    A pool of A tokens is repeated w W / A times by a whole training of W tokens; one of T tokens repeats n of them w T / n
    times. So n = A T / W, for any weight.
    """
    units = max(1, round(tokens / packed.block_length))
    parts = []
    for pool, quota in zip(packed.pools, largest_remainder(units, weights), strict=True):
        cap = pool.units
        if settings.repetition == "match":
            cap = max(1, min(cap, math.ceil(pool.tokens * tokens / packed.total / packed.block_length)))
        parts.append(PoolPart(pool.packed, quota, cap))
    return parts


def phased_parts(table: np.ndarray, packed: Packed, tokens: int, settings: TuneSettings) -> list[PoolPart]:
    """The same, phase by phase, with the quotas that the mixture has in one phase: two placements differ in order alone, and the
    lengths of their phases by a unit for each pool at most.

    Args:
        table: float64 [P, K], a placement.
    """
    parts = parts_of(table.sum(axis=0).tolist(), packed, tokens, settings)
    return [
        replace(part, quota=tuple(largest_remainder(part.units, column) if part.units else [0] * len(column)))
        for part, column in zip(parts, table.T.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    file: Artifact
    """JSON: bits per byte by target; see `_publish`."""
    losses: tuple[float, ...]
    """Bits per byte by target."""
    documents: Artifact | None
    """float64 [D]: bits of every document and item; None where nobody asked."""


def open_mixture(parts: Sequence[PoolPart], draw: int) -> MixtureData:
    """The data of a training.

    Raises:
        ValueError: a pool is damaged, or another one than was packed.
    """
    opened = []
    for part in parts:
        data = PhaseData(part.packed.folder, draw)
        if data.info.data_identity != part.packed.data_identity:
            raise ValueError(f"{part.packed.folder} has changed; delete it and run `fox1 tune` again")
        opened.append(Part(data, part.quota, part.cap))
    return MixtureData(opened, draw, draw)


def train_ngram(parts: Sequence[PoolPart], draw: int, measured: Sequence[Artifact], each: bool, out: Path) -> Trained:
    """Task: count a mixture and measure.

    Args:
        draw: which documents it draws from the pools.
        each: whether the bits of every document are kept.
    """
    data = open_mixture(parts, draw)
    model = NgramModel(data.info.vocab_size, data.units * data.unit_tokens)
    model.train_on(data)
    sequences = read_sequences([m.file for m in measured])
    return _publish(sequences.bits(model.bits), sequences, each, out)


def train_model(
    parts: Sequence[PoolPart], draw: int, settings: ProxySettings, measured: Sequence[Artifact], each: bool, out: Path
) -> Trained:
    """Task: train a network on a mixture and measure; `draw` is the seed of its initial weights, too."""
    from .model import train_network

    sequences = read_sequences([m.file for m in measured])
    score = train_network(open_mixture(parts, draw), settings, draw)
    return _publish(sequences.bits(score), sequences, each, out)


def _publish(bits: np.ndarray, sequences: Sequences, each: bool, out: Path) -> Trained:
    documents = None
    if each:
        with publish(out.with_suffix(".bits"), len(bits)) as file:
            file.write(bits.astype("<f8").tobytes())
        documents = file.artifact
    losses = sequences.by_target(bits).tolist()
    written = write_json(out, {"bits_per_byte": dict(zip(sequences.targets, losses, strict=True))})
    return Trained(written, tuple(losses), documents)


def train_arms(
    engine: Engine,
    step: str,
    arms: Mapping[str, Sequence[PoolPart]],
    draw: int,
    settings: TuneSettings,
    to_check: Measures,
) -> list[Artifact]:
    """Train every arm with the same seeds on the tokens of the validation; the bits of what is measured, by arm and seed.

    Args:
        draw: of the first seed.
    """
    assert isinstance(engine.paths, TunePaths)
    proxy = replace(settings.proxy, tokens=settings.validation_tokens)
    tasks = []
    for arm, parts in arms.items():
        for seed in range(settings.validation.seeds):
            name = f"{arm}-{seed}"
            out = engine.paths.proxy(step, name)
            tasks.append(proxy_task(name, parts, draw + seed, proxy, to_check.files, out, each=True))
    return [t.documents for t in engine.run(f"tune.{step}", VERSION, tasks) if t.documents]


def read_arms(
    bits: Sequence[Artifact], arms: Sequence[str], measured: Sequence[Artifact], importance: np.ndarray
) -> verdict.Measured:
    """What the trainings of several arms were measured as.

    Args:
        bits: of every document, by arm and seed.
    """
    sequences = read_sequences([m.file for m in measured])
    found = np.stack([np.frombuffer(b.file.read_bytes(), "<f8") for b in bits])
    return verdict.Measured(
        tuple(arms),
        found.reshape(len(arms), -1, found.shape[1]),
        sequences.size.astype(np.float64),
        sequences.target,
        sequences.targets,
        importance,
    )


def proxy_task(
    name: str,
    parts: Sequence[PoolPart],
    draw: int,
    settings: ProxySettings,
    measured: Sequence[Artifact],
    out: Path,
    each: bool = False,
) -> Task[Trained]:
    """The task of a training of the kind that the settings name.

    Args:
        each: whether the bits of every document are kept.
    """
    taken = tuple(p for p in parts if p.units)
    tokens = settings.tokens
    # Progress shows bytes a second of what weighs more than some KB, and these are tokens.
    weight = max(1, tokens >> 20)
    if settings.kind == "ngram":
        memory = PROCESS_BYTES + NGRAM_BYTES * tokens
        return Task(name, train_ngram, (taken, draw, tuple(measured), each, out), weight=weight, memory=memory)
    args = (taken, draw, settings, tuple(measured), each, out)
    return Task(name, train_model, args, weight=weight, memory=MODEL_MEMORY, gpus=settings.gpus)


@dataclass(frozen=True)
class TokenScores:
    """What one pool's model says of every token that is measured."""

    file: Artifact
    """float32 [T]: natural logarithms of probabilities; 0 where a token is not scored."""


def score_pool(part: PoolPart, measured: Sequence[Artifact], out: Path) -> TokenScores:
    """Task: an n-gram model of one pool, for the convex baseline."""
    data = open_mixture([part], 0)
    model = NgramModel(data.info.vocab_size, data.units * data.unit_tokens)
    model.train_on(data)
    scores = [model.bits(stream) for _, stream in read_sequences([m.file for m in measured]).streams()]
    with publish(out, sum(map(len, scores))) as file:
        file.write((-np.log(2) * np.concatenate(scores)).astype("<f4").tobytes())
    return TokenScores(file.artifact)

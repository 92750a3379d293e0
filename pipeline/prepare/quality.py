"""Train the quality models: per domain, the subsets that the recipe names as good against those it names as ordinary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import xxhash

from ...storage.fields import Derived, Subset
from ...tokenize.spans import text_buffers
from ..engine.tasks import Task
from ..run.artifacts import Artifact, publish
from ..run.identity import SourceFile
from ..run.paths import RunPaths
from ..signals import quality
from ..signals.segment import segment
from .text_sample import SubsetName, chosen_files, files_read, sampled_rows

MIN_DOCUMENTS = 40
"""Least documents of each kind. A domain with fewer keeps the formula, and the summary says so."""
HELD_OUT = 10
"""One document in this many is held out of training."""
QUALITY_CHARS = 20_000
READ_AHEAD = 16
"""A file is read for at most this many times the text that is wanted from it."""


@dataclass(frozen=True)
class DomainSubsets:
    """A domain's quality model learns to tell good subsets from ordinary ones, each corpus/subset; or its quality is a score of
    others."""

    domain: Annotated[str, Derived()]
    good: tuple[Subset, ...] = ()
    """Subsets of good text."""
    ordinary: tuple[Subset, ...] = ()
    """Subsets to tell it from."""
    score: str = ""
    """A score of `scores` that is the quality of the domain's documents; then there is no model, whatever an extended recipe names
    as good and ordinary."""

    def __post_init__(self) -> None:
        if not self.score and not (self.good and self.ordinary):
            raise ValueError("name at least one subset as `good` and one as `ordinary`, or give `score`")


@dataclass(frozen=True)
class QualitySettings:
    """What the quality models of the domains are trained on."""

    domains: tuple[DomainSubsets, ...] = ()
    sample_bytes: int = 16 << 20
    """Text of each kind that a model is trained on, at most."""


@dataclass(frozen=True)
class PreparedQuality:
    """The quality models, and how each did on documents that it was not trained on."""

    file: Artifact
    models: dict[str, dict[str, int]]
    """By domain: documents (`good`, `ordinary`), and of those held out (`held_out`) how many it tells right (`correct`)."""
    skipped: dict[str, str]
    """Domain -> why it has no model."""


@dataclass(frozen=True)
class SampledSubset:
    """Beginnings of documents of one subset, for the quality model of a domain."""

    domain: str
    good: bool
    file: Artifact
    """Arrow, one column of text."""


def sample_tasks(
    files: Sequence[SourceFile], barred: Sequence[SubsetName], settings: QualitySettings, seed: int, paths: RunPaths
) -> list[Task[SampledSubset]]:
    """The tasks that sample what the quality models are trained on, one for each subset.

    Args:
        files: of the run; held-out ones train nothing.
        barred: subsets that the licence policy excludes.
    """
    tasks: list[Task[SampledSubset]] = []
    for part in settings.domains:
        for good, named in ((True, part.good), (False, part.ordinary)):
            subsets = [SubsetName(*s) for s in named if s not in barred]
            for number, subset in enumerate(subsets):
                name = f"quality-{part.domain}-{'good' if good else 'ordinary'}-{number}"
                read = files_read([f for f in files if f.corpus == subset.corpus], [seed])
                share = settings.sample_bytes // len(subsets)
                arguments = (read, subset, share, seed, part.domain, good, paths.counts(f"{name}.arrow"))
                tasks.append(Task(name, sample_subset, arguments, unweighed=True))
    return tasks


def sample_subset(
    files: Sequence[SourceFile], subset: SubsetName, budget: int, seed: int, domain: str, good: bool, path: Path
) -> SampledSubset:
    """Publish beginnings of documents of a subset.

    Args:
        files: of its corpus that may be read.
        budget: characters of text, at most.
    """
    texts: list[str] = []
    chosen = chosen_files(files, subset.corpus, seed)
    for left, file in zip(range(len(chosen), 0, -1), chosen, strict=True):
        used = seen = 0
        for name, text in sampled_rows(file, seed, lambda _: True):
            seen += len(text)
            if name == subset.name:
                texts.append(text[:QUALITY_CHARS])
                used += len(texts[-1])
            if used >= budget // left or seen >= READ_AHEAD * max(budget // left, 1 << 20):
                break
        budget -= used
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    with publish(path, len(texts)) as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return SampledSubset(domain, good, out.artifact)


def prepare_quality(
    settings: QualitySettings, sampled: Sequence[SampledSubset], seed: int, paths: RunPaths
) -> PreparedQuality:
    """Train the models on what was sampled, and publish ``prepare/quality.arrow``."""
    trained: dict[str, quality.Trained] = {}
    skipped: dict[str, str] = {}
    for part in settings.domains:
        read = [(_texts(s.file), s.good) for s in sampled if s.domain == part.domain]
        is_good = np.concatenate([np.zeros(0, bool), *(np.full(len(text), good) for text, good in read)])
        good, ordinary = int(is_good.sum()), int((~is_good).sum())
        if min(good, ordinary) < MIN_DOCUMENTS:
            skipped[part.domain] = f"{good} good and {ordinary} ordinary documents, {MIN_DOCUMENTS} of each are needed"
            continue
        texts = pa.concat_arrays([text for text, _ in read])
        hashes = (xxhash.xxh3_64_intdigest(text.as_buffer(), seed) for text in texts)
        digests = np.fromiter(hashes, np.uint64, len(texts))
        # By hash: kinds mixed, and the same order wherever the files lie.
        order = np.argsort(digests, kind="stable")
        s = segment(*text_buffers(texts.take(pa.array(order))))
        trained[part.domain] = quality.train(s, is_good[order], digests[order] % HELD_OUT == 0)
    with publish(paths.prepare("quality.arrow"), len(trained)) as out:
        table = quality.models_table(trained)
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    accuracy = {
        domain: {"good": t.n_good, "ordinary": t.n_ordinary, "held_out": t.held_out, "correct": t.correct}
        for domain, t in trained.items()
    }
    return PreparedQuality(out.artifact, accuracy, skipped)


def _texts(sampled: Artifact) -> pa.LargeStringArray:
    with pa.memory_map(os.fspath(sampled.file)) as source:
        return pa.ipc.open_file(source).read_all().column("text").combine_chunks()

"""Train the quality models: per domain, the subsets that the recipe names as good against those it names as ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import xxhash

from ...storage.fields import Bounds, Derived, Subset
from ...tokenize.spans import text_buffers
from ..run.artifacts import Artifact, RunPaths, publish
from ..run.identity import SourceFile
from ..signals import quality
from ..signals.segment import segment
from .text_sample import SubsetName, chosen_files, sampled_rows

MIN_DOCUMENTS = 40
"""Least documents of each kind. A domain with fewer keeps the formula, and the summary says so."""
HELD_OUT = 10
"""One document in this many is held out of training."""
QUALITY_CHARS = 20_000
READ_AHEAD = 16
"""A file is read for at most this many times the text that is wanted from it."""


@dataclass(frozen=True)
class DomainSubsets:
    """A domain's quality model learns to tell good subsets from ordinary ones; each is corpus/subset."""

    domain: Annotated[str, Derived()]
    good: Annotated[tuple[Subset, ...], Bounds(min_length=1)]
    """Subsets of good text."""
    ordinary: Annotated[tuple[Subset, ...], Bounds(min_length=1)]
    """Subsets to tell it from."""


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


def prepare_quality(
    files: Sequence[SourceFile], barred: Sequence[SubsetName], settings: QualitySettings, seed: int, paths: RunPaths
) -> PreparedQuality:
    """Train and publish ``prepare/quality.arrow``.

    Args:
        barred: subsets that the licence policy excludes.
    """
    trained: dict[str, quality.Trained] = {}
    skipped: dict[str, str] = {}
    for part in settings.domains:
        kinds = [
            _sample(files, [s for s in subsets if s not in barred], settings.sample_bytes, seed)
            for subsets in (part.good, part.ordinary)
        ]
        if min(map(len, kinds)) < MIN_DOCUMENTS:
            good, ordinary = map(len, kinds)
            skipped[part.domain] = f"{good} good and {ordinary} ordinary documents, {MIN_DOCUMENTS} of each are needed"
            continue
        texts = [(text, True) for text in kinds[0]] + [(text, False) for text in kinds[1]]
        # By hash: kinds mixed, and the same order wherever the files lie.
        digests = [xxhash.xxh3_64_intdigest(text.encode(), seed) for text, _ in texts]
        order = sorted(range(len(texts)), key=digests.__getitem__)
        s = segment(*text_buffers(pa.array([texts[i][0] for i in order], pa.large_string())))
        held_out = np.array([digests[i] % HELD_OUT == 0 for i in order])
        trained[part.domain] = quality.train(s, np.array([texts[i][1] for i in order]), held_out)
    with publish(paths.prepare("quality.arrow"), len(trained)) as out:
        table = quality.models_table(trained)
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    accuracy = {
        domain: {"good": t.n_good, "ordinary": t.n_ordinary, "held_out": t.held_out, "correct": t.correct}
        for domain, t in trained.items()
    }
    return PreparedQuality(out.artifact, accuracy, skipped)


def _sample(files: Sequence[SourceFile], subsets: Sequence[tuple[str, str]], sample_bytes: int, seed: int) -> list[str]:
    """Beginnings of documents of some subsets, an equal share of the bytes from each."""
    texts: list[str] = []
    for corpus, wanted in subsets:
        budget = sample_bytes // len(subsets)
        chosen = chosen_files(files, corpus, seed)
        for left, file in zip(range(len(chosen), 0, -1), chosen, strict=True):
            used = seen = 0
            for subset, text in sampled_rows(file, seed, lambda _: True):
                seen += len(text)
                if subset == wanted:
                    texts.append(text[:QUALITY_CHARS])
                    used += len(texts[-1])
                if used >= budget // left or seen >= READ_AHEAD * max(budget // left, 1 << 20):
                    break
            budget -= used
    return texts

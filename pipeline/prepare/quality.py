"""Train the quality models: per domain, the subsets that the recipe names as good against those it names as ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from ..engine.tasks import TaskResult
from ..filter.judge import Exclusion
from ..run.artifacts import RunPaths, publish
from ..run.identity import SourceFile
from ..signals import quality
from ..signals.scan import text_buffers
from ..signals.segment import segment
from .text_sample import chosen_files, sampled_rows

MIN_DOCUMENTS = 40
"""Of each kind. A domain with fewer keeps the formula, and the summary says so."""
HELD_OUT = 10
"""One document in so many is kept from training."""
QUALITY_CHARS = 20_000
READ_AHEAD = 16
"""A file is read for at most so many times the text that is wanted of it."""


@dataclass(frozen=True)
class DomainSubsets:
    """What a domain's model is trained on, as (corpus, subset)."""

    domain: str
    good: tuple[tuple[str, str], ...]
    ordinary: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class QualitySettings:
    """What the quality models of the domains are trained on."""

    domains: tuple[DomainSubsets, ...] = ()
    sample_bytes: int = 16 << 20
    """Text of each kind that a model is trained on, at most."""


def prepare_quality(
    files: Sequence[SourceFile], excluded: Sequence[Exclusion], settings: QualitySettings, seed: int, paths: RunPaths
) -> TaskResult:
    """Train and publish ``prepare/quality.arrow``."""
    barred = {(e.corpus, e.subset) for e in excluded}
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
    return TaskResult((out.artifact,), {}, {"models": accuracy, "skipped": skipped})


def _sample(files: Sequence[SourceFile], subsets: Sequence[tuple[str, str]], sample_bytes: int, seed: int) -> list[str]:
    """Beginnings of documents of some subsets, an equal share of the bytes from each."""
    texts: list[str] = []
    for corpus, wanted in subsets:
        budget = sample_bytes // len(subsets)
        mine = chosen_files(files, corpus, seed)
        for left, file in zip(range(len(mine), 0, -1), mine, strict=True):
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

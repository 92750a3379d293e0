"""All documents that were read, dropped ones included: by language, length and quality, and what became of them.

The mixture says of kept documents how long they are in tokens. A dropped document has no tokens: its length is in words.

A task counts the files of some groups, further ones add up what some counted, and the last writes `stats/distributions.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from ..engine.engine import Engine
from ..engine.tasks import Task
from ..engine.tree import add_up
from ..mix.assign import QUALITY_CLASSES
from ..run.artifacts import Artifact, write_json
from ..run.columns import each_open
from ..run.file_sets import FileSet
from ..run.identity import Group
from ..run.parquet_rows import RowCursor
from ..text.survivors import DecidedFile
from .outcomes import KEPT

SLICE_ROWS = 1 << 20
_SIGNALS = ["language", "domain", "n_words", "quality", "raw_bytes"]

ByReason = dict[str, dict[str, int]]
"""Name -> `kept` or the reason of a decision -> documents, or bytes."""
ByClass = dict[str, dict[str, dict[int, int]]]
"""Domain -> `kept` or the reason of a decision -> class -> documents."""


@dataclass
class Distributions:
    """What `stats/distributions.json` holds."""

    languages: ByReason = field(default_factory=dict)
    """Documents by language."""
    bytes: ByReason = field(default_factory=dict)
    """Bytes of raw text by corpus."""
    words: ByClass = field(default_factory=dict)
    """A class is the power of two below the number of words; 0 is that of 0 and 1."""
    quality: ByClass = field(default_factory=dict)
    """A class is a twentieth of the scale."""

    def include(self, more: Distributions) -> None:
        """Add what was counted elsewhere."""
        for mine, other in ((self.languages, more.languages), (self.bytes, more.bytes)):
            for name, by_reason in other.items():
                _add(mine.setdefault(name, {}), by_reason)
        for own, others in ((self.words, more.words), (self.quality, more.quality)):
            for name, reasons in others.items():
                for reason, classes in reasons.items():
                    _add(own.setdefault(name, {}).setdefault(reason, {}), classes)


Key = TypeVar("Key", str, int)


def _add(into: dict[Key, int], more: Mapping[Key, int]) -> None:
    for key, n in more.items():
        into[key] = into.get(key, 0) + n


@dataclass(frozen=True)
class DistributionCounts:
    """`Distributions` of some files, as JSON."""

    file: Artifact


def count_distributions(
    engine: Engine, version: int, together: Sequence[Sequence[Group]], files: Mapping[str, DecidedFile]
) -> None:
    """Write ``stats/distributions.json``.

    Args:
        version: of the stage.
        together: groups whose files a task reads together.
        files: by `SourceFile.table`.
    """
    tasks = []
    for some in together:
        own = [files[f.table] for group in some for f in group.files]
        path = engine.paths.counts(f"distributions/{some[0].name}.json")
        tasks.append(Task(some[0].name, count_documents, (own, path)))
    counted = [c.file for c in engine.run("stats.distributions.count", version, tasks)]
    into = engine.paths.counts("distributions-sum")
    counted = add_up(engine, "stats.distributions.add", version, counted, add_distributions, into)
    last = Task("distributions", write_distributions, (counted, engine.paths.stats("distributions")))
    engine.run("stats.distributions", version, [last])


def count_documents(files: Sequence[DecidedFile], path: Path) -> DistributionCounts:
    """Map: the distributions of some files."""
    found = Distributions()
    tables = ([[file.signals.file], [file.decisions.file]] for file in files)
    for file, (signals, decisions) in zip(files, each_open(tables, [_SIGNALS, ["reason"]]), strict=True):
        facts, decided = RowCursor(signals, _SIGNALS), RowCursor(decisions, ["reason"])
        while (rows := facts.take(SLICE_ROWS)).num_rows:
            _count(found, file.source.corpus, rows, decided.take(SLICE_ROWS))
    return _write(found, path)


def _count(found: Distributions, corpus: str, rows: pa.Table, decided: pa.Table) -> None:
    """Add some documents of a file."""
    reasons, reason = _coded(decided.column("reason"))
    reasons = [name or KEPT for name in reasons]
    languages, language = _coded(rows.column("language"))
    domains, domain = _coded(rows.column("domain"))
    for (name, said), n in _sums((languages, language), (reasons, reason)):
        _add(found.languages.setdefault(name, {}), {said: n})
    sizes = rows.column("raw_bytes").to_numpy()
    for code, said in enumerate(reasons):
        _add(found.bytes.setdefault(corpus, {}), {said: int(sizes[reason == code].sum())})
    words = rows.column("n_words").to_numpy().astype(np.int64)
    length = np.floor(np.log2(np.maximum(words, 1))).astype(np.int64)
    quality = rows.column("quality").to_numpy().astype(np.int64) * QUALITY_CLASSES >> 16
    for own, classes in ((found.words, length), (found.quality, quality)):
        levels = [*range(int(classes.max()) + 1)]
        for (name, said, level), n in _sums((domains, domain), (reasons, reason), (levels, classes)):
            _add(own.setdefault(name, {}).setdefault(said, {}), {level: n})


def _coded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """(the values that occur, the number of each row's)."""
    coded = column.combine_chunks().dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


def _sums(*columns: tuple[Sequence[Any], np.ndarray]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """(values, rows that have them) of those that occur together."""
    place = np.zeros(len(columns[0][1]), np.int64)
    for values, codes in columns:
        place = place * len(values) + codes
    for at, n in zip(*np.unique(place, return_counts=True), strict=True):
        found, left = [], int(at)
        for values, _ in reversed(columns):
            left, code = divmod(left, len(values))
            found.append(values[code])
        yield tuple(reversed(found)), int(n)


def add_distributions(counted: FileSet, path: Path) -> DistributionCounts:
    """Add the counts of some files together."""
    return _write(_sum(counted), path)


def _sum(counted: Iterable[Path]) -> Distributions:
    total = Distributions()
    for file in counted:
        total.include(msgspec.json.decode(file.read_bytes(), type=Distributions, strict=False))
    return total


def _write(found: Distributions, path: Path, dense: bool = True) -> DistributionCounts:
    return DistributionCounts(write_json(path, msgspec.to_builtins(found, str_keys=True), dense))


def write_distributions(counted: Sequence[Artifact], path: Path) -> DistributionCounts:
    """Write the distributions from what was counted."""
    return _write(_sum(a.file for a in counted), path, dense=False)

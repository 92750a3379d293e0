"""What of the recipe says which scores of others stand in `scores/`, and which of them are a domain's quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ..run.artifacts import content_key
from ..signals.scores import ScoreSettings
from ..sources.listing import NamedFile


@dataclass(frozen=True)
class ScoreFiles:
    """A score that comes from files."""

    settings: ScoreSettings
    files: tuple[NamedFile, ...]

    @property
    def source(self) -> str:
        """What the column says of where it is from."""
        versions = content_key([f.version for f in self.files])
        column, n = self.settings.column_of("score"), len(self.files)
        return f"column {column} of {n} files by {self.settings.key}, {versions}"


@dataclass(frozen=True)
class JoinSettings:
    """What stands in `scores/`."""

    files: tuple[ScoreFiles, ...] = ()
    classifiers: tuple[ScoreSettings, ...] = ()
    """Scores that scan made and a domain's quality is."""
    ranking: tuple[tuple[str, str], ...] = ()
    """(domain, name of the score that is its quality)."""

    @property
    def asked(self) -> bool:
        """Whether there is anything to join."""
        return bool(self.files or self.ranking)

    def score(self, name: str) -> ScoreSettings:
        every = {s.name: s for s in (*(f.settings for f in self.files), *self.classifiers)}
        return every[name]

    @property
    def schema(self) -> pa.Schema:
        """Of a file of `scores/`."""
        columns = [pa.field("doc_id", pa.uint64(), nullable=False)]
        for of in self.files:
            columns.append(pa.field(of.settings.column, pa.float32(), metadata={"encoding": of.source}))
        if self.ranking:
            said = ", ".join(f"{score} of {domain}" for domain, score in self.ranking)
            encoding = f"scores in equal steps from their worst to their best ({said}), else signals/; v1"
            columns.append(pa.field("quality", pa.uint16(), nullable=False, metadata={"encoding": encoding}))
        return pa.schema(columns)

    def identity(self) -> object:
        ranked = [[domain, self.score(name)] for domain, name in self.ranking]
        return [[[f.settings, f.source] for f in self.files], ranked]


def named_scores(
    scores: Sequence[ScoreSettings], ranking: Sequence[tuple[str, str]], files: Mapping[str, Sequence[str]]
) -> JoinSettings:
    """What is joined.

    Args:
        files: of every score that comes from some, by name.
    """
    of_files = tuple(ScoreFiles(s, tuple(map(NamedFile.of, files[s.name]))) for s in scores if s.files)
    return JoinSettings(of_files, tuple(s for s in scores if s.fasttext), tuple(ranking))

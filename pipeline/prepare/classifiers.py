"""The fastText classifiers that a recipe names, each as one artifact that workers map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ...storage.reading import Misshapen
from ...storage.wording import first_line
from ..run.artifacts import Artifact, publish
from ..run.paths import RunPaths
from ..signals.fasttext import SCHEMA
from ..signals.scores import ClassifierSettings, ScoreSettings
from ..sources.formats import open_source
from ..sources.listing import NamedFile
from .fasttext_file import ReadClassifier, read_fasttext


@dataclass(frozen=True)
class PreparedClassifier:
    """A classifier as scan reads it."""

    name: str
    file: Artifact
    """`SCHEMA` of `signals/fasttext.py`."""
    source: str
    """Name and hash of its file, as the column of its scores says."""
    labels: tuple[str, ...]
    """All that it knows."""
    words: int
    dim: int


def read_classifier(settings: ScoreSettings) -> ReadClassifier:
    """The classifier of a score, with what its labels count.

    Raises:
        ValueError: the file is no classifier, cannot be read, or has no such label; names score and file.
    """
    url = settings.fasttext
    try:
        with open_source(url) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            read = read_fasttext(file, size)
        return ReadClassifier(read.counting(settings.labels), read.labels, read.dim)
    except FileNotFoundError:
        raise ValueError(
            f"scores.{settings.name}: there is no file {url}; set `fasttext` to a .bin or .ftz file"
        ) from None
    except Misshapen as error:
        raise ValueError(f"scores.{settings.name}: {url}: {error}") from None
    except MemoryError:
        raise ValueError(f"scores.{settings.name}: {url} does not fit into memory; quantise it with a cutoff") from None
    except OSError as error:
        raise OSError(f"scores.{settings.name}: {url} cannot be read: {first_line(error)}") from None
    except ValueError as error:  # a store that gives whole files only cannot be read from anywhere
        raise ValueError(
            f"scores.{settings.name}: {url} cannot be read: {first_line(error)}; name a local copy"
        ) from None


def prepare_classifier(settings: ScoreSettings, named: NamedFile, paths: RunPaths) -> PreparedClassifier:
    """Publish ``prepare/score-NAME.arrow``.

    Args:
        named: its file; where that lies is no fact of it.

    Raises:
        ValueError: as `read_classifier`.
    """
    read = read_classifier(settings)
    with publish(paths.prepare(f"score-{settings.name}.arrow"), 1) as out, pa.ipc.new_file(out, SCHEMA) as writer:
        writer.write_batch(read.classifier.stored())
    source = f"fastText {os.path.basename(settings.fasttext)}, {out.artifact.hash}"
    words = int(read.classifier.numbers[0])
    return PreparedClassifier(settings.name, out.artifact, source, read.labels, words, read.dim)


def scanned_by(
    scores: Sequence[ScoreSettings], prepared: Sequence[PreparedClassifier]
) -> tuple[ClassifierSettings, ...]:
    """The classifiers that scan runs, with their files and hashes."""
    sources = {p.name: p.source for p in prepared}
    return tuple(ClassifierSettings(s.name, s.domains, sources[s.name]) for s in scores if s.fasttext)

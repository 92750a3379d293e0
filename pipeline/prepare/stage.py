"""The prepare stage: the tokenizer, the quality models and the lists that the reads of the text need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...tokenize.model import TokenizerSettings
from ..engine.engine import Engine
from ..engine.tasks import Step, Task
from ..filter.exclude import PreparedExclude, prepare_exclude, read_lists
from ..run.identity import SourceFile
from ..run.paths import RunPaths
from ..signals.scan import ModelFiles
from ..signals.scores import ScoreSettings
from ..sources.listing import NamedFile
from .benchmarks import benchmark_files
from .classifiers import PreparedClassifier, prepare_classifier
from .contamination import ContaminationSettings, PreparedContamination, prepare_contamination
from .quality import PreparedQuality, QualitySettings, prepare_quality, sample_tasks
from .text_sample import SubsetName, files_read
from .tokenizer import PreparedTokenizer, prepare_tokenizer, seeds_of
from .urls import PreparedUrls, prepare_urls

VERSION = 7
TOKENIZER_STEP = "prepare.tokenizer"


@dataclass(frozen=True)
class PreparedForScan:
    """What has to exist before the first read; None where the recipe asks for none."""

    quality: PreparedQuality | None = None
    contamination: PreparedContamination | None = None
    urls: PreparedUrls | None = None
    exclude: PreparedExclude | None = None
    classifiers: tuple[PreparedClassifier, ...] = ()
    """In the order of their scores."""

    @property
    def models(self) -> ModelFiles:
        """What of it scan reads."""
        return replace(
            ModelFiles.installed(),
            quality=self.quality.file if self.quality else None,
            contamination=self.contamination.index if self.contamination else None,
            contamination_passages=self.contamination.passages if self.contamination else None,
            contamination_pairs=self.contamination.pairs if self.contamination else None,
            urls=self.urls.file if self.urls else None,
            classifiers=tuple(c.file for c in self.classifiers),
        )

    @property
    def notes(self) -> list[str]:
        """What the recipe asked for and the data could not give."""
        skipped = self.quality.skipped if self.quality else {}
        return [f"no quality model for {domain}, its formula is used: {why}" for domain, why in skipped.items()]


@dataclass(frozen=True, kw_only=True)
class Prepared(PreparedForScan):
    """All that prepare makes."""

    tokenizer: PreparedTokenizer


def tokenizer_step(
    files: Sequence[SourceFile], barred: Sequence[SubsetName], tokenizer: TokenizerSettings, seed: int, paths: RunPaths
) -> Step:
    """The step that makes the tokenizer, which scan does not wait for. It is a single long task.

    Args:
        files: of the run; held-out ones train nothing.
        barred: subsets that the licence policy excludes; they train nothing either.
    """
    training = [f for f in files if not f.held_out]
    named = NamedFile.of(tokenizer.model) if tokenizer.model else None
    # Where a named model lies is no fact of it.
    asked = replace(tokenizer.of_model, model="")
    arguments = (files_read(training, seeds_of(named, seed)), barred, named, asked, seed, paths)
    return Step(TOKENIZER_STEP, VERSION, [Task("tokenizer", prepare_tokenizer, arguments, unweighed=True)])


def prepare(
    engine: Engine,
    files: Sequence[SourceFile],
    barred: Sequence[SubsetName],
    quality: QualitySettings,
    contamination: ContaminationSettings,
    url_lists: Sequence[str],
    exclude_lists: Sequence[str],
    scores: Sequence[ScoreSettings],
    seed: int,
    id_salt: int,
) -> PreparedForScan:
    """Make what the recipe asks for and scan reads, each in a task of its own or in several.

    Args:
        files, barred: as in `tokenizer_step`.

    Raises:
        ValueError: a list or a benchmark cannot be read; names it.
    """
    training = [f for f in files if not f.held_out]
    paths = engine.paths
    tasks: list[Task[object]] = []
    if contamination.benchmarks:
        items = [NamedFile.of(f) for b in contamination.benchmarks for f in benchmark_files(b)]
        tasks.append(Task("contamination", prepare_contamination, (contamination, items, paths)))
    if url_lists:
        tasks.append(Task("urls", prepare_urls, ([NamedFile.of(u) for u in url_lists], paths)))
    if exclude_lists:
        # Read here: a wrong line is reported before any work, and a list behind a URL may have grown under its name.
        entries = read_lists(exclude_lists, sorted({f.corpus for f in files}), id_salt)
        tasks.append(Task("exclude", prepare_exclude, (entries, paths)))
    scoring = [s for s in scores if s.fasttext]
    tasks += [Task(f"score-{s.name}", prepare_classifier, (s, NamedFile.of(s.fasttext), paths)) for s in scoring]
    samples = sample_tasks(training, barred, quality, seed, paths)
    results, sampled = engine.run_beside([Step("prepare", VERSION, tasks), Step("prepare.samples", VERSION, samples)])
    made = {task.name: result for task, result in zip(tasks, results, strict=True)}
    classifiers = tuple(made.pop(f"score-{s.name}") for s in scoring)
    if quality.domains:
        train = Task("quality", prepare_quality, (quality, sampled, seed, paths))
        made["quality"] = engine.run("prepare.quality", VERSION, [train])[0]
    return PreparedForScan(**made, classifiers=classifiers)

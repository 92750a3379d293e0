"""Steps of `before_scan`: any step of a datatrove pipeline that stands between reader and scan.

    filter       `filter_batch` drops a document with its reason, and may change the text of those it keeps
    extractor    `extract` makes the text; a document that it finds none in is dropped
    any other    `run` over a batch: formatters, and steps of your own; what it does not hand on is dropped

A step gets documents of one file in their order, at most `BATCH` at a time. What it leaves in `text` is taken over; `id` and
`metadata` are seen by the steps after it and by nothing else.

What a run stores must not depend on the machine or on what a worker did before. So each task makes its own steps, except
filters that remember nothing; extractors have no time limit; and what Trafilatura cuts as a repetition is what the page itself
repeats.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Protocol

from ...storage.fields import Arguments, Derived
from ...storage.wording import first_line, printable
from ..signals.plugin_files import code_version, import_target, split_target

BATCH = 256
BATCH_CHARACTERS = 1 << 20
"""Documents, and about how many characters, that a step is given at once."""
REASON_CHARS = 200
FAILS_ON_ALL = 64
"""Documents of a file, the first that a step is given: if it fails on all of these, it is the step that is wrong."""
NO_TEXT = "no text"
"""Why a document is dropped whose row has no text: readers of datatrove hand on none, and steps expect some."""

REFUSED = {
    "READER": "it reads files, and the source of a recipe does that",
    "WRITER": "it writes files of its own; `fox1 dump` writes documents with what is known of them",
    "DEDUP": "it compares all documents of a run; the recipe's `dedupe` does that",
    "STATS": "it writes files of its own; `fox1 stats` counts",
    "TOKENIZER": "it makes tokens of texts; the recipe's `tokenizer` does that",
    "DECONT": "it reads an index of its own; the recipe's `contamination` does that",
}
"""Words in the `type` of steps that cannot stand before the scan, and why."""
OF_FILTERS = {
    "exclusion_writer": "`fox1 dump --reason` with the step's name writes what it drops",
    "batch_size": f"filters are given {BATCH} documents at a time",
}
OF_EXTRACTORS = {"timeout": "a page is given the time it takes, so that no text depends on the machine"}
"""Arguments that would do nothing, and why."""
_OWN_STEPS = f"{__package__.partition('.')[0]}.datatrove."
"""Modules of the steps for datatrove in fox1 itself begin so."""


class Document(Protocol):
    """What steps are given: datatrove's `Document`."""

    text: str
    id: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class StepSettings:
    """A step of a datatrove pipeline between reader and scan: an extractor, a formatter or a filter."""

    name: Annotated[str, Derived()]
    target: str
    """A class of a step: its dotted path, e.g. datatrove.pipeline.extractors.Trafilatura, or `FILE.py:NAME`, beside the recipe."""
    arguments: Arguments = "{}"
    """Arguments of the class."""
    sources: tuple[str, ...] = ()
    """Corpora whose documents it is given; empty: all."""
    version: Annotated[str, Derived()] = ""
    """What changes when the step's code changes; filled by `with_version` when a run is planned."""

    def identity(self) -> object:
        """What it leaves of a document depends on: the code, by `version`, not the folder that a file of it lies in."""
        by_file = split_target(self.target)
        return [self.name, by_file[1] if by_file else self.target, self.arguments, self.version]

    def serves(self, corpus: str) -> bool:
        """Whether documents of a corpus are given to it."""
        return not self.sources or corpus in self.sources


def with_version(settings: StepSettings) -> StepSettings:
    """The settings with a hash of the code that they name, and the versions of the packages that it says it needs.

    Raises:
        ValueError: it cannot be imported; names the step.
    """
    try:
        version, target = code_version(settings.target), import_target(settings.target, settings.version)
    except (ImportError, ValueError) as error:
        raise ValueError(f"before_scan.{settings.name}: {error}") from None
    return replace(settings, version=" ".join([version, *_needs(target)]))


def _needs(target: Any) -> Iterator[str]:
    """The packages, with their versions, that a step of datatrove declares."""
    declared = [need for cls in getattr(target, "__mro__", ()) for need in vars(cls).get("_requires_dependencies", ())]
    for package in sorted({need if isinstance(need, str) else need[1] for need in declared}):
        with suppress(importlib.metadata.PackageNotFoundError):
            yield f"{package}={importlib.metadata.version(package)}"


@dataclass
class StepCounts:
    """What a step did with the documents that it was given."""

    given: int = 0
    changed: int = 0
    """Documents that it handed on with another text."""
    failed: int = 0
    """Documents on which it failed: their rows are in quarantine."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason; the empty one is of those that it dropped without a word."""


@dataclass
class Treated:
    """A document on its way through the steps."""

    row: int
    document: Document
    dropped_by: str = ""
    why: str = ""
    failed: str = ""
    """Why its row goes to quarantine; empty: it does not."""

    @property
    def is_left(self) -> bool:
        """Whether the next step is given it."""
        return not (self.dropped_by or self.failed)


class StepFailed(ValueError):
    """A step cannot be used: what is wrong is the step, not a document."""


class Steps:
    """The steps of a corpus, made for one file."""

    def __init__(self, settings: Sequence[StepSettings], file: str) -> None:
        """
        Args:
            file: its name, for messages.

        Raises:
            ValueError: one cannot be imported or made; names it.
        """
        self._steps = load_steps(settings)
        self._file = file
        self.counts = {each.name: StepCounts() for each in settings}

    def treat(self, documents: Sequence[Treated]) -> None:
        """Give documents, in their order, to one step after the other.

        Raises:
            ValueError: a step gave something that belongs to no document, or fails on all; names step, file and row.
            OSError: a step could not read or write what it needs; the task may be tried again.
        """
        for number, step in enumerate(self._steps):
            counts = self.counts[step.name]
            for batch in _batches(each for each in documents if each.is_left):
                counts.given += len(batch)
                if not number:
                    for each in batch:
                        if not each.document.text:
                            each.dropped_by, each.why = step.name, NO_TEXT
                batch = [each for each in batch if each.is_left]
                if batch:
                    step.treat(batch, self._file)
                if counts.failed + sum(bool(each.failed) for each in batch) == counts.given >= FAILS_ON_ALL:
                    raise StepFailed(
                        f"before_scan.{step.name} failed on each of the first {counts.given} documents of {self._file}: "
                        f"{batch[0].failed}"
                    )
                counts.failed += sum(bool(each.failed) for each in batch)
        for each in documents:
            if each.dropped_by:
                self.counts[each.dropped_by].dropped[each.why] += 1
        for step in self._steps:
            self.counts[step.name].changed += step.take_changed()


def _batches(documents: Iterable[Treated]) -> Iterator[list[Treated]]:
    """Documents in lists of at most `BATCH`, and of little more than `BATCH_CHARACTERS` of text."""
    batch, characters = list[Treated](), 0
    for each in documents:
        batch.append(each)
        characters += len(each.document.text)
        if len(batch) == BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


Verdicts = list[str | None]
"""Of each document of a batch why it is dropped, an empty text without a word; None: it is handed on."""


class LoadedStep:
    """A step with what calls it."""

    def __init__(self, name: str, judge: Callable[[list[Any]], Verdicts]) -> None:
        """
        Args:
            judge: takes documents, changes those that it hands on, and says which it drops.
        """
        self.name = name
        self._judge = judge
        self._changed = 0

    def take_changed(self) -> int:
        """How many documents were handed on with another text since the last call."""
        changed, self._changed = self._changed, 0
        return changed

    def treat(self, batch: Sequence[Treated], file: str) -> None:
        """Give it documents; one on which it fails alone is marked so.

        Raises:
            ValueError, OSError: as `Steps.treat`.
        """
        before = [(each.document.text, dict(each.document.metadata), each.document.id) for each in batch]
        try:
            verdicts = self._call(batch, file)
        except _FATAL:
            raise
        except Exception as error:
            if len(batch) == 1:
                batch[0].failed = self._said(error)
                return
            # One of them; the others are not lost with it.
            for each, was in zip(batch, before, strict=True):
                each.document.text, each.document.metadata, each.document.id = was
                self.treat([each], file)
            return
        for each, verdict, (text, _, _) in zip(batch, verdicts, before, strict=True):
            after = each.document.text
            if verdict is not None:
                # As the step was given it, which is what a writer of dropped documents would show.
                each.document.text = text
                each.dropped_by, each.why = self.name, printable(verdict)[:REASON_CHARS]
            elif wrong := _wrong_text(after):
                each.failed = f"before_scan.{self.name} left {wrong}"
            else:
                self._changed += after != text

    def _call(self, batch: Sequence[Treated], file: str) -> Verdicts:
        try:
            return self._judge([each.document for each in batch])
        except _ManyDocuments as error:
            row = batch[error.place].row if error.place >= 0 else batch[0].row
            raise StepFailed(
                f"before_scan.{self.name} handed on {error} for row {row} of {file}: a row is one document, so split rows "
                "before fox1 reads them"
            ) from None
        except ImportError as error:
            raise StepFailed(f"before_scan.{self.name} failed: {first_line(error)}") from None
        except OSError as error:
            # What is not there is not tried again.
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
            raise kind(f"before_scan.{self.name} failed on {file}: {first_line(error)}") from error

    def _said(self, error: Exception) -> str:
        return printable(f"before_scan.{self.name} failed: {type(error).__name__}: {first_line(error)}")


_FATAL = (StepFailed, OSError, MemoryError)
"""What is wrong with a step or the machine, not with a document."""


class _ManyDocuments(Exception):
    """A step handed on what is none of the documents that it was given, or one of them twice."""

    def __init__(self, what: str, place: int) -> None:
        """
        Args:
            place: among those given; -1: unknown.
        """
        super().__init__(what)
        self.place = place


def _wrong_text(text: object) -> str:
    """Why something cannot be the text of a document; empty if it can."""
    if not isinstance(text, str):
        return f"a {type(text).__name__}, not a text"
    try:
        return "a text with a NUL character" if b"\0" in text.encode() else ""
    except UnicodeEncodeError:
        return "a text with half a surrogate pair"


def load_steps(settings: Sequence[StepSettings]) -> list[LoadedStep]:
    """Import and make steps.

    Raises:
        ValueError: one cannot be imported or made, or is none; names it, and the argument that is wrong.
    """
    return [_load(each) for each in settings]


def _load(settings: StepSettings) -> LoadedStep:
    try:
        target = import_target(settings.target, settings.version.partition(" ")[0])
        _check(target, json.loads(settings.arguments))
        made = _made_once(settings) if _remembers_nothing(target) else _make(settings)
    except Exception as error:  # code of others fails in ways of its own
        kind = "" if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: "
        raise StepFailed(
            f"before_scan.{settings.name}: {settings.target} cannot be used ({kind}{first_line(error)}); correct `target` or "
            "`arguments`"
        ) from None
    return LoadedStep(settings.name, _judge_of(made))


def _make(settings: StepSettings) -> Any:
    target = import_target(settings.target, settings.version.partition(" ")[0])
    return target(**json.loads(settings.arguments))


@functools.lru_cache(maxsize=32)
def _made_once(settings: StepSettings) -> Any:
    """A step that a worker keeps: its lists and models can take longer to load than a file to read."""
    return _make(settings)


def _remembers_nothing(target: Any) -> bool:
    """Whether a step's verdict on a document depends on no other document: of datatrove's filters all but those that draw."""
    from datatrove.pipeline.filters.base_filter import BaseFilter

    of_datatrove = target.__module__.startswith(("datatrove.", _OWN_STEPS))
    return of_datatrove and issubclass(target, BaseFilter) and "seed" not in _parameters(target)[0]


def _check(target: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what is no step, what cannot stand before the scan, and arguments that it does not take.

    Raises:
        ValueError: says what is wrong.
    """
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.extractors.base import BaseExtractor
    from datatrove.pipeline.filters.base_filter import BaseFilter

    if not (inspect.isclass(target) and issubclass(target, PipelineStep)):
        raise ValueError("it is no class of a datatrove step; a function `(text, row)` belongs in `plugins`")
    kind = str(getattr(target, "type", ""))
    if why := next((why for word, why in REFUSED.items() if word in kind.upper()), ""):
        raise ValueError(why)
    parameters, open_ended = _parameters(target)
    for name in arguments:
        if name not in parameters and not open_ended:
            close = difflib.get_close_matches(name, list(parameters), 1)
            meant = f"did you mean `{close[0]}`?" if close else f"it takes {', '.join(parameters) or 'none'}"
            raise ValueError(f"it has no argument `{name}`; {meant}")
    for base, refused in ((BaseFilter, OF_FILTERS), (BaseExtractor, OF_EXTRACTORS)):
        if issubclass(target, base) and (name := next((name for name in refused if name in arguments), "")):
            raise ValueError(f"leave out the argument `{name}`: {refused[name]}")
    seed = parameters.get("seed")
    if seed is not None and seed.default is None and arguments.get("seed") is None:
        raise ValueError("give it a `seed`: without one every run draws other documents")


def _parameters(target: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """What a step's class takes, and whether it may take more than that."""
    found = dict(inspect.signature(target).parameters)
    further: list[Any] = []
    if target.__module__.startswith(_OWN_STEPS):
        # Those of datatrove, which they hand on.
        further = [base for base in target.__mro__[1:] if base.__module__.startswith("datatrove.pipeline.filters")]
    elif _is_trafilatura(target):
        # Where it is missing, the step itself says so.
        with suppress(ImportError):
            from trafilatura import extract

            further = [extract]
    for function in further:
        found |= {n: p for n, p in inspect.signature(function).parameters.items() if n not in found}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in found.values()) and not further
    named = {n: p for n, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return named, open_ended


def _is_trafilatura(target: type) -> bool:
    return any(cls.__module__ == "datatrove.pipeline.extractors.trafilatura" for cls in target.__mro__)


def _judge_of(step: Any) -> Callable[[list[Any]], Verdicts]:
    """How documents are given to a step."""
    from datatrove.pipeline.extractors.base import BaseExtractor
    from datatrove.pipeline.filters.base_filter import BaseFilter

    run = type(step).run
    if isinstance(step, BaseFilter) and run.__qualname__ in ("BaseFilter.run", "BatchedFilter.run"):
        return functools.partial(_filter, step)
    if isinstance(step, BaseExtractor) and run is BaseExtractor.run:
        return functools.partial(_extract, step)
    return functools.partial(_run, step)


def _filter(step: Any, documents: list[Any]) -> Verdicts:
    from datatrove.pipeline.filters.base_filter import get_filter_result

    results = [get_filter_result(result) for result in step.filter_batch(documents)]
    return [None if kept else str(reason or "") for (kept, reason), _ in zip(results, documents, strict=True)]


def _extract(step: Any, documents: list[Any]) -> Verdicts:
    """The step's own `run` would stop at a time limit, and in a process that remembers the pages before."""
    forget = _memory_of(step)
    verdicts: Verdicts = []
    for document in documents:
        forget()
        found = step.extract(document.text)
        document.text = found or ""
        verdicts.append(None if found else NO_TEXT)
    return verdicts


def _memory_of(step: Any) -> Callable[[], object]:
    """What makes an extractor forget the pages before: Trafilatura cuts a paragraph that it has met too often in any of them."""
    if not (_is_trafilatura(type(step)) and step.deduplicate):
        return lambda: None
    from trafilatura import deduplication

    return deduplication.LRU_TEST.clear


def _run(step: Any, documents: list[Any]) -> Verdicts:
    """Any step, over a batch. It may hand on the documents themselves, or others with their ids."""
    verdicts: Verdicts = [""] * len(documents)
    places = {id(document): place for place, document in enumerate(documents)}
    ids = Counter(document.id for document in documents)
    by_id = {document.id: place for place, document in enumerate(documents) if ids[document.id] == 1}
    for found in step.run(iter(documents), 0, 1) or ():
        place = places.get(id(found), by_id.get(getattr(found, "id", None), -1))
        if place < 0:
            raise _ManyDocuments("a document that it was not given", -1)
        if verdicts[place] is None:
            raise _ManyDocuments("more than one document", place)
        verdicts[place] = None
        own = documents[place]
        if found is not own:
            own.text, own.metadata = found.text, found.metadata
    for place, document in enumerate(documents):
        if verdicts[place] is not None and (reason := document.metadata.get("filter_reason")):
            verdicts[place] = str(reason)
    return verdicts

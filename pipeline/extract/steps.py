"""Steps of `before_scan` over the documents of a file: each gets them in their order, at most `BATCH` at a time.

What a step leaves in `text` is taken over; `id` and `metadata` are seen by the steps after it and by nothing else. A document on
which it fails takes no other with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...storage.wording import first_line, printable
from ..run.artifacts import merge_counts
from .calls import BATCH, NO_TEXT, ManyDocuments, Verdicts, made
from .settings import StepSettings

BATCH_CHARACTERS = 1 << 20
"""About how many characters a step is given at once."""
REASON_CHARS = 200
FAILS_ON_ALL = 64
"""Documents of a file, the first that a step is given: if it fails on all of these, it is the step that is wrong."""


class Document(Protocol):
    """What steps are given: datatrove's `Document`."""

    text: str
    id: str
    metadata: dict[str, Any]


@dataclass
class StepCounts:
    """What a step did with the documents that it was given."""

    given: int = 0
    changed: int = 0
    """Documents that it handed on with another text."""
    failed: int = 0
    """Documents on which it failed: their rows are in quarantine."""
    dropped: dict[str, int] = field(default_factory=dict)
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
                merge_counts(self.counts[each.dropped_by].dropped, {each.why: 1})
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
        except ManyDocuments as error:
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
        return LoadedStep(settings.name, made(settings))
    except Exception as error:  # code of others fails in ways of its own
        kind = "" if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: "
        raise StepFailed(
            f"before_scan.{settings.name}: {settings.target} cannot be used ({kind}{first_line(error)}); correct `target` or "
            "`arguments`"
        ) from None

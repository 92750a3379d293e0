"""How steps of datatrove's pipelines are made and called; what can be none is refused by name.

    filter       `filter_batch` drops a document with its reason, and may change the text of those it keeps
    extractor    `extract` makes the text; a document that it finds none in is dropped
    any other    `run` over a batch: formatters, and steps of one's own; what it does not hand on is dropped

What a run stores must not depend on the machine or on what a worker did before. So each task makes its own steps, except
filters that remember nothing; extractors have no time limit; and what Trafilatura cuts as a repetition is what the page itself
repeats.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..signals.plugin_files import import_target
from .settings import StepSettings

BATCH = 256
"""Documents that a step is given at once, at most."""
NO_TEXT = "no text"
"""Why a document is dropped that has no text: an extractor finds none, or its row has none. Readers of datatrove hand on no such
row, and steps expect some text."""

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

Verdicts = list[str | None]
"""Of each document of a batch why it is dropped, an empty text without a word; None: it is handed on."""


class ManyDocuments(Exception):
    """A step handed on what is none of the documents that it was given, or one of them twice."""

    def __init__(self, what: str, place: int) -> None:
        """
        Args:
            place: among those given; -1: unknown.
        """
        super().__init__(what)
        self.place = place


def made(settings: StepSettings) -> Callable[[list[Any]], Verdicts]:
    """What gives documents to a step: it changes those that are handed on, and says which are dropped.

    Raises:
        Exception: the step cannot be imported or made, or is none; its message says what is wrong.
    """
    target = import_target(settings.target, settings.version.partition(" ")[0])
    _check(target, json.loads(settings.arguments))
    return _judge_of(_made_once(settings) if _remembers_nothing(target) else _make(settings))


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
            raise ManyDocuments("a document that it was not given", -1)
        if verdicts[place] is None:
            raise ManyDocuments("more than one document", place)
        verdicts[place] = None
        own = documents[place]
        if found is not own:
            own.text, own.metadata = found.text, found.metadata
    for place, document in enumerate(documents):
        if verdicts[place] is not None and (reason := document.metadata.get("filter_reason")):
            verdicts[place] = str(reason)
    return verdicts

"""Plug-ins: filters of other makers that judge documents during scan; their verdicts are columns of `signals/`.

A plug-in is a datatrove filter class (`datatrove.pipeline.filters.X`, with its arguments), a datatrove formatter class, or any
function `(text, row) -> bool | str`: True or an empty string keeps the document, False or a reason rejects it. All see the
edited text, one Python call per document: they are the slow part of a scan that has any.

What a datatrove class changes in a document that it keeps (C4QualityFilter cuts lines, formatters are made for nothing else)
becomes edits, and the plug-ins after it see the changed text, as the steps of a datatrove pipeline do.

The recipe names it by a dotted path of an installed package, or by a file beside the recipe (`shouting.py:calm`), which
`plugin_files.py` loads.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa

from ...storage.fields import Arguments, Derived
from ..run.schemas import EDIT_TYPE
from ..sources.domains import Domain
from ..sources.extracted import DROPPED_BY
from ..text.differences import differences, upon
from ..text.edits import PLUGIN
from .plugin_files import code_version, import_target, split_target

Row = Mapping[str, Any]


class Judged(NamedTuple):
    """What a plug-in says of a document."""

    verdict: Any
    text: Any
    """The document's text afterwards."""


@dataclass(frozen=True)
class PluginSettings:
    """A datatrove filter or formatter class or a function (text, row) -> bool | reason; one Python call per document: slow."""

    name: Annotated[str, Derived()]
    target: str
    """A function or a datatrove filter or formatter class: its dotted path, e.g. datatrove.pipeline.filters.RegexFilter, or
    `FILE.py:NAME`, beside the recipe."""
    arguments: Arguments = "{}"
    """Arguments of the class; of a function, keyword arguments after text and row."""
    domains: tuple[Domain, ...] = ()
    """Judge only documents of these domains; empty: of all."""
    drop: bool = True
    """Drop the documents that it rejects; false: its verdicts are stored, and no scan is needed to drop by them later."""
    version: Annotated[str, Derived()] = ""
    """What changes when the plug-in's code changes; filled by `with_version` when a run is planned."""

    def identity(self) -> object:
        """What its verdicts depend on: the code, by `version`, not the folder that a file of it lies in."""
        by_file = split_target(self.target)
        return [self.name, by_file[1] if by_file else self.target, self.arguments, self.domains, self.version]

    @property
    def column(self) -> str:
        return f"plugin_{self.name}"


@dataclass(frozen=True)
class Plugin:
    """A loaded plug-in."""

    settings: PluginSettings
    call: Callable[[str, Row], Judged]

    @property
    def column(self) -> str:
        return self.settings.column

    def judges(self, domain: str) -> bool:
        return not self.settings.domains or domain in self.settings.domains

    def judge(self, text: str, row: Row) -> tuple[str, str]:
        """(empty to keep the document, or why it is rejected; its text, as the plug-in leaves it if it keeps it).

        Raises:
            ValueError: the plug-in failed, or returned something else; the message names plug-in and row.
        """
        name = self.settings.name
        try:
            result, changed = self.call(text, row)
        except Exception as error:
            raise ValueError(f"plug-in {name} failed on row {row['row']}: {type(error).__name__}: {error}") from error
        if isinstance(result, tuple) and len(result) == 2:
            # Rejected without a word is rejected all the same.
            result = True if result[0] else str(result[1]) or False
        if not isinstance(result, bool | str):
            raise ValueError(
                f"plug-in {name} returned {type(result).__name__} on row {row['row']}, not a bool or a reason"
            )
        if not isinstance(changed, str) or not _is_plain(changed):
            raise ValueError(f"plug-in {name} left something else than text without NUL in row {row['row']}")
        reason = result if isinstance(result, str) else "" if result else name
        return reason, text if reason else changed


def _is_plain(text: str) -> bool:
    """Whether a text is one that a source may give."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def judge_batch(
    plugins: Sequence[Plugin],
    text: pa.LargeStringArray,
    edits: pa.ListArray,
    batch: pa.RecordBatch,
    domains: Sequence[str],
    codes: np.ndarray,
) -> tuple[dict[str, pa.Array], pa.ListArray]:
    """The verdicts of plug-ins, by the names of their columns, and the edits with those of the plug-ins.

    One Python call per document and plug-in: the slow part of a scan that has any.

    Args:
        text: edited documents [n].
        edits: `EDIT_TYPE` [n] that made them.
        batch: their rows, of `TEXT_SCHEMA`.
        domains: of the batch.
        codes: [n] into `domains`.

    Raises:
        ValueError: as `Plugin.judge`.
    """
    verdicts = [[""] * len(text) for _ in plugins]
    changed: dict[int, list[dict[str, Any]]] = {}
    judges = np.array([[plugin.judges(d) for d in domains] for plugin in plugins])[:, codes]
    if DROPPED_BY in batch.schema.names:
        # What a step of `before_scan` dropped is judged by nobody else: it may be no text yet.
        judges &= batch.column(DROPPED_BY).to_numpy(zero_copy_only=False) == ""
    for i in np.flatnonzero(judges.any(axis=0)).tolist():
        row = {name: batch.column(name)[i].as_py() for name in ("row", "subset", "native_id", "url")}
        row["domain"] = domains[codes[i]]
        now = text[i].as_py()
        for plugin, own, judged in zip(plugins, verdicts, judges[:, i], strict=True):
            if not judged:
                continue
            own[i], after = plugin.judge(now, row)
            if after != now:
                before = changed.get(i) or edits[i].as_py()
                changed[i] = upon(before, differences(now, after), now.encode(), PLUGIN)
                now = after
    columns = {p.column: pa.array(own, pa.string()) for p, own in zip(plugins, verdicts, strict=True)}
    if not changed:
        return columns, edits
    order = np.arange(len(text))
    order[list(changed)] = len(text) + np.arange(len(changed))
    both = pa.concat_arrays([edits, pa.array(list(changed.values()), EDIT_TYPE)])
    return columns, both.take(pa.array(order))


def load_plugins(settings: Sequence[PluginSettings]) -> tuple[Plugin, ...]:
    """Import plug-ins.

    Raises:
        ValueError: one cannot be imported or made; the message names it.
    """
    return tuple(Plugin(s, _load(s)) for s in settings)


def with_version(settings: PluginSettings) -> PluginSettings:
    """The settings with a hash of the code they name: a task's key changes with it."""
    try:
        return replace(settings, version=code_version(settings.target))
    except ImportError as error:
        raise ValueError(f"plug-in {settings.name}: {error}") from None


def _resolve(settings: PluginSettings) -> Any:
    """The function or class that a plug-in names.

    Raises:
        ValueError: it cannot be imported; names plug-in and target.
    """
    try:
        return import_target(settings.target, settings.version)
    except ImportError as error:
        raise ValueError(f"plug-in {settings.name}: {error}") from None


def _load(settings: PluginSettings) -> Callable[[str, Row], Judged]:
    target, arguments = _resolve(settings), json.loads(settings.arguments)
    if not inspect.isclass(target):
        return lambda text, row: Judged(target(text, row, **arguments), text)
    try:
        step = target(**arguments)
    except Exception as error:
        raise ValueError(f"plug-in {settings.name}: {settings.target}: {type(error).__name__}: {error}") from None
    if not hasattr(step, "filter") and callable(reformat := getattr(step, "format", None)):
        return lambda text, row: Judged(True, reformat(text))
    if not hasattr(step, "filter"):
        raise ValueError(
            f"plug-in {settings.name}: {settings.target} is no datatrove filter or formatter: it has no method `filter` or "
            "`format`"
        )
    from datatrove.data import Document

    def call(text: str, row: Row) -> Judged:
        document = Document(text=text, id=str(row["row"]), metadata=dict(row))
        verdict = step.filter(document)
        return Judged(verdict, document.text)

    return call

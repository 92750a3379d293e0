"""The filter stage: thresholds over the stored signals. No text is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.engine import Engine
from ..engine.tasks import MOST_EQUAL, Task, portions
from ..run.identity import Group
from ..signals.scan import FileSignals
from .exclude import PreparedExclude, load_excluded
from .judge import FilteredGroup, FilterSettings, filter_groups
from .rules import RuleCounts, sum_rules
from .scores import Joined

VERSION = 7
TASK_TEXT = 64 << 20
"""Bytes of text whose signals one task judges at least, if there are as many: half a second."""
OPENING = 256 << 10
"""Bytes of signals that are judged in the time that another file of a store takes, whose footer was fetched ahead."""


@dataclass(frozen=True)
class Filtered:
    """What the filters say of every group."""

    groups: Mapping[str, FilteredGroup]
    """By name of the group."""
    rules: RuleCounts
    """`stats/filter.json`: how many documents failed each rule, failed it alone, and failed pairs of rules."""
    exclude: dict[str, Any]
    """`stats/exclude.json`: what the exclude lists named; empty without any."""
    scores: Joined = field(default_factory=Joined)
    """Scores of others, and qualities that such scores are."""

    @property
    def notes(self) -> list[str]:
        """What the recipe asked for and the data could not give."""
        missed = self.exclude.get("without_document")
        if not missed:
            return self.scores.notes
        return [
            *self.scores.notes,
            f"exclude: {len(missed):,} of {self.exclude['entries']:,} entries name no document of this run, "
            f"e.g. {missed[0]}",
        ]


def filter_documents(
    engine: Engine,
    groups: Sequence[Group],
    signals: Mapping[str, FileSignals],
    settings: FilterSettings,
    exclude: PreparedExclude | None,
    joined: Joined | None = None,
) -> Filtered:
    """Judge every document.

    Args:
        signals: by `SourceFile.table`.
        exclude: the documents to take out on request, whatever the thresholds say.
        joined: scores beside the signals.
    """
    listed = exclude.file if exclude else None

    def work(group: Group) -> int:
        return sum(signals[f.table].signals.bytes + OPENING for f in group.files)

    together = portions(groups, _text, sum(map(_text, groups)), MOST_EQUAL, TASK_TEXT, work)
    scores = joined or Joined()
    beside = [[[scores.files.get(f.table) for f in g.files] for g in some] for some in together]
    tasks = [
        Task(
            some[0].name,
            filter_groups,
            (some, [[signals[f.table].signals for f in g.files] for g in some], own, settings, listed, engine.paths),
            weight=sum(map(_text, some)),
        )
        for some, own in zip(together, beside, strict=True)
    ]
    counted = engine.run("filter", VERSION, tasks)
    results = [result for of_some in counted for result in of_some.groups]
    found: dict[str, Any] = {}
    if listed:
        entries = load_excluded(listed).entries
        named = {i for result in results for i in result.entries}
        found = {
            "entries": len(entries),
            "without_document": [entry for i, entry in enumerate(entries) if i not in named],
        }
    rules = sum_rules(engine, VERSION, [of_some.rules for of_some in counted])
    return Filtered({g.name: result for g, result in zip(groups, results, strict=True)}, rules, found, scores)


def _text(group: Group) -> int:
    return max(group.text, 1)

"""The steps of passages, at the end of dedupe.

    passages -> passage_repeats             lines, paragraphs, sentences; anchors of runs
    passage_runs -> passage_run_repeats     substrings
    passage_edits                           `cuts/` and `decisions/`

The text is read once more, and for substrings twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..dedupe.order import Chunks, DedupeSettings, Plan, ranks
from ..dedupe.stage import BASE_MEMORY, MIN_MEMORY, Decided
from ..dedupe.steps import Result, Steps
from ..engine.engine import Engine
from ..engine.tasks import Task, portions
from ..engine.two_level import Partitioned
from ..filter.judge import Verdicts
from ..run.artifacts import Artifact, content_key, remove
from ..run.identity import FileTable, Group, read_together
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile
from . import VERSION, find
from .cut import CutChunk, HeldOutCuts, KindCuts, Tally, cut_passages_of
from .find import CUTS, MARKS, PASSAGES
from .layout import MOST_CHUNKS, Search, least_chunk, searches
from .settings import KINDS, REASON, PassageSettings


@dataclass(frozen=True)
class WithoutRepeats:
    """What dedupe decided, after passages were cut."""

    decided: Decided
    cuts: Mapping[str, Artifact]
    """`CUT_SCHEMA`, by `SourceFile.table`."""


def cut_passages(
    engine: Engine,
    groups: Sequence[Group],
    files: Mapping[str, DecidedFile],
    settings: PassageSettings,
    order: DedupeSettings,
    decided: Decided,
) -> WithoutRepeats:
    """Cut the passages of kept documents that stand in better ones.

    Args:
        files: by `SourceFile.table`, with the decisions on whole documents.
        order: says which documents are better.
        decided: by these decisions.

    Raises:
        ValueError: a source file changed since it was scanned.
    """
    together = read_together(groups)
    number = {group.name: i for i, group in enumerate(groups)}
    sizes = [max(1, sum(g.text for g in some)) for some in together]
    parts = portions(range(len(together)), sizes.__getitem__, sum(sizes), MOST_CHUNKS, least_chunk(sum(sizes)))
    members = tuple(tuple(number[g.name] for i in part for g in together[i]) for part in parts)
    layout = content_key([[groups[i].name for i in chunk] for chunk in members])
    stored = Chunks(members, FileTable.build(groups)).store(engine.paths.lists(f"chunks-{layout}"))
    plan = Plan(
        order,
        stored,
        ranks(order, [g.corpus for g in groups]),
        (),
        max(MIN_MEMORY, (engine.memory - BASE_MEMORY) // 2),
        layout,
    )
    chunks = [_Chunk.of([groups[i] for i in chunk], files) for chunk in members]
    try:
        steps = _PassageSteps(engine, [[] for _ in chunks], plan, 0, chunks, settings, sum(decided.kept_bytes.values()))
        return _after(decided, steps.run())
    finally:
        remove(stored.path)


@dataclass(frozen=True)
class _Chunk:
    """File groups that one task handles."""

    groups: list[Group]
    files: list[DecidedFile]

    @classmethod
    def of(cls, groups: list[Group], files: Mapping[str, DecidedFile]) -> _Chunk:
        return cls(groups, [files[f.table] for g in groups for f in g.files])

    @property
    def text(self) -> int:
        return max(1, sum(g.text for g in self.groups))

    @property
    def compared(self) -> bool:
        """Whether it holds more than conversations."""
        return any(g.format != CHAT for g in self.groups)


@dataclass
class _PassageSteps(Steps):
    """The steps, in order."""

    chunks: list[_Chunk]
    settings: PassageSettings
    text: int
    """Bytes of the documents that are kept."""

    def run(self) -> list[CutChunk]:
        layout = searches(self.settings, self.text, len(self.chunks))
        every: dict[int, tuple[Any, ...]] = dict.fromkeys(range(len(self.chunks)), ())
        found = [self.search("passage", find.shuffle_passages, every, layout["passage"])]
        if "substrings" in self.settings.cut:
            marked = {i: (found[0].marks.of(i),) for i in range(len(self.chunks))}
            found.append(self.search("passage_run", find.shuffle_runs, marked, layout["passage_run"]))
        cuts = [f.cuts for f in found]
        return self.each(
            "passage_edits",
            cut_passages_of,
            {
                i: (c.groups, c.files, tuple(of.of(i) for of in cuts), self.settings.min_left, self.engine.paths)
                for i, c in enumerate(self.chunks)
            },
        )

    def search(
        self, name: str, run: Callable[..., find.Shuffled], given: Mapping[int, tuple[Any, ...]], layout: Search
    ) -> _Found:
        """Passages by hash, and what becomes of those that repeat, by chunk.

        Args:
            run: finds the passages of a chunk; `given` are further arguments, for chunks that hold any.
        """
        reading = {i: c for i, c in enumerate(self.chunks) if c.compared}
        mapped = self.each(
            f"{name}s",
            run,
            {i: (c.groups, c.files, *given[i], self.settings.of_search, layout.levels) for i, c in reading.items()},
        )
        passages = self.together(f"{name}s_together", (m.files for m in mapped), layout.levels, PASSAGES)
        repeats = self.each(
            f"{name}_repeats",
            find.find_repeats,
            {p: (passages.of(p), layout.to_chunks) for p in range(layout.partitions)},
        )
        return _Found(
            self.together(f"{name}_cuts", (r.cuts for r in repeats), layout.to_chunks, CUTS),
            self.together(f"{name}_marks", (r.marks for r in repeats), layout.to_chunks, MARKS),
        )

    def each(self, name: str, run: Callable[..., Result], arguments: Mapping[int, tuple[Any, ...]]) -> list[Result]:
        """Run a task for each number; one of a chunk weighs as much as its text."""
        paths, of_chunk = self.engine.paths, run is not find.find_repeats
        tasks = [
            Task(
                f"{i:05d}",
                run,
                (*given, self.plan, paths.dedupe(f"{name}/{i:05d}")),
                weight=self.chunks[i].text if of_chunk else 1,
                memory=self.engine.memory,
            )
            for i, given in arguments.items()
        ]
        return self.engine.run(f"dedupe.{name}", VERSION, tasks)


@dataclass(frozen=True)
class _Found:
    """What a search for passages says of documents, by chunk."""

    cuts: Partitioned
    """`CUT`."""
    marks: Partitioned
    """`MARK`."""


def _after(decided: Decided, chunks: Sequence[CutChunk]) -> WithoutRepeats:
    """What was decided, with what the cut passages change of it."""
    verdicts, kept_bytes = Verdicts(decided.verdicts), dict(decided.kept_bytes)
    subsets: dict[str, Tally] = {}
    for of in (s for chunk in chunks for s in chunk.subsets):
        verdicts[of.corpus, of.subset, ""] -= of.tally.dropped
        verdicts[of.corpus, of.subset, REASON] += of.tally.dropped
        name = f"{of.corpus}/{of.subset}"
        kept_bytes[name] -= of.tally.lost_bytes
        subsets[name] = subsets.get(name, Tally()) + of.tally
    kinds = {
        kind: asdict(KindCuts(sum(c.kinds[i].passages for c in chunks), sum(c.kinds[i].bytes for c in chunks)))
        for i, kind in enumerate(KINDS)
    }
    figures = {
        "kinds": {kind: counts for kind, counts in kinds.items() if counts["passages"]},
        "subsets": {name: asdict(subsets[name]) for name in sorted(subsets)},
        "of_held_out": asdict(
            HeldOutCuts(*(sum(getattr(c.of_held_out, f.name) for c in chunks) for f in fields(HeldOutCuts)))
        ),
    }
    changed = replace(
        decided,
        decisions={name: artifact for chunk in chunks for name, artifact in chunk.decisions.items()},
        verdicts=verdicts,
        kept_bytes=kept_bytes,
        figures={**decided.figures, "kept_bytes": dict(sorted(kept_bytes.items())), "passages": figures},
    )
    return WithoutRepeats(changed, {name: artifact for chunk in chunks for name, artifact in chunk.cuts.items()})

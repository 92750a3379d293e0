"""The ledger: documents in = kept + dropped by reason + quarantined, for every corpus and stage; then `stats/*.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..filter.judge import FilteredGroup, Verdict, Verdicts
from ..run.artifacts import merge_counts
from ..run.identity import Group, SourceFile
from ..signals.scan import FileSignals


@dataclass
class CorpusFunnel:
    """What became of one corpus's rows (its held-out part apart)."""

    corpus: str
    held_out: bool
    files: int = 0
    rows: int = 0
    """Readable and quarantined."""
    bytes: int = 0
    quarantined: int = 0
    damaged: list[str] = field(default_factory=list)
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    subsets: dict[str, dict[str, int]] = field(default_factory=dict)
    """Subset -> reason (empty: kept) -> documents."""

    def check(self, stage: str) -> None:
        """Raise ValueError unless the counts balance."""
        out = self.kept + sum(self.dropped.values()) + self.quarantined
        if out != self.rows:
            name = f"{self.corpus}{' (held out)' if self.held_out else ''}"
            raise ValueError(
                f"accounting of {stage} does not balance for {name}: {self.rows} in, {self.kept} kept + "
                f"{sum(self.dropped.values())} dropped + {self.quarantined} quarantined; please report this"
            )

    def judged(self, stage: str, verdicts: Iterable[Verdict]) -> None:
        """Take over the verdicts of a stage on the corpus's documents, and check the balance."""
        self.kept, self.dropped, self.subsets = 0, {}, {}
        for v in verdicts:
            merge_counts(self.subsets.setdefault(v.subset, {}), {v.reason: v.documents})
            if v.reason:
                merge_counts(self.dropped, {v.reason: v.documents})
            else:
                self.kept += v.documents
        self.check(stage)


def scan_funnels(files: Sequence[SourceFile], signals: Mapping[str, FileSignals]) -> list[CorpusFunnel]:
    """One funnel per corpus (and per held-out part) from what scan counted. `signals`: by file name."""
    funnels: dict[tuple[str, bool], CorpusFunnel] = {}
    for file in files:
        scanned = signals[file.name]
        funnel = funnels.setdefault((file.corpus, file.held_out), CorpusFunnel(file.corpus, file.held_out))
        funnel.files += 1
        funnel.rows += scanned.documents + scanned.quarantined
        funnel.bytes += scanned.bytes
        funnel.quarantined += scanned.quarantined
        if scanned.damage:
            funnel.damaged.append(f"{file.name}: {scanned.damage}")
    return [funnels[k] for k in sorted(funnels)]


def judge_groups(
    funnels: Sequence[CorpusFunnel], groups: Sequence[Group], filtered: Mapping[str, FilteredGroup]
) -> None:
    """Balance the funnels of training and held-out parts with what the filters say of each group.

    Raises:
        ValueError: documents are missing.
    """
    for funnel in funnels:
        verdicts = Verdicts()
        for group in groups:
            if (group.corpus, group.held_out) == (funnel.corpus, funnel.held_out):
                verdicts.include(filtered[group.name].verdicts)
        funnel.judged("filter", verdicts.listed())


def decided_funnels(funnels: Sequence[CorpusFunnel], verdicts: Verdicts) -> list[CorpusFunnel]:
    """One funnel per corpus from the decisions. A task of dedupe may hold training and held-out groups of one corpus, so both
    parts are balanced together.

    Args:
        funnels: of the scan.

    Raises:
        ValueError: documents are missing.
    """
    found = []
    for corpus in sorted({f.corpus for f in funnels}):
        parts = [f for f in funnels if f.corpus == corpus]
        whole = CorpusFunnel(
            corpus,
            False,
            files=sum(f.files for f in parts),
            rows=sum(f.rows for f in parts),
            bytes=sum(f.bytes for f in parts),
            quarantined=sum(f.quarantined for f in parts),
            damaged=[d for f in parts for d in f.damaged],
        )
        whole.judged("dedupe", (v for v in verdicts.listed() if v.corpus == corpus))
        found.append(whole)
    return found


def check_bad_rows(funnels: Sequence[CorpusFunnel], limit: float, where: str) -> None:
    """Stop a run whose input is worse than the recipe allows.

    Args:
        limit: rows per corpus, or below 1 a share of its rows. A damaged file counts as one row.

    Raises:
        ValueError: naming the corpus, the counts and the quarantine folder.
    """
    for funnel in funnels:
        bad = funnel.quarantined + len(funnel.damaged)
        allowed = limit * max(funnel.rows, 1) if limit < 1 else limit
        if bad > allowed:
            named = f"; {funnel.damaged[0]}" if funnel.damaged else ""
            raise ValueError(
                f"{funnel.corpus}: {bad} bad rows or files of {funnel.rows} rows exceed `max_bad_rows` {limit:g}{named}; "
                f"see {where}/{funnel.corpus}, mend the files or raise the limit"
            )


def funnel_json(funnels: Sequence[CorpusFunnel], tokens: Mapping[str, int]) -> dict[str, Any]:
    """`stats/funnel.json`. `tokens`: `<corpus>/<subset>` -> tokens of the survivors."""
    return {
        "corpora": [
            {
                "corpus": f.corpus,
                "held_out": f.held_out,
                "files": f.files,
                "rows": f.rows,
                "bytes": f.bytes,
                "quarantined": f.quarantined,
                "damaged_files": f.damaged,
                "kept": f.kept,
                "dropped": dict(sorted(f.dropped.items())),
                "subsets": {
                    s: {"kept": r.get("", 0), "dropped": {k: v for k, v in sorted(r.items()) if k}}
                    for s, r in sorted(f.subsets.items())
                },
            }
            for f in funnels
        ],
        "survivor_tokens": dict(sorted(tokens.items())),
    }

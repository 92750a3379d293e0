"""The ledger: documents in = kept + dropped by reason + quarantined, for every corpus and stage; then `stats/*.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.tasks import TaskResult
from ..run.artifacts import merge_counts
from ..run.identity import SourceFile


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

    def judged(self, stage: str, counts: Mapping[str, int]) -> None:
        """Take over the verdicts of a stage, `<corpus>/<subset>|<reason>` -> documents, and check the balance."""
        self.kept, self.dropped, self.subsets = 0, {}, {}
        for key, n in counts.items():
            name, reason = key.rsplit("|", 1)
            self.subsets.setdefault(name.split("/", 1)[1], {})[reason] = n
            if reason:
                merge_counts(self.dropped, {reason: n})
            else:
                self.kept += n
        self.check(stage)


def scan_funnels(files: Sequence[SourceFile], scans: Sequence[TaskResult]) -> list[CorpusFunnel]:
    """One funnel per corpus (and per held-out part) from what scan counted."""
    funnels: dict[tuple[str, bool], CorpusFunnel] = {}
    for file, scan in zip(files, scans, strict=True):
        funnel = funnels.setdefault((file.corpus, file.held_out), CorpusFunnel(file.corpus, file.held_out))
        funnel.files += 1
        funnel.rows += scan.counts["documents"] + scan.counts["quarantined"]
        funnel.bytes += scan.counts["bytes"]
        funnel.quarantined += scan.counts["quarantined"]
        if "damage" in scan.data:
            funnel.damaged.append(f"{file.name}: {scan.data['damage']}")
    return [funnels[k] for k in sorted(funnels)]


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

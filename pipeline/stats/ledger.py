"""The ledger: documents in = kept + dropped by reason + quarantined, for every corpus and stage; then `stats/*.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...storage.wording import counted
from ..filter.judge import FilteredGroup, Verdict, Verdicts
from ..run.artifacts import merge_counts
from ..run.identity import Group, SourceFile
from ..signals.scan import FileSignals
from ..tokens.stage import Given


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
    """Files that could not be read to their end, each with the reason."""
    stored_bytes: int = 0
    """Of the files, as they lie on disk, and what they are taken to miss."""
    lost_bytes: int = 0
    """Those of them that could not be read."""
    times_not_understood: int = 0
    """Readable rows whose time is there and says nothing."""
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    subsets: dict[str, dict[str, int]] = field(default_factory=dict)
    """Subset -> reason (empty: kept) -> documents."""

    @property
    def lost_share(self) -> float:
        """Of the stored bytes, in per cent."""
        return 100 * self.lost_bytes / max(self.stored_bytes, 1)

    @property
    def lost_rows(self) -> float:
        """The rows that the lost bytes stand for: as many as the same number of bytes held that could be read."""
        if not self.damaged:
            return 0
        read = self.stored_bytes - self.lost_bytes
        return max(len(self.damaged), math.ceil(self.rows * self.lost_bytes / read)) if read else math.inf

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
    """One funnel per corpus (and per held-out part) from what scan counted. `signals`: by `SourceFile.table`."""
    funnels: dict[tuple[str, bool], CorpusFunnel] = {}
    whole: dict[tuple[str, bool], dict[str, tuple[SourceFile, FileSignals]]] = {}
    for file in files:
        scanned = signals[file.table]
        funnel = funnels.setdefault((file.corpus, file.held_out), CorpusFunnel(file.corpus, file.held_out))
        # Of a file that was cut the last piece tells of damage.
        whole.setdefault((file.corpus, file.held_out), {})[file.name] = file, scanned
        funnel.rows += scanned.documents + scanned.quarantined
        funnel.bytes += scanned.bytes
        funnel.quarantined += scanned.quarantined
        funnel.times_not_understood += scanned.times_not_understood
        if scanned.damage:
            funnel.damaged.append(f"{file.name}: {scanned.damage}")
    for key, funnel in funnels.items():
        funnel.files = len(whole[key])
        _weigh(funnel, list(whole[key].values()))
    return [funnels[k] for k in sorted(funnels)]


def _weigh(funnel: CorpusFunnel, files: Sequence[tuple[SourceFile, FileSignals]]) -> None:
    """Weigh what a corpus lost to damage in stored bytes.

    Of a damaged file, what follows the damage is lost. Of one that ends too early nobody knows how much is missing: it is
    taken for as much as there is of it, and at least for a mean file. A file of unknown size weighs as the mean.
    """
    known = [file.size for file, _ in files if file.size]
    mean = max(1, sum(known) // max(len(known), 1))
    for file, scanned in files:
        weight = file.size or (mean if "://" in file.url else 0)
        missing = max(file.size, mean) if scanned.cut else 0
        funnel.stored_bytes += weight + missing
        if scanned.damage:
            funnel.lost_bytes += weight + missing - min(scanned.intact, file.size)


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
    for whole in _by_corpus(funnels):
        whole.judged("dedupe", (v for v in verdicts.listed() if v.corpus == whole.corpus))
        found.append(whole)
    return found


def _by_corpus(funnels: Sequence[CorpusFunnel]) -> Iterator[CorpusFunnel]:
    """One funnel per corpus, with the sums of its parts; what became of the rows is yet to be said."""
    for corpus in sorted({f.corpus for f in funnels}):
        parts = [f for f in funnels if f.corpus == corpus]
        yield CorpusFunnel(
            corpus,
            False,
            files=sum(f.files for f in parts),
            rows=sum(f.rows for f in parts),
            bytes=sum(f.bytes for f in parts),
            quarantined=sum(f.quarantined for f in parts),
            damaged=[d for f in parts for d in f.damaged],
            stored_bytes=sum(f.stored_bytes for f in parts),
            lost_bytes=sum(f.lost_bytes for f in parts),
            times_not_understood=sum(f.times_not_understood for f in parts),
        )


def add_given(parts: list[CorpusFunnel], corpora: list[CorpusFunnel], given: Given) -> None:
    """Add what became of documents that came as token ids.

    Args:
        parts: training and held-out parts apart.
        corpora: by corpus.
    """
    found: dict[tuple[str, bool], CorpusFunnel] = {}
    verdicts: dict[tuple[str, bool], Verdicts] = {}
    for group in given.groups:
        key, taken = (group.corpus, group.held_out), given.found[group.name]
        funnel = found.setdefault(key, CorpusFunnel(*key))
        funnel.files += len(group.files)
        funnel.rows += sum(v.documents for v in taken.verdicts)
        funnel.bytes += taken.bytes
        funnel.stored_bytes += sum(f.size for f in group.files)
        verdicts.setdefault(key, Verdicts()).include(taken.verdicts)
    for key, funnel in found.items():
        funnel.judged("tokenize", verdicts[key].listed())
    for whole in _by_corpus(list(found.values())):
        whole.judged("tokenize", (v for key in verdicts if key[0] == whole.corpus for v in verdicts[key].listed()))
        corpora.append(whole)
    parts += found.values()
    corpora.sort(key=lambda f: f.corpus)


def check_bad_rows(funnels: Sequence[CorpusFunnel], limit: float, where: str) -> None:
    """Stop a run whose input is worse than the recipe allows.

    Args:
        limit: bad rows per corpus, or below 1 a share of its rows. Bytes lost to damage count as the rows they stand for
            (`CorpusFunnel.lost_rows`).

    Raises:
        ValueError: naming the corpus, the counts and the quarantine folder.
    """
    for funnel in funnels:
        lost = funnel.lost_rows
        bad = funnel.quarantined + lost
        allowed = limit * max(funnel.rows + lost, 1) if limit < 1 else limit
        if bad > allowed or lost == math.inf:
            damage = ""
            if funnel.damaged:
                damage = (
                    f" and {counted(len(funnel.damaged), 'damaged file')} that lost {funnel.lost_share:.3g} % of the corpus "
                    f"({funnel.damaged[0]})"
                )
            raise ValueError(
                f"{funnel.corpus}: {funnel.quarantined:,} bad rows of {funnel.rows:,}{damage} exceed `max_bad_rows` "
                f"{limit:g}; see {where}/{funnel.corpus}, mend the files or raise the limit"
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
                "stored_bytes": f.stored_bytes,
                "lost_bytes": f.lost_bytes,
                "times_not_understood": f.times_not_understood,
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

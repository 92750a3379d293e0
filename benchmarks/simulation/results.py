"""What the tasks of a simulated run return: results of the right kind, with sizes and counts by published rates.

Counts are exact where the run adds them up: documents by corpus, subset and reason, tokens, blocks, segments. Rows of a shuffle
are spread evenly over the tasks that read it, as hashes spread them. A task takes the CPU seconds of what it does by the rates
below, and requests and bytes by what it reads and publishes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash
from fox1.pipeline.engine.records import artifacts_in
from fox1.pipeline.engine.tasks import Planned
from fox1.pipeline.engine.tree import FAN_IN
from fox1.pipeline.engine.two_level import Partition, Span
from fox1.pipeline.filter.judge import FilteredGroup, FilteredGroups, Verdict
from fox1.pipeline.filter.rules import RuleCounts, RulesFile
from fox1.pipeline.mix.blocks import PartitionDocuments
from fox1.pipeline.prepare.contamination import PreparedContamination
from fox1.pipeline.prepare.quality import PreparedQuality, SampledSubset
from fox1.pipeline.prepare.tokenizer import PreparedTokenizer
from fox1.pipeline.prepare.urls import PreparedUrls
from fox1.pipeline.run.artifacts import Artifact, publish
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.run.identity import Group, SourceFile, cut_by_rows
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import SIGNAL_GROUP_ROWS
from fox1.pipeline.signals.scan import FileSignals, ScannedPieces
from fox1.pipeline.sources.formats import CHUNK
from fox1.pipeline.sources.pieces import MOST_TEXT, SINGLE, CountedLines, CountedParts
from fox1.pipeline.text.survivors import DecidedFile
from fox1.pipeline.tokens.shards import EncodedDocuments, GroupTokens, TokenizedGroups, TokenShard
from fox1.storage.ahead import READ_AHEAD
from fox1.tokenize.model import TokenizerSettings, train

from .published import BYTES_PER_TOKEN, Fates, counts_of, is_one_frame, text_of

SCAN, ENCODE = 30.1e6, 29.6e6
"""Bytes of text per second, as the README has them (from disk to `signals/`; of kept text that is new)."""
READ, COUNT, DECODE = 90e6, 2e9, 600e6
"""The same of reading rows again, of counting newlines, and of decompressing."""
SORT, MOVE, PACK, JUDGE = 40e6, 300e6, 200e6, 150_000
"""Bytes of records per second that are sorted, of rows that are moved and that are packed, and documents that a filter judges."""
BLOCK_BYTES = 4.4
"""Of a token in a block."""
WALKED_EDGE, JUDGED_EDGE = 45e-9, 35e-9
"""The pass over all edges takes so long for one (`dedupe_pass.py`), and saying what it makes of one."""

SIGNALS, SIGNATURES, DECISIONS, FILTER_ROW = 190, 760, 24, 8
"""Bytes of a document in each."""
PAIRS = (0.75, 0.3, 0.045)
VERIFIED = (0.58, 0.002)
LIVE = (0.9, 0.046, 0.036, 0.026, 0.022, 0.018, 0.014, 0.011, 0.008, 0.004)
"""Of a document by round: candidate pairs, verified ones, and rows of buckets that are walked again, about as
`dedupe_scale.py` has them."""
RULES = 12_000
"""Bytes of the counts of the rules of a group."""
FOLLOWERS = 0.1
"""Documents that are exact copies of others."""
SEGMENTS = 1.05
"""Segments of a copy of a document."""
LONG = 0.3
"""Share of a phase's tokens that goes to its longer blocks."""
PREPARE_SECONDS = 120.0
LETTERS = "abcdefghijk"
RULE = "min_words"
"""By which filters drop what they drop."""
PART_BYTES = 50 << 20
"""What is larger is uploaded in parts of so much."""
ASKED = 4 << 20
"""Of a larger one the store is asked first."""
ANSWER = 544
"""Bytes of a sketch on its way."""


@dataclass
class Work:
    """What a task takes."""

    seconds: float = 0.0
    """Of a core."""
    requests: int = 0
    waits: float = 0.0
    """Answers of the store that it waits for one after the other; some are asked for at once."""
    moved: float = 0.0
    """Bytes that are read and written."""
    ahead_waits: float = 0.0
    ahead_moved: float = 0.0
    """Answers, and bytes of those that moved, that come while it computes."""
    written: float = 0.0
    one_frame: bool = False
    """It reads a file of a single frame, which cannot be cut."""
    serial: bool = False
    """A step is waiting for it alone."""
    meanwhile: bool = False
    """It reads and computes at the same time."""
    parts: int = 1
    """What it publishes on its way, so that another attempt need only read what these are made of."""
    reading: float = 0.0
    """The part of `seconds` in which it reads."""

    def reads(self, requests: float, size: float, at_once: int = 1) -> None:
        self.requests += int(requests) + 1
        self.waits += requests / at_once + 1
        self.moved += size

    def reads_meanwhile(self, requests: float, size: float) -> None:
        self.requests += int(requests)
        self.ahead_waits += requests
        self.moved += size
        self.ahead_moved += size

    def publishes(self, artifacts: Iterator[Artifact] | Sequence[Artifact]) -> None:
        for a in artifacts:
            asked = 1 + (a.bytes > ASKED) + (a.bytes // PART_BYTES if a.bytes > PART_BYTES else 0)
            self.requests += asked
            self.waits += asked
            self.moved += a.bytes
            self.written += a.bytes


def artifact(path: Path, size: float, rows: int = 0) -> Artifact:
    """A file that nobody wrote."""
    name = str(path)
    return Artifact(name, int(size) + 64, int(rows), xxhash.xxh3_128_hexdigest(name.encode()))


def beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}.{suffix}")


def share(total: int, index: int, count: int) -> int:
    """What the one of `count` tasks with this number has of `total`; all have all of it."""
    return total * (index + 1) // count - total * index // count


def of_round(shares: Sequence[float], number: int) -> float:
    """What a round has of each document."""
    return shares[number] if 0 <= number < len(shares) else 0.0


def files_in(value: Any) -> int:
    """Requests for the partitions that arguments name: a table and a range of each file."""
    if isinstance(value, FileSet):
        return 2 * len(value)
    if isinstance(value, Partition | Span):
        return files_in(value.files)
    if isinstance(value, PartitionDocuments):
        return files_in(value.part.files)
    if isinstance(value, tuple | list):
        return sum(map(files_in, value))
    return 0


@dataclass
class Results:
    """Makes up results of tasks, step by step: those of the stages that read source files, and what all need."""

    fates: Mapping[str, Fates]
    paths: RunPaths
    documents: int = 0
    compared: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    """Rows of what the shuffles move, by their name."""
    natural: Counter[int] = field(default_factory=Counter)
    blocks: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    """By phase: of its blocks."""
    tallied: Any = None
    partitions: Sequence[int] = ()
    """By set."""
    phase_of: Sequence[int] = ()
    """By set."""
    _count: int = 1
    _step: str = ""
    _round: int = 0

    def begin(self, step: str, tasks: int) -> None:
        """A step begins, with so many tasks."""
        self._step, self._count = step, tasks
        if step.startswith("dedupe."):
            digits = step.removesuffix("_tables")[-2:]
            self._round = int(digits) if digits.isdigit() else 0

    def result(self, planned: Planned) -> tuple[Any, Work]:
        """What a task returns, and what it takes."""
        work = Work(requests=1, waits=1)  # its record
        make: Callable[..., Any] = getattr(self, planned.task.run.__name__)
        result = make(planned, work, *planned.task.args)
        work.publishes(artifacts_in(result))
        # A model is trained by one task.
        work.serial |= self._count == 1 or self._step.startswith("prepare")
        return result, work

    def prepare_tokenizer(self, planned: Planned, work: Work, *_: Any) -> PreparedTokenizer:
        work.seconds = PREPARE_SECONDS
        # The stats open it: a small one, but a real one.
        words = (f"{a}{b}{c}" for a in LETTERS for b in LETTERS for c in LETTERS)
        with publish(self.paths.tokenizer) as out:
            out.write(train(words, TokenizerSettings(vocab_size=300)))
        sizes = artifact(self.paths.prepare("piece_bytes.npy"), 1 << 19)
        converted = artifact(self.paths.prepare("encoder.json"), 20 << 20)
        return PreparedTokenizer(out.artifact, sizes, converted, 0, 0, 0, 256_000, 0, 1, 2)

    def sample_subset(self, planned: Planned, work: Work, *_: Any) -> SampledSubset:
        work.seconds = PREPARE_SECONDS / 4
        return SampledSubset("web", True, artifact(planned.task.args[-1], 1 << 20))

    def prepare_quality(self, planned: Planned, work: Work, *_: Any) -> PreparedQuality:
        work.seconds = PREPARE_SECONDS
        return PreparedQuality(artifact(self.paths.prepare("quality.arrow"), 1 << 20), {}, {})

    def prepare_contamination(self, planned: Planned, work: Work, *_: Any) -> PreparedContamination:
        index, passages, pairs, items = (
            artifact(self.paths.prepare(f"contamination.{n}"), 8 << 20)
            for n in ("arrow", "passages", "pairs", "parquet")
        )
        work.seconds = PREPARE_SECONDS / 4
        return PreparedContamination(index, passages, pairs, items, 1_000_000, {})

    def prepare_urls(self, planned: Planned, work: Work, *_: Any) -> PreparedUrls:
        return PreparedUrls(artifact(self.paths.prepare("urls.arrow"), 1000), 20)

    def count_lines(self, planned: Planned, work: Work, file: SourceFile, bounds: Sequence[int]) -> CountedLines:
        size = bounds[-1] - bounds[0]
        work.reads(size / CHUNK, size)
        work.seconds = size / COUNT
        each = self.fates[file.corpus].documents_per_byte
        spans = list(itertools.pairwise(bounds))
        return CountedLines(tuple(max(1, int((b - a) * each)) for a, b in spans), tuple(a + 1 for a, _ in spans))

    def count_frames(self, planned: Planned, work: Work, file: SourceFile, most: int) -> CountedParts:
        fate = self.fates[file.corpus]
        text = min(text_of(file, fate), SINGLE * most)
        work.reads(text / fate.text_per_byte / CHUNK, text / fate.text_per_byte)
        work.seconds = text / DECODE
        return CountedParts((), text)

    def count_row_groups(self, planned: Planned, work: Work, file: SourceFile, most: int) -> CountedParts:
        work.reads(2, 64 << 10)
        return CountedParts((), text_of(file, self.fates[file.corpus]))

    def _reads_source(self, work: Work, file: SourceFile, rate: float) -> int:
        fate = self.fates[file.corpus]
        text = text_of(file, fate)
        stored = text if file.piece else file.size
        work.reads(stored / CHUNK, stored)
        work.seconds += text / rate
        work.one_frame |= is_one_frame(file) and text > MOST_TEXT
        return text

    def scan_file(self, planned: Planned, work: Work, file: SourceFile, *_: Any) -> FileSignals:
        text = self._reads_source(work, file, SCAN)
        self.totals["text"] += text
        return self._signals(file, text)

    def scan_in_pieces(
        self, planned: Planned, work: Work, file: SourceFile, settings: Any, models: Any, most: int, *_: Any
    ) -> ScannedPieces:
        text = self._reads_source(work, file, SCAN)
        self.totals["text"] += text
        count = work.parts = -(-text // most)
        work.reading = text / READ
        pieces, row = list[FileSignals](), [0]
        for number in range(count):
            pieces.append(self._signals(cut_by_rows(file, number, row[-1], -1, 0), share(text, number, count)))
            row.append(row[-1] + pieces[-1].documents)
        return ScannedPieces(tuple(pieces), tuple(row[:-1]))

    def _signals(self, file: SourceFile, text: int) -> FileSignals:
        n = max(1, int(text * self.fates[file.corpus].documents_per_byte))
        self.documents += n
        return FileSignals(
            artifact(self.paths.signals(file.corpus, file.part), n * SIGNALS, n),
            artifact(self.paths.signatures(file.corpus, file.part), n * SIGNATURES, n),
            None, n, text, n // 50, 0,
        )  # fmt: skip

    def filter_groups(
        self, planned: Planned, work: Work, groups: Sequence[Group], signals: Sequence[Sequence[Artifact]], *_: Any
    ) -> FilteredGroups:
        found = tuple(self._filtered(work, g, own) for g, own in zip(groups, signals, strict=True))
        return FilteredGroups(found, self._rules(self.paths.counts(f"rules/{groups[0].name}.json")))

    def _filtered(self, work: Work, group: Group, signals: Sequence[Artifact]) -> FilteredGroup:
        found = Counter[tuple[str, str]]()
        for file, a in zip(group.files, signals, strict=True):
            for subset, (n, passed, _kept) in counts_of(file, a.rows, self.fates[file.corpus]).items():
                found[subset, ""] += passed
                found[subset, RULE] += n - passed
        rows = sum(a.rows for a in signals)
        self._walks_columns(work, signals, 0.5)
        work.seconds += rows / JUDGE
        verdicts = tuple(Verdict(group.corpus, subset, reason, k) for (subset, reason), k in found.items() if k)
        self.compared += sum(v.documents for v in verdicts if not v.reason)
        filtered = artifact(self.paths.filtered(group.name), rows * FILTER_ROW, rows)
        return FilteredGroup(filtered, verdicts, ())

    def add_rules(self, planned: Planned, work: Work, counted: FileSet, path: Path) -> RulesFile:
        work.reads(len(counted), RULES * len(counted))
        return RulesFile(self._rules(path))

    def _rules(self, path: Path) -> Artifact:
        """Of few files the driver reads all."""
        return artifact(path, RULES) if self._count > FAN_IN else RuleCounts().write(path)

    def _reduces(self, work: Work, planned: Planned, total: int, size: int) -> int:
        """What a task reads of a shuffle: its rows."""
        rows = share(total, planned.index, self._count)
        work.reads(sum(map(files_in, planned.task.args)), rows * size, READ_AHEAD)
        work.seconds += rows * size / SORT
        return rows

    def _reads_columns(self, work: Work, files: Sequence[Artifact], part: float) -> None:
        """Some columns of tables: a footer, and a range of each row group."""
        work.reads(sum(2 + a.rows // SIGNAL_GROUP_ROWS for a in files), part * sum(a.bytes for a in files))

    def _walks_columns(self, work: Work, files: Sequence[Artifact], part: float) -> None:
        """The same of tables that are read from the beginning of the first to the end of the last: footers and row groups are
        fetched ahead.
        """
        work.reads(len(files), 0, READ_AHEAD)
        work.reads_meanwhile(sum(1 + a.rows // SIGNAL_GROUP_ROWS for a in files), part * sum(a.bytes for a in files))

    def tokenize_groups(
        self, planned: Planned, work: Work, groups: Sequence[Group], files: Sequence[DecidedFile], *_: Any
    ) -> TokenizedGroups:
        sources = [f.source for f in files]
        # Pieces of a file that is only read from its start are read together.
        for file in [replace(sources[0], piece=None)] if sources[0].read_whole else sources:
            work.reading += self._reads_source(work, file, READ) / READ
        work.parts = len(groups)
        of_table = {f.source.table: f for f in files}
        return TokenizedGroups(tuple(self._encoded(work, g, [of_table[f.table] for f in g.files]) for g in groups))

    def _encoded(self, work: Work, group: Group, files: Sequence[DecidedFile]) -> GroupTokens:
        fate = self.fates[group.corpus]
        kept = Counter[str]()
        for file, decided in zip(group.files, files, strict=True):
            self._reads_columns(work, [decided.signals], 0.3)
            self._reads_columns(work, [decided.decisions], 0.3)
            for subset, counts in counts_of(file, decided.signals.rows, fate).items():
                kept[subset] += counts[2]
        size = 1 / fate.documents_per_byte
        shards = []
        for subset, n in sorted(kept.items()):
            if n:
                tokens = int(n * size / BYTES_PER_TOKEN)
                path = self.paths.tokens(group.corpus, subset, group.name.rsplit("/", 1)[1])
                shards.append(TokenShard(subset, artifact(path, 4.1 * tokens + 30 * n, n), tokens, int(n * size)))
        work.seconds += sum(s.bytes for s in shards) / ENCODE
        n, tokens = sum(kept.values()), sum(s.tokens for s in shards)
        self.totals["kept_bytes"] += sum(s.bytes for s in shards)
        return GroupTokens(tuple(shards), EncodedDocuments(0, 0, n, tokens, sum(s.bytes for s in shards)))

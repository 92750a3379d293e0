"""What a recipe names, opened: a row of every source, every list, benchmark and plug-in, and the tokenizer's model.

By the readers that `fox1 curate` uses, so that what would stop a run after hours is said within seconds, in the same words.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc

from ..pipeline.curate import CurateSettings
from ..pipeline.extract.steps import load_steps
from ..pipeline.filter.exclude import read_lists
from ..pipeline.filter.score_files import read_scores
from ..pipeline.prepare.benchmarks import BenchmarkSettings, read_items
from ..pipeline.prepare.classifiers import read_classifier
from ..pipeline.prepare.contamination import UNCOVERED, ContaminationSettings, build
from ..pipeline.prepare.urls import read_rules
from ..pipeline.run.checksums import hash_file
from ..pipeline.run.identity import TOKENS, SourceFile
from ..pipeline.signals.plugins import load_plugins
from ..pipeline.signals.scores import ScoreSettings
from ..pipeline.sources.datatrove import DatatroveReader
from ..pipeline.sources.folder import local_path
from ..pipeline.sources.listing import SUFFIXES, SourceSettings, list_sources, matches
from ..pipeline.sources.patterns import files_of_patterns
from ..pipeline.sources.quarantine import Quarantine
from ..pipeline.sources.rows import BATCH_ROWS, read_rows
from ..pipeline.sources.token_files import id_size, read_tokens, subset_of
from ..storage.wording import counted, first_line
from ..tokenize.model import TokenizerSettings, check_specials, load, specials

PATIENCE = 30.0
"""Seconds that one source, list or model may take to open: a store that does not answer, or a pipe, would take for ever."""
QUICK = 2.0
"""Seconds after which a wait is announced."""
EMPTY_FILES = 8
"""Files without a row that are passed over for one that has any."""
MORE_SECONDS = 0.3
"""Time for further files of a source that lies on this machine: one may have another schema than the rest."""

FACTS = {"id": "native_id", "url": "url", "timestamp": "timestamp"}
"""What a source may name a column for, and where the rows that are read have it."""
NOTHING: dict[str, str | int] = {"id": "", "url": "", "timestamp": 0}

Say = Callable[[str], None]


class Opening:
    """Opens one thing after the other, goes on after one that fails, and keeps what could not be looked at.

    Args:
        say: is told what was found.
        complain: is told what is wrong, in one line.
        offline: leave out what lies on the network.
    """

    def __init__(self, say: Say, complain: Say, offline: bool) -> None:
        self._say, self._complain, self._offline = say, complain, offline
        self.sound = True
        """Nothing that was opened is wrong."""
        self.left_out: list[str] = []

    def look(self, what: str, remote: bool, found: Callable[[], Iterator[str]]) -> bool:
        """Say what `found` yields, or what is wrong; whether nothing is."""
        if remote and self._offline:
            self.left_out.append(what)
            return True
        lines: list[str] = []
        failed: list[Exception] = []

        def run() -> None:
            try:
                lines.extend(found())
            except Exception as error:  # stores, plug-ins and formats fail in ways of their own
                failed.append(error)

        # A thread of its own can be left behind, which is what Python has against a read that never returns.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(QUICK)
        if thread.is_alive():
            self._say(f"  {what}: waiting, for up to {PATIENCE:.0f} s")
            thread.join(PATIENCE - QUICK)
        if thread.is_alive():
            hint = "; check the connection, or leave out what lies on the network with --offline" if remote else ""
            self.complain(f"{what} did not answer within {PATIENCE:.0f} s{hint}")
            return False
        for line in lines:
            self._say(f"  {line}")
        for error in failed:
            kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
            text = f"{kind}{first_line(error)}"
            self.complain(text if what in text else f"{what}: {text}")
        return not failed

    def complain(self, problem: str) -> None:
        """Say what is wrong."""
        self.sound = False
        self._complain(problem)

    def source(self, source: SourceSettings, settings: CurateSettings) -> list[SourceFile] | None:
        """The files of a source, after a look at rows of it; None where they cannot be read."""
        part = " (held out)" if source.held_out else ""
        what = f"source {source.corpus}{part}"
        listed: list[list[SourceFile]] = []

        def list_files() -> Iterator[str]:
            notes: list[str] = []
            files = list_sources((source,), settings.id_salt, settings.private_hosts, notes.append)
            listed.append(files)
            yield from notes
            yield f"{source.corpus}: {counted(len(files), 'file')}, {sum(f.size for f in files) / 1e6:,.1f} MB{part}"
            for pattern in source.files if not source.dataset else ():
                if not any(matches(f.path, (pattern,)) for f in files):
                    yield f"  no file matches {pattern}"

        self.look(what, _listed_remotely(source), list_files)
        if not listed:
            return None
        files = listed[0]
        own = source.dataset or source.reader
        remote = _listed_remotely(source) if own else any(is_remote(f.url) for f in files)
        more = not (remote or own)
        if source.format == TOKENS:
            names = [str(name) for name in (settings.tokenizer.model, source.tokenizer) if name]
            found = self.look(f"{what}, its documents", remote, lambda: _first_documents(files, names))
        else:
            found = self.look(f"{what}, its rows", remote, lambda: _first_rows(files, more))
        return files if found else None

    def others(self, settings: CurateSettings) -> None:
        """The lists, benchmarks, scores, tokenizer model, steps and plug-ins."""
        for name in settings.url_lists:
            self.look(f"url_lists {name}", is_remote(name), lambda name=name: _rules(name))  # type: ignore[misc]
        corpora = sorted({source.corpus for source in settings.sources if source.format != TOKENS})
        for name in settings.exclude_lists:
            self.look(
                f"exclude list {name}",
                is_remote(name),
                lambda name=name: _entries(name, corpora, settings.id_salt),  # type: ignore[misc]
            )
        for b in settings.contamination.benchmarks:
            remote = _named_remotely(b.dataset) if b.dataset else any(map(is_remote, b.files))
            self.look(f"benchmark {b.name}", remote, lambda b=b: _items(b, settings.contamination))  # type: ignore[misc]
        for score in settings.scores:
            self.look(
                f"score {score.name}",
                any(map(is_remote, score.files or (score.fasttext,))),
                lambda score=score: _score(score, settings.id_salt),  # type: ignore[misc]
            )
        if model := settings.tokenizer.model:
            self.look(f"tokenizer.model {model}", is_remote(model), lambda: _model(settings.tokenizer))
        for s in settings.before_scan:
            self.look(
                f"before_scan.{s.name}",
                False,
                lambda s=s: (f"before_scan.{s.name}: {s.target}, loaded" for _ in load_steps((s,))),  # type: ignore[misc]
            )
        for p in settings.scan.plugins:
            self.look(
                f"plug-in {p.name}",
                False,
                lambda p=p: (f"plug-in {p.name}: {p.target}, loaded" for _ in load_plugins((p,))),  # type: ignore[misc]
            )


def is_remote(url: str) -> bool:
    """Whether a name leads to the network."""
    return "://" in url and not url.startswith(("file://", "local://", "memory://"))


def _listed_remotely(source: SourceSettings) -> bool:
    if source.dataset:
        return _named_remotely(source.dataset)
    if source.root and "://" not in source.root and (os.path.isdir(source.root) or not source.urls):
        return False
    return is_remote(source.root) or is_remote(source.urls)


def _named_remotely(dataset: str) -> bool:
    return not Path(dataset).expanduser().exists()


class _Noticed(Quarantine):
    """The first reason why a row could not be read; ends the reading where bad rows come before any batch of good ones."""

    reason = ""

    def row(self, row: int, offset: int, reason: str, data: bytes | memoryview = b"") -> None:
        super().row(row, offset, reason, data)
        self.reason = self.reason or f"row {row}: {reason}"
        if self.rows >= BATCH_ROWS:
            raise _EnoughRows(f"{self.rows:,} of its first {row + 1:,} rows")


class _EnoughRows(Exception):
    pass


def _first_rows(files: Sequence[SourceFile], more: bool) -> Iterator[str]:
    """What the first rows of files hold, of one file for each suffix.

    Args:
        more: also open others, for a moment.
    """
    suffixes = sorted(SUFFIXES, key=len, reverse=True)
    kinds: dict[str, list[SourceFile]] = {}
    for file in files:
        kinds.setdefault(next((s for s in suffixes if file.path.endswith(s)), ""), []).append(file)
    for alike in kinds.values():
        found = next((row for file in alike[:EMPTY_FILES] if (row := _first_row(file))), "")
        yield found or f"  {alike[0].name} has no row; nor have those after it that were opened"
    began, opened = time.monotonic(), len(kinds)
    # In the order of their hashes, which is none of folders or dates.
    for file in sorted((f for alike in kinds.values() for f in alike[1:]), key=lambda f: f.file_hash) if more else ():
        if time.monotonic() - began > MORE_SECONDS:
            break
        _first_row(file)
        opened += 1
    if opened < len(files):
        yield f"  {opened:,} of {len(files):,} files were opened"


def _first_row(file: SourceFile) -> str:
    """What the first row of a file holds; empty if there is none.

    Raises:
        ValueError: no row of it can be read.
    """
    noticed = _Noticed(file)
    wrong = ""
    try:
        batch = next((batch for batch in read_rows(file, noticed) if batch.num_rows), None)
    except _EnoughRows as error:
        batch, wrong = None, str(error)
    if batch is None and not wrong and noticed.rows:
        wrong = f"all its {counted(noticed.rows, 'row')}" if noticed.rows > 1 else "its only row"
    if batch is None and noticed.damage:
        raise ValueError(f"{file.name} is damaged ({noticed.damage}); replace it, or exclude it with `files`")
    if wrong:
        own = file.format == "huggingface" and not file.columns
        hint = (
            "name its columns in `columns`, as in {text: content}" if own else f"is its format really {file.format!r}?"
        )
        raise ValueError(f"{file.name}: {wrong} cannot be read ({noticed.reason}); {hint}")
    if batch is None:
        return ""
    row, text, subset = (batch.column(name)[0].as_py() for name in ("row", "text", "subset"))
    reads_rows = isinstance(file.reader, DatatroveReader) and not file.reader.extracts_pages()
    if reads_rows and not any(batch.column("text").to_pylist()):
        raise ValueError(
            f"{file.name}: the first {counted(batch.num_rows, 'row')} read without text; name its column in "
            "`arguments: {text_key: ...}`, or leave the file out"
        )
    bad = f"; {counted(noticed.rows, 'row')} near it cannot be read ({noticed.reason})" if noticed.rows else ""
    absent = "".join(
        f"; none of {counted(batch.num_rows, 'row')} has a value in {column!r}, which `columns` names as {field}"
        for field, column in file.columns
        if field in FACTS and not pc.any(pc.not_equal(batch.column(FACTS[field]), NOTHING[field])).as_py()
    )
    return f"  {file.name}: row {row} is of subset {subset} and has {counted(len(text), 'character')}{absent}{bad}"


def _first_documents(files: Sequence[SourceFile], names: Sequence[str]) -> Iterator[str]:
    """What the first document of some token files holds.

    Args:
        names: what the files may call the tokenizer.
    """
    # A model elsewhere is fetched later, and its hash is then compared.
    model = local_path(names[0])
    model_hash = hash_file(Path(model)) if model is not None and os.path.isfile(model) else ""
    for file in files[:EMPTY_FILES]:
        batch = next(read_tokens(file, id_size(file, names, model_hash)), None)
        if batch:
            tokens = counted(int(batch.offsets[1]), "token")
            yield f"  {file.name}: document {batch.row} is of subset {subset_of(file)} and has {tokens}"
            return
    yield f"  {files[0].name} has no document; nor have those after it that were opened"


def _rules(name: str) -> Iterator[str]:
    yield f"block list {name}: {counted(len(read_rules(name)), 'rule')}"


def _entries(name: str, corpora: Sequence[str], salt: int) -> Iterator[str]:
    yield f"exclude list {name}: {counted(len(read_lists((name,), corpora, salt)), 'line')}"


def _items(benchmark: BenchmarkSettings, settings: ContaminationSettings) -> Iterator[str]:
    items = list(read_items(benchmark))
    uncovered = build(items, settings)[1].column("uncovered").to_pylist()
    why = [f", {n:,} not covered ({reason})" for reason in UNCOVERED if (n := uncovered.count(reason))]
    yield f"benchmark {benchmark.name}: {counted(len(items), 'item')}{''.join(why)}"


def _score(settings: ScoreSettings, salt: int) -> Iterator[str]:
    if settings.fasttext:
        read = read_classifier(settings)
        labels = ", ".join(f"{name} counts {value:g}" for name, value in settings.labels)
        yield f"score {settings.name}: {read.classifier.numbers[0]:,} words, {len(read.labels)} labels, of which {labels}"
        return
    files = files_of_patterns(settings.files, f"scores.{settings.name}", f"scores.{settings.name}.files")
    first = next(read_scores(files[0], settings, salt), None)
    rows = f"{len(first.scores):,} of its first {first.rows:,} rows have a score" if first else "it has no row"
    yield f"score {settings.name}: {counted(len(files), 'file')}; {files[0]}: {rows}"


def _model(settings: TokenizerSettings) -> Iterator[str]:
    processor = load(settings.model)
    check_specials(processor, settings.specials)
    specials(processor)
    yield f"tokenizer.model {settings.model}: {processor.vocab_size():,} pieces"

"""Scan, the first read of the text: one source file in, one row of facts per document out.

    rows -> pieces of about four megabytes -> words and lines (segment.py)
         -> personal data, benchmark items, lines that C4 would drop -> edits
         -> verdicts and edits of plug-ins
         -> counts of the edited text; hashes, signature, sketch, language and quality of the raw text
            (quality by a formula over the counts, if the domain has no model)

What only dedupe reads and is most of the bytes, signature and sketch, goes into a table beside the others.

Promises: rows keep the order of the file; the file's quarantine counts every row that is missing here; the bytes depend on
the file, the settings and the prepared artifacts alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated
from unicodedata import unidata_version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...storage.fields import Derived, OneOf, Pairs
from ...tokenize.spans import text_buffers
from ..engine.memory import keep_freed_memory
from ..engine.parts import Parts
from ..run.artifacts import Artifact, parquet_writer
from ..run.identity import ROW_BITS, SourceFile, cut_by_rows
from ..run.paths import RunPaths
from ..run.schemas import EDIT_TYPE, SIGNAL_GROUP_ROWS
from ..sources.domains import Domain, domain_of
from ..sources.extracted import DROPPED_BY, DROPPED_WHY
from ..sources.listing import check_unchanged
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from ..text.binding import ENCODING as TEXT_ENCODING
from ..text.binding import TEXT_HASH
from ..text.edits import CITATION, CONTAMINATION, LINE, PII, apply_edits, merge_edits
from . import c4, collapse, contamination, content, fasttext, gopher, hosts, language, minhash, pii, quality, urls
from .counts import COUNTS, PII_COUNTS, TEXT_COUNTS, text_counts
from .hashing import fixed_binary
from .minhash import SKETCH_ENCODING, MinHashSettings
from .nfc import to_nfc
from .pii import KINDS
from .plugins import Plugin, PluginSettings, judge_batch, load_plugins
from .scores import ClassifierSettings
from .segment import Segments, segment
from .unicode import flag_not_nfc, tables

PIECE_BYTES = 4 << 20
"""Text handled at once, about what readers hand on: of less, calls and tables that each kernel finds cold take longer than it helps
that words stay in the caches (at 2 MiB 3 % more, at 1 MiB 15 %)."""


@dataclass(frozen=True)
class EditSettings:
    """What is cut or replaced in the text."""

    pii: Annotated[tuple[tuple[Annotated[str, OneOf(KINDS)], str], ...], Pairs()] = ()
    """Kind of personal data and the placeholder that replaces it."""
    lines: Annotated[tuple[tuple[Domain, tuple[Annotated[str, OneOf(c4.LINE_EDITS)], ...]], ...], Pairs()] = ()
    """Domain and the C4 rules that drop its lines, or `citations`: the citation markers of its lines go."""
    cut_contamination: Annotated[bool, Derived()] = False
    """Cut text that a document shares with a benchmark."""


@dataclass(frozen=True)
class ScanSettings:
    """What scan computes. Thresholds are not here: a changed filter needs no second read."""

    minhash: MinHashSettings = field(default_factory=MinHashSettings)
    edits: EditSettings = field(default_factory=EditSettings)
    plugins: tuple[PluginSettings, ...] = ()
    classifiers: tuple[ClassifierSettings, ...] = ()


@dataclass(frozen=True)
class ModelFiles:
    """The artifacts of prepare that scan reads, and the tables that come with the installed packages."""

    unicode: str
    """Version of the interpreter's Unicode tables."""
    languages: str
    """Version of the language model."""
    quality: Artifact | None = None
    contamination: Artifact | None = None
    contamination_passages: Artifact | None = None
    contamination_pairs: Artifact | None = None
    urls: Artifact | None = None
    classifiers: tuple[Artifact, ...] = ()
    """Those of the settings, in their order."""

    @classmethod
    def installed(cls) -> ModelFiles:
        """Those of this process, without any that prepare made."""
        return cls(unidata_version, language.model_version())

    def check_installed(self) -> None:
        """Refuse to scan with other tables than planning saw: a cluster's image may hold other packages.

        Raises:
            ValueError: naming both versions.
        """
        here = self.installed()
        for name, ours, planned in (
            ("Unicode tables", here.unicode, self.unicode),
            ("language model", here.languages, self.languages),
        ):
            if ours != planned:
                raise ValueError(
                    f"this worker has {name} {ours}, the driver {planned}: install the same packages on both"
                )


@dataclass(frozen=True)
class Models:
    """What prepare made for scan, loaded; each may be empty."""

    quality: quality.QualityModels
    index: contamination.ContaminationIndex | None
    urls: urls.UrlRules
    classifiers: tuple[fasttext.Classifier, ...] = ()
    """Those of the settings, in their order."""

    @classmethod
    def nothing(cls) -> Models:
        return cls(quality.QualityModels((), np.zeros((0, quality.BUCKETS), np.int16)), None, urls.NO_RULES)


@functools.lru_cache(maxsize=2)
def load_models(files: ModelFiles) -> Models:
    """Read what `prepare` made; a worker keeps it as long as the files are the same."""
    nothing = Models.nothing()
    index = [files.contamination, files.contamination_passages, files.contamination_pairs]
    return Models(
        quality.read_models(files.quality.file) if files.quality else nothing.quality,
        contamination.read_index(*(part.file for part in index if part)) if all(index) else None,
        urls.stored_rules(files.urls.file) if files.urls else nothing.urls,
        tuple(map(fasttext.load_classifier, files.classifiers)),
    )


def _column(name: str, type_: pa.DataType, nullable: bool = False, **metadata: str) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata=metadata or None)


def signatures_schema(shape: MinHashSettings) -> pa.Schema:
    """One row per document, as in `signals/`: what near-duplicates are found and verified by."""
    bands = f"{shape.bands} uint64 little endian, {shape.rows} minima each, {shape.unit} {shape.ngram}-grams; v5"
    return pa.schema(
        [
            _column("doc_id", pa.uint64()),
            _column("band_signature", pa.binary(8 * shape.bands), encoding=bands),
            _column("sketch", pa.binary(), encoding=f"{SKETCH_ENCODING}, k={shape.sketch_size}; v5"),
        ]
    )


def signals_schema(settings: ScanSettings) -> pa.Schema:
    """One row per document. The encodings of binary columns are named in their metadata."""
    items = pa.list_(pa.field("item", pa.uint32(), nullable=False))
    return pa.schema(
        [
            _column("doc_id", pa.uint64()),
            _column("row", pa.int64()),
            _column("subset", pa.string()),
            _column("domain", pa.string()),
            _column(
                "content_hash",
                pa.binary(16),
                encoding=content.ENCODING,
            ),
            _column(TEXT_HASH, pa.binary(16), encoding=TEXT_ENCODING),
            _column(
                "url_hash", pa.uint64(), encoding="of the normalised URL (signals/urls.py), 0 where there is none; v2"
            ),
            _column("host", pa.string(), encoding="of the URL, in lower case, empty where there is none; v1"),
            _column("native_id_hash", pa.uint64(), encoding="xxh3_64 of the native id, 0 where there is none; v1"),
            _column("timestamp", pa.int64(), encoding="seconds since 1970 by the source, 0 where it says nothing"),
            _column("quality", pa.uint16(), encoding="signals/quality.py: model of the domain, else the formula; v3"),
            _column("language", pa.string(), encoding="ISO 639; und where there is nothing to tell by"),
            _column("language_score", pa.uint16(), encoding="confidence in 1/10,000"),
            _column("raw_bytes", pa.int64(), encoding="UTF-8 bytes before edits"),
            *(_column(name, pa.int64()) for name in COUNTS),
            _column("edits", EDIT_TYPE),
            _column("url_blocked", pa.uint8(), encoding=", ".join(f"{k} {w}" for k, w in urls.REASONS.items())),
            _column("contaminated", pa.uint16(), encoding="benchmark items found; 0 without an index"),
            _column("contamination_items", items, encoding="row of prepare/benchmarks.parquet"),
            _column("n_shingles", pa.uint32()),
            _column(DROPPED_BY, pa.string(), encoding="step of `before_scan` that dropped the document, or empty"),
            _column(DROPPED_WHY, pa.string(), encoding="the step's reason"),
            *(_column(p.column, pa.string(), encoding="empty, or why the plug-in rejects") for p in settings.plugins),
            *(_column(c.column, pa.float32(), nullable=True, encoding=c.source) for c in settings.classifiers),
        ]
    )


def scanned_schema(settings: ScanSettings) -> pa.Schema:
    """The columns of both tables."""
    signatures = signatures_schema(settings.minhash)
    return pa.schema([*signals_schema(settings), *(f for f in signatures if f.name != "doc_id")])


@dataclass(frozen=True)
class FileSignals:
    """What scan leaves of one source file, or of a piece of one."""

    signals: Artifact
    signatures: Artifact
    quarantine: Artifact | None
    """None where all rows could be read."""
    documents: int
    bytes: int
    """Of the raw text."""
    edited_documents: int
    quarantined: int
    damage: str = ""
    """Why the file could not be read to its end; empty where it could."""
    intact: int = 0
    """Stored bytes before the damage."""
    cut: bool = False
    """Whether the damage is that the file ends too early."""
    times_not_understood: int = 0
    """Documents whose time is there and says nothing; their `timestamp` is 0."""


@dataclass(frozen=True)
class ScannedPieces:
    """What scan leaves of a file that is only read from its start: tables of its pieces, each of which other tasks can read."""

    pieces: tuple[FileSignals, ...]
    """In the order of the rows. The last one has what is said of the whole file: its bad rows and its damage."""
    first: tuple[int, ...]
    """The first row of each."""


def scan_file(file: SourceFile, settings: ScanSettings, models: ModelFiles, paths: RunPaths) -> FileSignals:
    """Scan one file, or a piece of one, into ``signals/``, ``signatures/`` and ``quarantine/``.

    Raises:
        ValueError: the file changed since planning, or has too many rows for an id; or this machine has other tables.
    """
    scanning = _Scanning(file, settings, models, paths)
    return scanning.end(scanning.write(file, scanning.batches()))


def scan_in_pieces(
    file: SourceFile, settings: ScanSettings, models: ModelFiles, most: int, paths: RunPaths
) -> ScannedPieces:
    """Scan a file that is only read from its start into tables of pieces of it.

    Args:
        most: bytes of text with which a piece is full.

    Raises:
        ValueError: as `scan_file`.
    """
    cut = _Cut(most)

    def piece(number: int) -> SourceFile:
        return cut_by_rows(file, number, cut.first[number], -1, 0)

    scanning = _Scanning(piece(0), settings, models, paths)
    parts, found = Parts(FileSignals), list[FileSignals]()
    for number, own in itertools.groupby(scanning.batches(), key=cut):
        found.append(parts.take(number, own, functools.partial(scanning.write, piece(number))))
    if not found:
        found.append(scanning.write(piece(0), iter(())))
    return ScannedPieces((*found[:-1], scanning.end(found[-1])), tuple(cut.first))


class _Cut:
    """Says of batches, as they come, in which piece of their file they are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self.first = [0]

    def __call__(self, batch: pa.RecordBatch) -> int:
        if self._bytes >= self._most:
            self._bytes = 0
            self.first.append(batch.column("row")[0].as_py())
        self._bytes += int(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)
        return len(self.first) - 1


class _Scanning:
    """The scan of a file from beginning to end, whatever tables its rows go to."""

    def __init__(self, file: SourceFile, settings: ScanSettings, models: ModelFiles, paths: RunPaths) -> None:
        models.check_installed()
        keep_freed_memory()
        check_unchanged(file)
        self._file, self._settings, self._paths = file, settings, paths
        self._schema = scanned_schema(settings)
        self._loaded = load_models(models)
        self._plugins = load_plugins(settings.plugins)
        # Of a file whose texts are stored, bad rows were noted when it was read.
        self._quarantine = Quarantine(file, None if file.extracted else paths.quarantine(file.corpus, file.quarantine))

    def batches(self) -> Iterator[pa.RecordBatch]:
        return read_rows(self._file, self._quarantine)

    def write(self, file: SourceFile, batches: Iterator[pa.RecordBatch]) -> FileSignals:
        """Scan rows into the tables of a file or piece."""
        schema, signed_schema = signals_schema(self._settings), signatures_schema(self._settings.minhash)
        places = self._paths.signals(file.corpus, file.part), self._paths.signatures(file.corpus, file.part)
        size = edited = 0
        with (
            parquet_writer(places[0], schema, SIGNAL_GROUP_ROWS) as out,
            parquet_writer(places[1], signed_schema, SIGNAL_GROUP_ROWS) as signed,
        ):
            for batch in batches:
                for piece in pieces(batch):
                    scanned = scan_piece(piece, file, self._settings, self._schema, self._loaded, self._plugins)
                    signals = scanned.select(schema.names)
                    signed.write(scanned.select(signed_schema.names))
                    size += int(pc.sum(signals.column("raw_bytes")).as_py() or 0)
                    edited += len(pc.indices_nonzero(pc.list_value_length(signals.column("edits"))))
                    out.write(signals)
        return FileSignals(out.artifact, signed.artifact, None, out.artifact.rows, size, edited, 0)

    def end(self, last: FileSignals) -> FileSignals:
        """The facts of the last table, with what is said of the file as a whole."""
        check_unchanged(self._file)
        bad = self._quarantine
        return replace(
            last,
            quarantine=bad.publish(),
            quarantined=bad.rows,
            damage=bad.damage,
            intact=bad.intact,
            cut=bad.cut,
            times_not_understood=bad.times,
        )


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Split a batch of `TEXT_SCHEMA` into runs of rows with about `PIECE_BYTES` of text."""
    for first, last in runs_of_texts(batch.column("text")):
        yield batch.slice(first, last - first)


def runs_of_texts(text: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """(first, end) of runs of texts that have about `PIECE_BYTES` together."""
    bounds = text_buffers(text)[1]
    first = 0
    while first < len(text):
        last = int(np.searchsorted(bounds, bounds[first] + PIECE_BYTES, "right")) - 1
        last = min(max(last, first + 1), len(text))
        yield first, last
        first = last


def scan_piece(
    batch: pa.RecordBatch,
    file: SourceFile,
    settings: ScanSettings,
    schema: pa.Schema,
    loaded: Models,
    plugins: tuple[Plugin, ...] = (),
) -> pa.RecordBatch:
    """What is known of a few documents of `TEXT_SCHEMA`: a pure function of text, settings and prepared artifacts.

    Args:
        schema: the columns to return, of those of `scanned_schema`.
    """
    text = batch.column("text")
    n = batch.num_rows
    subset = batch.column("subset").dictionary_encode()
    names = [domain_of(file.format, name, file.domain) for name in subset.dictionary.to_pylist()]
    subset_codes = subset.indices.to_numpy()

    s = segment(*text_buffers(text))
    repetition, repeats = gopher.repetition_counts(s, minhash.shingles_repeat(settings.minhash))
    lines = c4.judge_lines(s)
    pii_counts, pii_spans = pii.find_pii(s)
    hits = contamination.find_hits(s, loaded.index) if loaded.index else None
    edits = _edits(s, settings.edits, lines, pii_spans, hits, names, subset_codes)

    verdicts: dict[str, pa.Array] = {}
    if plugins:
        final = apply_edits(text, edits)
        verdicts, edits = judge_batch(plugins, final, edits, batch, names, subset_codes)
    best, confidence = language.identify(s.text, s.offsets)
    counts = text_counts(s, best, repetition, lines.counts)
    edited = np.flatnonzero(np.diff(edits.offsets.to_numpy()))
    if len(edited):
        where = pa.array(edited)
        changed = text_buffers(apply_edits(text.take(where), edits.take(where)))
        counts[edited] = text_counts(segment(*changed), best[edited])
    else:
        changed = s.text[:0], s.offsets[:1]

    by_name = dict(zip(TEXT_COUNTS, counts.T, strict=True)) | dict(zip(PII_COUNTS, pii_counts.T, strict=True))
    models = loaded.quality
    model = np.array([models.domains.index(d) if d in models.domains else -1 for d in names], np.int64)[subset_codes]
    languages = pa.array([*language.load_model().languages, language.UNDETERMINED])
    columns: dict[str, pa.Array] = {
        "doc_id": pa.array(np.uint64(file.file_hash << ROW_BITS) | batch.column("row").to_numpy().astype(np.uint64)),
        "row": batch.column("row"),
        "subset": batch.column("subset"),
        "domain": pa.array(names, pa.string()).take(subset.indices),
        "url_hash": pa.array(urls.normalised_hashes(batch.column("url"))),
        "host": hosts.hosts(batch.column("url")),
        "native_id_hash": _hashes(batch.column("native_id")),
        "timestamp": batch.column("timestamp"),
        "quality": pa.array(quality.score(s, models, model, quality.formula_score(by_name))),
        "language": languages.take(pa.array(np.where(best < 0, len(languages) - 1, best))),
        "language_score": pa.array(confidence),
        "raw_bytes": pa.array(np.diff(s.offsets)),
        "edits": edits,
        "url_blocked": pa.array(urls.blocked(batch.column("url"), loaded.urls)),
        **{name: _said(batch, name) for name in (DROPPED_BY, DROPPED_WHY)},
        **_contamination_columns(hits, n),
        **_signature_columns(text, s, settings.minhash, repeats),
        **{name: pa.array(np.ascontiguousarray(values)) for name, values in by_name.items()},
        **verdicts,
        **_scores(s, settings.classifiers, loaded.classifiers, names, subset_codes, edited, changed),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in schema], schema=schema)


def _said(batch: pa.RecordBatch, name: str) -> pa.Array:
    """What the steps of `before_scan` say of documents; nothing where no step was given them."""
    return batch.column(name) if name in batch.schema.names else pa.repeat(pa.scalar("", pa.string()), batch.num_rows)


def _edits(
    s: Segments,
    settings: EditSettings,
    lines: c4.JudgedLines,
    pii_spans: np.ndarray,
    hits: contamination.Hits | None,
    domains: list[str],
    subset_codes: np.ndarray,
) -> pa.ListArray:
    """All that is cut or replaced, as `EDIT_TYPE` [n]."""
    spans: list[np.ndarray] = []

    def add(found: np.ndarray, kind: int | np.ndarray) -> None:
        spans.append(np.column_stack([found, np.broadcast_to(kind, len(found))]))

    drops = {d: c4.bits_of(rules) for d, rules in settings.lines}
    if any(d in drops for d in domains):
        rules = np.array([drops.get(d, 0) for d in domains], np.uint8)[subset_codes]
        add(c4.dropped_lines(s, lines.flags, rules), LINE)
        add(c4.kept_markers(s, lines, rules), CITATION)
    if hits is not None and settings.cut_contamination:
        add(hits.spans, CONTAMINATION)
    placeholders = dict(settings.pii)
    if placeholders and len(pii_spans):
        replaced = np.array([kind in placeholders for kind in pii.KINDS])[pii_spans[:, 3]]
        add(pii_spans[replaced, :3], pii_spans[replaced, 3] + PII)
    replacements = ["", "", *(placeholders.get(kind, "") for kind in pii.KINDS), ""]
    found = np.concatenate(spans) if spans else np.empty((0, 4), np.int64)
    return merge_edits(found, replacements, s.offsets)


def _scores(
    s: Segments,
    settings: tuple[ClassifierSettings, ...],
    classifiers: tuple[fasttext.Classifier, ...],
    domains: list[str],
    subset_codes: np.ndarray,
    edited: np.ndarray,
    changed: tuple[np.ndarray, np.ndarray],
) -> dict[str, pa.Array]:
    """The scores of classifiers, by the names of their columns; null where a document has none.

    Args:
        edited: the places of edited documents, and `changed` their text with the edits.
    """
    found = {}
    for asked, classifier in zip(settings, classifiers, strict=True):
        skip = ~np.array([not asked.domains or d in asked.domains for d in domains], bool)[subset_codes]
        as_they_are = skip.copy()
        as_they_are[edited] = True
        scores = fasttext.score(classifier, s.text, s.offsets, as_they_are)
        scores[edited] = fasttext.score(classifier, *changed, skip[edited])
        found[asked.column] = pa.array(scores, mask=np.isnan(scores))
    return found


def _contamination_columns(hits: contamination.Hits | None, n: int) -> dict[str, pa.Array]:
    document = hits.document if hits else np.empty(0, np.int64)
    item = hits.item if hits else np.empty(0, np.uint32)
    counts = np.bincount(document, minlength=n)
    offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
    type_ = pa.list_(pa.field("item", pa.uint32(), nullable=False))
    return {
        "contaminated": pa.array(np.minimum(counts, 65_535).astype(np.uint16)),
        "contamination_items": pa.ListArray.from_arrays(pa.array(offsets), pa.array(item), type=type_),
    }


def _signature_columns(
    text: pa.LargeStringArray, s: Segments, settings: MinHashSettings, repeats: np.ndarray
) -> dict[str, pa.Array]:
    """Hash of the raw text; content hash, signature and sketch of the NFC text.

    Documents that NFC may change are few and signed apart.
    """
    signatures = minhash.sign(s, settings, repeats)
    raw = {TEXT_HASH: fixed_binary(signatures.text)}
    columns = _as_columns(signatures)
    flagged = np.flatnonzero(flag_not_nfc(s.text, s.offsets, tables()[0]))
    if not len(flagged):
        return raw | columns
    changed = to_nfc(text.take(pa.array(flagged)))
    apart = _as_columns(minhash.sign(segment(*text_buffers(changed)), settings))
    order = np.arange(len(text))
    order[flagged] = len(text) + np.arange(len(flagged))
    return raw | {name: pa.concat_arrays([columns[name], apart[name]]).take(pa.array(order)) for name in columns}


def content_hashes(text: pa.LargeStringArray) -> pa.Array:
    """The content hashes of some texts, as scan stores them."""
    return fixed_binary(collapse.content_hashes(*text_buffers(to_nfc(text))))


def _as_columns(signatures: minhash.Signatures) -> dict[str, pa.Array]:
    offsets = pa.py_buffer((signatures.sketch_offsets * 4).astype(np.int32))
    data = pa.py_buffer(signatures.sketch.astype("<u4"))
    return {
        "content_hash": fixed_binary(signatures.content),
        "band_signature": fixed_binary(signatures.bands),
        "n_shingles": pa.array(signatures.n_shingles),
        "sketch": pa.Array.from_buffers(pa.binary(), len(signatures.bands), [None, offsets, data]),
    }


def _hashes(strings: pa.Array) -> pa.Array:
    digest = xxhash.xxh3_64_intdigest
    return pa.array([digest(s.encode()) if s else 0 for s in strings.to_pylist()], pa.uint64())

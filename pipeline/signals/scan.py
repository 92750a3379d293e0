"""Scan, the first read of the text: one source file in, one row of facts per document out.

Promises: rows in the order of the file; every row that is not here is in the file's quarantine; the bytes depend on
the file and the settings alone. Hashes, signatures and sketches are of the raw text (NFC), never of edited text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..artifacts import EDIT_TYPE, RunPaths, parquet_writer
from ..engine import TaskResult
from ..identity import ROW_BITS, SourceFile
from ..sources.domains import domain_of
from ..sources.listing import current_version
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from .counts import COUNTS, count_batch, quality_of
from .minhash import SKETCH_ENCODING, MinHashSettings, sign_batch
from .unicode import flag_not_nfc, tables

VERSION = 1


@dataclass(frozen=True)
class ScanSettings:
    """What scan computes. Thresholds are not here: a changed filter needs no second read."""

    minhash: MinHashSettings = field(default_factory=MinHashSettings)


def signals_schema(settings: ScanSettings) -> pa.Schema:
    """One row per document. The encodings of binary columns are named in their metadata."""
    shape = settings.minhash

    def column(name: str, type_: pa.DataType, **metadata: str) -> pa.Field:
        return pa.field(name, type_, nullable=False, metadata=metadata or None)

    return pa.schema(
        [
            column("doc_id", pa.uint64()),
            column("row", pa.int64()),
            column("subset", pa.string()),
            column("domain", pa.string()),
            column("content_hash", pa.binary(16), encoding="murmur3_x64_128 of NFC, white space collapsed; v1"),
            column("url_hash", pa.uint64(), encoding="xxh3_64 of the URL, 0 where there is none; v1"),
            column("native_id_hash", pa.uint64(), encoding="xxh3_64 of the native id, 0 where there is none; v1"),
            column("quality", pa.uint16(), encoding="integer formula of signals/counts.py; v1"),
            *(column(name, pa.int64()) for name in COUNTS),
            column("edits", EDIT_TYPE),
            column("contaminated", pa.uint16(), encoding="benchmark items found; 0 without an index"),
            column(
                "band_signature",
                pa.binary(8 * shape.bands),
                encoding=f"{shape.bands} uint64 little endian, {shape.rows} minima each, {shape.ngram}-grams; v1",
            ),
            column("n_shingles", pa.uint32()),
            column("sketch", pa.binary(), encoding=f"{SKETCH_ENCODING}, k={shape.sketch_size}; v1"),
        ]
    )


def scan_file(file: SourceFile, settings: ScanSettings, paths: RunPaths) -> TaskResult:
    """Scan one file into ``signals/`` and ``quarantine/``.

    Raises:
        ValueError: the file changed since planning, or has too many rows for an id.
    """
    check_unchanged(file)
    schema = signals_schema(settings)
    quarantine = Quarantine(file, paths.quarantine(file.corpus, file.path))
    counts = {"documents": 0, "bytes": 0}
    with parquet_writer(paths.signals(file.corpus, file.path), schema) as out:
        for batch in read_rows(file, quarantine):
            signals = scan_batch(batch, file, settings, schema)
            counts["documents"] += signals.num_rows
            counts["bytes"] += int(pc.sum(signals.column("n_bytes")).as_py() or 0)
            out.write(signals)
    check_unchanged(file)
    outputs = [out.artifact]
    bad = quarantine.publish()
    if bad:
        outputs.append(bad)
    counts["quarantined"] = quarantine.rows
    counts["damaged_files"] = int(bool(quarantine.damage))
    return TaskResult(tuple(outputs), counts, {"damage": quarantine.damage} if quarantine.damage else {})


def check_unchanged(file: SourceFile) -> None:
    """Raise ValueError if a local file is not what planning saw."""
    if current_version(file) != (file.size, file.version):
        raise ValueError(f"{file.name} changed while the run was reading it; run again to plan with the new file")


def text_buffers(text: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """(UTF-8 bytes uint8, offsets int64 [n + 1]) of an Arrow array, without a copy."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds


def normalised(text: pa.LargeStringArray) -> pa.LargeStringArray:
    """NFC of every document; those that cannot change are not touched, which is nearly all of them."""
    flagged = flag_not_nfc(*text_buffers(text), tables()[0])
    if not flagged.any():
        return text
    where = pa.array(np.flatnonzero(flagged))
    changed = pc.utf8_normalize(text.take(where), form="NFC")
    return pc.replace_with_mask(text, pa.array(flagged), changed)


def scan_batch(batch: pa.RecordBatch, file: SourceFile, settings: ScanSettings, schema: pa.Schema) -> pa.RecordBatch:
    """The signals of a batch of `TEXT_SCHEMA`: a pure function of text and settings."""
    text = batch.column("text")
    counts = count_batch(*text_buffers(text))
    signatures = sign_batch(*text_buffers(normalised(text)), settings.minhash)
    n = batch.num_rows
    ids = np.uint64(file.file_hash << ROW_BITS) | batch.column("row").to_numpy().astype(np.uint64)
    subset = batch.column("subset").dictionary_encode()
    names = subset.dictionary.to_pylist()
    domains = pa.array([domain_of(file.format, name) for name in names], pa.string())
    columns = {
        "doc_id": pa.array(ids),
        "row": batch.column("row"),
        "subset": batch.column("subset"),
        "domain": domains.take(subset.indices),
        "content_hash": _fixed(signatures.content),
        "url_hash": _hashes(batch.column("url")),
        "native_id_hash": _hashes(batch.column("native_id")),
        "quality": pa.array(quality_of(counts)),
        "edits": pa.array([[]] * n, EDIT_TYPE),
        "contaminated": pa.array(np.zeros(n, np.uint16)),
        "band_signature": _fixed(signatures.bands),
        "n_shingles": pa.array(signatures.n_shingles),
        "sketch": pa.Array.from_buffers(
            pa.binary(),
            n,
            [
                None,
                pa.py_buffer((signatures.sketch_offsets * 4).astype(np.int32)),
                pa.py_buffer(signatures.sketch.astype("<u4")),
            ],
        ),
    }
    columns |= {name: pa.array(np.ascontiguousarray(counts[:, k])) for k, name in enumerate(COUNTS)}
    return pa.RecordBatch.from_arrays([columns[f.name] for f in schema], schema=schema)


def _fixed(values: np.ndarray) -> pa.Array:
    """uint64 [n, m] as fixed-size binary of 8 * m bytes."""
    data = np.ascontiguousarray(values.astype("<u8"))
    return pa.Array.from_buffers(pa.binary(8 * values.shape[1]), len(values), [None, pa.py_buffer(data)])


def _hashes(strings: pa.Array) -> pa.Array:
    digest = xxhash.xxh3_64_intdigest
    return pa.array([digest(s.encode()) if s else 0 for s in strings.to_pylist()], pa.uint64())

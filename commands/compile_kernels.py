"""Compile every Numba kernel into this machine's cache, and every module, so that no run and no worker pays for it.

`make install` runs it; it is also what to run in a container image. Takes half a minute where nothing is cached.
"""

from __future__ import annotations

import compileall
from pathlib import Path

WORDS = " ".join(f"word{i}" for i in range(40))
TEXTS = (
    "Two words, and e\u0301 = more.\nlorem ipsum\n",
    "",
    f"mail a@b.com, or +44 20 7946 0958. {WORDS} {WORDS}",
    "Der Hund und die Katze liegen in der Sonne.",
)


def main() -> None:
    """Compile, or load, all of them."""
    _compile_modules(Path(__file__).parents[1])
    _handle_text()
    _classify()
    _explore()
    _dedupe([*TEXTS, WORDS, f"{WORDS} more"])
    from ..tune.ngram import warm

    warm()


def _compile_modules(root: Path) -> None:
    """Compile the modules of the package, also where Python is told to leave no bytecode behind, as it is in many images: each
    process would compile them all by itself, which is half of the time until it begins.
    """
    compileall.compile_dir(root, maxlevels=0, quiet=2)
    for folder in {path.parent for path in root.glob("*/*.py")}:
        compileall.compile_dir(folder, quiet=2)


def preload() -> None:
    """Import the stages, and load the kernels that read or write text: what each worker of a pool would do by itself.

    It starts no thread, as reading a Parquet file would.
    """
    from .quick_imports import leave_out_pandas, leave_out_scipy

    leave_out_pandas()
    leave_out_scipy()
    from ..pipeline import curate  # noqa: F401

    _handle_text()


def _handle_text() -> None:
    import numpy as np
    import pyarrow as pa
    from sentencepiece import sentencepiece_model_pb2 as proto

    from ..pipeline.prepare.benchmarks import Item
    from ..pipeline.prepare.contamination import ContaminationSettings, build
    from ..pipeline.run.identity import SourceFile
    from ..pipeline.signals import hashing, minhash, quality, scan, urls
    from ..pipeline.signals.segment import segment
    from ..pipeline.sources.text_schema import TEXT_SCHEMA
    from ..tokenize import bpe, pack, pieces, spans, word_cache

    texts = [*TEXTS] * 3
    n = len(texts)
    columns = [range(n), texts, ["Pile-CC"] * n, [""] * n, ["http://x.com/y"] * n, [0] * n]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)], schema=TEXT_SCHEMA
    )
    item = Item(questions=(WORDS, f"{WORDS} 3.5kg"), benchmark="b", file="f", row=0)
    index, _ = build([item], ContaminationSettings())
    edits = scan.EditSettings((("email", "x"),), (("web", ("javascript",)),), True)
    for shape in minhash.PRESETS.values():
        settings = scan.ScanSettings(shape, edits)
        weights = np.zeros((1, quality.BUCKETS), np.int16)
        prepared = scan.Models(quality.QualityModels(("web",), weights), index, urls.parse_rules(["x.org", "word"]))
        file = SourceFile("pile", "x", "", 0, "", "pile", False, 1)
        scan.scan_piece(batch, file, settings, scan.scanned_schema(settings), prepared)
    s = segment(*scan.text_buffers(batch.column("text")))
    quality.train(s, np.arange(n) % 2 == 0, np.zeros(n, bool), 1)
    hashing.mix_array(np.arange(3, dtype=np.uint64), 1)
    _mix()
    model = proto.ModelProto(pieces=[{"piece": text, "score": 0.0, "type": 1} for text in ("a", "b", "ab")])
    three = pieces.Pieces.read(model.SerializeToString())
    tables = bpe.WordTables.of(three)
    words = bpe.WordEncoder(tables, lambda texts: [[0] * len(t.encode()) for t in texts]).encode
    parts = word_cache.WordCache(words, tables.joined, 64, 8).encode
    word_cache.WordCache(parts, word_cache.Cuts(line_feeds=True), 64, 8).encode(batch.column("text"))
    spans.gather(np.arange(9, dtype=np.int32), np.array([0, 4]), np.array([4, 5]))
    lengths = np.array([5, 9, 2], np.int64)
    for packing in ("best_fit", "concatenate"):
        packed = pack.pack(lengths, 8, 4, packing, last=True)
    stream = pack.streams(np.arange(10, dtype=np.int32), np.array([0, 3, 10, 10]), lengths, 2, 1)
    p = packed.segments
    nothing = np.empty(0, np.int64), np.zeros(4, np.int64)
    pack.loss_spans(p.document, p.start, p.length, p.block, packed.n_blocks, *nothing)
    pack.fill(p.document, p.start, p.length, p.block, packed.n_blocks, 8, stream, np.r_[0, np.cumsum(lengths)], 0)


def _classify() -> None:
    """Read a fastText file of two labels and no word, and score a text by it. Few recipes do, so no worker begins with it."""
    import io
    import struct

    import numpy as np

    from ..pipeline.prepare.fasttext_file import MAGIC, read_fasttext
    from ..pipeline.signals import fasttext

    numbers = (1, 0, 0, 0, 0, 2, fasttext.HIERARCHICAL, 3, 4, 1, 2, 0)
    labels = b"".join(name + b"\0" + struct.pack("<qb", 1, 1) for name in (b"__label__a", b"__label__b"))
    matrix = struct.pack("<?2q", False, 4, 1) + bytes(16), struct.pack("<?2q", False, 2, 1) + bytes(8)
    file = struct.pack("<2i12id3i2q", MAGIC, 12, *numbers, 0.0, 2, 0, 2, 0, -1) + labels + b"".join(matrix)
    classifier = read_fasttext(io.BytesIO(file), len(file)).counting((("a", 1.0),))
    fasttext.score(classifier, np.frombuffer(b"a b", np.uint8), np.array([0, 3]), np.zeros(1, bool))


def _mix() -> None:
    """Move a document through the shuffle of the mixture, with arrays that may be written and with Arrow's, that may not."""
    import tempfile
    from pathlib import Path

    import numpy as np

    from ..pipeline.engine.rows import Column, Rows, RowShuffle, pack_rows, read_rows
    from ..pipeline.engine.shuffle_file import Levels, read_partition, read_sizes
    from ..pipeline.mix import assign

    one = np.zeros(1, np.int64)
    fixed = np.frombuffer(np.arange(3, dtype=np.int32).tobytes(), np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        out = RowShuffle(path, Levels(1))
        for values in (fixed, fixed.copy()):
            columns = [Column(values, one, one + 3)] * 2
            out.add(*pack_rows(np.zeros(1, assign.ENTRY), columns))
            assign._add_digests(one, np.zeros(1, assign.ENTRY), columns, np.zeros(1, np.uint64))
        out.close()
        merged = Rows().writer(Path(folder, "merged"), Levels(1))
        merged.add_block(np.diff(read_sizes(path)[1], axis=0), read_partition(path, 0))
        merged.close()
        _, (ids, _) = read_rows([path], 0, assign.ENTRY, 2)
        ids.take(one)


def _explore() -> None:
    """Count one document, as the page of `fox1 inspect` counts those of a run."""
    import numpy as np

    from ..pipeline.inspect.explore import count
    from ..pipeline.inspect.explore.scales import scale_of

    codes, state, kept = np.zeros((1, 1), np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.uint8)
    scale_of("words").codes(np.zeros(1), codes[0])
    rows = np.zeros(1, np.int64)
    count.judge(codes, rows, np.ones((1, count.BINS), np.bool_), state, kept, 0, 1)
    count.list_places(state, kept, True, 0, 1, np.empty((2, 2), np.int32))
    count.count_pair(codes[0], codes[0], np.zeros(1, np.int32), 1, np.zeros((2, 1), np.uint32))
    count.count_own(codes[0], state, 1, kept)
    count.count_names(np.zeros(1, np.uint32), state, 0, kept, 1)


def _dedupe(texts: list[str]) -> None:
    """Dedupe a few documents in a folder of their own: its kernels take what its steps hand them."""
    import json
    import tempfile
    from pathlib import Path

    from ..pipeline.dedupe.order import DedupeSettings
    from ..pipeline.dedupe.stage import dedupe
    from ..pipeline.engine.engine import Engine
    from ..pipeline.engine.tasks import InProcess
    from ..pipeline.filter.judge import FilterSettings
    from ..pipeline.filter.stage import filter_documents
    from ..pipeline.passages.settings import KINDS, PassageSettings
    from ..pipeline.passages.stage import cut_passages
    from ..pipeline.run.identity import group_files
    from ..pipeline.run.paths import RunPaths
    from ..pipeline.signals.scan import ModelFiles, ScanSettings
    from ..pipeline.signals.stage import scan
    from ..pipeline.sources.listing import SourceSettings, list_sources
    from ..pipeline.sources.pieces import cut_files
    from ..pipeline.text.survivors import DecidedFile

    with tempfile.TemporaryDirectory() as folder:
        rows = [json.dumps({"text": text, "meta": {"pile_set_name": "Pile-CC"}}) for text in texts]
        Path(folder, "a.jsonl").write_text("\n".join(rows))
        files = list_sources((SourceSettings("pile", "pile", folder, ("*.jsonl",)),))
        engine, groups, settings = (
            Engine(RunPaths(Path(folder, "run")), InProcess()),
            group_files(files),
            ScanSettings(),
        )
        scanned = scan(engine, cut_files(engine, files), settings, ModelFiles.installed())
        filtered = filter_documents(engine, groups, scanned.files, FilterSettings(), None)
        order = DedupeSettings()
        decided = dedupe(engine, groups, scanned.files, filtered.groups, order, settings.minhash, first=True)
        kept = {
            f.table: DecidedFile(f, scanned.files[f.table].signals, decided.decisions[f.table])
            for group in groups
            for f in group.files
        }
        passages = PassageSettings(KINDS, min_words=1, sentences=1, substring_words=8)
        cut_passages(engine, groups, kept, passages, order, decided)


if __name__ == "__main__":
    main()

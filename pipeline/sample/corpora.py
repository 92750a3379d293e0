"""Rows to files: each corpus laid out, named and encoded as it is published.

A file is written under a temporary name and renamed, and its bytes are a function of its rows alone: no time stamps,
a fixed compression level, keys in a fixed order.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from .compose import Corpus, SampleRow
from .harvest import rank

Json = dict[str, Any]
REDPAJAMA_FILES: dict[str, tuple[str, ...]] = {
    "arxiv": ("arxiv_000.jsonl",),
    "book": ("book_00.jsonl.zst",),
    "c4": ("c4-train.00000-of-01024.jsonl.zst",),
    "common_crawl": (
        "2023-06/en_head_0000.json.gz.dedup.classifier.jsonl.zst",
        "2023-06/en_head_0001.json.gz.dedup.classifier.jsonl.zst",
    ),
    "github": ("filtered_00.sampled.jsonl.zst", "filtered_01.sampled.jsonl.zst"),
    "stackexchange": ("stackexchange_00.jsonl.zst",),
    "wikipedia": ("wiki_00.jsonl.zst",),
}
"""Each subset's files; the arXiv part is published without compression."""
REDPAJAMA_NO_SUBSET = frozenset({"arxiv", "book"})
"""Their rows do not name the subset; the folder does."""
REDPAJAMA_META: dict[str, Callable[[Json], Any]] = {"stackexchange": json.dumps, "book": str}
"""Where `meta` is a string: of JSON, or the repr of a Python dictionary."""
SLIMPAJAMA_NAMES = {
    "arxiv": "RedPajamaArXiv",
    "book": "RedPajamaBook",
    "c4": "RedPajamaC4",
    "common_crawl": "RedPajamaCommonCrawl",
    "github": "RedPajamaGithub",
    "stackexchange": "RedPajamaStackExchange",
    "wikipedia": "RedPajamaWikipedia",
}
SLIMPAJAMA_TRAIN = tuple(f"train/chunk{i % 2 + 1}/example_train_{i}.jsonl.zst" for i in range(4))
SLIMPAJAMA_HELD_OUT = ("validation/chunk1/example_holdout_0.jsonl.zst", "test/chunk1/example_holdout_0.jsonl.zst")
PILE_TRAIN = tuple(f"train/{i:02}.jsonl.zst" for i in range(3))
PILE_HELD_OUT = ("val.jsonl.zst", "test.jsonl.zst")
HELD_OUT_SHARE = 0.015
REFINEDWEB_FILES = 2
REFINEDWEB_FIELDS: list[pa.Field] = [
    pa.field("content", pa.string()),
    pa.field("url", pa.string()),
    pa.field("timestamp", pa.timestamp("ms")),
    pa.field("dump", pa.string()),
    pa.field("segment", pa.string()),
    pa.field("image_urls", pa.list_(pa.list_(pa.string()))),
]
REFINEDWEB_SCHEMA = pa.schema(REFINEDWEB_FIELDS)
ZSTD_LEVEL, GZIP_LEVEL = 3, 2


def write_corpora(root: Path, rows: Iterable[SampleRow]) -> None:
    """Write the rows of all corpora below `root`, a folder for each corpus."""
    # Subsets are mixed inside a file, so rows are shuffled: by a hash, with the rest of the row to break ties.
    ordered = sorted(rows, key=lambda r: (rank("row", r.seed), r.subset, r.document.key, r.text))
    for corpus, write in _WRITERS.items():
        write(root / corpus, [r for r in ordered if r.corpus is corpus])


def _redpajama(root: Path, rows: Sequence[SampleRow]) -> None:
    for subset, names in REDPAJAMA_FILES.items():
        for name, part in _deal([r for r in rows if r.subset == subset], names).items():
            _write(root / subset / name, _lines(part, _redpajama_row))


def _slimpajama(root: Path, rows: Sequence[SampleRow]) -> None:
    for name, part in _held_out(rows, SLIMPAJAMA_HELD_OUT, SLIMPAJAMA_TRAIN).items():
        _write(
            root / name,
            _lines(part, lambda r: {"text": r.text, "meta": {"redpajama_set_name": SLIMPAJAMA_NAMES[r.subset]}}),
        )


def _dolma(root: Path, rows: Sequence[SampleRow]) -> None:
    for source in sorted({r.subset for r in rows}):
        part = [r for r in rows if r.subset == source]
        _write(root / f"{source}-0000.json.gz", _lines(part, partial(_dolma_row, seen=Counter())))


def _pile(root: Path, rows: Sequence[SampleRow]) -> None:
    for name, part in _held_out(rows, PILE_HELD_OUT, PILE_TRAIN).items():
        _write(root / name, _lines(part, lambda r: {"text": r.text, "meta": {"pile_set_name": r.subset}}))


def _refinedweb(root: Path, rows: Sequence[SampleRow]) -> None:
    for index in range(REFINEDWEB_FILES):
        name = f"train-{index:05}-of-{REFINEDWEB_FILES:05}-{rank('refinedweb', index):016x}.parquet"
        part = rows[index::REFINEDWEB_FILES]
        table = pa.Table.from_pylist([_refinedweb_row(r) for r in part], REFINEDWEB_SCHEMA)
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="snappy", row_group_size=1000)
        _rename_into(root / "data" / name, buffer.getvalue())


_WRITERS: dict[Corpus, Callable[[Path, Sequence[SampleRow]], None]] = {
    Corpus.REDPAJAMA: _redpajama,
    Corpus.SLIMPAJAMA: _slimpajama,
    Corpus.DOLMA: _dolma,
    Corpus.PILE: _pile,
    Corpus.REFINEDWEB: _refinedweb,
}


def _redpajama_row(row: SampleRow) -> Json:
    meta = _redpajama_meta(row)
    value = REDPAJAMA_META[row.subset](meta) if row.subset in REDPAJAMA_META else meta
    named = {} if row.subset in REDPAJAMA_NO_SUBSET else {"red_pajama_subset": row.subset}
    return {"text": row.text, "meta": value, **named}


def _redpajama_meta(row: SampleRow) -> Json:
    seed, date = row.seed, _date(row)
    match row.subset:
        case "arxiv":
            yymm = date.strftime("%y%m")
            arxiv_id = f"{yymm}.{seed % 100_000:05}"
            return {
                "timestamp": date.isoformat(),
                "yymm": yymm,
                "arxiv_id": arxiv_id,
                "language": "en",
                "url": _url(row),
            }
        case "book":
            return {"short_book_title": row.document.title, "publication_date": 1850 + seed % 70, "url": _url(row)}
        case "c4":
            return {"timestamp": f"{date.isoformat()}Z", "url": _url(row), "language": "en", "source": "c4"}
        case "common_crawl":
            wiki = seed % 10**6 / 10**6
            label = "__label__wiki" if wiki > 0.5 else "__label__cc"
            source = f"cc/2023-06/en_head_{seed % 5000:04}.json.gz/line{seed % 900_000}"
            return {"pred_label": label, "pred_label_prob": max(wiki, 1 - wiki), "wiki_prob": wiki, "source": source}
        case "github":
            return _github_meta(row)
        case "stackexchange":
            place = {"language": "en", "url": _url(row), "timestamp": date.isoformat()}
            return {**place, "source": "stackexchange", "question_score": str(seed % 40)}
        case _:
            return {"title": row.document.title, "url": _url(row), "language": "en", "timestamp": "20230320"}


def _github_meta(row: SampleRow) -> Json:
    owner, _, path = row.document.key.partition("/")
    lengths = [len(line) for line in row.text.split("\n")]
    return {
        "content_hash": hashlib.md5(row.text.encode(), usedforsecurity=False).hexdigest(),
        "timestamp": "",
        "source": "github",
        "line_count": len(lengths),
        "max_line_length": max(lengths),
        "avg_line_length": sum(lengths) / len(lengths),
        "alnum_prop": sum(map(str.isalnum, row.text)) / len(row.text),
        "repo_name": f"{owner}/{owner}",
        "id": _sha1(row.document.key),
        "size": str(len(row.text.encode())),
        "binary": False,
        "copies": str(1 + row.seed % 9),
        "ref": "refs/heads/master",
        "path": path,
        "mode": "33188",
        "license": ("mit", "apache-2.0", "bsd-3-clause")[rank(owner) % 3],
        "language": [{"name": "Python" if path.endswith((".py", ".pyi")) else "C++", "bytes": str(sum(lengths))}],
    }


def _dolma_row(row: SampleRow, seen: Counter[str]) -> Json:
    """`id` is a hash of the document, the same in every source that holds it; a repeat in one source is numbered."""
    seed, identity = row.seed, _sha1(row.document.key)
    number = seen[identity]
    seen[identity] += 1
    metadata: Json
    if row.subset == "stack-code":
        owner, _, path = row.document.key.partition("/")
        metadata = {"repo_name": f"{owner}/{owner}", "path": path, "license": "MIT"}
    elif row.subset.startswith("cc_en"):
        segment = f"crawl-data/CC-MAIN-2022-{10 + seed % 40}"
        bucket = row.subset.removeprefix("cc_en_")
        metadata = {"url": _url(row), "cc_segment": segment, "bucket": bucket, "language": "en"}
    else:
        metadata = {"title": row.document.title, "url": _url(row), "length": len(row.text)}
    return {
        "id": identity if not number else f"{identity}-{number}",
        "text": row.text,
        "source": row.subset,
        "added": "2023-06-03T13:52:26.000Z",
        "created": f"{_date(row).isoformat()}.000Z",
        "metadata": metadata,
    }


def _refinedweb_row(row: SampleRow) -> Json:
    seed, date = row.seed, _date(row)
    url = _url(row)
    images = [[f"{url}/figure-{seed % 7}.png", row.document.title]] if seed % 5 == 0 else []
    return {
        "content": row.text,
        "url": url,
        "timestamp": date,
        "dump": date.strftime("CC-MAIN-%G-%V"),
        "segment": f"{1_400_000_000_000 + seed % 10**11}.{seed % 100:02}",
        "image_urls": images,
    }


def _url(row: SampleRow) -> str:
    """An address of the document; the top-level domain is reserved, so it leads nowhere."""
    owner, _, path = row.document.key.partition("/")
    return f"https://{owner.replace('_', '-')}.example/{quote(path, safe='/')}"


def _date(row: SampleRow) -> datetime:
    return datetime(2014, 1, 1) + timedelta(seconds=row.seed % (9 * 365 * 86_400))


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _deal(rows: Sequence[SampleRow], names: Sequence[str]) -> dict[str, Sequence[SampleRow]]:
    """Rows dealt to the files in turn."""
    return {name: rows[i :: len(names)] for i, name in enumerate(names)}


def _held_out(
    rows: Sequence[SampleRow], held_out: Sequence[str], train: Sequence[str]
) -> dict[str, Sequence[SampleRow]]:
    """A small share of the rows to the held-out files, the rest to those of training.

    Rows with one text stay on one side, so that nothing held out is trained on.
    """
    count = max(len(held_out), round(len(rows) * HELD_OUT_SHARE))
    texts = {r.text for r in rows[:count]}
    kept = [r for r in rows[count:] if r.text not in texts]
    return _deal(rows[:count], held_out) | _deal(kept, train)


def _lines(rows: Iterable[SampleRow], shape: Callable[[SampleRow], Json]) -> bytes:
    return "".join(json.dumps(shape(row), ensure_ascii=False) + "\n" for row in rows).encode()


def _write(path: Path, data: bytes) -> None:
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
    elif path.suffix == ".gz":
        data = gzip.compress(data, GZIP_LEVEL, mtime=0)
    _rename_into(path, data)


def _rename_into(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)

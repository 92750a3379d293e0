"""Corpora as large as a test needs, out of small ones: each copy has the documents' form and other words, so none is a copy.

Of every run of five to fourteen lowercase letters another word of the same length is put in its place, chosen by a hash of word
and copy among the frequent words of that length. The hundred most frequent words of each length stay, by which languages and
rules tell prose. So documents that are duplicates within a copy stay duplicates, and those of two copies share few 5-grams.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fox1.pipeline.sources.formats import chunks
from numba import njit

SHORTEST, LONGEST = 5, 14
KEPT, CHOSEN = 100, 3000
"""Words of a length, by frequency: those that stay, and those after them that are put in place of others."""


@dataclass(frozen=True)
class Vocabulary:
    """Words by length, as flat arrays."""

    letters: np.ndarray
    """uint8: all words, one after the other."""
    first: np.ndarray
    """int64 [LONGEST + 2]: where those of a length begin."""
    stays: np.ndarray
    """uint64, sorted: the hashes of the words that stay."""

    @classmethod
    def of(cls, texts: Iterator[str]) -> Vocabulary:
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        words = re.compile(rf"(?<![a-z])[a-z]{{{SHORTEST},{LONGEST}}}(?![a-z])").findall
        for text in texts:
            for word in words(text):
                counts[len(word)][word] += 1
        first, letters, stays = [0] * (LONGEST + 2), b"", []
        for n in range(SHORTEST, LONGEST + 1):
            ranked = [w for w, _ in counts[n].most_common(KEPT + CHOSEN)] or ["x" * n]
            stays += [word_hash(np.frombuffer(w.encode(), np.uint8), 0, n, 0) for w in ranked[:KEPT]]
            first[n] = len(letters)
            letters += "".join(ranked[KEPT:] or ranked).encode()
            first[n + 1] = len(letters)
        return cls(np.frombuffer(letters, np.uint8), np.array(first, np.int64), np.sort(np.array(stays, np.uint64)))

    def vary(self, texts: list[str], copy: int) -> list[str]:
        """The texts in other words; of copy 0 themselves."""
        if not copy:
            return texts
        parts = [t.encode("utf-8", "surrogatepass") for t in texts]
        data = np.frombuffer(b"\n".join(parts), np.uint8).copy()
        change(data, self.letters, self.first, self.stays, copy)
        whole, at, found = data.tobytes(), 0, []
        for part in parts:
            found.append(whole[at : at + len(part)].decode("utf-8", "surrogatepass"))
            at += len(part) + 1
        return found


@njit(cache=True)
def word_hash(data: np.ndarray, begin: int, end: int, seed: int) -> np.uint64:
    h = np.uint64(0xCBF29CE484222325) ^ (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
    for i in range(begin, end):
        h = (h ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    h ^= h >> np.uint64(29)
    return h * np.uint64(0xBF58476D1CE4E5B9)


@njit(cache=True)
def change(data: np.ndarray, letters: np.ndarray, first: np.ndarray, stays: np.ndarray, copy: int) -> None:
    """Put other words into a text, in place."""
    i, n = 0, len(data)
    while i < n:
        if not 97 <= data[i] <= 122:
            i += 1
            continue
        end = i
        while end < n and 97 <= data[end] <= 122:
            end += 1
        size = end - i
        if SHORTEST <= size <= LONGEST:
            known = word_hash(data, i, end, 0)
            place = np.searchsorted(stays, known)
            if place == len(stays) or stays[place] != known:
                count = (first[size + 1] - first[size]) // size
                word = first[size] + size * np.int64(word_hash(data, i, end, copy) % np.uint64(count))
                for k in range(size):
                    data[i + k] = letters[word + k]
        i = end


def read_lines(path: Path) -> list[bytes]:
    return b"".join(chunks(str(path))).splitlines()


def compressed(path: Path) -> Any:
    """A new file, compressed as its name says, zstd as a single frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        return gzip.open(path, "wb", compresslevel=1)
    if path.suffix == ".zst":
        return zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(3))
    return open(path, "wb")


def text_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def vary_lines(source: Path, target: Path, copies: range, vocabulary: Vocabulary) -> int:
    """Write copies of a file of JSON lines; bytes of text."""
    rows: list[Any] = []
    for line in read_lines(source):
        try:
            rows.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            continue
    rows = [row for row in rows if isinstance(row, dict) and isinstance(row.get("text"), str)]
    texts, size = [row["text"] for row in rows], 0
    encode = msgspec.json.Encoder().encode
    with compressed(target) as out:
        for copy in copies:
            for row, text in zip(rows, vocabulary.vary(texts, copy), strict=True):
                size += text_bytes(text)
                named = {"id": f"{row['id']}-{copy}"} if copy and "id" in row else {}
                out.write(encode({**row, **named, "text": text}))
                out.write(b"\n")
    return size


def vary_table(source: Path, target: Path, copies: range, vocabulary: Vocabulary) -> int:
    """Write copies of a Parquet file; bytes of text."""
    table = pq.read_table(source)
    texts, size = table.column("content").to_pylist(), 0
    place = table.schema.get_field_index("content")
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(target, table.schema, compression="zstd") as out:
        for copy in copies:
            changed = vocabulary.vary(texts, copy)
            size += sum(map(text_bytes, changed))
            column = pa.array(changed, table.schema.field(place).type)
            out.write_table(table.set_column(place, table.schema.field(place), column))
    return size


def _vary(job: tuple[Path, Path, range, Vocabulary]) -> int:
    return (vary_table if job[0].suffix == ".parquet" else vary_lines)(*job)


def write_varied(corpora: Path, folder: Path, text: int, together: int) -> int:
    """Write varied copies of corpora until they hold so much text; bytes of text.

    Args:
        text: bytes.
        together: copies in a file. Of the first file of The Pile all are in one.
    """
    sources = sorted(p for p in corpora.rglob("*") if p.is_file() and not p.name.startswith("."))
    lines = [p for p in sources if p.suffix != ".parquet"]
    samples = (row for p in lines[::3] for row in read_lines(p)[::4])
    vocabulary = Vocabulary.of(str(msgspec.json.decode(row).get("text", "")) for row in samples)
    once = sum(vary_lines(p, Path(os.devnull), range(1), vocabulary) for p in lines)
    copies = max(1, round(text / once))
    jobs = []
    first = next(p for p in sources if "pile/train" in p.as_posix())
    for source in sources:
        name = source.relative_to(corpora)
        stem, _, suffix = name.name.partition(".")
        step = copies if source == first else together
        for begin in range(0, copies, step):
            target = folder / name.with_name(f"{stem}-{begin:04d}.{suffix}")
            # The held-out files are known by their names.
            if stem in ("val", "test"):
                if begin:
                    continue
                target = folder / name
            jobs.append((source, target, range(begin, min(begin + step, copies)), vocabulary))
    jobs.sort(key=lambda job: job[0].stat().st_size * len(job[2]), reverse=True)
    with multiprocessing.get_context("spawn").Pool() as pool:
        return sum(pool.imap_unordered(_vary, jobs))

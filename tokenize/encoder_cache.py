"""Encoders of this machine: what one computes of a model's pieces is kept on disk, by what the model holds.

In: a `.model` file. Out: its encoder, from tables in a folder that nobody else can write, or else made from the pieces, and then
kept there. Curation does not come here: its workers begin with what one process has loaded.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import zipfile
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import xxhash

from ..storage.inside import partial
from ..storage.private import cache_folder
from .bpe import CODE_POINTS, WordTables
from .encode import Encoder, EncoderTables
from .model import read_model

VERSION = 3
"""Of the tables; raised when the same model gives others."""
MOST_MODELS = 16
"""Whose tables are kept; those of 256,000 pieces take 9 MB."""


def kept_encoder(model: Path) -> Encoder:
    """The encoder of a model file. A process keeps the last one, until the file is another.

    Raises:
        ValueError: there is no such file, or it is no SentencePiece model.
    """
    with suppress(OSError):  # `read_model` says what is wrong
        stat = os.stat(model)
        return _of_file(model, stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return _of_file(model)


@functools.lru_cache(1)
def _of_file(model: Path, *_state: int) -> Encoder:
    folder = cache_folder(f"encoders-{VERSION}")
    path = Path(folder, f"{xxhash.xxh3_128_hexdigest(read_model(model))}-{_converter()}.npz")
    if tables := _read(path):
        return Encoder(model, tables=tables)
    encoder = Encoder(model)
    _write(path, encoder.tables)
    return encoder


def _converter() -> str:
    """The version of what converts models; none where it is not installed, which is another result."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("gigatoken")
    return "none"


def _read(path: Path) -> EncoderTables | None:
    """Tables from their file; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        words = None
        if "rank" in arrays:
            # Of a million code points, few are pieces.
            characters = np.full(CODE_POINTS, -1, np.int32)
            characters[arrays.pop("code_points")] = arrays["characters"]
            arrays["characters"] = characters
            words = WordTables(**{f.name: arrays[f.name] for f in fields(WordTables)})
        control = tuple(arrays["control"].tobytes().decode().split("\0")) if len(arrays["control"]) else ()
        converted = arrays["converted"].tobytes() if "converted" in arrays else None
        return EncoderTables(arrays["model"].tobytes(), control, bool(arrays["line_feeds"]), words, converted)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


def _write(path: Path, tables: EncoderTables) -> None:
    """Keep tables for other processes, unless nothing can be written there."""
    arrays = {
        "model": np.frombuffer(tables.model, np.uint8),
        # No piece holds a NUL.
        "control": np.frombuffer("\0".join(tables.control).encode(), np.uint8),
        "line_feeds": np.array(tables.line_feeds),
    }
    if tables.words:
        arrays |= {f.name: getattr(tables.words, f.name) for f in fields(WordTables)}
        arrays["code_points"] = np.flatnonzero(tables.words.characters >= 0)
        arrays["characters"] = tables.words.characters[arrays["code_points"]]
    if tables.converted:
        arrays["converted"] = np.frombuffer(tables.converted, np.uint8)
    written = partial(path.parent)
    try:
        with open(written, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(written, path)
        _forget_oldest(path.parent)
    except OSError:
        with suppress(OSError):
            written.unlink()


def _forget_oldest(folder: Path) -> None:
    """Remove the tables that were read longest ago, beyond `MOST_MODELS`."""
    with suppress(OSError):
        kept = sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_atime)
        for path in kept[:-MOST_MODELS]:
            path.unlink()

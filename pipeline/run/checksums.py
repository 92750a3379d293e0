"""Do the files of a run match its manifest? Every artifact is read and hashed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ...storage.reading import Misshapen, open_regular
from ...storage.store import Mirrored
from .manifest import Artifacts, read_manifest
from .paths import RunPaths
from .spread import Spread, in_turn

CHUNK = 8 << 20
PIECE_BYTES, PIECE_FILES = 4 << 30, 512
"""What one task reads at most, but for a single file."""

Listed = tuple[str, int, str]
"""A file as the manifest has it: name, bytes, hash."""


@dataclass(frozen=True)
class Checked:
    """What is wrong with some files: name and problem, in one phrase."""

    problems: tuple[str, ...]


def verify(paths: RunPaths, spread: Spread = in_turn) -> tuple[int, int, list[str]]:
    """Compare every artifact of a run with its manifest, and the manifest's lists of them with their hashes.

    Args:
        spread: runs what reads the files.

    Returns:
        (artifacts, bytes, problems); a problem names the file and what is wrong with it.

    Raises:
        ValueError: the run has no manifest, or a list of it is damaged.
    """
    artifacts: Artifacts = read_manifest(paths)["artifacts"]
    size, pieces = 0, []
    for piece in _pieces(artifacts):
        size += sum(bytes_ for _, bytes_, _ in piece)
        pieces.append((paths, piece))
    pieces.append((paths, [(each.file, each.bytes, each.hash) for each in artifacts.lists]))
    problems = [problem for checked in spread(check_files, pieces) for problem in checked.problems]
    return len(artifacts), size, sorted(problems)


def artifact_bytes(paths: RunPaths) -> int:
    """What `verify` has to read."""
    artifacts: Artifacts = read_manifest(paths)["artifacts"]
    return sum(sum(artifacts.table(folder).column("bytes").to_pylist()) for folder in artifacts.folders)


def _pieces(artifacts: Artifacts) -> Iterator[list[Listed]]:
    """All artifacts in the order of the manifest, as many at once as one task reads."""
    piece: list[Listed] = []
    held = 0
    for folder in artifacts.folders:
        for batch in artifacts.table(folder).select(["path", "bytes", "hash"]).to_batches(PIECE_FILES):
            for name, size, hash_ in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if piece and (held + size > PIECE_BYTES or len(piece) == PIECE_FILES):
                    yield piece
                    piece, held = [], 0
                piece.append((name, size, hash_))
                held += size
    if piece:
        yield piece


def check_files(paths: RunPaths, files: Sequence[Listed]) -> Checked:
    """Compare files of a run with what its manifest says of them."""
    problems = []
    for name, size, hash_ in files:
        try:
            path = paths.named(name)
        except ValueError as error:
            problems.append(f"{name} is not read: {error}")
            continue
        if problem := _problem(path, size, hash_):
            problems.append(f"{name} {problem}")
    return Checked(tuple(problems))


def not_covered(paths: RunPaths) -> list[str]:
    """What a run says of its own making without a checksum in its manifest: it was curated by an earlier version."""
    artifacts = read_manifest(paths)["artifacts"]
    return [path.name for path in (paths.recipe, paths.training) if path.name not in artifacts and path.exists()]


def _problem(path: Path, size: int, expected: str) -> str:
    """What is wrong with a file, as what follows its name; empty if nothing is."""
    try:
        # In a store, a file is fetched to be read, and needs no request of its own for its size.
        there = os.path.getsize(path) if isinstance(path, Mirrored) else path.stat().st_size
        if there != size:
            return f"has {there:,} bytes, but its manifest records {size:,}"
        return "" if hash_file(path) == expected else "does not match its checksum"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except (Misshapen, IsADirectoryError):
        return "is not a regular file"


def hash_file(path: Path) -> str:
    """A file's hash, as the manifest records it.

    Raises:
        Misshapen: it is a folder, FIFO, socket or device.
    """
    digest = xxhash.xxh3_128()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

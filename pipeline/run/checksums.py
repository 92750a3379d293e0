"""Do the files of a run match its manifest? Every artifact is read and hashed."""

from __future__ import annotations

from pathlib import Path

import xxhash

from ...storage.reading import Misshapen, open_regular
from .artifacts import RunPaths
from .manifest import read_manifest

CHUNK = 8 << 20


def verify(paths: RunPaths) -> tuple[int, int, list[str]]:
    """Compare every artifact of a run with its manifest.

    Returns:
        (files, bytes, problems); a problem names the file and what is wrong with it.

    Raises:
        ValueError: the run has no manifest.
    """
    artifacts = read_manifest(paths)["artifacts"]
    problems, size = [], 0
    for name, facts in sorted(artifacts.items()):
        size += facts["bytes"]
        try:
            path = paths.named(name)
        except ValueError as error:
            problems.append(f"{name} is not read: {error}")
            continue
        if problem := _problem(path, facts["bytes"], facts["hash"]):
            problems.append(f"{name} {problem}")
    return len(artifacts), size, problems


def not_covered(paths: RunPaths) -> list[str]:
    """What a run says of its own making without a checksum in its manifest: it was curated by an earlier version."""
    artifacts = read_manifest(paths)["artifacts"]
    return [path.name for path in (paths.recipe, paths.training) if path.name not in artifacts and path.exists()]


def _problem(path: Path, size: int, expected: str) -> str:
    """What is wrong with a file, as what follows its name; empty if nothing is."""
    try:
        there = path.stat().st_size
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

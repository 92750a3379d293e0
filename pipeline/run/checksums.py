"""Do the files of a run match its manifest? Every artifact is read and hashed."""

from __future__ import annotations

from pathlib import Path

import xxhash

from .artifacts import RunPaths, read_json

CHUNK = 8 << 20


def verify(paths: RunPaths) -> tuple[int, int, list[str]]:
    """Compare every artifact of a run with its manifest.

    Returns:
        (files, bytes, problems); a problem names the file and what is wrong with it.

    Raises:
        ValueError: the run has no manifest.
    """
    artifacts = read_json(paths.manifest)["artifacts"]
    problems, size = [], 0
    for name, facts in sorted(artifacts.items()):
        size += facts["bytes"]
        try:
            path = paths.named(name)
        except ValueError as error:
            problems.append(f"{name} is not read: {error}")
            continue
        if not path.exists():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != facts["bytes"]:
            problems.append(f"{name} has {path.stat().st_size:,} bytes, but its manifest records {facts['bytes']:,}")
        elif hash_file(path) != facts["hash"]:
            problems.append(f"{name} does not match its checksum")
    return len(artifacts), size, problems


def hash_file(path: Path) -> str:
    """A file's hash, as the manifest records it."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""Are the files of a run what the manifest says? Every artifact is read again and hashed."""

from __future__ import annotations

from pathlib import Path

import xxhash

from .artifacts import RunPaths, read_json

CHUNK = 8 << 20


def verify(paths: RunPaths) -> tuple[int, int, list[str]]:
    """Check a run.

    Returns:
        (files, bytes, problems), a problem naming the file and what is wrong with it.

    Raises:
        ValueError: there is no manifest.
    """
    artifacts = read_json(paths.manifest)["artifacts"]
    problems, size = [], 0
    for name, facts in sorted(artifacts.items()):
        path = paths.root / name
        size += facts["bytes"]
        if not path.exists():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != facts["bytes"]:
            problems.append(f"{name} has {path.stat().st_size:,} bytes, the manifest says {facts['bytes']:,}")
        elif hash_file(path) != facts["hash"]:
            problems.append(f"{name} has other contents than the manifest says")
    return len(artifacts), size, problems


def hash_file(path: Path) -> str:
    """The hash the manifest holds of a file."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""The manifest of a run: its file table, and every artifact with its size, rows and hash. It is what readers follow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ...tokenize.model import TokenizerSettings
from .artifacts import Artifact, RunPaths, write_json
from .identity import SourceFile

VERSION = 1


def run_files(paths: RunPaths, recipe: dict[str, Any], training: dict[str, Any]) -> dict[Path, bytes]:
    """What a run says of its own making: the resolved recipe, and the settings the trainer reads (without YAML)."""
    return {
        paths.recipe: yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).encode(),
        paths.training: json.dumps(training, indent=1).encode() + b"\n",
    }


def write_manifest(
    paths: RunPaths,
    files: Sequence[SourceFile],
    artifacts: Iterable[Artifact],
    tokenizer: TokenizerSettings,
    against: str = "",
) -> None:
    """Publish the manifest of the stages that were run so far.

    Args:
        against: the finished run that this one's documents were compared with.
    """
    listed = {}
    for artifact in map(paths.relative, artifacts):
        listed[artifact.path] = {"bytes": artifact.bytes, "rows": artifact.rows, "hash": artifact.hash}
    manifest = {
        "version": VERSION,
        "files": [
            {
                "corpus": f.corpus,
                "path": f.path,
                "file_hash": f.file_hash,
                "size": f.size,
                "held_out": f.held_out,
                "format": f.format,
            }
            for f in files
        ],
        "tokenizer": asdict(tokenizer),
        "artifacts": listed,
    }
    if against:
        manifest["against"] = against
    write_json(paths.manifest, manifest)

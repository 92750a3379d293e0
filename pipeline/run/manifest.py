"""The manifest of a run: its file table, and every artifact with its size, rows and hash. It is what readers follow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import xxhash
import yaml

from ...storage.names import stays_below
from ...storage.store import shown
from ...storage.wording import first_line, printable
from ...tokenize.model import TokenizerSettings
from .artifacts import Artifact, RunPaths, read_json, write_json
from .identity import FILE_BITS, SourceFile

VERSION = 1


@dataclass(frozen=True)
class _Listed:
    """An artifact in the manifest, beside its path."""

    bytes: int
    rows: int
    hash: str


@dataclass(frozen=True)
class _File:
    """A source file in the manifest."""

    corpus: str
    path: str
    file_hash: int
    size: int
    held_out: bool
    format: str


@dataclass(frozen=True)
class _Manifest:
    """The shape of `manifest.json`."""

    version: int
    files: tuple[_File, ...]
    tokenizer: dict[str, Any]
    artifacts: dict[str, _Listed]
    against: str = ""


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
    further: Mapping[Path, bytes] | None = None,
) -> None:
    """Publish the manifest of the stages that were run so far.

    Args:
        against: the finished run that this one's documents were compared with.
        further: what was published of `run_files`, so that `fox1 verify` covers it.
    """
    listed = {}
    for artifact in map(paths.relative, artifacts):
        listed[artifact.path] = {"bytes": artifact.bytes, "rows": artifact.rows, "hash": artifact.hash}
    for path, data in (further or {}).items():
        name = path.relative_to(paths.root).as_posix()
        listed[name] = {"bytes": len(data), "rows": 0, "hash": xxhash.xxh3_128_hexdigest(data)}
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


def read_manifest(paths: RunPaths) -> dict[str, Any]:
    """The manifest of a run, of the shape that `write_manifest` gives it; its names stay in the run's folder.

    Raises:
        ValueError: it is missing, damaged, or of a later version of fox1; the message names it.
    """
    manifest, where = read_json(paths.manifest), shown(paths.manifest)
    if (version := manifest.get("version")) != VERSION:
        raise ValueError(
            f"{where} is of version {printable(repr(version)[:20])}, and this fox1 reads version {VERSION}; read the run with the "
            "version of fox1 that wrote it, or curate it again"
        )
    try:
        read = msgspec.convert(manifest, _Manifest)
        TokenizerSettings.from_json(read.tokenizer)
        for name in (*read.artifacts, *(part for f in read.files for part in (f.corpus, f.path))):
            if not stays_below(name) or "\0" in name:
                raise ValueError(f"the name {name[:100]!r} leads out of the run")
        if wrong := next((f for f in read.files if not 0 < f.file_hash < 1 << FILE_BITS), None):
            raise ValueError(f"{wrong.path[:100]!r} has no id that a file can have")
        if less := next((name for name, facts in read.artifacts.items() if min(facts.bytes, facts.rows) < 0), None):
            raise ValueError(f"{less[:100]!r} has a negative size")
    except (ValueError, TypeError, KeyError) as error:
        said = printable(first_line(error))
        raise ValueError(f"{where} is damaged ({said}); run `fox1 curate` again to rewrite it") from None
    return manifest

"""A finished run whose documents new corpora are compared with: its stored columns are read, never its text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ..run.artifacts import read_json
from ..run.identity import SourceFile, files_of_table, group_files
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..signals import content
from ..signals.scan import ScanSettings, signals_schema, signatures_schema
from ..text.survivors import DecidedFile, listed_artifact
from .order import Part
from .stage import OldRun

COMPARED = ("content_hash", "url_hash", "band_signature", "sketch")
"""Columns of `signals/` and `signatures/` that must mean the same in both runs."""


def read_run(old: RunPaths, files: Sequence[SourceFile], settings: ScanSettings) -> OldRun:
    """What dedupe needs of a finished run.

    Args:
        files: of the new run.
        settings: of its scan.

    Raises:
        ValueError: the run is not finished, has other signatures, or has files of the same name.
    """
    manifest = read_manifest(old)
    funnel = read_json(old.stats("funnel"))
    artifacts = manifest["artifacts"]
    old_files = files_of_table(manifest["files"])
    new_files = {f.file_hash: f for f in files}
    for file in old_files:
        if other := new_files.get(file.file_hash):
            raise ValueError(
                f"{other.name} has the id of {file.name} in {old.root}; remove the finished run's files from the "
                f"recipe's sources, or set another `id_salt`"
            )
    groups = group_files(old_files)

    if old_files:
        _check_schema(old, old_files[0], settings)
    parts, sizes = [], []
    for group in groups:
        decided = [DecidedFile.of_run(f, old, artifacts) for f in group.files]
        signatures = tuple(listed_artifact(old.signatures(f.corpus, f.part), old, artifacts) for f in group.files)
        decisions = tuple(d.decisions for d in decided)
        scores = tuple(d.scores for d in decided if d.scores)
        parts.append(Part(group, tuple(d.signals for d in decided), signatures, None, decisions, scores))
        sizes.append((group.text, sum(d.signals.rows for d in decided)))
    subsets = tuple(f"{c['corpus']}/{s}" for c in funnel["corpora"] for s in c["subsets"])
    return OldRun(tuple(parts), tuple(sizes), subsets)


def _check_schema(old: RunPaths, file: SourceFile, settings: ScanSettings) -> None:
    here = (signals_schema(settings), signatures_schema(settings.minhash))
    there = []
    for path in (old.signals(file.corpus, file.part), old.signatures(file.corpus, file.part)):
        there.append(pq.read_schema(path) if path.exists() else pa.schema([]))
    for name in COMPARED:
        fields = [[s.field(name) for s in both if name in s.names] for both in (there, here)]
        meanings = [found[0].metadata if found else None for found in fields]
        if meanings[0] != meanings[1]:
            said = [(m or {}).get(b"encoding", b"nothing").decode() for m in meanings]
            if name == content.COLUMN:
                raise ValueError(
                    f"{old.root} was scanned by an earlier version of fox1, with other content hashes ({said[0]}; here "
                    f"{said[1]}); run `fox1 curate` on it again before comparing new corpora with it"
                )
            raise ValueError(
                f"{old.root} was scanned with a different {name} ({said[0]}; here {said[1]}); use the same signals.minhash, "
                f"or scan that run again"
            )

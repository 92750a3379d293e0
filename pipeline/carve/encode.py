"""The tokens of documents that are set apart: a read of its own of the few files that hold any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...tokenize.encode import encoder_of
from ...tokenize.model import TokenizerSettings
from ...tokenize.spans import gather
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..prepare.tokenizer import PreparedTokenizer
from ..run.artifacts import Artifact
from ..run.identity import ROW_BITS, Group, SourceFile
from ..run.paths import RunPaths
from ..text.survivors import DecidedFile, read_survivors
from ..tokens.shards import ShardWriter
from . import VERSION
from .settings import CARVED, HALVES
from .stage import SetApart


@dataclass(frozen=True)
class CarvedShard:
    """The documents of a subset and half that are set apart, of one group."""

    corpus: str
    subset: str
    half: str
    most: int
    """Tokens of a document that are measured at most."""
    file: Artifact
    """`TOKEN_SCHEMA`."""


@dataclass(frozen=True)
class CarvedTokens:
    """Those of a group."""

    shards: tuple[CarvedShard, ...]


@dataclass(frozen=True)
class _Carved:
    """Chooses the documents that are set apart, whom dedupe left."""

    decisions: tuple[str, ...] = ("reason",)
    signals: tuple[str, ...] = ()

    def of(self, file: SourceFile, decisions: pa.Table, signals: pa.Table) -> pa.ChunkedArray:
        return pc.equal(decisions.column("reason"), CARVED)


def encode_carved(
    engine: Engine,
    apart: SetApart,
    files: Mapping[str, DecidedFile],
    settings: TokenizerSettings,
    tokenizer: PreparedTokenizer,
) -> list[CarvedShard]:
    """Encode what is set apart, with the edits of the recipe: personal data is out of it as it is out of the phases.

    Args:
        files: by `SourceFile.table`.

    Raises:
        ValueError: a source file changed since it was scanned.
    """
    tasks = []
    for group in apart.groups:
        own = _inside(apart.chosen["id"], group)
        tasks.append(
            Task(
                group.name,
                encode_group,
                (
                    group,
                    [files[f.table] for f in group.files],
                    *(tokenizer.model, tokenizer.converted, settings.of_encoding(chat=False)),
                    [tuple(row) for row in apart.chosen[own].tolist()],
                    engine.paths,
                ),
                weight=max(1, group.text),
            )
        )
    found = engine.run("tokenize.carved", VERSION, tasks) if tasks else []
    return [shard for tokens in found for shard in tokens.shards]


def _inside(ids: np.ndarray, group: Group) -> np.ndarray:
    """bool [n]: whether documents lie in a group's files, whichever of their pieces these are."""
    hashes = np.array([f.file_hash for f in group.files], np.uint64)
    return np.isin(ids >> np.uint64(ROW_BITS), hashes)


def encode_group(
    group: Group,
    files: Sequence[DecidedFile],
    tokenizer: Artifact,
    converted: Artifact | None,
    settings: TokenizerSettings,
    chosen: Sequence[tuple[int, int, int]],
    paths: RunPaths,
) -> CarvedTokens:
    """Task: the tokens of a group's documents that are set apart.

    Args:
        converted: the tokenizer in the form that gigatoken loads, if that encodes.
        chosen: rows of `CHOSEN`.
    """
    encoder = encoder_of(tokenizer.file, tokenizer.hash, settings.reserved, converted.file if converted else None)
    facts = {doc: (half, most) for doc, half, most in chosen}
    writers: dict[tuple[str, int, int], ShardWriter] = {}
    try:
        for batch in read_survivors(files, ("quality",), _Carved()):
            encoded = encoder.encode(batch.text)
            quality = batch.facts.column("quality").to_numpy()
            named = [(s, *facts[d]) for s, d in zip(batch.subset.to_pylist(), batch.doc_ids.tolist(), strict=True)]
            for key in dict.fromkeys(named):
                own = np.array([i for i, name in enumerate(named) if name == key])
                ids, offsets = gather(encoded.ids, encoded.offsets[own], np.diff(encoded.offsets)[own])
                spans, of_spans = np.empty(0, np.int32), np.zeros(len(own) + 1, np.int64)
                if key not in writers:
                    writers[key] = ShardWriter(_place(paths, group, *key))
                writers[key].add(batch.doc_ids[own], quality[own], ids, offsets, spans, of_spans)
        for key in sorted(writers):
            writers[key].close()
    except BaseException:
        for writer in writers.values():
            writer.out.discard()
        raise
    return CarvedTokens(
        tuple(
            CarvedShard(group.corpus, subset, HALVES[half], most, writers[subset, half, most].out.artifact)
            for subset, half, most in sorted(writers)
        )
    )


def _place(paths: RunPaths, group: Group, subset: str, half: int, most: int) -> Path:
    name = quote(subset, safe="").replace(".", "%2E")
    return paths.mix(f"carved/{group.name}/{name}-{HALVES[half]}-{most}.arrow")

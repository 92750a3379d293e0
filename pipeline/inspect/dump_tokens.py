"""`fox1 dump --tokens`: token ids in the files of other trainers, of all kept documents or of a phase's blocks. No text is read.

    tokens/<corpus>/<subset>/<group>.arrow   -> <corpus>/<subset>/<group>.ds or .bin, a document a row, BOS and EOS as in blocks
    phases/<phase>/<L>/data-*.arrow          -> <L>/data-*.ds or .bin, blocks in training order, with the ends of their segments

In datatrove's files a block takes its whole length, padding as a piece of its own, so that a loader of windows of that length
reads exactly the blocks; `.ds.loss` says what is trained on. Megatron's have a sequence for each segment, a document for each
block, and no padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...storage.store import shown
from ...tokenize.model import TokenizerSettings, load, specials
from ...tokenize.pack import streams
from ...tokenize.shards import block_batches, check_descriptions, read_set, token_batches
from ...tokenize.token_files import (
    BIN,
    DATATROVE,
    DS,
    IDX,
    INDEX,
    LOSS,
    MEGATRON,
    METADATA,
    TokenFormat,
    datatrove_index,
    datatrove_metadata,
    id_type,
    megatron_index,
)
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..mix.assign import column_lists
from ..run.artifacts import Artifact, Publication, publish, remove
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..sources.domains import CHAT
from ..text.survivors import listed_artifact
from .dump import ALL, Asked, claim, remove_others
from .run import phase_named, phase_names, shard_set

VERSION = 1
HELD_OUT = "held_out"
TOKENIZER = "tokenizer.model"
"""The model that made the ids, beside them."""


@dataclass(frozen=True)
class TokenFiles:
    """How ids are written."""

    format: TokenFormat
    vocab_size: int
    tokenizer: str
    """What `.ds.metadata` names: the model's file name and the hash of what it holds."""
    bos: int = -1
    """Put before a document; -1: nothing is."""
    eos: int = -1
    """Put after a document; -1: nothing is."""
    loss: bool = False
    """Also write what is trained on."""

    @property
    def type(self) -> np.dtype:
        return id_type(self.format, self.vocab_size)


@dataclass(frozen=True)
class WrittenTokens:
    """The files of one token shard, or of one file of blocks."""

    files: tuple[Artifact, ...]
    """None where there is no token."""
    documents: int
    """Or blocks."""
    tokens: int
    """Without padding."""


@dataclass(frozen=True)
class DumpedTokens:
    """What a dump of tokens holds."""

    documents: int
    """Or blocks."""
    tokens: int
    bytes: int
    notes: tuple[str, ...] = ()
    """What the format has no place for."""


def tokens_phase(run: RunPaths, asked: str) -> str:
    """The name of the phase that is asked for, `held_out`, or `ALL`.

    Raises:
        ValueError: the run has no such phase.
    """
    return asked if asked in (ALL, HELD_OUT) else phase_named(phase_names(run), asked)


def dump_tokens(run: RunPaths, phase: str, format: TokenFormat, engine: Engine) -> DumpedTokens:
    """Write the ids of a run.

    Args:
        phase: a name from `tokens_phase`: its blocks, or for `ALL` the kept documents of all training groups.
        engine: the engine of the output folder; an unfinished dump is resumed.

    Raises:
        ValueError: the run is not so far, or the folder holds a dump of something else.
    """
    listed = read_manifest(run)["artifacts"]
    claim(engine.paths, Asked(phase, tokens=format))
    model = listed_artifact(run.tokenizer, run, listed)
    place = engine.paths.named(TOKENIZER)
    tasks: list[Task[WrittenTokens]] = [Task(TOKENIZER, copy_model, (model, place), max(model.bytes, 1))]
    tasks += (_documents if phase == ALL else _blocks)(run, phase, format, model, engine.paths)
    if len(tasks) == 1:
        raise ValueError(f"{shown(run.root)} has no tokens of {phase}; run `fox1 curate` to the end")
    written = engine.run("dump", VERSION, tasks)
    remove_others(engine, {task.name for task in tasks})
    notes: tuple[str, ...] = ()
    if format == MEGATRON and any(task.args[1].loss for task in tasks[1:]):
        notes = (
            "not all positions are trained on (conversations), and Megatron's files have no place for that: all ids are there",
        )
    files = [a for w in written for a in w.files]
    return DumpedTokens(
        sum(w.documents for w in written), sum(w.tokens for w in written), sum(a.bytes for a in files), notes
    )


def _named(model: Artifact, settings: TokenizerSettings) -> str:
    """What the files call the tokenizer: by what it is, not by where it lies."""
    name = settings.model.rsplit("/", 1)[-1] or TOKENIZER
    return f"{name.replace('|', '_')}@{model.hash}"


def _documents(
    run: RunPaths, phase: str, format: TokenFormat, model: Artifact, out: RunPaths
) -> list[Task[WrittenTokens]]:
    """A task for each token shard of the training groups."""
    manifest = read_manifest(run)
    settings = TokenizerSettings.from_json(manifest["tokenizer"])
    processor = load(run.tokenizer)
    special = specials(processor)
    asked = TokenFiles(
        format,
        processor.vocab_size(),
        _named(model, settings),
        special.bos if settings.bos else -1,
        special.eos if settings.eos else -1,
        any(f["format"] == CHAT and not f["held_out"] for f in manifest["files"]),
    )
    tasks = []
    for name in manifest["artifacts"].below("tokens/"):
        parts = name.removesuffix(".arrow").split("/")[1:]
        if not parts[-1].startswith("held-out-"):
            shard = listed_artifact(run.named(name), run, manifest["artifacts"])
            stem = out.named("/".join(parts))
            tasks.append(Task("/".join(parts), write_documents, (shard, asked, stem), max(shard.bytes, 1), shares=True))
    return tasks


def _blocks(
    run: RunPaths, phase: str, format: TokenFormat, model: Artifact, out: RunPaths
) -> list[Task[WrittenTokens]]:
    """A task for each file of a phase set."""
    manifest = read_manifest(run)
    folder = shard_set(run, phase)
    info = read_set(folder)
    check_descriptions(folder)
    tokenizer = _named(model, TokenizerSettings.from_json(manifest["tokenizer"]))
    tasks = []
    for split in info.splits:
        # datatrove's blocks have padding, which is not trained on.
        asked = TokenFiles(format, info.vocab_size, tokenizer, loss=info.masked or format == DATATROVE)
        for file in split.files:
            source = listed_artifact(folder / str(split.block_length) / file, run, manifest["artifacts"])
            name = f"{split.block_length}/{file.removesuffix('.arrow')}"
            arguments = (source, asked, out.named(name), split.block_length, info.masked)
            tasks.append(Task(name, write_blocks, arguments, max(source.bytes, 1)))
    return tasks


def copy_model(model: Artifact, path: Path) -> WrittenTokens:
    """The tokenizer's model, for whoever reads the ids."""
    with publish(path) as out:
        out.write(model.file.read_bytes())
    return WrittenTokens((out.artifact,), 0, 0)


@dataclass(frozen=True)
class _Sequences:
    """Ids of a batch, back to back, as they are written."""

    ids: np.ndarray
    lengths: np.ndarray
    """int64 [n]: of the sequences, in which documents are ended."""
    documents: np.ndarray
    """int64 [m]: how many sequences each document has."""
    loss: np.ndarray
    """bool [ids]: what is trained on."""
    tokens: int
    """Without padding."""


def write_documents(shard: Artifact, asked: TokenFiles, stem: Path) -> WrittenTokens:
    """The documents of a token shard, in row order."""

    def batches() -> Iterator[_Sequences]:
        for batch in token_batches(shard.file, mapped=False):
            ids, offsets = column_lists(batch.column("input_ids"))
            before = int(asked.bos >= 0)
            lengths = np.diff(offsets) + before + int(asked.eos >= 0)
            stream = streams(ids, offsets, lengths, asked.bos, asked.eos)
            spans, at = column_lists(batch.column("loss_spans"))
            loss = _within(spans + before, at, np.cumsum(lengths) - lengths, len(stream), shard)
            loss |= np.repeat(np.diff(at) == 0, lengths)
            yield _Sequences(stream, lengths, np.ones(len(lengths), np.int64), loss, len(stream))

    return _write(batches(), asked, stem, shard)


def write_blocks(file: Artifact, asked: TokenFiles, stem: Path, length: int, masked: bool) -> WrittenTokens:
    """The blocks of a file of a phase set, in their order.

    Args:
        length: of a block.
        masked: whether the set says what is trained on.
    """

    def batches() -> Iterator[_Sequences]:
        for batch in block_batches(file.file, length, masked):
            for begin in range(0, batch.num_rows, rows := max(1, BATCH_IDS // length)):
                yield _of_blocks(batch.slice(begin, rows), length, masked, asked.format == DATATROVE, file)

    return _write(batches(), asked, stem, file)


BATCH_IDS = 1 << 20
"""Ids of blocks that are written at once."""


def _of_blocks(batch: pa.RecordBatch, length: int, masked: bool, padded: bool, file: Artifact) -> _Sequences:
    """Blocks as sequences of segments.

    Args:
        padded: with their padding, as a segment of its own.
    """
    n = batch.num_rows
    ids = batch.column("input_ids").flatten().to_numpy()
    ends, at = column_lists(batch.column("doc_ends"))
    counts = np.diff(at)
    first = np.arange(n) * length
    ends = ends.astype(np.int64) + np.repeat(first, counts)
    used = np.maximum.reduceat(np.r_[ends, 0], at[:-1]) - first if len(ends) else np.zeros(n, np.int64)
    used[counts == 0] = 0
    begins = np.r_[0, ends[:-1]][: len(ends)]
    begins[at[:-1][counts > 0]] = first[counts > 0]
    if (ends <= begins).any() or (used > length).any():
        raise _damaged(file, "ends of documents that do not follow each other within their blocks")
    there = (np.arange(length) < used[:, None]).reshape(-1)
    loss = there
    if masked:
        spans, where = column_lists(batch.column("loss_spans"))
        loss = _within(spans, where, first, n * length, file)
    if not padded:
        return _Sequences(ids[there], ends - begins, counts, loss[there], int(used.sum()))
    ends = np.union1d(ends, first + length)
    return _Sequences(ids, np.diff(ends, prepend=0), np.ones(n, np.int64), loss, int(used.sum()))


def _within(spans: np.ndarray, at: np.ndarray, first: np.ndarray, size: int, file: Artifact) -> np.ndarray:
    """bool [size]: what lies in some spans, begins and exclusive ends back to back.

    Args:
        at: int64 [n + 1]: where the spans of each row begin in `spans`.
        first: int64 [n]: what the spans of each row count from.
    """
    places = spans.astype(np.int64) + np.repeat(first, np.diff(at))
    if len(places) % 2 or (len(places) and not 0 <= int(places.min()) <= int(places.max()) <= size):
        raise _damaged(file, "spans that lie in no document")
    steps = np.zeros(size + 1, np.int32)
    np.add.at(steps, places[0::2], 1)
    np.add.at(steps, places[1::2], -1)
    return np.cumsum(steps[:-1]) > 0


def _damaged(file: Artifact, why: str) -> ValueError:
    return ValueError(f"{shown(file.file)} is damaged (it has {why}); run `fox1 curate` again to rebuild it")


def _write(batches: Iterable[_Sequences], asked: TokenFiles, stem: Path, source: Artifact) -> WrittenTokens:
    """Write sequences as the files of a format; the ids, which loaders look for, become visible last."""
    datatrove = asked.format == DATATROVE
    suffixes = [INDEX, METADATA, *([LOSS] if asked.loss else []), DS] if datatrove else [IDX, BIN]
    paths = [stem.with_name(stem.name + suffix) for suffix in suffixes]
    lengths, sequences = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    tokens = 0
    with _published(paths) as outs:
        by_suffix = dict(zip(suffixes, outs, strict=True))
        for batch in batches:
            if len(batch.ids) and not 0 <= int(batch.ids.min()) <= int(batch.ids.max()) < asked.vocab_size:
                raise _damaged(source, f"ids that are none of {asked.vocab_size:,} pieces")
            outs[-1].write(batch.ids.astype(asked.type).tobytes())
            if LOSS in by_suffix:
                by_suffix[LOSS].write(batch.loss.tobytes())
            lengths.append(batch.lengths)
            sequences.append(batch.documents)
            tokens += batch.tokens
        of_all, documents = np.concatenate(lengths), np.concatenate(sequences)
        if datatrove:
            by_suffix[INDEX].write(datatrove_index(of_all))
            by_suffix[METADATA].write(datatrove_metadata(asked.tokenizer, asked.type, int(of_all.sum())))
        else:
            by_suffix[IDX].write(megatron_index(of_all, documents, asked.type))
        outs[-1].rows = len(documents)
    if not tokens:
        # Loaders fail on files without a token.
        for path in paths:
            remove(path)
        return WrittenTokens((), len(documents), 0)
    return WrittenTokens(tuple(out.artifact for out in outs), len(documents), tokens)


@contextmanager
def _published(paths: Sequence[Path]) -> Iterator[list[Publication]]:
    """Files that are written together, published in their order when the block ends."""
    outs: list[Publication] = []
    try:
        for path in paths:
            outs.append(Publication(path, 0))
        yield outs
        for out in outs:
            out.commit()
    except BaseException:
        for out in outs:
            out.discard()
        raise

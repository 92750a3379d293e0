"""Packed blocks as a page shows them: where documents begin and end, every token, and which of them the loss counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...tokenize.encode import Encoder
from ...tokenize.shards import read_set
from .provenance import read_block
from .run import FinishedRun, phase_names, shard_set

HELD_OUT = "held_out"


@dataclass(frozen=True)
class Segment:
    """The part of a document in a block."""

    name: str
    doc_id: int
    source: tuple[str, str, str]
    """Corpus, subset, domain."""
    start: int
    """Its first token in the document, BOS included."""
    tokens: list[str]
    """What each token stands for; a special one by its name, in angle brackets."""
    special: list[int]
    """Places of special tokens."""
    trained: list[tuple[int, int]]
    """Spans of tokens that are targets of the loss."""


@dataclass(frozen=True)
class Block:
    """A block of a set."""

    phase: str
    length: int
    number: int
    segments: list[Segment]
    padding: int
    masked: bool
    """Whether the set has a loss mask; without one every token but a segment's first is a target."""


def sets_of(run: FinishedRun) -> list[dict[str, Any]]:
    """The sets of a run that has been mixed: name, and block length with number of blocks of each split."""
    names = [*phase_names(run.paths), *([HELD_OUT] if (run.paths.held_out / "fox1.json").exists() else [])]
    found = []
    for name in names:
        info = read_set(shard_set(run.paths, name))
        splits = [{"length": s.block_length, "blocks": s.blocks, "tokens": s.tokens} for s in info.splits]
        found.append({"name": name, "masked": info.masked, "splits": splits})
    return found


def show_block(run: FinishedRun, asked: str, number: int, length: int = 0) -> Block:
    """A block, token by token; arguments and errors are those of `provenance.trace`."""
    info, values = read_block(run, asked, number, length)
    encoder = Encoder(run.paths.tokenizer, run.tokenizer.reserved, fast=False)
    names = {info.bos: "<bos>", info.eos: "<eos>", info.pad: "<pad>"}
    ids: list[int] = values["input_ids"]
    texts = {i: names.get(i) or _shown(encoder, i) for i in set(ids)}
    spans = values.get("loss_spans")
    pairs = list(zip(spans[::2], spans[1::2], strict=True)) if spans is not None else None
    segments, begin = [], 0
    for doc_id, start, end, source in zip(
        values["doc_ids"], values["doc_starts"], values["doc_ends"], values["doc_sources"], strict=True
    ):
        own = ids[begin:end]
        segments.append(
            Segment(
                run.name(doc_id),
                doc_id,
                info.sources[source],
                start,
                [texts[i] for i in own],
                [k for k, i in enumerate(own) if i in names],
                _inside(pairs, begin, end) if pairs is not None else [(1, end - begin)],
            )
        )
        begin = end
    return Block(asked, len(ids), number, segments, len(ids) - begin, info.masked)


def _shown(encoder: Encoder, i: int) -> str:
    """What a token stands for; of a byte that is no character by itself, its number."""
    data = encoder.decode([i])
    try:
        return data.decode() or f"<{i}>"
    except UnicodeDecodeError:
        return f"<0x{data.hex().upper()}>"


def _inside(pairs: list[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """The parts of spans that lie in a segment, counted from its begin."""
    return [(max(a, begin) - begin, min(b, end) - begin) for a, b in pairs if a < end and b > begin]

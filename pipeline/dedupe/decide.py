"""The decision: which documents stay, and which kept document stands for each that goes.

Documents are taken in the total order; one is dropped if and only if a better one that was kept is its verified
duplicate. That is the lexicographically first independent set of the verified graph: it is unique, whatever the
schedule. What is long is done range by range of the order, side by side; what must follow the order is one pass over
pairs of numbers, with two bits per document:

    number_edges      a range's edges, sorted by the better document, as pairs of numbers
    walk_edges        the pass: what becomes of every document
    judge_edges       what that makes of both documents of every edge, side by side again
    judge_few         both at once, where there are few edges
    settle            a range's edges again, beside it: drops by chunk; open pairs for the next round
    tell_chunks       the best-ordered of a document's drops counts; whoever has it in a live bucket learns of it

As long as some documents are not compared with all better members of their buckets, what hangs on them stays open until
the next round. An edge from such a document to itself says so.

The pass takes 10 bytes and 45 nanoseconds an edge (`benchmarks/dedupe_pass.py`, with the states of 5.2 billion documents), so
some two minutes for three billion edges, and a quarter of a byte for every row of the sources: 1.3 GB for 5.2 billion documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from ..engine.shuffle import Records, first_of_runs, lookup, merged, read_ahead, read_records, sort_records
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition, Span
from ..run.artifacts import Artifact, publish
from ..run.file_sets import FileSet
from ..run.numbers import distinct_numbers
from .buckets import MEMBERS
from .order import (
    DROP,
    DROPPED,
    EDGE,
    EDGES,
    EXACT,
    ID,
    IDS,
    NEAR,
    NOT_EXCLUDED,
    OF_EXCLUDED,
    UNKNOWN,
    UPDATE,
    Plan,
    bytes_of,
)
from .ranges import Layout

LINK = np.dtype([("better", "<u4"), ("worse", "<u4"), ("better_high", "u1"), ("worse_high", "u1")])
"""An edge by the 40-bit numbers of its documents: 10 bytes."""
LINKS = Records(LINK)
MOST_NUMBERS = 1 << 40
BYTES_HELD = 2 * 8 * (32 << 20)
"""What the pass holds of links beside the states, at most."""
GOES, WAITS = 1, 2
"""Verdicts on an edge: the better document is kept, so that the worse one goes; both may still stay or go."""


def one_per_pair(edges: np.ndarray) -> np.ndarray:
    """Edges sorted by the better document without repeats; where a pair is both exact and near, it is exact."""
    if not len(edges):
        return edges
    first = first_of_runs(edges["id"], edges["better"])
    kind = np.minimum.reduceat(edges["kind"], first)
    edges = edges[first]
    edges["kind"] = kind
    edges["shared"][kind == EXACT] = edges["examined"][kind == EXACT] = 1
    return edges


def _edges_of(ranges: Sequence[Span], memory: int) -> Iterator[np.ndarray]:
    """The edges of consecutive ranges in their order, each pair once."""
    for edges in ranges:
        slices = merged(edges.files, edges.place, EDGE, EDGES.by, memory // 8, edges.count)
        yield from map(one_per_pair, _unsplit(slices, EDGE, ("better", "id")))


def _unsplit(slices: Iterable[np.ndarray], dtype: np.dtype, names: Sequence[str]) -> Iterator[np.ndarray]:
    """Sorted slices cut elsewhere, so that neighbours that are equal in some columns stay together."""
    held = np.empty(0, dtype)
    for rows in slices:
        rows = np.concatenate([held, rows])
        last = int(first_of_runs(*(rows[name] for name in names))[-1])
        yield rows[:last]
        held = rows[last:].copy()
    yield held


@dataclass(frozen=True)
class Links:
    """The edges of some ranges as pairs of numbers."""

    links: tuple[Artifact, ...]
    """`LINK`, in the order of the better documents."""


def number_edges(ranges: Sequence[Span], layout: Layout, plan: Plan, stem: Path) -> Links:
    """The edges of consecutive ranges by the numbers of their documents."""
    assert layout.numbers <= MOST_NUMBERS
    out = LINKS.writer(stem)
    for rows in _edges_of(ranges, plan.memory):
        links = np.empty(len(rows), LINK)
        for name, column in (("better", "better"), ("worse", "id")):
            number = layout.number_of(rows[column])
            links[name], links[f"{name}_high"] = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
        out.add(links)
    return Links(out.close())


@dataclass(frozen=True)
class Pass:
    """What the pass over all edges found."""

    states: Artifact
    """uint8 [numbers // 4 + 1]: two bits of each document, by its number."""


def walk_edges(links: FileSet, numbers: int, plan: Plan, stem: Path) -> Pass:
    """Walk the edges in the total order: every document's state is known before it can do anything to others.

    Args:
        links: files in order.
        numbers: of documents.
    """
    states = np.zeros(numbers // 4 + 1, np.uint8)
    for rows in read_ahead(links, 0, LINK):
        _walk(states, *_columns(rows))
    with publish(stem.with_name(f"{stem.name}.states"), rows=len(states)) as out:
        out.write(states.data)
    return Pass(out.artifact)


@dataclass(frozen=True)
class Judged:
    """What the states mean for some edges."""

    verdicts: Artifact
    """uint8 of every link, in order: `GOES`, `WAITS`, or 0 where the edge means nothing any more."""


def judge_edges(links: FileSet, states: Artifact, plan: Plan, stem: Path) -> Judged:
    """What becomes of both documents of some edges, by the final states."""
    final = np.fromfile(states.file, np.uint8)
    return _judged(final, map(_columns, read_ahead(links, 0, LINK)), stem)


def judge_few(links: FileSet, numbers: int, plan: Plan, stem: Path) -> Judged:
    """`walk_edges` and `judge_edges` at once, of edges that fit into memory.

    Args:
        links, numbers: as `walk_edges` takes them.
    """
    states = np.zeros(numbers // 4 + 1, np.uint8)
    held = [_columns(rows) for rows in read_ahead(links, 0, LINK)]
    for columns in held:
        _walk(states, *columns)
    return _judged(states, held, stem)


def _judged(states: np.ndarray, links: Iterable[Sequence[np.ndarray]], stem: Path) -> Judged:
    """The verdicts on links, given as the columns of `LINK`, by the final states."""
    with publish(stem.with_name(f"{stem.name}.verdicts")) as out:
        for columns in links:
            out.rows += len(columns[0])
            out.write(_verdicts(states, *columns))
    return Judged(out.artifact)


def _columns(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[name] for name in LINK.names or ()]


@njit(cache=True, nogil=True, inline="always")
def _state(states: np.ndarray, number: np.int64) -> np.uint8:
    """`DROPPED`; else `UNKNOWN`, if it may still be dropped; else 0: it is kept."""
    bits = (states[number >> 2] >> np.uint8(2 * (number & 3))) & np.uint8(3)
    return np.uint8(DROPPED) if bits & DROPPED else bits


@njit(cache=True, nogil=True)
def _walk(
    states: np.ndarray, better: np.ndarray, worse: np.ndarray, better_high: np.ndarray, worse_high: np.ndarray
) -> None:
    """Note in `states` what the better document of every edge does to the worse one."""
    for e in range(len(better)):
        source = np.int64(better[e]) | np.int64(better_high[e]) << 32
        target = np.int64(worse[e]) | np.int64(worse_high[e]) << 32
        state = np.uint8(UNKNOWN) if source == target else _state(states, source)
        if state != DROPPED:
            mark = np.uint8(DROPPED) if state == 0 else np.uint8(UNKNOWN)
            states[target >> 2] |= mark << np.uint8(2 * (target & 3))


@njit(cache=True, nogil=True)
def _verdicts(
    states: np.ndarray, better: np.ndarray, worse: np.ndarray, better_high: np.ndarray, worse_high: np.ndarray
) -> np.ndarray:
    """uint8 [edges], when the states are final."""
    out = np.zeros(len(better), np.uint8)
    for e in range(len(better)):
        source = np.int64(better[e]) | np.int64(better_high[e]) << 32
        target = np.int64(worse[e]) | np.int64(worse_high[e]) << 32
        state = _state(states, source)
        if state == 0:
            out[e] = GOES
        elif state == UNKNOWN and _state(states, target) == UNKNOWN:
            out[e] = WAITS
    return out


@dataclass(frozen=True)
class Settled:
    """What the pass means for the edges of some ranges."""

    drops: tuple[Artifact, ...]
    """`EDGE` that drop their worse document, by its chunk."""
    unknown: tuple[Artifact, ...]
    """`ID`: what stays open, by chunk."""
    left: tuple[Artifact, ...]
    """`EDGE`: pairs of open documents, by range, for the next round."""


def settle(
    ranges: Sequence[Span],
    verdicts: Artifact,
    at: int,
    layout: Layout,
    to_chunks: Levels,
    to_ranges: Levels,
    plan: Plan,
    stem: Path,
) -> Settled:
    """Hand the verdicts on the edges of consecutive ranges to the chunks of the documents that they are about.

    Args:
        verdicts: on these edges and others.
        at: place of the first of these edges among them.
    """
    drops = DROPS.writer(stem.with_name(f"{stem.name}.drops"), to_chunks)
    unknown = IDS.writer(stem.with_name(f"{stem.name}.unknown"), to_chunks)
    left = EDGES.writer(stem.with_name(f"{stem.name}.left"), to_ranges)
    with open(verdicts.file, "rb") as file:
        file.seek(at)
        for rows in _edges_of(ranges, plan.memory):
            verdict = np.frombuffer(file.read(len(rows)), np.uint8)
            going = rows[verdict == GOES]
            drops.add(going, plan.chunks.of(going["id"]))
            waiting = rows[verdict == WAITS]
            ids = distinct_numbers(waiting["id"]).astype(ID)
            unknown.add(ids, plan.chunks.of(ids["id"]))
            # What an open document may still do to another open one is asked again in the next round.
            waiting = waiting[waiting["id"] != waiting["better"]]
            left.add(waiting, layout.range_of(waiting["better_order"], waiting["better"]))
    return Settled(drops.close(), unknown.close(), left.close())


def first_drops(edges: np.ndarray) -> np.ndarray:
    """Of edges sorted by the dropped document, that of the best-ordered document that drops each."""
    return edges[first_of_runs(edges["id"])]


DROPS = Records(EDGE, ("id", "better_order", "better"), first_drops)
OWN_DROPS = Records(DROP)
UPDATES = Records(UPDATE, ("id",))


@dataclass(frozen=True)
class Told:
    """What a round decided about the documents of consecutive chunks."""

    drops: tuple[Artifact, ...]
    """`DROP`, by place among the chunks."""
    updates: tuple[Artifact, ...]
    """`UPDATE`, for the tasks that walk their buckets next."""
    near_duplicates: int


def tell_chunks(
    going: tuple[Partition, ...],
    waiting: tuple[Partition, ...],
    members: tuple[Partition, ...],
    several: int,
    to_buckets: Levels,
    plan: Plan,
    stem: Path,
) -> Told:
    """What a round decided about the documents of some chunks, one drop for each; and word of it for the live buckets.

    Args:
        members: who of the chunks is in which live bucket.
        several: tasks that left live buckets, for one that walks them next.
    """
    out = OWN_DROPS.writer(stem.with_name(f"{stem.name}.drops"), Levels(len(going)))
    updates = UPDATES.writer(stem.with_name(f"{stem.name}.updates"), to_buckets)
    near = 0
    for place, (drops, unknown, inside) in enumerate(zip(going, waiting, members, strict=True)):
        changes = [_change(read_records(unknown.files, unknown.place, ID)["id"], UNKNOWN)]
        for rows in _unsplit(merged(drops.files, drops.place, EDGE, DROPS.by, plan.memory // 8), EDGE, ("id",)):
            found = _drops(first_drops(rows))
            near += int((found["kind"] % OF_EXCLUDED == NEAR).sum())
            out.add(found, place)
            changes.append(_change(found["id"], DROPPED))
        changed = sort_records(np.concatenate(changes), ("id",))
        for rows in merged(inside.files, inside.place, UPDATE, MEMBERS.by, plan.memory // 4):
            at, hit = lookup(changed["id"], rows["id"])
            update = rows[hit]
            buckets = update["state"].astype(np.int64) // several
            update["state"] = changed["state"][at[hit]]
            updates.add(update, buckets)
    return Told(out.close(), updates.close(), near)


def _change(ids: np.ndarray, state: int) -> np.ndarray:
    changes = np.empty(len(ids), UPDATE)
    changes["id"], changes["state"] = ids, state
    return changes


def _drops(edges: np.ndarray) -> np.ndarray:
    """`DROP` of the worse document of every edge."""
    drops = np.zeros(len(edges), DROP)
    drops["id"], drops["by"], drops["bytes"] = edges["id"], edges["better"], bytes_of(edges["order"])
    for name in ("shared", "examined", "code", "kind"):
        drops[name] = edges[name]
    drops["kind"][edges["better_order"] < NOT_EXCLUDED] += OF_EXCLUDED
    return drops

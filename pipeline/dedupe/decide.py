"""The decision: which documents stay, and which kept document stands for each that goes.

Documents are taken in the total order; one is dropped if and only if a better one that was kept is its verified
duplicate. That is the lexicographically first independent set of the verified graph: it is unique, whatever the
schedule. The walk is cut into ranges of the order that fit into a task's memory; a range hands what it decided about
documents of later ranges on in messages (time-forward processing, Chiang et al. 1995). As long as some documents are not
compared with all better members of their buckets, what hangs on them stays open until the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from ..engine.shuffle import (
    Cursor,
    RecordShuffle,
    Shuffled,
    between,
    distinct,
    first_of_runs,
    lookup,
    merged,
    read_records,
    sort_records,
)
from ..run.artifacts import Artifact, FileSet
from .order import (
    BY_BETTER,
    DROP,
    DROPPED,
    EDGE,
    EXACT,
    ID,
    MAYBE,
    NEAR,
    NODE,
    NOT_EXCLUDED,
    OF_EXCLUDED,
    UNKNOWN,
    UPDATE,
    Place,
    Plan,
    bytes_of,
    places_of,
)
from .verify import SAMPLE

BYTES_PER_EDGE = 12 * EDGE.itemsize
"""What a verified pair takes while its range is decided: the pair, or a message of it, its nodes, sorting."""


def ranges(samples: Sequence[Place], edges: int, memory: int) -> list[Place]:
    """Bounds that cut the order into ranges of edges that fit into `memory`.

    Args:
        samples: keys of both documents of some edges, evenly taken.
    """
    count = -(-edges * BYTES_PER_EDGE // memory)
    if count < 2:
        return []
    chosen = sorted(samples)
    return sorted({chosen[i * len(chosen) // count] for i in range(1, count)}) if len(chosen) >= count else []


@dataclass(frozen=True)
class DecidedRange:
    """What was decided of one range of the order."""

    drops: tuple[Artifact, ...]
    """`DROP`, by chunk."""
    unknown: tuple[Artifact, ...]
    """`ID`: what stays open, by chunk."""
    left: tuple[Artifact, ...]
    """`EDGE`: pairs of open documents, for the next round."""
    messages: tuple[Artifact, ...]
    """`EDGE`: for later ranges, by range."""
    near_duplicates: int
    open_pairs: int
    edges: int
    sample: tuple[Place, ...]
    """Both documents of one open pair of `SAMPLE`."""


def decide_range(
    edges: FileSet,
    opened: FileSet,
    messages: FileSet,
    index: int,
    bounds: Sequence[Place],
    plan: Plan,
    stem: Path,
) -> DecidedRange:
    """Decide the documents of one range of the order; the ranges before it are decided.

    Args:
        edges: sorted by the better document.
        opened: documents that are not compared with all yet.
        messages: of the ranges before.
    """
    part = _read_range(edges, opened, messages, index, bounds)
    better, notified = part.number(part.edges["better"]), part.number(part.notices["id"])
    worse = np.full(len(part.edges), -1, np.int64)
    worse[part.inside] = part.number(part.edges["id"][part.inside])
    chosen, state = _walk(better, worse, part.is_open, notified, part.uncertain)

    drops = _drops(part, chosen, state == DROPPED)
    near = int((drops["kind"] % OF_EXCLUDED == NEAR).sum())
    unknown = np.empty(int((state == UNKNOWN).sum()), ID)
    unknown["id"] = part.nodes["id"][state == UNKNOWN]
    # What an open document may still do to another open one is asked again in the next round.
    local = part.inside & (state[better] == UNKNOWN)
    local[local] = state[worse[local]] == UNKNOWN
    left = np.concatenate([part.edges[local], part.notices[part.uncertain & (state[notified] == UNKNOWN)]])
    onward = ~part.inside & (state[better] != DROPPED)
    later = part.edges[onward]
    later["order"] |= np.where(state[better][onward] == UNKNOWN, MAYBE, np.uint64(0))

    chunks = len(plan.chunks.members)
    written: dict[str, tuple[Artifact, ...]] = {}
    for name, records, parts, target, by in (
        ("drops", drops, chunks, plan.chunks.of(drops["id"]), ("id",)),
        ("unknown", unknown, chunks, plan.chunks.of(unknown["id"]), ("id",)),
        ("left", left, 1, 0, BY_BETTER),
        ("messages", later, len(bounds) + 1, part.target[onward], ()),
    ):
        out = RecordShuffle(stem.with_name(f"{stem.name}.{name}"), parts, records.dtype, by)
        out.add(records, target)
        written[name] = out.close()
    picked = left[SAMPLE - 1 :: SAMPLE]
    sample = (*places_of(picked, "better_order", "better"), *places_of(picked, "order", "id"))
    return DecidedRange(**written, near_duplicates=near, open_pairs=len(left), edges=len(part.edges), sample=sample)


@dataclass(frozen=True)
class _Range:
    """What one range of the order is decided from."""

    edges: np.ndarray
    """`EDGE` [edges] whose better document lies in the range, sorted by it, each pair once."""
    target: np.ndarray
    """int64 [edges]: the range of the worse document."""
    inside: np.ndarray
    """bool [edges]: the worse document lies in this range, too."""
    notices: np.ndarray
    """`EDGE` [notices]: what earlier ranges decided about documents of this one, the best-ordered sender first."""
    uncertain: np.ndarray
    """bool [notices]: the sender does not know yet whether its document stays."""
    nodes: np.ndarray
    """`NODE` [nodes]: the documents of the range, in order."""
    by_id: np.ndarray
    """int64 [nodes]: places in `nodes`, sorted by id."""
    is_open: np.ndarray
    """bool [nodes]: not compared with all better documents yet."""

    def number(self, ids: np.ndarray) -> np.ndarray:
        """int64: the place of every document in `nodes`."""
        return self.by_id[np.searchsorted(self.nodes["id"], ids, sorter=self.by_id)]


def _read_range(edges: FileSet, opened: FileSet, messages: FileSet, index: int, bounds: Sequence[Place]) -> _Range:
    first = bounds[index - 1] if index else None
    end = bounds[index] if index < len(bounds) else None
    own = between(edges, 0, EDGE, BY_BETTER, None if first is None else (*first, 0, 0), end and (*end, 0, 0))
    own = _one_per_pair(sort_records(own, BY_BETTER))
    notices = sort_records(read_records(messages, index, EDGE), ("order", "id", "better_order", "better"))
    waiting = between(opened, 0, NODE, ("order", "id"), first, end)
    target = np.zeros(len(own), int)
    if bounds:
        target = np.searchsorted(_keys(bounds), _keys(own[["order", "id"]]), "right")
    inside = target == index
    nodes = np.concatenate([_nodes(own, "better_order", "better"), _nodes(own[inside]), _nodes(notices), waiting])
    nodes = distinct(sort_records(nodes, ("order", "id")))
    uncertain = (notices["order"] & MAYBE) > 0
    notices["order"] &= ~MAYBE
    is_open = np.zeros(len(nodes), bool)
    part = _Range(own, target, inside, notices, uncertain, nodes, np.argsort(nodes["id"]), is_open)
    is_open[part.number(waiting["id"])] = True
    return part


def _drops(part: _Range, chosen: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """`DROP` of the dropped documents (bool [nodes]), each for the edge or notice that drops it."""
    source = np.concatenate([part.edges, part.notices])[chosen[dropped]]
    drops = np.zeros(len(source), DROP)
    drops["id"], drops["by"], drops["bytes"] = source["id"], source["better"], bytes_of(source["order"])
    for name in ("shared", "examined", "code", "kind"):
        drops[name] = source[name]
    drops["kind"][source["better_order"] < NOT_EXCLUDED] += OF_EXCLUDED
    return drops


def _one_per_pair(edges: np.ndarray) -> np.ndarray:
    """Sorted edges without repeats; where a pair is both exact and near, it is exact."""
    if not len(edges):
        return edges
    first = first_of_runs(edges["id"], edges["better"])
    kind = np.minimum.reduceat(edges["kind"], first)
    edges = edges[first]
    edges["kind"] = kind
    edges["shared"][kind == EXACT] = edges["examined"][kind == EXACT] = 1
    return edges


def _nodes(edges: np.ndarray, order: str = "order", id_: str = "id") -> np.ndarray:
    nodes = np.empty(len(edges), NODE)
    nodes["order"], nodes["id"] = edges[order], edges[id_]
    if order == "order":
        nodes["order"] &= ~MAYBE
    return nodes


def _keys(pairs: Sequence[Place] | np.ndarray) -> np.ndarray:
    """Places in the order as values that numpy can search: both 64-bit halves as big-endian bytes, which compare as the
    pair does.
    """
    if isinstance(pairs, np.ndarray):
        columns = np.column_stack([pairs["order"] & ~MAYBE, pairs["id"]]) if len(pairs) else np.empty((0, 2), np.uint64)
    else:
        columns = np.array(pairs, np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(columns.astype(">u8")).view("S16").ravel()


@njit(cache=True, nogil=True)
def _walk(
    better: np.ndarray, worse: np.ndarray, is_open: np.ndarray, notified: np.ndarray, uncertain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the edge or, counted on behind the edges, the notice that drops each document, or -1; its state: 0 is kept).

    Args:
        better: int64 [edges], ascending: documents by their place in the order.
        worse: int64 [edges]; -1 for a document of a later range.
        notified: int64 [notices], ascending, the best-ordered sender first: the document that each is about.
    """
    n = len(is_open)
    chosen = np.full(n, -1, np.int64)
    state = np.zeros(n, np.uint8)
    maybe = is_open.copy()
    for m in range(len(notified)):
        if uncertain[m]:
            maybe[notified[m]] = True
        elif chosen[notified[m]] < 0:
            chosen[notified[m]] = len(better) + m
    e = 0
    for i in range(n):
        # All that is better was decided before: the notices of a document are complete.
        state[i] = DROPPED if chosen[i] >= 0 else UNKNOWN if maybe[i] else 0
        while e < len(better) and better[e] == i:
            if worse[e] >= 0:
                if state[i] == 0 and chosen[worse[e]] < 0:
                    chosen[worse[e]] = e
                elif state[i] == UNKNOWN:
                    maybe[worse[e]] = True
            e += 1
    return chosen, state


def tell_buckets(
    drops: FileSet,
    unknown: FileSet,
    members: FileSet,
    chunk: int,
    partitions: int,
    plan: Plan,
    stem: Path,
) -> Shuffled:
    """What a round decided about a chunk's documents, for the partitions that have them in a live bucket."""
    out = RecordShuffle(stem, partitions, UPDATE, ("id",))
    changes = []
    for files, dtype, state in ((drops, DROP, DROPPED), (unknown, ID, UNKNOWN)):
        ids = read_records(files, chunk, dtype)["id"]
        change = np.empty(len(ids), UPDATE)
        change["id"], change["state"] = ids, state
        changes.append(change)
    changed = sort_records(np.concatenate(changes), ("id",))
    inside = Cursor(merged(members, chunk, UPDATE, ("id", "state"), plan.memory // 4), "id", UPDATE)
    step = max(1, plan.memory // 4 // UPDATE.itemsize)
    for at in range(0, len(changed), step):
        piece = changed[at : at + step]
        rows = inside.take(int(piece["id"][-1]))
        found, hit = lookup(piece["id"], rows["id"])
        rows = rows[hit]
        update = np.empty(len(rows), UPDATE)
        update["id"], update["state"] = rows["id"], piece["state"][found[hit]]
        out.add(update, rows["state"].astype(np.int64))
    return Shuffled(out.close())

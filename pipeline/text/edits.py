"""Edits: spans of a document that are cut or replaced; how they are merged, and the one function that applies them.

Scan stores them as `EDIT_TYPE`: sorted, disjoint byte spans in the raw UTF-8. Wherever a document's final text is made or
shown, `apply_edits` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from ..run.schemas import EDIT_TYPE

EDIT_KINDS = (
    *("line", "contamination", "email", "ip", "card", "phone", "key", "citation"),
    *("duplicate line", "duplicate paragraph", "duplicate sentences", "duplicate substring"),
)
"""Meaning of an edit's `kind`: 1 for the first. From the third to the seventh they are personal data and secrets; from the ninth
passages that other documents keep."""
LINE, CONTAMINATION, PII, CITATION = 1, 2, 3, 8
DUPLICATE = 8
"""Added to a kind of passage (`passages.units`), from 1."""
PLUGIN = 255
"""Kind of what a plug-in changed."""


def kind_name(kind: int) -> str:
    """The name of an edit's kind."""
    return "plugin" if kind == PLUGIN else EDIT_KINDS[kind - 1]


def merge_edits(spans: np.ndarray, replacements: Sequence[str], offsets: np.ndarray) -> pa.ListArray:
    """Edits of a batch from spans that may overlap.

    Spans that overlap become one, with the kind and replacement of the lowest kind among them: what is cut is cut whole.

    Args:
        spans: int64 [spans, 4] of (document, start, end, kind), bytes of the batch, in any order.
        replacements: by kind, from kind 1.
        offsets: int64 [n + 1] of the documents.

    Returns:
        `EDIT_TYPE` [n], with spans relative to their document.
    """
    n = len(offsets) - 1
    ordered = spans[np.lexsort((spans[:, 3], spans[:, 1], spans[:, 0]))]
    merged = _merge(ordered)
    counts = np.bincount(merged[:, 0], minlength=n) if len(merged) else np.zeros(n, np.int64)
    bounds = np.append(0, np.cumsum(counts)).astype(np.int32)
    begin = offsets[merged[:, 0]]
    kind = merged[:, 3]
    texts = pa.array(["", *replacements], pa.string()).take(pa.array(kind))
    struct = EDIT_TYPE.value_type
    values = pa.StructArray.from_arrays(
        [
            pa.array(merged[:, 1] - begin),
            pa.array(merged[:, 2] - begin),
            pa.array(kind.astype(np.uint8)),
            texts,
        ],
        fields=list(struct),
    )
    return pa.ListArray.from_arrays(pa.array(bounds), values, type=EDIT_TYPE)


@njit(cache=True, nogil=True)
def _merge(spans: np.ndarray) -> np.ndarray:
    out = np.empty_like(spans)
    m = 0
    for i in range(len(spans)):
        if m and out[m - 1, 0] == spans[i, 0] and spans[i, 1] < out[m - 1, 2]:
            out[m - 1, 2] = max(out[m - 1, 2], spans[i, 2])
            out[m - 1, 3] = min(out[m - 1, 3], spans[i, 3])
        elif (
            m
            and out[m - 1, 0] == spans[i, 0]
            and spans[i, 1] == out[m - 1, 2]
            and out[m - 1, 3] == 1
            and spans[i, 3] == 1
        ):
            # Neighbouring dropped lines are one span.
            out[m - 1, 2] = spans[i, 2]
        else:
            out[m] = spans[i]
            m += 1
    return out[:m].copy()


def apply_edits(text: pa.LargeStringArray, edits: pa.ListArray) -> pa.LargeStringArray:
    """Replace the edited spans of every document.

    Args:
        text: documents [n].
        edits: lists [n] of `EDIT_TYPE` structs, spans in raw UTF-8 bytes, sorted and disjoint.

    Returns:
        The edited documents; the same array where no document has an edit.
    """
    bounds = edits.offsets.to_numpy()
    if bounds[0] == bounds[-1]:
        return text
    _, offsets, data = text.buffers()
    begins = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    values = edits.values
    start, end = values.field("start").to_numpy(), values.field("end").to_numpy()
    pieces = values.field("replacement").cast(pa.large_string())
    _, piece_offsets, piece_data = pieces.buffers()
    piece_bounds = np.frombuffer(piece_offsets, np.int64)[pieces.offset : pieces.offset + len(pieces) + 1]
    empty = np.empty(0, np.uint8)
    sizes, out = _apply(
        np.frombuffer(data, np.uint8) if data is not None else empty,
        begins,
        bounds.astype(np.int64),
        start,
        end,
        np.frombuffer(piece_data, np.uint8) if piece_data is not None else empty,
        piece_bounds,
    )
    return pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(sizes), pa.py_buffer(out))


def cut_upon(edits: Sequence[Mapping[str, Any]], cuts: Sequence[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Edits of a raw text, and spans of the edited text that are cut upon them, as edits that make at once what both make in turn.

    Args:
        edits: of one document, as `EDIT_TYPE` stores them.
        cuts: (first byte in the edited text, byte after the last, kind); sorted and disjoint. What is left of a replacement that
            one reaches into becomes its own.
    """
    texts = [edit["replacement"].encode() for edit in edits]
    placed, shift = list[tuple[int, int]](), 0
    for edit, text in zip(edits, texts, strict=True):
        start = edit["start"] - shift
        placed.append((start, start + len(text)))
        shift += edit["end"] - edit["start"] - len(text)
    made, shift, e, c = list[dict[str, Any]](), 0, 0, 0
    while e < len(edits) or c < len(cuts):
        if c == len(cuts) or (e < len(edits) and placed[e][1] <= cuts[c][0]):
            made.append(dict(edits[e]))
            shift = edits[e]["end"] - placed[e][1]
            e += 1
            continue
        begin, end, kind = cuts[c]
        c += 1
        raw, left = begin + shift, b""
        if e < len(edits) and placed[e][0] < begin:
            raw, left = edits[e]["start"], texts[e][: begin - placed[e][0]]
        # As long as a replacement begins before the end, it is a part of this edit, and so is what is cut of it further on.
        while e < len(edits) and placed[e][0] < end:
            first, last = placed[e]
            shift = edits[e]["end"] - last
            while end < last:
                stop = min(cuts[c][0], last) if c < len(cuts) else last
                left += texts[e][end - first : stop - first]
                end = stop
                if c < len(cuts) and cuts[c][0] < last:
                    end = cuts[c][1]
                    c += 1
            e += 1
        made.append({"start": raw, "end": end + shift, "kind": kind, "replacement": left.decode()})
    return made


def raw_spans(edits: Sequence[Mapping[str, Any]], begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`raw_span` of many spans of one document, none of which is empty: int64 [n] first raw bytes and bytes after the last."""
    starts, ends = (np.array([edit[name] for edit in edits], np.int64) for name in ("start", "end"))
    sizes = np.array([len(edit["replacement"].encode()) for edit in edits], np.int64)
    shifts = np.append(0, np.cumsum(ends - starts - sizes))
    first = starts - shifts[:-1]
    found = []
    for place, inside in ((begin, starts), (end - 1, ends - 1)):
        k = np.searchsorted(first + sizes, place, "right")
        within = k < len(edits)
        within[within] = first[k[within]] <= place[within]
        raw = place + shifts[k]
        raw[within] = inside[k[within]]
        found.append(raw)
    return found[0], found[1] + 1


def raw_span(edits: Sequence[Mapping[str, Any]], begin: int, end: int) -> tuple[int, int]:
    """The raw bytes that bytes ``begin:end`` of the edited text were made of.

    Text that was cut before the first or after the last of them is not included; a replacement stands for all it replaced.
    """

    def place(at: int, last: bool) -> int:
        raw = edited = 0
        for edit in edits:
            kept = edit["start"] - raw
            if at < edited + kept:
                break
            edited, raw = edited + kept, edit["start"]
            size = len(edit["replacement"].encode())
            if at < edited + size:
                return edit["end"] if last else edit["start"]
            edited, raw = edited + size, edit["end"]
        return raw + at - edited + last

    first = place(begin, False)
    return (first, place(end - 1, True)) if end > begin else (first, first)


@njit(cache=True, nogil=True)
def _apply(
    text: np.ndarray,
    begins: np.ndarray,
    bounds: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    pieces: np.ndarray,
    piece_bounds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(begins) - 1
    offsets = np.zeros(n + 1, np.int64)
    for d in range(n):
        size = begins[d + 1] - begins[d]
        for e in range(bounds[d], bounds[d + 1]):
            size += piece_bounds[e + 1] - piece_bounds[e] - (end[e] - start[e])
        offsets[d + 1] = offsets[d] + size
    out = np.empty(offsets[n], np.uint8)
    to = 0
    for d in range(n):
        at = begins[d]
        for e in range(bounds[d], bounds[d + 1]):
            size = begins[d] + start[e] - at
            out[to : to + size] = text[at : at + size]
            to += size
            size = piece_bounds[e + 1] - piece_bounds[e]
            out[to : to + size] = pieces[piece_bounds[e] : piece_bounds[e + 1]]
            to += size
            at = begins[d] + end[e]
        size = begins[d + 1] - at
        out[to : to + size] = text[at : at + size]
        to += size
    return offsets, out

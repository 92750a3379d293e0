"""Packing: every token once, blocks within their limits, padding bounded."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from fox1.tokenize.pack import PackedSegments, Packing, fill, pack, streams
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTHS = st.lists(st.integers(1, 400), min_size=0, max_size=120)


def covered(lengths: np.ndarray, *parts: PackedSegments) -> None:
    """Every position of every document is in exactly one segment."""
    seen = [np.zeros(n, int) for n in lengths]
    for part in parts:
        for d, s, n in zip(part.document, part.start, part.length, strict=True):
            seen[d][s : s + n] += 1
    assert all((s == 1).all() for s in seen)


@settings(max_examples=150, deadline=None)
@given(
    LENGTHS, st.sampled_from([64, 128]), st.integers(1, 12), st.sampled_from(["best_fit", "concatenate"]), st.booleans()
)
def test_every_token_is_packed_once_within_the_limits(
    sizes: list[int], block: int, most: int, packing: Literal["best_fit", "concatenate"], last: bool
) -> None:
    lengths = np.array(sizes, np.int64)
    packed = pack(lengths, block, most, packing, last)
    covered(lengths, packed.segments, packed.leftover)
    filled = np.bincount(packed.segments.block, weights=packed.segments.length, minlength=packed.n_blocks)
    held = np.bincount(packed.segments.block, minlength=packed.n_blocks)
    assert (filled <= block).all()
    assert (held <= most).all()
    assert (held >= 1).all()
    assert (np.diff(packed.segments.block) >= 0).all()
    assert packed.leftover.length.sum() < block
    if last:
        assert len(packed.leftover) == 0


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.sampled_from(["best_fit", "concatenate"]))
def test_only_the_last_block_may_be_underfull(sizes: list[int], packing: Packing) -> None:
    packed = pack(np.array(sizes, np.int64), 256, 1000, packing, last=True)
    filled = np.bincount(packed.segments.block, weights=packed.segments.length, minlength=packed.n_blocks)
    assert (filled[:-1] >= 255).all()


def test_best_fit_cuts_only_what_is_longer_than_a_block_where_it_can() -> None:
    lengths = np.array([100, 28, 60, 68, 300], np.int64)
    packed = pack(lengths, 128, 50, "best_fit", last=True)
    assert packed.cut == 0
    pieces = sorted(zip(packed.segments.document.tolist(), packed.segments.length.tolist(), strict=True))
    assert pieces == [(0, 100), (1, 28), (2, 60), (3, 68), (4, 44), (4, 128), (4, 128)]


def test_best_fit_pads_less_than_half_a_percent_of_a_thousand_blocks() -> None:
    lengths = np.random.default_rng(1).lognormal(6, 1.2, 6000).astype(np.int64) + 1
    packed = pack(lengths, 2048, 64, "best_fit", last=True)
    assert packed.n_blocks > 1000
    assert 1 - packed.segments.length.sum() / (packed.n_blocks * 2048) < 0.005


def test_the_same_documents_give_the_same_blocks() -> None:
    lengths = np.random.default_rng(2).integers(1, 900, 500)
    first, second = (pack(lengths, 512, 64, "best_fit") for _ in range(2))
    assert (first.segments.document == second.segments.document).all()
    assert (first.segments.block == second.segments.block).all()


def test_streams_open_and_close_documents_and_end_where_the_budget_does() -> None:
    ids = np.array([10, 11, 12, 20, 30, 31], np.int32)
    offsets = np.array([0, 3, 4, 6])
    stream = streams(ids, offsets, np.array([5, 3, 2], np.int64), 2, 1)
    assert stream.tolist() == [2, 10, 11, 12, 1, 2, 20, 1, 2, 30]


def test_fill_places_segments_and_pads_the_rest() -> None:
    stream = np.arange(100, 110, dtype=np.int32)
    blocks, ends = fill(
        np.array([0, 1, 1]),
        np.array([0, 0, 3]),
        np.array([4, 3, 1]),
        np.array([0, 0, 1]),
        2,
        8,
        stream,
        np.array([0, 4, 10]),
        0,
    )
    assert blocks.tolist() == [[100, 101, 102, 103, 104, 105, 106, 0], [107, 0, 0, 0, 0, 0, 0, 0]]
    assert ends.tolist() == [4, 7, 1]


def test_a_document_longer_than_many_blocks_is_cut_at_block_size() -> None:
    packed = pack(np.array([1000], np.int64), 256, 4, "best_fit", last=True)
    assert packed.segments.start.tolist() == [0, 256, 512, 768]
    assert packed.segments.length.tolist() == [256, 256, 256, 232]


def test_max_docs_closes_a_block() -> None:
    packed = pack(np.full(10, 2, np.int64), 64, 3, "best_fit", last=True)
    assert np.bincount(packed.segments.block).max() <= 3


@pytest.mark.parametrize("packing", ["best_fit", "concatenate"])
def test_nothing_packs_to_nothing(packing: Packing) -> None:
    packed = pack(np.array([], np.int64), 64, 4, packing, last=True)
    assert packed.n_blocks == 0 and len(packed.segments) == 0

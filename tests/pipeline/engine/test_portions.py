"""Portions: items of a step that one task takes together."""

from __future__ import annotations

from fox1.pipeline.engine.tasks import portions
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 1 << 40), max_size=300), st.integers(1, 40))
def test_portions_hold_all_items_in_order_and_are_no_more_than_asked_for(sizes: list[int], most: int) -> None:
    found = portions(range(len(sizes)), sizes.__getitem__, sum(sizes), most)
    assert [i for some in found for i in some] == list(range(len(sizes)))
    assert all(found) and len(found) <= most
    for some in found:
        # A portion begins where one of equal shares does, and goes past its end by an item at most.
        assert sum(sizes[i] for i in some[:-1]) * most <= sum(sizes)


@given(st.integers(0, 10_000), st.integers(1, 4_000))
def test_equal_items_make_equal_portions(count: int, most: int) -> None:
    found = portions(range(count), lambda _: 1, count, most)
    assert len(found) == min(count, most)
    assert not found or max(map(len, found)) <= min(map(len, found)) + 1


def test_of_little_a_portion_holds_as_much_as_it_should_at_least() -> None:
    assert [len(some) for some in portions(range(12), lambda _: 10, 120, 1000, least=30)] == [3, 3, 3, 3]
    assert [len(some) for some in portions(range(12), lambda _: 10, 120, 2, least=30)] == [6, 6]
    assert portions([1, 2], lambda _: 10, 20, least=30) == [[1, 2]]


def test_portions_are_even_by_what_their_items_take() -> None:
    files = [1] * 50 + [50] * 5
    found = portions(range(55), lambda _: 1, 55, 2, work=files.__getitem__)
    assert [sum(files[i] for i in some) for some in found] == [150, 150]

"""A mixture: exact quotas, cuts, epochs, and no state but the units consumed."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fox1.trainer.data.mixture import MixtureData, Part
from fox1.trainer.data.order import PhaseData

from tests.trainer.data.test_data import loaded_steps, write_set


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> list[PhaseData]:
    """Three pools of 40, 25 and 7 units, one of them of two block lengths; every token of a pool is from a range of its own."""
    found = []
    for number, lengths in enumerate(({128: 40}, {64: 20, 128: 15}, {128: 7})):
        folder = tmp_path_factory.mktemp("pools") / str(number)
        write_set(folder, lengths, number)
        found.append(PhaseData(folder, 5))
    return found


def units_of(data: MixtureData | PhaseData, first: int, count: int) -> list[bytes]:
    tokens = data.stream(first, count).tokens.reshape(count, data.unit_tokens)
    return [unit.tobytes() for unit in tokens]


def owners(pools: list[PhaseData]) -> dict[bytes, int]:
    return {unit: k for k, pool in enumerate(pools) for unit in units_of(pool, 0, pool.units)}


def test_quotas_are_exact_and_pools_take_turns(pools: list[PhaseData]) -> None:
    quotas = (33, 12, 15)
    data = MixtureData([Part(p, q) for p, q in zip(pools, quotas, strict=True)], 1)
    assert data.units == 60
    of = owners(pools)
    seen = [of[unit] for unit in units_of(data, 0, 60)]
    assert [seen.count(k) for k in range(3)] == list(quotas)
    for i in range(1, 61):
        assert abs(seen[:i].count(0) - i * 33 / 60) <= 1


def test_a_pool_of_quota_zero_is_not_read(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[0], 10), Part(pools[2], 0)], 1)
    assert {owners(pools)[u] for u in units_of(data, 0, 10)} == {0}
    with pytest.raises(ValueError, match="a unit at least"):
        MixtureData([Part(pools[0], 0)], 1)


def test_a_cut_pool_repeats_its_first_units_in_epochs(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[0], 25, 10), Part(pools[1], 5)], 1)
    of = owners(pools)
    own = [u for u in units_of(data, 0, 30) if of[u] == 0]
    prefix = units_of(pools[0], 0, 10)
    assert own[:10] == prefix
    # A second epoch of the same ten, in another order; of the third, a half.
    assert sorted(own[10:20]) == sorted(prefix) and own[10:20] != prefix
    assert len(set(own[20:])) == 5 and set(own[20:]) <= set(prefix)


def test_phases_order_the_same_units(pools: list[PhaseData]) -> None:
    orders = ((10, 0, 20), (3, 12, 5)), ((12, 8, 10), (1, 4, 15)), ((30,), (20,))
    of = owners(pools)
    seen = []
    for first, second in orders:
        data = MixtureData([Part(pools[0], first, 12), Part(pools[1], second)], 1)
        assert data.units == 50
        units = units_of(data, 0, 50)
        begin = 0
        for quotas in zip(first, second, strict=True):
            own = [of[u] for u in units[begin : begin + sum(quotas)]]
            assert (own.count(0), own.count(1)) == quotas
            begin += sum(quotas)
        # A pool goes on where the phase before left it, through the same units in the same epochs.
        seen.append([[u for u in units if of[u] == k] for k in range(2)])
        assert units_of(data, 7, 90) == (units * 2)[7:50] + units_of(data, 50, 47)
    assert seen[0] == seen[1] == seen[2]
    # One phase is the whole, however it is written.
    whole, one = (MixtureData([Part(pools[0], q[0], 12), Part(pools[1], q[1])], 1) for q in ((30, 20), orders[2]))
    assert units_of(whole, 0, 50) == units_of(one, 0, 50)
    with pytest.raises(ValueError, match="quotas for the same phases"):
        MixtureData([Part(pools[0], (1, 2)), Part(pools[1], 3)], 1)


def test_another_draw_keeps_other_units_as_many(pools: list[PhaseData]) -> None:
    def drawn(draw: int) -> set[bytes]:
        return set(units_of(MixtureData([Part(pools[0], 30, 10)], 1, draw), 0, 30))

    assert len(drawn(1)) == len(drawn(2)) == 10 and drawn(1) != drawn(2)
    assert drawn(1) == drawn(1) <= set(units_of(pools[0], 0, 40))


def test_a_cap_above_the_pool_is_the_pool(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[2], 14, 100)], 1)
    assert Counter(units_of(data, 0, 14)) == Counter(2 * units_of(pools[2], 0, 7))


def test_any_place_is_the_same_however_it_is_reached(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[0], 20, 12), Part(pools[1], 9), Part(pools[2], 11)], 3, 2)
    whole = units_of(data, 0, 130)
    for first, count in ((0, 1), (7, 5), (39, 3), (79, 51), (100, 1)):
        assert units_of(data, first, count) == whole[first : first + count]
    streams = [data.stream(i, 1) for i in range(60)]
    joined = data.stream(0, 60)
    assert joined.ends.tolist() == [e + 128 * i for i, s in enumerate(streams) for e in s.ends.tolist()]
    for name in ("sources", "padding"):
        assert getattr(joined, name).tolist() == [x for s in streams for x in getattr(s, name).tolist()]


def test_one_whole_pool_is_its_own_mixture(pools: list[PhaseData]) -> None:
    for pool in pools:
        data = MixtureData([Part(pool, pool.units)], 5)
        for first, count in ((0, pool.units), (pool.units - 2, 9), (3 * pool.units + 1, 20)):
            mine, theirs = data.stream(first, count), pool.stream(first, count)
            assert mine.tokens.tolist() == theirs.tokens.tolist() and mine.ends.tolist() == theirs.ends.tolist()
            assert mine.sources.tolist() == theirs.sources.tolist()
        batch, other = (d.micro_batch(2, 3, torch.device("cpu")) for d in (data, pool))
        assert batch.targets.tolist() == other.targets.tolist()


def test_a_loader_gives_every_rank_its_part_whatever_the_world(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[0], 30, 12), Part(pools[1], 20), Part(pools[2], 14)], 1)

    steps = partial(loaded_steps, data)

    alone = steps(1, 0, 4)
    assert steps(2, 0, 4) == steps(4, 0, 4) == alone
    assert steps(8, 32, 2) == alone[2:]


def test_its_identity_pins_pools_quotas_and_cuts(pools: list[PhaseData]) -> None:
    def identity(*parts: Part, draw: int = 0) -> str:
        return MixtureData(parts, 1, draw).info.data_identity

    first = identity(Part(pools[0], 10), Part(pools[1], 5))
    assert first == identity(Part(pools[0], 10, 40), Part(pools[1], 5))
    others = [
        identity(Part(pools[0], 11), Part(pools[1], 5)),
        identity(Part(pools[0], 10, 20), Part(pools[1], 5)),
        identity(Part(pools[0], 10), Part(pools[1], 5), draw=1),
    ]
    assert len({first, *others}) == 4


def test_pools_that_do_not_fit_are_refused(pools: list[PhaseData], tmp_path: Path) -> None:
    write_set(tmp_path, {64: 4})
    with pytest.raises(ValueError, match="units of 64 tokens, and s of 128: they cannot be mixed"):
        MixtureData([Part(pools[0], 3), Part(PhaseData(tmp_path, 1), 3)], 1)


def test_sources_of_pools_share_one_table(pools: list[PhaseData]) -> None:
    data = MixtureData([Part(pools[0], 10), Part(pools[1], 10)], 1)
    assert data.info.sources == pools[0].info.sources
    assert np.isin(data.stream(0, 20).sources, range(3)).all()

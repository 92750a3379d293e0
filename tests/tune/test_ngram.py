"""The n-gram model against the same in plain Python, and as a distribution."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from fox1.trainer.data.order import UnitStream
from fox1.tune import ngram
from fox1.tune.ngram import BASE, DISCOUNT, NgramModel

VOCABULARY = 40


def stream(seed: int, tokens: int = 4000, masked: bool = False) -> UnitStream:
    rng = np.random.default_rng(seed)
    # Steps of a chain, so that contexts tell something.
    ids = np.cumsum(rng.choice([1, 2, 5, 11], tokens)) % VOCABULARY
    ends = np.unique(np.r_[rng.integers(1, tokens, tokens // 30), tokens])
    padding = rng.random(len(ends)) < 0.1
    learned = rng.random(tokens) < 0.7 if masked else None
    return UnitStream(ids.astype(np.int32), ends, np.zeros(len(ends), np.int64), padding, learned)


class Reference:
    """Absolute discounting with dictionaries."""

    def __init__(self) -> None:
        self.single: Counter[int] = Counter()
        self.follows: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def train(self, s: UnitStream) -> None:
        begin = 0
        for end, padding in zip(s.ends.tolist(), s.padding.tolist(), strict=True):
            ids = s.tokens[begin:end].tolist()
            for i in range(1, 0 if padding else len(ids)):
                if s.learned is not None and not s.learned[begin + i]:
                    continue
                self.single[ids[i]] += 1
                for n in range(1, min(i, 3) + 1):
                    self.follows[tuple(ids[i - n : i])][ids[i]] += 1
            begin = end

    def probability(self, context: list[int], token: int) -> float:
        p = (self.single[token] + BASE) / (sum(self.single.values()) + BASE * VOCABULARY)
        for n in range(1, len(context) + 1):
            seen = self.follows.get(tuple(context[-n:]))
            if seen:
                p = (max(seen[token] - DISCOUNT, 0) + DISCOUNT * len(seen) * p) / sum(seen.values())
        return p


@pytest.mark.parametrize("masked", [False, True])
def test_every_token_has_the_bits_of_the_reference(masked: bool) -> None:
    model, reference = NgramModel(VOCABULARY), Reference()
    for seed in range(3):
        model.train(stream(seed, masked=masked))
        reference.train(stream(seed, masked=masked))
    asked = stream(9, 600)
    found, begin = model.bits(asked), 0
    for end, padding in zip(asked.ends.tolist(), asked.padding.tolist(), strict=True):
        ids = asked.tokens[begin:end].tolist()
        assert found[begin] == 0
        for i in range(1, len(ids)):
            expected = 0.0 if padding else -math.log2(reference.probability(ids[max(0, i - 3) : i], ids[i]))
            assert found[begin + i] == pytest.approx(expected, abs=1e-9)
        begin = end


def test_the_probabilities_of_all_tokens_sum_to_one() -> None:
    model = NgramModel(VOCABULARY)
    model.train(stream(1))
    context = stream(2).tokens[:3]
    ids = np.concatenate([np.r_[context, t] for t in range(VOCABULARY)]).astype(np.int32)
    asked = UnitStream(
        ids, np.arange(4, 4 * VOCABULARY + 1, 4), np.zeros(VOCABULARY, np.int64), np.zeros(VOCABULARY, np.bool_)
    )
    assert (2.0 ** -model.bits(asked)[3::4]).sum() == pytest.approx(1)


def test_the_order_of_what_is_counted_and_the_size_of_tables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stream(9, 600)
    one, other = NgramModel(VOCABULARY, 1 << 20), NgramModel(VOCABULARY)
    for seed in (0, 1, 2):
        one.train(stream(seed))
    # So small that all grow on the way.
    monkeypatch.setattr(ngram, "CHUNK_TOKENS", 1)
    small = NgramModel(VOCABULARY)
    small.tables = [np.zeros((16, columns), np.uint32) for columns in (4, 4, 2)]
    for seed in (2, 0, 1):
        other.train(stream(seed))
        small.train(stream(seed))
    assert (one.bits(asked) == other.bits(asked)).all() and (one.bits(asked) == small.bits(asked)).all()


def test_a_model_without_counts_gives_every_token_the_same_bits() -> None:
    found = NgramModel(VOCABULARY).bits(stream(1, 100))
    assert found[found > 0] == pytest.approx(math.log2(VOCABULARY))


def test_grams_that_share_their_counts_leave_every_token_possible() -> None:
    # With 32 bits, some of so many grams do.
    rng = np.random.default_rng(1)
    n = 300_000
    ids = rng.integers(0, 3000, n).astype(np.int32)
    model = NgramModel(3000)
    every = UnitStream(ids, np.array([n]), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    model.train(every)
    shared = (n - 3) - model.taken[2]
    assert 0 < shared < 100
    found = model.bits(every)[1:]
    assert np.isfinite(found).all() and (found > 0).all()

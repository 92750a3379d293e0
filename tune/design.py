"""Which mixtures are tried: anchors that are repeated, one without each pool, and candidates chosen for what they tell.

1. Candidates are drawn from Dirichlet distributions around natural, recipe and uniform weights, with a log-uniform strength
   (as in RegMix, Liu et al. 2025, arXiv 2407.01492), and brought within floors and caps. To reject what breaks a cap would
   leave next to nothing where several pools are small.
2. They fall into strata, by centre and strength. The strata take turns, and of each the candidate is chosen that adds most to
   the determinant of the information about a linear model in (sqrt w, w): greedily D-optimal, yet near as well as far.
3. Choices follow one another, from a number of candidates that does not depend on how many are wanted: the first 64 rows of a
   design of 128 are the design of 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .settings import Anchors

CANDIDATES = 4096
"""Drawn for a design of any size."""
STRENGTH = (1.0, 100.0)
"""Sums of the Dirichlet's parameters, least and most: at 1 mixtures lie near corners, at 100 within 5 points of their centre."""
BANDS = 3
"""Strata by strength."""
TO_UNIFORM = 0.15
"""Of each centre, so that pools with a weight of next to nothing vary as well."""
PRIOR = 1e-3
"""Information that there is before any row: keeps the matrix regular."""
DIGITS = 6
"""Decimals of a weight."""


@dataclass(frozen=True)
class Space:
    """The mixtures that may be tried, and three of them by name. All arrays are float64 [K], K pools."""

    pools: tuple[str, ...]
    natural: np.ndarray
    recipe: np.ndarray
    floors: np.ndarray
    caps: np.ndarray

    @classmethod
    def of(
        cls,
        pools: Sequence[str],
        natural: Sequence[float],
        recipe: Sequence[float],
        floors: Sequence[float],
        caps: Sequence[float],
    ) -> Space:
        """A space with its mixtures brought within floors and caps.

        Raises:
            ValueError: no mixture lies within them.
        """
        low, high = np.array(floors, np.float64), np.minimum(np.array(caps, np.float64), 1.0)
        if (thin := low > high).any():
            name = pools[int(np.argmax(thin))]
            raise ValueError(
                f"the pool {name} can have {high[thin][0]:.2%} of the tokens at most, less than its floor of "
                f"{low[thin][0]:.2%}; lower `tune.constraints.floor` or raise `tune.constraints.max_epochs`"
            )
        if low.sum() > 1 or high.sum() < 1:
            short = "the floors sum to more than" if low.sum() > 1 else "all pools together can give less than"
            raise ValueError(f"{short} the whole; change `tune.constraints`: `floor` or `max_epochs`")
        first, second = (within(np.array(w, np.float64)[None], low, high)[0] for w in (natural, recipe))
        return cls(tuple(pools), first, second, low, high)

    @property
    def uniform(self) -> np.ndarray:
        """Equal weights, within floors and caps."""
        return within(np.ones((1, len(self.pools))), self.floors, self.caps)[0]


@dataclass(frozen=True)
class Row:
    """One training of the design."""

    kind: str
    """`recipe`, `natural`, `uniform`, `without POOL` or `candidate`."""
    weights: tuple[float, ...]
    """By pool; they sum to 1."""
    seed: int
    """Of what it draws from the pools, and of initial weights."""


def within(weights: np.ndarray, floors: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """Mixtures in the proportions of `weights` ([m, K], not negative) as far as floors and caps ([K]) allow, [m, K]: each is
    ``clip(s * weights, floors, caps)`` with the `s` that makes it sum to 1.
    """
    positive = np.maximum(weights, 0) + 1e-12
    low, high = np.full(len(weights), -60.0), np.full(len(weights), 60.0)
    # The sum never falls with s; in the logarithm of s, since weights span many powers of ten.
    for _ in range(100):
        middle = (low + high) / 2
        below = np.clip(np.exp(middle)[:, None] * positive, floors, caps).sum(axis=1) < 1
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found = np.clip(np.exp(high)[:, None] * positive, floors, caps)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def features(weights: np.ndarray) -> np.ndarray:
    """What a linear model sees of mixtures: [m, 2K]."""
    return np.concatenate([np.sqrt(weights), weights], axis=1)


@dataclass(frozen=True)
class Candidates:
    """Mixtures to choose from."""

    weights: np.ndarray
    """[CANDIDATES, K]."""
    stratum: np.ndarray
    """int64 [CANDIDATES]: by centre and strength."""


def draw(space: Space, seed: int, count: int = CANDIDATES) -> Candidates:
    """Candidates of a seed."""
    rng = np.random.default_rng([seed, 1])
    k = len(space.pools)
    centres = np.stack([space.natural, space.recipe, space.uniform])
    centres = (1 - TO_UNIFORM) * centres + TO_UNIFORM / k
    stratum = np.arange(count) % (len(centres) * BANDS)
    centre, band = stratum % len(centres), stratum // len(centres)
    begin, end = np.log(STRENGTH)
    strength = np.exp(begin + (end - begin) * (band + rng.random(count)) / BANDS)
    drawn = rng.standard_gamma(strength[:, None] * centres[centre])
    return Candidates(rounded(within(drawn, space.floors, space.caps)), stratum)


def rounded(weights: np.ndarray) -> np.ndarray:
    """Mixtures [m, K] in decimals that sum to 1."""
    short = np.round(weights, DIGITS)
    short[np.arange(len(short)), short.argmax(axis=1)] += 1 - short.sum(axis=1)
    return np.round(short, DIGITS)


def choose_informative(candidates: Candidates, before: np.ndarray, count: int) -> list[int]:
    """Indices of candidates, each the one of its stratum that tells most after those before it.

    Args:
        before: mixtures [n, K] that are tried in any case.

    Raises:
        ValueError: so many candidates there are not.
    """
    if count > len(candidates.weights):
        raise ValueError(f"a design has {len(candidates.weights)} candidates at most, not {count}")
    x = features(candidates.weights)
    seen = features(before)
    inverse = np.linalg.inv(seen.T @ seen + PRIOR * np.eye(x.shape[1]))
    strata = int(candidates.stratum.max()) + 1
    free = np.ones(len(x), np.bool_)
    chosen: list[int] = []
    for turn in range(count):
        own = np.flatnonzero(free & (candidates.stratum == turn % strata))
        # The determinant grows by the factor 1 + x' M^-1 x; ties, to 9 digits, go to the first.
        gains = np.einsum("ij,jk,ik->i", x[own], inverse, x[own])
        best = int(own[np.argmax(np.round(gains / gains.max(), 9))])
        step = inverse @ x[best]
        inverse = inverse - np.outer(step, step) / (1 + x[best] @ step)
        free[best] = False
        chosen.append(best)
    return chosen


def design(space: Space, anchors: Anchors, proxies: int, seed: int) -> tuple[Row, ...]:
    """The rows of a design: anchors first, then candidates. A larger one begins with a smaller one of the same seed.

    Raises:
        ValueError: the anchors alone are as many as `proxies`.
    """
    rows: list[tuple[str, np.ndarray]] = []
    for kind, weights, times in (
        ("recipe", space.recipe, anchors.recipe),
        ("natural", space.natural, anchors.natural),
        ("uniform", space.uniform, anchors.uniform),
    ):
        rows += [(kind, weights)] * times
    for number, pool in enumerate(space.pools):
        rows += [(f"without {pool}", _without(space, number))] * (anchors.drop_one if len(space.pools) > 1 else 0)
    if len(rows) >= proxies:
        raise ValueError(
            f"`tune.anchors` are {len(rows)} trainings, which leaves none of {proxies} `tune.proxies` for candidates; raise "
            "`tune.proxies` or lower `tune.anchors`"
        )
    fixed = rounded(np.stack([weights for _, weights in rows])) if rows else np.empty((0, len(space.pools)))
    candidates = draw(space, seed)
    chosen = choose_informative(candidates, fixed, proxies - len(rows))
    weights = np.concatenate([fixed, candidates.weights[chosen]])
    kinds = [kind for kind, _ in rows] + ["candidate"] * len(chosen)
    # Each row draws documents of its own: what one draw has by chance is not learnt as if all had it.
    return tuple(Row(kind, tuple(w), i) for i, (kind, w) in enumerate(zip(kinds, weights.tolist(), strict=True)))


NEAR = 0.35
"""Standard deviation of the logarithm of weights around a first choice."""
REFINED_DRAW = 500_000
"""Of the first row near a choice: what its trainings draw, none of the design did."""


def design_near(space: Space, chosen: np.ndarray, count: int, seed: int) -> tuple[Row, ...]:
    """Rows around a first choice ([K]), which is where a second fit has to be right.

    The first minimum of a surface that was fitted from afar lies where the surface errs downwards; a few rows there show it
    (Diao et al. 2025, arXiv 2504.13161, search in such rounds).
    """
    rng = np.random.default_rng([seed, 6])
    drawn = chosen * np.exp(NEAR * rng.standard_normal((32 * max(count, 1), len(chosen))))
    weights = rounded(within(drawn, space.floors, space.caps))
    picked = choose_informative(Candidates(weights, np.zeros(len(weights), np.int64)), chosen[None], count)
    return tuple(Row("near", tuple(weights[i].tolist()), REFINED_DRAW + n) for n, i in enumerate(picked))


def _without(space: Space, pool: int) -> np.ndarray:
    """Natural weights without a pool, whose floor does not hold here; others may then need more than their caps."""
    floors, caps = space.floors.copy(), space.caps.copy()
    floors[pool] = caps[pool] = 0.0
    if caps.sum() < 1:
        caps = np.ones_like(caps)
        caps[pool] = 0.0
    return within(space.natural[None], floors, caps)[0]

"""Is the chosen mixture better? Trainings with more tokens, measured on documents and items that no fit has seen.

Every mixture is trained with the same seeds, and differences are taken seed by seed. The interval of one has two parts, which
add as variances do: Student's t over the seeds, and a bootstrap over documents (drawn with replacement within each target) of
their mean. There are two ways to leave the recipe, so each has half of the 5 % of wrong decisions (Bonferroni).

    adopt             better than the recipe, its interval excludes 0; its mean not above that of natural weights by more than
                      a margin; every promise kept
    take natural      natural weights are better than the recipe, their interval excludes 0
    keep the recipe   anything else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .threads import one_thread

ADOPT, KEEP, NATURAL = "adopt", "keep the recipe", "take natural"
CHOSEN, RECIPE, NATURAL_ARM = "chosen", "recipe", "natural"
LEVEL = 0.05
"""Of all decisions where nothing is better: wrong ones."""
POWER = 0.8
"""With which the smallest effect would have been seen."""
DRAWS = 2000


@dataclass(frozen=True)
class Measured:
    """Trainings of several mixtures, each with the same seeds, measured on the same documents."""

    arms: tuple[str, ...]
    """A names; among them `chosen`, `recipe` and `natural`."""
    bits: np.ndarray
    """float64 [A, S, D], S seeds, D documents or items."""
    size: np.ndarray
    """float64 [D]: bytes."""
    target: np.ndarray
    """int64 [D]: which target a document is of."""
    targets: tuple[str, ...]
    importance: np.ndarray
    """float64 [T], sums to 1."""

    def by_target(self, times: np.ndarray | None = None) -> np.ndarray:
        """Bits per byte [R, A, S, T], documents counted so often (`times` [R, D]; None: once, R = 1)."""
        count = np.ones((1, len(self.size))) if times is None else times
        arms, seeds, documents = self.bits.shape
        flat = self.bits.reshape(-1, documents)
        found = np.empty((len(count), arms * seeds, len(self.targets)))
        for t in range(len(self.targets)):
            own = self.target == t
            found[:, :, t] = count[:, own] @ flat[:, own].T / (count[:, own] @ self.size[own])[:, None]
        return found.reshape(len(count), arms, seeds, -1)


@dataclass(frozen=True)
class Compared:
    """A mixture against another: bits per byte of the objective; negative is better."""

    arm: str
    against: str
    difference: float
    low: float
    high: float
    seeds: tuple[float, ...]
    """The difference of every seed."""
    smallest: float
    """The effect that would have been seen in four of five validations."""

    @property
    def better(self) -> bool:
        """Whether the interval excludes 0, downwards."""
        return self.high < 0


@dataclass(frozen=True)
class Verdict:
    """What to do."""

    word: str
    """`ADOPT`, `KEEP` or `NATURAL`."""
    line: str
    compared: tuple[Compared, ...]
    broken: tuple[str, ...] = ()
    """Targets that lose more than was promised."""


def _drawn(measured: Measured, seed: int) -> np.ndarray:
    """How often each document is drawn, [R, D]."""
    rng = np.random.default_rng([seed, 5])
    times = np.zeros((DRAWS, len(measured.size)))
    for t in range(len(measured.targets)):
        own = np.flatnonzero(measured.target == t)
        times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), DRAWS)
    return times


def compare(measured: Measured, pairs: Sequence[tuple[str, str]], seed: int, decisions: int = 1) -> list[Compared]:
    """Intervals of the differences of some pairs of arms.

    Args:
        decisions: that are taken by them, which share `LEVEL`.
    """
    from scipy.stats import norm, t

    seeds = measured.bits.shape[1]
    share = LEVEL / decisions / 2
    with one_thread():
        whole = measured.by_target()[0] @ measured.importance
        # Of the mean over seeds: each has the same documents.
        mean = replace(measured, bits=measured.bits.mean(axis=1, keepdims=True))
        sampled = (mean.by_target(_drawn(measured, seed)) @ measured.importance)[:, :, 0]
    found = []
    for arm, against in pairs:
        a, b = measured.arms.index(arm), measured.arms.index(against)
        own = whole[a] - whole[b]
        middle = float(own.mean())
        by_seed = float(t.ppf(1 - share, seeds - 1) * own.std(ddof=1) / np.sqrt(seeds))
        below, above = np.quantile(sampled[:, a] - sampled[:, b], [share, 1 - share]) - middle
        low, high = middle - float(np.hypot(by_seed, below)), middle + float(np.hypot(by_seed, above))
        smallest = (high - middle) * (1 + float(norm.ppf(POWER) / norm.ppf(1 - share)))
        found.append(Compared(arm, against, middle, low, high, tuple(own.tolist()), smallest))
    return found


def broken_promises(measured: Measured, arm: str, against: str, never_worse: Mapping[str, float]) -> tuple[str, ...]:
    """The targets that an arm loses more of than was promised, by the means over seeds."""
    means = measured.by_target()[0].mean(axis=1)
    lost = means[measured.arms.index(arm)] - means[measured.arms.index(against)]
    by_name = dict(zip(measured.targets, lost.tolist(), strict=True))
    return tuple(name for name, most in sorted(never_worse.items()) if by_name[name] > most)


def judge(measured: Measured, margin: float, never_worse: Mapping[str, float], seed: int) -> Verdict:
    """The verdict.

    Args:
        margin: bits per byte that the chosen mixture's mean may lie above that of natural weights.
        never_worse: target -> bits per byte that it may lose against natural weights.
    """
    pairs = [(CHOSEN, RECIPE), (NATURAL_ARM, RECIPE), (CHOSEN, NATURAL_ARM)]
    against_recipe, natural, against_natural = compare(measured, pairs, seed, decisions=2)
    broken = broken_promises(measured, CHOSEN, NATURAL_ARM, never_worse)
    compared = (against_recipe, natural, against_natural)
    if against_recipe.better and against_natural.difference <= margin and not broken:
        line = f"adopt: {said(against_recipe)} than the recipe, {said(against_natural)} than natural weights"
        return Verdict(ADOPT, line, compared, broken)
    if natural.better:
        why = (
            f"{', '.join(broken)} lost more than promised" if broken else "the chosen mixture is not shown to be better"
        )
        return Verdict(NATURAL, f"take natural weights: {said(natural)} than the recipe; {why}", compared, broken)
    if broken and against_recipe.better:
        why = f"{', '.join(broken)} lost more than promised, though the objective is {said(against_recipe)}"
    else:
        why = (
            f"no mixture is shown to be better; the chosen one is {said(against_recipe)}, and an effect of "
            f"{against_recipe.smallest:.4f} would have been seen"
        )
    return Verdict(KEEP, f"keep the recipe: {why}", compared, broken)


def said(c: Compared) -> str:
    """A difference in words."""
    how = "lower" if c.difference <= 0 else "higher"
    return f"{abs(c.difference):.4f} bits per byte {how} ({c.low:+.4f} to {c.high:+.4f})"


def as_json(verdict: Verdict, measured: Measured) -> dict[str, Any]:
    """What is kept of a verdict, with the losses behind it."""
    values = measured.by_target()[0]
    return {
        "verdict": verdict.word,
        "line": verdict.line,
        "broken": list(verdict.broken),
        "compared": [vars(c) | {"seeds": list(c.seeds)} for c in verdict.compared],
        "targets": list(measured.targets),
        "importance": measured.importance.tolist(),
        "arms": {arm: values[a].tolist() for a, arm in enumerate(measured.arms)},
    }

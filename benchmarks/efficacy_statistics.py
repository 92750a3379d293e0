"""The tests of docs/efficacy-plan.md, and the tables.

A difference of two arms is taken seed by seed on the same documents. Its interval is a two-way bootstrap: seeds and, within every
(half, domain), documents are drawn with replacement. Of S seeds a bootstrap knows (S - 1)/S of the variance between them, so their
part of each draw is widened by sqrt(S / (S - 1)).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fox1.benchmarks.efficacy_data import ORIGINAL, Place, dropped_of_unfiltered
from fox1.benchmarks.efficacy_training import Results
from fox1.storage.wording import counted
from fox1.tune.measured import Sequences

MACRO, ITEMS = "macro", "items"
HELPS, HURTS, EQUAL, OPEN = "better", "worse", "no difference", "not shown"
LEAST_SEEDS = 2
POWER_80 = 0.8416
"""Of the standard normal distribution, the quantile for a power of 80 %."""


@dataclass(frozen=True)
class Contrast:
    """A question: is an arm better than another?"""

    tier: str
    arm: str
    against: str
    measure: str = MACRO

    @property
    def name(self) -> str:
        return f"{self.tier}: {self.arm} against {self.against}, {self.measure}"


PRIMARY = Contrast("tier1", "curated", "raw")
SECONDARY = (
    Contrast("tier1", "curated", "raw", ITEMS),
    *(Contrast("tier1", arm, "raw") for arm in ("dedupe", "filters")),
    *(Contrast("tier1", "curated", arm) for arm in ("dedupe", "datatrove")),
    *(Contrast("tier2", a, b) for a, b in (("natural", "recipe"), ("tuned", "recipe"), ("tuned", "natural"))),
    *(Contrast("tier3", arm, "shuffled") for arm in ("phased", "constant", "reversed")),
    Contrast("tier3", "constant", "phased"),
)
"""Holm's family."""


@dataclass(frozen=True)
class Compared:
    """A difference in bits per byte; negative: the arm is better."""

    contrast: Contrast
    seeds: tuple[float, ...]
    difference: float
    low: float
    high: float
    """95 % interval."""
    inner: tuple[float, float]
    """90 % interval, for the one-sided test and for equivalence."""
    p: float
    """One-sided (the arm is not better) for the primary contrast, else two-sided."""
    sd: float
    """Of the bootstrap."""

    @property
    def smallest(self) -> float:
        """The effect that a one-sided test at 5 % would have seen with a probability of 80 %."""
        return (1.6449 + POWER_80) * self.sd


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def groups_of(targets: Sequence[str], measure: str) -> np.ndarray:
    """float64 [G, T]: which targets are summed to a figure of which the measure is the mean.

    Halves of a domain are one figure; a benchmark is one.
    """
    names = [t.split("/", 1) for t in targets]
    wanted = [(half, d) for half, d in names if (half == ITEMS) == (measure == ITEMS) and half != ORIGINAL]
    domains = list(dict.fromkeys(d for _, d in wanted))
    return np.array([[float(d == own and (half, d) in wanted) for half, d in names] for own in domains])


def drawn(target: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """How often each document is drawn, float32 [R, D]; as many of each target as there are."""
    rng = np.random.default_rng([seed, 7])
    times = np.zeros((draws, len(target)), np.float32)
    for t in np.unique(target):
        own = np.flatnonzero(target == t)
        times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), draws)
    return times


def figures(
    bits: np.ndarray, size: np.ndarray, target: np.ndarray, groups: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """The measure, float64 [R, S], of trainings with bits [S, D] where documents count so often (`times` [R, D])."""
    found = np.zeros((len(times), len(bits)))
    for group in groups:
        own = group[target] > 0
        found += (times[:, own] @ bits[:, own].T) / (times[:, own] @ size[own].astype(np.float64))[:, None]
    return found / len(groups)


def compare(
    contrast: Contrast, a: np.ndarray, b: np.ndarray, sequences: Sequences, draws: int, one_sided: bool, seed: int = 1
) -> Compared:
    """The difference of two arms, bits [S, D] of the same seeds."""
    groups, size, target = groups_of(sequences.targets, contrast.measure), sequences.size, sequences.target
    own = groups.sum(axis=0)[target] > 0
    a, b, size, target = a[:, own], b[:, own], size[own], target[own]
    once = np.ones((1, len(size)), np.float32)
    each = (figures(a, size, target, groups, once) - figures(b, size, target, groups, once))[0]
    times = drawn(target, draws, seed)
    by_seed = figures(a, size, target, groups, times) - figures(b, size, target, groups, times)
    count = by_seed.shape[1]
    mean = by_seed.mean(axis=1)
    if count > 1:
        picked = np.random.default_rng([seed, 8]).integers(count, size=(draws, count))
        mean = mean + math.sqrt(count / (count - 1)) * (np.take_along_axis(by_seed, picked, 1).mean(axis=1) - mean)
    low, inner_low, inner_high, high = np.quantile(mean, [0.025, 0.05, 0.95, 0.975]).tolist()
    above = (1 + float((mean >= 0).sum())) / (draws + 1)
    p = above if one_sided else min(1.0, 2 * min(above, 1 - above + 1 / (draws + 1)))
    return Compared(
        contrast, tuple(each.tolist()), float(each.mean()), low, high, (inner_low, inner_high), p, float(mean.std())
    )


def holm(values: Sequence[float], level: float) -> list[bool]:
    """Which of some hypotheses are rejected (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    rejected = [False] * len(values)
    for k, i in enumerate(order):
        if values[i] > level / (len(values) - k):
            break
        rejected[i] = True
    return rejected


def word(found: Compared, significant: bool, margin: float) -> str:
    """The conclusion of a contrast by the plan's rule."""
    if len(found.seeds) < LEAST_SEEDS:
        return "too few seeds"
    if significant:
        return HELPS if found.difference < 0 else HURTS
    return EQUAL if -margin < found.inner[0] and found.inner[1] < margin else OPEN


# --- what there is ----------------------------------------------------------------------------------------------------


def final(lines: Sequence[Mapping[str, Any]], tier: str, arm: str, tokens: int) -> dict[int, Mapping[str, Any]]:
    """Seed -> the last line of a training of so many tokens."""
    return {
        v["seed"]: v for v in lines if (v["tier"], v["arm"], v["of_tokens"], v["tokens"]) == (tier, arm, tokens, tokens)
    }


def seed_sd(lines: Sequence[Mapping[str, Any]], arms: Sequence[str], tokens: int) -> float:
    """Standard deviation of the macro bits per byte between seeds, pooled over arms of tier 1; 0 without two seeds."""
    variances = []
    for arm in arms:
        values = [v[MACRO] for v in final(lines, "tier1", arm, tokens).values()]
        if len(values) > 1:
            variances.append(float(np.var(values, ddof=1)))
    return math.sqrt(float(np.mean(variances))) if variances else 0.0


def compared(place: Place, results: Results, sequences: Sequences) -> list[Compared]:
    """All contrasts for which there are trainings with the same seeds and the bits of both; the primary one first."""
    lines, found = results.lines(), []
    with_bits = [v for v in lines if results.has_bits(v)]
    draws = place.plan["tests"]["draws"]
    for contrast in (PRIMARY, *SECONDARY):
        lengths = {v["of_tokens"] for v in lines if v["tier"] == contrast.tier and v["tokens"] == v["of_tokens"]}
        for tokens in sorted(lengths, reverse=True):
            arms = [final(with_bits, contrast.tier, arm, tokens) for arm in (contrast.arm, contrast.against)]
            seeds = sorted(set(arms[0]) & set(arms[1]))
            if seeds:
                bits = [np.stack([np.load(results.bits_file(arm[s]["key"], tokens)) for s in seeds]) for arm in arms]
                found.append(compare(contrast, bits[0], bits[1], sequences, draws, contrast == PRIMARY))
                break
    return found


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(place: Place, results: Results, sequences: Sequences) -> Iterator[str]:
    """The results so far as Markdown; the last line is JSON."""
    lines = results.lines()
    yield from _tier0(lines)
    for tier in ("tier1", "tier2", "tier3"):
        own = [v for v in lines if v["tier"] == tier]
        if own:
            yield from _trainings(tier, own)
    tests = place.plan["tests"]
    found = compared(place, results, sequences)
    sd = seed_sd(lines, place.plan["tier1"]["primary"], place.plan["tier1"]["tokens"])
    yield f"\nseed sd of tier 1's primary arms: {sd:.4f}" if sd else "\nseed sd of tier 1: not yet known"
    networks = [v for v in lines if v["kind"] == "model" and v["tokens"] == v["of_tokens"]]
    if missing := [v["key"] for v in networks if not results.has_bits(v)]:
        yield f"\nnot compared below, since the bits of their documents are missing: {', '.join(missing)}"
    if found:
        yield "\n| contrast | seeds | difference | 95 % interval | p | smallest effect | conclusion |"
        yield "|---|---|---|---|---|---|---|"
    rest = [c for c in found if c.contrast != PRIMARY]
    rejected = dict(zip([c.contrast for c in rest], holm([c.p for c in rest], tests["level"]), strict=True))
    said = {}
    for c in found:
        significant = c.p <= tests["level"] if c.contrast == PRIMARY else rejected[c.contrast]
        said[c.contrast.name] = [round(c.difference, 4), round(c.low, 4), round(c.high, 4)]
        yield (
            f"| {c.contrast.name} | {len(c.seeds)} | {c.difference:+.4f} | {c.low:+.4f} to {c.high:+.4f} | {c.p:.4f} | "
            f"{c.smallest:.4f} | {word(c, significant, tests['equivalence'])} |"
        )
    yield from _explored(lines)
    yield "\nunfiltered half: documents, and those that the filters drop, by the first rule that they fail\n"
    yield "| domain | documents | dropped |\n|---|---|---|"
    for domain, reasons in dropped_of_unfiltered(place).items():
        gone = {r: n for r, n in sorted(reasons.items(), key=lambda item: -item[1]) if r}
        named = ", ".join(f"{r} {n}" for r, n in gone.items())
        yield f"| {domain} | {sum(reasons.values())} | {sum(gone.values())}{f' ({named})' if gone else ''} |"
    yield json.dumps(said)


def _explored(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Curated less raw, where it comes from: by half, domain and benchmark. Of these no conclusion is drawn."""
    rows = []
    for tier, tokens in dict.fromkeys((v["tier"], v["of_tokens"]) for v in lines if v["arm"] == PRIMARY.arm):
        a, b = (final(lines, tier, arm, tokens) for arm in (PRIMARY.arm, PRIMARY.against))
        if seeds := sorted(set(a) & set(b)):
            names = ["unfiltered", "kept", *a[seeds[0]]["by_domain"], *a[seeds[0]]["by_item"]]
            each = [[_figure(a[s], n) - _figure(b[s], n) for s in seeds] for n in names]
            label = f"| {tier}, {tokens / 1e6:g}M, {counted(len(seeds), 'seed')} | "
            rows.append((names, label + " | ".join(f"{np.mean(d):+.3f}" for d in each) + " |"))
    if rows:
        yield "\ncurated less raw by half, domain and benchmark: explored, not tested\n"
        yield f"| | {' | '.join(rows[0][0])} |"
        yield f"|{'---|' * (len(rows[0][0]) + 1)}"
        yield from (row for _, row in rows)


def _figure(line: Mapping[str, Any], name: str) -> float:
    return float(line.get(name, line["by_domain"].get(name, line["by_item"].get(name))))


def _trainings(tier: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    domains, items = list(lines[0]["by_domain"]), list(lines[0]["by_item"])
    names = ["macro", "unfiltered", "kept", "items", "original", *domains, *items]
    yield f"\n{tier}: bits per byte of every (arm, seed) after so many tokens\n"
    yield f"| arm | seed | tokens (M) | {' | '.join(names)} |"
    yield f"|{'---|' * (len(names) + 3)}"
    for v in sorted(lines, key=lambda v: (v["of_tokens"], v["arm"], v["seed"], v["tokens"])):
        values = [v[n] for n in names[:5]] + [v["by_domain"][d] for d in domains] + [v["by_item"][i] for i in items]
        yield f"| {v['arm']} | {v['seed']} | {v['tokens'] / 1e6:.1f} | {' | '.join(f'{x:.3f}' for x in values)} |"


def _tier0(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    own = [v for v in lines if v["tier"] == "tier0"]
    if not own:
        return
    yield "\ntier 0, 4-gram: mean over the draws, with their sd\n"
    yield "| arm | tokens (M) | draws | macro | unfiltered half | kept half | items | original |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm in dict.fromkeys(v["arm"] for v in own):
        for tokens in sorted({v["tokens"] for v in own if v["arm"] == arm}):
            same = [v for v in own if (v["arm"], v["tokens"]) == (arm, tokens)]
            cells = []
            for name in ("macro", "unfiltered", "kept", "items", "original"):
                values = [v[name] for v in same]
                cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1) if len(values) > 1 else math.nan:.4f}")
            yield f"| {arm} | {tokens / 1e6:g} | {len(same)} | {' | '.join(cells)} |"

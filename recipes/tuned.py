"""A recipe with the weights that a tuning found: a file that `extends` the recipe which the run was made with.

A tuning finds what each pool gives over all phases. Where in the curriculum it lies stays as the recipe has it: the tokens of
(phase, pool) are scaled until pools have their new sums and phases their old ones (iterative proportional fitting, Deming and
Stephan 1940), which changes the proportions within a phase as little as possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .. import __version__
from ..pipeline.mix.budget import MixSettings, Weight
from ..pipeline.run.artifacts import content_key
from ..storage.store import shown
from ..tune.stored import StoredTuning
from .load import stored_recipe
from .settings import curate_settings

ROUNDS = 2000
CLOSE = 1e-4
"""Share of all tokens that a pool's sum may be off."""
LEAST = 1e-4
"""Per cent of a phase; a pool with less is left out of it."""


def tuned_recipe(tuning: StoredTuning, stored: Path, force: bool = False, trust: bool = False) -> str:
    """The recipe as YAML, with the evidence as a comment.

    Args:
        stored: the recipe of the run that was tuned, which the new one extends.
        force: the weights that were found, whatever the verdict.

    Raises:
        ValueError: there is no validated win, or the phases cannot be filled with these weights.
    """
    shares = tuning.validated(force)
    recipe, _ = stored_recipe(stored, trust)
    available = {pool["name"]: pool["tokens"] for pool in tuning.tune["pools"]}
    phases = tuned_phases(curate_settings(recipe).mix, shares, available)
    line = tuning.verdict["line"] if tuning.verdict else "not validated"
    head = [
        f"# Weights by `fox1 tune` {__version__}: {line}.",
        f"# Taken with --force, whatever that says: {force}. Evidence: {shown(tuning.folder)}, {content_key(tuning.as_json())}.",
    ]
    value = {"extends": str(stored), "name": f"{recipe.name}-tuned", "phases": phases}
    return "\n".join(head) + "\n" + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def placed(phases: np.ndarray, pools: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Tokens of every (phase, pool) [P, K] with the sums of phases [P] and pools [K], in the proportions of `before` [P, K]
    otherwise; both sums are the same.

    Raises:
        ValueError: no table that is zero where `before` is has these sums.
    """
    table = before.astype(np.float64)
    for _ in range(ROUNDS):
        table *= (pools / np.maximum(table.sum(axis=0), 1e-300))[None]
        table *= (phases / np.maximum(table.sum(axis=1), 1e-300))[:, None]
        if np.abs(table.sum(axis=0) - pools).max() <= CLOSE * pools.sum():
            return table
    raise ValueError("the phases that have a pool cannot hold as much of it as the tuning found")


def tuned_phases(mix: MixSettings, shares: Mapping[str, float], available: Mapping[str, int]) -> dict[str, Any]:
    """`phases` of a recipe with new weights.

    Args:
        shares: pool -> its share of all trained tokens.
        available: pool -> tokens that there are of it.

    Raises:
        ValueError: the phases cannot be filled so.
    """
    names = list(shares)
    tokens = np.array([p.tokens for p in mix.phases], np.float64)
    before = np.zeros((len(tokens), len(names)))
    for p, phase in enumerate(mix.phases):
        for weight in phase.weights:
            if weight.name in shares:
                before[p, names.index(weight.name)] += weight.weight
        before[p] *= tokens[p] / max(before[p].sum(), 1e-300)
    wanted = tokens.sum() * np.array(list(shares.values()))
    try:
        table = placed(tokens, wanted, before)
    except ValueError:
        held = {n: [p.name for p, row in zip(mix.phases, before, strict=True) if row[k]] for k, n in enumerate(names)}
        few = min(names, key=lambda n: len(held[n]))
        raise ValueError(
            f"the phases cannot hold the weights that were found: {few} is a pool of {', '.join(held[few])} alone; give it a "
            "small weight in the other phases of the recipe, and apply again"
        ) from None
    claiming = [mix.phases[i].name for i in mix.claiming]
    used = table.sum(axis=0)
    found = {}
    for p, phase in enumerate(mix.phases):
        weights = []
        for weight in phase.weights:
            if weight.name not in shares:
                weights.append(_entry(weight, weight.weight))
                continue
            k = names.index(weight.name)
            part = round(100 * float(table[p, k]) / float(tokens[p]), 4)
            if part >= LEAST:
                scarce = used[k] > 0.9 * available[weight.name]
                earlier = [n for n in claiming[: claiming.index(phase.name)] if scarce]
                epochs = max(weight.max_epochs, _rounded_up(1.1 * float(table[p, k]) / max(available[weight.name], 1)))
                weights.append(
                    _entry(weight, part, epochs, [*weight.reuse, *(n for n in earlier if n not in weight.reuse)])
                )
        found[phase.name] = {"weights": weights}
    return found


def _rounded_up(epochs: float) -> float:
    return max(1.0, math.ceil(10 * epochs) / 10)


def _entry(weight: Weight, share: float, epochs: float = 0.0, reuse: Sequence[str] = ()) -> dict[str, Any]:
    """A weight as a recipe writes it, with what is not the default."""
    entry: dict[str, Any] = {
        name: getattr(weight, name) for name in ("domain", "corpus", "subset") if getattr(weight, name)
    }
    entry["weight"] = share
    for name in ("if_present", "top", "min_quality", "by", "temperature"):
        if (value := getattr(weight, name)) != getattr(Weight(1), name):
            entry[name] = value
    if (most := epochs or weight.max_epochs) != 1:
        entry["max_epochs"] = most
    if again := list(reuse or weight.reuse):
        entry["reuse"] = again
    return entry

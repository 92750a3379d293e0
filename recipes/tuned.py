"""A recipe with the weights that a tuning found: a file that `extends` the recipe which the run was made with.

Where a placement was validated, phases have the mixture as it says. Otherwise a tuning says what each pool gives over all phases,
and where in the curriculum it lies stays as the recipe has it: the tokens of (phase, pool) are scaled until pools have their new
sums and phases their old ones, which changes the proportions within a phase as little as possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..pipeline.mix.budget import MixSettings, Weight
from ..pipeline.run.artifacts import content_key
from ..storage.store import shown
from ..tune.stored import Advised, PhasesTooSmall, StoredTuning, TunedPool
from ..tune.tiers import whole
from .load import stored_recipe
from .settings import curate_settings

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
    recipe, _ = stored_recipe(stored, trust)
    try:
        advised = tuning.validated(force)
    except PhasesTooSmall as error:
        raise ValueError(
            f"{error}: {error.pool} is a pool of {', '.join(error.phases)} alone; give it a small weight in the other phases of "
            "the recipe, and apply again"
        ) from None
    phases = tuned_phases(curate_settings(recipe).mix, advised)
    lines = [part["line"] for part in (tuning.verdict, tuning.placement) if part]
    line = "; ".join(lines) or "not validated"
    head = [
        f"# Weights by `fox1 tune` {__version__}: {line}.",
        f"# Taken with --force, whatever that says: {force}. Evidence: {shown(tuning.folder)}, {content_key(tuning.as_json())}.",
    ]
    value = {"extends": str(stored), "name": f"{recipe.name}-tuned", "phases": phases}
    return "\n".join(head) + "\n" + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def tuned_phases(mix: MixSettings, advised: Advised) -> dict[str, Any]:
    """`phases` of a recipe with new weights. A phase's weight of a pool that was tuned gives way to one for each of its tiers; what
    it says besides, they have from it.
    """
    claiming = [mix.phases[i].name for i in mix.claiming]
    used = advised.table.sum(axis=0) * sum(p.tokens for p in mix.phases)
    found = {}
    for phase, row in zip(mix.phases, advised.table, strict=True):
        earlier = claiming[: claiming.index(phase.name)]
        shares = {
            pool.name: _Share(pool, share, float(row[k]) * phase.tokens / float(row.sum()), float(used[k]))
            for k, pool in enumerate(advised.pools)
            if (share := round(100 * float(row[k] / row.sum()), 4)) >= LEAST
        }
        own = {pool.name: whole(pool.weight).name for pool in advised.pools}
        weights = []
        for weight in phase.weights:
            of = whole(weight).name
            if weight.within or of not in own.values():
                weights.append(_entry(weight, weight.weight))
            # The second of two weights of a pool finds nothing left.
            for name in [n for n in shares if own[n] == of]:
                weights.append(shares.pop(name).entry(weight, earlier))
        weights += [share.entry(whole(share.pool.weight), earlier) for share in shares.values()]
        found[phase.name] = {"weights": weights}
    return found


@dataclass(frozen=True)
class _Share:
    """What a phase has of a pool."""

    pool: TunedPool
    share: float
    """Per cent of the phase."""
    tokens: float
    used: float
    """Tokens that all phases have of it."""

    def entry(self, before: Weight, earlier: Sequence[str]) -> dict[str, Any]:
        """As a recipe writes it.

        Args:
            before: the recipe's weight.
            earlier: phases that claim before this one: a pool that is nearly used up may take again what they took.
        """
        there = max(self.pool.tokens, 1)
        again = [n for n in earlier if self.used > 0.9 * there and n not in before.reuse]
        epochs = max(before.max_epochs, _rounded_up(1.1 * self.tokens / there))
        selection = self.pool.weight
        # A pool that was not divided keeps the quality that the recipe asks of it here.
        tier = selection if selection.top < 1 or selection.below else before
        weight = replace(before, top=tier.top, below=tier.below)
        return _entry(weight, self.share, epochs, [*before.reuse, *again])


def _rounded_up(epochs: float) -> float:
    return max(1.0, math.ceil(10 * epochs) / 10)


def _entry(weight: Weight, share: float, epochs: float = 0.0, reuse: Sequence[str] = ()) -> dict[str, Any]:
    """A weight as a recipe writes it, with what is not the default."""
    entry: dict[str, Any] = {
        name: getattr(weight, name) for name in ("domain", "corpus", "subset") if getattr(weight, name)
    }
    entry["weight"] = share
    for name in ("if_present", "top", "below", "min_quality", "by", "temperature"):
        if (value := getattr(weight, name)) != getattr(Weight(1), name):
            entry[name] = value
    if (most := epochs or weight.max_epochs) != 1:
        entry["max_epochs"] = most
    if again := list(reuse or weight.reuse):
        entry["reuse"] = again
    return entry

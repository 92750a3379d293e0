"""A recipe resolved for a run: read once, and handed on as what the stages and the trainer take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..pipeline.curate import CurateSettings
from .load import load_recipe, parse
from .schema import Recipe
from .settings import curate_settings, training_json
from .travel import absolute, move_data


@dataclass(frozen=True)
class ResolvedRecipe:
    """One reading of a recipe."""

    recipe: Recipe
    mapping: dict[str, Any]
    """Without `extends`, variables and relative paths: what a run stores as its `recipe.yaml`."""
    settings: CurateSettings
    training: dict[str, Any]
    """What a run stores as its `training.json`."""
    name: str = ""
    """As it was asked for."""
    overrides: tuple[str, ...] = ()


def resolve(
    name: str | Path, overrides: Sequence[str] = (), limit: float = 1.0, moves: Sequence[str] = ()
) -> ResolvedRecipe:
    """Read a recipe by its path or name.

    Args:
        overrides: `key=value`, as `--set` takes them.
        limit: share of whole source files to use, by seed.
        moves: places of data that moved, as `--data` takes them.

    Raises:
        RecipeError: naming the key and what to do.
    """
    _, mapping = load_recipe(str(name), overrides)
    move_data(mapping, moves)
    mapping = absolute(mapping)
    recipe = parse(mapping, str(name))
    settings, training = curate_settings(recipe, limit), training_json(recipe)
    return ResolvedRecipe(recipe, mapping, settings, training, str(name), tuple(overrides))

"""Recipes and tokenizers: validate, print, train, look at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, RunFolder


def recipe_check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")],
    overrides: Overrides = None,
) -> None:
    """Validate a recipe, list its sources and refuse budgets that their bytes can never meet."""
    from ..recipes.check import check_recipe
    from ..recipes.load import RecipeError, load_recipe

    try:
        parsed, _ = load_recipe(recipe, overrides or [])
    except RecipeError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(1) from None
    for line in check_recipe(parsed):
        print(line)


def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from ..recipes.schema import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=1))


def tokenizer_inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A .model file, a URL (hf://...), or a run.")],
    longest: Annotated[int, typer.Option(help="How many of the longest pieces to show.")] = 10,
) -> None:
    """Show a model's special ids and kinds of pieces; of a run's, how it does on the run's text."""
    from ..pipeline.inspect.run import stored_run
    from ..pipeline.run.artifacts import RunPaths
    from ..pipeline.stats.tokenizer_figures import subset_tokens
    from ..tokenize.model import load, pieces
    from .show.stats import print_tokenizer

    run = stored_run(model)
    if run is None and "://" not in model and not Path(model).exists():
        raise ValueError(f"no model or run at {model}")
    processor = load(RunPaths(run).tokenizer if run else model)
    print_tokenizer(pieces(processor, longest), subset_tokens(RunPaths(run)) if run else [])


def tokenizer_train(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The .model file to write.")],
    vocab_size: Annotated[str, typer.Option(help="Pieces, e.g. 16000 or 256K.")] = "",
    sample_bytes: Annotated[str, typer.Option(help="Text to train on, e.g. 1Gi.")] = "",
) -> None:
    """Train a BPE model of Gemma's kind on the documents a run kept."""
    from dataclasses import replace

    from ..pipeline.curate import planned_groups
    from ..pipeline.run.artifacts import RunPaths, publish
    from ..pipeline.stats.tokenizer_figures import train_on_survivors
    from ..recipes.load import stored_recipe
    from ..recipes.settings import curate_settings
    from ..recipes.units import quantity

    paths = RunPaths(run)
    settings = curate_settings(stored_recipe(paths.recipe)[0])
    wanted = settings.tokenizer
    if vocab_size:
        wanted = replace(wanted, vocab_size=quantity(vocab_size))
    if sample_bytes:
        wanted = replace(wanted, sample_bytes=quantity(sample_bytes))
    model = train_on_survivors(planned_groups(settings, paths), paths, wanted, settings.seed)
    with publish(out) as file:
        file.write(model)
    print(f"{out}: {wanted.vocab_size:,} pieces; `fox1 tokenizer inspect {out}` shows them")

"""Commands about recipes and tokenizers: check, show, schema; train, inspect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..storage.wording import say
from .options import HoldsPlace, Moves, Overrides, PrivateHosts, RecipeName, RunFolder, Trust, say_which


def recipe_check(
    recipe: RecipeName,
    overrides: Overrides = None,
    private_hosts: PrivateHosts = False,
    offline: Annotated[bool, typer.Option("--offline", help="Leave out what lies on the network.")] = False,
) -> None:
    """Validate a recipe, and open all that it names.

    This is a row of every source, and every list, benchmark, plug-in and tokenizer model. Token budgets that the bytes of
    the sources can never meet are refused. The last lines say what was not checked.
    """
    from ..recipes.check import check_recipe
    from ..recipes.load import RecipeError, load_recipe

    say_which(recipe)
    try:
        parsed, _ = load_recipe(recipe, overrides or [])
    except RecipeError as error:
        for problem in error.problems:
            say(f"error: {problem}", sys.stderr)
        raise typer.Exit(1) from None

    def complain(problem: str) -> None:
        say(f"error: {problem}", sys.stderr)

    if not check_recipe(parsed, say, complain, offline, private_hosts):
        raise typer.Exit(1)


def recipe_show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Print a recipe as a run would store it, and where each threshold comes from.

    It has no `extends`, variables or relative paths. What follows it, in comments, are the thresholds that count for the
    documents of each section, and what they override of wider ones.
    """
    import yaml

    from ..recipes.resolve import resolve
    from ..recipes.thresholds import listing

    say_which(recipe)
    found = resolve(recipe, overrides or [])
    for line in yaml.safe_dump(found.mapping, sort_keys=False, allow_unicode=True, width=120).splitlines():
        say(line)
    say("")
    say("# Thresholds that count, by section of the documents:")
    for line in listing(found.recipe):
        say(f"#   {line}")


def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from ..recipes.schema import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=1))


def tokenizer_inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A .model file, a URL such as hf://..., or a run."), HoldsPlace()
    ],
    longest: Annotated[int, typer.Option(metavar="N", help="Number of the longest pieces to show.")] = 10,
) -> None:
    """Show the special ids and the kinds of pieces of a tokenizer.

    For a run, also show tokens and bytes per token of its text.
    """
    from ..pipeline.inspect.run import stored_run
    from ..pipeline.run.paths import RunPaths
    from ..pipeline.stats.tokenizer_figures import subset_tokens
    from ..tokenize.model import count_pieces, load
    from .show.stats import print_tokenizer

    run = stored_run(model)
    if run is None and "://" not in model and not Path(model).exists():
        raise ValueError(f"there is no model and no run at {model}")
    processor = load(RunPaths(run).tokenizer if run else model)
    print_tokenizer(count_pieces(processor, longest), subset_tokens(RunPaths(run)) if run else [])


def tokenizer_train(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The .model file to write.")],
    vocab_size: Annotated[
        str, typer.Option(metavar="N", help="Number of pieces, e.g. 16000 or 256K (default: as the run's recipe says).")
    ] = "",
    sample_bytes: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Amount of text to train on, e.g. 1Gi (default: as the run's recipe says)."),
    ] = "",
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Train a SentencePiece model on the documents that a run kept.

    It is a BPE model like Gemma's.
    """
    from dataclasses import replace

    from ..pipeline.curate import planned_groups
    from ..pipeline.run.artifacts import publish
    from ..pipeline.run.paths import RunPaths
    from ..pipeline.stats.tokenizer_figures import train_on_survivors
    from ..recipes.load import stored_settings
    from ..recipes.units import quantity

    paths = RunPaths(run)
    settings = stored_settings(paths.recipe, trust, data or [])
    wanted = settings.tokenizer
    if vocab_size:
        wanted = replace(wanted, vocab_size=quantity(vocab_size))
    if sample_bytes:
        wanted = replace(wanted, sample_bytes=quantity(sample_bytes))
    model = train_on_survivors(planned_groups(settings, paths), paths, wanted, settings.seed)
    with publish(out) as file:
        file.write(model)
    say(f"{out}: {wanted.vocab_size:,} pieces; `fox1 tokenizer inspect {out}` shows them")

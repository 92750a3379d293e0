"""Commands that search for the weights of a recipe's pools: `fox1 tune RUN`, `fox1 tune show`, `fox1 tune apply`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..storage.store import open_root, shown
from ..storage.wording import say
from .options import (
    AsJson,
    LocalRay,
    Moves,
    OneProcess,
    RayAddress,
    RunFolder,
    Trust,
    Workers,
    resumable,
    warn_unfinished,
)

DEFAULT = "search"
NGRAM_ADVICE = (
    "n-gram models tell good mixtures apart less well than networks do (docs/tune.md): confirm the weights by a tuning with "
    "tune.proxy.kind=model before you train on them"
)
NGRAM_PROMISES = (
    "warning: n-gram models judge `tune.objective.never_worse`, and they rank single domains less as networks do than the mean of "
    "all; a tuning with tune.proxy.kind=model confirms it (docs/tune.md)"
)


class RunByDefault(TyperGroup):
    """`fox1 tune RUN` is `fox1 tune search RUN`. A run in a folder called `show` is ./show."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands:
            args = [DEFAULT, *args]
        return super().resolve_command(ctx, args)


TuneFolder = Annotated[
    Path, typer.Argument(metavar="TUNE", parser=open_root, help="Folder or URL that `fox1 tune RUN --out` wrote.")
]


def run(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="TUNE", parser=open_root, help="Folder or URL of the tuning; an unfinished one is resumed."
        ),
    ],
    plan: Annotated[
        bool, typer.Option("--plan", help="Print how many trainings and core-hours it takes, and run nothing.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of `tune`, e.g. tune.proxies=128; repeatable."),
    ] = None,
    address: RayAddress = None,
    workers: Workers = None,
    in_process: OneProcess = False,
    ray: LocalRay = False,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Search for the weights of a run's pools that give the lowest held-out loss.

    It trains small models on mixtures of the pools, fits their losses, and compares the mixture it finds with the recipe's by
    longer trainings. The same command resumes an interrupted tuning.
    """
    from ..pipeline.engine.fork_server import Server, runs_here

    server = Server() if runs_here(address, in_process, ray) and not plan else None
    try:
        from ..api import session
        from ..pipeline.engine.engine import Engine
        from ..pipeline.run.artifacts import publish
        from ..recipes.load import stored_tuning_recipe
        from ..recipes.settings import curate_settings
        from ..storage import lease
        from ..tune import tune as tuning
        from ..tune.pools import TunePaths, open_source_run
        from ..tune.verdict import KEEP
        from .show.bars import StageBars
        from .show.tune import print_plan

        warn_unfinished(run)
        recipe, text = stored_tuning_recipe(run / "recipe.yaml", overrides or [], trust, data or [])
        source, settings = open_source_run(run), curate_settings(recipe)
        if recipe.tune.proxy.kind == "ngram" and recipe.tune.objective.never_worse:
            say(NGRAM_PROMISES, sys.stderr)
        if plan:
            length = recipe.tune.proxy.block_length or min(n for p in settings.mix.phases for n in p.block_lengths)
            print_plan(tuning.plan(recipe.tune, source.vocabulary.size, length, len(source.phases)))
            return
        asked = tuning.Asked(recipe.tune, settings.mix, settings.contamination.benchmarks)
        with (
            resumable(),
            lease.reading(run),
            session(address, workers, in_process, ray, server) as executor,
            StageBars() as bars,
        ):
            lease.claim(out, lease.TUNING)
            with publish(out / "recipe.yaml") as file:
                file.write(text.encode())
            judged = tuning.tune(source, asked, Engine(TunePaths(out), executor, bars))
        say(judged.line)
        if judged.order:
            say(judged.order.line)
        if recipe.tune.proxy.kind == "ngram" and judged.word != KEEP:
            say(NGRAM_ADVICE, sys.stderr)
        say(f"`fox1 tune show {shown(out)}` has the evidence", sys.stderr)
    finally:
        if server:
            server.close()


def show(
    tune: TuneFolder,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with figures, one HTML file, in place of the tables."),
    ] = None,
) -> None:
    """Show the weights that a tuning found, how well its fit predicts, and its verdict."""
    if html:
        from .page.tuning import write_page

        write_page(tune, html)
        say(f"wrote {html}")
        return
    from ..tune.stored import open_tuning

    found = open_tuning(tune)
    if as_json:
        import json

        print(json.dumps(found.as_json(), indent=1))
    else:
        from .show.tune import print_tuning

        print_tuning(found)


def apply(
    tune: TuneFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The recipe to write, e.g. ours.yaml.")],
    force: Annotated[
        bool, typer.Option("--force", help="Write the weights that were found, whatever the verdict says.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Write a recipe with the weights that a tuning found; it extends the recipe of the run.

    Nothing is written unless the validation has shown that they are better.
    """
    from ..recipes.tuned import tuned_recipe
    from ..tune.stored import open_tuning

    text = tuned_recipe(open_tuning(tune), tune / "recipe.yaml", force, trust)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    say(f"{out}: run `fox1 recipe check {out}`, then `fox1 curate {out} --from RUN --out NEW`")

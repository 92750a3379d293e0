"""The command line: which commands there are. What each does is in commands/; heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..storage.store import shown
from . import cluster, curation, doctor, inspection, recipes, training, tune
from .interrupt import report
from .options import looking


class _Commands(TyperGroup):
    """The commands; one that is interrupted and does not say so itself is reported here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            report("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="fox1",
    cls=_Commands,
    help="Curate five public corpora into three curriculum shard sets, and train Fox-1 on them, phase by phase.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "sample": curation.sample,
    "curate": curation.curate,
    "stats": looking(inspection.stats),
    "report": looking(inspection.report),
    "inspect": looking(inspection.inspect),
    "diff": looking(inspection.diff),
    "filter": looking(inspection.filter_command),
    "why": looking(inspection.why),
    "trace": looking(inspection.trace),
    "find": looking(inspection.find, failure=2),
    "dump": looking(curation.dump),
    "plan": looking(curation.plan),
    "verify": looking(curation.verify, failure=2),
    "gc": looking(curation.gc),
    "train": training.train,
    "curves": training.curves,
    "export": training.export_command,
    "import": training.import_command,
    "generate": training.generate_command,
    "eval": training.eval_command,
    "doctor": doctor.doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
# What follows `--` is a command of its own.
app.command("submit", context_settings={"ignore_unknown_options": True})(cluster.submit)

jobs = typer.Typer(help="List the jobs of a cluster, print their logs, stop them.")
jobs.callback(invoke_without_command=True)(cluster.jobs)
jobs.command("logs")(cluster.jobs_logs)
jobs.command("stop")(cluster.jobs_stop)
recipe = typer.Typer(help="Validate and show recipes; print their JSON Schema.", no_args_is_help=True)
recipe.command("check")(recipes.recipe_check)
recipe.command("show")(recipes.recipe_show)
recipe.command("schema")(recipes.recipe_schema)
tokenizer = typer.Typer(help="Train and inspect SentencePiece models.", no_args_is_help=True)
tokenizer.command("train")(recipes.tokenizer_train)
tokenizer.command("inspect")(looking(recipes.tokenizer_inspect))
tuning = typer.Typer(cls=tune.RunByDefault, help="Search for the weights of a run's pools.", no_args_is_help=True)
tuning.command(tune.DEFAULT)(tune.run)
tuning.command("show")(looking(tune.show))
tuning.command("apply")(looking(tune.apply))
for name, group in {"jobs": jobs, "recipe": recipe, "tokenizer": tokenizer, "tune": tuning}.items():
    app.add_typer(group, name=name)


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command: one line per error, a traceback only with --debug. `__main__` ends it at a signal."""
    debug = "--debug" in sys.argv
    try:
        app(prog_name="fox1")
    except (ValueError, OSError) as error:
        if debug:
            raise
        from ..storage.wording import one_line, say

        # A message may hold names of files and words of documents, and those of libraries have several lines.
        message = shown(one_line(str(error)) or type(error).__name__)
        for line in (*getattr(error, "details", ()), f"error: {message}"):
            say(line, sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))

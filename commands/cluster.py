"""Commands about jobs of a Ray cluster: submit, jobs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..cluster.client import DEFAULT_ADDRESS
from .options import Dashboard


def submit(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="e.g. curate fox1 --out /data/run")],
    address: Dashboard = DEFAULT_ADDRESS,
    name: Annotated[
        str | None, typer.Option(help="Name of the job; given again it follows that job, or goes on after its end.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Print the job's log until it ends.")] = True,
) -> None:
    """Run a fox1 command as a Ray job: follows its log; the exit status is the job's."""
    from ..cluster.submit import submit as submit_job

    recipe_yaml = None
    if command and command[0] == "curate":
        recipe_yaml, command = _resolved_for_job(command)
    raise typer.Exit(
        submit_job(command, address=address, name=name, recipe_yaml=recipe_yaml, follow=follow, out=sys.stdout)
    )


def _resolved_for_job(command: list[str]) -> tuple[bytes, list[str]]:
    """The recipe of a `curate` command as one YAML, and the command without its `--set`s: the client resolves them."""
    import yaml

    from ..recipes.load import load_recipe, require_absolute

    kept, overrides = [], []
    words = iter(command)
    for word in words:
        if word == "--set":
            overrides.append(next(words, ""))
        elif word.startswith("--set="):
            overrides.append(word.removeprefix("--set="))
        else:
            kept.append(word)
    if len(kept) < 2 or kept[1].startswith("-"):
        raise ValueError("write the recipe right after `curate`: fox1 submit -- curate RECIPE --out RUN")
    _, resolved = load_recipe(kept[1], overrides)
    require_absolute(resolved)
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode(), kept


def jobs(context: typer.Context, address: Dashboard = DEFAULT_ADDRESS) -> None:
    """List the jobs of a cluster, show their logs, end them."""
    if context.invoked_subcommand is None:
        from ..cluster.jobs import list_jobs
        from .show.runs import print_jobs

        print_jobs(list_jobs(address))


def jobs_logs(
    job: Annotated[str, typer.Argument(metavar="JOB")],
    follow: Annotated[bool, typer.Option(help="Until it ends; then its exit status is this command's.")] = True,
    address: Dashboard = DEFAULT_ADDRESS,
) -> None:
    """Print a job's log."""
    from ..cluster.jobs import job_log

    raise typer.Exit(job_log(job, address, follow, sys.stdout))


def jobs_stop(job: Annotated[str, typer.Argument(metavar="JOB")], address: Dashboard = DEFAULT_ADDRESS) -> None:
    """End a job. What it finished is kept: submitted again, the same command goes on."""
    from ..cluster.jobs import stop_job

    print(f"job {job}: {stop_job(job, address)}")

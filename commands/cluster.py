"""Commands about jobs of a Ray cluster: submit, jobs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..cluster.client import DEFAULT_ADDRESS
from ..storage.wording import say
from .options import Dashboard

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, as `fox1 jobs` lists it.")]


def submit(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="Any fox1 command, e.g. curate fox1 --out /data/run.")
    ],
    address: Dashboard = DEFAULT_ADDRESS,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the job; reuse it to follow the job while it runs, or to resume after it ended.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Print the job's log until it ends, and exit with its status.")] = True,
) -> None:
    """Run a fox1 command as a job of a Ray cluster."""
    from ..cluster.submit import submit as submit_job
    from .remote import submission

    sent = submission(context.find_root().command, command)
    raise typer.Exit(submit_job(sent, address=address, name=name, follow=follow, out=sys.stdout))


def jobs(context: typer.Context, address: Dashboard = DEFAULT_ADDRESS) -> None:
    """List the jobs of a cluster, print their logs, stop them."""
    if context.invoked_subcommand is None:
        from ..cluster.jobs import list_jobs
        from .show.runs import print_jobs

        print_jobs(list_jobs(address))


def jobs_logs(
    job: JobId,
    follow: Annotated[bool, typer.Option(help="Follow until the job ends and exit with its status.")] = True,
    address: Dashboard = DEFAULT_ADDRESS,
) -> None:
    """Print a job's log."""
    from ..cluster.jobs import job_log

    raise typer.Exit(job_log(job, address, follow, sys.stdout))


def jobs_stop(job: JobId, address: Dashboard = DEFAULT_ADDRESS) -> None:
    """Stop a job.

    What it finished is kept: submit the same command again to resume.
    """
    from ..cluster.jobs import stop_job

    say(f"job {job}: {stop_job(job, address)}")

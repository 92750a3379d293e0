"""`fox1 jobs`: list the jobs of a cluster, show the log of one, stop one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TextIO

from .client import connect, one_line_errors
from .entry import SubmitError
from .submit import ENTRY, STOP_WAIT_SECONDS, follow_job

STOP_SECONDS = STOP_WAIT_SECONDS + 30
"""How long `fox1 jobs stop` waits for a job's end."""


@dataclass(frozen=True)
class Job:
    """A job as it is listed."""

    id: str
    status: str
    command: str
    started: float
    """Seconds since the epoch; 0: not yet."""
    seconds: float


def list_jobs(address: str) -> list[Job]:
    """All jobs that a cluster knows, the newest first.

    Raises:
        SubmitError: no cluster answers, or it refuses the request.
    """
    client = connect(address)
    with one_line_errors(address):
        found = [j for j in client.list_jobs() if j.submission_id]
    jobs = []
    for j in found:
        began = (j.start_time or 0) / 1000
        ended = (j.end_time or time.time() * 1000) / 1000
        command = str(j.entrypoint).removeprefix(ENTRY)
        jobs.append(
            Job(j.submission_id, str(j.status.value), command, began, max(0.0, ended - began) if began else 0.0)
        )
    return sorted(jobs, key=lambda j: -j.started)


def _known(client: Any, job: str, address: str) -> Any:
    """What Ray knows of a job.

    Raises:
        SubmitError: there is no job of that id.
    """
    with one_line_errors(address):
        ids = {j.submission_id for j in client.list_jobs()}
    if job not in ids:
        raise SubmitError(f"the cluster at {address} has no job {job}; `fox1 jobs` lists them")
    with one_line_errors(address):
        return client.get_job_info(job)


def job_log(job: str, address: str, follow: bool, out: TextIO) -> int:
    """Write a job's log, with `follow` until the job ends; returns the job's exit status, without `follow` 0.

    Raises:
        SubmitError: there is no such job.
    """
    client = connect(address)
    _known(client, job, address)
    if follow:
        return follow_job(client, job, address, out)
    with one_line_errors(address):
        out.write(client.get_job_logs(job))
    return 0


def stop_job(job: str, address: str) -> str:
    """Stop a job and wait for its end; returns its status. What it finished is kept: the same command resumes it.

    Raises:
        SubmitError: there is no such job, or it does not end.
    """
    client = connect(address)
    status = _known(client, job, address).status
    deadline = time.monotonic() + STOP_SECONDS
    with one_line_errors(address):
        if not status.is_terminal():
            client.stop_job(job)
        while not status.is_terminal() and time.monotonic() < deadline:
            time.sleep(0.5)
            status = client.get_job_status(job)
    if status.is_terminal():
        return str(status.value)
    raise SubmitError(
        f"job {job} is still running {STOP_SECONDS} seconds after it was asked to stop; run the command again"
    )

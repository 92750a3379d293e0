"""`fox1 submit`: any fox1 command as a Ray job on a cluster.

Two folders travel with a job, both through its runtime environment:

    py_modules    fox1/           the package's own files, so that the cluster runs this code and no other
    working_dir   versions.json   the client's versions (see `check_versions`)
                  recipe.yaml     the recipe as the client resolved it, if the command takes one
                  files/...       small files that the recipe names

Dependencies do not travel: they come from the cluster's image. The job's entry point is
`"$FOX1_PYTHON" -m fox1.cluster.entry -- COMMAND`, which compares versions and then becomes `python -m fox1 COMMAND`, in
the working directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

from .client import DEFAULT_ADDRESS, connect, last_line, one_line_errors
from .entry import PYTHON, VERSIONS_FILE, SubmitError, installed_versions
from .package import stage_package

#: Exit status for a job that was stopped, or that the user stopped following: that of a program ended by Ctrl-C.
INTERRUPTED = 130

#: How long nothing may be heard of a job before its connection counts as lost. A cluster under load takes its time to start
#: what sends the log of a job, and a job may wait for hours for a node, of which it tells.
PATIENCE_SECONDS = 60.0

#: How long to wait before asking again.
POLL_SECONDS = 1.0

Answer = TypeVar("Answer")

#: How the entry point of every job begins.
ENTRY = f'"${PYTHON}" -m fox1.cluster.entry -- '

#: Called by Ray when it starts a process for a job; see `entry.export_python`.
SETUP_HOOK = "fox1.cluster.entry.export_python"

#: How long a job that was asked to stop may take before Ray kills it: a training saves a checkpoint. Ray grants 3 seconds.
STOP_WAIT_SECONDS = 120

#: Read by Ray in the process that runs a job's entry point, whose environment is the job's.
STOP_WAIT_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"


@dataclass(frozen=True)
class Submission:
    """A command as the cluster is to run it."""

    command: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What else the job's working directory holds, by relative path."""

    @property
    def entry(self) -> str:
        """The shell command that starts the job."""
        return ENTRY + shlex.join(self.command)

    @property
    def metadata(self) -> dict[str, str]:
        """What tells jobs of one command apart by the recipe they run, which has the same name in all of them."""
        contents = [f"{name} {hashlib.sha256(self.files[name]).hexdigest()}" for name in sorted(self.files)]
        return {"fox1_files": hashlib.sha256("\n".join(contents).encode()).hexdigest()}


def stage_job(destination: Path, files: Mapping[str, bytes]) -> None:
    """Writes the working directory of a job."""
    for name, content in {VERSIONS_FILE: json.dumps(installed_versions(), indent=1).encode(), **files}.items():
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        (destination / name).write_bytes(content)


def submit(submission: Submission, *, address: str, name: str | None = None, follow: bool = True, out: TextIO) -> int:
    """Runs a command as a job of the cluster at `address`; writes its log to `out`; returns its exit status.

    Without `follow` the status is 0 as soon as the job is accepted. Ctrl-C stops following, not the job. `name` is the
    job's id. While a job of that name runs, it is followed instead; after it has ended, the next one is called NAME-2,
    NAME-3 and so on, so that the same command given again resumes the work. Raises `SubmitError`.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SubmitError(f"{name!r} cannot name a job: use letters, digits, '.', '_' and '-'")
    client = connect(address)
    running = None
    if name is not None:
        name, running = _next_of_name(client, name, address)
    if running:
        _must_run(client, running, submission, address)
        print(f"job {running} is running at {address}", file=out, flush=True)
        job = running
    else:
        job = _send(client, submission, address, name)
        print(f"job {job} submitted to {address}", file=out, flush=True)
    return follow_job(client, job, address, out) if follow else 0


def _next_of_name(client: Any, name: str, address: str) -> tuple[str, str | None]:
    """(id for a new job of that name, id of the one that runs)."""
    tries = {}
    with one_line_errors(address):
        for job in client.list_jobs():
            if found := re.fullmatch(re.escape(name) + r"(?:-(\d+))?", job.submission_id or ""):
                tries[int(found[1] or 1)] = job
    if not tries:
        return name, None
    last = max(tries)
    running = None if tries[last].status.is_terminal() else str(tries[last].submission_id)
    return f"{name}-{last + 1}", running


def _must_run(client: Any, job: str, submission: Submission, address: str) -> None:
    """Raises `SubmitError` if a job runs another command, or another recipe."""
    with one_line_errors(address):
        running = client.get_job_info(job)
    other = ""
    if running.entrypoint != submission.entry:
        other = f"another command ({running.entrypoint.removeprefix(ENTRY)})"
    elif {**(running.metadata or {}), **submission.metadata} != running.metadata:
        other = "the same command with another recipe"
    if other:
        raise SubmitError(f"job {job} is running {other}: choose another --name, or wait until it ends")


def _send(client: Any, submission: Submission, address: str, name: str | None) -> str:
    """Submits a command with what travels along; the job's id."""
    # Given as a variable, since Ray reads the key `worker_process_setup_hook` only in a driver: the process that runs the
    # entry point would start without it.
    from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR

    with tempfile.TemporaryDirectory(prefix="fox1-submit-") as folder:
        package = stage_package(Path(folder) / "package")
        working = Path(folder) / "job"
        stage_job(working, submission.files)
        with one_line_errors(address):
            return str(
                client.submit_job(
                    entrypoint=submission.entry,
                    submission_id=name,
                    metadata=submission.metadata,
                    runtime_env={
                        "py_modules": [str(package)],
                        "working_dir": str(working),
                        "env_vars": {
                            WORKER_PROCESS_SETUP_HOOK_ENV_VAR: SETUP_HOOK,
                            STOP_WAIT_VARIABLE: str(STOP_WAIT_SECONDS),
                        },
                    },
                )
            )


def follow_job(client: Any, job: str, address: str, out: TextIO) -> int:
    """Writes a job's log to `out` until it has ended; its exit status. Ctrl-C stops following, not the job."""
    try:
        details = _follow(client, job, address, out)
    except KeyboardInterrupt:
        print(f"\nno longer following; job {job} keeps running: {_how_to_attach(job, address)}", file=out, flush=True)
        return INTERRUPTED
    return _exit_status(details, job, out)


def _follow(client: Any, job: str, address: str, out: TextIO) -> Any:
    """Writes the job's log to `out` as it grows, until the job has ended; returns Ray's `JobDetails`."""
    written = 0  # characters of the log

    async def tail() -> bool:
        nonlocal written
        read = 0
        async for text in client.tail_job_logs(job):
            # A new connection starts at the log's beginning, so what is already written is passed over.
            out.write(text[max(0, written - read) :])
            out.flush()
            read += len(text)
            written = max(written, read)
        return True

    silent_since: float | None = None
    while silent_since is None or time.monotonic() - silent_since < PATIENCE_SECONDS:
        before, began = written, time.monotonic()
        whole = _unless_broken(lambda: asyncio.run(tail()))
        details = _unless_broken(lambda: client.get_job_info(job))
        if whole and details and details.status.is_terminal():
            return details
        # A log may be quiet for hours: its connection held.
        held = whole or time.monotonic() - began > PATIENCE_SECONDS
        heard = written > before or (details and (held or details.status.value == "PENDING"))
        silent_since = None if heard else began if silent_since is None else silent_since
        time.sleep(POLL_SECONDS)
    raise SubmitError(
        f"lost the connection to {address}; job {job} may still be running: {_how_to_attach(job, address)}"
    )


def _unless_broken(ask: Callable[[], Answer]) -> Answer | None:
    """What a cluster answers; None where the connection broke. A pipe that broke is that of whoever read the log, and has gone."""
    import aiohttp

    try:
        return ask()
    except BrokenPipeError:
        raise
    except (RuntimeError, OSError, aiohttp.ClientError):
        return None


def _how_to_attach(job: str, address: str) -> str:
    where = "" if address == DEFAULT_ADDRESS else f" --address {shlex.quote(address)}"
    return f"follow it with `fox1 jobs logs {job}{where}`, stop it with `fox1 jobs stop {job}{where}`"


def _exit_status(details: Any, job: str, out: TextIO) -> int:
    """The shell's exit status for a job that has ended."""
    status, code = str(details.status.value), details.driver_exit_code
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        print(f"job {job} was stopped", file=out, flush=True)
        return INTERRUPTED
    if code is None:
        # No driver ran (its environment could not be made) or its node died: the log does not say so.
        print(f"job {job} failed: {last_line(details.message or '')}", file=out, flush=True)
        return 1
    # A negative code is a signal's number; a shell reports it above 128.
    return 128 - code if code < 0 else code or 1

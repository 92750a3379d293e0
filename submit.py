"""`fox1 submit`: any fox1 command as a Ray job on a cluster.

Two folders travel with a job, both through its runtime environment:

    py_modules    fox1/           the package's own files, so that the cluster runs this code and no other
    working_dir   versions.json   what the client runs (see `check_versions`)
                  recipe.yaml     the recipe as the client resolved it, if the command takes one

Dependencies do not travel: they come from the cluster's image. The job's entry point is
`python -m fox1.submit -- COMMAND`, which compares versions and then becomes `python -m fox1 COMMAND`.

This module imports none of ours, and Ray only inside functions: on the cluster it must be able to say that Ray, or
Python itself, is of the wrong version.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TextIO

#: Packages whose version must be the same on the client and on the cluster, beside Python itself: a task's arguments
#: are pickled by Ray, tables cross in Arrow's format, and kernels and checkpoints are written by the other two.
SAME_VERSION = ("ray", "pyarrow", "numba", "torch")

#: Exit status of a job that refused to start because its versions are not the client's (EX_CONFIG of sysexits.h).
VERSION_MISMATCH = 78
#: Exit status for a job that was stopped, or that the user stopped following: that of a program ended by Ctrl-C.
INTERRUPTED = 130

#: The dashboard of a head on this machine, or behind the tunnel of `ray dashboard`.
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: Seconds to wait for the cluster's first answer, and how often a broken log connection is made again.
ANSWER_SECONDS = 15
RECONNECTIONS = 10

_VERSIONS_FILE = "versions.json"
_RECIPE_FILE = "recipe.yaml"
_NOT_STAGED = {"tests", "benchmarks", "docs", "build", "dist", "__pycache__"}


class SubmitError(ValueError):
    """A job that could not be submitted or followed; the message is one line that names what to do."""


# -- what travels ------------------------------------------------------------------------------------------------


def stage_package(destination: Path) -> Path:
    """Copies the package's own files to `destination`/fox1 (returned), modification times kept.

    An installed wheel is copied by its RECORD; a checkout or editable install by its tree, without tests, benchmarks,
    documents and whatever else lies beside the code.
    """
    root = Path(__file__).resolve().parent
    staged = destination / "fox1"
    for file in _recorded_files(root) or _tree_files(root):
        target = staged / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, target)
    return staged


def _recorded_files(root: Path) -> list[Path]:
    """The package's files, relative to `root`, by the wheel that put them there; empty if no wheel did."""
    try:
        distribution = importlib.metadata.distribution("fox1")
    except importlib.metadata.PackageNotFoundError:
        return []
    inside = [file for file in distribution.files or [] if file.parts[0] == "fox1" and "__pycache__" not in file.parts]
    # An editable install records no file of the package, and a wheel may be installed beside the checkout in use.
    if not any(Path(str(distribution.locate_file(file))).resolve() == root / "__init__.py" for file in inside):
        return []
    return [Path(*file.parts[1:]) for file in inside]


def _tree_files(root: Path) -> list[Path]:
    """The package's files in a checkout, relative to `root`: what the wheel built from it would hold."""
    project = root / "pyproject.toml"
    # What travelled with a job has none: there all files are the package's.
    tool = tomllib.loads(project.read_text(encoding="utf-8"))["tool"] if project.exists() else {}
    declared = tool.get("setuptools", {}).get("package-data", {})
    data = {Path(*package.split(".")[1:]): patterns for package, patterns in declared.items()}
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        # `tokenize` has no __init__.py on purpose, so a folder's files, not its __init__.py, make it a part of ours.
        folders[:] = [
            name
            for name in sorted(folders)
            if name not in _NOT_STAGED and not name.startswith(".") and not (here / name / "pyvenv.cfg").exists()
        ]
        patterns = ["*.py", *data.get(here.relative_to(root), [])] if tool else ["*"]
        files += [
            (here / name).relative_to(root)
            for name in sorted(names)
            if not name.startswith(".") and any(fnmatch(name, pattern) for pattern in patterns)
        ]
    return files


def stage_job(destination: Path, command: Sequence[str], recipe_yaml: bytes | None) -> list[str]:
    """Writes the job's working directory to `destination`; returns the command as the cluster is to run it.

    With `recipe_yaml`, the argument after the subcommand is the recipe, and becomes the path of the one that travels.
    """
    destination.mkdir(parents=True, exist_ok=True)
    (destination / _VERSIONS_FILE).write_text(json.dumps(installed_versions(), indent=1), encoding="utf-8")
    if recipe_yaml is None:
        return list(command)
    if len(command) < 2 or command[1].startswith("-"):
        subcommand = command[0] if command else "curate"
        raise SubmitError(f"the recipe comes first after {subcommand}: fox1 submit -- {subcommand} RECIPE ...")
    (destination / _RECIPE_FILE).write_bytes(recipe_yaml)
    return _with_recipe(command)


def _with_recipe(command: Sequence[str]) -> list[str]:
    """A command with the recipe that travels along in place of the one it names."""
    return [command[0], _RECIPE_FILE, *command[2:]]


def _check_output(command: Sequence[str]) -> None:
    """Refuses a relative `--out`: the job runs in a folder that Ray deletes after it."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        value = following if word == "--out" else word[len("--out=") :] if word.startswith("--out=") else None
        if value and "://" not in value and not Path(value).is_absolute():
            raise SubmitError(f"--out {value} is relative: name a URL or an absolute path that all nodes share")


# -- versions ----------------------------------------------------------------------------------------------------


def installed_versions() -> dict[str, str]:
    """Versions here of Python (major.minor) and of the packages of `SAME_VERSION` that are installed."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in SAME_VERSION:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check_versions(remote: Mapping[str, str], local: Mapping[str, str]) -> None:
    """Raises a one-line `SubmitError` unless the cluster (`remote`) has every version of the client (`local`).

    The build label is no difference: a client's torch 2.11.0+cpu and a cluster's 2.11.0+cu128 go together.
    """
    differing = [
        name for name, version in local.items() if remote.get(name, "").partition("+")[0] != version.partition("+")[0]
    ]
    if differing:
        theirs = ", ".join(f"{name} {remote.get(name, 'not installed')}" for name in differing)
        ours = ", ".join(f"{name} {local[name]}" for name in differing)
        raise SubmitError(
            f"the cluster has {theirs}, this client {ours}: install the same on both (see constraints.txt)"
        )


# -- the cluster -------------------------------------------------------------------------------------------------


def authentication_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """HTTP headers that carry Ray's token; none only if the user has set RAY_AUTH_MODE=disabled.

    The token is looked up where Ray does: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.
    """
    # Ray would send these headers itself, but only if RAY_AUTH_MODE was set before it was first imported, and it
    # aborts the process on a RAY_AUTH_TOKEN_PATH that it cannot read.
    if environment.get("RAY_AUTH_MODE", "token").lower() == "disabled":
        return {}
    token = environment.get("RAY_AUTH_TOKEN", "").strip()
    if not token:
        named = environment.get("RAY_AUTH_TOKEN_PATH")
        path = Path(named) if named else Path.home() / ".ray" / "auth_token"
        with suppress(OSError, UnicodeDecodeError):
            token = path.read_text(encoding="utf-8").strip()
        if not token and named:
            raise SubmitError(f"RAY_AUTH_TOKEN_PATH names {named}, which holds no token: put the cluster's token there")
    if not token:
        raise SubmitError(
            "no token for the cluster: copy its token to ~/.ray/auth_token, or make one for a new cluster with "
            "`ray get-auth-token --generate`"
        )
    if not re.fullmatch(r"[!-~]+", token):
        # Refused here, since the HTTP library's own complaint quotes the header.
        raise SubmitError("the token has spaces or other characters a header cannot carry: copy the cluster's again")
    return {"Authorization": f"Bearer {token}"}


def connect(address: str) -> Any:
    """Ray's `JobSubmissionClient` for the dashboard at `address` (http://HOST:8265), after it has answered.

    Raises `SubmitError` if nothing answers there, if the token is wrong or if the cluster's Ray is another version.
    """
    if not re.match(r"https?://[^/]", address):
        raise SubmitError(f"{address!r} is no address of a cluster's dashboard: write http://HOST:8265")
    headers = authentication_headers()

    import requests
    from ray.job_submission import JobSubmissionClient

    with one_line_errors(address):
        # Asked before the client is made, which waits for an answer without limit and hides the version.
        answer = requests.get(f"{address.rstrip('/')}/api/version", headers=headers, timeout=ANSWER_SECONDS)
    if answer.status_code in (401, 403):
        raise _wrong_token(address)
    version = None
    with suppress(ValueError, TypeError, KeyError):
        version = answer.json()["ray_version"]
    if not isinstance(version, str):
        raise SubmitError(f"what answers at {address} is no Ray dashboard: give the head's port 8265 or its tunnel")
    check_versions({"ray": version}, {"ray": importlib.metadata.version("ray")})
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        # They report each package and connection on stderr, between the lines of the job's log.
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    with _address_from_caller(), one_line_errors(address):
        return JobSubmissionClient(address, headers=headers)


@contextmanager
def _address_from_caller() -> Iterator[None]:
    """Hides the variables by which Ray's client would go to another cluster than the one it is given."""
    hidden = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def one_line_errors(address: str) -> Iterator[None]:
    """Turns what Ray's client raises into a `SubmitError`; requests' errors are kinds of OSError."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise _wrong_token(address) from error
    except OSError as error:
        raise SubmitError(
            f"no cluster answers at {address} ({type(error).__name__}): start it, or open its tunnel with "
            "`ray dashboard ray_cluster.yaml`"
        ) from error
    except RuntimeError as error:
        raise SubmitError(f"the cluster at {address} refused: {_last_line(str(error))}") from error


def _wrong_token(address: str) -> SubmitError:
    return SubmitError(
        f"the cluster at {address} refused the token: set RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token to the cluster's"
    )


def _last_line(text: str) -> str:
    """The line of a traceback, or of a message of many lines, that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1] if lines else "no reason given"


# -- the job -----------------------------------------------------------------------------------------------------


def submit(
    command: Sequence[str],
    *,
    address: str,
    name: str | None,
    recipe_yaml: bytes | None,
    follow: bool = True,
    out: TextIO,
) -> int:
    """Runs `fox1 COMMAND` as a job of the cluster at `address`; writes its log to `out`; returns its exit status.

    Without `follow` the status is 0 as soon as the job is accepted. Ctrl-C stops following, not the job. `name` is the
    job's id; a job of that name that still runs is followed instead, and after one that has ended the next is called
    NAME-2, NAME-3 and so on, so that the same command given again goes on where it was. `recipe_yaml` replaces the
    argument after the subcommand. Raises `SubmitError`.
    """
    if not command:
        raise SubmitError("no command to submit: write it after --, as in fox1 submit -- curate RECIPE --out RUN")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SubmitError(f"{name!r} cannot name a job: use letters, digits, '.', '_' and '-'")
    _check_output(command)
    client = connect(address)
    running = None
    if name is not None:
        name, running = _next_of_name(client, name, address)
    if running:
        _must_run(client, running, command, recipe_yaml, address)
        print(f"job {running} is running at {address}", file=out, flush=True)
        job = running
    else:
        job = _send(client, command, address, name, recipe_yaml)
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


def _must_run(client: Any, job: str, command: Sequence[str], recipe_yaml: bytes | None, address: str) -> None:
    """Raises `SubmitError` if a job runs another command."""
    wanted = _entry(_with_recipe(command) if recipe_yaml else command)
    with one_line_errors(address):
        running = client.get_job_info(job).entrypoint
    if running != wanted:
        said = running.rpartition(" -- ")[2]
        raise SubmitError(f"job {job} is running another command ({said}); choose another --name, or wait for its end")


def _entry(command: Sequence[str]) -> str:
    """What a job runs on the cluster."""
    return shlex.join(["python", "-m", "fox1.submit", "--", *command])


def _send(client: Any, command: Sequence[str], address: str, name: str | None, recipe_yaml: bytes | None) -> str:
    """Submits a command with what travels along; the job's id."""
    with tempfile.TemporaryDirectory(prefix="fox1-submit-") as folder:
        package = stage_package(Path(folder) / "package")
        working = Path(folder) / "job"
        remote_command = stage_job(working, command, recipe_yaml)
        with one_line_errors(address):
            return str(
                client.submit_job(
                    entrypoint=_entry(remote_command),
                    submission_id=name,
                    runtime_env={"py_modules": [str(package)], "working_dir": str(working)},
                )
            )


def follow_job(client: Any, job: str, address: str, out: TextIO) -> int:
    """Writes a job's log to `out` until it has ended; its exit status. Ctrl-C stops following, not the job."""
    try:
        details = _follow(client, job, address, out)
    except KeyboardInterrupt:
        print(f"\nno longer following; job {job} goes on: {_how_to_attach(job, address)}", file=out, flush=True)
        return INTERRUPTED
    return _exit_status(details, job, out)


def _follow(client: Any, job: str, address: str, out: TextIO) -> Any:
    """Writes the job's log to `out` as it grows, until the job has ended; returns Ray's `JobDetails`."""
    import aiohttp

    written = 0  # characters of the log

    async def tail() -> None:
        nonlocal written
        read = 0
        async for text in client.tail_job_logs(job):
            # A new connection starts at the log's beginning, so what is already written is passed over.
            out.write(text[max(0, written - read) :])
            out.flush()
            read += len(text)
            written = max(written, read)

    failures = 0  # in a row: a log of days may lose its connection many times
    while failures <= RECONNECTIONS:
        before = written
        try:
            asyncio.run(tail())
            details = client.get_job_info(job)
            if details.status.is_terminal():
                return details
            failures = 0
        except BrokenPipeError:
            raise  # of `out`: whoever read it has gone
        except (RuntimeError, OSError, aiohttp.ClientError):
            failures = 1 if written > before else failures + 1
        time.sleep(1)
    raise SubmitError(f"lost the connection to {address}; job {job} may go on: {_how_to_attach(job, address)}")


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
        # No driver ran (its environment could not be made) or its node died: the log says nothing of it.
        print(f"job {job} failed: {_last_line(details.message or '')}", file=out, flush=True)
        return 1
    # A negative code is a signal's number; a shell reports it above 128.
    return 128 - code if code < 0 else code or 1


def main(arguments: Sequence[str]) -> int:
    """The job's first act on the cluster: compare versions, then become `python -m fox1 COMMAND`."""
    if not arguments or arguments[0] != "--":
        print("this is a job's entry point; to submit one: fox1 submit --address URL -- COMMAND", file=sys.stderr)
        return 2
    try:
        check_versions(installed_versions(), json.loads(Path(_VERSIONS_FILE).read_text(encoding="utf-8")))
    except SubmitError as error:
        print(f"fox1 submit: {error}", file=sys.stderr)
        return VERSION_MISMATCH
    os.execv(sys.executable, [sys.executable, "-m", "fox1", *arguments[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

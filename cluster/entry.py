"""The first act of a submitted job: compare versions, then become `python -m fox1 COMMAND`.

The cluster runs `"$FOX1_PYTHON" -m fox1.cluster.entry -- COMMAND`, where FOX1_PYTHON is the Python of its own Ray
(`export_python`): a node's PATH may lead to another one, or to none. This module imports the standard library only, so
that it can report a wrong version of Ray, or of Python itself.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Packages whose version must be the same on the client and on the cluster, beside Python itself: a task's arguments
#: are pickled by Ray, tables cross in Arrow's format, and kernels and checkpoints are written by the other two.
SAME_VERSION = ("ray", "pyarrow", "numba", "torch")

#: Exit status of a job that refused to start because its versions differ from the client's (EX_CONFIG of sysexits.h).
VERSION_MISMATCH = 78
VERSIONS_FILE = "versions.json"

#: Environment variable with the Python of a cluster's Ray, in every process that Ray starts for a job.
PYTHON = "FOX1_PYTHON"


class SubmitError(ValueError):
    """A job could not be submitted or followed; the message is one line that names the remedy."""


def export_python() -> None:
    """Set FOX1_PYTHON. Ray calls this when it starts a process for a job, first of all the one that runs its entry point."""
    os.environ[PYTHON] = sys.executable


def installed_versions() -> dict[str, str]:
    """Versions of Python (major.minor) and of those packages of `SAME_VERSION` that are installed here."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in SAME_VERSION:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check_versions(remote: Mapping[str, str], local: Mapping[str, str]) -> None:
    """Raises a one-line `SubmitError` unless the cluster (`remote`) has every version of the client (`local`).

    Build labels are ignored: a client's torch 2.11.0+cpu and a cluster's 2.11.0+cu128 match.
    """
    differing = [
        name for name, version in local.items() if remote.get(name, "").partition("+")[0] != version.partition("+")[0]
    ]
    if differing:
        theirs = ", ".join(f"{name} {remote.get(name, 'not installed')}" for name in differing)
        ours = ", ".join(f"{name} {local[name]}" for name in differing)
        raise SubmitError(
            f"the cluster has {theirs}, this client {ours}: install the same versions on both (see constraints.txt)"
        )


def main(arguments: Sequence[str]) -> int:
    """Compare versions, then become `python -m fox1 COMMAND`."""
    if not arguments or arguments[0] != "--":
        print(
            "this is the entry point of a job; to submit one, run: fox1 submit --address URL -- COMMAND",
            file=sys.stderr,
        )
        return 2
    try:
        check_versions(installed_versions(), json.loads(Path(VERSIONS_FILE).read_text(encoding="utf-8")))
    except SubmitError as error:
        print(f"fox1 submit: {error}", file=sys.stderr)
        return VERSION_MISMATCH
    os.execv(sys.executable, [sys.executable, "-m", "fox1", *arguments[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

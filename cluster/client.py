"""Talking to a cluster's dashboard: address, token, and errors of one line."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .entry import SubmitError, check_versions

#: The dashboard of a head on this machine, or behind the tunnel of `ray dashboard`.
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: Seconds to wait for the first answer of a cluster.
ANSWER_SECONDS = 15


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
            raise SubmitError(
                f"RAY_AUTH_TOKEN_PATH names {named}, which holds no token: write the cluster's token there"
            )
    if not token:
        raise SubmitError(
            "found no token for the cluster: copy its token to ~/.ray/auth_token, or generate one for a new cluster with "
            "`ray get-auth-token --generate`"
        )
    if not re.fullmatch(r"[!-~]+", token):
        # Refused here, since the HTTP library's own complaint quotes the header.
        raise SubmitError(
            "the token contains spaces or other characters that an HTTP header cannot hold: copy the cluster's token again"
        )
    return {"Authorization": f"Bearer {token}"}


def connect(address: str) -> Any:
    """Ray's `JobSubmissionClient` for the dashboard at `address` (http://HOST:8265), after it has answered.

    Raises `SubmitError` if nothing answers there, if the token is wrong or if the cluster's Ray is another version.
    """
    if not re.match(r"https?://[^/]", address):
        raise SubmitError(f"{address!r} is not the address of a cluster's dashboard: write http://HOST:8265")
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
        raise SubmitError(
            f"the server at {address} is not a Ray dashboard: give port 8265 of the head, or the tunnel that leads to it"
        )
    check_versions({"ray": version}, {"ray": importlib.metadata.version("ray")})
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        # They report each package and connection on stderr, between the lines of the job's log.
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    with _address_from_caller(), one_line_errors(address):
        return JobSubmissionClient(address, headers=headers)


@contextmanager
def _address_from_caller() -> Iterator[None]:
    """Hides the variables that would send Ray's client to another cluster than the one it is given."""
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
            f"no cluster answers at {address} ({type(error).__name__}): start it, or open a tunnel to it with "
            "`ray dashboard ray_cluster.yaml`"
        ) from error
    except RuntimeError as error:
        raise SubmitError(f"the cluster at {address} refused the request: {last_line(str(error))}") from error


def _wrong_token(address: str) -> SubmitError:
    return SubmitError(
        f"the cluster at {address} refused the token: put the cluster's token into ~/.ray/auth_token, or into the file that "
        "RAY_AUTH_TOKEN_PATH names"
    )


def last_line(text: str) -> str:
    """The line of a traceback, or of a message of many lines, that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1] if lines else "no reason given"

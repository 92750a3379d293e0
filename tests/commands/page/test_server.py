"""Who may ask the page's server, and what its answers are sent with."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from fox1.commands.page.server import STATIC

from .conftest import Client

PATHS = ("/", "/main.js", "/api/run", "/api/document?name=1", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_nobody_without_the_token_is_answered(page: Client, path: str) -> None:
    for token in (None, "", "x" * 43, page.server.token[:-1], "\u00e9"):
        status, headers, body = page.ask(path, X_Fox1_Token=token and token.encode().decode("latin-1"))
        assert status == 403 and b"fox1 inspect" in body and "Content-Security-Policy" in headers
    assert page.ask(f"/?token={page.server.token[:-1]}", X_Fox1_Token=None)[0] == 403


def test_the_printed_address_gives_a_cookie_that_opens_the_page(page: Client) -> None:
    status, headers, body = page.ask(f"/?token={page.server.token}", X_Fox1_Token=None, Sec_Fetch_Site="cross-site")
    assert status == 200 and b'content="0; url=/"' in body and page.server.token.encode() not in body
    cookie, *rest = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(rest) and str(page.server.port) in cookie
    status, _, body = page.ask("/", X_Fox1_Token=None, Cookie=cookie)
    assert status == 200 and b"<!doctype html>" in body
    assert page.ask("/", X_Fox1_Token=None, Cookie=cookie.replace(str(page.server.port), "1"))[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil.example"])
def test_a_name_that_was_made_to_resolve_to_loopback_is_refused(page: Client, host: str) -> None:
    for path in PATHS:
        assert page.ask(path, Host=host)[0] == 421
    assert page.ask("/", Host=f"localhost:{page.server.port}")[0] == 200


def test_a_request_that_another_site_makes_is_refused(page: Client) -> None:
    for site in ("cross-site", "same-site"):
        assert page.ask("/api/run", Sec_Fetch_Site=site)[0] == 403
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{page.server.port}"):
        assert page.ask("/api/counts", {"selection": {}, "columns": []}, Origin=origin)[0] == 403
    ours = f"http://127.0.0.1:{page.server.port}"
    assert (
        page.ask("/api/counts", {"selection": {}, "columns": []}, Origin=ours, Sec_Fetch_Site="same-origin")[0] == 200
    )
    # What a form of another site could send without asking first.
    assert page.ask("/api/counts", b"{}", Content_Type="text/plain")[0] == 400


def test_every_answer_forbids_what_the_page_does_not_need(page: Client) -> None:
    for path in (*PATHS, "/style", "/../server.py"):
        headers = page.ask(path)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'" and "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/answers.py",
        "//etc/passwd",
        "/static/main.js",
        "/main.js/..",
        "/api/../main.js",
    ],
)
def test_no_path_leads_to_another_file(page: Client, path: str) -> None:
    status, _, body = page.ask(path)
    assert status == 404 and b"import" not in body and b"root:" not in body


def test_other_methods_and_what_is_no_request_are_refused(page: Client) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        connection = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=30)
        connection.request(method, "/api/run", headers={"X-Fox1-Token": page.server.token})
        answer = connection.getresponse()
        assert answer.status == 501 and answer.headers["X-Frame-Options"] == "DENY"
        connection.close()
    with socket.create_connection(("127.0.0.1", page.server.port), 30) as raw:
        raw.sendall(b"no request at all\r\n\r\n")
        assert b"400" in raw.recv(100)
    assert page.get("/api/run")["rows"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(page: Client, body: bytes) -> None:
    assert page.error("/api/counts", body)


def test_too_large_a_request_is_refused_before_it_is_read(page: Client) -> None:
    assert page.ask("/api/counts", b"{}", Content_Length=str(1 << 40))[0] == 400


def test_the_page_needs_nothing_from_elsewhere() -> None:
    sources = {path.name: path.read_text() for path in STATIC.iterdir()}
    page = sources["index.html"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", page)
    for name, text in sources.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
    used = set(re.findall(r"(?:(?:from|import) \"\./|href=\"|src=\")([\w.]+\.\w+)\"", " ".join(sources.values())))
    assert used | {"index.html"} == set(sources)


def test_a_port_that_is_taken_is_one_line(page: Client, run: Path) -> None:
    from tests.conftest import run_command

    done = run_command("inspect", run, "--no-open", "--port", page.server.port)
    assert done.returncode == 1 and "--port" in done.stderr and done.stderr.count("\n") == 1


def test_text_that_steers_is_shown_as_what_it_is(page: Client) -> None:
    said = page.ask("/api/find?kind=name&value=%1b%5b31m%e2%80%ae")[2]
    assert b"\x1b" not in said and "\u202e" not in said.decode() and json.loads(said)["error"]


def test_the_command_serves_until_it_is_interrupted(run: Path) -> None:
    command = [sys.executable, "-m", "fox1", "inspect", str(run), "--no-open"]
    # Tests that run in the background of a shell ignore Ctrl-C, and so would the command.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed) as process:
        assert process.stdout
        address = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", process.stdout.readline())
        assert address
        connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=60)
        connection.request("GET", "/api/run", headers={"X-Fox1-Token": address[2]})
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == "interrupted\n"

"""HTTP on loopback for one reader: who may ask, and what every answer is sent with.

    address of the terminal, with a token -> a cookie of this session -> the page, its files, its questions

Another program of this machine, or a page of the web that has its name resolve to 127.0.0.1, knows no token; a page that makes the
browser ask is refused by the cookie (`SameSite=Strict`) and by where the browser says that the request is from. Nothing of a
request names a file: the static ones are read once, at the start.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...storage.reading import as_written
from ...storage.store import shown
from ...storage.wording import one_line
from .asked import Asked, Download, as_json

STATIC = Path(__file__).parent / "static"
LOOPBACK = "127.0.0.1"
MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, refusals too."""
MOST_BYTES = 1 << 20
"""Of a request's JSON."""
SECONDS = 60.0
"""That a connection may be idle."""
REFUSED = "This page is for whoever started `fox1 inspect`: open the address that it printed.\n"

OPENED = (
    # Without the icon's place a browser may look for it at one of its own.
    b'<!doctype html><title>fox1 inspect</title><link rel="icon" href="/icon.svg">'
    b'<meta http-equiv="refresh" content="0; url=/">'
)
"""Goes on to the page by itself. A redirect would not do where another page holds the link, such as a terminal in the browser: the
cookie is sent only with what comes from here."""

Answer = Callable[[Asked], Any]


class PageServer(ThreadingHTTPServer):
    """Serves the page to this machine until it is shut down."""

    daemon_threads = True
    # A port that was asked for and is in use is an error, also where the other one waits to be closed.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, answers: Mapping[str, Answer], port: int = 0) -> None:
        """
        Args:
            answers: by method and path, such as `GET /api/run`.
            port: 0: any that is free.

        Raises:
            OSError: the port is taken.
        """
        super().__init__((LOOPBACK, port), _Handler)
        self.answers = dict(answers)
        self.token = secrets.token_urlsafe(32)
        self.static = {
            f"/{file.relative_to(STATIC).as_posix()}": (MEDIA[file.suffix], file.read_bytes())
            for file in sorted(STATIC.rglob("*"))
            if file.suffix in MEDIA
        }

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What opens the page."""
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """What a request may call this machine."""
        return f"{LOOPBACK}:{self.port}", f"localhost:{self.port}"

    @property
    def cookie(self) -> str:
        """Its name: cookies of all ports are sent to each."""
        return f"fox1-{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is none; anything else is said where it belongs, in the answer."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fox1", ""
    timeout = SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses: other methods, and what is no request."""
        self.close_connection, self.request_version = True, "HTTP/1.1"
        self._send(int(code), "text/plain; charset=utf-8", f"{message or 'refused'}\n".encode())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        values = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=50))
        if not self._is_local():
            return
        if url.path == "/" and "token" in values:
            if self._is_token(values["token"]):
                cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
                self._send(200, MEDIA[".html"], OPENED, {"Set-Cookie": cookie})
            else:
                self._refuse(403)
            return
        if not self._may_ask():
            return
        if found := self.server.static.get("/index.html" if url.path == "/" else url.path):
            self._send(200, *found)
        else:
            self._answer(f"GET {url.path}", values)

    def do_POST(self) -> None:
        if not self._is_local() or not self._may_ask():
            return
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= MOST_BYTES or self.headers.get_content_type() != "application/json":
            self.close_connection = True
            self._send(400, "text/plain; charset=utf-8", b"send JSON of at most a million bytes\n")
            return
        try:
            values = json.loads(self.rfile.read(size))
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            self._send(400, "application/json", as_json({"error": "what was sent is no JSON object"}))
            return
        self._answer(f"POST {urlsplit(self.path).path}", values)

    def _is_local(self) -> bool:
        """Refuse a request that calls this machine by another name: that of a page which had it resolve to loopback."""
        if len(self.headers.get_all("Host", [])) == 1 and self.headers["Host"].lower() in self.server.hosts:
            return True
        self._refuse(421)
        return False

    def _may_ask(self) -> bool:
        """Refuse a request without the token, and one that another site had the browser make."""
        cookies: SimpleCookie = SimpleCookie()
        with suppress(CookieError):
            cookies.load(self.headers.get("Cookie", ""))
        held = cookies.get(self.server.cookie)
        token = held.value if held else self.headers.get("X-Fox1-Token", "")
        origin = self.headers.get("Origin")
        ours = origin is None or origin.lower() in tuple(f"http://{host}" for host in self.server.hosts)
        if self._is_token(token) and ours and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            return True
        self._refuse(403)
        return False

    def _is_token(self, said: str) -> bool:
        return secrets.compare_digest(said.encode(errors="replace"), self.server.token.encode())

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", REFUSED.encode())

    def _answer(self, question: str, values: dict[str, Any]) -> None:
        answer = self.server.answers.get(question)
        if answer is None:
            self._send(404, "application/json", as_json({"error": "there is nothing at this address"}))
            return
        status, found = 200, None
        try:
            with as_written("this run", "read it with the version that wrote it, or curate it again"):
                found = answer(Asked(values))
        except (ValueError, OSError) as error:
            status, found = 400, {"error": shown(one_line(str(error)) or type(error).__name__)}
        except Exception as error:
            status, found = (
                500,
                {"error": f"{type(error).__name__}: {one_line(str(error))}; please report this as a bug"},
            )
        if isinstance(found, Download):
            self._stream(found)
        else:
            self._send(status, "application/json", as_json(found))

    def _stream(self, file: Download) -> None:
        """Send a file in chunks: one that breaks off is not taken for a whole one."""
        more = {"Content-Disposition": f'attachment; filename="{file.name}"', "Transfer-Encoding": "chunked"}
        self._head(200, file.media, more)
        try:
            for part in _filled(file.parts):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        except Exception:
            self.close_connection = True

    def _send(self, status: int, media: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self._head(status, media, {"Content-Length": str(len(body)), **(more or {})})
        with suppress(OSError):
            self.wfile.write(body)

    def _head(self, status: int, media: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media, **HEADERS, **more}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        with suppress(OSError):
            self.end_headers()


def _filled(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Parts that are not empty: an empty chunk would end the file."""
    return (part for part in parts if part)

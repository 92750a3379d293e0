"""A server of the page over the shared run, and over a run whose texts and names try to be more than text."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fox1.api import open_run
from fox1.commands.page.answers import Answers
from fox1.commands.page.server import PageServer

from tests.conftest import SMALL, MakeOnce, curate_sample

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
TEXTS = (
    f"{SCRIPT} A page of prose that has words enough to be kept, and says the same thing in several ways. " * 12,
    "</pre></script><svg onload=window.hacked=1> {{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} "
    * 30,
    "\u202eright to left\u202c and \u0000 a \x1b[31mred\x1b[0m text, \ud83d\ude00 with javascript:window.hacked=1 in it. "
    * 20,
    "# # # # ... ... the same line\n" * 90,
    "A mail to somebody@example.org, and another to nobody@example.net, between words of no interest at all. " * 12,
)
FILE = "<img src=x onerror=window.hacked=1>&\"'.json.gz"
SUBSET = "<b onmouseover=window.hacked=1>subset</b>"


def hostile_rows() -> Iterator[dict[str, Any]]:
    for k in range(40):
        text = TEXTS[k % len(TEXTS)]
        yield {
            "id": f"{SCRIPT}{k}",
            "text": text if k < 10 else f"{text} {k}",
            "source": SUBSET,
            "metadata": {"url": f"https://{SCRIPT}.example.com/{k}"},
        }


@pytest.fixture(scope="session")
def hostile_run(make_once: MakeOnce, corpora: Path) -> Path:
    """A finished run with such documents among those of the sample."""

    def write(folder: Path) -> None:
        data = folder / "corpora"
        shutil.copytree(corpora, data)
        lines = "".join(json.dumps(row).replace("\\u0000", "") + "\n" for row in hostile_rows())
        (data / "dolma" / FILE).write_bytes(gzip.compress(lines.encode(), 1))
        curate_sample(folder / "run", data, *SMALL)

    return make_once("hostile_page", write) / "run"


@dataclass
class Client:
    """Asks a server as its page does."""

    server: PageServer
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, body: Any = None, **headers: str | None) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); a header that is None is not sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        sent: dict[str, str | None] = {"X-Fox1-Token": self.server.token, **self.headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kept = {name: value for name, value in sent.items() if value is not None}
        try:
            connection.request("GET" if body is None else "POST", path, data, kept)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer that is no error."""
        status, _, data = self.ask(path, body)
        assert status == 200, data
        return json.loads(data)

    def error(self, path: str, body: Any = None) -> str:
        """The line of an answer that is an error."""
        status, _, data = self.ask(path, body)
        assert status == 400, (status, data)
        said: str = json.loads(data)["error"]
        assert said and "\n" not in said
        return said


@contextmanager
def serving(*runs: Path) -> Iterator[Client]:
    """A server of the page over a run, or two."""
    answers = Answers([open_run(run) for run in runs])
    answers.start()
    server = PageServer(answers.by_question())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Client(server)
    finally:
        server.shutdown()
        server.server_close()
        answers.close()
        thread.join()


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[Client]:
    with serving(run) as client:
        yield client


@pytest.fixture(scope="module")
def hostile_page(hostile_run: Path, run: Path) -> Iterator[Client]:
    """Beside it the shared run, to be compared with."""
    with serving(hostile_run, run) as client:
        yield client


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; without it (Debian: `apt-get install chromium`), or without Playwright (of the extra `dev`), a test is skipped."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need Playwright (pip install playwright)"
    )
    if not CHROMIUM:
        pytest.skip("the browser tests need Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # A container has no namespaces to build its sandbox of.
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()

"""WARC files by datatrove's reader, with the packages of the extra `warc`: pages become their main text."""

from __future__ import annotations

import ctypes.util
import importlib.util
import io
import json
from pathlib import Path

import pytest
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows

MODULES = ("warcio", "cchardet", "magic", "trafilatura")
MISSING = [name for name in MODULES if importlib.util.find_spec(name) is None]
# python-magic is a door to a library of the system.
MISSING += [] if ctypes.util.find_library("magic") else ["libmagic"]
installed = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra `warc`)")

PROSE = " ".join(
    f"On day {n} the ferry crossed the strait in fair weather and came back before dark." for n in range(9)
)
PAGE = f"<html><body><nav>Home | Login</nav><article><p>{PROSE}</p></article><footer>Imprint</footer></body></html>"


def listed(root: Path, **arguments: object) -> list[SourceFile]:
    reader = "datatrove.pipeline.readers.WarcReader"
    return list_sources([SourceSettings("web", "datatrove", str(root), reader=reader, arguments=json.dumps(arguments))])


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """A WARC file of a page, an image, a page without a text, and a record of a WET file."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    (tmp_path / "crawl").mkdir()
    with open(tmp_path / "crawl" / "a.warc.gz", "wb") as out:
        writer = WARCWriter(out, gzip=True)
        for number, (kind, mime, body) in enumerate(
            [
                ("response", "text/html", PAGE),
                ("response", "image/png", "no page"),
                ("response", "text/html", "<html><body></body></html>"),
                ("conversion", "text/plain", "A text that was taken from a page before."),
            ]
        ):
            http = (
                StatusAndHeaders("200 OK", [("Content-Type", mime)], protocol="HTTP/1.1")
                if kind == "response"
                else None
            )
            headers = {"WARC-Identified-Payload-Type": mime}
            record = writer.create_warc_record(
                f"https://example.org/{number}",
                kind,
                io.BytesIO(body.encode()),
                http_headers=http,
                warc_headers_dict=headers,
            )
            writer.write_record(record)
    return tmp_path / "crawl"


def rows(files: list[SourceFile]) -> list[dict[str, object]]:
    return [row for file in files for batch in read_rows(file, Quarantine(file)) for row in batch.to_pylist()]


@installed
def test_pages_become_their_main_text_and_other_records_stay(crawl: Path) -> None:
    found = rows(listed(crawl))
    assert [row["text"] for row in found] == [PROSE, "", "A text that was taken from a page before."]
    assert [row["url"] for row in found] == ["https://example.org/0", "", "https://example.org/3"]
    assert found[0]["timestamp"] and found[2]["timestamp"]


@installed
def test_pages_may_stay_as_they_are(crawl: Path) -> None:
    plain = listed(crawl, extract=False)
    assert rows(plain)[0]["text"] == PAGE
    assert plain[0].identity() != listed(crawl)[0].identity() and "trafilatura" in listed(crawl)[0].identity()
    with pytest.raises(ValueError, match="`extract` is neither true nor false"):
        listed(crawl, extract="no")


def test_missing_packages_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"WARC files need warcio, faust-cchardet, .*install fox1 with the extra `warc`"
    ):
        listed(tmp_path)

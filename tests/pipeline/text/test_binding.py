"""The second read is bound to the first: what is tokenized, shown or dumped is the text that was scanned, or the run stops."""

from __future__ import annotations

import http.server
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.pipeline.inspect.dump import dump_group
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.scan import EditSettings
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.text.binding import ENCODING
from fox1.pipeline.text.excerpts import edited_text
from fox1.pipeline.text.survivors import DecidedFile, read_survivors
from fox1.tokenize.model import TokenizerSettings

from tests.pipeline.dedupe.test_dedupe import sentence, settings_for, write

TEXTS = [f"Write to\n\njoe.{i}@example.com about {' '.join(sentence(random.Random(i)))}" for i in range(20)]
TRICKS: dict[str, Callable[[list[str]], list[str]]] = {
    "another text": lambda texts: [*texts[:7], texts[7][:-6] + "abcabc", *texts[8:]],
    "white space moved": lambda texts: [*texts[:7], texts[7].replace("to\n\nj", "to\nj") + "\n", *texts[8:]],
    "one row more": lambda texts: [*texts, "more " * 80],
    "one row less": lambda texts: texts[:-1],
}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, curate: Callable[..., Any]) -> tuple[RunPaths, SourceFile]:
    """A run up to its decisions, and its one source file."""
    root = tmp_path_factory.mktemp("scanned")
    write(root, "web", TEXTS)
    settings = settings_for(root, "web")
    settings = replace(settings, scan=replace(settings.scan, edits=EditSettings((("email", "<email>"),))))
    curate(settings, root / "run", "prepare", "scan", "filter", "dedupe")
    return RunPaths(root / "run"), list_sources(settings.sources)[0]


def decided(paths: RunPaths, source: SourceFile) -> DecidedFile:
    files = (paths.signals(source.corpus, source.path), paths.decisions(source.corpus, source.path))
    return DecidedFile(source, *(Artifact(str(path), 0, 0, "") for path in files))


@contextmanager
def served(texts: list[str]) -> Iterator[str]:
    """The URL of a file with these texts, from a server that tells neither version nor time."""
    body = "".join(json.dumps({"text": t, "meta": {"pile_set_name": "Pile-CC"}}) + "\n" for t in texts).encode()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a.jsonl"
        server.shutdown()


@pytest.mark.parametrize("trick", TRICKS)
def test_a_server_that_gives_other_rows_to_the_second_read_is_noticed(
    scanned: tuple[RunPaths, SourceFile], trick: str
) -> None:
    paths, source = scanned
    with served(TEXTS) as url:
        read = list(read_survivors([decided(paths, replace(source, url=url))]))
    assert [t for b in read for t in b.text.to_pylist()] == [
        t.replace(f"joe.{i}@example.com", "<email>") for i, t in enumerate(TEXTS)
    ]
    named = "web/a.jsonl#7 no longer holds" if trick in ("another text", "white space moved") else "web/a.jsonl "
    # A server that tells sizes shows a row more or less by that.
    again = r".*(delete .*a.jsonl.parquet and run `fox1 curate` again|changed while the run was reading it)"
    with (
        served(TRICKS[trick](TEXTS)) as url,
        pytest.raises(
            (ValueError, OSError),
            match=f"{named}{again}",
        ),
    ):
        list(read_survivors([decided(paths, replace(source, url=url))]))


@pytest.fixture
def swapped(scanned: tuple[RunPaths, SourceFile]) -> Iterator[SourceFile]:
    """The source file with an e-mail address where the scan had words; of the same size and time."""
    source = scanned[1]
    path = Path(source.url)
    before, stat = path.read_bytes(), path.stat()
    words = TEXTS[3][-30:].encode()
    path.write_bytes(before.replace(words, b"ann@example.com".ljust(len(words))))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.read_bytes() != before
    yield source
    path.write_bytes(before)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_file_swapped_with_its_size_and_time_stops_the_run(
    scanned: tuple[RunPaths, SourceFile], swapped: SourceFile, curate: Callable[..., Any], tmp_path: Path
) -> None:
    paths, source = RunPaths(tmp_path / "run"), swapped
    shutil.copytree(scanned[0].root, paths.root)
    settings = settings_for(Path(source.url).parents[1], "web")
    settings = replace(settings, scan=replace(settings.scan, edits=EditSettings((("email", "<email>"),))))
    with pytest.raises(ValueError, match=r"web/a.jsonl#3 no longer holds the text that was scanned"):
        curate(settings, paths.root)
    assert not list(paths.root.glob("tokens/**/*.arrow"))
    # The remedy of the message: what the file holds now is scanned.
    paths.signals(source.corpus, source.path).unlink()
    curate(settings, paths.root, "prepare", "scan", "filter", "dedupe")
    assert "ann@" not in edited_text(paths, source, 3) and edited_text(paths, source, 3).endswith("<email>" + " " * 15)


def test_a_swapped_file_is_neither_shown_nor_dumped(
    scanned: tuple[RunPaths, SourceFile], swapped: SourceFile, tmp_path: Path
) -> None:
    paths, _ = scanned
    assert edited_text(paths, swapped, 2).startswith("Write to\n\n<email> about")
    with pytest.raises(ValueError, match=r"web/a.jsonl#3 no longer holds"):
        edited_text(paths, swapped, 3)
    with pytest.raises(ValueError, match=r"web/a.jsonl#3 no longer holds"):
        dump_group([decided(paths, swapped)], FileSet(), ["p"], 0, TokenizerSettings().chat, tmp_path / "dump.parquet")
    assert not (tmp_path / "dump.parquet").exists()


@pytest.mark.parametrize("encoding", [None, ENCODING.replace("v2", "v1")], ids=["no hashes", "older hashes"])
def test_signals_of_an_earlier_version_are_refused(
    scanned: tuple[RunPaths, SourceFile], tmp_path: Path, encoding: str | None
) -> None:
    paths, source = scanned
    table = pq.read_table(paths.signals(source.corpus, source.path))
    place = table.schema.get_field_index("text_hash")
    hashes = table.schema.field(place)
    assert hashes.metadata == {b"encoding": ENCODING.encode()}
    old = table.remove_column(place)
    if encoding:
        old = table.set_column(place, hashes.with_metadata({"encoding": encoding}), table.column(place))
    pq.write_table(old, tmp_path / "signals.parquet")
    file = replace(decided(paths, source), signals=Artifact(str(tmp_path / "signals.parquet"), 0, 0, ""))
    with pytest.raises(ValueError, match=r"signals.parquet was written by another version of fox1.*run `fox1 curate`"):
        list(read_survivors([file]))

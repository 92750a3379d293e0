"""What becomes a source file: of folders, stores and lists of others; and that no text names code or another place."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fox1.pipeline.run.identity import SourceFile, TableReader, files_of_table
from fox1.pipeline.sources.formats import open_source
from fox1.pipeline.sources.globs import escape, matches, reaches
from fox1.pipeline.sources.listing import SourceSettings, check_unchanged, current_version, list_sources, with_sizes
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.storage.web import Reach, WebUrl, http_options, is_public, private_address

ROW = b'{"text": "a fox"}\n'


def write(path: Path, data: bytes = ROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def folder(root: Path | str, *files: str, **more: Any) -> list[SourceFile]:
    return list_sources([SourceSettings("c", "pile", str(root), files or ("**/*",), **more)])


def paths(files: list[SourceFile]) -> list[str]:
    return [f.path for f in files]


def texts(file: SourceFile) -> list[str]:
    return [t for b in read_rows(file, Quarantine(file)) for t in b.column("text").to_pylist()]


# -- lists -------------------------------------------------------------------------------------------------------


def of_list(tmp_path: Path, *lines: str, private: bool = False, **more: Any) -> list[SourceFile]:
    write(tmp_path / "lists" / "urls.txt", "\n".join(lines).encode())
    source = SourceSettings("c", "pile", urls=str(tmp_path / "lists" / "urls.txt"), **more)
    return list_sources([source], private_hosts=private)


@pytest.mark.parametrize(
    "line",
    [
        "datatrove://read?reader=os.system&arguments=%7B%7D&root=id&path=x.jsonl",
        "datasets://stream?name=x&config=&split=train&commit=&shard=0&shards=1",
        "file:///etc/passwd.jsonl",
        "local:///etc/passwd.jsonl",
        "reference://::file:///tmp/x.jsonl",
        "simplecache::https://example.org/x.jsonl",
        "https://example.org/a.zip::reference://x.jsonl",
        "memory://x.jsonl",
        "FILE:///etc/passwd.jsonl",
        "https:///x.jsonl",
        "https://[1/x.jsonl",
        "https://[v1.a]/x.jsonl",
        "https://a::b@example.org/x.jsonl",
        "https://[::1]/a::https://example.org/x.jsonl",
        "/etc/x.jsonl",
        "../x.jsonl",
        "a/../../x.jsonl",
        "..",
        ".",
    ],
)
def test_a_line_of_a_list_names_a_file_and_nothing_else(line: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"source c: line 2 of .*urls\.txt, .*(a list may hold|not a URL|no file below the folder)"
    ):
        of_list(tmp_path, "https://example.org/a.jsonl", line)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "169.254.169.254",
        "10.1.2.3",
        "0.0.0.0",
        "u@127.0.0.1:80",
        "[::1]",
        "[::ffff:10.1.2.3]:8080",
        "[fe80::1]",
    ],
)
def test_a_line_leads_to_no_private_address_unless_the_user_lets_it(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1 of .* is not a public address; .*--allow-private-hosts"):
        of_list(tmp_path, f"http://{host}/a.jsonl")
    assert paths(of_list(tmp_path, f"http://{host}/a.jsonl", private=True)) == ["a.jsonl"]


def test_a_url_is_the_same_with_its_scheme_in_capitals_and_its_address_in_short(tmp_path: Path) -> None:
    files = of_list(tmp_path, "HTTP://[2606:4700::1111]/c/a.jsonl", "Https://8.8.8.8/c/b.jsonl", "S3://b/c/c.jsonl")
    long = "2606:4700:0000:0000:0000:0000:0000:1111"
    assert sorted(f.url for f in files) == [
        f"http://[{long}]/c/a.jsonl",
        "https://8.8.8.8/c/b.jsonl",
        "s3://b/c/c.jsonl",
    ]
    assert sorted(paths(files)) == ["8.8.8.8/c/b.jsonl", f"[{long}]/c/a.jsonl", "b/c/c.jsonl"]
    assert [f.url.reach for f in files] == [Reach.PUBLIC] * 3  # type: ignore[attr-defined]


def test_a_server_with_an_ipv6_address_is_read(servers: tuple[Server, Server], tmp_path: Path) -> None:
    one, _ = servers
    one.answers["/a.jsonl"] = ROW
    (file,) = of_list(tmp_path, f"HTTP://[::ffff:127.0.0.1]:{one.http.server_port}/a.jsonl", private=True)
    assert texts(file) == ["a fox"]


def test_public_is_what_no_network_of_ones_own_has() -> None:
    for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert is_public(address), address
    private = ["::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "100.64.0.1"]
    for address in (*private, "224.0.0.1", "192.168.0.1", "198.18.0.1", "255.255.255.255"):
        assert not is_public(address), address


def test_paths_of_a_list_lie_below_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "lists" / "a" / "b.jsonl")
    (file,) = of_list(tmp_path, "# ours", "", "a/b.jsonl", "./a/b.jsonl", "a//./c/../b.jsonl")
    assert (file.path, file.size, texts(file)) == ("a/b.jsonl", len(ROW), ["a fox"])
    write(tmp_path / "secret.jsonl")
    (tmp_path / "lists" / "a" / "out").symlink_to(tmp_path)
    with pytest.raises(
        ValueError, match=r"a/out/secret.jsonl is a link that leaves the corpus, .*`follow_links: true`"
    ):
        of_list(tmp_path, "a/out/secret.jsonl")
    assert texts(of_list(tmp_path, "a/out/secret.jsonl", follow_links=True)[0]) == ["a fox"]


def test_no_text_becomes_a_reader() -> None:
    url = "datatrove://read?reader=os.system&arguments={}&root=id&path=x"
    entry = {"corpus": "c", "path": "x.jsonl", "size": 1, "format": "datatrove", "held_out": False, "file_hash": 1}
    stored = files_of_table([{**entry, "reader": "os.system", "url": url}])[0]
    assert stored.reader is None and stored.url == ""
    named = SourceFile("c", "x.jsonl", url, 1, "", "datatrove", False, 1)
    with pytest.raises(ValueError, match="datatrove"):
        texts(named)
    assert not hasattr(TableReader, "from_json")


# -- HTTP --------------------------------------------------------------------------------------------------------


class Server:
    """Answers of an HTTP server on the loopback interface, by path: a body, or (where it redirects to)."""

    def __init__(self) -> None:
        answers: dict[str, bytes | str] = {}
        self.answers = answers
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                answer = answers.get(self.path)
                if isinstance(answer, str):
                    self.send_response(302)
                    self.send_header("Location", answer)
                    answer = b""
                else:
                    self.send_response(404 if answer is None else 200)
                    answer = answer or b""
                    if self.path.endswith("/"):
                        self.send_header("Content-Type", "text/html")
                    else:
                        self.send_header("ETag", f'"{hash(answer)}"')
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(answer)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None: ...

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    pair = Server(), Server()
    yield pair
    for server in pair:
        server.http.shutdown()
        server.http.server_close()


def fetch(url: str) -> bytes:
    with open_source(url) as file:
        return file.read()


def test_a_redirect_leads_to_no_other_private_address(servers: tuple[Server, Server]) -> None:
    one, other = servers
    other.answers["/secret.jsonl"] = one.answers["/own.jsonl"] = ROW
    one.answers["/a.jsonl"] = f"{other.url}/secret.jsonl"
    one.answers["/b.jsonl"] = "/own.jsonl"
    one.answers["/c.jsonl"] = "file:///etc/hostname"
    with pytest.raises(ValueError, match=r"a.jsonl leads to 127.0.0.1, which is not a public address"):
        fetch(f"{one.url}/a.jsonl")
    assert not other.asked
    assert fetch(f"{one.url}/b.jsonl") == ROW
    with pytest.raises(OSError, match=r"c.jsonl"):
        fetch(WebUrl(f"{one.url}/c.jsonl", Reach.ANY))
    assert fetch(WebUrl(f"{one.url}/a.jsonl", Reach.ANY)) == ROW
    # A name may resolve to another address once it is read: what counts is the socket.
    with pytest.raises(ValueError, match="not a public address"):
        fetch(WebUrl(f"{one.url}/own.jsonl", Reach.PUBLIC))


def test_a_url_of_a_list_keeps_its_reach_on_its_way_to_a_worker() -> None:
    sent = pickle.loads(pickle.dumps(WebUrl("https://example.org/x", Reach.PUBLIC)))
    assert sent == "https://example.org/x" and sent.reach is Reach.PUBLIC
    assert http_options(sent)["get_client"].args == (None,)
    assert http_options("https://example.org/x")["get_client"].args == (("example.org", 443),)


def test_a_list_of_urls_is_read_from_private_hosts_if_the_user_lets_it(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    one, other = servers
    one.answers["/arxiv/a.jsonl"] = ROW
    one.answers["/c4/b.jsonl"] = f"{other.url}/b.jsonl"
    other.answers["/b.jsonl"] = b'{"text": "a hound"}\n'
    lines = [f"{one.url}/arxiv/a.jsonl", "", f"{one.url}/c4/b.jsonl"]
    files = of_list(tmp_path, *lines, private=True, files=("**/*.jsonl",))
    assert paths(files) == ["arxiv/a.jsonl", "c4/b.jsonl"]
    assert [texts(f) for f in files] == [["a fox"], ["a hound"]]


def test_sizes_of_a_list_are_asked_for_once(servers: tuple[Server, Server], tmp_path: Path) -> None:
    one, _ = servers
    one.answers["/a.jsonl"], one.answers["/b.jsonl"] = ROW, 3 * ROW
    files = of_list(tmp_path, *(f"{one.url}/{name}.jsonl" for name in "abc"), private=True, files=("**/*.jsonl",))
    assert [f.size for f in files] == [0, 0, 0]
    sized = with_sizes(files, {})
    assert [f.size for f in sized] == [len(ROW), 3 * len(ROW), 0]
    for file in sized[:2]:
        check_unchanged(file)
    one.asked.clear()
    one.answers["/c.jsonl"] = ROW
    assert with_sizes(files, {f.name: f.size for f in sized}) == sized
    assert not one.asked
    one.http.shutdown()
    one.http.server_close()
    with pytest.raises(ValueError, match="cannot be asked for its size"):
        with_sizes(files, {})


def test_a_root_of_http_is_its_users_and_its_files_have_versions(servers: tuple[Server, Server]) -> None:
    one, other = servers
    one.answers["/data"] = "/data/"
    one.answers["/data/"] = b'<a href="a.jsonl">a</a> <a href=".part.jsonl">b</a>'
    one.answers["/data/a.jsonl"] = ROW
    said: list[str] = []
    (file,) = list_sources([SourceSettings("c", "pile", f"{one.url}/data/", ("*.jsonl",))], say=said.append)
    assert said == ["source c: skipped 1 file with a hidden or temporary name, such as .part.jsonl"]
    assert (file.path, file.size, texts(file)) == ("a.jsonl", len(ROW), ["a fox"])
    check_unchanged(file)
    one.answers["/data/a.jsonl"] = ROW.replace(b"fox", b"cat")
    with pytest.raises(ValueError, match=r"c/a.jsonl changed while the run was reading it"):
        check_unchanged(file)
    one.answers["/data"] = f"{other.url}/data/"
    with pytest.raises(ValueError, match=r"cannot be listed .*not a public address"):
        folder(f"{one.url}/data/", "*.jsonl")


# -- stores ------------------------------------------------------------------------------------------------------


def test_a_file_url_is_the_local_file(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.jsonl")
    before = folder(f"file://{tmp_path}/in")[0]
    assert before == folder(tmp_path / "in")[0]
    path.write_bytes(ROW.replace(b"fox", b"cat"))
    os.utime(path, ns=(1, 1))
    assert folder(f"file://{tmp_path}/in")[0].identity() != before.identity()
    os.mkfifo(tmp_path / "in" / "b.jsonl")
    with pytest.raises(ValueError, match=r"b.jsonl is a FIFO"):
        folder(f"file://{tmp_path}/in")


def test_a_version_is_the_time_where_a_store_has_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/versions/a.jsonl", ROW)
    try:
        (before,) = folder("memory://versions")
        assert before.version and current_version(before) == (before.size, before.version)
        memory.pipe("/versions/a.jsonl", ROW.replace(b"fox", b"cat"))
        (after,) = folder("memory://versions")
        assert after.size == before.size and after.version != before.version
        with pytest.raises(ValueError, match="changed while the run"):
            check_unchanged(before)
        said: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), "info", lambda self, path, **_: {"size": 1})
            patch.setattr(type(memory), "find", lambda self, path, **_: {"/versions/a.jsonl": {"size": 1}})
            list_sources([SourceSettings("c", "pile", "memory://versions")], say=said.append)
        assert said and "neither a version nor a time of 1 file, such as a.jsonl" in said[0]
    finally:
        memory.rm("/versions/a.jsonl")


def test_a_name_that_a_run_cannot_take_is_refused_early(tmp_path: Path) -> None:
    write(tmp_path / f"{'a' * 242}.json")
    assert len(folder(tmp_path)) == 1
    write(tmp_path / f"{'b' * 243}.json")
    with pytest.raises(ValueError, match=r"source c: the name b+.json is longer than 247 bytes"):
        folder(tmp_path)


# -- folders -----------------------------------------------------------------------------------------------------


def test_hidden_and_temporary_names_are_left_out_and_counted(tmp_path: Path) -> None:
    for name in ("a", ".b", "_temporary/0/c", "x/.ipynb_checkpoints/d", "__MACOSX/e", "_SUCCESS/f", "y/.cache.d/g"):
        write(tmp_path / f"{name}.jsonl")
    said: list[str] = []
    files = list_sources([SourceSettings("c", "pile", str(tmp_path), ("**/*.jsonl",))], say=said.append)
    assert paths(files) == ["_SUCCESS/f.jsonl", "a.jsonl"]
    assert said == ["source c: skipped 5 files with a hidden or temporary name, such as .b.jsonl"]
    said.clear()
    list_sources([SourceSettings("c", "pile", str(tmp_path), ("*.jsonl", "_SUCCESS/*"))], say=said.append)
    assert said == ["source c: skipped 1 file with a hidden or temporary name, such as .b.jsonl"]


def test_a_folder_is_listed_once_by_its_own_name(tmp_path: Path) -> None:
    write(tmp_path / "v2" / "a.jsonl")
    (tmp_path / "current").symlink_to("v2")
    (tmp_path / "v2" / "latest").symlink_to(".")
    (tmp_path / "v2" / "up").symlink_to(tmp_path)
    assert paths(folder(tmp_path)) == ["v2/a.jsonl"]
    assert paths(folder(tmp_path, "current/*.jsonl")) == ["current/a.jsonl"]
    (tmp_path / "shown").symlink_to(".store")
    write(tmp_path / ".store" / "b.jsonl")
    assert paths(folder(tmp_path)) == ["shown/b.jsonl", "v2/a.jsonl"]
    (tmp_path / "v2" / "up").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "v2")
    assert paths(folder(tmp_path / "link")) == ["a.jsonl"]


def test_a_link_leaves_the_corpus_only_if_the_recipe_says_so(tmp_path: Path) -> None:
    write(tmp_path / "blobs" / "1")
    write(tmp_path / "other" / "b.jsonl")
    root = tmp_path / "snapshot"
    root.mkdir()
    (root / "a.jsonl").symlink_to(tmp_path / "blobs" / "1")
    says = rf"source c: .*/a.jsonl is a link that leaves the corpus, to {tmp_path}/blobs/1; set `follow_links: true`"
    with pytest.raises(ValueError, match=says):
        folder(root)
    assert texts(folder(root, follow_links=True)[0]) == ["a fox"]
    (root / "a.jsonl").unlink()
    write(root / "c.jsonl")
    (root / "more").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match=r"/more is a link that leaves the corpus"):
        folder(root)
    assert paths(folder(root, "*.jsonl")) == ["c.jsonl"]
    assert paths(folder(root, follow_links=True)) == ["c.jsonl", "more/b.jsonl"]


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl")
    os.mkfifo(tmp_path / "f.jsonl")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.jsonl"))
    (tmp_path / "d.jsonl").symlink_to("/dev/zero")
    for name, kind in {"f": "a FIFO", "s": "a socket", "d": "a device"}.items():
        for follow in (False, True):
            with pytest.raises(ValueError, match=rf"source c: .*/{name}.jsonl is {kind}"):
                folder(tmp_path, f"{name}.jsonl", follow_links=follow)
    assert paths(folder(tmp_path, "g*.jsonl")) == ["good.jsonl"]
    for name in ("f.jsonl", "d.jsonl"):
        with pytest.raises(ValueError, match=r"is not a regular file"), open_source(str(tmp_path / name)):
            pass
    with pytest.raises(ValueError, match=r"f.jsonl is not a regular file"):
        list_sources([SourceSettings("c", "pile", urls=str(tmp_path / "f.jsonl"))])


@pytest.mark.parametrize("name", ["[ab]", "a#b", "50%41", "what?", "a*b", "{x}", "~", "a b", "é"])
def test_every_character_of_a_folder_is_literal(name: str, tmp_path: Path) -> None:
    write(tmp_path / name / "in" / "a.jsonl")
    write(tmp_path / "a" / "in" / "other.jsonl")
    (file,) = folder(tmp_path / name)
    assert texts(file) == ["a fox"]
    assert matches(f"{name}/a.jsonl", [f"{escape(name)}/*.jsonl"]) and not matches("a/a.jsonl", [f"{escape(name)}/*"])
    assert paths(folder(tmp_path, f"{escape(name)}/**")) == [f"{name}/in/a.jsonl"]


@pytest.mark.parametrize(
    ("name", "pattern", "hit"),
    [
        ("train", "train/**/*.jsonl", True),
        ("train/x/y", "train/**/*.jsonl", True),
        ("test", "train/**/*.jsonl", False),
        ("train", "*.jsonl", False),
        ("a/b", "a/*.jsonl", False),
        ("a", "?/b*/*.jsonl", True),
        ("a/c", "?/b*/*.jsonl", False),
        ("x", "**/*", True),
    ],
)
def test_only_folders_that_a_pattern_reaches_are_read(name: str, pattern: str, hit: bool) -> None:
    assert reaches(name, [pattern]) is hit


def test_a_source_file_names_where_its_text_lies(tmp_path: Path) -> None:
    """A reader of the recipe is bound to the file as JSON lines are: it is noticed when the file changes."""
    path = write(tmp_path / "a.csv", b"text\nfirst\n")
    reader = "datatrove.pipeline.readers.CSVReader"
    (file,) = list_sources([SourceSettings("c", "datatrove", str(tmp_path), reader=reader)])
    assert file.url == str(path) and file.identity().endswith(f"\0{reader} {{}}")
    assert json.dumps([file.size, file.version]) == json.dumps([*current_version(file)])
    path.write_bytes(b"text\nsecond\n")
    with pytest.raises(ValueError, match="changed while the run"):
        check_unchanged(file)


def test_a_reader_is_a_class_that_reads_files_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here" / "evil_mod.py", b"raise SystemExit('executed')\n")
    write(tmp_path / "in" / "a.csv", b"text\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend("")
    for reader, says in {
        "os.system": "does not read files",
        "pathlib.Path": "does not read files",
        "evil_mod.Reader": "is a module of the current folder and not installed",
    }.items():
        with pytest.raises(ValueError, match=rf"reader {reader} cannot be used .*{says}"):
            list_sources([SourceSettings("c", "datatrove", str(tmp_path / "in"), reader=reader)])


def test_the_address_of_an_own_root_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 443))])
    assert private_address("https://data.corp/x") == "10.0.0.7"

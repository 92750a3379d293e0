"""`fox1 recipe check`: what would stop a run is said before one begins, all of it, and so is what was not looked at."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.recipes import opening

from tests.conftest import as_set, run_command

Check = Callable[..., subprocess.CompletedProcess[str]]

RECIPE = """
extends: sample
name: own
sources:
  {redpajama: null, slimpajama: null, dolma: null, pile: null, refinedweb: null, notes: {format: huggingface, root: notes}}
contamination: {benchmarks: {sample: null, quiz: {format: question_answer, files: [quiz.jsonl]}}}
url_lists: [blocked_urls.txt, blocked.txt]
exclude: {lists: [excluded.txt]}
phases:
  phase1: {tokens: 5K, weights: [{corpus: notes, weight: 1}]}
  phase2: {tokens: 5K, weights: [{corpus: notes, weight: 1}], blocks: [{length: 512}]}
  phase3: {tokens: 5K, weights: [{corpus: notes, weight: 1}], blocks: [{length: 512}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe with data, lists and a benchmark beside it; nothing is wrong with any."""
    (tmp_path / "own.yaml").write_text(RECIPE)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.jsonl").write_text(json.dumps({"text": "A note. " * 4000}) + "\n")
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"question": "one two three four " * 4, "answer": "5"}) + "\n")
    (tmp_path / "blocked.txt").write_text("example.org\nword\n")
    (tmp_path / "excluded.txt").write_text("notes/a.jsonl#0\n")
    return tmp_path


def test_warm_up_and_decay_are_shown_where_they_fall(check: Check) -> None:
    sizes, schedule = "training.sizes.sample", "training.sizes.sample.schedule"
    batches = f"{sizes}.batch_tokens={{phase1: 1Ki, phase2: 1Ki, phase3: 1Ki}}"
    usual = as_set(batches, f"{sizes}.micro_batch_tokens=1Ki", f"{schedule}.warmup_steps=2")
    changed = as_set(f"{schedule}.decay_share=null", f"{schedule}.decay_from=phase2", f"{schedule}.decay_shape=sqrt")
    done = check(*usual, *changed)
    assert (
        "  learning rate 4.00e-03: warm-up over 2,048 tokens (2 steps, phase1); sqrt decay to 0 over the last 8,192 tokens "
        "(8 steps, phase2 to phase3)\n"
    ) in done.stdout, done.stderr
    overlapping = check(*usual, *as_set(f"{schedule}.decay_share=90%"))
    assert "warm-up and decay overlap, so the rate never reaches its peak; shorten one of them" in overlapping.stdout
    twice = check(*usual, *as_set(f"{schedule}.decay_tokens=1K"))
    assert twice.returncode == 1 and "give one of decay_share and decay_tokens; null takes one back" in twice.stderr


@pytest.fixture
def check(folder: Path) -> Check:
    return lambda *words: run_command("recipe", "check", folder / "own.yaml", *words)


def test_what_was_opened_and_what_was_not_is_said(check: Check) -> None:
    done = check()
    assert done.returncode == 0 and not done.stderr
    for line in (
        "  notes: 1 file, 0.0 MB",
        "    notes/a.jsonl: row 0 is of subset default and has 32,000 characters",
        "blocked.txt: 2 rules",
        "excluded.txt: 1 line",
        "  benchmark quiz: 1 item",
        "  not checked:",
        "    whether the text gives a tokenizer of 4,096 pieces: `fox1 curate --stages prepare`",
    ):
        assert line in done.stdout, done.stdout


def test_a_column_that_no_row_has_is_named(folder: Path, check: Check) -> None:
    done = check("--set", "sources.notes.columns={url: link}")
    line = "  notes/a.jsonl: row 0 is of subset default and has 32,000 characters"
    assert f"{line}; none of 1 row has a value in 'link', which `columns` names as url\n" in done.stdout


def test_a_reader_that_finds_no_text_is_refused(folder: Path, check: Check) -> None:
    reader = "{root: notes, format: datatrove, reader: datatrove.pipeline.readers.JsonlReader, arguments: %s}"
    for arguments, code in (("{text_key: txt}", 1), ("{text_key: text}", 0)):
        own = (folder / "own.yaml").read_text()
        changed = own.replace("{format: huggingface, root: notes}", reader % arguments)
        (folder / "own.yaml").write_text(changed)
        done = check()
        (folder / "own.yaml").write_text(own)
        assert done.returncode == code, done.stderr
        if code:
            assert (
                "notes/a.jsonl: the first 1 row read without text; name its column in `arguments: {text_key"
                in done.stderr
            )


def _parquet(columns: dict[str, pa.Array]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("a.jsonl", lambda p: p.write_text('{"content": "x"}\n' * 3), "all its 3 rows cannot be read (row 0: "),
        ("a.jsonl", lambda p: p.write_text("no JSON\n" * 9000), "4,096 of its first 4,096 rows cannot be read"),
        ("a.jsonl.gz", lambda p: p.write_bytes(gzip.compress(b"x" * 9999)[:30]), "notes/a.jsonl.gz is damaged ("),
        ("a.parquet", lambda p: p.write_bytes(b"PAR1 no Parquet"), "notes/a.parquet is damaged ("),
        ("a.parquet", _parquet({"body": pa.array(["x"])}), "notes/a.parquet has no column 'text'"),
        ("a.parquet", _parquet({"text": pa.array([1.5])}), "notes/a.parquet: column 'text' holds double, not text"),
        ("a.txt", lambda p: p.write_text("x"), "'a.txt' has a suffix that fox1 does not read"),
    ],
)
def test_rows_that_curate_could_not_read_are_refused(
    folder: Path, check: Check, name: str, write: Callable[[Path], None], says: str
) -> None:
    (folder / "notes" / "a.jsonl").unlink()
    write(folder / "notes" / name)
    done = check()
    assert done.returncode == 1 and says in done.stderr
    # The rest was looked at all the same.
    assert "  benchmark quiz: 1 item" in done.stdout and len(done.stderr.splitlines()) == 1


def test_a_file_unlike_the_first_of_its_source_is_found(
    folder: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MORE_SECONDS", 30.0)
    for name in ("b", "c"):
        (folder / "notes" / f"{name}.jsonl").write_bytes((folder / "notes" / "a.jsonl").read_bytes())
    assert check().returncode == 0
    (folder / "notes" / "c.jsonl").write_text('{"content": "x"}\n')
    done = check()
    assert done.returncode == 1 and "notes/c.jsonl: its only row cannot be read (row 0: " in done.stderr


def test_the_bands_are_told_for_each_threshold(folder: Path, check: Check) -> None:
    held_out = "held_out.notes={files: [a.jsonl]}"
    done = check(*as_set("signals.minhash.rows=20", "dedupe.jaccard=0.9", "dedupe.held_out_jaccard=0.7", held_out))
    # 1 - (1 - 0.9^20)^14 and 1 - (1 - 0.7^20)^14
    assert "near-dedupe: 84 % of pairs of documents (dedupe.jaccard) with a similarity of 0.9" in done.stdout
    assert "near-dedupe: 1 % of pairs of a training and a held-out document (dedupe.held_out_jaccard)" in done.stdout
    assert done.stdout.count("fewer rows or more bands") == 1
    assert check(*as_set("dedupe.held_out_jaccard=0.7")).stdout.count("near-dedupe: ") == 1


def test_all_that_is_wrong_is_said_at_once(folder: Path, check: Check) -> None:
    (folder / "quiz.jsonl").write_text('{"ask": 1}\n')
    (folder / "blocked.txt").write_text("two words\n")
    (folder / "excluded.txt").write_text("hash:12\n")
    (folder / "some.model").write_bytes(b"no model")
    done = check(
        *as_set(
            "plugins.ours={target: nowhere.py:f}",
            "plugins.regex={target: datatrove.pipeline.filters.RegexFilter, arguments: {regex_exp: '('}}",
            "before_scan.gopher={target: datatrove.pipeline.filters.GopherQualityFilter, arguments: {min_words: 9}}",
            f"tokenizer.model={folder}/some.model",
            "sources.notes.files=['*.jsonl', '*.gz']",
        )
    )
    assert done.returncode == 1
    problems = done.stderr.splitlines()
    for says in (
        "benchmark quiz: row 0 of quiz.jsonl is not a question_answer item",
        "blocked.txt: line 1: 'two words' is neither a domain",
        "excluded.txt, line 1: ",
        "plug-in ours: cannot import",
        "plug-in regex: datatrove.pipeline.filters.RegexFilter: ",
        "before_scan.gopher: datatrove.pipeline.filters.GopherQualityFilter cannot be used (it has no argument `min_words`",
        "some.model is not a SentencePiece model",
    ):
        assert sum(says in problem for problem in problems) == 1, (says, problems)
    assert len(problems) == 7 and "no file matches *.gz" in done.stdout


def test_a_budget_is_refused_after_what_else_is_wrong(folder: Path, check: Check) -> None:
    (folder / "blocked.txt").write_text("two words\n")
    done = check(*as_set("phases.phase1.tokens=9M"))
    assert done.returncode == 1
    assert "two words" in done.stderr.splitlines()[0] and "budget short even if" in done.stderr.splitlines()[-1]


class _Silent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.set()  # type: ignore[attr-defined]
        self.server.over.wait(20)  # type: ignore[attr-defined]

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


def test_a_store_that_does_not_answer_ends_the_wait_and_may_be_left_out(
    folder: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 1.0)
    monkeypatch.setattr(opening, "QUICK", 0.5)
    server = HTTPServer(("127.0.0.1", 0), _Silent)
    server.asked, server.over = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lists = as_set(f"exclude.lists=[http://127.0.0.1:{server.server_port}/list.txt]")
    try:
        left_out = check(*lists, "--offline")
        assert left_out.returncode == 0 and not server.asked.is_set()  # type: ignore[attr-defined]
        assert "/list.txt: on the network, and --offline was given" in left_out.stdout
        done = check(*lists)
    finally:
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
    assert done.returncode == 1 and "/list.txt did not answer within" in done.stderr
    assert "/list.txt: waiting, for up to" in done.stdout


def test_a_pipe_does_not_hold_it_up(folder: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 1.0)
    monkeypatch.setattr(opening, "QUICK", 0.5)
    (folder / "excluded.txt").unlink()
    os.mkfifo(folder / "excluded.txt")
    done = check()
    assert done.returncode == 1 and "excluded.txt is not a regular file" in done.stderr


@pytest.fixture
def redirected(folder: Path) -> Iterator[str]:
    """The URL of a server that sends everybody to another port, where the recipe's folder is served."""
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))

    class Redirects(_Quiet):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{files.server_port}{self.path}")
            self.end_headers()

        do_HEAD = do_GET

    servers = files, ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{servers[1].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sources.notes.root={}/notes/", "notes: 1 file"),
        ("url_lists=['{}/blocked.txt']", "blocked.txt: 2 rules"),
        ("exclude.lists=['{}/excluded.txt']", "excluded.txt: 1 line"),
        ("contamination.benchmarks.quiz.files=['{}/quiz.jsonl']", "benchmark quiz: 1 item"),
        ("tokenizer.model={}/own.model", "  tokenizer.model http:"),
    ],
)
def test_whatever_a_recipe_names_is_redirected_to_private_hosts_only_if_the_user_lets_it(
    folder: Path, check: Check, redirected: str, chat_tokenizer: Path, change: str, says: str
) -> None:
    shutil.copyfile(chat_tokenizer, folder / "own.model")
    change = change.format(redirected)
    done = check("--set", change)
    assert done.returncode == 1 and "127.0.0.1, which is not a public address; if you trust it, add" in done.stderr
    assert says not in done.stdout
    done = check("--set", change, "--allow-private-hosts")
    assert done.returncode == 0 and says in done.stdout, done.stderr

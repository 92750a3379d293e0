"""Whatever names and texts hold, what commands print is text: on one line, in one place, and seen as it is."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fox1.commands.show.bars import StageBars
from fox1.commands.show.terminal import TextConsole, new_table
from sentencepiece import sentencepiece_model_pb2 as proto

from tests.conftest import ROOT, run_command

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\u200b\U000e0041\u2028\nerror"
    ": forged [red]x[/red] [link=https://e.org]y[/link] :skull:"
)
UNSEEN = {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\U000e0041", "\u2028"}


def harmless(text: str) -> None:
    assert not UNSEEN & set(text), repr(text)
    assert not any(line.startswith("error: forged") for line in text.splitlines())
    assert "owned" in text and "\ufffd" in text


def test_what_rich_would_take_for_markup_is_text() -> None:
    console, out = TextConsole(file=io.StringIO(), width=400, force_terminal=True, color_system="truecolor"), EVIL
    table = new_table(f"title {EVIL}", EVIL, "n")
    table.add_row(out, "1")
    console.print(EVIL, style="bold")
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert printed.count("[red]x[/red]") == printed.count(":skull:") == 4
    assert (
        "\x1b]8" not in printed and "\x1b]0" not in printed and "\x1b[2J" not in printed and "\x1b[31m" not in printed
    )
    assert not (UNSEEN - {"\x1b"}) & set(printed)


def test_names_of_stages_and_tasks_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as bars:
        bars.stage("scan", 1, 1, 0)
        bars.slow("scan", EVIL, 90.0)
    harmless(capsys.readouterr().err)


def evil(value: Any) -> Any:
    """A value of JSON with EVIL in each of its texts, and in keys that are names."""
    if isinstance(value, dict):
        return {(EVIL + k if "/" in k else k): evil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(v) for v in value]
    return EVIL + value if isinstance(value, str) else value


@pytest.fixture(scope="module")
def received(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose statistics are full of hostile names."""
    copy = tmp_path_factory.mktemp("received") / "copy"
    shutil.copytree(run, copy, copy_function=os.link)
    for name in ("mixture", "overlap", "examples", "tokens", "funnel"):
        path = copy / "stats" / f"{name}.json"
        value = json.loads(path.read_bytes())
        path.unlink()
        path.write_text(json.dumps(evil(value)))
    return copy


def test_names_in_statistics_are_text_on_a_terminal(received: Path) -> None:
    done = run_command("stats", received)
    assert done.returncode == 0, done.stderr
    harmless(done.stdout)


def test_names_in_statistics_are_ascii_as_json(received: Path) -> None:
    done = run_command("stats", received, "--json")
    assert done.returncode == 0 and done.stdout.isascii() and not UNSEEN & set(done.stdout)
    assert EVIL in json.loads(done.stdout)["mixture"]["phases"][0]["name"]


def test_names_in_statistics_are_text_in_a_report(received: Path, tmp_path: Path) -> None:
    done = run_command("report", received, "--out", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r.html").read_text()
    assert not UNSEEN & set(page) and "owned" in page and 'href="javascript' not in page


def test_pieces_of_a_tokenizer_are_text(run: Path, tmp_path: Path) -> None:
    model = proto.ModelProto()
    model.ParseFromString((run / "prepare" / "tokenizer.model").read_bytes())
    model.pieces[1].piece = f"<eos{EVIL}>"
    (tmp_path / "m.model").write_bytes(model.SerializeToString())
    harmless(run_command("tokenizer", "inspect", tmp_path / "m.model").stdout)


@pytest.mark.parametrize(
    "words", [("stats", EVIL), ("find", EVIL, "--id", "x"), ("curate", EVIL, "--out", "x"), ("verify", EVIL)]
)
def test_names_in_errors_are_text(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command(*words)
    assert done.returncode in (1, 2)
    harmless(done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_nothing_prints_but_what_makes_text_safe() -> None:
    """A `print` elsewhere would show names as they are."""
    found = set()
    for part in ("commands", "trainer", "api.py"):
        for path in sorted((ROOT / part).rglob("*.py")) if (ROOT / part).is_dir() else [ROOT / part]:
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
            found |= {path.relative_to(ROOT).as_posix() for c in prints if not _is_harmless(c)}
    assert not found


def _is_harmless(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    if first is None or isinstance(first, ast.Constant) or (isinstance(first, ast.Name) and first.id == "__version__"):
        return True
    name = first.func if isinstance(first, ast.Call) else None
    return ast.unparse(name) in ("json.dumps", "printable") if name else False

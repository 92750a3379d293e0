"""The command line as its users meet it: help pages and what the shell completes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fox1.commands.app import app
from fox1.commands.complete import recipe_names
from typer.testing import CliRunner


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands with their names as they are typed, groups included."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def test_every_help_text_is_a_whole_phrase() -> None:
    wrong = []
    for path, command in commands():
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            if not text:
                wrong.append(f"{' '.join(path)} {parameter.name}: no help")
            elif text and not re.match(r"[A-Z].*[.)]$", text):
                wrong.append(f"{' '.join(path)} {parameter.name}: {text}")
            elif text and re.match(r"(Of|For|At|By|With) [^:]*$", text):
                wrong.append(f"{' '.join(path)} {parameter.name} continues its name: {text}")
    assert not wrong


def test_the_list_of_commands_cuts_no_sentence() -> None:
    page = CliRunner().invoke(app, ["--help"]).output
    ours = [
        " ".join(p) for p, c in commands() if len(p) == 1 and "cluster" not in getattr(c.callback, "__module__", "")
    ]
    lines = {line.split()[0]: line for line in page.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"curate", "stats", "train"} <= set(ours) <= set(lines)
    assert [name for name in ours if lines[name].endswith("...")] == []


def complete(line: str, **variables: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    asked = {"_FOX1_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "fox1"], env={**os.environ, **asked, **variables}, capture_output=True, text=True
    )
    assert not done.stderr
    return done.stdout.split()


def test_the_shell_completes_commands_options_and_recipes() -> None:
    assert complete("fox1 cu") == ["curate", "curves"]
    assert complete("fox1 recipe ") == ["check", "show", "schema"]
    assert complete("fox1 train /run --cpus") == ["--cpus-per-worker"]
    assert complete("fox1 curate mi") == ["mini"]


def test_the_shell_completes_the_phases_of_the_run_on_the_line(tmp_path: Path) -> None:
    (tmp_path / "stats").mkdir()
    phases = [{"name": "phase1"}, {"name": "phase2"}, {"name": "final"}]
    (tmp_path / "stats" / "mixture.json").write_text(json.dumps({"phases": phases}))
    assert complete(f"fox1 train {tmp_path} --phase ph") == ["phase1", "phase2"]
    assert complete(f"fox1 trace {tmp_path} f") == ["final"]
    assert complete(f"fox1 trace {tmp_path}/none ") == []


def test_a_recipe_of_ones_own_is_completed_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.yaml").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    assert recipe_names("") == ["fineweb", "fox1", "mini", "sample", "more/", "ours.yaml"]
    assert recipe_names(f"{tmp_path}/o") == [f"{tmp_path}/ours.yaml"]
    assert recipe_names("/no/such/folder/") == []


def test_completion_is_printed_for_the_users_shell() -> None:
    # Otherwise Typer looks for the shell among the parents of the process, where tests may have none.
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "fox1", "--show-completion", "bash"]
    done = subprocess.run(command, env=named, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F _fox1_completion fox1" in done.stdout

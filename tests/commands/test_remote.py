"""Commands that are to run as jobs: what their own parser refuses on this machine, and what is sent."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
import yaml
from fox1.commands.app import app
from fox1.commands.options import HoldsPlace, HoldsRecipe
from fox1.commands.remote import _holds_paths, _kinds, submission
from fox1.storage import scratch

ROOT: Any = typer.main.get_command(app)


def sent(*words: str) -> list[str]:
    return list(submission(ROOT, words).command)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("crate RECIPE --out /run", "fox1: No such command 'crate'. Did you mean 'curate'"),
        ("recipe chek sample", "fox1 recipe: No such command 'chek'. Did you mean 'check'"),
        ("recipe", "fox1 recipe needs a command: check, show, schema"),
        ("curate sample --out /run --bogus 1", "fox1 curate: No such option: --bogus"),
        ("curate sample", "fox1 curate: Missing option '--out'"),
        ("eval /ckpt --limit many", "fox1 eval: Invalid value for '--limit'"),
        ("jobs stop x", "fox1 jobs does not run as a job, since it asks the cluster from outside"),
        ("submit curate", "fox1 submit does not run as a job, since a job cannot submit another one"),
    ],
)
def test_a_typo_is_refused_in_one_line(words: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        sent(*words.split())
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("curate sample --out runs/1", "'--out': runs/1 is relative"),
        ("curate sample --out /run --against=old", "'--against': old is relative"),
        ("train run --out /ckpt", "'RUN': run is relative"),
        ("train /run --out /ckpt --resume old", "'--resume': old is relative"),
        ("curves /a b --out /c.svg", "'CKPT': b is relative"),
        ("curves /a", "'--out': curves.svg is relative"),
        ("export /ckpt model", "'DIR': model is relative"),
        ("export /ckpt s3://bucket/model", "'DIR': s3://bucket/model is a URL"),
        ("plan sample --rates rates.json", "'--rates': rates.json is relative"),
        ("find /run --exclude list.txt", "'--exclude': list.txt is relative"),
        ("find /run --text text.txt", "'--text': text.txt is relative"),
        ("tokenizer inspect some.model", "'MODEL|RUN': some.model is relative"),
        ("tokenizer train /run --out some.model", "'--out': some.model is relative"),
    ],
)
def test_a_relative_place_is_refused_by_its_parameter(words: str, names: str) -> None:
    with pytest.raises(ValueError) as error:
        sent(*words.split())
    assert names in str(error.value) and "an absolute path that all nodes share" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        "train s3://b/run --out /ckpt --phase 1 --ray 1:2 --resume auto --force",
        "train /run --out s3://b/ckpt --resume s3://b/old",
        "curves s3://b/1 /ckpt/2 --out /curves.svg",
        "filter /run --what-if a.b=1 --what-if c.d=2",
        "plan s3://b/run --nodes 3 --json",
        "plan /runs/1 --set a=b",
        "tokenizer inspect hf://owner/name/tokenizer.model --longest 3",
        "gc /run --dry-run",
        "doctor",
        "--debug verify /run",
    ],
)
def test_what_the_parser_accepts_is_sent_as_it_stands(words: str) -> None:
    assert sent(*words.split()) == words.split()


def test_texts_that_look_like_options_survive() -> None:
    words = ["generate", "--tokens", "3", "--", "/ckpt", "-5 + 3"]
    assert sent(*words) == words
    assert sent("generate", "/ckpt", "a", "--seed=-1") == ["generate", "/ckpt", "a", "--seed=-1"]


def test_a_recipe_is_resolved_here_and_named_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_DATA", "/data")
    (tmp_path / "mine.yaml").write_text("extends: sample.yaml\nname: mine\n")
    words = [
        "curate",
        "--out",
        "s3://b/run",
        "--set",
        "seed=7",
        "--limit",
        "1%",
        f"{tmp_path}/mine.yaml",
        "--set=id_salt=1",
    ]
    found = submission(ROOT, words)
    assert list(found.command) == ["curate", "recipe.yaml", "--out", "s3://b/run", "--limit", "1%"]
    recipe = yaml.safe_load(found.files["recipe.yaml"])
    assert (recipe["name"], recipe["seed"], recipe["id_salt"]) == ("mine", 7, 1) and "extends" not in recipe
    assert recipe["sources"]["pile"]["root"] == "/data/pile"
    for words in (["plan", "sample"], ["recipe", "check", "sample"]):
        found = submission(ROOT, words)
        assert list(found.command) == [*words[:-1], "recipe.yaml"] and list(found.files) == ["recipe.yaml"]


def test_a_relative_source_is_refused_before_anything_is_sent() -> None:
    # Nothing answers at the address, and there is no token.
    command = [sys.executable, "-m", "fox1", "submit", "--address", "http://127.0.0.1:9", "--"]
    command += ["curate", "sample", "--out", "/shared/run"]
    environment = {**os.environ, "FOX1_DATA": "relative", "HOME": "/nowhere"}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: sources.redpajama.root: relative/redpajama is relative; a job needs")
    assert len(refused.stderr.splitlines()) == 1


def test_parsing_has_no_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(scratch, "_session", "")
    sent("train", "s3://b/run", "--out", "s3://b/ckpt", "--resume", "s3://b/old")
    assert list(tmp_path.iterdir()) == []


def test_variables_of_this_machine_are_not_those_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX1_EVAL", "here/only")
    assert sent("eval", "/ckpt") == ["eval", "/ckpt"]


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


def test_every_parameter_that_is_shown_as_a_place_is_declared_as_one() -> None:
    """A parameter shown as RUN, CKPT, DIR and so on is a Path or carries a mark; one shown as RECIPE carries its own."""
    for name, command in commands(ROOT):
        hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
        kinds = _kinds(command)
        for parameter in command.params:
            shown = set((parameter.metavar or "").strip("[]").removesuffix("...").split("|"))
            if shown & {"RUN", "RUN_B", "OLD_RUN", "CKPT", "DIR", "FILE", "MODEL", "LIST"}:
                declared = _holds_paths(hints[parameter.name]) or HoldsPlace in kinds[parameter.name]
                assert declared, f"{name}: mark {parameter.metavar} with `HoldsPlace()`"
            if "RECIPE" in shown:
                assert HoldsRecipe in kinds[parameter.name], f"{name}: mark {parameter.metavar} with `HoldsRecipe()`"

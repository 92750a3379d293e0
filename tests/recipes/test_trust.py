"""What a recipe names that runs code, and what a look at a received run does with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from fox1.recipes.load import load_recipe
from fox1.recipes.trust import named_code

from tests.conftest import run_command

EVIL = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from datatrove.pipeline.readers import CSVReader as Reader
def judge(text, row): return True
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sources.pile={format: datatrove, root: /d, reader: a.Reader}", "the reader a.Reader (sources.pile.reader)"),
        ("sources.pile={format: huggingface, dataset: pandas}", "the data set pandas (sources.pile.dataset)"),
        ("sources.pile.root='reference://::file:///x.json'", "the file system of reference://::file:///x.json"),
        ("held_out.pile={root: 'simplecache::s3://b', files: [a]}", "the file system of simplecache::s3://b (held_out"),
        ("sources.pile.urls='github://a:b@/urls.txt'", "the file system of github://a:b@/urls.txt (sources.pile.urls)"),
    ],
)
def test_what_a_source_names_that_runs_code(change: str, says: str) -> None:
    recipe, resolved = load_recipe("sample", [change], {"FOX1_DATA": "/d"})
    (found,) = named_code(recipe, resolved)
    assert found.startswith(says)


def test_a_plan_runs_more_of_a_recipe_than_a_look() -> None:
    changes = [
        "before_scan.tidy={target: a.Tidy}",
        "plugins.ours={target: a.judge}",
        "contamination.benchmarks.sample={format: gsm8k, files: [], dataset: some/set}",
        "tokenizer.model='reference://x'",
    ]
    named = load_recipe("sample", changes, {"FOX1_DATA": "/d"})
    assert not list(named_code(*named))
    found = list(named_code(*named, plans=True))
    assert [f.split(" (")[0] for f in found] == [
        "the file system of reference://x",
        "the step tidy: a.Tidy",
        "the plug-in ours: a.judge",
        "the data set some/set",
    ]
    assert not list(named_code(*load_recipe("sample", [], {"FOX1_DATA": "/d"}), plans=True))
    stores = [f"sources.pile.root={u}" for u in ("s3://b", "hf://datasets/a/b", "https://x/y")]
    assert not any(list(named_code(*load_recipe("sample", [s], {"FOX1_DATA": "/d"}), plans=True)) for s in stores)


def test_a_look_at_a_run_executes_nothing_that_it_brings(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_of_the_run.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    received = tmp_path / "received"
    shutil.copytree(run, received)
    recipe = yaml.safe_load((received / "recipe.yaml").read_text())
    honest = (received / "recipe.yaml").read_text()
    recipe["sources"]["pile"] |= {"format": "datatrove", "reader": "evil_of_the_run.Reader"}
    recipe["plugins"] = {"ours": {"target": "evil_of_the_run.judge"}}
    (received / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for words in (
        ["why", received, "pile/train/00.jsonl.zst#0"],
        ["trace", received, "phase1", "0"],
        ["find", received, "--id", "1"],
        ["stats", received],
        ["report", received],
        ["verify", received],
        ["tokenizer", "inspect", received],
    ):
        assert "evil" not in run_command(*words).stderr, words
    what_if = ["filter", received, "--what-if", "filters.all.min_words=80", "--examples", "0"]
    reading = (
        what_if,
        ["trace", received, "phase1", "0", "--source"],
        ["dump", received, tmp_path / "out", "--in-process"],
        ["plan", received],
        ["tokenizer", "train", received, "--out", tmp_path / "m.model"],
    )
    for words in reading:
        done = run_command(*words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert (
            "names the reader evil_of_the_run.Reader (sources.pile.reader), which runs code; add --trust" in done.stderr
        )
    # Without the reader, only a plan would run the plug-in.
    recipe = yaml.safe_load(honest) | {"plugins": {"ours": {"target": "evil_of_the_run.judge"}}}
    (received / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "the plug-in ours: evil_of_the_run.judge" in run_command("plan", received).stderr
    assert not (tmp_path / "executed").exists()
    del recipe["plugins"]
    recipe["sources"]["pile"] |= {"format": "datatrove", "reader": "evil_of_the_run.Reader"}
    (received / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run_command("dump", received, tmp_path / "out", "--in-process", "--trust")
    assert (tmp_path / "executed").exists()


def test_a_recipe_in_the_folder_of_a_run_runs_no_code(run: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    received = tmp_path / "received"
    (received / "deeper").mkdir(parents=True)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["plugins"] = {"ours": {"target": f"{tmp_path / 'evil.py'}:judge"}}
    inside = received / "recipe.yaml"
    for file in (inside, received / "deeper" / "other.yaml", tmp_path / "copy.yaml"):
        file.write_text(yaml.safe_dump(recipe))
    (tmp_path / "extends.yaml").write_text("extends: received/recipe.yaml\n")
    (tmp_path / "link.yaml").symlink_to(inside)
    commands = [
        ["recipe", "check", inside],
        ["recipe", "check", received / "deeper" / "other.yaml"],
        ["recipe", "check", tmp_path / "extends.yaml"],
        ["recipe", "check", tmp_path / "link.yaml"],
        ["curate", inside, "--out", tmp_path / "out", "--in-process"],
        ["plan", inside],
        ["submit", "curate", inside, "--out", tmp_path / "out"],
    ]
    for mark, tried in ((".fox1.json", commands), ("manifest.json", commands[:1])):
        shutil.copyfile(run / mark, received / mark)
        for words in tried:
            done = run_command(*words)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            assert "names the plug-in ours: " in done.stderr and "copy it to another folder" in done.stderr
        (received / mark).unlink()
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()
    assert "plug-in ours" in run_command("recipe", "check", tmp_path / "copy.yaml", "--offline").stdout
    assert (tmp_path / "executed").exists()

"""A finished run is looked at from any folder, and after its corpora moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from fox1.recipes.load import stored_recipe

from tests.conftest import SMALL, as_set, run_command

CHANGE = "filters.web.min_words=300"


@pytest.fixture
def moved(corpora: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `run` whose corpora lay in `old/corpora`, and lie in `new` now."""
    (tmp_path / "new").symlink_to(corpora)
    shutil.copytree(run, tmp_path / "run")
    stored = tmp_path / "run" / "recipe.yaml"
    stored.write_text(stored.read_text().replace(str(corpora), str(tmp_path / "old" / "corpora")))
    monkeypatch.chdir("/")
    return tmp_path


def test_a_run_made_with_relative_paths_states_absolute_ones(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").symlink_to(corpora)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "list.txt").write_text("https://example.org/a\n")
    recipe = tmp_path / "recipes" / "mine.yaml"
    recipe.write_text("extends: sample\nexclude: {lists: [list.txt]}\nsources: {dolma: {root: ../here/dolma}}\n")
    monkeypatch.chdir(tmp_path)
    words = ("curate", "recipes/mine.yaml", "--out", "run", "--in-process", "--stages", "prepare")
    done = run_command(*words, *as_set(*SMALL), FOX1_DATA="here")
    assert done.returncode == 0, done.stderr
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored["sources"]["pile"]["root"] == f"{tmp_path}/here/pile"
    assert stored["sources"]["dolma"]["root"] == f"{tmp_path}/here/dolma"
    assert stored["exclude"]["lists"] == [f"{tmp_path}/recipes/list.txt"]
    assert stored["contamination"]["benchmarks"]["sample"]["files"] == [f"{tmp_path}/here/benchmarks.jsonl"]
    assert stored["url_lists"] == ["blocked_urls.txt"]


def test_what_needs_no_text_is_answered_wherever_the_corpora_are(moved: Path) -> None:
    assert run_command("trace", moved / "run", "phase1", "0").returncode == 0
    counted = run_command("filter", moved / "run", "--what-if", CHANGE, "--examples", "0")
    assert counted.returncode == 0, counted.stderr


def test_text_of_corpora_that_moved_is_found_where_an_option_says(moved: Path) -> None:
    looks = [
        ("filter", moved / "run", "--what-if", CHANGE),
        ("trace", moved / "run", "phase1", "0", "--source"),
        ("dump", moved / "run", moved / "dumped", "--in-process"),
    ]
    for words in looks:
        lost = run_command(*words)
        assert lost.returncode == 1 and f"--data {moved}/old=NEW" in lost.stderr, words
        assert "error: the run needs " in lost.stderr and len(lost.stderr.splitlines()) == 1
        found = run_command(*words, "--data", f"{moved}/old/corpora={moved}/new")
        assert found.returncode == 0, found.stderr
    wrong = run_command(*looks[0], "--data", "/nowhere=/new")
    assert wrong.returncode == 1 and "write OLD=NEW, where OLD holds data that the recipe names: " in wrong.stderr


def test_a_single_file_that_is_gone_is_not_left_out(moved: Path, corpora: Path) -> None:
    (moved / "old").mkdir()
    shutil.copytree(corpora, moved / "old" / "corpora")
    gone = next((moved / "old" / "corpora" / "dolma").iterdir())
    gone.unlink()
    lost = run_command("dump", moved / "run", moved / "dumped", "--in-process")
    assert lost.returncode == 1
    assert f"error: the run needs dolma/{gone.name}, which is no longer below {gone.parent}; put it" in lost.stderr


def test_folders_with_an_equals_sign_and_patterns_move_too(moved: Path) -> None:
    stored = moved / "run" / "recipe.yaml"
    old = moved / "old" / "corpora"
    stored.write_text(stored.read_text().replace(str(old), "/d/lang=en"))
    value = stored_recipe(stored, moves=["/d/lang=en=/e/[x]", "/e/[x]/pile=s3://b/pile/"])[1]
    assert value["sources"]["dolma"]["root"] == "/e/[x]/dolma"
    assert value["sources"]["pile"]["root"] == "s3://b/pile"
    assert value["contamination"]["benchmarks"]["sample"]["files"] == ["/e/[[]x]/benchmarks.jsonl"]

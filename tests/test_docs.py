"""What the documentation shows, as it stands: its code runs, the files it names are there, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.test_package import ROOT, copy_of_the_tree

BLOCK = re.compile(r"^```\w+ name=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(
    r"`((?:pipeline|trainer|tokenize|recipes|tests|benchmarks|docs|commands)/[\w/.*-]+|[\w-]+\.(?:py|md))`"
)
LINK = re.compile(r"\]\(([^)#:]+)\)")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall((ROOT / "docs" / "extending.md").read_text()))


def apply(diff: str, tree: Path) -> None:
    """Apply hunks that are found by their text."""
    path, old, new = Path(), list[str](), list[str]()

    def close() -> None:
        if old:
            text = path.read_text()
            assert text.count("\n".join(old)) == 1, f"{path} has no such lines: {old}"
            path.write_text(text.replace("\n".join(old), "\n".join(new)))
        old.clear()
        new.clear()

    for line in [*diff.splitlines(), "@@"]:
        if line.startswith("+++ b/"):
            path = tree / line.removeprefix("+++ b/")
        elif line.startswith(("@@", "--- ")):
            close()
        else:
            (old if line[0] == "-" else new).append(line[1:])


def curate(recipe: Path, out: Path, environment: dict[str, str], *sets: str) -> None:
    command = [sys.executable, "-m", "fox1", "curate", str(recipe), "--out", str(out), "--in-process"]
    options = [word for change in (*SMALL, *sets) for word in ("--set", change)]
    done = subprocess.run([*command, *options], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_filter_of_the_documentation_drops_what_it_says(tmp_path: Path, corpora: Path, run: Path) -> None:
    given = blocks()
    assert len(given["shouting.py"].splitlines()) <= 10
    for name in ("shouting.py", "shouting.yaml"):
        (tmp_path / name).write_text(given[name])
    environment = {"FOX1_DATA": str(corpora), "PYTHONPATH": str(tmp_path)}
    model = f"tokenizer.model={run / 'prepare' / 'tokenizer.model'}"
    command = [sys.executable, "-m", "fox1", "curate", str(tmp_path / "shouting.yaml"), "--out", str(tmp_path / "run")]
    options = ["--in-process", "--stages", "filter", *(w for s in (*SMALL, model) for w in ("--set", s))]
    done = subprocess.run([*command, *options], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check = [sys.executable, "-m", "fox1", "recipe", "check", str(tmp_path / "shouting.yaml")]
    done = subprocess.run(check, env={**os.environ, **environment}, capture_output=True, text=True)
    assert "budgets: the sources are large enough" in done.stdout
    assert "plug-in calm: shouting.calm, loaded" in done.stdout
    done = subprocess.run(check, env={**os.environ, "FOX1_DATA": str(corpora)}, capture_output=True, text=True)
    assert done.returncode == 1 and "plug-in calm: cannot import shouting.calm" in done.stderr
    import pyarrow.parquet as pq

    tables = [pq.read_table(p, columns=["reasons"]) for p in (tmp_path / "run" / "filtered").rglob("*.parquet")]
    dropped = sum("calm" in reasons for t in tables for reasons in t.column("reasons").to_pylist())
    columns = [
        pq.read_table(p, columns=["plugin_calm"]).column(0) for p in (tmp_path / "run" / "signals").rglob("*.parquet")
    ]
    verdicts = [v for c in columns for v in c.to_pylist()]
    assert dropped == sum(v != "" for v in verdicts) and set(verdicts) <= {"", "shouts"}
    sys.path.insert(0, str(tmp_path))
    try:
        from shouting import calm

        assert calm("A QUIET WORD", {}) == "shouts" and calm("A quiet word", {}) is True
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.slow
def test_a_sixth_corpus_of_the_documentation_is_curated(tmp_path: Path, corpora: Path, run: Path) -> None:
    given = blocks()
    tree = copy_of_the_tree(tmp_path / "site" / "fox1")
    (tree / "pipeline" / "sources" / "forum.py").write_text(given["pipeline/sources/forum.py"])
    apply(given["forum.diff"], tree)
    added = [line for line in given["forum.diff"].splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert len(given["pipeline/sources/forum.py"].splitlines()) + len(added) <= 30
    data = tmp_path / "data"
    data.mkdir()
    for corpus in corpora.iterdir():
        (data / corpus.name).symlink_to(corpus)
    (data / "forum").mkdir()
    posts = [
        {
            "body": f"How do I mend a bicycle number {i}? " + "You take the wheel off and look. " * 20,
            "board": board,
            "post": i,
        }
        for i, board in enumerate(["talk", "howto", "talk"])
    ]
    lines = [*map(json.dumps, posts), '{"body": 5}']
    (data / "forum" / "posts.jsonl").write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "six.yaml"
    recipe.write_text(given["six.yaml"])
    model = f"tokenizer.model={run / 'prepare' / 'tokenizer.model'}"
    environment = {"FOX1_DATA": str(data), "PYTHONPATH": str(tree.parent)}
    curate(recipe, tmp_path / "run", environment, model, "max_bad_rows=1")
    funnel = json.loads((tmp_path / "run" / "stats" / "funnel.json").read_text())["corpora"]
    forum = next(c for c in funnel if c["corpus"] == "forum")
    assert forum["rows"] == 4 and forum["quarantined"] == 1 and set(forum["subsets"]) == {"talk", "howto"}
    import pyarrow.parquet as pq

    signals = pq.read_table(tmp_path / "run" / "signals" / "forum" / "posts.jsonl.parquet").to_pylist()
    assert [s["domain"] for s in signals] == ["dialogue", "q&a", "dialogue"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_and_links_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    for name in PATH.findall(text):
        found = [p for base in (ROOT, ROOT / "docs", ROOT / "benchmarks", page.parent) for p in base.glob(name)]
        found += [
            p
            for part in ("pipeline", "trainer", "tokenize", "recipes")
            for p in (ROOT / part).rglob(name.split("/")[-1])
        ]
        assert found or name in blocks(), f"{page.name} names {name}, which is not there"
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"

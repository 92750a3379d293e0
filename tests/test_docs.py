"""What the documentation shows, as it stands: its code runs, the files it names exist, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.test_package import PARTS, ROOT, copy_of_the_tree

BLOCK = re.compile(r"^```\w+ name=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = (*PARTS, "tests", "benchmarks", "docs")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w/.*-]*|[\w-]+\.py)`")
MODULE = re.compile(r"python -m ((?:fox1|tests|benchmarks)(?:\.[a-z_]+)*)(?![\w.])")
LINK = re.compile(r"\]\(([^)#:]+)\)")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.md")})
PAGES.append(ROOT / "benchmarks" / "README.md")
COLUMNS = 100


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
    environment = {"FOX1_DATA": str(corpora)}
    model = f"tokenizer.model={run / 'prepare' / 'tokenizer.model'}"
    command = [sys.executable, "-m", "fox1", "curate", str(tmp_path / "shouting.yaml"), "--out", str(tmp_path / "run")]
    options = ["--in-process", "--stages", "filter", *(w for s in (*SMALL, model) for w in ("--set", s))]
    done = subprocess.run([*command, *options], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check = [sys.executable, "-m", "fox1", "recipe", "check", str(tmp_path / "shouting.yaml")]
    done = subprocess.run(check, env={**os.environ, **environment}, capture_output=True, text=True)
    assert "budgets: the sources are large enough" in done.stdout
    assert f"plug-in calm: {tmp_path}/shouting.py:calm, loaded" in done.stdout
    gone = tmp_path / "elsewhere.yaml"
    gone.write_text(given["shouting.yaml"].replace("shouting.py", "elsewhere.py"))
    done = subprocess.run([*check[:-1], str(gone)], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 1 and "plug-in calm: cannot import" in done.stderr and "there is no file" in done.stderr
    import pyarrow.parquet as pq

    tables = [pq.read_table(p, columns=["reasons"]) for p in (tmp_path / "run" / "filtered").rglob("*.parquet")]
    dropped = sum("calm" in reasons for t in tables for reasons in t.column("reasons").to_pylist())
    columns = [
        pq.read_table(p, columns=["plugin_calm"]).column(0) for p in (tmp_path / "run" / "signals").rglob("*.parquet")
    ]
    verdicts = [v for c in columns for v in c.to_pylist()]
    assert dropped == sum(v != "" for v in verdicts) and set(verdicts) <= {"", "shouts"}
    calm = runpy.run_path(str(tmp_path / "shouting.py"))["calm"]
    assert calm("A QUIET WORD", {}) == "shouts" and calm("A quiet word", {}) is True


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


def named_files(page: Path) -> Iterator[tuple[str, bool]]:
    """Files, folders and modules that a page names, and whether they exist."""
    text = page.read_text()
    for name in PATH.findall(text):
        if "/" in name:
            yield name, any(ROOT.glob(name.rstrip("/"))) or name in blocks()
        else:
            yield name, any(p for part in FOLDERS for p in (ROOT / part).rglob(name)) or name in blocks()
    for name in MODULE.findall(text):
        path = ROOT.joinpath(*name.removeprefix("fox1").strip(".").split("."))
        yield name, path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    for name in LINK.findall(text):
        yield name, (page.parent / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_and_links_that_a_page_names_exist(page: Path) -> None:
    assert [name for name, exists in named_files(page) if not exists] == []


@pytest.mark.parametrize(
    "contract", sorted(p for part in PARTS for p in (ROOT / part).rglob("__init__.py")), ids=lambda p: p.parent.name
)
def test_files_that_the_contract_of_a_part_lists_exist(contract: Path) -> None:
    names = re.findall(r"(?:\w+/)*\w+\.py\b", ast.get_docstring(ast.parse(contract.read_text())) or "")
    places = (contract.parent, contract.parent.parent, ROOT)
    lost = [n for n in names if not any((p / n).exists() for p in places) and not any(contract.parent.rglob(n))]
    assert lost == []


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines of a page with their numbers, without code, tables and pictures."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("    ", "|", "![")):
            yield number, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_prose_wraps(page: Path) -> None:
    long = [f"{page.name}:{number}" for number, line in prose(page.read_text()) if len(line) > COLUMNS]
    assert long == [], f"prose is wider than {COLUMNS} columns"

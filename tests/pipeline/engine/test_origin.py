"""A run that takes from another one what still holds: it runs nothing twice, and the other run stays as it is."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.origin import origin_of
from fox1.pipeline.engine.tasks import InProcess, Task
from fox1.pipeline.run.artifacts import Artifact, write_json
from fox1.pipeline.run.paths import RunPaths
from fox1.storage import lease

from tests.conftest import SMALL, as_set, list_files, run_command

CALLS: list[str] = []


@dataclass(frozen=True)
class Written:
    """What a task of these tests returns."""

    file: Artifact
    n: int


def work(path: Path, value: int) -> Written:
    CALLS.append(f"{path.parent.name}/{path.name}")
    return Written(write_json(path, value), value)


def add(before: Artifact, path: Path) -> Written:
    CALLS.append(path.name)
    return Written(write_json(path, int(before.file.read_text()) + 1), 1)


def make(engine: Engine, first: int = 0) -> list[Written]:
    """Three numbers, and a sum of each and one.

    Args:
        first: the first of the three numbers, which a variant may change.
    """
    CALLS.clear()
    root = engine.paths.root
    numbers = engine.run("n", 1, [Task(f"t{i}", work, (root / "n" / f"{i}.json", i or first)) for i in range(3)])
    return engine.run(
        "sum", 1, [Task(f"t{i}", add, (n.file, root / "sum" / f"{i}.json")) for i, n in enumerate(numbers)]
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    root = tmp_path / "old"
    make(Engine(RunPaths(root), InProcess()))
    (root / "recipe.yaml").write_text("name: old\n")
    return root


@pytest.fixture
def unchanged(old: Path) -> Iterator[None]:
    before = list_files(old)
    yield
    assert list_files(old) == before


def variant(old: Path, out: Path, first: int = 0) -> tuple[Engine, list[Written]]:
    with origin_of(old, out) as origin:
        engine = Engine(RunPaths(out), InProcess(), origin=origin)
        return engine, make(engine, first)


@pytest.mark.usefixtures("unchanged")
def test_only_what_the_keys_vouch_for_is_taken_and_as_further_names_of_the_same_files(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    engine, results = variant(old, new, first=7)
    assert CALLS == ["n/0.json", "0.json"] and [r.file.file.read_text() for r in results] == ["8\n", "2\n", "3\n"]
    assert engine.reused == {"n": (2, 3), "sum": (2, 3)} and engine.origin and engine.origin.tasks == 4
    same = [(new / name).samefile(old / name) for name in ("n/0.json", "n/1.json", "sum/0.json", "sum/1.json")]
    assert same == [False, True, False, True]
    # Its own records say the same the next time, without the other run.
    again = Engine(RunPaths(new), InProcess())
    make(again, first=7)
    assert CALLS == [] and again.reused == {"n": (3, 3), "sum": (3, 3)}


@pytest.mark.usefixtures("unchanged")
def test_a_variant_that_redoes_what_it_took_leaves_the_other_run_alone(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    variant(old, new)
    engine = Engine(RunPaths(new), InProcess())
    make(engine, first=5)
    assert (new / "n" / "0.json").read_text() == "5\n" and (old / "n" / "0.json").read_text() == "0\n"
    # And back: the record of 5 no longer vouches for anything.
    variant(old, new)
    assert CALLS == [] and (new / "n" / "0.json").samefile(old / "n" / "0.json")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_files_are_copied_where_a_disk_makes_no_links(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def link(*_: Any, **__: Any) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", link)
    variant(old, tmp_path / "new")
    assert CALLS == []
    for name in ("n/0.json", "sum/2.json"):
        one, other = old / name, tmp_path / "new" / name
        assert one.read_bytes() == other.read_bytes() and not one.samefile(other)


def test_what_was_changed_in_the_other_run_and_what_may_have_read_it_is_made_again(old: Path, tmp_path: Path) -> None:
    time.sleep(0.02)
    (old / "n" / "1.json").write_text("9\n")
    time.sleep(0.02)
    os.utime(old / "records" / "sum" / "t0.json")  # as if it had been made after the change
    _, results = variant(old, tmp_path / "new")
    assert CALLS == ["n/1.json", "0.json"] and [r.file.file.read_text() for r in results] == ["1\n", "2\n", "3\n"]


def test_a_run_that_is_written_or_is_none_or_holds_the_new_one_is_refused(old: Path, tmp_path: Path) -> None:
    with lease.held(old, lease.RUN, alone=True), pytest.raises(ValueError, match="is being written by process"):
        variant(old, tmp_path / "new")
    with pytest.raises(ValueError, match=r"no run at .*nowhere; name the folder or URL of one"):
        variant(tmp_path / "nowhere", tmp_path / "new")
    for out in (old, old / "inside", tmp_path):
        with pytest.raises(ValueError, match="lie in each other; choose another --out"):
            variant(old, out)


def test_a_variant_of_a_run_has_the_bytes_of_a_run_of_its_own(run: Path, corpora: Path, tmp_path: Path) -> None:
    changes = as_set(*SMALL, "filters.web.min_words=90")
    before = list_files(run)
    options = ["--in-process", "--stages", "filter", *changes]
    done = run_command("curate", "sample", "--from", run, "--out", tmp_path / "new", *options, FOX1_DATA=str(corpora))
    assert done.returncode == 0, done.stderr
    assert f"of them taken from {run}" in done.stdout
    assert "scan           0.0 s  0 tasks" in done.stderr and list_files(run) == before
    taken = {p.relative_to(run) for p in (run / "signals").rglob("*.parquet")}
    assert taken and all((tmp_path / "new" / name).samefile(run / name) for name in taken)
    assert not (tmp_path / "new" / "decisions").exists()
    own = ["--stages", "filter", "--in-process", *changes]
    assert not run_command("curate", "sample", "--out", tmp_path / "alone", *own, FOX1_DATA=str(corpora)).returncode
    for part in ("prepare", "signals", "signatures", "filtered"):
        files = {p.relative_to(tmp_path / "alone"): p for p in (tmp_path / "alone" / part).rglob("*") if p.is_file()}
        assert files and all((tmp_path / "new" / name).read_bytes() == p.read_bytes() for name, p in files.items())


def test_what_a_run_was_made_with_is_shown_by_its_statistics(run: Path, corpora: Path, tmp_path: Path) -> None:
    options = ["--in-process", *as_set(*SMALL, "phases.phase3.tokens=50K")]
    done = run_command("curate", "sample", "--from", run, "--out", tmp_path / "new", *options, FOX1_DATA=str(corpora))
    assert done.returncode == 0, done.stderr
    said = run_command("stats", tmp_path / "new").stdout.splitlines()[0]
    assert said.startswith("curated by fox1 curate sample --set scale=0.1 ")
    assert said.endswith(f"--set phases.phase3.tokens=50K --from {run}")

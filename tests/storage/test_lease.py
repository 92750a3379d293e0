"""Leases on a disk: whose a folder is, who writes it, who reads it, and that a lost one publishes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fox1.pipeline.run.artifacts import publish, remove, write_json
from fox1.storage import lease

from tests.conftest import run_command


def mark(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / ".fox1.json").read_text()))


@pytest.mark.parametrize("kind", [lease.RUN, lease.DUMP, lease.TRAINING])
def test_a_folder_that_is_neither_empty_nor_ours_is_refused_untouched(kind: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with (
        pytest.raises(ValueError, match=f"is not empty and holds no {kind} of fox1"),
        lease.held(tmp_path, kind),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_a_new_folder_is_marked_and_each_writer_is_a_generation(tmp_path: Path) -> None:
    for number in (1, 2):
        with lease.held(tmp_path / "run", lease.RUN) as held:
            assert held.generation == number == len(held.began)
    assert mark(tmp_path / "run")["kind"] == "run"
    with pytest.raises(ValueError, match="holds a run of fox1, not a dump"), lease.held(tmp_path / "run", lease.DUMP):
        pass


@pytest.mark.parametrize(
    ("kind", "file"),
    [(lease.RUN, "manifest.json"), (lease.DUMP, "__fox1/phase.json"), (lease.TRAINING, "step-00000001/manifest.json")],
)
def test_what_an_older_fox1_wrote_is_marked(kind: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text('{"artifacts": {}}')
    with lease.held(tmp_path, kind):
        assert mark(tmp_path)["kind"] == kind


def test_curate_refuses_a_folder_of_its_users_in_one_line(tmp_path: Path) -> None:
    for name in ("index/photo.jpg", "phases/thesis.tex", ".draft.tmp", "records/1998.json"):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text("mine")
    before = sorted(p for p in (tmp_path / "home").rglob("*"))
    done = run_command("curate", "sample", "--out", tmp_path / "home", "--in-process", FOX1_DATA=str(tmp_path / "data"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is not empty and holds no run" in done.stderr
    assert sorted((tmp_path / "home").rglob("*")) == before


def test_a_lease_that_is_a_link_truncates_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for name in (".lease", ".readers"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to(victim)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link"), lease.held(folder, lease.RUN, alone=True):
            pass
    assert victim.read_text() == "whole"


def test_what_lost_its_lease_neither_publishes_nor_deletes(tmp_path: Path) -> None:
    with lease.held(tmp_path / "run", lease.RUN) as held:
        kept = write_json(tmp_path / "run" / "kept.json", 1).file
        (tmp_path / "run" / ".lease").write_text('{"host": "other", "process": 7, "own": "another"}')
        says = "was taken over by process 7 on other while this process was paused or cut off"
        with pytest.raises(lease.LeaseLost, match=says):
            write_json(kept, 2)
        with pytest.raises(lease.LeaseLost, match=says):
            remove(kept)
    # A worker that outlived its driver: nobody holds the folder.
    with lease.under(held), pytest.raises(lease.LeaseLost, match=says):
        write_json(kept, 3)
    assert kept.read_text() == "1\n" and not list((tmp_path / "run").glob("*.tmp"))


def test_a_lease_that_is_lost_while_a_file_is_written_hides_the_file(tmp_path: Path) -> None:
    with lease.held(tmp_path, lease.RUN), pytest.raises(lease.LeaseLost), publish(tmp_path / "f") as out:
        out.write(b"half")
        (tmp_path / ".lease").write_text("{}")
    assert not (tmp_path / "f").exists()


def test_nothing_is_published_or_deleted_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victims").mkdir()
    (tmp_path / "victims" / "a.json").write_text("whole")
    with lease.held(tmp_path / "run", lease.RUN):
        (tmp_path / "run" / "phases").symlink_to(tmp_path / "victims")
        for act in (lambda path: write_json(path, 1), remove):
            with pytest.raises(ValueError, match=r"run/phases is a symbolic link"):
                act(tmp_path / "run" / "phases" / "a.json")
    assert [p.read_text() for p in (tmp_path / "victims").iterdir()] == ["whole"]


def test_nobody_curates_a_run_that_a_training_reads_nor_trains_on_one_that_is_written(tmp_path: Path) -> None:
    with lease.held(tmp_path, lease.RUN, alone=True):
        pass
    with lease.reading(tmp_path), lease.reading(tmp_path):
        with (
            pytest.raises(ValueError, match="by `fox1 curate --from`; wait until it ends, or choose another --out"),
            lease.held(tmp_path, lease.RUN, alone=True),
        ):
            pass
        with lease.held(tmp_path, lease.RUN):  # as gc does
            pass
    with (
        lease.held(tmp_path, lease.RUN, alone=True),
        pytest.raises(ValueError, match=r"is being written by process \d+"),
        lease.reading(tmp_path),
    ):
        pass
    with lease.held(tmp_path, lease.RUN, alone=True), lease.reading(tmp_path / "elsewhere"):
        pass


def test_what_was_written_after_a_successor_began_is_outlived(tmp_path: Path) -> None:
    held = lease.Lease(tmp_path, "x", 3, (100, 200, 300))
    assert [held.outlived(1, at) for at in (150, 200, 201)] == [False, False, True]
    assert held.outlived(2, 301) and not held.outlived(3, 999) and not held.outlived(0, 999)

"""Keys of tasks follow from what the tasks are given; records hold what the tasks return."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fox1.pipeline.engine.keys import TaskKeys, identity_of
from fox1.pipeline.engine.records import figures_of, result_of, result_type, write_record
from fox1.pipeline.run.artifacts import Artifact, content_key
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.run.identity import Group, SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import StepRecords


def task_key(step: str, version: int, arguments: tuple[object, ...]) -> str:
    """The key of one task."""
    return TaskKeys(step, version).of(arguments)


@dataclass(frozen=True)
class Settings:
    """Settings of a task."""

    depth: int = 1
    names: tuple[str, ...] = ("a", "b")


ARTIFACT = Artifact("/run/x.parquet", 10, 2, "hash", 5)
FILE = SourceFile("pile", "a.jsonl", "/data/a.jsonl", 3, "v1", "pile", False, 7)


@pytest.mark.parametrize(
    "other",
    [
        (Settings(depth=2), ARTIFACT, FILE),
        (Settings(names=("b", "a")), ARTIFACT, FILE),
        (Settings(), dataclasses.replace(ARTIFACT, hash="other"), FILE),
        (Settings(), ARTIFACT, dataclasses.replace(FILE, version="v2")),
        (Settings(), ARTIFACT, dataclasses.replace(FILE, file_hash=8)),
    ],
)
def test_a_key_changes_with_every_setting_and_with_what_a_file_holds(other: tuple[object, ...]) -> None:
    assert task_key("s", 1, other) != task_key("s", 1, (Settings(), ARTIFACT, FILE))


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        (ARTIFACT, dataclasses.replace(ARTIFACT, path="/elsewhere/x.parquet", modified=9)),
        (FILE, dataclasses.replace(FILE, url="s3://bucket/a.jsonl")),
        (Group("pile", 0, False, (FILE,)), Group("pile", 0, False, (dataclasses.replace(FILE, url="/b"),))),
        (Path("/run/out"), Path("/other/out")),
        (RunPaths(Path("/run")), RunPaths(Path("/other"))),
        (FileSet(("/a",), "digest"), FileSet(("/b",), "digest")),
    ],
)
def test_a_key_does_not_change_with_the_place_of_a_file(given: object, moved: object) -> None:
    assert task_key("s", 1, (given,)) == task_key("s", 1, (moved,))


def test_a_key_changes_with_step_version_and_order_of_arguments() -> None:
    keys = [task_key("s", 1, (1, 2)), task_key("t", 1, (1, 2)), task_key("s", 2, (1, 2)), task_key("s", 1, (2, 1))]
    assert len(set(keys)) == 4


def test_arrays_count_by_value_type_and_shape() -> None:
    value = np.arange(4, dtype=np.uint64)
    others = [value.astype(np.int64), value.reshape(2, 2), value[::-1], value[:3]]
    assert identity_of(value) == identity_of(value.copy())
    assert all(identity_of(other) != identity_of(value) for other in others)


def test_what_has_no_identity_cannot_be_an_argument(tmp_path: Path) -> None:
    with open(tmp_path / "x", "w") as file, pytest.raises(TypeError, match="TextIOWrapper cannot be an argument"):
        identity_of(file)


def test_file_sets_join_and_leave_out_what_is_empty() -> None:
    a, b, nothing = (dataclasses.replace(ARTIFACT, path=f"/{n}", hash=n, rows=int(n != "c")) for n in "abc")
    both = FileSet.filled([a, nothing, b])
    assert list(both) == [Path("/a"), Path("/b")] and both.digest == FileSet.of([a, b]).digest
    assert both.digest != FileSet.of([b, a]).digest
    assert (FileSet() + both) == (both + FileSet()) == both and not FileSet()
    assert (FileSet.of([a]) + FileSet.of([b])).files == both.files


class Pair(NamedTuple):
    """Two ids, as records hold many of."""

    left: int
    right: int


@dataclass(frozen=True)
class Made:
    """What a task returns."""

    first: Artifact
    absent: Artifact | None
    more: tuple[Artifact, ...]
    by_name: dict[str, Artifact]
    pairs: tuple[Pair, ...]
    tokens: dict[int, int] = field(default_factory=dict)
    why: str = ""


def make() -> Made:
    raise NotImplementedError


def test_a_record_gives_back_what_the_task_returned(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    files = [Artifact(str(tmp_path / f"{i}.arrow"), i, i, f"hash {i}", i) for i in range(4)]
    made = Made(files[0], None, tuple(files[1:3]), {"x/y": files[3]}, (Pair(1, (1 << 64) - 1),), {7: 9}, "so")
    write_record(paths, "s", "t", "key", made)
    records = StepRecords(paths, "s")
    record = records.found["t"]
    assert result_of(records, record, result_type(make)) == (made, files) and record.key == "key"
    assert record.outputs == ("0.arrow", "1.arrow", "2.arrow", "3.arrow")
    # A run may be moved: its records name files below it.
    (tmp_path / "moved").mkdir()
    (tmp_path / "records").rename(tmp_path / "moved" / "records")
    there = StepRecords(RunPaths(tmp_path / "moved"), "s")
    moved, _ = result_of(there, there.found["t"], Made)
    assert moved.first.path == str(tmp_path / "moved" / "0.arrow")


def test_the_figures_of_a_result_are_its_fields_without_files() -> None:
    made = Made(ARTIFACT, None, (ARTIFACT,), {"a": ARTIFACT}, (), {1: 2}, "so")
    assert figures_of(made) == {"pairs": (), "tokens": {"1": 2}, "why": "so"}


def test_a_function_that_says_nothing_of_its_result_is_no_task() -> None:
    def silent() -> dict[str, int]:
        return {}

    with pytest.raises(TypeError, match="annotate the dataclass"):
        result_type(silent)


def test_a_task_has_the_same_key_whatever_tasks_came_before_it() -> None:
    shared = Settings(2)
    asked = [(shared, "a"), (shared, ARTIFACT), (Settings(), ARTIFACT, [1]), (shared,), (None, 1)]
    keys = TaskKeys("s", 1)
    assert [keys.of(arguments) for arguments in asked] == [task_key("s", 1, arguments) for arguments in asked]
    assert task_key("s", 1, asked[0]) == content_key("s", 1, [identity_of(a) for a in asked[0]])

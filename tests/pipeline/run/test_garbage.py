"""What a run deletes: only what its completion records name, and nothing outside its folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from fox1.pipeline.engine import engine as engines
from fox1.pipeline.engine.engine import Engine, StageFailed
from fox1.pipeline.engine.tasks import InProcess, Task
from fox1.pipeline.run import checksums, garbage
from fox1.pipeline.run.artifacts import Artifact, content_key, write_json
from fox1.pipeline.run.checksums import verify
from fox1.pipeline.run.garbage import collect, remove_stale
from fox1.pipeline.run.manifest import write_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.published import table_of
from fox1.pipeline.run.records import read_part
from fox1.storage import lease
from fox1.tokenize.model import TokenizerSettings


@dataclass(frozen=True)
class Written:
    """What the task of these tests returns."""

    files: tuple[Artifact, ...]


def write(folder: Path, names: tuple[str, ...]) -> Written:
    return Written(tuple(write_json(folder / name, name) for name in names))


def finish(root: Path, **names: tuple[str, ...]) -> Engine:
    """Run a task for each keyword, which writes these names into `phases/`, and publish a manifest of what they wrote."""
    with lease.held(root, lease.RUN) as held:
        engine = Engine(RunPaths(root, lease=held), InProcess())
        engine.run("mix.write", 1, [Task(task, write, (root / "phases", chosen)) for task, chosen in names.items()])
        remove_stale(engine.paths, engine.finished, ("phases",))
        last = table_of([("stats/x.json", Artifact("", 0, 0, ""))])
        write_manifest(engine.paths, [], [last, *engine.finished.values()], TokenizerSettings())
    return engine


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_files_of_an_earlier_mixture_go_and_those_of_a_user_stay(tmp_path: Path) -> None:
    finish(tmp_path, a=("1-of-2", "2-of-2"), b=("other",))
    for name in ("notes.txt", "deep/data-00000-of-00001.arrow", ".draft.tmp"):
        (tmp_path / "phases" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "phases" / name).write_text("mine")
    # The task writes other files, and another task is none any more.
    finish(tmp_path, a=("1-of-1",))
    assert files(tmp_path / "phases") == {"1-of-1", "notes.txt", "deep/data-00000-of-00001.arrow", ".draft.tmp"}
    assert files(tmp_path / "records") == {"mix.write/a.json"}
    assert collect(RunPaths(tmp_path)) == ([], 0)
    assert "notes.txt" in files(tmp_path / "phases")


@pytest.mark.parametrize("name", ["../victim", "{absolute}", "phases/../../victim", "linked/victim"])
def test_a_record_deletes_and_vouches_for_nothing_outside_its_run(name: str, tmp_path: Path) -> None:
    root, victim = tmp_path / "run", tmp_path / "victim"
    finish(root, a=("x",))
    victim.write_text('"x"\n')
    (root / "linked").symlink_to(tmp_path)
    name = name.format(absolute=victim)
    path = root / "records" / "mix.write" / "a.json"
    text = path.read_text().replace('"phases/x"', json.dumps(name))
    record = json.loads(text)
    record.pop("hash")
    path.write_text(json.dumps({**record, "hash": content_key(record)}))
    assert finish(root, a=("x",)).reused["mix.write"] == (0, 1)
    (root / "records" / "mix.write" / "b.json").write_text(json.dumps({"outputs": [{"path": name}]}))
    (root / "phases" / "stray").write_text("mine")
    if name.startswith("phases"):
        with pytest.raises(ValueError, match="not below its folder"):
            collect(RunPaths(root))
    else:  # in no folder of artifacts
        assert collect(RunPaths(root)) == ([], 0)
    assert victim.exists() and (root / "phases" / "stray").exists()


def test_gc_and_verify_follow_no_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "run", tmp_path / "outside"
    finish(root, a=("x",))
    (root / "phases").rename(outside)
    (root / "phases").symlink_to(outside)
    with pytest.raises(ValueError, match="run/phases is a symbolic link"):
        collect(RunPaths(root))
    assert any(
        "phases/x is not read: " in problem and "symbolic link" in problem for problem in verify(RunPaths(root))[2]
    )
    with pytest.raises(ValueError, match="run/phases is a symbolic link"):
        finish(root, a=("y",))
    assert files(outside) == {"x"}


def test_a_log_that_is_a_link_is_not_appended_to(tmp_path: Path) -> None:
    root, victim = tmp_path / "run", tmp_path / "victim"
    finish(root, a=("x",))
    victim.write_text("whole")
    for link in (root / "timings" / "tasks.jsonl", root / "timings"):
        if link.is_dir():
            (link / "tasks.jsonl").unlink()
            link.rmdir()
            link.symlink_to(tmp_path)
        else:
            link.unlink()
            link.symlink_to(victim)
        with pytest.raises(ValueError, match=f"{link.name} is a symbolic link"):
            finish(root, a=(link.name,))
    assert victim.read_text() == "whole" and not (tmp_path / "tasks.jsonl").exists()


def test_a_record_that_a_paused_writer_left_vouches_only_for_bytes_with_their_hash(tmp_path: Path) -> None:
    path, record = tmp_path / "phases" / "x", tmp_path / "records" / "mix.write" / "a.json"
    finish(tmp_path, a=("x",))
    with lease.held(tmp_path, lease.RUN) as second:
        pass
    late = second.began[1] + 1
    os.utime(record, ns=(late, late))
    # Its bytes are whole: they are believed, and the record becomes one of the present writer.
    assert finish(tmp_path, a=("x",)).reused["mix.write"] == (1, 1)
    [part] = record.parent.iterdir()
    assert [r.generation for r in read_part(part)[1]] == [3] and read_part(part)[0] == 3
    assert finish(tmp_path, a=("x",)).reused["mix.write"] == (1, 1)
    # Another one's, of the same size and time.
    before = path.stat().st_mtime_ns
    path.write_text('"y"\n')
    os.utime(path, ns=(before, before))
    with lease.held(tmp_path, lease.RUN) as fifth:
        pass
    os.utime(part, ns=(fifth.began[3] + 1,) * 2)
    assert finish(tmp_path, a=("x",)).reused["mix.write"] == (0, 1) and path.read_text() == '"x"\n'


def test_gc_and_verify_run_as_tasks_that_leave_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "DELETED_AT_ONCE", 2)
    monkeypatch.setattr(checksums, "PIECE_FILES", 2)
    names = tuple(str(n) for n in range(5))
    finish(tmp_path, a=names, b=("x",))
    left = Engine(RunPaths(tmp_path), InProcess())
    # Of a manifest without the first task's files, as of a recipe that has none.
    write_manifest(
        left.paths,
        [],
        [table_of([("stats/x.json", Artifact("", 0, 0, "")), *phases(tmp_path, "x")])],
        TokenizerSettings(),
    )
    before = files(tmp_path)
    listed = [f"phases/{name}" for name in names]
    assert collect(left.paths, dry_run=True, spread=partial(left.spread, "gc"))[0] == [
        *listed,
        "records/mix.write/a.json",
    ]
    assert files(tmp_path) == before
    assert collect(left.paths, spread=partial(left.spread, "gc"))[0] == [*listed, "records/mix.write/a.json"]
    assert files(tmp_path / "phases") == {"x"} and files(tmp_path / "records") == {"mix.write/b.json"}
    assert "gc" not in (tmp_path / "timings" / "tasks.jsonl").read_text()

    finish(tmp_path, a=names, b=("x",))
    (tmp_path / "phases" / "3").unlink()
    (tmp_path / "phases" / "x").write_text("'x'\n")
    before = files(tmp_path)
    checked, _, problems = verify(left.paths, partial(left.spread, "verify"))
    assert checked == 7 and files(tmp_path) == before
    wrong = ["phases/3 is missing", "phases/x does not match its checksum", "stats/x.json is missing"]
    assert problems == verify(left.paths)[2] == wrong


def phases(root: Path, *names: str) -> list[tuple[str, Artifact]]:
    """Files of `phases/`, as a table takes them."""
    return [(f"phases/{n}", Artifact("", (root / "phases" / n).stat().st_size, 0, "")) for n in names]


def test_what_fails_in_a_task_without_a_record_is_one_line(tmp_path: Path) -> None:
    engine = Engine(RunPaths(tmp_path), InProcess())
    with pytest.raises(StageFailed, match=r"gc failed: .*not below its folder"):
        list(engine.spread("gc", garbage.delete, [(engine.paths, ["../x"])]))


def test_gc_takes_single_tasks_out_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LOOSE", 1)
    finish(tmp_path, a=("1",), b=("2",), c=("3",))
    [part] = (tmp_path / "records" / "mix.write").iterdir()
    write_manifest(
        RunPaths(tmp_path),
        [],
        [table_of([("stats/x.json", Artifact("", 0, 0, "")), *phases(tmp_path, "1", "3")])],
        TokenizerSettings(),
    )
    assert collect(RunPaths(tmp_path)) == (["phases/2"], 4)
    assert [record.task for record in read_part(part)[1]] == ["a", "c"]
    assert collect(RunPaths(tmp_path)) == ([], 0)

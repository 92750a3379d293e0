"""Runs and checkpoints in a store: the same bytes, whatever a node has of them, and whatever the store does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fox1.pipeline.engine.tasks import InProcess, Outcome, Waiting, attempt
from fox1.storage import access, lease, scratch, store
from fox1.storage.store import Mirrored, open_root

from tests.conftest import ONE_LAYER, SMALL, as_set, run_command, run_to_train

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of this module, and its bucket."""
    import fsspec

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "FOX1_SCRATCH": str(tmp_path_factory.mktemp("scratch")),
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    fsspec.filesystem("s3", skip_instance_cache=True).clear_instance_cache()
    # Servers of one process share what they hold.
    with suppress(FileExistsError):
        fsspec.filesystem("s3").mkdir("bucket")
    try:
        yield "s3://bucket"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        fsspec.filesystem("s3", skip_instance_cache=True).clear_instance_cache()
        server.stop()


def another_node(folder: Path | None = None) -> None:
    """Forget what this node has: all is in the store, or lost. Of one folder: what a driver has listed it remembers."""
    shutil.rmtree(str(folder or store.scratch()), ignore_errors=True)
    if folder is None:
        store._known.clear()


# -- paths -------------------------------------------------------------------------------------------------------------


def test_a_url_is_a_place_and_a_place_a_url(bucket: str) -> None:
    import pickle

    root = open_root("s3://bucket/runs/x/")
    assert isinstance(root, Mirrored) and root.url == "s3://bucket/runs/x"
    inner = root / "phases" / "a.arrow"
    for path in (inner, pickle.loads(pickle.dumps(inner)), store.as_path(str(inner)), inner.parent / "a.arrow"):
        assert isinstance(path, Mirrored) and path.url == "s3://bucket/runs/x/phases/a.arrow"
    assert store.shown(f"cannot read {inner}: gone") == "cannot read s3://bucket/runs/x/phases/a.arrow: gone"
    assert not isinstance(open_root("/data/runs"), Mirrored) and open_root("runs") == Path.cwd() / "runs"
    for wrong in ("s3://", "s3://bucket/../x", "s3://bucket//x", "://x"):
        with pytest.raises(ValueError, match="is not a folder of a store"):
            open_root(wrong)


def test_files_are_uploaded_fetched_listed_and_removed(bucket: str) -> None:
    from fox1.pipeline.run.artifacts import publish, read_json, write_json

    root = open_root(f"{bucket}/files")
    artifact = write_json(root / "a" / "one.json", {"x": 1})
    assert isinstance(artifact.file, Mirrored)
    with pytest.raises(ZeroDivisionError), publish(root / "a" / "two.bin") as out:
        out.write(b"half")
        raise ZeroDivisionError
    another_node()
    assert (root / "a" / "one.json").exists() and not (root / "a" / "two.bin").exists()
    assert (root / "a" / "one.json").stat().st_size == artifact.bytes
    assert store.read_range(root / "a" / "one.json", 0, 1) == b"{" and not (root / "a" / "one.json").local.exists()
    assert read_json(root / "a" / "one.json") == {"x": 1}
    write_json(root / "b.json", [])
    another_node()
    assert [p.name for p in root.rglob("*.json")] == ["one.json", "b.json"]
    assert sorted(p.name for p in root.iterdir()) == ["a", "b.json"]
    (root / "a" / "one.json").unlink()
    another_node()
    assert [p.name for p in root.rglob("*")] == ["b.json"]
    (root / "none").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"s3://bucket/files/none.json is missing"):
        read_json(root / "none.json")


def test_a_mirror_is_bounded_by_what_was_used_longest_ago(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = open_root(f"{bucket}/bounded")
    for k in range(6):
        (root / f"{k}.bin").write_bytes(bytes(100_000))
    another_node()
    monkeypatch.setenv("FOX1_SCRATCH_BYTES", "350000")
    monkeypatch.setattr(scratch, "_left", 0)
    for k in range(6):
        os.fspath(root / f"{k}.bin")
        long_ago = time.time() - 1000 + k
        os.utime((root / f"{k}.bin").local, (long_ago, 0))
    os.fspath(root / "0.bin")
    left = {p.name for p in (root.local).iterdir()}
    assert "0.bin" in left and len(left) <= 4
    assert (root / "1.bin").read_bytes() == bytes(100_000)


def test_a_run_takes_objects_of_another_one_without_reading_them(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fox1.pipeline.engine.engine import Engine
    from fox1.pipeline.engine.origin import origin_of
    from fox1.pipeline.run.paths import RunPaths

    from tests.pipeline.engine.test_origin import CALLS, make

    old, new = open_root(f"{bucket}/old"), open_root(f"{bucket}/new")
    (old / "recipe.yaml").write_text("name: old")
    make(Engine(RunPaths(old), InProcess()))
    another_node()
    monkeypatch.setattr(store, "upload", None)  # nothing is sent
    with origin_of(old, new) as origin:
        before = [p.url for p in store._listed(old)]
        monkeypatch.setattr(access, "FIRST_PAUSE", 0.0)
        engine = Engine(RunPaths(new), InProcess(), origin=origin)
        results = make(engine)
        assert CALLS == [] and origin.tasks == 6 and [p.url for p in store._listed(old)] == before
    assert not results[0].file.file.local.exists()  # type: ignore[attr-defined]
    another_node()
    assert [r.file.file.read_text() for r in results] == ["1\n", "2\n", "3\n"]
    make(Engine(RunPaths(new), InProcess()))
    assert CALLS == []


# -- failures ----------------------------------------------------------------------------------------------------------


def test_errors_for_a_while_are_survived_and_for_good_are_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "FIRST_PAUSE", 0.001)
    failing = iter([OSError("reset"), TimeoutError("slow"), RuntimeError("throttled")])

    def call() -> int:
        for error in failing:
            raise error
        return 7

    assert access.retried(call, "s3://b/x") == 7

    def refused() -> int:
        raise OSError("SlowDown\nmore")

    with pytest.raises(
        OSError, match=r"s3://b/x: the store failed 7 times in a row \(OSError: SlowDown\); run the same command again"
    ):
        access.retried(refused, "s3://b/x")
    calls = []

    def denied() -> int:
        calls.append(1)
        raise PermissionError("Forbidden")

    with pytest.raises(PermissionError, match="check the credentials"):
        access.retried(denied, "s3://b/x")
    assert len(calls) == 1


@pytest.mark.slow
def test_a_folder_has_one_writer_and_is_free_after_its_end_or_death(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.2)
    root = open_root(f"{bucket}/one")
    assert isinstance(root, Mirrored)
    with (
        lease.held(root),
        pytest.raises(ValueError, match=r"s3://bucket/one is being written by process \d+"),
        lease.held(root),
    ):
        pass
    with lease.held(root):
        pass
    objects, key = access.store_of(root.url + "/.lease")
    # Of a machine that died: nothing changes any more.
    objects.pipe_file(key, json.dumps({"host": "gone", "process": 1, "own": "x", "beat": 9}).encode())
    began = time.monotonic()
    with lease.held(root):
        assert time.monotonic() - began > 0.5
    # Of a process of this machine that was killed: at once.
    monkeypatch.setattr(lease, "BEAT", 20.0)
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    import socket

    objects.pipe_file(key, json.dumps({"host": socket.gethostname(), "process": int(done.stdout), "own": "x"}).encode())
    began = time.monotonic()
    with lease.held(root):
        assert time.monotonic() - began < 10


def test_a_writer_that_was_paused_past_its_lease_publishes_nothing(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fox1.pipeline.run.artifacts import remove, write_json

    monkeypatch.setattr(lease, "BEAT", 0.1)
    root = open_root(f"{bucket}/fenced")
    objects, key = access.store_of(root.url + "/.lease")
    with lease.held(root, lease.RUN) as first:
        write_json(root / "a.json", "first")
        # Its heart stands still, and another process takes over.
        objects.rm_file(key)
        with lease.held(root, lease.RUN) as second:
            assert second.generation == first.generation + 1
            write_json(root / "a.json", "second")
            write_json(root / "b.json", "second")
            # Awake again, it has not looked yet: a request that was under way creates nothing over another's object.
            lease._leases.remove(second)
            lease._confirmed[first.own] = lease.time.clock_gettime(lease._CLOCK) + 100, b""
            for name in ("a.json", "b.json"):
                with pytest.raises(lease.LeaseLost, match=r"s3://bucket/fenced was taken over by process \d+"):
                    write_json(root / name, "first")
            del lease._confirmed[first.own]
            for act in (lambda: write_json(root / "c.json", "first"), lambda: remove(root / "a.json")):
                with pytest.raises(lease.LeaseLost):
                    act()
            lease._leases.append(second)
            # Nor does it give the folder back, which is no longer its own.
            with suppress(lease.LeaseLost):
                first.confirm(afresh=True)
        assert not objects.exists(key)
    assert stored(root.url, ("a.json", "b.json")) == dict.fromkeys(("a.json", "b.json"), b'"second"\n')
    assert not objects.exists(access.store_of(root.url + "/c.json")[1])
    assert [k for k in objects.find(access.store_of(root.url)[1]) if ".beat" in k or ".lease" in k] == []


def test_a_run_in_a_store_that_a_training_reads_is_not_written(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr("socket.gethostname", iter(f"host-{n}" for n in range(1000)).__next__)
    root = open_root(f"{bucket}/read")
    with (
        lease.held(root, lease.RUN, alone=True),
        pytest.raises(ValueError, match="is being written by process"),
        lease.reading(root),
    ):
        pass
    with (
        lease.reading(root),
        pytest.raises(ValueError, match="s3://bucket/read is being read by a training or by"),
        lease.held(root, lease.RUN, alone=True),
    ):
        pass
    # Of a training that died.
    objects, key = access.store_of(root.url + "/.readers-x")
    objects.pipe_file(key, b'{"host": "gone", "process": 1, "beat": 4}')
    with lease.held(root, lease.RUN, alone=True):
        assert not objects.exists(key)


def test_a_key_that_leads_out_of_the_mirror_is_not_fetched(bucket: str, tmp_path: Path) -> None:
    root = open_root(f"{bucket}/keys")
    objects, key = access.store_of(root.url)
    for name in ("/" + str(tmp_path / "absolute"), "/../../up", "/a/./b", "/fine.json"):
        objects.pipe_file(key + name, b"{}")
    assert [p.name for p in root.rglob("*")] == ["fine.json"]
    store.fetch_tree(root)
    assert not list(tmp_path.iterdir())


# -- runs --------------------------------------------------------------------------------------------------------------


class Forgetful(InProcess):
    """Every task on a node of its own, that has nothing yet."""

    def run(self, waiting: Waiting, paths: Any, progress: Any) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            another_node(paths.root)
            yield planned.index, attempt(planned, paths)
            another_node(paths.root)


def stored(url: str, parts: Sequence[str]) -> dict[str, bytes]:
    """Path in a run -> bytes, of what the store has."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return {key.removeprefix(root + "/"): fs.cat_file(key) for part in parts for key in fs.find(f"{root}/{part}")}


@pytest.mark.early
def test_a_run_in_a_store_is_the_local_one_though_no_node_keeps_anything(
    bucket: str, one_phase: Any, tmp_path: Path
) -> None:
    from fox1.pipeline.curate import curate
    from fox1.pipeline.engine.engine import Engine
    from fox1.pipeline.engine.tasks import Silent
    from fox1.pipeline.run.paths import RunPaths
    from fox1.pipeline.run.schemas import FINAL

    run, root = tmp_path / "run", open_root(f"{bucket}/runs/forgetful")
    curate(one_phase, Engine(RunPaths(run), InProcess(), Silent()))
    curate(one_phase, Engine(RunPaths(root), Forgetful(), Silent()))
    another_node()
    found = stored(f"{bucket}/runs/forgetful", FINAL)
    expected = {
        p.relative_to(run).as_posix(): p.read_bytes() for part in FINAL for p in (run / part).rglob("*") if p.is_file()
    }
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    # A second driver, on a machine that has nothing, has nothing to do.
    engine = Engine(RunPaths(root), Forgetful(), Silent())
    curate(one_phase, engine)
    assert {stage: total - reused for stage, (reused, total) in engine.reused.items() if reused != total} == {}
    # A lost object is made again, and nothing else.
    fs, key = access.store_of(f"{bucket}/runs/forgetful/phases/phase1/256")
    lost = sorted(k for k in fs.find(key) if k.endswith(".arrow"))[0]
    fs.rm_file(lost)
    another_node()
    engine = Engine(RunPaths(root), Forgetful(), Silent())
    curate(one_phase, engine)
    assert 1 <= sum(total - reused for reused, total in engine.reused.values()) <= 3
    assert fs.cat_file(lost) == expected["phases/phase1/256/" + lost.rsplit("/", 1)[1]]


@pytest.fixture(scope="module")
def remote(bucket: str, corpora: Path) -> str:
    """A run in the store, made as a user makes it."""
    url = f"{bucket}/runs/command"
    done = run_command("curate", "sample", "--out", url, "--in-process", *as_set(*SMALL), FOX1_DATA=str(corpora))
    assert done.returncode == 0, done.stderr
    assert f"{url}: prepare, scan" in done.stdout + done.stderr
    return url


def fox1(*words: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    if data:
        environment["FOX1_DATA"] = str(data)
    command = [sys.executable, "-m", "fox1", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_run_in_a_store_is_looked_at_like_any_other(remote: str, run: Path, corpora: Path, tmp_path: Path) -> None:
    import fsspec

    def here(*words: str) -> str:
        return run_command(*words, COLUMNS="120").stdout

    def there(*words: str) -> subprocess.CompletedProcess[str]:
        """By a command that finds nothing on this node."""
        another_node()
        return run_command(*words, COLUMNS="120", FOX1_DATA=str(corpora))

    scratch = Path(os.environ["FOX1_SCRATCH"])
    sessions = set(scratch.glob("session-*"))
    alone = fox1("stats", remote, "--json")
    assert alone.returncode == 0, alone.stderr
    figures, expected = json.loads(alone.stdout), json.loads(here("stats", str(run), "--json"))
    # The run of the tests was made by no command.
    assert figures.pop("asked")["recipe"] == "sample" and figures == expected
    assert set(scratch.glob("session-*")) == sessions  # a process leaves nothing
    row = next(p for p in sorted((run / "decisions").rglob("*.parquet")))
    document = row.relative_to(run / "decisions").as_posix().removesuffix(".parquet") + "#0"
    assert there("why", remote, document).stdout == here("why", str(run), document) != ""
    assert there("trace", remote, "phase1", "3").stdout == here("trace", str(run), "phase1", "3") != ""
    verified = there("verify", remote)
    assert verified.returncode == 0 and f"{remote}: " in verified.stdout, verified.stderr
    page = there("report", remote, "--out", str(tmp_path / "r.html"))
    assert page.returncode == 0 and (tmp_path / "r.html").stat().st_size > 50_000, page.stderr
    assert there("report", remote).returncode == 0
    store = fsspec.filesystem("s3")
    assert store.info(f"{remote}/report.html")["size"] > 50_000 and not store.exists(f"{remote}/.report.html.tmp")
    pieces = there("tokenizer", "inspect", remote)
    assert pieces.returncode == 0 and pieces.stdout == here("tokenizer", "inspect", str(run)), pieces.stderr
    nothing = there("stats", remote + "x")
    assert nothing.returncode == 1 and f"error: no run at {remote}x; `fox1 curate" in nothing.stderr, nothing.stderr


@pytest.mark.long
def test_training_reads_and_checkpoints_in_a_store(remote: str, run: Path, tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("s3")
    local = tmp_path / "run"
    settings = run_to_train(run, local, ONE_LAYER, checkpoint_every=4, evaluate_blocks=2)
    fs.pipe_file(f"{remote}/training.json", json.dumps(settings).encode())
    expected = fox1("train", str(local), "--out", str(tmp_path / "ckpt"))
    assert expected.returncode == 0, expected.stderr
    out = remote.replace("runs", "ckpt")
    first = fox1("train", remote, "--out", out, "--nproc", "2", "--stop-after", "6")
    assert first.returncode == 75, first.stderr
    rest = fox1("train", remote, "--out", out)
    assert rest.returncode == 0 and f"resumed from {out}/step-00000006" in rest.stderr, rest.stderr
    losses = []
    for text in ((tmp_path / "ckpt" / "metrics.jsonl").read_text(), fs.cat_file(f"{out}/metrics.jsonl").decode()):
        lines = [json.loads(line) for line in text.splitlines()]
        losses.append({line["step"]: line["loss"] for line in lines if line["kind"] == "held_out"})
    assert losses[0] == pytest.approx(losses[1], rel=2e-5) and len(losses[0]) == 3
    drawn = fox1("curves", out, "--out", f"{out}/curves.svg")
    assert drawn.returncode == 0 and drawn.stdout.startswith(f"{out}/curves.svg: "), drawn.stderr
    assert fs.cat_file(f"{out}/curves.svg").startswith(b"<?xml")
    # A damaged newest checkpoint is none; the one before is used.
    newest = sorted(k for k in fs.find(out) if k.endswith("manifest.json"))[-1].rpartition("/")[0]
    file = next(k for k in fs.find(newest) if k.endswith(".distcp"))
    data = fs.cat_file(file)
    fs.pipe_file(file, data[:-1] + bytes([data[-1] ^ 1]))
    again = fox1("train", remote, "--out", out)
    assert again.returncode == 0 and "is damaged" in again.stderr and "resumed from" in again.stderr, again.stderr
    assert fox1("export", out, str(tmp_path / "model")).returncode == 0
    assert (tmp_path / "model" / "model.safetensors").exists()

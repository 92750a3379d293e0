"""What a node holds of stores: within its limit at all times, and never without what nobody else has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fox1.pipeline.run.artifacts import publish
from fox1.storage import access, scratch, store
from fox1.storage.store import Mirrored

LIMIT = 800_000


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirrored]:
    """A folder of a store in memory, whose mirror holds 800 KB at most."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(store, "_known", {})
    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("FOX1_SCRATCH_BYTES", str(LIMIT))
    monkeypatch.setattr(scratch, "_left", 0)
    monkeypatch.setattr(scratch, "IN_USE", 0.05)
    monkeypatch.setattr(scratch, "WAIT", 0.5)
    folder = store.open_root("memory://bucket/run")
    assert isinstance(folder, Mirrored)
    yield folder


def held() -> int:
    return sum(path.stat().st_size for path in scratch.scratch().rglob("*") if path.is_file())


def test_what_is_published_and_fetched_stays_within_the_limit(root: Mirrored) -> None:
    most = 0
    for k in range(20):
        with publish(root / f"{k}.bin") as out:
            for _ in range(10):
                out.write(bytes([k]) * 20_000)
                most = max(most, held())
    for k in range(20):
        assert (root / f"{k}.bin").read_bytes() == bytes([k]) * 200_000
        most = max(most, held())
    assert LIMIT // 4 < most <= LIMIT


def test_what_the_store_does_not_have_is_not_removed(root: Mirrored) -> None:
    root.mkdir(parents=True)
    (root / "growing.jsonl").local.write_bytes(bytes(150_000))
    store.upload(root / "growing.jsonl", grows=True)
    (root / "fetched").write_bytes(bytes(100_000))
    with open(root / "fetched", "ab") as file:
        file.write(b"more")
    for k in range(6):
        (root / f"{k}.bin").write_bytes(bytes(100_000))
    assert (root / "growing.jsonl").local.exists() and (root / "fetched").local.stat().st_size == 100_004
    assert not (root / "0.bin").local.exists() and (root / "0.bin").read_bytes() == bytes(100_000)


def test_what_was_just_asked_for_is_not_removed_before_it_is_opened(
    root: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(4):
        (root / f"{k}.bin").write_bytes(bytes(100_000))
    path = os.fspath(root / "0.bin")
    monkeypatch.setattr(scratch, "IN_USE", 60.0)
    for k in range(4, 8):
        (root / f"{k}.bin").write_bytes(bytes(100_000))
    assert os.path.exists(path) and not (root / "1.bin").local.exists()


def test_a_limit_that_is_too_small_is_one_line(root: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(OSError, match=r"no room for 700,000 bytes \(FOX1_SCRATCH_BYTES is 800,000, and .* raise it"):
        (root / "large").write_bytes(bytes(700_000))
    assert time.monotonic() - began < 0.4  # nothing to wait for
    access.store_of(root.url)[0].pipe_file(access.store_of((root / "there").url)[1], bytes(700_000))
    with pytest.raises(OSError, match="no room for 700,000 bytes"):
        (root / "there").read_bytes()


def test_a_folder_is_listed_once_by_its_folders(root: Mirrored) -> None:
    names = ["a.json", "mix/b", "mix/x/c", "mix/x/y/z/d", "phases/phase1/256/e"]
    for n, name in enumerate(names):
        (root / name).write_bytes(bytes(n))
    store._known.clear()
    store.remember(root)
    at_start = store.AtStart(root)
    assert [at_start.facts(name) for name in names] == [(n, 0) for n in range(5)]
    assert at_start.facts("mix/x") is None and at_start.facts("none") is None
    assert {path.relative_to(root).as_posix(): size for path, size in store.files_below(root)} == {
        name: n for n, name in enumerate(names)
    }
    odd = ["odd/a[1]", "odd/a1"]
    for name in odd:
        (root / name).write_bytes(b"x")
    store.remove_files([root / "odd/a[1]", root / "mix/b", root / "gone", root / "mix/x/c"])
    left = sorted(path.relative_to(root).as_posix() for path, _ in store.files_below(root))
    assert left == ["a.json", "mix/x/y/z/d", "odd/a1", "phases/phase1/256/e"]

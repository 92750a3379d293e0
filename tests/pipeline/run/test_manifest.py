"""The manifest: the file table, and lists of the artifacts that a reader opens where it needs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fox1.pipeline.run import manifest as manifests
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.manifest import Artifacts, is_finished, read_manifest, without_folders, write_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.published import LISTED, table_of
from fox1.tokenize.model import TokenizerSettings

NAMES = ["index/blocks-0", "index/blocks-1", "index/url-0", "signals/b/2", "signals/ä/1", "signals/a/10", "recipe.yaml"]


def artifacts_of(run: Path) -> Artifacts:
    found: Artifacts = read_manifest(RunPaths(run))["artifacts"]
    return found


def write(run: Path, *steps: dict[str, int]) -> None:
    """A manifest of what steps published: name -> bytes."""
    tables = [table_of((name, Artifact("", n, 2 * n, f"hash {n}", 7)) for name, n in step.items()) for step in steps]
    write_manifest(RunPaths(run), [], tables, TokenizerSettings())


def lists(run: Path) -> set[str]:
    return {path.name.split("-")[0] for path in (run / "manifest").iterdir()}


def test_artifacts_are_found_by_name_and_by_how_names_begin(tmp_path: Path) -> None:
    write(tmp_path, {name: n for n, name in enumerate(NAMES)}, {"index/url-0": 9})
    found = artifacts_of(tmp_path)
    assert found.folders == ["index", "run", "signals"] and len(found) == 7
    assert found["signals/ä/1"] == {"bytes": 4, "rows": 8, "hash": "hash 4"}
    assert found["recipe.yaml"]["bytes"] == 6 and found["index/url-0"]["bytes"] == 9
    for missing in ("signals/a/1", "signals/z", "none", "none/x", "signals", ""):
        assert missing not in found
    assert list(found.below("index/blocks-")) == NAMES[:2] and list(found.below("stats/")) == []
    assert sorted(found) == sorted(NAMES) and list(found.below("signals/")) == sorted(NAMES[3:6])
    assert not is_finished(read_manifest(RunPaths(tmp_path)))


def test_only_the_lists_that_are_asked_for_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, dict.fromkeys(NAMES, 1))
    opened = []
    real = manifests._open_list

    def open_list(paths: RunPaths, listed: Any) -> pa.Table:
        opened.append(listed.folder)
        return real(paths, listed)

    monkeypatch.setattr(manifests, "_open_list", open_list)
    found = artifacts_of(tmp_path)
    assert len(found) == 7 and is_finished({"artifacts": found}) is False and opened == []
    assert "signals/b/2" in found and list(found.below("signals/a")) and opened == ["signals"]


def test_lists_that_no_manifest_names_are_removed_and_others_stay(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(NAMES, 1))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "manifest").iterdir()}
    (tmp_path / "manifest" / "notes.txt").write_text("mine")
    write(tmp_path, dict.fromkeys(NAMES[:3], 1), {"signals/new": 1})
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "manifest").iterdir()}
    assert lists(tmp_path) == {"index", "signals", "notes.txt"}
    assert [name for name in before if before[name] == now.get(name)] == [n for n in before if n.startswith("index")]
    without_folders(RunPaths(tmp_path), read_manifest(RunPaths(tmp_path)), ["index"])
    assert list(artifacts_of(tmp_path)) == ["signals/new"] and lists(tmp_path) == {"signals", "notes.txt"}


def test_a_manifest_of_version_1_is_read_and_becomes_one_of_now(tmp_path: Path) -> None:
    write(tmp_path, {name: n for n, name in enumerate(NAMES)})
    paths, now = RunPaths(tmp_path), read_manifest(RunPaths(tmp_path))
    (tmp_path / "manifest.json").write_text(json.dumps({**now, "version": 1, "artifacts": dict(now["artifacts"])}))
    earlier = read_manifest(paths)
    assert dict(earlier["artifacts"]) == dict(now["artifacts"]) and earlier["artifacts"].folders == [
        "index",
        "run",
        "signals",
    ]
    without_folders(paths, earlier, [])
    assert read_manifest(paths)["version"] == 2 and dict(artifacts_of(tmp_path)) == dict(now["artifacts"])


def listed(*rows: tuple[str, int, int], schema: pa.Schema = LISTED) -> bytes:
    """A list with these names, bytes and rows."""
    columns = [[r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], ["" for _ in rows]]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table(dict(zip(schema.names, columns, strict=False)), schema))
    return bytes(sink.getvalue())


LISTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one byte less": (lambda data: data[:-1], "bytes, not"),
    "empty": (lambda data: b"", "empty"),
    "no Arrow": (lambda data: bytes(len(data)), "Not an Arrow file"),
    "a name outside": (lambda data: listed(("signals/../../x", 1, 1)), "leads out of the run"),
    "a name of another folder": (lambda data: listed(("stats/x", 1, 1)), "leads out of the run"),
    "a name twice": (lambda data: listed(("signals/x", 1, 1), ("signals/x", 1, 1)), "not in order"),
    "a negative size": (lambda data: listed(("signals/x", -1, 1)), "negative size"),
    "other columns": (lambda data: listed(schema=pa.schema([("path", pa.string())])), "other columns"),
    "fewer rows": (lambda data: listed(), "rows, not 3"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_damaged_or_hostile_list_is_one_line(what: str, tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(NAMES, 1))
    [path] = (tmp_path / "manifest").glob("signals-*")
    change, says = LISTS[what]
    data = change(path.read_bytes())
    path.write_bytes(data)
    if what not in ("one byte less", "empty", "no Arrow"):
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        next(each for each in manifest["artifacts"] if each["folder"] == "signals")["bytes"] = len(data)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = artifacts_of(tmp_path)
    assert "index/url-0" in found
    with pytest.raises(ValueError, match=rf"{path.name} is damaged \(.*{says}.*`fox1 curate`") as error:
        found["signals/b/2"]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "manifest/../x.arrow"},
        {"file": "signals/x"},
        {"folder": "stats"},
        {"rows": -1},
        {"file": 7},
    ],
)
def test_a_manifest_names_no_list_but_its_own(change: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(NAMES, 1))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["artifacts"][0] |= change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        read_manifest(RunPaths(tmp_path))


def test_a_list_that_is_missing_or_a_link_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(NAMES, 1))
    [path] = (tmp_path / "manifest").glob("signals-*")
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"signals-.* is missing; if the run is being written, wait"):
        artifacts_of(tmp_path)["signals/b/2"]
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a symbolic link"):
        artifacts_of(tmp_path)["signals/b/2"]

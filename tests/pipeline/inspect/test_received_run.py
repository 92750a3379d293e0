"""A run that someone else made or copied: looking at it ends in an answer, or in one line; it never answers what it cannot know."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fox1.api import load_phase, open_run
from fox1.pipeline.inspect.lookup import Found
from fox1.pipeline.inspect.provenance import Placed
from fox1.pipeline.run.identity import Piece
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.content import written
from fox1.recipes.load import load_recipe

from tests.conftest import run_command


@pytest.fixture(scope="module")
def linked(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of linked files: they are replaced, never written into, since they are those of the shared one."""
    folder = tmp_path_factory.mktemp("received") / "copy"
    shutil.copytree(run, folder, copy_function=os.link)
    return folder


@pytest.fixture
def copy(linked: Path) -> Iterator[Path]:
    """A run that a test may change: what says of it what it is, is put back."""
    names = ["manifest.json", "recipe.yaml", "training.json", "timings/tasks.jsonl"]
    names += [f"stats/{p.name}" for p in sorted((linked / "stats").glob("*.json"))]
    before = {linked / name: (linked / name).read_bytes() for name in names}
    yield linked
    for path, data in before.items():
        replace(path, data)


@pytest.fixture(scope="module")
def trained(run: Path) -> dict[str, Any]:
    """The signals of a dropped document whose kept copy was trained on."""
    opened = open_run(run)
    for path in sorted((run / "decisions").rglob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            if row["kind"] == "exact":
                signals = _signals(run, row)
                if any(found.trained_on for found in opened.find(hash=written(signals["content_hash"]))):
                    return signals
    raise AssertionError


def _signals(run: Path, row: dict[str, Any]) -> dict[str, Any]:
    table = pq.read_table(run / "signals" / row["corpus"] / f"{row['file']}.parquet")
    return next(r | {"corpus": row["corpus"]} for r in table.to_pylist() if r["doc_id"] == row["doc_id"])


def replace(path: Path, data: object) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def fails(status: int, *words: object, says: str = "") -> str:
    """What a command says as it fails, in one line."""
    done = run_command(*words)
    said = done.stderr.splitlines()
    assert done.returncode == status and said[-1].startswith("error: ") and says in said[-1], (done.returncode, said)
    assert len(said) == 1 and done.stderr[:-1].isprintable() and "not trained on" not in done.stdout
    return said[-1]


def test_a_no_and_an_error_have_statuses_of_their_own(run: Path, trained: dict[str, Any]) -> None:
    assert run_command("find", run, "--hash", written(trained["content_hash"])).returncode == 0
    missing = run_command("find", run, "--hash", written(bytes(16)))
    assert missing.returncode == 1 and missing.stdout.startswith("not found")
    fails(2, "find", run, "--hash", "0", says="is no content hash")
    fails(2, "find", run / "nowhere", "--hash", written(bytes(16)), says="manifest.json is missing")
    assert run_command("find", run).returncode == 2


@pytest.mark.parametrize("part", ["decisions", "signals", "index", "stats"])
def test_a_part_that_was_not_copied_is_no_answer(
    part: str, linked: Path, trained: dict[str, Any], tmp_path: Path
) -> None:
    (linked / part).rename(tmp_path / part)
    try:
        fails(2, "find", linked, "--hash", written(trained["content_hash"]))
        if part in ("decisions", "signals"):
            fails(1, "why", linked, trained["doc_id"], says=f"{part}/")
        if part == "decisions":
            (tmp_path / "list").write_text(f"{written(trained['content_hash'])}\n")
            fails(2, "find", linked, "--exclude", tmp_path / "list", says="decisions")
    finally:
        (tmp_path / part).rename(linked / part)


def test_a_run_without_an_index_is_no_answer(copy: Path, trained: dict[str, Any]) -> None:
    manifest = of_version_1(copy)
    left = {name: facts for name, facts in manifest["artifacts"].items() if not name.startswith("index/blocks")}
    replace(copy / "manifest.json", {**manifest, "artifacts": left})
    fails(2, "find", copy, "--hash", written(trained["content_hash"]), says="no index")


def test_blocks_of_a_phase_are_trained_on_whatever_its_name() -> None:
    found = Found("c/f#0", 1, {"kept": True}, [Placed("held_out", 256, 0, 0, 9)], "", [])
    assert found.trained_on


@pytest.mark.parametrize("name", ["held_out", "all", "2"])
def test_no_phase_has_a_name_that_commands_take_for_another(name: str, corpora: Path) -> None:
    changes = [f"phases.{name}={{tokens: 1Ki, weights: [{{corpus: pile, weight: 1}}], blocks: [{{length: 256}}]}}"]
    with pytest.raises(ValueError, match=f"'{name}' cannot name a phase"):
        load_recipe("sample", [*changes, f"training.sizes.tiny.batch_tokens.{name}=1Ki"], {"FOX1_DATA": str(corpora)})


def of_version_1(run: Path) -> dict[str, Any]:
    """The manifest of a run as earlier versions of fox1 wrote it, with all its artifacts."""
    return {**read_manifest(RunPaths(run)), "version": 1, "artifacts": dict(read_manifest(RunPaths(run))["artifacts"])}


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a later version": (lambda m: m.update(version=99), "version 99, and this fox1 reads versions up to 2"),
    "a version that is text": (lambda m: m.update(version="1"), "version '1', and this fox1 reads versions up to 2"),
    "no version": (lambda m: m.pop("version"), "version None"),
    "a file outside": (
        lambda m: m["artifacts"].update({"../x": {"bytes": 1, "rows": 0, "hash": ""}}),
        "leads out of the run",
    ),
    "an absolute file": (
        lambda m: m["artifacts"].update({"/x": {"bytes": 1, "rows": 0, "hash": ""}}),
        "leads out of the run",
    ),
    "a source outside": (lambda m: m["files"][0].update(path="/etc/x\x1b[2J"), "leads out of the run"),
    "a size that is text": (lambda m: next(iter(m["artifacts"].values())).update(bytes="\x1b[2J"), "Expected `int`"),
    "files that are a number": (lambda m: m.update(files=1), "Expected `array`"),
    "pieces that are none": (lambda m: m["files"][0].update(pieces=[{"number": 0}]), "missing required field"),
    "pieces out of order": (
        lambda m: m["files"][0].update(
            pieces=[asdict(Piece(n, 0, 0, 5, row, 0, 5)) for n, row in enumerate((0, 7, 3))]
        ),
        "pieces that do not follow each other",
    ),
    "a tokenizer that is a list": (lambda m: m.update(tokenizer=[]), "Expected `object`"),
    "a tokenizer without a template": (lambda m: m["tokenizer"].pop("chat"), "is damaged"),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_hostile_manifest_is_refused(what: str, copy: Path) -> None:
    change, says = MANIFESTS[what]
    manifest = of_version_1(copy)
    change(manifest)
    replace(copy / "manifest.json", manifest)
    fails(2, "verify", copy, says=says)
    fails(1, "why", copy, "1", says=says)


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 100_000, b"\xff"])
def test_a_manifest_that_is_none_is_refused(data: bytes, copy: Path) -> None:
    replace(copy / "manifest.json", data)
    fails(2, "find", copy, "--hash", written(bytes(16)), says="manifest.json is damaged")


def test_no_file_in_a_run_is_waited_for(copy: Path) -> None:
    manifest = (copy / "manifest.json").read_bytes()
    for name in ("manifest.json", "stats/funnel.json", "recipe.yaml", "timings/tasks.jsonl"):
        (copy / name).unlink()
        os.mkfifo(copy / name)
    fails(1, "stats", copy, says="manifest.json is damaged (it is not a regular file)")
    (copy / "manifest.json").unlink()
    fails(1, "stats", copy, says="funnel.json is damaged (it is not a regular file)")
    replace(copy / "manifest.json", manifest)
    fails(1, "filter", copy, "--what-if", "filters.all.min_words=1", says="recipe.yaml")


@pytest.mark.parametrize("name", ["funnel", "mixture", "tokens", "overlap", "dedupe", "examples"])
@pytest.mark.parametrize(
    "value", [{}, {"corpora": 1, "phases": [[]], "subsets": {"x": "\x1b[2J"}, "cluster_sizes": {"a": 1}}]
)
def test_statistics_of_another_shape_are_refused(name: str, value: object, copy: Path) -> None:
    replace(copy / "stats" / f"{name}.json", value)
    if name != "examples":
        fails(1, "stats", copy, says="is not of the shape")
    fails(1, "report", copy, "--out", copy.parent / "r.html")


DESCRIPTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "files elsewhere": ("state.json", lambda d: d.update(_data_files=[{"filename": "../../../x.arrow"}])),
    "no files": ("state.json", lambda d: d.pop("_data_files")),
    "splits elsewhere": ("../dataset_dict.json", lambda d: d.update(splits=["../../x"])),
}


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_phase_is_loaded_from_its_own_files_only(what: str, linked: Path) -> None:
    name, change = DESCRIPTIONS[what]
    path = next((linked / "phases" / "phase1").glob("*/state.json")).parent / name
    data = path.read_bytes()
    value = json.loads(data)
    change(value)
    replace(path, value)
    try:
        with pytest.raises(ValueError, match=f"{path.name} is damaged .its .* are not those of fox1.json"):
            load_phase(linked, "phase1")
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ValueError, match=f"{path.name} is damaged .it is not a regular file"):
            load_phase(linked, "phase1")
    finally:
        replace(path, data)
    assert len(load_phase(linked, "phase1"))


def test_verify_covers_what_a_run_says_of_its_own_making(copy: Path) -> None:
    whole = run_command("verify", copy)
    assert whole.returncode == 0 and not whole.stderr
    for name in ("recipe.yaml", "training.json"):
        data = (copy / name).read_bytes()
        replace(copy / name, data.replace(b"1", b"2", 1))
        done = run_command("verify", copy)
        assert done.returncode == 1 and f"{name} does not match its checksum" in done.stderr
        replace(copy / name, data)
    manifest = of_version_1(copy)
    for name in ("recipe.yaml", "training.json"):
        del manifest["artifacts"][name]
    replace(copy / "manifest.json", manifest)
    earlier = run_command("verify", copy)
    assert earlier.returncode == 0 and earlier.stderr.count("is not covered") == 2


def test_verify_waits_for_no_file(linked: Path) -> None:
    shard = next((linked / "phases").rglob("*.arrow"))
    data = shard.read_bytes()
    shard.unlink()
    os.mkfifo(shard)
    done = run_command("verify", linked)
    replace(shard, data)
    assert done.returncode == 1 and f"has 0 bytes, but its manifest records {len(data):,}" in done.stderr

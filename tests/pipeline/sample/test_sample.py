"""`fox1 sample`: the five corpora in their native formats, from the standard library and fox1's own dependencies."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import unicodedata
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.sample import SampleSummary, write_sample
from fox1.pipeline.sample.harvest import PYTHON, closure, harvest
from fox1.pipeline.sample.passages import NAMES, passages
from fox1.pipeline.sample.variants import edited
from fox1.pipeline.sources.domains import SUBSET_DOMAINS
from packaging.requirements import Requirement

from tests.conftest import read_stored

MEGABYTES = 2.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    root = tmp_path_factory.mktemp("sample") / "corpora"
    return root, write_sample(root, megabytes=MEGABYTES)


@pytest.fixture(scope="module")
def root(written: tuple[Path, SampleSummary]) -> Path:
    return written[0]


def files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.name != "benchmarks.jsonl")


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in read_stored(path).decode("utf-8").removesuffix("\n").split("\n")]


def all_rows(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    return ((path, row) for path in files(folder) for row in rows(path))


def texts(folder: Path) -> list[str]:
    return [row.get("text") or row["content"] for _, row in all_rows(folder)]


def test_the_summary_counts_what_the_files_hold(written: tuple[Path, SampleSummary]) -> None:
    root, summary = written
    for corpus in ("redpajama", "slimpajama", "dolma", "pile", "refinedweb"):
        found = texts(root / corpus)
        assert len(found) == summary.rows[corpus] > 0
        assert sum(len(t.encode()) for t in found) == summary.text_bytes[corpus]
    assert sum(summary.text_bytes.values()) >= MEGABYTES * 1e6


def test_every_file_has_rows_with_text_and_nothing_unfinished_is_left(root: Path) -> None:
    for path in files(root):
        assert not path.name.startswith(".")
        assert rows(path), path
    for text in texts(root):
        assert text and "\0" not in text
        text.encode("utf-8")


def test_redpajama_rows_have_every_form_of_meta_and_subset_that_its_files_have(root: Path) -> None:
    folder = root / "redpajama"
    metas, named, suffixes = set(), set(), set()
    for path, row in all_rows(folder):
        subset = path.relative_to(folder).parts[0]
        assert row.keys() - {"red_pajama_subset"} == {"text", "meta"}
        assert row.get("red_pajama_subset", subset) == subset
        metas.add(type(row["meta"]))
        named.add("red_pajama_subset" in row)
        suffixes.add(path.suffix)
    assert metas == {dict, str}
    assert named == {True, False}
    assert suffixes == {".jsonl", ".zst"}
    assert {p.name for p in folder.iterdir()} == set(SUBSET_DOMAINS["redpajama"])
    assert (folder / "common_crawl" / "2023-06").is_dir()


def test_slimpajama_rows_name_their_redpajama_set(root: Path) -> None:
    folder = root / "slimpajama"
    for _, row in all_rows(folder):
        assert row.keys() == {"text", "meta"}
        assert row["meta"]["redpajama_set_name"] in SUBSET_DOMAINS["slimpajama"]
    assert files(folder / "train" / "chunk1") and files(folder / "train" / "chunk2")


def test_slimpajama_is_a_normalised_subset_of_redpajama_without_short_texts_or_repeats(root: Path) -> None:
    slim = texts(root / "slimpajama")
    raw = texts(root / "redpajama")
    assert all(unicodedata.is_normalized("NFC", t) and len(t) >= 200 for t in slim)
    assert set(slim) < {unicodedata.normalize("NFC", t) for t in raw}
    assert len(slim) == len(set(slim))
    # Otherwise a hash of bytes would find every copy, and normalisation would have no work.
    assert not set(slim) <= set(raw)


def test_held_out_texts_are_not_in_training(root: Path) -> None:
    for held_out, train in (
        (["slimpajama/validation", "slimpajama/test"], "slimpajama/train"),
        (["pile/val.jsonl.zst", "pile/test.jsonl.zst"], "pile/train"),
    ):
        trained = set(texts(root / train))
        for place in held_out:
            path = root / place
            found = {row["text"] for p in ([path] if path.is_file() else files(path)) for row in rows(p)}
            assert found and not found & trained


def test_dolma_rows_are_native_and_ids_are_unique_only_within_a_source(root: Path) -> None:
    by_source: dict[str, list[str]] = {}
    for path, row in all_rows(root / "dolma"):
        assert row.keys() == {"id", "text", "source", "added", "created", "metadata"}
        assert path.name == f"{row['source']}-0000.json.gz"
        assert row["source"] in SUBSET_DOMAINS["dolma"]
        by_source.setdefault(row["source"], []).append(row["id"])
    for ids in by_source.values():
        assert len(ids) == len(set(ids))


def test_pile_rows_have_real_names_mixed_inside_a_file(root: Path) -> None:
    for path, row in all_rows(root / "pile"):
        assert row.keys() == {"text", "meta"}
        assert row["meta"]["pile_set_name"] in SUBSET_DOMAINS["pile"], path
    for path in files(root / "pile" / "train"):
        assert len({row["meta"]["pile_set_name"] for row in rows(path)}) > 1
    names = {row["meta"]["pile_set_name"] for _, row in all_rows(root / "pile")}
    assert {"Books3", "DM Mathematics", "FreeLaw", "Github", "HackerNews", "Ubuntu IRC"} <= names


def test_refinedweb_has_its_schema(root: Path) -> None:
    paths = files(root / "refinedweb" / "data")
    assert len(paths) > 1
    for path in paths:
        schema = pq.read_schema(path)
        assert schema.names == ["content", "url", "timestamp", "dump", "segment", "image_urls"]
        assert schema.field("content").type == pa.string()
        assert schema.field("timestamp").type == pa.timestamp("ms")
        assert schema.field("image_urls").type == pa.list_(pa.list_(pa.string()))


def test_the_corpora_share_documents(root: Path) -> None:
    held = {corpus: set(texts(root / corpus)) for corpus in ("redpajama", "dolma", "pile", "refinedweb")}
    for corpus, mine in held.items():
        assert all(mine & held[other] for other in held), corpus
        assert mine - set().union(*(held[other] for other in held if other != corpus)), corpus
    code = {p.name: {r["text"] for r in rows(p)} for p in files(root / "redpajama" / "github")}
    stack = {r["text"] for r in rows(root / "dolma" / "stack-code-0000.json.gz")}
    pile = {r["text"] for _, r in all_rows(root / "pile") if r["meta"]["pile_set_name"] == "Github"}
    assert set().union(*code.values()) & stack & pile


def test_the_same_installation_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    # Another process has another hash seed, so the order of sets and dictionaries of strings is put to the test.
    write_in_a_process(again, "")
    assert [p.relative_to(again) for p in files(again)] == [p.relative_to(root) for p in files(root)]
    for one, other in zip(files(root), files(again), strict=True):
        assert one.read_bytes() == other.read_bytes(), one


def test_harvested_modules_are_read_and_never_imported(tmp_path: Path) -> None:
    check = "; import sys; print([m for m in ('torch', 'ray', 'datasets', 'pydoc_data.topics') if m in sys.modules])"
    assert write_in_a_process(tmp_path / "sample", check).strip() == "[]"


def write_in_a_process(root: Path, then: str) -> str:
    program = (
        "from pathlib import Path; from fox1.pipeline.sample import write_sample; "
        f"write_sample(Path({str(root)!r}), megabytes={MEGABYTES}){then}"
    )
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_only_the_standard_library_and_the_dependencies_are_read() -> None:
    standard = Path(sysconfig.get_path("stdlib"))
    allowed = {Path(str(f.locate())) for d in closure().values() for f in d.files or ()}
    found = harvest()
    for source in (*found.code, *found.readmes, *found.licences):
        if source.owner == PYTHON:
            assert source.file.is_relative_to(standard)
            assert "site-packages" not in source.path
        else:
            assert source.file in allowed


def test_the_closure_follows_the_extras_of_requirements_but_not_those_of_fox1() -> None:
    found = closure()
    own = [Requirement(r) for r in metadata.requires("fox1") or ()]
    required = {r.name for r in own if not r.marker or r.marker.evaluate({"extra": ""})}
    assert {"numpy", "torch", "ray"} <= required <= found.keys()
    # `ray[default]` asks for it, `fox1[dev]` for the others.
    assert "aiohttp-cors" in found
    assert not {"fox1", "pytest", "mypy", "hypothesis", "moto", "s3fs"} & found.keys()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        write_sample(tmp_path, megabytes=MEGABYTES)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_no_text_names_a_folder_of_this_machine(root: Path) -> None:
    places = sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
    assert not [t for t in texts(root) if any(place in t for place in places)]


def test_edits_are_a_function_of_the_seed_and_leave_most_of_the_text() -> None:
    text = "\n\n".join(f"Paragraph {i} returns a large example that must be used." for i in range(9))
    results = {edited(text, seed) for seed in range(40)}
    assert results == {edited(text, seed) for seed in range(40)}
    assert len(results) > 5
    assert all(len(r) > len(text) / 2 for r in results)
    assert all(text[:20] in edited(text, seed, comment="# ") for seed in range(40))


@pytest.mark.parametrize("name", NAMES)
def test_passages_have_distinct_titles_and_text(name: str) -> None:
    found = passages(name)
    assert len({title for title, _ in found}) == len(found) > 0
    assert all(text for _, text in found)


@pytest.mark.long
def test_the_whole_sample_has_twenty_megabytes(tmp_path: Path) -> None:
    summary = write_sample(tmp_path / "sample")
    assert sum(summary.text_bytes.values()) >= 20e6
    assert sum(len(t.encode()) for t in texts(tmp_path / "sample")) == sum(summary.text_bytes.values())

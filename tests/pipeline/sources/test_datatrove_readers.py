"""datatrove's readers as sources: their arguments choose files and documents as in a pipeline of its own, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows

from tests.conftest import run_command

READER = "datatrove.pipeline.readers.CSVReader"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files of four rows, of which one has no text, and one of three below them."""
    root = tmp_path / "corpus"
    (root / "below").mkdir(parents=True)
    for name, texts in {
        "a": ["a0", "", "a2", "a3"],
        "b": ["b0", "b1", "", "b3"],
        "below/c": ["c0", "c1", "c2"],
    }.items():
        (root / f"{name}.csv").write_text("text,id\n" + "".join(f"{t},{t}\n" for t in texts))
    return root


def listed(root: Path, **arguments: Any) -> list[SourceFile]:
    source = SourceSettings(
        "ours", "datatrove", str(root), reader=READER, arguments=json.dumps(arguments, sort_keys=True)
    )
    return list_sources([source])


def rows(files: list[SourceFile]) -> list[tuple[str, int, str]]:
    """(path, row, text) of every row."""
    found = []
    for file in files:
        for batch in read_rows(file, Quarantine(file)):
            table = pa.Table.from_batches([batch])
            found += [
                (file.path, r, t) for r, t in zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True)
            ]
    return found


def as_datatrove_reads(root: Path, **arguments: Any) -> list[str]:
    from datatrove.pipeline.readers import CSVReader

    return [document.text for document in CSVReader(str(root), **arguments).run()]


@pytest.mark.parametrize(
    "arguments",
    [
        {"skip": 2, "limit": 3},
        {"limit": 4},
        {"limit": 1},
        {"limit": 100},
        {"skip": 3},
        {"skip": 4, "limit": 3},
        {"glob_pattern": "a.csv"},
        {"glob_pattern": "below/*.csv", "limit": 2},
        {"recursive": False},
        {"recursive": False, "skip": 5},
    ],
    ids=str,
)
def test_the_documents_are_those_of_datatrove(corpus: Path, arguments: dict[str, Any]) -> None:
    found = rows(listed(corpus, **arguments))
    assert [text for _, _, text in found if text] == as_datatrove_reads(corpus, **arguments)
    # Whatever is chosen, a row has the number that it has in its file.
    whole = {(path, row): text for path, row, text in rows(listed(corpus))}
    assert all(whole[path, row] == text for path, row, text in found)


def test_a_list_of_paths_chooses_files_in_its_order(corpus: Path, tmp_path: Path) -> None:
    paths = tmp_path / "list.txt"
    paths.write_text("below/c.csv\na.csv\n")
    assert {path for path, _, _ in rows(listed(corpus, paths_file=str(paths)))} == {"a.csv", "below/c.csv"}
    found = rows(listed(corpus, paths_file=str(paths), limit=4))
    assert sorted(t for _, _, t in found) == sorted(as_datatrove_reads(corpus, paths_file=str(paths), limit=4))


def clipped(self: Any, data: dict[str, Any], path: str, id_in_file: int | str) -> dict[str, Any]:
    """An adapter."""
    return {"text": data["text"][:1], "id": f"{path}:{id_in_file}", "metadata": {"url": "https://example.org/"}}


def test_an_adapter_is_named_by_its_dotted_path(corpus: Path) -> None:
    name = f"{__name__}.clipped"
    assert {text for _, _, text in rows(listed(corpus, adapter=name))} == {"a", "", "b", "c"}
    with pytest.raises(ValueError, match="no_such"):
        listed(corpus, adapter=f"{__name__}.no_such")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"shuffle_files": True}, "leave out the argument `shuffle_files`"),
        ({"file_progress": True}, "leave out the argument `file_progress`"),
        ({"data_folder": "x"}, "the folder is the `root` of the source"),
        ({"text_kee": "x"}, "it has no argument `text_kee`; did you mean `text_key`?"),
        ({"limit": "3"}, "`limit` is '3', not a number of documents"),
        ({"skip": -1}, "`skip` is -1, not a number of documents"),
        ({"adapter": 5}, "`adapter` is 5; write the dotted path"),
        ({"glob_pattern": "z*.csv"}, "glob_pattern 'z.*.csv' leaves no file"),
        ({"paths_file": "/no/such/list"}, "paths_file /no/such/list cannot be read"),
    ],
    ids=str,
)
def test_an_argument_that_would_do_nothing_is_refused(corpus: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        listed(corpus, **arguments)


@pytest.mark.parametrize(
    ("text", "says"), [("z.csv\n", "names z.csv, which is not"), ("a.csv\na.csv\n", "a.csv twice")]
)
def test_a_list_of_paths_that_cannot_be_followed_is_refused(corpus: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=says):
        listed(corpus, paths_file=str(tmp_path / "list.txt"))


def test_the_rows_that_are_chosen_are_part_of_the_identity_and_the_way_they_were_is_not(corpus: Path) -> None:
    whole, globbed = listed(corpus)[0], listed(corpus, glob_pattern="*.csv")[0]
    assert whole.identity() == globbed.identity() != listed(corpus, skip=1)[0].identity()


def test_a_recipe_with_a_reader_is_checked_and_its_list_lies_beside_it(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.csv\n")
    (tmp_path / "own.yaml").write_text(f"""
extends: sample
name: own
sources:
  redpajama: null
  slimpajama: null
  dolma: null
  pile: null
  refinedweb: null
  ours: {{format: datatrove, root: corpus, reader: {READER}, arguments: {{paths_file: list.txt, skip: 1}}}}
contamination: {{benchmarks: {{sample: null}}}}
phases:
  phase1: {{weights: [{{corpus: ours, weight: 1}}]}}
  phase2: {{weights: [{{corpus: ours, weight: 1}}]}}
  phase3: {{weights: [{{corpus: ours, weight: 1}}]}}
""")
    done = run_command("recipe", "check", tmp_path / "own.yaml")
    assert "  ours: 1 file" in done.stdout and "ours/a.csv: row 1 is of subset default" in done.stdout, done
    done = run_command("recipe", "check", tmp_path / "own.yaml", "--set", "sources.ours.arguments={doc_progress: true}")
    assert done.returncode == 1 and "leave out the argument `doc_progress`" in done.stderr


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"skip": 100}, {"skip": 8, "limit": 4, "glob_pattern": "[ab].csv"}]
)
def test_a_choice_of_no_document_is_refused_by_the_arguments_that_made_it(
    corpus: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"`skip` and `limit` leave no document of the \d files below .*corpus"):
        listed(corpus, **arguments)

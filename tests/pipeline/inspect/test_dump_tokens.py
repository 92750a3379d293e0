"""`fox1 dump --tokens`: the loaders of datatrove and Megatron read the ids that fox1 trains on."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datatrove.pipeline.tokens.megatron_tokenizer import MegatronTokenizedFile
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFolderDataset
from fox1.pipeline.inspect.dump_tokens import TokenFiles, write_blocks, write_documents
from fox1.pipeline.run.artifacts import Artifact
from fox1.tokenize.shards import TOKEN_SCHEMA, block_batches, block_schema, read_set, token_batches
from fox1.tokenize.shards import write_blocks as write_set_blocks
from fox1.tokenize.token_files import DATATROVE, MEGATRON, TokenFormat, id_type, parse_metadata

from tests.conftest import run_command

BOS, EOS = 2, 1
"""Of the sample's tokenizer."""
LOADED = 64
"""Tokens of a window of datatrove's loader."""


@pytest.fixture(scope="module")
def dumped(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The dumps of a run."""
    folder = tmp_path_factory.mktemp("dumped")
    phases = {"all": [], "phase3": ["--phase", "3"], "held_out": ["--phase", "held_out"]}
    for format in (DATATROVE, MEGATRON):
        for phase, options in phases.items():
            done = run_command("dump", run, folder / format / phase, "--tokens", format, *options, "--in-process")
            assert done.returncode == 0, done.stderr
            assert (" documents, " if phase == "all" else " blocks, ") in done.stdout
    return {f"{format} {phase}": folder / format / phase for format in (DATATROVE, MEGATRON) for phase in phases}


def shards(run: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The documents of every token shard of the training groups, by its place."""
    for path in sorted((run / "tokens").rglob("*.arrow")):
        if not path.name.startswith("held-out-"):
            name = path.relative_to(run / "tokens").with_suffix("").as_posix()
            yield name, [row for batch in token_batches(path) for row in batch.to_pylist()]


def blocks(folder: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The blocks of every split of a set, by their length."""
    info = read_set(folder)
    for split in info.splits:
        files = [folder / str(split.block_length) / file for file in split.files]
        rows = [r for f in files for b in block_batches(f, split.block_length, info.masked) for r in b.to_pylist()]
        yield split.block_length, rows


def set_of(run: Path, phase: str) -> Path:
    return run / phase if phase == "held_out" else run / "phases" / phase


def windows(folder: Path, length: int, **options: Any) -> list[dict[str, list[int]]]:
    """What datatrove's loader reads."""
    data = DatatroveFolderDataset(str(folder), length - 1, token_size=2, return_positions=True, **options)
    return [{name: value.tolist() for name, value in data[i].items()} for i in range(len(data))]


def sequences(stem: Path) -> tuple[list[list[int]], list[int]]:
    """(the sequences, how many there are up to the end of each document) of a `.bin` and `.idx`, by the format's description."""
    data = stem.with_name(stem.name + ".idx").read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code, count, documents = struct.unpack_from("<QBQQ", data, 9)
    assert version == 1
    kind = {4: np.int32, 8: np.uint16}[code]
    at = 34
    lengths = np.frombuffer(data, np.int32, count, at)
    begins = np.frombuffer(data, np.int64, count, at + 4 * count)
    ends = np.frombuffer(data, np.int64, documents, at + 12 * count)
    assert len(data) == at + 12 * count + 8 * documents
    ids = stem.with_name(stem.name + ".bin").read_bytes()
    found = [
        np.frombuffer(ids, kind, n, begin).tolist() for n, begin in zip(lengths.tolist(), begins.tolist(), strict=True)
    ]
    return found, ends.tolist()


def test_datatroves_loader_reads_the_documents(run: Path, dumped: dict[str, Path]) -> None:
    folder, files = dumped["datatrove all"], 0
    for name, rows in shards(run):
        streams = [[BOS, *row["input_ids"], EOS] for row in rows]
        stream = [i for one in streams for i in one]
        place = (folder / name).parent
        found = windows(place, LOADED, filename_pattern=f"{Path(name).name}.ds", recursive=False)
        assert len(found) == len(stream) // LOADED
        assert [i for one in found for i in one["input_ids"]] == stream[: len(found) * LOADED]
        ends = np.fromfile(folder / f"{name}.ds.index", "<u8").tolist()
        assert ends == np.cumsum([len(one) for one in streams]).tolist()
        begins = {0, *ends}
        for number, window in enumerate(found):
            restarts = [k for k, p in enumerate(window["positions"]) if p == 0]
            assert restarts == [k for k in range(LOADED) if not k or number * LOADED + k in begins]
        model, size = parse_metadata((folder / f"{name}.ds.metadata").read_bytes())
        assert size == 2 and model.startswith("tokenizer.model@")
        files += 1
    assert files == len(list(folder.rglob("*.ds"))) > 5
    assert (folder / "tokenizer.model").read_bytes() == (run / "prepare" / "tokenizer.model").read_bytes()


@pytest.mark.parametrize("phase", ["phase3", "held_out"])
def test_datatroves_loader_reads_the_blocks_in_training_order(run: Path, dumped: dict[str, Path], phase: str) -> None:
    for length, rows in blocks(set_of(run, phase)):
        folder = dumped[f"datatrove {phase}"] / str(length)
        found = windows(folder, length)
        assert [one["input_ids"] for one in found] == [row["input_ids"] for row in rows] != []
        for one, row in zip(found, rows, strict=True):
            restarts = [k for k, p in enumerate(one["positions"]) if p == 0]
            assert restarts == sorted({0, *row["doc_ends"]} - {length})
        loss = np.concatenate([np.fromfile(f, "?") for f in sorted(folder.glob("*.ds.loss"))]).reshape(-1, length)
        for one, row in zip(loss, rows, strict=True):
            assert np.flatnonzero(one).tolist() == list(range(row["doc_ends"][-1]))


def test_a_reader_of_megatrons_files_reads_the_documents(run: Path, dumped: dict[str, Path]) -> None:
    folder = dumped["megatron all"]
    for name, rows in shards(run):
        found, ends = sequences(folder / name)
        assert found == [[BOS, *row["input_ids"], EOS] for row in rows]
        assert ends == list(range(len(rows) + 1))
    assert len(list(folder.rglob("*.bin"))) == len(list(folder.rglob("*.idx"))) > 5


@pytest.mark.parametrize("phase", ["phase3", "held_out"])
def test_in_megatrons_files_a_block_is_a_document_of_its_segments(
    run: Path, dumped: dict[str, Path], phase: str
) -> None:
    for length, rows in blocks(set_of(run, phase)):
        stems = sorted((dumped[f"megatron {phase}"] / str(length)).glob("*.bin"))
        at = 0
        for stem in stems:
            found, ends = sequences(stem.with_suffix(""))
            for first, end in itertools.pairwise(ends):
                cuts = [0, *rows[at]["doc_ends"]]
                assert found[first:end] == [rows[at]["input_ids"][a:b] for a, b in itertools.pairwise(cuts)]
                at += 1
        assert at == len(rows) > 0


@pytest.mark.parametrize(("format", "vocab_size"), [(f, v) for f in (DATATROVE, MEGATRON) for v in (60_000, 256_000)])
def test_files_are_those_that_datatrove_writes(tmp_path: Path, format: TokenFormat, vocab_size: int) -> None:
    random = np.random.default_rng(3)
    documents = [random.integers(3, vocab_size, n).tolist() for n in (5, 1, 700, 64)]
    size = id_type(format, vocab_size).itemsize
    assert size == (2 if vocab_size == 60_000 else 4)
    columns = {"doc_id": range(4), "quality": [0] * 4, "input_ids": documents, "loss_spans": [[]] * 4}
    shard = tmp_path / "shard.arrow"
    with pa.ipc.new_stream(shard, TOKEN_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=TOKEN_SCHEMA))
    asked = TokenFiles(format, vocab_size, "a tokenizer", eos=1)
    write_documents(Artifact(str(shard), 1, 4, ""), asked, tmp_path / "ours" / "00000")
    theirs: Any
    if format == DATATROVE:
        theirs = TokenizedFile(
            str(tmp_path / "theirs"),
            "00000.ds",
            tokenizer_name_or_path="a tokenizer",
            save_final_metadata=True,
            token_size=size,
        )
    else:
        theirs = MegatronTokenizedFile(str(tmp_path / "theirs"), "00000", token_size=size)
    for document in documents:
        theirs.write([*document, 1], *([None] if format == DATATROVE else []))
    theirs.close()
    made = [{p.name: p.read_bytes() for p in (tmp_path / who).iterdir()} for who in ("ours", "theirs")]
    made = [{n: d.rsplit(b"\n", 1)[0] if n.endswith(".metadata") else d for n, d in files.items()} for files in made]
    assert made[0] == made[1]


def test_what_is_trained_on_of_conversations_goes_along(tmp_path: Path) -> None:
    documents = [[10, 11, 12, 13, 14], [20, 21, 22], [30]]
    spans = [[1, 3, 4, 5], [], [0, 0]]
    columns = {"doc_id": range(3), "quality": [0] * 3, "input_ids": documents, "loss_spans": spans}
    shard = tmp_path / "shard.arrow"
    with pa.ipc.new_stream(shard, TOKEN_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=TOKEN_SCHEMA))
    source = Artifact(str(shard), 1, 3, "")
    write_documents(source, TokenFiles(DATATROVE, 100, "", BOS, EOS, loss=True), tmp_path / "documents")
    loss = np.fromfile(tmp_path / "documents.ds.loss", "?").astype(int).tolist()
    assert loss == [0, 0, 1, 1, 0, 1, 0] + [1, 1, 1, 1, 1] + [0, 0, 0]

    blocks = {
        "input_ids": [[10, 11, 12, 20, 21, 22, 0, 0], [30, 31, 40, 41, 42, 43, 44, 45]],
        "doc_ends": [[3, 6], [2, 8]],
        "doc_ids": [[1, 2], [3, 4]],
        "doc_starts": [[0, 0], [0, 0]],
        "doc_sources": [[0, 0], [0, 0]],
        "loss_spans": [[1, 3, 5, 6], [0, 0]],
    }
    path = tmp_path / "blocks.arrow"
    with path.open("wb") as out:
        write_set_blocks(out, pa.table(blocks, schema=block_schema(8, True)), 8, True)
    source = Artifact(str(path), 1, 2, "")
    done = write_blocks(source, TokenFiles(DATATROVE, 100, "", loss=True), tmp_path / "blocks", 8, True)
    assert (done.documents, done.tokens) == (2, 14)
    assert np.fromfile(tmp_path / "blocks.ds.loss", "?").astype(int).tolist() == [0, 1, 1, 0, 0, 1, 0, 0] + [0] * 8
    assert np.fromfile(tmp_path / "blocks.ds.index", "<u8").tolist() == [3, 6, 8, 10, 16]
    write_blocks(source, TokenFiles(MEGATRON, 100, ""), tmp_path / "blocks", 8, True)
    assert sequences(tmp_path / "blocks") == (
        [[10, 11, 12], [20, 21, 22], [30, 31], [40, 41, 42, 43, 44, 45]],
        [0, 2, 4],
    )


def test_a_dump_of_tokens_is_resumed_and_never_mixed_with_another(
    run: Path, dumped: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "dump"
    shutil.copytree(dumped["datatrove phase3"], out)
    whole = {p.relative_to(out): p.read_bytes() for p in out.rglob("data-*")}
    lost = sorted(out.rglob("*.ds"))[0]
    lost.unlink()
    (lost.parent / f".{'0' * 32}.tmp").write_bytes(b"half")
    words = ["dump", run, out, "--phase", "3", "--in-process"]
    assert not run_command(*words, "--tokens", "datatrove").returncode
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("data-*")} == whole
    assert not list(out.rglob(".*.tmp"))
    for more, said in (
        (["--tokens", "megatron"], "already holds a dump of phase3 --tokens datatrove; choose another folder"),
        ([], "already holds a dump of phase3 --tokens datatrove; choose another folder"),
        (["--tokens", "gpt"], "--tokens gpt: choose datatrove or megatron"),
        (["--tokens", "datatrove", "--where", "words > 5"], "leave out the other choices"),
    ):
        done = run_command(*words, *more)
        assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    done = run_command("dump", run, mine, "--tokens", "datatrove", "--in-process")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert [p.name for p in mine.iterdir()] == ["notes.txt"]


def test_ids_that_the_vocabulary_does_not_have_are_refused(tmp_path: Path) -> None:
    columns = {"doc_id": [1], "quality": [0], "input_ids": [[5, 70_000]], "loss_spans": [[]]}
    shard = tmp_path / "shard.arrow"
    with pa.ipc.new_stream(shard, TOKEN_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=TOKEN_SCHEMA))
    with pytest.raises(ValueError, match=r"shard.arrow is damaged \(it has ids that are none of 60,000 pieces\)"):
        write_documents(Artifact(str(shard), 1, 1, ""), TokenFiles(DATATROVE, 60_000, ""), tmp_path / "out" / "a")
    assert not list((tmp_path / "out").iterdir())

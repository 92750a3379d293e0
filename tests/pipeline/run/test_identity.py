"""Ids, groups and the file table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fox1.pipeline.run.identity import (
    ROW_BITS,
    FilesById,
    FileTable,
    Piece,
    SourceFile,
    check_collisions,
    file_hash,
    file_table,
    files_of_table,
    group_files,
)
from hypothesis import given
from hypothesis import strategies as st


def source(corpus: str, path: str, size: int = 1000) -> SourceFile:
    return SourceFile(corpus, path, f"/x/{path}", size, "1", "pile", False, file_hash(corpus, path))


@given(st.text(), st.text(), st.integers(0, 2**31))
def test_file_hashes_are_37_bits_and_never_zero(corpus: str, path: str, salt: int) -> None:
    assert 0 < file_hash(corpus, path, salt) < 1 << 37
    assert file_hash(corpus, path, salt) << ROW_BITS < 1 << 63


def test_collisions_ask_for_a_salt() -> None:
    first, second = source("a", "x"), source("a", "y")
    check_collisions([first, second])
    with pytest.raises(ValueError, match="id_salt"):
        check_collisions([first, replace(second, file_hash=first.file_hash)])
    with pytest.raises(ValueError, match="listed twice"):
        check_collisions([first, replace(first)])


def test_adding_a_file_moves_no_other_between_groups() -> None:
    files = [source("a", f"{i:03d}") for i in range(50)]
    where = {f.path: g.index for g in group_files(files) for f in g.files}
    more = {f.path: g.index for g in group_files([*files, source("a", "new")]) for f in g.files}
    assert where.items() <= more.items()


def piece(file: SourceFile, number: int, row: int, text: int) -> SourceFile:
    return replace(file, piece=Piece(number, 0, 0, -1, row, 0, text))


def test_groups_follow_text() -> None:
    files = [source("a", f"{i:03d}", 64 << 20) for i in range(64)]
    assert 8 <= len(group_files(files)) <= 16
    compressed = [source("a", f"{i:03d}.zst", 32 << 20) for i in range(64)]
    assert 16 <= len(group_files(compressed)) <= 32
    tiny = [source("a", f"{i:04d}") for i in range(2000)]
    assert max(len(g.files) for g in group_files(tiny)) < 64


def test_a_large_file_or_piece_is_a_group_of_its_own_wherever_it_stands() -> None:
    small, large = [source("a", f"{i:03d}") for i in range(9)], source("a", "b", 1 << 30)
    pieces = [piece(large, i, 10 * i, 300 << 20) for i in range(3)]
    alone = [g for g in group_files([*small, *pieces]) if g.files[0].piece]
    assert [[f.part for f in g.files] for g in alone] == [["b/00000"], ["b/00001"], ["b/00002"]]
    assert [g.index for g in alone] == [large.file_hash << ROW_BITS | 10 * i for i in range(3)]
    assert group_files(small) == [g for g in group_files([*small, *pieces]) if g not in alone]


def test_an_id_resolves_to_the_piece_that_holds_its_row() -> None:
    cut, other = source("a", "x"), source("a", "y")
    pieces = [piece(cut, i, row, 300 << 20) for i, row in enumerate((0, 7, 9))]
    by_id, table = FilesById([*pieces, other]), FileTable.build(groups := group_files([*pieces, other]))
    for row, number in ((0, 0), (6, 0), (7, 1), (8, 1), (9, 2), (1000, 2)):
        doc_id = cut.file_hash << ROW_BITS | row
        assert by_id.get(doc_id) == pieces[number]
        assert pieces[number] in groups[table.group_of(np.array([doc_id], np.uint64))[0]].files
    assert by_id.get(other.file_hash << ROW_BITS | 3) == other
    assert by_id.get(1) is None
    assert by_id.get((1 << 62) | 1) is None


def test_the_table_of_a_manifest_gives_the_pieces_back() -> None:
    cut, other = source("a", "x"), source("a", "y")
    files = [*(piece(cut, i, i, 5) for i in range(2)), other]
    table = json.loads(json.dumps(file_table(files)))
    assert [entry["path"] for entry in table] == ["x", "y"]
    assert [replace(f, url="", version="") for f in files] == files_of_table(table)


def test_the_file_table_resolves_ids() -> None:
    groups = group_files([source("a", "x"), source("b", "y"), source("b", "z")])
    table = FileTable.build(groups)
    for i, group in enumerate(groups):
        for file in group.files:
            ids = np.array([file.file_hash << ROW_BITS | 5], np.uint64)
            assert table.group_of(ids)[0] == i
            assert table.corpus_names[table.corpus_of(ids)[0]] == file.corpus

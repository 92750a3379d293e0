"""Ids, groups and the file table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fox1.pipeline.run.identity import ROW_BITS, FileTable, SourceFile, check_collisions, file_hash, group_files
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


def test_groups_follow_bytes() -> None:
    files = [source("a", f"{i:03d}", 64 << 20) for i in range(64)]
    assert max(g.index for g in group_files(files)) >= 32


def test_the_file_table_resolves_ids() -> None:
    groups = group_files([source("a", "x"), source("b", "y"), source("b", "z")])
    table = FileTable.build(groups)
    for i, group in enumerate(groups):
        for file in group.files:
            ids = np.array([file.file_hash << ROW_BITS | 5], np.uint64)
            assert table.group_of(ids)[0] == i
            assert table.corpus_names[table.corpus_of(ids)[0]] == file.corpus

"""Paths of a run stay in its folder: no name leads out, and no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fox1.storage.inside import is_partial, named, open_own, partial, refuse_links


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a/./b", "a\0b"])
def test_a_name_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which is not below its folder") as caught:
        named(tmp_path, name)
    assert str(caught.value).isprintable()


def test_a_link_on_the_way_is_refused_but_for_the_way_to_the_folder_itself(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "phases" / "phase1").mkdir(parents=True)
    root = tmp_path / "run"
    root.symlink_to(real)
    assert named(root, "phases/phase1/x.arrow") == root / "phases/phase1/x.arrow"
    (real / "tokens").symlink_to(tmp_path)
    (real / "phases" / "phase2").symlink_to(tmp_path)
    (real / "file").symlink_to("/etc/passwd")
    for name in ("tokens/x", "phases/phase2/x", "file"):
        with pytest.raises(ValueError, match="is a symbolic link; fox1 neither reads nor writes through links in"):
            named(root, name)
    # A user's own: a folder of the run, and nothing below it.
    refuse_links(root, root / "tokens" / "x", own=1)
    for name in ("phases/phase2/x", "file"):
        with pytest.raises(ValueError, match="is a symbolic link"):
            refuse_links(root, root / name, own=1)


def test_a_file_of_ours_is_no_link_and_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("whole")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("link", "is a symbolic link"), ("pipe", "is not a regular file")):
        with pytest.raises(ValueError, match=says):
            open_own(tmp_path / name, os.O_RDWR | os.O_CREAT)
    assert (tmp_path / "victim").read_text() == "whole"


def test_the_name_of_a_file_being_written_is_no_users(tmp_path: Path) -> None:
    assert is_partial(partial(tmp_path).name)
    assert not any(map(is_partial, (".notes.tmp", "a.tmp", f".{'x' * 32}.tmp", f".{'0' * 32}.tmp.gz")))

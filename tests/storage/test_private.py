"""What other users of a machine put in the way is not used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import fox1
import pytest
from fox1.storage import private, scratch, store


def writable(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


PLANTED = pytest.mark.parametrize("plant", [writable, link, Path.touch])


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's caches, and the folder of temporary files."""
    caches, temporary = tmp_path / "caches", tmp_path / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv("FOX1_SCRATCH", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    return caches, temporary


def test_a_cache_is_of_its_user_alone(places: tuple[Path, Path]) -> None:
    folder = Path(private.cache_folder("some"))
    assert folder == places[0] / "fox1" / "some" == Path(private.cache_folder("some"))
    assert [p.stat().st_mode & 0o777 for p in (folder, folder.parent)] == [0o700, 0o700]
    assert private.why_not_private(str(folder)) == ""


@PLANTED
def test_another_cache_is_made_where_somebody_was_before(
    places: tuple[Path, Path], plant: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    caches, temporary = places
    caches.mkdir()
    plant(caches / "fox1")
    assert Path(private.cache_folder("some")) == temporary / f"fox1-{os.getuid()}" / "some"
    (temporary / f"fox1-{os.getuid()}" / "some").rmdir()
    plant(temporary / f"fox1-{os.getuid()}" / "some")
    last = Path(private.cache_folder("some"))
    assert last.parent == temporary and last.stat().st_mode & 0o777 == 0o700
    # The kernels, which are loaded as code, and where the user names a folder for them.
    assert Path(fox1._kernel_cache()).parent.parent == temporary
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(caches / "mine"))
    assert fox1._kernel_cache() == str(caches / "mine")
    (caches / "mine").chmod(0o777)
    assert Path(fox1._kernel_cache()).parent.parent == temporary


def test_a_folder_is_private_by_its_owner_and_its_place(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    caches, temporary = places
    assert private.why_not_private(str(temporary)) == "can be written by other users"
    assert private.why_not_private(str(temporary), base=True) == ""
    temporary.chmod(0o777)
    assert private.why_not_private(str(temporary), base=True) == "can be written by other users"
    caches.mkdir()
    if os.getuid() == 0:  # root's folders are everybody's to trust
        os.chown(caches, 1234, 1234)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert private.why_not_private(str(caches)).startswith("belongs to another user")


@pytest.mark.parametrize("plant", [link, Path.touch])
def test_a_mirror_is_refused_where_somebody_was_before(
    places: tuple[Path, Path], plant: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "_session", "")
    plant(scratch.scratch())
    with pytest.raises(
        ValueError, match=r"fox1-scratch-\d+ is (a link|no folder), and is not used .* set FOX1_SCRATCH"
    ):
        store.open_root("s3://bucket/run")


def test_a_mirror_is_of_its_user_alone(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_session", "")
    writable(scratch.scratch())
    session = store.open_root("s3://bucket/run").parents[2]
    assert [os.stat(str(p)).st_mode & 0o777 for p in (session, session.parent)] == [0o700, 0o700]
    # A place of all users that the user names is left as it is, if nobody can exchange what is not theirs.
    for mode, refused in ((0o1777, False), (0o777, True)):
        monkeypatch.setattr(scratch, "_session", "")
        monkeypatch.setenv("FOX1_SCRATCH", str(places[1]))
        places[1].chmod(mode)
        if refused:
            with pytest.raises(ValueError, match="can be written by other users"):
                store.open_root("s3://bucket/run")
        else:
            assert store.open_root("s3://bucket/run").parents[3] == places[1]

"""Unpacked tables: made once, mapped by later processes, and made again where a file of them is lost or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.signals.unpacked import unpacked
from numba.core import config


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"wide": np.arange(12, dtype=np.int32).reshape(3, 4).T, "names": np.array(["en", "de"])}


def test_arrays_are_made_once_and_then_mapped_read_only(cache: Path) -> None:
    make = Maker()
    for _ in range(3):
        found = unpacked("some-1", make)
        assert found["wide"].tolist() == np.arange(12).reshape(3, 4).T.tolist() and found["names"].tolist() == [
            "en",
            "de",
        ]
        # Kernels are compiled for the kind of an array: it is one, made or mapped.
        assert not found["wide"].flags.writeable and found["wide"].flags.c_contiguous
        assert type(found["wide"]) is np.ndarray
    assert make.calls == 1
    unpacked("some-2", make)
    assert make.calls == 2 and sorted(p.name for p in cache.iterdir()) == ["some-1", "some-2"]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "empty list"])
def test_what_is_damaged_is_made_again(cache: Path, damage: str) -> None:
    make = Maker()
    unpacked("some", make)
    file = cache / "some" / "wide.npy"
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-3])
    elif damage == "changed":
        file.write_bytes(data[:-1] + b"\1")
    elif damage == "gone":
        file.unlink()
    else:
        (cache / "some" / "hashes.json").write_text("[]")
    assert unpacked("some", make)["wide"][3, 2] == 11 and make.calls == 2
    unpacked("some", make)
    assert make.calls == 2
    assert [p.name for p in cache.iterdir()] == ["some"]


def test_where_nothing_can_be_written_every_process_makes_its_own(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    make = Maker()
    for calls in (1, 2):
        assert unpacked("some", make)["wide"][3, 2] == 11 and make.calls == calls

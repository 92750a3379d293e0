"""Files are read only if they are what was written: regular, bounded, JSON, and of the expected shape."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fox1.storage.reading import Misshapen, as_written, open_regular, read_bounded, read_json, typed


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    pair: tuple[str, int]
    rate: Annotated[float, "unit"]
    kind: Literal["a", "b"] = "a"
    more: dict[str, int] | None = None


GOOD: dict[str, Any] = {"parts": [{"name": "x", "sizes": [1, 2]}], "pair": ["y", 3], "rate": 1}


def test_an_object_becomes_the_dataclass_that_it_describes() -> None:
    assert typed(Whole, GOOD) == Whole((Part("x", (1, 2)),), ("y", 3), 1.0)
    assert typed(Whole, {**GOOD, "kind": "b", "more": {"z": 4}}).more == {"z": 4}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"parts": {}}, "parts is an object; it must be a list"),
        ({"parts": [{"name": 1}]}, r"parts\[0\].name is 1"),
        ({"parts": [{"name": "x", "\x1b[2J": 1}]}, r"parts\[0\].\ufffd\[2J is unknown"),
        ({"parts": [{}]}, r"parts\[0\].name is missing"),
        ({"pair": ["y"]}, "pair is a list of 1; it must be a list of 2"),
        ({"pair": ["y", True]}, r"pair\[1\] is True"),
        ({"rate": "1"}, "rate is '1'"),
        ({"kind": "c"}, "kind is 'c'"),
        ({"more": {"z": 1.5}}, "more.z is 1.5"),
    ],
)
def test_another_shape_is_refused_by_the_name_of_its_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Misshapen, match=says) as caught:
        typed(Whole, {**GOOD, **change})
    assert str(caught.value).isprintable()


def test_only_regular_files_within_a_limit_are_read(tmp_path: Path) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"12345")
    os.mkfifo(pipe)
    assert read_bounded(file, 5) == b"12345"
    with pytest.raises(Misshapen, match="larger than 4 bytes"):
        read_bounded(file, 4)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(Misshapen, match="not a regular file"):
            open_regular(path)
    os.truncate(file, 1 << 40)
    with pytest.raises(Misshapen, match="larger than 256 MiB"):
        read_json(file)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"{", b"9" * 5000])
def test_what_is_not_json_is_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(Misshapen) as caught:
        read_json(tmp_path / "x.json")
    assert str(caught.value).isprintable()


def test_a_value_of_another_shape_is_the_fault_of_the_file() -> None:
    for value in ("[]", '{"a": 1}', "1", "null"):
        with (
            pytest.raises(ValueError, match=r"the run is not of the shape .*; write it again"),
            as_written("the run", "write it again"),
        ):
            json.loads(value)["a"]["b"]

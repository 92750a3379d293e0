"""JSON lines: rows around damage, what a damaged file is told to be, and lines that are nearly JSON."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources import formats, rows
from fox1.pipeline.sources import quarantine as quarantines
from fox1.pipeline.sources.formats import strict_json
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from hypothesis import given, settings
from hypothesis import strategies as st

LINES = [json.dumps({"text": f"row {i} of these", "meta": {"pile_set_name": "Github"}}) for i in range(2000)]
DATA = "".join(f"{line}\n" for line in LINES).encode()


def read(path: Path, format: str = "pile") -> tuple[list[str], Quarantine]:
    file = SourceFile(format, path.name, str(path), path.stat().st_size, "", format, False, 1)
    quarantine = Quarantine(file, path.parent / "q" / "noted.jsonl")
    texts = [text for batch in read_rows(file, quarantine) for text in batch.column("text").to_pylist()]
    quarantine.publish()
    return texts, quarantine


def compressed(data: bytes, suffix: str) -> bytes:
    return gzip.compress(data, 1) if suffix == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("data", [DATA, DATA[:-1]], ids=["whole", "last line without its end"])
def test_all_rows_before_trailing_garbage_are_kept(tmp_path: Path, suffix: str, data: bytes) -> None:
    whole = compressed(data, suffix)
    (tmp_path / f"x.jsonl.{suffix}").write_bytes(whole + b"garbage")
    texts, quarantine = read(tmp_path / f"x.jsonl.{suffix}")
    assert len(texts) == 2000 and not quarantine.rows
    assert f"begins at byte {len(whole):,}" in quarantine.damage and quarantine.intact == len(whole)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_all_rows_before_a_wrong_checksum_are_kept(tmp_path: Path, suffix: str) -> None:
    data = bytearray(compressed(DATA, suffix))
    data[-5 if suffix == "gz" else -1] ^= 255
    (tmp_path / f"x.jsonl.{suffix}").write_bytes(data)
    texts, quarantine = read(tmp_path / f"x.jsonl.{suffix}")
    assert len(texts) == 2000 and "corrupt" in quarantine.damage and not quarantine.cut


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_what_follows_a_damaged_byte_is_lost_and_what_comes_before_it_is_not(tmp_path: Path, suffix: str) -> None:
    first = compressed(DATA[: len(DATA) // 2 + 1], suffix)
    second = bytearray(compressed(DATA[len(DATA) // 2 + 1 :], suffix))
    # What deflate makes of these bytes is known to be wrong only later.
    second = second[: len(second) // 2] + b"\xff" * 2000
    (tmp_path / f"x.jsonl.{suffix}").write_bytes(first + second)
    texts, quarantine = read(tmp_path / f"x.jsonl.{suffix}")
    assert 1000 <= len(texts) < 2000 and texts[:1000] == [json.loads(line)["text"] for line in LINES[:1000]]
    assert len(first) <= quarantine.intact <= len(first) + len(second)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize(
    ("left", "says"), [(0, "the file is empty"), (1, "was cut"), (-1, "was cut"), (-500, "was cut")]
)
def test_an_empty_or_cut_file_is_damage(tmp_path: Path, suffix: str, left: int, says: str) -> None:
    (tmp_path / f"x.jsonl.{suffix}").write_bytes(compressed(DATA, suffix)[:left])
    texts, quarantine = read(tmp_path / f"x.jsonl.{suffix}")
    assert says in quarantine.damage and quarantine.cut
    assert (len(texts) == 2000) == (left == -1)
    noted = [json.loads(line) for line in (tmp_path / "q" / "noted.jsonl").read_text().splitlines()]
    assert noted[-1]["reason"] == f"damaged file: {quarantine.damage}"


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_that_ends_within_a_line_was_cut(tmp_path: Path, suffix: str) -> None:
    for left in (-1, -2, -30):
        data = DATA[:left]
        path = tmp_path / f"x.jsonl{suffix}"
        path.write_bytes(compressed(data, suffix[1:]) if suffix else data)
        texts, quarantine = read(path)
        if left == -1:
            assert len(texts) == 2000 and not quarantine.damage
        else:
            assert len(texts) == 1999 and "the file was cut" in quarantine.damage
            assert quarantine.cut and quarantine.intact == path.stat().st_size
    path.write_bytes(compressed(DATA + b'{"text": \n', suffix[1:]) if suffix else DATA + b'{"text": \n')
    texts, quarantine = read(path)
    assert len(texts) == 2000 and quarantine.rows == 1 and not quarantine.damage


@pytest.mark.parametrize(
    "data",
    [
        DATA.replace(b"\n", b"\r"),
        DATA.decode().encode("utf-16"),
        f"[{','.join(LINES)}]".encode(),
        gzip.compress(DATA),
        b"<html>404 Not Found</html>\n",
    ],
    ids=["CR", "UTF-16", "an array", "compressed", "a page"],
)
def test_a_file_that_is_no_json_lines_is_damaged_as_a_whole(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    texts, quarantine = read(tmp_path / "x.jsonl")
    assert not texts and "none of its lines is a JSON object" in quarantine.damage and not quarantine.intact


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("data", "is_damage"),
    [
        (f"[{','.join(LINES)}]".encode(), True),
        (DATA.replace(b"\n", b"\r"), True),
        (DATA.decode().encode("utf-16").replace(b"\n", b" "), True),
        (b" " * 9000, True),
        (b'{"text": "' + b"a" * 9000 + b'", "meta": {"pile_set_name": "Github"}}', False),
        (b"[" + b"1," * 5000 + b"1]\n" + DATA, False),
        (DATA + b"[" + b"1," * 5000 + b"1]\n" + DATA, False),
    ],
    ids=["an array", "CR", "UTF-16", "spaces", "an object", "objects after it", "objects around it"],
)
def test_a_line_over_the_limit_is_an_object_by_how_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, is_damage: bool, suffix: str
) -> None:
    for module in (formats, rows):
        monkeypatch.setattr(module, "MAX_LINE", 4000)
    monkeypatch.setattr(formats, "CHUNK", 512)
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    texts, quarantine = read(path)
    assert quarantine.rows == 1 and len(texts) == 2000 * data.count(DATA)
    assert bool(quarantine.damage) is is_damage and not quarantine.intact
    if is_damage:
        assert "none of its lines is a JSON object in UTF-8 (the last one: line too long)" in quarantine.damage
    else:
        noted = json.loads((tmp_path / "q" / "noted.jsonl").read_text())
        assert (noted["row"], noted["offset"]) == ((0, 0) if not data.startswith(DATA) else (2000, len(DATA)))


def test_objects_that_are_no_rows_are_bad_rows_and_no_damage(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": null}\n{"text": "\xff"}\n')
    texts, quarantine = read(tmp_path / "x.jsonl")
    assert not texts and quarantine.rows == 2 and not quarantine.damage


def test_a_window_over_the_limit_is_told_as_such(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "x.jsonl.zst").write_bytes(compressor.compress(DATA) + compressor.flush())
    texts, quarantine = read(tmp_path / "x.jsonl.zst")
    assert not texts and "its window is over 256 MiB; compress the file again" in quarantine.damage


def test_frames_to_skip_and_zeros_between_members_are_no_damage(tmp_path: Path) -> None:
    skip = struct.pack("<II", 0x184D2A50, 5) + b"index"
    half = len(DATA) // 2
    one, two = (compressed(part, "zst") for part in (DATA[:half], DATA[half:]))
    (tmp_path / "a.jsonl.zst").write_bytes(skip + one + skip + two + skip)
    (tmp_path / "b.jsonl.zst").write_bytes(skip)
    (tmp_path / "c.jsonl.gz").write_bytes(
        gzip.compress(DATA[:half]) + bytes(10) + gzip.compress(DATA[half:]) + bytes(300_000)
    )
    for name, expected in (("a.jsonl.zst", 2000), ("b.jsonl.zst", 0), ("c.jsonl.gz", 2000)):
        texts, quarantine = read(tmp_path / name)
        assert len(texts) == expected and not quarantine.damage, name


def test_byte_order_marks_and_numbers_that_are_none_cost_no_row(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "x.jsonl").write_bytes(
        mark
        + b'{"text": "a"}\n{"score": NaN, "text": "b", "more": [1, -Infinity, {"x": Infinity}]}\n'
        + mark  # of a file that was appended
        + b'{"text": "NaN, \\"Infinity\\" \\\\", "x": NaN}\n{"text": "d", "x": nan}\n{"text": NaN}\n'
    )
    texts, quarantine = read(tmp_path / "x.jsonl")
    assert texts == ["a", "b", 'NaN, "Infinity" \\']
    assert quarantine.rows == 2


def test_only_what_stands_outside_of_strings_becomes_null() -> None:
    line = rb'{"a\\": NaN, "NaN\"": "\\\" -Infinity", "b": [-Infinity,NaN]}'
    assert strict_json(memoryview(line)) == rb'{"a\\": null, "NaN\"": "\\\" -Infinity", "b": [null,null]}'


def test_the_quarantine_of_a_file_is_bounded_and_its_counts_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantines, "MAX_ENTRIES", 10)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b"\xff" * 400 + b"\n" + b"{}\n" * 5000)[:-1])
    _, quarantine = read(tmp_path / "x.jsonl.gz")
    assert quarantine.rows == 5001 and quarantine.damage
    noted = [json.loads(line) for line in (tmp_path / "q" / "noted.jsonl").read_text().splitlines()]
    assert len(noted) == 12
    assert "damaged file" in noted[10]["reason"] and noted[11]["reason"] == "and 4,991 more rows that could not be read"


def by_zlib(data: bytes) -> tuple[bytes, bool]:
    """(the text of gzip members that zlib gives for one byte after the other, whether they are whole)."""
    text, member = b"", zlib.decompressobj(wbits=31)
    while data:
        if member.eof:
            data = data.lstrip(b"\0")
            member = zlib.decompressobj(wbits=31) if data else member
        try:
            text += member.decompress(data[:1])
        except zlib.error:
            return text, False
        data = data[1:]
    return text, member.eof


def read_gzip(path: Path) -> tuple[bytes, bool]:
    text = b""
    try:
        for chunk in formats.chunks(str(path)):
            text += chunk
    except formats.Damaged:
        return text, False
    return text, True


MEMBERS = st.lists(
    st.tuples(st.sampled_from([b"", b"\n", DATA[:900], b"a" * 70_000, DATA[5000:9000]]), st.integers(0, 9)), max_size=3
)


@settings(max_examples=150, deadline=None)
@given(MEMBERS, st.binary(max_size=9), st.integers(0, 1 << 20), st.integers(0, 9), st.binary(max_size=2))
def test_of_a_gzip_file_is_read_what_zlib_reads(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[bytes, int]],
    after: bytes,
    at: int,
    fewer: int,
    others: bytes,
) -> None:
    data = b"".join(gzip.compress(text, level) for text, level in members) + after
    at %= len(data) + 1
    data = data[:at] + others + data[at + fewer :]
    path = tmp_path_factory.getbasetemp() / "x.jsonl.gz"
    path.write_bytes(data)
    assert read_gzip(path) == by_zlib(data)


def test_whole_members_are_not_left_to_zlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(DATA) + bytes(7) + gzip.compress(DATA))
    monkeypatch.setattr(zlib, "decompressobj", None)
    assert read_gzip(tmp_path / "x.jsonl.gz") == (DATA * 2, True)

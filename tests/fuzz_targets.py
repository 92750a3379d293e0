"""What hostile bytes are thrown at, for tests/test_hostile.py and its long form, benchmarks/fuzz.py.

A target damages a valid file (`make`) and reads it (`judge`). Reading gives what is right, or a ValueError of one line that
names the file; anything else is a `Fault`. Cases follow from a random generator alone, so a seed repeats them.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""What can steer a terminal."""


class Fault(AssertionError):
    """What no input may cause."""


@dataclass(frozen=True)
class Case:
    """One input: a file by its name, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Target:
    make: Callable[[random.Random], Case]
    judge: Callable[[Case, Path], str]
    """(case, an empty folder) -> what came of it, in a word. Raises `Fault`."""


def refused(error: BaseException, *names: str) -> str:
    """The outcome of an error that a user may see: one line of ours, with one of these names."""
    said = str(error)
    if not isinstance(error, ValueError) or isinstance(error, pa.ArrowException | UnicodeError | json.JSONDecodeError):
        raise Fault(f"{type(error).__name__} escapes: {said[:300]}") from error
    if len(said.splitlines()) != 1:
        raise Fault(f"an error of {len(said.splitlines())} lines: {said[:300]!r}") from error
    if not any(name in said for name in names):
        raise Fault(f"an error that names none of {names}: {said[:300]}") from error
    if CONTROL.search(said):
        raise Fault(f"an error that can steer a terminal: {said[:300]!r}") from error
    return "refused"


# -- damage ----------------------------------------------------------------------------------------------------------

SPICE = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x1b[31m", b"\x9b", b"\n", b"\r\n", b"\\u0000",
    b"\\ud800", b"\\ud83d\\ude00", b'"', b"'", b"{", b"}", b"[" * 40, b"{}," * 40, b"]", b",", b":", b"null", b"true",
    b"-1", b"1e999", b"-1e999", b"NaN", b"9" * 30, b"9" * 5000, b"0x" + b"f" * 5000, b"18446744073709551616",
    b"4294967295", b"-2147483649", b"../../x", b"/etc/passwd", b"</script>", b"{{ 7 * 7 }}", b"{% raw %}", b"<eos>",
    b"<start_of_turn>", b"\x1c", b"\x1e", b"&a [*a]", b"!!python/object", b"${FOX1_DATA}", b"${", b"---\n", b"? ", b"\t",
    b"'{0}'", b"\x80\x04.", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"ARROW1", b"PAR1",
)  # fmt: skip


def damage(data: bytes, rng: random.Random, times: int = 0) -> bytes:
    """`data` with a few bits, bytes or spans of it changed."""
    out = bytearray(data)
    for _ in range(times or 1 + min(rng.randrange(8), rng.randrange(8))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + 1 + rng.randrange(1 << rng.randrange(1, 9)))
        match rng.randrange(8):
            case 0 | 1 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(out):
                out[at] = rng.randrange(256)
            case 3 | 4:
                out[at:at] = rng.choice(SPICE)
            case 5:
                out[at : at + rng.randrange(2) * 8] = rng.choice(SPICE)
            case 6:
                del out[at:end]
            case 7:
                match rng.randrange(3):
                    case 0:
                        out[at:at] = out[at:end]
                    case 1:
                        to = rng.randrange(len(out) + 1)
                        out[to : to + end - at] = out[at:end]
                    case 2:
                        del out[at:]
    return bytes(out)


LITERALS = (
    "<eos>", "<bos>", "<pad>", "<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "<0x0A>", "<mask>",
    "<|im_start|>", "\u2581", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\x1c", "\x1d", "\x1e", "\x1f", "\u2028", "\x85", "\ufeff",
    "{{ 7 * 7 }}", "{% raw %}", "</script><script>x()</script>", "<!--", "]]>", "a", " ", "\n", "\r\n", "\t", "word ",
    "joe@example.com ", "10.0.0.1 ", "4111 1111 1111 1111 ", "(212) 555-0123 ", "javascript\n", "lorem ipsum {", "{", "}",
    "e\u0301", "\u0378", "\U000e0001", "\U0010ffff", "\ufdd0", "\u202e", "\U0001f468\u200d\U0001f469", "\u0fb2\u0f71\u0f80",
    "\u1112\u1161\u11ab", "\ud55c", "\u65e5\u672c", "\u0e44\u0e17\u0e22", "\u0627\u0644", "http://x.y/z?a=b#c ", "1e5 ", "\x7f",
)  # fmt: skip
PLANES = tuple((p << 16, (p << 16) + 0xFFFF) for p in range(17))


def text_of(rng: random.Random, most: int = 40) -> str:
    """Text of literals that mean something to some part, and of letters of all planes; no NUL, no surrogates."""
    parts = []
    for _ in range(rng.randrange(most)):
        match rng.randrange(6):
            case 0:
                parts.append(rng.choice(LITERALS) * rng.randrange(1, 2 + rng.randrange(60)))
            case 1:
                letters = [rng.randint(*rng.choice(PLANES)) for _ in range(rng.randrange(1, 12))]
                parts.append("".join(chr(c) for c in letters if c and not 0xD800 <= c < 0xE000))
            case 2:
                parts.append(chr(rng.randrange(1, 256)) * rng.randrange(1, 300))
            case _:
                parts.append(rng.choice(LITERALS))
    return "".join(parts)


# -- sources ---------------------------------------------------------------------------------------------------------


def value_of(rng: random.Random, depth: int = 3) -> Any:
    """A value that JSON can hold."""
    match rng.randrange(9 if depth else 6):
        case 0:
            return None
        case 1:
            return rng.choice([True, False, 0, -1, 1.5, 1e308, 1 << 62, -(1 << 63), 10**25, 253402300800, -62135596801])
        case 2:
            return rng.choice(["", "2023-02-30", "2023-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1 if 1 else 2"])
        case 3:
            return (
                "{'url': " + rng.choice(["'\\ud800'", "0x" + "f" * 5000, "[[]]", "b'x'", "1j", "-" * 300 + "1"]) + "}"
            )
        case 4 | 5:
            return text_of(rng, 8)
        case 6 | 7:
            keys = ["text", "url", "role", "content", "from", "value", "redpajama_set_name", "pile_set_name", "id", "x"]
            return {rng.choice(keys): value_of(rng, depth - 1) for _ in range(rng.randrange(4))}
        case _:
            return [value_of(rng, depth - 1) for _ in range(rng.randrange(4))]


TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So <start_of_turn>."}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "redpajama": [
        {
            "text": "first",
            "meta": {"url": "http://x/1", "timestamp": "2023-01-01T00:00:00Z"},
            "red_pajama_subset": "c4",
        },
        {"text": "second", "meta": "{'arxiv_id': '1', 'timestamp': None}"},
        {"text": "third", "meta": '{"id": 3}', "red_pajama_subset": "arxiv"},
    ],
    "slimpajama": [{"text": f"row {i}", "meta": {"redpajama_set_name": "RedPajamaC4"}} for i in range(3)],
    "dolma": [
        {"id": "a", "text": "first", "source": "c4", "created": "2020-01-01", "metadata": {"url": "http://x/1"}},
        {"id": 2, "text": "second", "source": "wiki", "added": "2021-01-01T00:00:00Z", "version": "v1"},
    ],
    "pile": [{"text": f"row {i}", "meta": {"pile_set_name": "Github"}} for i in range(3)],
    "refinedweb": [{"content": "first", "url": "http://x/1", "timestamp": "2013-05-18T10:42:00Z", "dump": "CC"}],
    "huggingface": [{"text": f"row {i}", "id": i, "url": "http://x", "timestamp": 1600000000} for i in range(3)],
    "chat": [
        {"messages": TURNS, "id": "1", "source": "s"},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"instruction": "Do", "input": "it", "output": "done"},
    ],
}
TABLES: dict[str, pa.Table] = {
    "refinedweb": pa.table(
        {
            "content": ["first", "second " * 40, None, ""],
            "url": ["http://x/1", None, "u", "v"],
            "timestamp": pa.array([0, 1, None, 3], pa.timestamp("us")),
        }
    ),
    "huggingface": pa.table({"text": ["a", "b\u00e9" * 50, "c"], "id": [1, 2, 3], "url": ["u", "v", "w"]}),
    "chat": pa.Table.from_pylist([{"messages": TURNS, "source": "s"}, {"messages": TURNS[:1], "source": None}] * 2),
}


def _lines(format: str, rng: random.Random) -> bytes:
    rows = []
    for row in ROWS[format]:
        changed = dict(row)
        for _ in range(rng.randrange(3)):
            changed[rng.choice([*row, "text", "id", "url", "system"])] = value_of(rng)
        rows.append(json.dumps(changed, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
    return b"\n".join(rows) + b"\n" * rng.randrange(2)


def _table(format: str, rng: random.Random, kind: str) -> bytes:
    table, out = TABLES[format], io.BytesIO()
    if rng.random() < 0.3:
        at = rng.randrange(table.num_columns)
        odd = rng.choice(
            [
                pa.array([1 << 62, -(1 << 62), 5, 6][: len(table)], pa.timestamp(rng.choice(["ms", "us", "ns"]))),
                pa.array([b"\xff\xfe", b"\x00", None, b"ok"][: len(table)], pa.binary()).view(pa.string()),
                pa.array([[1], [], None, [2]][: len(table)]),
                pa.array([None] * len(table)),
                pa.array(["a"] * len(table)).dictionary_encode(),
                pa.array([1.5, float("nan"), float("inf"), -1.0][: len(table)]),
                pa.array([b"\xff"] * len(table), pa.binary()),
            ]
        )
        table = table.set_column(at, table.column_names[at], odd)
    if kind == "parquet":
        pq.write_table(table, out, row_group_size=2, compression=rng.choice(["none", "snappy", "zstd"]))
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "zstd", "lz4"]))
        new = pa.ipc.new_file if rng.random() < 0.5 else pa.ipc.new_stream
        with new(out, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def _source(format: str, suffix: str) -> Target:
    def make(rng: random.Random) -> Case:
        if suffix in ("parquet", "arrow"):
            data = _table(format, rng, suffix)
            return Case(f"c4/x.{suffix}", data if rng.random() < 0.3 else damage(data, rng, rng.randrange(1, 4)))
        data = _lines(format, rng)
        if suffix == "jsonl":
            return Case("c4/x.jsonl", data if rng.random() < 0.3 else damage(data, rng))
        # Damage inside what is compressed, or to the compressed bytes.
        inner = rng.random() < 0.3
        data = damage(data, rng) if inner else data
        compressed = gzip.compress(data, 1, mtime=0) if suffix == "jsonl.gz" else zstandard.compress(data)
        return Case(f"c4/x.{suffix}", compressed if inner else damage(compressed, rng))

    return Target(make, lambda case, folder: _read_source(format, case, folder))


def _read_source(format: str, case: Case, folder: Path) -> str:
    """Rows of the schema, in order, none of them in the quarantine; every line of a plain file is in one of the two."""
    from fox1.pipeline.identity import SourceFile
    from fox1.pipeline.sources.quarantine import Quarantine
    from fox1.pipeline.sources.rows import TEXT_SCHEMA, read_rows

    path = folder / "source" / case.name
    path.parent.mkdir(parents=True)
    path.write_bytes(case.data)
    file = SourceFile("fuzz", case.name, str(path), len(case.data), "", format, False, 1)
    noted = folder / "quarantine.jsonl"
    quarantine = Quarantine(file, noted)
    rows: list[int] = []
    try:
        for batch in read_rows(file, quarantine):
            batch.validate(full=True)
            if batch.schema != TEXT_SCHEMA or any(c.null_count for c in batch.columns):
                raise Fault(f"a batch of {batch.schema}")
            if any("\0" in text for text in batch.column("text").to_pylist()):
                raise Fault("NUL in a text")
            for subset in batch.column("subset").to_pylist():
                if CONTROL.search(subset) or len(quote(subset, safe="").replace(".", "%2E")) > 255:
                    raise Fault(f"a subset that cannot name a folder: {subset[:200]!r}")
            rows += batch.column("row").to_pylist()
    except Fault:
        raise
    except Exception as error:
        return refused(error, file.name, str(path))
    quarantine.publish()
    bad = [json.loads(line)["row"] for line in noted.read_bytes().splitlines()] if noted.exists() else []
    if rows != sorted(set(rows)) or set(rows) & set(bad):
        raise Fault(f"rows {rows}, quarantined {bad}")
    if case.name.endswith("jsonl"):
        lines = case.data.count(b"\n") + bool(case.data and not case.data.endswith(b"\n"))
        if sorted(rows + bad) != list(range(lines)):
            raise Fault(f"{lines} lines: rows {rows}, quarantined {bad}")
    return "damaged" if quarantine.damage else "quarantined" if quarantine.rows else "read"


def _make_urls(rng: random.Random) -> Case:
    hosts = ["https://x/a/", "s3://b/a/", "", "/", "../", "file:///etc/", "https://x/a/../../", "https://x/a/%2e%2e/"]
    lines = [rng.choice(hosts) + text_of(rng, 4) + rng.choice(["b.jsonl", "c/d.parquet", ".."]) for _ in range(3)]
    return Case("urls.txt", damage("\n".join(lines).encode(), rng))


def _list_urls(case: Case, folder: Path) -> str:
    """No path of a list leads out of the folders of a run."""
    from fox1.pipeline.artifacts import RunPaths
    from fox1.pipeline.sources.listing import SourceSettings, list_sources

    listed = folder / case.name
    listed.write_bytes(case.data)
    try:
        files = list_sources([SourceSettings("fuzz", "pile", urls=str(listed))])
    except Exception as error:
        return refused(error, "fuzz")
    for file in files:
        for path in (RunPaths(folder).signals("fuzz", file.path), RunPaths(folder).quarantine("fuzz", file.path)):
            if not Path(os.path.normpath(path)).is_relative_to(folder / path.relative_to(folder).parts[0] / "fuzz"):
                raise Fault(f"{file.path!r} leads to {path}")
        if CONTROL.search(file.path):
            raise Fault(f"a file name that can steer a terminal: {file.path!r}")
    return "read"


# -- text ------------------------------------------------------------------------------------------------------------


def _make_text(rng: random.Random) -> Case:
    texts = [text_of(rng) for _ in range(rng.randrange(1, 6))]
    return Case("texts.json", json.dumps(texts).encode())


def _scan(case: Case, folder: Path) -> str:
    """Signals of every text; edits that lie in it, in order, and whose result is UTF-8."""
    from fox1.pipeline.edits import apply_edits, raw_span
    from fox1.pipeline.identity import SourceFile
    from fox1.pipeline.signals.c4 import LINE_RULES
    from fox1.pipeline.signals.pii import KINDS
    from fox1.pipeline.signals.scan import EditSettings, Prepared, ScanSettings, scan_piece, signals_schema
    from fox1.pipeline.sources.rows import TEXT_SCHEMA

    texts = json.loads(case.data)
    edits = EditSettings(tuple((kind, f"<{kind}>") for kind in KINDS), (("code", LINE_RULES),), "cut")
    settings = ScanSettings(edits=edits)
    n = len(texts)
    columns = [range(n), texts, ["Github"] * n, texts, texts, [0] * n]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)
    file = SourceFile("fuzz", "x.jsonl", "", 0, "", "pile", False, 1)
    signals = scan_piece(batch, file, settings, signals_schema(settings), Prepared.nothing())
    signals.validate(full=True)
    final = apply_edits(batch.column("text"), signals.column("edits"))
    final.validate(full=True)
    for text, listed, edited in zip(texts, signals.column("edits").to_pylist(), final.to_pylist(), strict=True):
        bounds = [b for e in listed for b in (e["start"], e["end"])]
        if bounds != sorted(bounds) or (bounds and not 0 <= bounds[0] <= bounds[-1] <= len(text.encode())):
            raise Fault(f"edits {listed} of {len(text.encode())} bytes")
        first, end = raw_span(listed, 0, len(edited.encode()))
        if not 0 <= first <= end <= len(text.encode()):
            raise Fault(f"the edited text comes from bytes {first} to {end} of {len(text.encode())}")
    return "edited" if any(signals.column("edits").to_pylist()) else "read"


@functools.cache
def encoder() -> Any:
    """An encoder of a small model with the pieces of the chat template, and its SentencePiece processor."""
    from fox1.tokenize.encode import Encoder
    from fox1.tokenize.model import TokenizerSettings, load, train

    text = ["What does the fox say?\n\n  The fox says nothing; it is user and model 123.\n"] * 200
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(train((f"{t}{i}" for i, t in enumerate(text)), TokenizerSettings(vocab_size=370)))
        file.flush()
        path = Path(file.name)
        return Encoder(path, TokenizerSettings().reserved), load(path)


def _encode(case: Case, folder: Path) -> str:
    """No text becomes a control or reserved id, alone or in a conversation, and none is lost."""
    from fox1.tokenize.chat import MARKS, TEMPLATES, ChatEncoder, compose

    texts = json.loads(case.data)
    encode, processor = encoder()
    barred = {i for i in range(processor.vocab_size()) if processor.is_control(i) or processor.is_unknown(i)}
    pieces = set(encode.reserved_ids.values())
    encoded = encode.encode(pa.array(texts, pa.large_string()))
    if barred & set(encoded.ids.tolist()) or pieces & set(encoded.ids.tolist()):
        raise Fault("a control or reserved id from text")
    for i, text in enumerate(texts):
        ids = encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()
        if encode.decode(ids).decode().replace("\u2581", " ") != text.replace("\u2581", " "):
            raise Fault(f"decodes to another text: {text!r}")
        if encode.byte_bounds(text.encode(), ids)[-1] != len(text.encode()):
            raise Fault(f"bounds of tokens: {text!r}")
    said = ["".join(c for c in t if c not in MARKS.values()) for t in texts]
    turns = [(("user", "assistant")[i % 2], t) for i, t in enumerate([*said, "end", "end"])]
    chat = ChatEncoder(encode, TEMPLATES["gemma"]).encode(pa.array([compose(turns)], pa.large_string())).ids.tolist()
    if barred & set(chat) or sum(i in pieces for i in chat) != 2 * len(turns):
        raise Fault("what is said made a piece of the template")
    return "literals" if encoded.with_control or encoded.with_reserved else "read"


# -- recipes ---------------------------------------------------------------------------------------------------------

VARIABLES = {"FOX1_DATA": "/data", "FOX1_TOKENIZER": "/data/gemma.model"}
WORDS = (
    "", "~", "{}", "[]", "[[]]", "{a: 1}", "-1", "0", "1e999", ".inf", "-.inf", ".nan", "9" * 30, "9" * 5000, "1.5", "true",
    "2024-99-99", "1:2:3", "0b", "0x", "!!int x", "!!timestamp x", "!!binary x", "!!set {a}", "&a [*a]", "*a", "? a", "\t",
    "62B", "1e300B", "1e-300T", "120%", "-5%", "nan%", "all", "web", "pile", "pile/Nosuch", "../../x", "'a\\nb'", '"a\\nb"',
    '"\\e[31m"', '"\\0"', "${FOX1_DATA}", "${A:-${B}}", "${A:-x}", "slimpajama", "[slimpajama]", "{web: {min_words: .nan}}",
    "{min_words: 9999999999999999999999}", "[[[[[[[[1]]]]]]]]", "'" + "x" * 400 + "'", "2001-01-01", "1_000", "<<: 1", "=",
)  # fmt: skip


@functools.cache
def _paths_of_recipe() -> tuple[str, ...]:
    from fox1.recipes.load import load_recipe

    def walk(value: Any, where: str) -> Iterator[str]:
        yield where
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, part in items:
            yield from walk(part, f"{where}.{key}" if where else str(key))

    return tuple(p for p in walk(load_recipe("sample", [], VARIABLES)[1], "") if p)


def _make_recipe(rng: random.Random) -> Case:
    from fox1.recipes.load import PACKAGE

    lines = (PACKAGE / rng.choice(["sample.yaml", "mini.yaml", "fox1.yaml"])).read_text().splitlines()
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                key, colon, _ = lines[at].partition(":")
                lines[at] = f"{key}{colon} {rng.choice(WORDS)}"
            case 1:
                lines[at] = " " * rng.randrange(6) + lines[at].lstrip()
            case 2:
                del lines[at : at + rng.randrange(1, 4)]
                lines.append("x: 1")
            case 3:
                lines.insert(at, rng.choice(lines))
    data = "\n".join(lines).encode()
    return Case("recipe.yaml", data if rng.random() < 0.6 else damage(data, rng, 1))


def _load_recipe(case: Case, folder: Path) -> str:
    from fox1.recipes.load import load_recipe

    path = folder / case.name
    path.write_bytes(case.data)
    try:
        load_recipe(str(path), [], VARIABLES)
    except Exception as error:
        return refused(error, "")
    return "read"


def _make_overrides(rng: random.Random) -> Case:
    lines = []
    for _ in range(rng.randrange(1, 4)):
        key = rng.choice(_paths_of_recipe())
        if rng.random() < 0.2:
            key += rng.choice([".x", ".0", ".", "..", ".-1", ".a.b.c"])
        lines.append(f"{key}={rng.choice(WORDS)}".encode())
    data = b"\0".join(lines)
    return Case("overrides", data if rng.random() < 0.8 else damage(data, rng, 1))


def _load_overrides(case: Case, folder: Path) -> str:
    from fox1.recipes.load import load_recipe

    try:
        load_recipe("sample", [o.decode(errors="replace") for o in case.data.split(b"\0")], VARIABLES)
    except Exception as error:
        return refused(error, "")
    return "read"


# -- shards and checkpoints ------------------------------------------------------------------------------------------


@functools.cache
def _phase_set() -> tuple[dict[str, bytes], list[bytes]]:
    """Files of a phase set of two block lengths with spans that are trained on, and the tokens of its units."""
    from fox1.tokenize import shards
    from fox1.trainer.data import PhaseData

    rng, splits, sizes = np.random.default_rng(1), [], {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for length in (64, 128):
            n = 6
            ends = np.tile([length // 2, length - 3], n)
            loss = (np.tile([1, length // 2], n), np.arange(0, 2 * n + 1, 2))
            codes = rng.integers(0, 3, 2 * n).astype(np.uint16)
            batch = shards.blocks_to_batch(
                rng.integers(4, 1000, (n, length), np.int32),
                np.arange(0, 2 * n + 1, 2),
                np.arange(2 * n, dtype=np.uint64),
                np.zeros(2 * n, np.int64),
                ends,
                codes,
                loss,
            )
            name = shards.file_names(1)[0]
            (folder / str(length)).mkdir()
            with open(folder / str(length) / name, "wb") as out:
                table = pa.Table.from_batches([batch], shards.block_schema(length, True))
                shards.write_blocks(out, table, length, True)
            splits.append(shards.Split(length, n, n * length, (name,), str(length)))
            sizes[str(length)] = 1
        sources = tuple(("c", str(i), "web") for i in range(3))
        slots = {str(s.block_length): 4 for s in splits}
        info = shards.SetInfo("s", tuple(splits), sources, slots, 1000, 0, 1, 2, "x", True)
        for name, value in shards.set_metadata(info, sizes).items():
            (folder / name).write_text(json.dumps(value))
        data = PhaseData(folder, 1)
        units = [data.stream(i, 1).tokens.tobytes() for i in range(data.units)]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}, units


def _make_set(rng: random.Random) -> Case:
    files = _phase_set()[0]
    name = rng.choice(sorted(n for n in files if n.endswith(".arrow") or n == "fox1.json"))
    return Case(name, damage(files[name], rng))


def _read_set(case: Case, folder: Path) -> str:
    """Units as a trainer takes them: ids of the vocabulary, segments in order that fill them, sources of the table."""
    import torch
    from fox1.trainer.data import PhaseData

    files, units = _phase_set()
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(case.data if name == case.name else data)
    try:
        data = PhaseData(folder, 1)
        if data.units > 1000:
            return "other"  # the number is changed: every file is refused when it is opened
        streams = [data.stream(i, 1) for i in range(data.units)]
        batches = [data.micro_batch(i, 1, torch.device("cpu")) for i in range(data.units)]
    except Exception as error:
        return refused(error, str(folder))
    for stream, batch in zip(streams, batches, strict=True):
        if not ((stream.tokens >= 0) & (stream.tokens < data.info.vocab_size)).all():
            raise Fault("ids outside of the vocabulary")
        if stream.ends[-1] != len(stream.tokens) or (np.diff(np.r_[0, stream.ends]) <= 0).any():
            raise Fault(f"segments {stream.ends.tolist()}")
        if not ((stream.sources >= 0) & (stream.sources < len(data.info.sources))).all():
            raise Fault("sources that the table does not have")
        if len(batch.tokens) != data.unit_tokens:
            raise Fault("a batch of another length")
    same = [s.tokens.tobytes() for s in streams] == units
    return "read" if same else "other"  # what only a checksum can tell: `fox1 verify`


@functools.cache
def _token_shard() -> bytes:
    from fox1.tokenize.shards import TOKEN_SCHEMA

    out = io.BytesIO()
    rows = [{"doc_id": i, "quality": i, "input_ids": [4, 5, 6] * i, "loss_spans": []} for i in range(5)]
    with pa.ipc.new_stream(out, TOKEN_SCHEMA) as writer:
        for k in (0, 2):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[k : k + 3], TOKEN_SCHEMA))
    return out.getvalue()


def _read_tokens(case: Case, folder: Path) -> str:
    from fox1.tokenize.shards import TOKEN_SCHEMA, token_batches

    path = folder / case.name
    path.write_bytes(case.data)
    try:
        batches = list(token_batches(path))
    except Exception as error:
        return refused(error, str(path))
    for batch in batches:
        if batch.schema != TOKEN_SCHEMA:
            raise Fault(f"a batch of {batch.schema}")
        batch.validate(full=True)
        batch.to_pylist()
    return "read"


def _model() -> Any:
    import torch

    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8, bias=False), torch.nn.LayerNorm(8))


@functools.cache
def _checkpoint() -> dict[str, bytes]:
    from fox1.trainer.checkpoint import Progress, write_whole

    with tempfile.TemporaryDirectory() as made:
        folder = write_whole(Path(made), _model(), Progress(1, 40, 7, 1 << 20), {"seed": 1, "lr": 1e-3}, 1000)
        return {p.name: p.read_bytes() for p in folder.iterdir()}


def _make_checkpoint(rng: random.Random) -> Case:
    files = _checkpoint()
    name = rng.choice(["manifest.json", *sorted(files)])
    return Case(name, damage(files[name], rng))


def _read_checkpoint(case: Case, folder: Path) -> str:
    """What was saved, or nothing."""
    import torch
    from fox1.trainer.checkpoint import load_weights, newest_whole, read_manifest

    files = _checkpoint()
    place = folder / "step-00000007"
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(case.data if name == case.name else data)
    model = _model()
    wanted = {name: value.clone() for name, value in model.state_dict().items()}
    for value in model.parameters():
        torch.nn.init.zeros_(value)
    try:
        found, _ = newest_whole(folder)
        if found is None:
            raise Fault("a damaged checkpoint is as good as none")
        manifest = read_manifest(found)
        load_weights(found, model)
    except Fault:
        raise
    except Exception as error:
        return refused(error, str(place))
    if any(not torch.equal(value, wanted[name]) for name, value in model.state_dict().items()):
        raise Fault("other weights")
    (folder / "as-written").mkdir()
    (folder / "as-written" / "manifest.json").write_bytes(files["manifest.json"])
    if manifest != read_manifest(folder / "as-written"):
        raise Fault(f"another manifest: {manifest}")
    return "read"


# -- all -------------------------------------------------------------------------------------------------------------

TARGETS: dict[str, Target] = {
    **{f"{format}.jsonl": _source(format, "jsonl") for format in ROWS},
    "redpajama.zst": _source("redpajama", "jsonl.zst"),
    "dolma.gz": _source("dolma", "jsonl.gz"),
    **{f"{format}.parquet": _source(format, "parquet") for format in TABLES},
    **{f"{format}.arrow": _source(format, "arrow") for format in TABLES},
    "url-list": Target(_make_urls, _list_urls),
    "scan": Target(_make_text, _scan),
    "encode": Target(_make_text, _encode),
    "recipe": Target(_make_recipe, _load_recipe),
    "overrides": Target(_make_overrides, _load_overrides),
    "phase-set": Target(_make_set, _read_set),
    "token-shard": Target(lambda rng: Case("00000.arrow", damage(_token_shard(), rng)), _read_tokens),
    "checkpoint": Target(_make_checkpoint, _read_checkpoint),
}


def run_case(name: str, case: Case, folder: Path) -> str:
    """Judge a case in a folder that is emptied afterwards. Raises `Fault` for all that is not allowed."""
    inside = folder / "case"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    try:
        return TARGETS[name].judge(case, inside)
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"{type(error).__name__} escapes: {str(error)[:300]}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(inside)

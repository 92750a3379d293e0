"""Shards on disk: token shards between stages, and the phase sets that trainers read.

A phase set is a folder that `datasets.load_from_disk` opens as a `DatasetDict`, one split per block length; its files
are Arrow IPC streams that plain pyarrow memory-maps. On-disk order is training order. `fox1.json` beside them holds
everything else that a loader needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ..storage.reading import Misshapen, open_regular, parse_json, read_json, typed
from ..storage.store import read_now
from ..storage.wording import first_line, printable


def _column(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


def _list(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", type_, nullable=False))


TOKEN_SCHEMA = pa.schema(
    [
        _column("doc_id", pa.uint64()),
        _column("quality", pa.uint16()),
        _column("input_ids", _list(pa.int32())),
        _column("loss_spans", _list(pa.int32())),
    ]
)
"""Token shards: one row per surviving document of a (group, subset), without BOS and EOS. `loss_spans` are begins and
exclusive ends, back to back, of the tokens that are trained on; empty where all are."""

_FILE_NAME = re.compile(r"data-[0-9]{5,9}(-of-[0-9]{5,9})?\.arrow")
"""Names of the Arrow files of a phase set and of a held-out set."""
MOST_PIECES = 1 << 22
"""Pieces that a vocabulary may have."""
BATCH_TOKENS = 1 << 18
"""Tokens in a record batch of a phase set: a constant of the format."""
FILE_TOKENS = 1 << 24
"""Tokens in a file of a phase set: 64 MiB of ids."""


def block_schema(block_length: int, masked: bool = False) -> pa.Schema:
    """Columns of a phase set (`doc_sources` are codes into the set's table of sources).

    Args:
        masked: whether the set has instruction data: then `loss_spans` are begins and exclusive ends, back to back, of the
            positions that are trained on, as targets.
    """
    columns = [
        _column("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False), block_length)),
        _column("doc_ends", _list(pa.int32())),
        _column("doc_ids", _list(pa.uint64())),
        _column("doc_starts", _list(pa.int32())),
        _column("doc_sources", _list(pa.uint16())),
    ]
    return pa.schema([*columns, _column("loss_spans", _list(pa.int32()))] if masked else columns)


@dataclass(frozen=True)
class Split:
    """One block length of a set."""

    block_length: int
    blocks: int
    tokens: int
    """Positions that are not padding."""
    files: tuple[str, ...]
    """Names in the split's folder, in training order."""
    hash: str
    """Hash of the contents of the files, in order: part of the data identity that checkpoints pin."""


@dataclass(frozen=True)
class SetInfo:
    """`fox1.json`: what a phase set is."""

    name: str
    splits: tuple[Split, ...]
    sources: tuple[tuple[str, str, str], ...]
    """(corpus, subset, domain), by source code."""
    max_docs_per_block: dict[str, int]
    """Block length -> segments that a block may hold."""
    vocab_size: int
    pad: int
    eos: int
    bos: int
    data_identity: str
    masked: bool = False
    """Whether blocks have `loss_spans`: then only what these cover is trained on."""
    carved: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Of a held-out set, the halves of what a recipe sets apart: name and source codes."""

    def to_json(self) -> dict[str, Any]:
        """Without what only held-out sets have, where it is empty."""
        return {name: value for name, value in asdict(self).items() if value or name != "carved"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SetInfo:
        """Raise ValueError for anything but the description of a set."""
        info = typed(cls, value)
        info.check()
        return info

    def check(self) -> None:
        """Raise ValueError for values that no phase set has."""
        if not all(0 <= i < self.vocab_size <= MOST_PIECES for i in (self.pad, self.eos, self.bos)):
            raise ValueError(f"{self.vocab_size} pieces, of which {self.pad}, {self.eos} and {self.bos} are special")
        for split in self.splits:
            length, name = split.block_length, str(split.block_length)
            if length < 1 or length & (length - 1) or split.blocks < 0:
                raise ValueError(f"{split.blocks} blocks of {length} tokens")
            if len(set(split.files)) != -(-split.blocks // rows_per_file(length)):
                raise ValueError(f"{split.blocks} blocks of {length} tokens in {len(split.files)} files")
            if outside := next((f for f in split.files if not _FILE_NAME.fullmatch(f)), None):
                raise ValueError(f"{outside[:100]} is not the name of a data file")
            if self.max_docs_per_block.get(name, 0) < 1:
                raise ValueError(f"blocks of {length} tokens may hold no segments")
        if not all(0 <= code < len(self.sources) for _, codes in self.carved for code in codes):
            raise ValueError("what is set apart has a source that the set has not")
        if not self.splits or len({s.block_length for s in self.splits}) < len(self.splits):
            raise ValueError("there is no split, or there are two of one block length")


def read_set(folder: Path) -> SetInfo:
    """The description of a phase set.

    Raises:
        ValueError: the folder is not a phase set, or its description is damaged.
    """
    path = folder / "fox1.json"
    try:
        return SetInfo.from_json(read_json(path))
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a phase set (no fox1.json); `fox1 curate` makes them") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({printable(first_line(error))}); run `fox1 curate` again") from None


def check_descriptions(folder: Path) -> None:
    """Refuse a phase set whose other descriptions name other files than `fox1.json` does: `datasets` would open whatever they
    name.

    Raises:
        ValueError: the folder is not a phase set, or a description is damaged; the message names it.
    """
    info = read_set(folder)
    splits = {str(s.block_length): s for s in info.splits}
    expected: list[tuple[str, str, Any]] = [("dataset_dict.json", "splits", list(splits))]
    for name, split in splits.items():
        expected.append((f"{name}/state.json", "_data_files", [{"filename": file} for file in split.files]))
        expected.append((f"{name}/dataset_info.json", "citation", ""))
    path = folder
    try:
        for name, key, value in expected:
            path = folder / name
            if typed(dict[str, Any], read_json(path)).get(key) != value:
                raise Misshapen(f"its {key} are not those of fox1.json")
        for path in (folder / name / file for name, split in splits.items() for file in split.files):
            open_regular(path).close()
    except (FileNotFoundError, Misshapen) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"{path} is damaged ({why}); run `fox1 curate` again to rebuild it") from None


def current_identity(folder: Path) -> str:
    """The data identity of a phase set as it is now; empty while it is not whole."""
    try:
        return str(parse_json(read_now(folder / "fox1.json"))["data_identity"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def rows_per_file(block_length: int) -> int:
    """Number of blocks in every file of a split but the last."""
    return max(1, FILE_TOKENS // block_length)


def rows_per_batch(block_length: int) -> int:
    """Number of blocks in every record batch of a file but the last."""
    return max(1, BATCH_TOKENS // block_length)


def blocks_to_batch(
    blocks: np.ndarray,
    segments: np.ndarray,
    doc_ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    codes: np.ndarray,
    loss: tuple[np.ndarray, np.ndarray] | None = None,
) -> pa.RecordBatch:
    """A record batch of `block_schema`.

    Args:
        blocks: int32 [n, L].
        segments: int64 [n + 1], where each block's segments begin in the flat arrays that follow.
        doc_ids, starts, ends, codes: [s].
        loss: for a masked set, `loss_spans` back to back, and int64 [n + 1] where those of each block begin.
    """
    n, length = blocks.shape
    schema = block_schema(length, loss is not None)
    offsets = pa.array(segments.astype(np.int32))

    def lists(values: np.ndarray, name: str) -> pa.Array:
        type_ = schema.field(name).type
        return pa.ListArray.from_arrays(offsets, pa.array(values, type_.value_type), type=type_)

    ids = pa.FixedSizeListArray.from_arrays(pa.array(blocks.reshape(-1)), type=schema.field("input_ids").type)
    arrays = [
        ids,
        lists(ends.astype(np.int32), "doc_ends"),
        lists(doc_ids, "doc_ids"),
        lists(starts.astype(np.int32), "doc_starts"),
        lists(codes, "doc_sources"),
    ]
    if loss is not None:
        type_ = schema.field("loss_spans").type
        spans = pa.array(loss[0].astype(np.int32))
        arrays.append(pa.ListArray.from_arrays(pa.array(loss[1].astype(np.int32)), spans, type=type_))
    assert len(ids) == n
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def write_blocks(out: IO[bytes] | Any, table: pa.Table, block_length: int, masked: bool = False) -> None:
    """Write one file of a set: record batches of a constant number of rows.

    Every batch is rebuilt from fresh buffers, so that the bytes depend on the rows alone (a slice of an Arrow array
    would carry its neighbours' offsets along).
    """
    rows = rows_per_batch(block_length)
    schema = block_schema(block_length, masked)
    with pa.ipc.new_stream(out, schema) as writer:
        for begin in range(0, table.num_rows, rows):
            part = table.slice(begin, rows)
            writer.write_batch(part.take(pa.array(np.arange(part.num_rows))).combine_chunks().to_batches()[0])


def set_metadata(info: SetInfo, bytes_of: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The JSON files that make a folder a `DatasetDict`: path relative to the set -> value.

    `_fingerprint` is our own, derived from the content, so that equal data has equal bytes.
    """
    files: dict[str, dict[str, Any]] = {"dataset_dict.json": {"splits": [str(s.block_length) for s in info.splits]}}
    for split in info.splits:
        name = str(split.block_length)
        features = {field.name: _feature(field.type) for field in block_schema(split.block_length, info.masked)}
        files[f"{name}/dataset_info.json"] = {
            "citation": "",
            "description": f"{info.name}: blocks of {name} tokens, packed and shuffled by fox1",
            "features": features,
            "homepage": "",
            "license": "",
            "splits": {
                name: {
                    "name": name,
                    "num_bytes": bytes_of[name],
                    "num_examples": split.blocks,
                    "dataset_name": info.name,
                }
            },
        }
        files[f"{name}/state.json"] = {
            "_data_files": [{"filename": file} for file in split.files],
            "_fingerprint": split.hash[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": name,
        }
    files["fox1.json"] = info.to_json()
    return files


def _feature(type_: pa.DataType) -> dict[str, Any]:
    """What `datasets` says of a list of numbers in its JSON. To import it takes longer than to write the blocks of a small set."""
    feature: dict[str, Any] = {"feature": {"dtype": str(type_.value_type), "_type": "Value"}}
    if isinstance(type_, pa.FixedSizeListType):
        feature["length"] = type_.list_size
    return {**feature, "_type": "List"}


def dataset_card(info: SetInfo, tokens: dict[int, dict[int, int]]) -> str:
    """`README.md` of a phase set: what is in it, for anyone who finds the folder.

    Args:
        tokens: block length -> source code -> tokens; without them the card has no tables of corpora and domains.
    """
    whole = sum(s.tokens for s in info.splits)
    lines = [
        "---",
        f"pretty_name: {info.name}",
        "task_categories: [text-generation]",
        "tags: [fox1, pretraining, packed]",
        "---",
        f"# {info.name}",
        "",
        f"{whole:,} tokens in packed, globally shuffled blocks; on-disk order is training order.",
        "",
        "```python",
        "import datasets",
        "",
        'blocks = datasets.load_from_disk(".")  # a DatasetDict, one split per block length',
        "```",
        "",
        "| block length | blocks | tokens | padding |",
        "|---|---|---|---|",
    ]
    for s in info.splits:
        size = max(s.blocks * s.block_length, 1)
        lines.append(f"| {s.block_length:,} | {s.blocks:,} | {s.tokens:,} | {100 * (1 - s.tokens / size):.2f} % |")
    for title, part in (("corpus", 0), ("domain", 2)):
        sums: dict[str, dict[int, int]] = {}
        for length, by_source in tokens.items():
            for code, n in by_source.items():
                row = sums.setdefault(info.sources[code][part], {})
                row[length] = row.get(length, 0) + n
        if not sums:
            continue
        lengths = sorted(tokens)
        lines += [
            "",
            f"| {title} | " + " | ".join(f"{n:,}" for n in lengths) + " | share |",
            "|---" * (len(lengths) + 2) + "|",
        ]
        for name, row in sorted(sums.items(), key=lambda e: (-sum(e[1].values()), e[0])):
            cells = " | ".join(f"{row.get(n, 0):,}" for n in lengths)
            lines.append(f"| {name} | {cells} | {100 * sum(row.values()) / max(whole, 1):.2f} % |")
    lines += [
        "",
        f"Special ids: pad {info.pad}, eos {info.eos}, bos {info.bos}; {info.vocab_size:,} pieces. `doc_ends` are exclusive",
        "ends of the documents in a block, `doc_ids` who they are, `doc_starts` their offsets, `doc_sources`",
        "codes into `fox1.json`.",
        *(["`loss_spans` are begins and exclusive ends of the positions that are trained on."] if info.masked else []),
        f"Data identity: `{info.data_identity}`. The texts keep the licences of their corpora.",
    ]
    return "\n".join(lines) + "\n"


def token_batches(path: Path, mapped: bool = True) -> Iterator[pa.RecordBatch]:
    """Batches of a token shard.

    Args:
        mapped: into memory, so that only what is looked at is read. Who reads all of a file holds less without: a batch.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    return _batches(path, TOKEN_SCHEMA, mapped)


def block_batches(path: Path, block_length: int, masked: bool) -> Iterator[pa.RecordBatch]:
    """Batches of a file of a phase set, memory-mapped; views of them keep the map alive.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    return _batches(path, block_schema(block_length, masked))


def _batches(path: Path, schema: pa.Schema, mapped: bool = True) -> Iterator[pa.RecordBatch]:
    # A store that fails raises OSError here; what Arrow raises after this is about the bytes.
    source = pa.memory_map(os.fspath(path)) if mapped else pa.OSFile(os.fspath(path))
    try:
        for batch in pa.ipc.open_stream(source):
            if batch.schema != schema:
                raise pa.ArrowInvalid("not the columns of a shard")
            # Arrow trusts lengths and offsets; following damaged ones could crash the process.
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise pa.ArrowInvalid("a column contains nulls")
            yield batch
    except (OSError, pa.ArrowException, MemoryError, UnicodeDecodeError) as error:
        first = printable(first_line(error))
        raise ValueError(f"{path} is damaged ({first}); run `fox1 curate` again to rebuild it") from None


def file_name(number: int, count: int) -> str:
    """Name of a file of a split of so many, as `datasets` writes them."""
    return f"data-{number:05d}-of-{count:05d}.arrow"


def file_names(count: int) -> list[str]:
    """Names of all files of a split."""
    return [file_name(number, count) for number in range(count)]

"""Rows of any columns, in files or in a Hugging Face data set streamed through `datasets`; and the hub's part in listing files.

Rows have `text` and, optionally, `id`, `url` and `timestamp`, or the columns that a recipe names for these; the subset is that
of a column that it names, else the first folder of the file's path. A streamed data set has the shards of its resolved commit as
files, with the path `<config>/<split>/<shard>`, so that its subset is the config.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from ...storage.wording import first_line
from .adapter import Adapter, Facts, as_text, as_timestamp, first_folder

STREAM_ROWS = 512


class HubRow(msgspec.Struct, gc=False):
    text: str
    id: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


FIELDS = (*HubRow.__struct_fields__, "subset")
"""What a recipe may name a column for."""


def _facts(row: Any, path: str) -> Facts:
    return Facts(first_folder(path), as_text(row.id), as_text(row.url), as_timestamp(row.timestamp))


def _named_facts(row: Any, path: str, holders: Mapping[str, str]) -> Facts:
    """The facts of a row of named columns.

    Args:
        holders: for each of `FIELDS` that is read, the attribute that holds it.
    """
    of = {field: getattr(row, holder) for field, holder in holders.items()}
    subset = as_text(of.get("subset")) or first_folder(path)
    return Facts(subset, as_text(of["id"]), as_text(of["url"]), as_timestamp(of["timestamp"]))


ADAPTER = Adapter(HubRow, "text", _facts)


@functools.lru_cache(maxsize=64)
def adapter_for(columns: tuple[tuple[str, str], ...]) -> Adapter:
    """The adapter of rows whose fields stand in other columns.

    Args:
        columns: (one of `FIELDS`, column).
    """
    named = dict(columns)
    names = {field: named.get(field, field) for field in FIELDS if field in named or field != "subset"}
    # Two facts may stand in one column: the URL of a page may be its id.
    first: dict[str, str] = {}
    holders = {field: first.setdefault(name, field) for field, name in names.items()}
    held = [field for field in holders if holders[field] == field]
    fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [("text", str)]
    fields += [(field, msgspec.Raw, msgspec.Raw()) for field in held if field != "text"]
    row = msgspec.defstruct("Row", fields, rename=names, gc=False)
    return Adapter(row, "text", functools.partial(_named_facts, holders=holders))


def resolve_commit(repository: str, revision: str | None) -> str:
    """The commit a data set's revision names today, so that a run reads one version of it.

    Raises:
        ValueError: the hub has no such data set or revision, or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(repository, revision=revision).sha
    except Exception as error:
        first = first_line(error)
        raise ValueError(
            f"hf://datasets/{repository}: cannot resolve revision {revision or 'main'} ({first}); check the name, the "
            "revision and the connection"
        ) from None
    if not commit:
        raise ValueError(
            f"hf://datasets/{repository}: the hub has no commit for {revision or 'main'}; name another revision"
        )
    return commit


@dataclass(frozen=True)
class HubShard:
    """One shard of a data set that is streamed."""

    name: str
    config: str
    split: str
    commit: str
    """Empty for a local folder."""
    index: int
    count: int
    columns: tuple[str, ...] = ("text", "id", "url", "timestamp")
    first_row: int = 0

    def identity(self) -> str:
        return f"{self.config} {self.split} {self.index} of {self.count}"

    def tables(self, path: str) -> Iterator[pa.RecordBatch]:
        """Record batches with its `columns` as far as the data set has them."""
        stream = open_dataset(self.name, self.config or None, self.split, self.commit or None)
        stream = stream.shard(num_shards=self.count, index=self.index)
        for table in stream.with_format("arrow").iter(batch_size=STREAM_ROWS):
            present = [c for c in self.columns if c in table.column_names]
            yield from table.select(present).combine_chunks().to_batches()


def shards(
    name: str, config: str | None, split: str, revision: str | None, columns: tuple[tuple[str, str], ...] = ()
) -> list[tuple[str, HubShard, str]]:
    """(path, shard, version) of every shard of a data set on the hub or in a local folder.

    Args:
        columns: as `adapter_for` takes them.

    Raises:
        ValueError: `datasets` cannot open it; the message names the data set.
    """
    local = Path(name).expanduser()
    commit = "" if local.exists() else resolve_commit(name, revision)
    version = commit or f"local-{_folder_version(local)}"
    count = open_dataset(name, config, split, commit or None).num_shards
    wanted = tuple(field.encode_name for field in msgspec.structs.fields(adapter_for(columns).row))
    return [
        (
            f"{config or 'default'}/{split}/{i:05d}-of-{count:05d}",
            HubShard(name, config or "", split, commit, i, count, wanted),
            version,
        )
        for i in range(count)
    ]


def _folder_version(folder: Path) -> str:
    """A text that changes when a local data set does: a hash over the sizes and times of its files."""
    from ..run.artifacts import content_key

    stats = [(p.relative_to(folder).as_posix(), p.stat()) for p in sorted(folder.rglob("*")) if p.is_file()]
    return content_key([(name, s.st_size, s.st_mtime_ns) for name, s in stats])


def open_dataset(name: str, config: str | None, split: str, commit: str | None) -> Any:
    """A data set of the hub, streamed (`datasets.IterableDataset`).

    Raises:
        ValueError: the data set cannot be opened.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config or None, split=split, revision=commit, streaming=True)
    except Exception as error:
        first = first_line(error)
        raise ValueError(
            f"data set {name} ({config or 'default'}, {split}) cannot be opened ({first}); check `dataset`, `config` and "
            "`split`"
        ) from None

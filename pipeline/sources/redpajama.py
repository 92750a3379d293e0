"""RedPajama-1T rows: `text`; `meta` an object or a string; `red_pajama_subset` may be absent (the path tells)."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts, as_meta, as_text, as_timestamp
from .domains import SUBSET_DOMAINS


class RedPajamaMeta(msgspec.Struct, gc=False):
    """The keys of `meta` that are read; which of them exist differs by subset."""

    url: msgspec.Raw = msgspec.Raw()
    arxiv_id: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


class RedPajamaRow(msgspec.Struct, gc=False):
    text: str
    meta: RedPajamaMeta | str | None = None
    red_pajama_subset: str | None = None


def subset_of_path(path: str) -> str:
    """The first folder that is named like a subset; "unknown" if there is none."""
    known = SUBSET_DOMAINS["redpajama"]
    return next((part for part in path.split("/") if part in known), "unknown")


def _facts(row: RedPajamaRow, path: str) -> Facts:
    meta = as_meta(row.meta, RedPajamaMeta)
    native_id = as_text(meta.arxiv_id) or as_text(meta.id)
    return Facts(
        row.red_pajama_subset or subset_of_path(path), native_id, as_text(meta.url), as_timestamp(meta.timestamp)
    )


ADAPTER = Adapter(RedPajamaRow, "text", _facts)

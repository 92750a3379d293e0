"""RedPajama-1T rows: `text`; `meta` an object or a string; `red_pajama_subset` may be absent (the path tells)."""

from __future__ import annotations

import ast

import msgspec

from .adapter import META_BYTES, Adapter, Facts, as_text, as_timestamp
from .domains import SUBSET_DOMAINS


class Meta(msgspec.Struct, gc=False):
    """What we read of `meta`; which keys there are differs by subset."""

    url: msgspec.Raw = msgspec.Raw()
    arxiv_id: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


class Row(msgspec.Struct, gc=False):
    text: str
    meta: Meta | str | None = None
    red_pajama_subset: str | None = None


def _meta(value: Meta | str | None) -> Meta:
    if isinstance(value, Meta):
        return value
    if not value or len(value) > META_BYTES:
        return Meta()
    try:
        return msgspec.json.decode(value, type=Meta)
    except msgspec.MsgspecError:
        pass
    # Some shards hold the repr of a Python dictionary.
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Meta()
    known = {k: v for k, v in found.items() if k in Meta.__struct_fields__} if isinstance(found, dict) else {}
    return Meta(**known)


def subset_of_path(path: str) -> str:
    """The first folder that is the name of a subset; "unknown" where none is."""
    known = SUBSET_DOMAINS["redpajama"]
    return next((part for part in path.split("/") if part in known), "unknown")


def _facts(row: Row, path: str) -> Facts:
    meta = _meta(row.meta)
    native_id = as_text(meta.arxiv_id) or as_text(meta.id)
    return Facts(
        row.red_pajama_subset or subset_of_path(path), native_id, as_text(meta.url), as_timestamp(meta.timestamp)
    )


ADAPTER = Adapter(Row, "text", _facts)

"""SlimPajama-627B rows: `text` and `meta.redpajama_set_name`."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts


class Meta(msgspec.Struct, gc=False):
    redpajama_set_name: str | None = None


class Row(msgspec.Struct, gc=False):
    text: str
    meta: Meta | None = None


def _facts(row: Row, path: str) -> Facts:
    return Facts((row.meta and row.meta.redpajama_set_name) or "unknown", "", "")


ADAPTER = Adapter(Row, "text", _facts)

"""Dolma v1.x rows: `id` (unique only within a source), `text`, `source`; the rest is optional."""

from __future__ import annotations

from typing import Any

import msgspec

from .adapter import Adapter, Facts, as_text, as_timestamp


class Metadata(msgspec.Struct, gc=False):
    url: Any = None


class Row(msgspec.Struct, gc=False):
    text: str
    id: Any = None
    source: str | None = None
    created: Any = None
    added: Any = None
    metadata: Metadata | None = None


def _facts(row: Row, path: str) -> Facts:
    url = as_text(row.metadata.url) if row.metadata else ""
    return Facts(row.source or "unknown", as_text(row.id), url, as_timestamp(row.created) or as_timestamp(row.added))


ADAPTER = Adapter(Row, "text", _facts)

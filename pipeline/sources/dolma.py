"""Dolma v1.x rows: `id` (unique only within a source), `text`, `source`; the rest is optional."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts, as_meta, as_text, as_timestamp


class DolmaMetadata(msgspec.Struct, gc=False):
    url: msgspec.Raw = msgspec.Raw()


class DolmaRow(msgspec.Struct, gc=False):
    text: str
    id: msgspec.Raw = msgspec.Raw()
    source: str | None = None
    created: msgspec.Raw = msgspec.Raw()
    added: msgspec.Raw = msgspec.Raw()
    metadata: DolmaMetadata | str | None = None


def _facts(row: DolmaRow, path: str) -> Facts:
    url = as_text(as_meta(row.metadata, DolmaMetadata).url)
    return Facts(row.source or "unknown", as_text(row.id), url, as_timestamp(row.created) or as_timestamp(row.added))


ADAPTER = Adapter(DolmaRow, "text", _facts)

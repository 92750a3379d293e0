"""The Pile rows: `text` and `meta.pile_set_name`, 22 names as on disk."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts, as_meta


class PileMeta(msgspec.Struct, gc=False):
    pile_set_name: str | None = None


class PileRow(msgspec.Struct, gc=False):
    text: str
    meta: PileMeta | str | None = None


def _facts(row: PileRow, path: str) -> Facts:
    return Facts(as_meta(row.meta, PileMeta).pile_set_name or "unknown", "", "")


ADAPTER = Adapter(PileRow, "text", _facts)

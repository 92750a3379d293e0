"""SlimPajama-627B rows: `text` and `meta.redpajama_set_name`."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts, as_meta


class SlimPajamaMeta(msgspec.Struct, gc=False):
    redpajama_set_name: str | None = None


class SlimPajamaRow(msgspec.Struct, gc=False):
    text: str
    meta: SlimPajamaMeta | str | None = None


def _facts(row: SlimPajamaRow, path: str) -> Facts:
    return Facts(as_meta(row.meta, SlimPajamaMeta).redpajama_set_name or "unknown", "", "")


ADAPTER = Adapter(SlimPajamaRow, "text", _facts)

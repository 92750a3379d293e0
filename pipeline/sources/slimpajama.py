"""SlimPajama-627B rows: `text` and `meta.redpajama_set_name`."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts


class SlimPajamaMeta(msgspec.Struct, gc=False):
    redpajama_set_name: str | None = None


class SlimPajamaRow(msgspec.Struct, gc=False):
    text: str
    meta: SlimPajamaMeta | None = None


def _facts(row: SlimPajamaRow, path: str) -> Facts:
    return Facts((row.meta and row.meta.redpajama_set_name) or "unknown", "", "")


ADAPTER = Adapter(SlimPajamaRow, "text", _facts)

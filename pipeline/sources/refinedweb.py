"""Falcon RefinedWeb rows: `content` (not `text`), `url`, `timestamp`, `dump`, `segment`, `image_urls`."""

from __future__ import annotations

import msgspec

from .adapter import Adapter, Facts, as_text, as_timestamp


class RefinedWebRow(msgspec.Struct, gc=False):
    content: str
    url: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


def _facts(row: RefinedWebRow, path: str) -> Facts:
    return Facts("train", "", as_text(row.url), as_timestamp(row.timestamp))


ADAPTER = Adapter(RefinedWebRow, "content", _facts)

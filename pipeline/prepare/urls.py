"""The recipe's block lists as one artifact: checked, deduplicated, sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ..run.artifacts import Artifact, publish
from ..run.paths import RunPaths
from ..signals.urls import UrlRules, merged, read_list, rules_table
from ..sources.formats import open_source
from ..sources.listing import NamedFile


@dataclass(frozen=True)
class PreparedUrls:
    """The block lists as one."""

    file: Artifact
    """`RULES_SCHEMA`."""
    entries: int


def read_rules(url: str) -> UrlRules:
    """The entries of a block list.

    Raises:
        ValueError: it cannot be read, or an entry can match no URL; names the list and the line.
    """
    try:
        with open_source(url) as file:
            return read_list(file.read())
    except (OSError, ValueError) as error:
        raise ValueError(f"URL block list {url}: {error}") from None


def prepare_urls(lists: Sequence[NamedFile], paths: RunPaths) -> PreparedUrls:
    """Publish ``prepare/urls.arrow``.

    Raises:
        ValueError: a list cannot be read, or an entry can match no URL; names the list and the line.
    """
    table = rules_table(merged(read_rules(named.url) for named in lists))
    with publish(paths.prepare("urls.arrow"), len(table)) as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return PreparedUrls(out.artifact, len(table))

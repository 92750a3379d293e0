"""The recipe's block lists as one artifact: checked, deduplicated, sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..run.artifacts import Artifact, RunPaths, publish
from ..signals.urls import parse_rules
from ..sources.formats import open_source
from ..sources.listing import NamedFile


@dataclass(frozen=True)
class PreparedUrls:
    """The block lists as one."""

    file: Artifact
    entries: int


def read_rules(url: str) -> set[str]:
    """The entries of a block list.

    Raises:
        ValueError: it cannot be read, or an entry is neither a domain nor a word.
    """
    try:
        with open_source(url) as file:
            lines = file.read().decode().splitlines()
        parse_rules(lines)
    except (OSError, ValueError) as error:
        raise ValueError(f"URL block list {url}: {error}") from None
    return {line.split("#")[0].strip().lower() for line in lines} - {""}


def prepare_urls(lists: Sequence[NamedFile], paths: RunPaths) -> PreparedUrls:
    """Publish ``prepare/urls.txt``.

    Raises:
        ValueError: a list cannot be read, or an entry is neither a domain nor a word.
    """
    entries = set().union(*(read_rules(named.url) for named in lists))
    with publish(paths.prepare("urls.txt"), len(entries)) as out:
        out.write("".join(f"{entry}\n" for entry in sorted(entries)).encode())
    return PreparedUrls(out.artifact, len(entries))

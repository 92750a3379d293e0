"""The block lists of the recipe as one artifact: checked, deduplicated, sorted."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.tasks import TaskResult
from ..run.artifacts import RunPaths, publish
from ..signals.urls import parse_rules
from ..sources.formats import open_source


def prepare_urls(lists: Sequence[str], paths: RunPaths) -> TaskResult:
    """Publish ``prepare/urls.txt``.

    Raises:
        ValueError: a list cannot be read, or an entry is neither a domain nor a word.
    """
    entries: set[str] = set()
    for name in lists:
        try:
            with open_source(name) as file:
                lines = file.read().decode().splitlines()
            parse_rules(lines)
        except (OSError, ValueError) as error:
            raise ValueError(f"URL block list {name}: {error}") from None
        entries |= {line.split("#")[0].strip().lower() for line in lines}
    entries.discard("")
    with publish(paths.prepare("urls.txt"), len(entries)) as out:
        out.write("".join(f"{entry}\n" for entry in sorted(entries)).encode())
    return TaskResult((out.artifact,), {"entries": len(entries)})

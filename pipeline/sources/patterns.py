"""Files that a recipe names by paths, globs or URLs, other than the shards of a source: benchmarks and scores."""

from __future__ import annotations

from collections.abc import Sequence

import fsspec

from ...storage.web import WebUrl, http_options, naming_private_hosts, reach_of
from .folder import local_path
from .globs import local_paths, standard, unescape


def files_of_patterns(patterns: Sequence[str], what: str, key: str) -> list[str]:
    """The files that match, sorted; what exists as it is written is meant literally.

    Args:
        what: whose files they are, and `key` where the recipe says so; for messages.

    Raises:
        ValueError: a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        if (local := local_path(pattern)) is not None:
            matches = local_paths(local)
        else:
            with naming_private_hosts(pattern):
                filesystem, path = fsspec.core.url_to_fs(pattern, **http_options(pattern))
                named = unescape(path)
                matches = [named] if _exists(filesystem, named, pattern) else filesystem.glob(standard(path))
            matches = [WebUrl(filesystem.unstrip_protocol(p), reach_of(pattern)) for p in matches]
        if not matches:
            raise ValueError(f"{what}: no file matches {pattern}; correct `{key}`")
        found += matches
    return sorted(set(found))


def _exists(filesystem: fsspec.AbstractFileSystem, path: str, url: str) -> bool:
    try:
        # What HTTP calls missing may be out of reach.
        with naming_private_hosts(url):
            filesystem.info(path)
    except OSError:
        return False
    return True

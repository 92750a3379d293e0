"""The files that a list names, one a line: URLs of http, https, s3 and hf, and paths below the folder of the list.

A list is a text of somebody else, so a line says which file and nothing more: it names neither a reader nor another kind of
file system, no other place on this machine, and no private address (`web.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from ...storage.names import stays_below
from .adapter import is_plain
from .folder import Entry, Folder, local_path
from .formats import open_source
from .globs import matches
from .web import REMEDY, Reach, WebUrl, private_address

SCHEMES = ("http", "https", "s3", "hf")
MOST_BYTES = 256 << 20
MOST_HOSTS = 64
"""Hosts of a list whose names are looked up while it is read. An address is judged again whenever it is connected to."""


def list_urls(
    place: str, patterns: Sequence[str], follow_links: bool = False, private_hosts: bool = False
) -> list[Entry]:
    """The files of a list that match. A URL has as its path what lies below the common folder of all URLs of the list.

    Args:
        place: path or URL of the list.
        follow_links: paths below a local list's folder may be links that leave it.
        private_hosts: URLs may lead to any address.

    Raises:
        ValueError: a line is neither, or leads to a private address; names the line.
        OSError: the list cannot be read.
    """
    # The list itself, and what lies beside it, is where the recipe says.
    beside, listed = (Reach.ANY, Reach.ANY) if private_hosts else (Reach.OWN, Reach.PUBLIC)
    with open_source(WebUrl(place, beside)) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{place} is larger than {MOST_BYTES >> 20} MiB; split the list")
    lines = parse(content, place)
    urls = [line for line in lines if "://" in line]
    prefix = os.path.commonprefix([u.rsplit("/", 1)[0] + "/" for u in urls])  # noqa: RUF071
    prefix = prefix[: prefix.rfind("/") + 1]
    chosen = {u: u[len(prefix) :] for u in urls if matches(u[len(prefix) :], patterns)}
    if not private_hosts:
        _check_hosts(chosen, lines, place)
    # A list carries no sizes or etags: its published files never change under one URL.
    entries = [Entry(path, WebUrl(u, listed), 0, unversioned(u)) for u, path in chosen.items()]
    below = [line for line in lines if "://" not in line and matches(line, patterns)]
    if (path := local_path(place)) is not None:
        folder = Folder(os.path.dirname(os.path.abspath(path)), patterns, follow_links)
        for name in below:
            folder.add(name)
        return [*entries, *folder.entries]
    base = place.rsplit("/", 1)[0]
    full = {name: WebUrl(f"{base}/{name}", beside) for name in below}
    return [*entries, *(Entry(name, url, 0, unversioned(url)) for name, url in full.items())]


def parse(content: bytes, place: str) -> dict[str, int]:
    """The lines of a list by their texts, sorted, with their numbers; blank lines and comments are left out.

    Raises:
        ValueError: the list is not UTF-8, or a line may not stand in one.
    """
    try:
        stripped = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"the URL list {place} is not UTF-8 (byte {error.start}); is it a list of files?") from None
    numbers = {line: n for n, line in enumerate(stripped, 1) if line and not line.startswith("#")}
    for line, number in numbers.items():
        shown = f"line {number} of {place}, {line[:100]!r},"
        if not is_plain(line):
            raise ValueError(f"{shown} contains control characters; remove it")
        if "://" not in line:
            if not stays_below(line):
                raise ValueError(f"{shown} leaves the folder of the list; remove it")
            continue
        try:
            parts = urlsplit(line)
            known = line.partition("://")[0] in SCHEMES and parts.netloc and (parts.port or True)
        except ValueError as error:
            raise ValueError(f"{shown} is not a URL ({error}); correct it") from None
        # fsspec takes what stands between :: for file systems inside each other.
        if not known or "::" in line:
            raise ValueError(
                f"{shown} is not what a list may hold: URLs of {', '.join(SCHEMES)}, and paths below its folder; remove it"
            )
    return dict(sorted(numbers.items()))


def unversioned(url: str) -> str:
    """The version of a file of which no more is known than its name."""
    return urlsplit(url).path


def _check_hosts(urls: Iterable[str], lines: dict[str, int], place: str) -> None:
    first = {urlsplit(url).netloc: url for url in reversed([*urls]) if urlsplit(url).scheme in ("http", "https")}
    for url in sorted(first.values())[:MOST_HOSTS]:
        if address := private_address(url):
            raise ValueError(
                f"line {lines[url]} of {place} leads to {address}, which is not a public address; {REMEDY}"
            )

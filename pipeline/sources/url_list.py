"""The files that a list names, one a line: URLs of http, https, s3 and hf, and paths below the folder of the list.

A list is a text of somebody else, so a line says which file and nothing more: it names neither a reader nor another kind of
file system, no other place on this machine, and no private address (`storage/web.py`).
"""

from __future__ import annotations

import ipaddress
import os
import posixpath
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from ...storage.names import stays_below
from ...storage.web import REMEDY, Reach, WebUrl, private_address
from .adapter import is_plain
from .folder import Entry, Folder, local_path
from .formats import open_source
from .globs import matches

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
    places = {line: line.partition("://")[2] for line in lines if "://" in line}
    prefix = os.path.commonprefix([p.rsplit("/", 1)[0] + "/" for p in places.values()])  # noqa: RUF071
    below = prefix.rfind("/") + 1
    chosen = {u: p[below:] for u, p in places.items() if matches(p[below:], patterns)}
    if not private_hosts:
        _check_hosts(chosen, lines, place)
    # A list carries no sizes or etags: its published files never change under one URL.
    entries = [Entry(path, WebUrl(u, listed), 0, unversioned(u)) for u, path in chosen.items()]
    beneath = [line for line in lines if "://" not in line and matches(line, patterns)]
    if (path := local_path(place)) is not None:
        folder = Folder(os.path.dirname(os.path.abspath(path)), patterns, follow_links)
        for name in beneath:
            folder.add(name)
        return [*entries, *folder.entries]
    base = place.rsplit("/", 1)[0]
    full = {name: WebUrl(f"{base}/{name}", beside) for name in beneath}
    return [*entries, *(Entry(name, url, 0, unversioned(url)) for name, url in full.items())]


def parse(content: bytes, place: str) -> dict[str, int]:
    """The paths and URLs of a list in one form each, sorted, with the numbers of their lines.

    Raises:
        ValueError: the list is not UTF-8, or a line may not stand in one.
    """
    try:
        stripped = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"the URL list {place} is not UTF-8 (byte {error.start}); is it a list of files?") from None
    found: dict[str, int] = {}
    for number, line in enumerate(stripped, 1):
        if not line or line.startswith("#"):
            continue
        shown = f"line {number} of {place}, {line[:100]!r},"
        if not is_plain(line):
            raise ValueError(f"{shown} contains control characters; remove it")
        scheme, remote, rest = line.partition("://")
        if not remote:
            path = posixpath.normpath(line)
            if not stays_below(path):
                raise ValueError(f"{shown} leads to no file below the folder of the list; remove it")
            found[path] = number
            continue
        scheme = scheme.lower()
        try:
            url = _without_colons(f"{scheme}://{rest}")
            parts = urlsplit(url)
            known = scheme in SCHEMES and parts.netloc and (parts.port or True)
        except ValueError as error:
            raise ValueError(f"{shown} is not a URL ({error}); correct it") from None
        if not known or "::" in url:
            raise ValueError(
                f"{shown} is not what a list may hold: URLs of {', '.join(SCHEMES)}, and paths below its folder; remove it"
            )
        found[url] = number
    return dict(sorted(found.items()))


def _without_colons(url: str) -> str:
    """A URL whose host, if it is an IPv6 address, is written out: fsspec takes `::` for file systems inside each other.

    Raises:
        ValueError: it has brackets around something else.
    """
    before, bracket, after = url.partition("[")
    host, closing, rest = after.partition("]")
    if "[" not in urlsplit(url).netloc:
        return url
    return f"{before}{bracket}{ipaddress.IPv6Address(host).exploded}{closing}{rest}"


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

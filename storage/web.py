"""Where HTTP may lead: lines of a list, and redirects of any server, only to public addresses.

A list is a text of somebody else. Its lines could name what only this machine or its network reaches: the metadata server
of a cloud, a service on the loopback interface. A redirect can do the same. Therefore an address is judged when a socket is
made for it, so that neither a name that resolves to something else by then nor a redirect leads around it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

REMEDY = "if you trust it, add --allow-private-hosts (for a finished run: --trust)"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, int]
"""Host and port."""


class Reach(Enum):
    """Which addresses the opening of a URL may connect to."""

    OWN = "own"
    """The URL's own host and port, and public addresses: of a URL that a recipe names."""
    PUBLIC = "public"
    """Public addresses: of a URL that a list names."""
    ANY = "any"


class WebUrl(str):
    """A URL with its reach."""

    reach: Reach

    def __new__(cls, url: str, reach: Reach) -> WebUrl:
        made = super().__new__(cls, url)
        made.reach = reach
        return made

    def __reduce__(self) -> tuple[type[WebUrl], tuple[str, Reach]]:
        return WebUrl, (str(self), self.reach)


def reach_of(url: str) -> Reach:
    """Which addresses the opening of a URL may connect to; a plain text is a URL that a recipe names."""
    return url.reach if isinstance(url, WebUrl) else Reach.OWN


class PrivateAddress(PermissionError):
    """A connection to an address that is out of reach."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where it carries another one inside."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else inner
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def private_address(url: str) -> str:
    """An address that a URL's host has and that is not public; empty where there is none, or the name is not known here.

    Raises:
        ValueError: the URL names no host.
    """
    host, port = _origin(url)
    return next((address for address, _ in sorted(_addresses(host, port)) if not is_public(address)), "")


def http_options(url: str) -> dict[str, Any]:
    """What fsspec is given to open an HTTP URL within its reach; nothing for URLs of other kinds."""
    reach = reach_of(url)
    if urlsplit(url).scheme not in _PORTS or reach is Reach.ANY:
        return {}
    return {"get_client": partial(_client, _origin(url) if reach is Reach.OWN else None)}


@contextmanager
def naming_private_hosts(url: str) -> Iterator[None]:
    """Raise ValueError where an error inside comes from an address that is out of reach, whatever fsspec made of it."""
    try:
        yield
    except OSError as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, PrivateAddress):
            cause = cause.__cause__ or cause.__context__
        if cause:
            raise ValueError(f"{url} leads to {cause}, which is not a public address; {REMEDY}") from None
        raise


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url} names no host")
    return parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


def _addresses(host: str, port: int) -> set[Origin]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {(str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found}


async def _client(origin: Origin | None, **options: Any) -> aiohttp.ClientSession:
    """A session of fsspec's HTTP file system whose sockets lead to public addresses and to `origin`."""
    import aiohttp

    def connect(info: tuple[Any, ...]) -> socket.socket:
        family, type_, protocol, _, (address, port, *_) = info
        if not is_public(address) and not (origin and (address, port) in _addresses(*origin)):
            raise PrivateAddress(address)
        return socket.socket(family, type_, protocol)

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=connect), **options)

"""Entries of URL block lists: what a line says, in the notations in which such lists are published.

    example.com  .example.com  *.example.com  ||example.com^      a domain and all below it
    0.0.0.0 ads.example.com tracker.example.com                   the same, as in a hosts file
    https://example.com/forum/  example.com/a?b=c                 a page and all below it; without a path, its domain
    casino  live-cam  live_cam                                    a word, or words that follow each other
    *-banner.*                                                    a part of URLs, wherever it stands
    # a comment  ! a comment  [Adblock Plus 2.0]

Upper and lower case are one (not in paths), and so are a domain in other scripts and its Punycode. An entry that could match
no URL is refused, with the way to write what may have been meant.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator

from .domain_names import TOP_LEVEL
from .unicode import INVISIBLE, TABLE_SIZE, TAGS, tables

NOT_BLOCKED, BY_DOMAIN, BY_WORD, BY_PAGE, BY_PART = range(5)
MAX_DOMAIN = 253
"""Characters of the longest domain name (RFC 1035): of a longer host only the end can be one that is blocked."""
MAX_PHRASE = 8
"""Words of the longest phrase."""
MIN_PART, MAX_PART = 3, 64
"""Bytes of a part of URLs."""
JOINT = "-"
"""Between the words of a phrase."""

_ADBLOCK = re.compile(r"\|\|([^/^*$|]+)\^?")
_HEAD = re.compile(r"\[adblock[^\]]*\]", re.IGNORECASE)
"""The first line of lists of ad blockers."""
_PORT = re.compile(r"[^:/?]+:[0-9]+")
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|[^/?]*[/?]")


def rules_of(line: str) -> Iterator[tuple[int, str]]:
    """What a line of a list blocks: kinds, and a domain, words joined by `JOINT`, a URL or a part, each in lower case but URLs.

    Raises:
        ValueError: it can match no URL.
    """
    said, mark, note = line.partition("#")
    if said and not said[-1].isspace() and mark:
        if "/" in said:
            raise ValueError(f"{_short(line.strip())} has a fragment, which names no page; delete it from # on")
        if re.match(r"[#@?$%]", note) and not said.lstrip().startswith("!"):
            raise ValueError(f"{_short(line.strip())} hides parts of pages and blocks no URL; delete it")
    entry = (said if said.isascii() else "".join(c for c in said if not _is_invisible(c))).strip()
    if not entry or entry.startswith("!") or _HEAD.fullmatch(entry):
        return
    first, *names = entry.split()
    if names and (address := _address(first)):
        yield from _of_hosts_file(entry, address, names)
    elif len(entry) > 2 and entry[0] == entry[-1] == "*":
        yield BY_PART, _part(entry)
    elif address := _address(entry):
        yield BY_DOMAIN, str(address)
    elif names:
        raise _neither(entry)
    elif _URL.match(entry) or _PORT.fullmatch(entry):
        yield from _of_url(entry)
    elif "$" in entry and entry.startswith("||"):
        raise ValueError(f"{_short(entry)} blocks under conditions; delete it, or them from $ on")
    else:
        name = m[1] if (m := _ADBLOCK.fullmatch(entry)) else entry.removeprefix("*")
        if m or "." in name:
            yield from _of_domain(name, entry)
        else:
            yield BY_WORD, _phrase(entry)


def _of_hosts_file(
    entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, names: list[str]
) -> Iterator[tuple[int, str]]:
    nowhere = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved
    if not nowhere and not address.is_link_local:
        raise ValueError(f"{_short(entry)} names a host's address; a list of hosts to block has 0.0.0.0 there")
    for name in names:
        if "." in name.strip("."):
            yield from _of_domain(name, entry)
        elif re.fullmatch(r"[\w-]+", name):  # localhost and the like
            yield BY_DOMAIN, name.lower()
        else:
            raise ValueError(f"{_short(entry)}: {name!r} is no domain")


def _of_domain(name: str, entry: str) -> Iterator[tuple[int, str]]:
    """A domain by its name in ASCII, and as it may stand in other scripts."""
    labels = unicodedata.normalize("NFKC", name).replace("\u3002", ".").lower().strip(".").split(".")
    if not all(labels) or not all(
        c.isalnum() or c in "-_" or unicodedata.category(c)[0] == "M" for c in "".join(labels)
    ):
        raise _neither(entry)
    if len(labels) == 1 and not labels[0].startswith("xn--") and labels[0].isascii() and labels[0] not in TOP_LEVEL:
        raise ValueError(f"{_short(entry)} is no domain: {labels[0]!r} is no top-level domain; {_as_part(entry)}")
    owner = labels[-2:][0]
    if owner.strip("-") != owner:
        raise ValueError(f"{_short(entry)} is no domain: {owner!r} begins or ends with a hyphen; {_as_part(entry)}")
    ascii_ = [label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels]
    size = len(".".join(ascii_))
    if size > MAX_DOMAIN:
        raise ValueError(f"{entry[:20]}... has {size} characters; a domain has at most {MAX_DOMAIN}")
    if longest := next((label for label in ascii_ if len(label) > 63), ""):
        raise ValueError(f"{entry[:20]}...: {longest[:20]}... has {len(longest)} characters; a label has at most 63")
    yield from sorted({(BY_DOMAIN, ".".join(ascii_)), (BY_DOMAIN, ".".join(map(_in_its_script, ascii_)))})


def _in_its_script(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label.removeprefix("xn--").encode().decode("punycode").lower()
    except UnicodeError:
        return label


def _of_url(entry: str) -> Iterator[tuple[int, str]]:
    if "*" in entry or "^" in entry or "|" in entry:
        raise ValueError(f"{_short(entry)} has a place for anything, which a URL of a list has not; {_as_part(entry)}")
    m = re.fullmatch(r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/?@]*@)?(\[[^\]]*\]|[^/?:]*)(:[0-9]*)?(/*)(.*)", entry)
    host, rest = (m[1], (m[2] or "").strip(":") + m[4]) if m else ("", "")
    address = _address(host)
    if not address and "." not in host.strip("."):
        raise ValueError(f"{_short(entry)} names no host; {_as_part(entry)}")
    domain = [(BY_DOMAIN, str(address))] if address else [*_of_domain(host, entry)]
    if not rest:
        yield from domain
    elif not all(host.isascii() for _, host in domain):
        # The host is compared as it is written: in both ways.
        yield from ((BY_PAGE, entry.replace(host, name, 1)) for _, name in domain)
    else:
        yield BY_PAGE, entry


def _phrase(entry: str) -> str:
    if not entry.isascii() or not all(c.isalnum() or c in "-_" for c in entry):
        raise _neither(entry)
    words = re.split("[-_]+", entry.lower())
    if not all(words):
        raise ValueError(
            f"{_short(entry)} is no word: words of a URL end at - and _; write {' '.join(filter(None, words)) or 'letters'} for "
            f"what stands between; {_as_part(entry)}"
        )
    if len(words) > MAX_PHRASE:
        raise ValueError(f"{_short(entry)} has {len(words)} words; a phrase has at most {MAX_PHRASE}")
    return JOINT.join(words)


def _part(entry: str) -> str:
    part = entry[1:-1].lower()
    size = len(part.encode())
    if "*" in part or "^" in part or "\\" in part or any(c.isspace() for c in part):
        raise ValueError(f"{_short(entry)}: a part of URLs has no spaces, backslashes, ^ or * in it")
    if not MIN_PART <= size <= MAX_PART:
        raise ValueError(f"{_short(entry)} has {size} bytes; a part of URLs has {MIN_PART} to {MAX_PART}")
    return part


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, perhaps in brackets or with a zone."""
    bare = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    try:
        return ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None


def _is_invisible(char: str) -> bool:
    return TAGS[0] <= ord(char) < TAGS[1] or bool(ord(char) < TABLE_SIZE and tables()[0][ord(char)] & INVISIBLE)


def _short(entry: str) -> str:
    return repr(entry if len(entry) <= 60 else f"{entry[:57]}...")


def _as_part(entry: str) -> str:
    """How to write an entry that is meant as a part of URLs."""
    part = entry.strip("*")
    fits = MIN_PART <= len(part) <= MAX_PART and re.fullmatch(r"[!-~]+", part) and not re.search(r"[*^\\|]", part)
    return f"write {f'*{part}*' if fits else '*part*'} for a part of URLs"


def _neither(entry: str) -> ValueError:
    return ValueError(
        f"{_short(entry)} is neither a domain (example.com), a URL (https://example.com/a), a word (live-cam for two) "
        "nor a part of URLs (*part*)"
    )

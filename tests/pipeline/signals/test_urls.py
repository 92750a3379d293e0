"""URLs: their host, their normal form, and what block lists make of them."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pyarrow as pa
import pytest
from fox1.pipeline.signals import urls
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import is_invisible


def cleaned(url: str) -> str:
    """What a browser reads."""
    url = re.sub("[\t\n\r]", "", url.strip("".join(map(chr, range(33)))))
    head = re.match("[^?#]*", url)
    assert head
    url = head[0].replace("\\", "/") + url[head.end() :]
    return "".join(c for c in url if not is_invisible(c))


def host_of(url: str) -> str:
    """The host in plain Python."""
    url = cleaned(url)
    if m := re.match(r"(?:(?i:https?):/*|[A-Za-z][A-Za-z0-9+.-]*://|/{2,})", url):
        rest = url[m.end() :]
    else:
        rest = "" if url.startswith("/") else url
    authority = re.match(r"[^/?#\x00-\x20]*", rest)
    assert authority
    host = authority[0].rpartition("@")[2]
    host = re.match(r"\[[^\]]*\]?[^:]*|[^:]*", host)[0]  # type: ignore[index]
    plain = re.sub(
        "%[0-9A-Fa-f]{2}", lambda m: c if re.fullmatch("[A-Za-z0-9._-]", c := unquote(m[0], "latin-1")) else m[0], host
    )
    return re.sub("[A-Z]", lambda m: m[0].lower(), plain).rstrip(".")


def blocked(url: str, *lines: str) -> int:
    return int(urls.blocked(pa.array([url]), urls.parse_rules(lines))[0])


BAD = [
    "bad.com/a//b", "bad.com/?next=https://good.org", "bad.com//good.org", "bad.com", "bad.com:8080//x", "BAD.Com.",
    "bad.com?a", "bad.com#//good.org/", "http://bad.com", "HTTPS://WWW.bad.com:443/x", "//bad.com/x", "///bad.com/x",
    "http:/bad.com", "https:bad.com/", "http:///bad.com/", "ftp://u:p@bad.com:21/x", "user@bad.com/x", "u:p@bad.com",
    "http://a@b@bad.com", "http://good.org@bad.com/", "http:\\\\bad.com\\x", "\\\\bad.com/x", "  http://bad.com ",
    "\thttp://b\tad.c\nom/", "http://bad.com /x", "http://b%61d%2Ecom/", "http://bad.com../x", "http://bad.com.:80/",
    "http://ba\u00add.com/", "\ufeffhttp://bad\u200b.com/", "http://x.y.bad.com/", "http://:@bad.com/", "ws://bad.com",
    "svn+ssh://bad.com/x",
]  # fmt: skip
GOOD = [
    "good.org/?next=http://bad.com/", "good.org/a//bad.com/x", "good.org:80//bad.com", "good.org?u=http://bad.com",
    "good.org#//bad.com", "http://good.org/http://bad.com/", "http://good.org\\@bad.com/", "http://good.org?@bad.com",
    "http://good.org#@bad.com", "/bad.com/x", "/a//bad.com/x", "?u=//bad.com", "#//bad.com", "", "http://",
    "http://bad.com.good.org/", "http://notbad.com", "file:///bad.com/x", "http://bad.com@good.org/", "http://[bad.com]/",
    "http://bad.com%2F.good.org/", "http://bad.co", "a/bad.com",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_a_page_of_a_blocked_host_is_blocked(url: str) -> None:
    assert blocked(url, "bad.com") == 1 and host_of(url).endswith("bad.com")


@pytest.mark.parametrize("url", GOOD)
def test_a_page_that_only_names_a_blocked_host_is_not(url: str) -> None:
    assert blocked(url, "bad.com") == 0


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "http:",
                "https:",
                "ftp:",
                "HTTP:",
                "a.b",
                "x.org",
                "Y",
                ":80",
                ":",
                "//",
                "/",
                "\\",
                "@",
                "?",
                "#",
                "[1::2]",
                "[",
                "]",
            ]
            + [" ", "\t", "\n", "%2e", "%41", "%2F", "%", "\u00ad", "é", ".", "-", "&", "="]
        ),
        max_size=9,
    )
)
def test_the_host_equals_its_definition(parts: list[str]) -> None:
    url = "".join(parts)
    host = host_of(url)
    names = [f"{label}.zz" for label in ("a", "x")]
    rules = urls.parse_rules(names)
    assert not urls.blocked(pa.array([url]), rules)[0]
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", host):
        assert blocked(url, host) == 1
        assert blocked(url, f"x{host}") == 0 and blocked(url, f"{host}x.yy") == 0


def test_all_spellings_of_an_address_have_one_hash() -> None:
    same = [
        "http://example.com/b?x=1", "https://www.EXAMPLE.com:443/b/?utm_source=a&x=1#c", "//example.com/b?x=1",
        "example.com/b?x=1&fbclid=2", " http://u:p@example.com./b?x=1\n", "http:\\\\example.com\\b?x=1",
        "http://ex%61mple.com:80/b?x=1", "http://exam\u00adple.com/b?x=1",
    ]  # fmt: skip
    other = [
        "http://example.com/b?x=2", "example.com/a//example.com/b?x=1", "http://example.com:81/b?x=1",
        "http://example.com/B?x=1", "example.com/?next=http://example.com/b?x=1", "http://w.example.com/b?x=1", "",
    ]  # fmt: skip
    hashes = urls.normalised_hashes(pa.array(same + other)).tolist()
    assert len(set(hashes[: len(same)])) == 1 and len(set(hashes)) == 1 + len(other) and hashes[-1] == 0
    one, two = urls.normalised_hashes(pa.array(["x.org/%3a", "x.org/%3A"]))
    assert one == two

"""URLs: their host, their normal form, and what block lists make of them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pytest
from fox1.pipeline.prepare.urls import read_rules
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
    if re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", host):
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


LISTS: dict[str, tuple[list[str], list[str]]] = {
    "bad.com": (["http://bad.com/x", "http://a.bad.com"], ["http://bad.com.org", "http://a.org/bad.com"]),
    ".bad.com": (["http://bad.com/x", "http://a.bad.com"], ["http://notbad.com"]),
    "*.bad.com": (["http://bad.com/x", "http://a.bad.com"], ["http://notbad.com"]),
    "||bad.com^": (["http://bad.com/x", "http://a.bad.com"], ["http://notbad.com"]),
    "0.0.0.0 bad.com": (["http://bad.com/x"], ["http://0.0.0.0/"]),
    "127.0.0.1\tbad.com  worse.com # both": (["http://bad.com/x", "http://www.worse.com"], ["http://127.0.0.1/"]),
    "::1 localhost": (["http://localhost:80/"], ["http://a.org/localhost"]),
    ".zip": (["http://a.zip/"], ["http://a.org/b.zip"]),
    "8.8.8.8": (["http://8.8.8.8:80/"], ["http://8.8.8.80/"]),
    "[2001:DB8:0::1]": (["http://[2001:db8::1]:80/x"], ["http://[2001:db8::2]/", "http://2001/"]),
    "m\u00fcller.de": (["http://m\u00fcller.de/", "http://XN--mller-kva.de", "http://m%C3%BCller.de"], ["http://muller.de"]),
    "xn--mller-kva.de": (["http://m\u00fcller.de/", "http://xn--mller-kva.de"], ["http://muller.de"]),
    "BAD\u00ad.com": (["http://bad.com/"], ["http://bad.org"]),
    "casino": (["http://a.org/best-CASINO_tips", "http://a.org/?q=my%20casino"], ["http://a.org/casinos"]),
    "live-cam": (
        ["http://a.org/live-cam/b", "http://a.org/live_cam", "http://live.cam.org/", "a.org/?q=LIVE%20cam", "a.org/live/cam"],
        ["http://a.org/livecam", "http://a.org/live-cams", "http://a.org/live-x-cam", "http://a.org/cam-live", "http://alive-cam.org"],
    ),
    "live_cam": (["http://a.org/live-cam/b"], ["http://a.org/livecam"]),
    "Live-CAM": (["http://a.org/live-cam/b"], ["http://a.org/livecam"]),
    "https://bad.com/Forum/": (
        ["http://www.bad.com/Forum", "https://bad.com/Forum/a?b", "//bad.com/Forum?x=1", "bad.com:443/Forum#a"],
        ["http://bad.com/Forums", "http://bad.com/forum", "http://bad.com/", "http://a.org/bad.com/Forum", "http://a.bad.com/Forum"],
    ),
    "bad.com/a?b=c": (["http://bad.com/a?b=c", "http://bad.com/a?b=c&d=e"], ["http://bad.com/a", "http://bad.com/a?b=cc"]),
    "https://bad.com/": (["http://bad.com/x", "http://a.bad.com"], ["http://a.org/"]),
    "bad.com:8080": (["http://bad.com:8080/x"], ["http://bad.com/x", "http://bad.com:80801"]),
    "*-banner.*": (["http://a.org/x-BANNER.gif", "http://my-banner.org"], ["http://a.org/banner.gif", "http://a.org/-banner"]),
    "# bad.com": ([], ["http://bad.com"]),
    "! bad.com": ([], ["http://bad.com"]),
    "[Adblock Plus 2.0]": ([], ["http://adblock.com", "http://a.org/adblock-plus-2-0"]),
    "bad.com#note": (["http://bad.com"], ["http://a.org/note"]),
    "  bad.com  # note": (["http://bad.com"], ["http://a.org/note"]),
}  # fmt: skip


@pytest.mark.parametrize("entry", LISTS)
def test_an_entry_blocks_what_it_says(entry: str) -> None:
    bad, good = LISTS[entry]
    rules = urls.read_list(f"other.net\r\n{entry}\r\nlast.net".encode())
    assert urls.blocked(pa.array(bad), rules).all() and not urls.blocked(pa.array(good, pa.string()), rules).any()
    assert urls.blocked(pa.array(bad), urls.parse_rules([entry])).all()
    assert urls.blocked(pa.array(["http://other.net", "a.last.net/x"]), rules).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("-banner.", "no top-level domain; write *-banner.* for a part of URLs"),
        ("-ad.", "write *-ad.*"), ("adsx.", "no top-level domain"), (".gif", "no top-level domain; write *.gif*"),
        ("-ads.com", "begins or ends with a hyphen; write *-ads.com*"), ("ads-.", "no top-level domain"),
        ("-cam", "words of a URL end at - and _; write cam for what stands between; write *-cam* for a part of URLs"),
        ("live_", "write live for what stands between; write *live_*"),
        ("-", "write letters"), ("a..b", "neither a domain"), ("..", "neither a domain"), ("\u00e9t\u00e9", "neither a domain"),
        ("a$b", "neither a domain"), ("a b/c", "neither a domain"),
        ("live cam", "live-cam for two"), ("/ads/", "names no host; write */ads/*"),
        ("ads/banner", "names no host"), ("http://", "names no host"), ("http://*.bad.com/x", "a place for anything"),
        ("||bad.com^$third-party", "blocks under conditions"), ("@@||bad.com^", "neither"),
        ("bad.com##.ad", "hides parts of pages"),
        ("bad.com#@#.ad", "hides parts of pages"), ("http://bad.com/#!/x", "a fragment"), ("**", "neither"), ("*a*", "1 bytes"),
        ("*a b*", "no spaces"), (f"*{'a' * 65}*", "65 bytes"), ("a-b-c-d-e-f-g-h-i", "9 words"),
        ("93.184.216.34 bad.com", "0.0.0.0"),
        ("0.0.0.0 b$d", "is no domain"), (f"{'a' * 64}.com", "a label has at most 63"), ("[bad.com]", "neither"),
    ],
)  # fmt: skip
def test_an_entry_that_can_match_nothing_is_refused(entry: str, says: str) -> None:
    with pytest.raises(ValueError, match="line 3: ") as refused:
        urls.read_list(f"# a list\nother.net\n{entry}\n".encode())
    assert says in str(refused.value) and entry[:20].strip("*") in str(refused.value)
    with pytest.raises(ValueError, match=re.escape(str(refused.value).replace("line 3", "line 1"))):
        urls.parse_rules([entry])


def test_a_refusal_names_the_list(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("bad.com\n-banner.\n")
    with pytest.raises(
        ValueError, match=re.escape(f"URL block list {tmp_path}/mine.txt: line 2: '-banner.' is no domain")
    ):
        read_rules(str(tmp_path / "mine.txt"))


def test_rules_of_all_kinds_are_stored_and_merged(tmp_path: Path) -> None:
    lists = [b"bad.com\ncasino\n", b"live-cam\nworse.com/a\n*xyz-*\n*longer*\n"]
    rules = urls.merged(map(urls.read_list, lists))
    table = urls.rules_table(rules)
    with pa.OSFile(str(tmp_path / "urls.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    cases = ["http://bad.com", "a.org/casino", "a.org/live/cam", "worse.com/a/b", "a.org/xyz-1", "longer.org", "a.org"]
    for found in (rules, urls.stored_rules(tmp_path / "urls.arrow")):
        assert len(found) == 6 and found.phrase == 2 and found.sizes == (4, 6)
        assert urls.blocked(pa.array(cases), found).tolist() == [1, 2, 2, 3, 4, 4, 0]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c1"]), min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.sampled_from(["a", "b", "c1", "A", "-", "_", "/", "%20", "%2", "\u00e9", "."]), max_size=14),
)
def test_phrases_equal_their_definition(phrases: list[list[str]], parts: list[str]) -> None:
    url = "".join(parts)
    words = re.findall("[a-z0-9]+", unquote(url, "latin-1").lower())
    expected = any(words[i : i + len(p)] == p for p in phrases for i in range(len(words)))
    assert blocked(url, *map("-".join, phrases)) == (urls.BY_WORD if expected else 0)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "bad.com",
                "0.0.0.0 a.org",
                "127.0.0.1 b.org c.org",
                "live-cam",
                "a.b/c",
                "*x.y*",
                "-x.",
                "\u00e9.fr",
                "x#y",
            ]
        )
        | st.text("ab.-_# \t*/:0\u00e9", max_size=8),
        max_size=6,
    ),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_a_file_holds_the_rules_of_its_lines(lines: list[str], end: str) -> None:
    try:
        expected = urls.parse_rules(lines)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            urls.read_list(end.join(lines).encode())
        return
    found = urls.read_list(end.join(lines).encode())
    assert [h.tolist() for h in found.hashes()] == [h.tolist() for h in expected.hashes()]
    assert (found.phrase, found.sizes) == (expected.phrase, expected.sizes)

"""URLs are blocked where datatrove's filter blocks them, for the same reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fox1.datatrove.kernels.words_of_urls import UrlWords, hash_of, hashes, listed, url_words
from hypothesis import given, settings
from hypothesis import strategies as st

from .test_filters import run

LISTS: dict[str, Any] = {
    "extra_domains": ["bad.example.org", "worse.co.uk", "shop.worse.net", "#no.org", "192.0.2.1"],
    "extra_urls": ["http://fine.org/but/this?one=1"],
    "banned_words": ["casino", "Poker!", "x1"],
    "banned_subwords": ["cas-ino", "sino99", "inn", "ninni"],
    "soft_banned_words": ["bet", "odds", "win", "-"],
    "use_integrated_lists": False,
}
PARTS = [
    *"http:// https:// ftp:// // / ? # . : @ - _ = & é user@ :8080 www.".split(),
    *"bad.example.org worse.co.uk a.shop.worse.net no.org".split(),
    *"fine.org 192.0.2.1 [::1] casino Casino poker x1 bet odds win sino 99 cas ino inn ni nin co.uk uk blogspot.com".split(),
]  # fmt: skip
URLS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=14).map("".join) | st.just(
    "http://fine.org/but/this?one=1"
)


# Few lists of many: each reads the suffixes of domains anew, twice.
@given(urls=st.lists(URLS, min_size=1, max_size=80))
@settings(max_examples=30, deadline=None)
def test_a_url_is_blocked_as_datatroves_filter_blocks_it(urls: list[str]) -> None:
    for package in ("tldextract", "ahocorasick", "fasteners"):
        pytest.importorskip(package)
    from datatrove.pipeline.filters import URLFilter as Theirs
    from fox1.datatrove.pipeline.filters import URLFilter

    metadata = [{"url": url} for url in urls]
    expected, found = (run(make(**LISTS), [""] * len(urls), metadata) for make in (Theirs, URLFilter))
    assert found == expected


@given(urls=st.lists(URLS, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_words_and_subwords_of_a_url_are_found(urls: list[str]) -> None:
    from datatrove.pipeline.filters.url_filter import normalize, normalizer

    banned, soft, subwords = {"casino", "poker", ""}, {"bet", "odds", "win", ""}, {"sino99", "inn", "ninni", "casino"}
    flags, counts = url_words(urls, UrlWords.of(banned, soft, subwords))
    for url, flag, count in zip(urls, flags.tolist(), counts.tolist(), strict=True):
        words = set(normalizer.split(url))
        assert bool(flag & 1) == bool(words & banned) and count == len(words & soft)
        assert bool(flag & 2) == any(word in normalize(url) for word in subwords)


def test_a_list_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "domains"
    path.write_bytes(b"a.org\r\n#b.org\n  c.org \xc2\xa0\n\rd.org")
    found = listed(path, path.stat().st_size)
    assert found.tolist() == hashes({"a.org", "c.org", "", "d.org"}).tolist()
    assert np.uint64(hash_of("d.org")) in found and hash_of("b.org") not in found
